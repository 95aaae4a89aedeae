"""scVI's encoder is rebuilt from a saved directory whatever it was made with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from insignia_index.attribution.errors import UnreadableModel
from insignia_index.attribution.models import scvi

from .saved import Weights, genes_of, save_scvi

COUNTS = np.random.default_rng(1).poisson(2.0, (6, 7)).astype(np.float32)
MADE_WITH: list[dict[str, Any]] = [
    {},
    {"n_layers": 3},
    {"use_batch_norm": "none", "use_layer_norm": "encoder", "n_layers": 2},
    {"use_batch_norm": "encoder", "use_layer_norm": "both", "log_variational": False},
    {"use_batch_norm": "decoder", "use_layer_norm": "none", "dispersion": "gene-batch"},
    {"encode_covariates": True, "n_layers": 2},
    {"encode_covariates": True, "n_layers": 2, "deeply_inject_covariates": False},
]


def oracle(weights: Weights, settings: dict[str, Any]) -> np.ndarray:
    """The mean of the latent distribution, layer by layer in numpy, covariates zero."""
    at = {name: value.double().numpy() for name, value in weights.items()}
    x = COUNTS.astype(float) if settings.get("log_variational") is False else np.log1p(COUNTS.astype(float))
    for i in range(settings.get("n_layers", 1)):
        name = f"z_encoder.encoder.fc_layers.Layer {i}"
        weight = at[f"{name}.0.weight"]
        padded = np.hstack([x, np.zeros((len(x), weight.shape[1] - x.shape[1]))])
        x = padded @ weight.T + at[f"{name}.0.bias"]
        if settings.get("use_batch_norm", "both") in ("both", "encoder"):
            mean, variance = at[f"{name}.1.running_mean"], at[f"{name}.1.running_var"]
            x = (x - mean) / np.sqrt(variance + 1e-3) * at[f"{name}.1.weight"] + at[f"{name}.1.bias"]
        if settings.get("use_layer_norm", "none") in ("both", "encoder"):
            x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
        x = np.maximum(x, 0)
    embedding: np.ndarray = x @ at["z_encoder.mean_encoder.weight"].T + at["z_encoder.mean_encoder.bias"]
    return embedding


@pytest.mark.parametrize("flat", [False, True], ids=["settings of 1.x", "settings of 0.x"])
@pytest.mark.parametrize("settings", MADE_WITH, ids=str)
def test_the_embedding_is_the_mean_of_the_latent_distribution(
    settings: dict[str, Any], flat: bool, tmp_path: Path
) -> None:
    n_covariates = 4 if settings.get("encode_covariates") else 0
    weights = save_scvi(tmp_path, settings, n_covariates=n_covariates, flat=flat)
    model = scvi.load(tmp_path)
    assert model.genes == genes_of(7)
    with torch.no_grad():
        found = model.module(torch.from_numpy(model.prepare(csr_matrix(COUNTS)).toarray()))
    np.testing.assert_allclose(found, oracle(weights, settings), atol=1e-5)


def test_the_preprocessing_says_what_the_model_was_trained_on(tmp_path: Path) -> None:
    save_scvi(tmp_path, {"log_variational": False})
    assert scvi.load(tmp_path).preprocessing == "counts"
    save_scvi(tmp_path, {"encode_covariates": True}, n_covariates=3)
    assert scvi.load(tmp_path).preprocessing == "log1p of counts; all covariates of the encoder zero"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"attr_dict": None}, "no 'model_state_dict' and 'attr_dict'"),
        ({"attr_dict": {"registry_": {"model_name": "TOTALVI"}}}, "a model of class TOTALVI"),
        ({"attr_dict": {"registry_": {"model_name": "SCVI"}}}, "no 'init_params_'"),
        ({"var_names": {"rna": ["A"]}}, "'var_names' are no list of genes"),
        ({"var_names": np.arange(7)}, "'var_names' are no list of genes"),
        ({"var_names": genes_of(6)}, "takes 7 inputs, and 6 are expected"),
        ({"var_names": genes_of(8)}, "takes 7 inputs, and 8 are expected"),
    ],
    ids=str,
)
def test_a_save_of_something_else_is_refused(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    save_scvi(tmp_path, {}, **changes)
    with pytest.raises(UnreadableModel, match=problem) as caught:
        scvi.load(tmp_path)
    assert caught.value.data["path"] == str(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("settings", "n_covariates", "problem"),
    [
        ({"extra_encoder_kwargs": {"bias": False}}, 0, "extra_encoder_kwargs"),
        ({"use_layer_norm": "yes"}, 0, "use_layer_norm is 'yes'"),
        ({}, 2, "takes 9 inputs, and 7 are expected"),
    ],
    ids=str,
)
def test_an_encoder_that_would_be_rebuilt_wrongly_is_refused(
    settings: dict[str, Any], n_covariates: int, problem: str, tmp_path: Path
) -> None:
    save_scvi(tmp_path, settings, n_covariates=n_covariates)
    with pytest.raises(UnreadableModel, match=problem):
        scvi.load(tmp_path)


def test_layers_that_are_not_there_are_missed(tmp_path: Path) -> None:
    weights = save_scvi(tmp_path, {"n_layers": 2})
    kept = {name: value for name, value in weights.items() if "Layer 1" not in name}
    save_scvi(tmp_path, {"n_layers": 2}, model_state_dict=kept)
    with pytest.raises(UnreadableModel, match="its encoder has 1 layers, and its settings say 2"):
        scvi.load(tmp_path)


def test_a_directory_of_early_scvi_tools_is_recognised_and_told_how_to_be_converted(tmp_path: Path) -> None:
    for name in ("attr.pkl", "model_params.pt", "var_names.csv"):
        (tmp_path / name).write_bytes(b"")
    assert scvi.recognises(tmp_path)
    with pytest.raises(UnreadableModel, match=r"attr.pkl: .*convert_legacy_save"):
        scvi.load(tmp_path)
