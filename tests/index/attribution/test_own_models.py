"""Models that somebody brings: what is done to them, and where the short way does not hold."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from insignia_index.attribution.attributor import Attributor
from insignia_index.attribution.collapsed import can_collapse
from insignia_index.attribution.recipe import Recipe
from insignia_model.errors import InvalidArgument

from .models import Made, counts, layers
from .test_attributor import expected

PLAIN = Recipe(signed=True, target_sum=None)


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x) + 3 * x[:, :5]
        return out


class Masked(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight * (self.weight > 0), self.bias)


class Shifted(nn.BatchNorm1d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) ** 2


def row(first: nn.Module | None = None, second: nn.Module | None = None, kind: Any = nn.Sequential) -> Any:
    torch.manual_seed(3)
    made = layers(nn.Tanh)
    return kind(first or made[0], second or made[1], *list(made)[2:])


def hooked(where: Callable[[nn.Sequential], nn.Module], before: bool = False) -> nn.Sequential:
    module: nn.Sequential = row()
    if before:
        where(module).register_forward_pre_hook(lambda _, x: (2 * x[0],))
    else:
        where(module).register_forward_hook(lambda _, x, out: 2 * out)
    return module


def middle(linear: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(40, 16), nn.ReLU(), linear, nn.BatchNorm1d(12), nn.Linear(12, 5))


NOT_PLAIN: dict[str, Callable[[], nn.Module]] = {
    "a row with more in its forward": lambda: row(kind=Residual),
    "a linear layer with more in its forward": lambda: row(Masked(40, 16)),
    "a norm with more in its forward": lambda: row(second=Shifted(16)),
    "a hook of the row": lambda: hooked(lambda module: module),
    "a hook before the row": lambda: hooked(lambda module: module, before=True),
    "a hook of the first layer": lambda: hooked(lambda module: module[0]),
    "a hook of the norm": lambda: hooked(lambda module: module[1]),
    "weights that are computed": lambda: row(parametrizations.weight_norm(nn.Linear(40, 16))),
    "weights that are cut": lambda: row(prune.random_unstructured(nn.Linear(40, 16), "weight", 0.5)),
    "a layer like that before a norm": lambda: middle(Masked(16, 12)),
    "a parametrised one before a norm": lambda: middle(parametrizations.weight_norm(nn.Linear(16, 12))),
}


@pytest.mark.parametrize("method", ["ig", "input-x-gradient"])
@pytest.mark.parametrize("kind", NOT_PLAIN)
def test_layers_that_do_more_than_their_kind_equal_captum(kind: str, method: str) -> None:
    model = Made(NOT_PLAIN[kind]().eval())
    recipe = Recipe(method=method, signed=True, target_sum=None)
    cells = model.prepare(counts())
    attributor = Attributor(model, recipe, "cpu")
    found = attributor.attribute(cells).toarray()
    np.testing.assert_allclose(found, expected(model, cells, recipe), rtol=1e-3, atol=1e-4)


def test_the_check_asks_the_model_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Made(row(kind=Residual).eval())
    monkeypatch.setattr("insignia_index.attribution.attributor.can_collapse", lambda _: True)
    attributor = Attributor(model, PLAIN, "cpu")
    attributor.attribute(model.prepare(counts()))
    assert max(attributor.checks.completeness) > 0.1  # what was made of the model is not the model
    assert not can_collapse(model.module)


@pytest.mark.parametrize("module", [layers(nn.ReLU), Residual(*layers(nn.ReLU))], ids=["short", "general"])
def test_cells_are_left_as_they_are(module: nn.Sequential) -> None:
    with torch.no_grad():
        module[0].weight[:, 3] = 0
    model, given = Made(module.eval()), counts()
    before = given.copy()
    prepared = model.prepare(given)
    attributor = Attributor(model, PLAIN, "cpu")
    first, again = attributor.attribute(prepared), attributor.attribute(prepared)
    assert (first != again).nnz == 0
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(given, name), getattr(before, name))


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.uint8])
@pytest.mark.parametrize("kind", [nn.Sequential, Residual])
def test_cells_of_other_numbers_and_of_entries_in_two_parts(kind: Any, dtype: type) -> None:
    model, cells = Made(row(kind=kind).eval()), counts().astype(dtype)
    attributor = Attributor(model, PLAIN, "cpu")
    wanted = attributor.attribute(counts())
    found = attributor.attribute(cells)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), wanted.toarray(), rtol=1e-5)
    twice = csr_matrix((np.repeat(cells.data, 2), np.repeat(cells.indices, 2), 2 * cells.indptr), cells.shape)
    doubled = attributor.attribute((2 * counts()).tocsr())
    np.testing.assert_allclose(attributor.attribute(twice).toarray(), doubled.toarray(), rtol=1e-5)


@pytest.mark.parametrize("kind", [nn.Sequential, Residual])
def test_a_model_that_is_trained_goes_on_to_be(kind: Any) -> None:
    model = Made(row(kind=kind).train())
    model.module[0].bias.requires_grad_(False)
    Attributor(model, PLAIN, "cpu").attribute(model.prepare(counts()))
    assert all(part.training for part in model.module.modules())
    assert [w.requires_grad for w in model.module.parameters()] == [
        name != "0.bias" for name, _ in model.module.named_parameters()
    ]


def test_callers_without_gradients_get_them_here() -> None:
    model = Made(row().eval())
    attributor = Attributor(model, PLAIN, "cpu")
    wanted = attributor.attribute(model.prepare(counts()))
    for without in (torch.no_grad(), torch.inference_mode()):
        with without:
            assert (attributor.attribute(model.prepare(counts())) != wanted).nnz == 0


def test_a_layer_that_changes_what_it_is_given() -> None:
    class Doubling(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2)

    model = Made(nn.Sequential(nn.Linear(40, 16), Doubling(), nn.Linear(16, 5)).eval())
    cells = model.prepare(counts())
    found = Attributor(model, PLAIN, "cpu").attribute(cells).toarray()
    weight = 2 * model.module[2].weight @ model.module[0].weight
    assert np.isfinite(found).all()
    assert found.shape[1] == weight.shape[1]
    with torch.no_grad():
        own = model.module(torch.tensor(cells.toarray()))
        nothing = model.module(torch.zeros(cells.shape))
        total = model.target(own, own) - model.target(nothing, own)
    np.testing.assert_allclose(found.sum(1), total, rtol=0.02, atol=0.02)


def test_softmax_by_deeplift_does_not_depend_on_other_cells() -> None:
    model = Made(nn.Sequential(nn.Linear(40, 16), nn.Softmax(1), nn.Linear(16, 5)).eval())
    recipe, cells = Recipe(method="deeplift", signed=True, target_sum=None), model.prepare(counts(8))
    attributor = Attributor(model, recipe, "cpu")
    alone = np.vstack([attributor.attribute(cells[i : i + 1]).toarray() for i in range(8)])
    np.testing.assert_allclose(attributor.attribute(cells).toarray(), alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [1e-38, 1e-41])
def test_tiny_attributions_are_scaled_like_others(size: float) -> None:
    module = layers(nn.ReLU)
    with torch.no_grad():
        module[-1].weight *= size**0.5
        module[-1].bias *= 0
    found = Attributor(Made(module), Recipe(), "cpu").attribute(counts())
    assert np.isfinite(found.data).all()
    sums = np.asarray(found.sum(1)).ravel()
    np.testing.assert_allclose(sums[sums > 0], 1000, rtol=1e-3)


@pytest.mark.parametrize("n_genes", [39, 41])
def test_cells_of_other_genes_are_refused(n_genes: int) -> None:
    with pytest.raises(InvalidArgument, match=f"they have {n_genes} genes, the model 40"):
        Attributor(Made(layers(nn.ReLU)), PLAIN, "cpu").attribute(counts(n_genes=n_genes))


def test_points_without_end_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="100,000 is more than 2,000"):
        Recipe(steps=100_000)
