"""Attributions equal captum's, on whatever way they are made."""

import warnings
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from insignia_index.attribution import Attributor, Recipe, collapsed
from insignia_index.attribution.errors import NotFiniteAttribution, VanishingGradient
from insignia_index.attribution.general import General
from insignia_index.attribution.quadrature import QUADRATURES, points
from insignia_model.errors import InvalidArgument

from .models import Made, counts, layers

METHODS = {"ig": "IntegratedGradients", "deeplift": "DeepLift", "input-x-gradient": "InputXGradient"}


class Whole(nn.Module):
    """A model as captum wants it."""

    def __init__(self, model: Made) -> None:
        super().__init__()
        self.model = model
        self.module = model.module

    def forward(self, x: Tensor, own: Tensor) -> Tensor:
        return self.model.target(self.module(x), own)


class Twisted(nn.Module):
    """A module that does not begin with a linear layer."""

    def __init__(self, rest: nn.Sequential) -> None:
        super().__init__()
        self.rest = rest

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.rest(x * torch.sigmoid(x) * 0.5 + x)
        return out


def expected(model: Made, cells: csr_matrix, recipe: Recipe) -> np.ndarray:
    x = torch.tensor(cells.toarray())
    whole = Whole(model).double().eval()
    x = x.double()
    own = whole.module(x).detach()
    how: dict[str, Any] = {"additional_forward_args": (own,)}
    if recipe.method == "ig":
        how |= {"n_steps": recipe.steps, "method": recipe.quadrature}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method = getattr(captum.attr, METHODS[recipe.method])
        found = method(whole).attribute(x.requires_grad_(True), **how).detach().numpy()
    model.module.float()
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.PReLU, nn.SELU])
def test_attributions_equal_those_of_captum(method: str, activation: type[nn.Module]) -> None:
    model = Made(layers(activation))
    recipe = Recipe(method=method, signed=True, target_sum=None)
    cells = model.prepare(counts())
    found = Attributor(model, recipe).attribute(cells)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), expected(model, cells, recipe), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_of_another_kind_goes_through_all_of_it(method: str) -> None:
    model = Made(Twisted(layers(nn.ReLU)))
    recipe = Recipe(method=method, signed=True, target_sum=None, steps=13, quadrature="riemann_middle")
    cells = model.prepare(counts())
    attributor = Attributor(model, recipe)
    assert isinstance(attributor._way, General)
    found = attributor.attribute(cells)
    np.testing.assert_allclose(found.toarray(), expected(model, cells, recipe), rtol=1e-4, atol=1e-5)


@given(
    n_cells=st.integers(0, 25),
    batch=st.integers(1, 9),
    rows=st.integers(1, 40),
    steps=st.integers(1, 12),
    seed=st.integers(0, 5),
)
def test_batches_change_nothing(n_cells: int, batch: int, rows: int, steps: int, seed: int) -> None:
    model = Made(layers(nn.PReLU, norm=False, seed=seed))
    recipe = Recipe(steps=steps, signed=True, target_sum=None)
    cells = model.prepare(counts(n_cells, seed=seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collapsed, "BATCH_CELLS", batch)
        patch.setattr(collapsed, "PASS_ROWS", rows)
        found = Attributor(model, recipe).attribute(cells)
    assert found.shape == cells.shape
    if n_cells:
        np.testing.assert_allclose(found.toarray(), expected(model, cells, recipe), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("quadrature", QUADRATURES)
@pytest.mark.parametrize("n_steps", [2, 24, 50])
def test_quadratures_are_captums(quadrature: str, n_steps: int) -> None:
    from captum.attr._utils.approximation_methods import approximation_parameters

    weights, positions = (np.array(f(n_steps)) for f in approximation_parameters(quadrature))
    np.testing.assert_allclose(points(quadrature, n_steps)[0], positions, atol=1e-14)
    np.testing.assert_allclose(points(quadrature, n_steps)[1], weights, atol=1e-14)


def test_attributions_are_absolute_and_sum_to_1000_and_an_empty_cell_stays_empty() -> None:
    model = Made(layers(nn.PReLU))
    cells = model.prepare(counts())
    signed = Attributor(model, Recipe(signed=True)).attribute(cells)
    found = Attributor(model).attribute(cells)
    sums = np.asarray(found.sum(axis=1)).ravel()
    assert sums[1] == 0
    np.testing.assert_allclose(np.delete(sums, 1), 1000, rtol=1e-5)
    assert (signed.data < 0).any()
    np.testing.assert_array_equal(abs(signed).toarray(), found.toarray())


def test_zeros_are_not_stored() -> None:
    module = layers(nn.ReLU, norm=False)
    with torch.no_grad():
        module[0].weight[:, 3] = 0
    model = Made(module)
    cells = model.prepare(counts())
    assert 3 in cells.indices
    assert 3 not in Attributor(model).attribute(cells).indices


def test_attributions_sum_to_the_change_of_the_target_and_the_error_is_told() -> None:
    model = Made(layers(nn.Tanh))
    cells = model.prepare(counts(300))
    largest = {}
    for steps in (1, 10, 1000):
        attributor = Attributor(model, Recipe(steps=steps))
        attributor.attribute(cells)
        told = attributor.checks.in_words()
        assert told["n_cells_checked"] == 3
        assert 0 < told["completeness_error_median"] <= told["completeness_error_max"]
        largest[steps] = told["completeness_error_max"]
    assert largest[1] > 5 * largest[10] > 25 * largest[1000]
    plain = Attributor(model, Recipe(method="input-x-gradient"))
    plain.attribute(cells)
    assert plain.checks.in_words() == {"n_cells_checked": 0}


def test_a_lower_precision_is_used_and_its_error_told() -> None:
    model = Made(layers(nn.PReLU))
    cells = model.prepare(counts(300))
    attributor = Attributor(model, Recipe(precision="bfloat16"))
    exact = Attributor(model).attribute(cells)
    rough = attributor.attribute(cells)
    assert not np.array_equal(exact.toarray(), rough.toarray())
    assert 1e-5 < attributor.checks.in_words()["precision_error_median"] < 0.1


def test_a_gradient_that_vanishes_is_refused() -> None:
    model = Made(layers(nn.PReLU), gradient_vanishes=True)
    for method in ("deeplift", "input-x-gradient"):
        with pytest.raises(VanishingGradient, match=r"rounding errors\. Use ig"):
            Attributor(model, Recipe(method=method))


def test_attributions_that_are_not_finite_name_the_row() -> None:
    module = layers(nn.ReLU)
    with torch.no_grad():
        module[0].weight[:, 3] = torch.nan
    model = Made(module)
    cells = model.prepare(counts(5))
    row = int(np.flatnonzero(cells.toarray()[:, 3])[0])
    with pytest.raises(NotFiniteAttribution, match="are not finite"):
        Attributor(model).attribute(cells[row : row + 1], first=100 + row)


@pytest.mark.parametrize(
    ("device", "recipe", "said"),
    [
        ("no such", Recipe(), "device: 'no such' cannot be used"),
        ("cuda:99", Recipe(), "device: 'cuda:99' cannot be used"),
        ("cpu", Recipe(precision="tf32"), "tf32 is for CUDA"),
    ],
)
def test_a_device_that_is_not_there_is_refused(device: str, recipe: Recipe, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        Attributor(Made(layers(nn.ReLU)), recipe, device)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "saliency"}, {"steps": 0}, {"quadrature": "simpson"}, {"target_sum": 0.0},
        {"target_sum": np.inf}, {"precision": "float8"}, {"values": "tpm"}, {"min_genes": 0},
    ],
)  # fmt: skip
def test_a_recipe_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        Recipe(**wrong)


ACT, TWICE = nn.GELU(), nn.Linear(16, 16)
UNUSUAL = {
    "a layer used twice": lambda: nn.Sequential(
        nn.Linear(40, 16), ACT, nn.Linear(16, 12), ACT, nn.Linear(12, 5)
    ),
    "weights used twice": lambda: nn.Sequential(nn.Linear(40, 16), TWICE, nn.Tanh(), TWICE, nn.Linear(16, 5)),
    "in place": lambda: nn.Sequential(nn.Linear(40, 16), nn.ReLU(inplace=True), nn.Linear(16, 5)),
    "a norm without weights": lambda: nn.Sequential(
        nn.Linear(40, 16), nn.BatchNorm1d(16, affine=False), nn.ReLU(), nn.Linear(16, 5)
    ),
}


@pytest.mark.parametrize("method", ["ig", "input-x-gradient"])
@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_rows_of_layers_equal_captum_too(kind: str, method: str) -> None:
    model = Made(UNUSUAL[kind]().eval())
    recipe = Recipe(method=method, signed=True, target_sum=None)
    cells = model.prepare(counts())
    found = Attributor(model, recipe).attribute(cells).toarray()
    np.testing.assert_allclose(found, expected(model, cells, recipe), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [slice(1, 2), slice(0, 0)])
def test_cells_without_genes_stay_empty(rows: slice) -> None:
    model = Made(layers(nn.ReLU))
    found = Attributor(model).attribute(model.prepare(counts()[rows]))
    assert (found.shape[0], found.nnz) == (rows.stop - rows.start, 0)


@pytest.mark.parametrize("sum_", [1e39, 1e-50, 0, -1, np.nan, np.inf])
def test_a_sum_that_float32_cannot_hold_is_refused(sum_: float) -> None:
    with pytest.raises(InvalidArgument, match="target_sum"):
        Recipe(target_sum=sum_)


def test_equal_recipes_are_one_text() -> None:
    given = Recipe(target_sum=1000, steps=np.int64(50))
    assert repr(given) == repr(Recipe())
    with pytest.raises(InvalidArgument, match="steps"):
        Recipe(steps=1.5)
