"""Models are read as their authors save them, and give what sc-signature and the authors' code give."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import DeepLift, IntegratedGradients, Saliency
from torch import Tensor, nn

from insignia_index.attribution.errors import UnknownModel
from insignia_index.attribution.model import AttributionModel, load_model, model_kinds

from ...golden.attributions.answers import (
    FOLDERS,
    HERE,
    METHODS,
    NOISE,
    golden_answer,
    golden_counts,
    golden_model,
)
from .saved import save_ssl

COMPARED = [(kind, method) for kind in FOLDERS for method in METHODS if (kind, method) not in NOISE]
CELLS = [0, 5, 10, 15]  # of the golden 16: almost empty to almost full


def inputs_of(model: AttributionModel) -> Tensor:
    return torch.from_numpy(model.prepare(golden_counts(model)).toarray())


class Score(nn.Module):
    """The target twice, as captum's DeepLift wants it."""

    def __init__(self, model: AttributionModel) -> None:
        super().__init__()
        self.module, self.target = model.module, model.target

    def forward(self, x: Tensor, own: Tensor) -> Tensor:
        score = self.target(self.module(x), own)
        return torch.stack([score, score], dim=1)


def attributed(model: AttributionModel, x: Tensor, method: str) -> np.ndarray:
    """By captum itself, a cell at a time; absolute, each cell's sum 1,000."""
    score = Score(model)
    found = []
    for i in range(len(x)):
        given = x[i : i + 1].clone().requires_grad_(True)
        options: dict[str, Any] = {"target": 0, "additional_forward_args": (model.module(given).detach(),)}
        if method == "ixg":
            one = Saliency(score).attribute(given, **options) * given
        else:
            engine = {"ig": IntegratedGradients, "dl": DeepLift}[method](score)
            one = engine.attribute(given, baselines=torch.zeros_like(given), **options)
        found.append(one.detach().abs().numpy())
    values = np.vstack(found)
    scaled: np.ndarray = values / values.sum(axis=1, keepdims=True) * 1000
    return scaled


@pytest.mark.parametrize(("kind", "method"), COMPARED)
def test_attributions_of_a_model_are_those_of_sc_signature(kind: str, method: str) -> None:
    model = golden_model(kind)
    expected = golden_answer(kind, method)[CELLS]
    found = attributed(model, inputs_of(model)[CELLS], method)
    np.testing.assert_array_equal(found != 0, expected != 0)
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("kind", [*FOLDERS, "scfoundation"])
def test_embeddings_are_those_of_the_reference(kind: str) -> None:
    model = golden_model(kind)
    with torch.no_grad():
        found = model.module(inputs_of(model)).numpy()
    np.testing.assert_allclose(found, golden_answer(kind, "embedding"), atol=2e-5, rtol=1e-4)


def test_gradients_of_scimilarity_at_the_cell_itself_are_zero_but_for_rounding() -> None:
    """Why two methods are not compared: embeddings have length one, so no neighbour of a cell scores more."""
    model = golden_model("scimilarity")
    module = model.module.to(torch.float64)
    x = inputs_of(model).to(torch.float64).requires_grad_(True)
    embedding = module(x)
    (of_target,) = torch.autograd.grad(
        model.target(embedding, embedding.detach()).sum(), x, retain_graph=True
    )
    (of_dimension,) = torch.autograd.grad(embedding[:, 0].sum(), x)
    assert of_target.abs().max() < 1e-14 < 1e-4 < of_dimension.abs().max()


@pytest.mark.parametrize("folder", ["scimilarity", "scvi", "ssl", "scfoundation"])
def test_a_directory_is_recognised_by_its_files(folder: str) -> None:
    assert load_model(HERE / folder).kind == folder


@pytest.mark.parametrize("folder", ["scimilarity", "scvi", "ssl", "scfoundation"])
def test_a_directory_is_recognised_by_one_kind_only(folder: str) -> None:
    assert [name for name, kind in model_kinds().items() if kind.recognises(HERE / folder)] == [folder]


@pytest.mark.parametrize("kind", [*FOLDERS, "scfoundation"])
def test_a_model_keeps_the_protocol(kind: str) -> None:
    model = golden_model(kind)
    counts = golden_counts(model)
    prepared = model.prepare(counts)
    assert model.kind == kind
    assert prepared.dtype == np.float32
    np.testing.assert_array_equal(prepared.indices, counts.indices)
    assert model.gradient_vanishes == (kind == "scimilarity")
    assert not model.module.training
    assert not any(weight.requires_grad for weight in model.module.parameters())
    with torch.no_grad():
        twice, once = (
            model.module(torch.from_numpy(model.prepare(c).toarray())) for c in (counts * 2, counts)
        )
    assert model.uses_depth != torch.allclose(twice, once, atol=1e-4)


@pytest.mark.parametrize("kind", ["scimilarity", "scvi", "ssl"])
def test_a_module_of_linear_layers_begins_with_the_genes(kind: str) -> None:
    module = golden_model(kind).module
    assert isinstance(module, nn.Sequential)
    assert isinstance(module[0], nn.Linear)


def test_weights_called_model_are_not_taken_for_scvis_beside_a_list_of_genes(tmp_path: Path) -> None:
    save_ssl(tmp_path, "model.pt")
    assert load_model(tmp_path).kind == "ssl"


def test_a_directory_of_nothing_is_told_what_kinds_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"scfoundation \(models.ckpt, .*scvi \(model.pt\)"):
        load_model(tmp_path)


def test_a_kind_that_is_not_known_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="no model of kind 'scgpt'"):
        load_model(tmp_path, "scgpt")


def test_sc_signatures_reading_of_scfoundation_is_had_by_name_only(tmp_path: Path) -> None:
    shutil.copytree(HERE / "scfoundation", tmp_path / "model")
    assert load_model(tmp_path / "model").kind == "scfoundation"
    assert load_model(tmp_path / "model", "scfoundation-signature").kind == "scfoundation-signature"
