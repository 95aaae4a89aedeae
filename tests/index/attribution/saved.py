"""Directories of models as their authors' packages lay them out, with random weights."""

from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

Weights = OrderedDict[str, torch.Tensor]


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    return OrderedDict(
        (name, torch.from_numpy(rng.normal(0, 0.5, shape).astype(np.float32)))
        for name, shape in shapes.items()
    )


def genes_of(n_genes: int) -> list[str]:
    return [f"G{i}" for i in range(n_genes)]


def scvi_shapes(
    n_genes: int, n_layers: int, norm: bool, n_covariates: int, deep: bool
) -> dict[str, tuple[int, ...]]:
    """Of ``module.z_encoder``, 5 hidden units and 3 dimensions, and something of the decoder."""
    shapes: dict[str, tuple[int, ...]] = {"px_r": (n_genes,)}
    for i in range(n_layers):
        name = f"z_encoder.encoder.fc_layers.Layer {i}"
        n_in = (n_genes if i == 0 else 5) + (n_covariates if i == 0 or deep else 0)
        shapes |= {f"{name}.0.weight": (5, n_in), f"{name}.0.bias": (5,)}
        if norm:
            shapes |= {f"{name}.1.{part}": (5,) for part in ("weight", "bias", "running_mean", "running_var")}
            shapes[f"{name}.1.num_batches_tracked"] = ()
    for part in ("mean", "var"):
        shapes |= {f"z_encoder.{part}_encoder.weight": (3, 5), f"z_encoder.{part}_encoder.bias": (3,)}
    return shapes


def save_scvi(
    directory: Path,
    settings: dict[str, Any],
    n_genes: int = 7,
    n_covariates: int = 0,
    flat: bool = False,
    **changes: Any,
) -> Weights:
    """As scvi-tools saves it. ``flat``: settings as before 1.0. ``changes``: of what is saved, by key."""
    named = {
        "n_hidden": 5,
        "n_latent": 3,
        "n_layers": settings.get("n_layers", 1),
        "latent_distribution": "normal",
    }
    others = {"model_kwargs": {name: value for name, value in settings.items() if name not in named}}
    norm = settings.get("use_batch_norm", "both") in ("both", "encoder")
    deep = settings.get("deeply_inject_covariates", True)
    weights = random_weights(scvi_shapes(n_genes, named["n_layers"], norm, n_covariates, deep))
    for name in weights:
        if name.endswith("running_var"):
            weights[name] = weights[name].abs() + 0.5
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(3)
    about = {
        "init_params_": {**named, **others} if flat else {"non_kwargs": named, "kwargs": others},
        "registry_": {"model_name": "SCVI", "scvi_version": "1.4.2"},
        "history_": {
            "elbo_train": pd.DataFrame({"elbo": [2.0, 1.0]}),
            # as pandas 3 keeps every text
            "kl": pd.DataFrame([[2.0]], columns=pd.Index(["kl"], dtype="string[pyarrow]")),
        },
        "train_indices_": np.arange(4),
    }
    saved = {
        "model_state_dict": {**weights, "pyro_param_store": {"params": {}, "constraints": {}}},
        "var_names": np.array(genes_of(n_genes), dtype=object),
        "attr_dict": about,
    }
    directory.mkdir(exist_ok=True)
    torch.save({**saved, **changes}, directory / "model.pt")
    return weights


def save_ssl(
    directory: Path, name: str = "RandomMask.ckpt", n_genes: int = 7, prefix: str = "encoder"
) -> Weights:
    """As Lightning saves an autoencoder of ssl_in_scg."""
    shapes: dict[str, tuple[int, ...]] = {}
    for part, widths in ((prefix, [n_genes, 6, 6, 5, 5, 4]), ("decoder.0", [4, 5, n_genes])):
        for i, (n_in, n_out) in enumerate(pairwise(widths)):
            shapes |= {f"{part}.{3 * i}.weight": (n_out, n_in), f"{part}.{3 * i}.bias": (n_out,)}
    weights = random_weights(shapes)
    callbacks = {"ModelCheckpoint": {"best_model_score": torch.tensor(0.1), "dirpath": Path("a/b")}}
    directory.mkdir(exist_ok=True)
    torch.save(
        {"epoch": 1, "state_dict": weights, "callbacks": callbacks, "lr": np.float64(0.1)}, directory / name
    )
    pd.DataFrame({"feature_name": genes_of(n_genes)}).to_parquet(directory / "var.parquet")
    return weights
