"""scVI's encoder (Lopez et al. 2018, doi:10.1038/s41592-018-0229-2), of a directory saved by scvi-tools.

``model.pt`` (scvi-tools 0.15 or later): {"model_state_dict", "var_names", "attr_dict": {"registry_",
"init_params_"}}. The embedding is the mean of the normal distribution that ``module.z_encoder`` gives
(``qz.loc``; for a logistic normal, the mean before the softmax). Source: ``VAE``, ``Encoder`` and
``FCLayers`` of github.com/scverse/scvi-tools; read on saves of 1.4.2. scvi-tools itself is not needed.

**Covariates.** By default (``encode_covariates=False``) the encoder sees nothing but genes. If it was
trained to see batches and other covariates too, they are all left at zero: cells to come are of no batch
that it knows. (scvi-tools gives such cells a new batch, whose weights are random around zero until they are
trained.) `sc-signature` gives the encoder its ``cat_value`` as the batch, 6006 unless told otherwise. The
default encoder ignores it; one that sees batches fails, unless there are more than 6,006 of them.

**Counts.** The encoder was trained on log1p of counts (``log_variational=True``), which it gets here;
`sc-signature` gives it ``adata.X`` as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from insignia_index.attribution.errors import UnreadableModel
from insignia_index.attribution.model import EMBEDDING_TARGET, embedding_target
from insignia_index.attribution.normalise import log1p_counts
from insignia_index.attribution.stand_ins import read_with_stand_ins, strings_of
from insignia_index.attribution.weights import load_state

FILES = "model.pt"
LEGACY = "attr.pkl"  # of scvi-tools before 0.15, beside model_params.pt and var_names.csv
LAYER = re.compile(r"z_encoder\.encoder\.fc_layers\.Layer (\d+)\.0\.weight")
NORMS = ("none", "encoder", "decoder", "both")


@dataclass(frozen=True)
class ScVI:
    """The encoder: the mean of a cell's latent distribution."""

    genes: Sequence[str]
    module: nn.Sequential
    takes_log: bool
    preprocessing: str
    kind: str = "scvi"
    target_formula: str = EMBEDDING_TARGET
    uses_depth: bool = True
    gradient_vanishes: bool = False
    rows_at_once: int = 1024

    def prepare(self, counts: csr_matrix) -> csr_matrix:
        """log1p of counts, or counts as they are, if the model was trained with ``log_variational=False``."""
        return log1p_counts(counts) if self.takes_log else csr_matrix(counts, dtype=np.float32)

    def target(self, embedding: Tensor, own: Tensor) -> Tensor:
        """See `embedding_target`."""
        return embedding_target(embedding, own)


def recognises(directory: Path) -> bool:
    """Whether the files are scvi-tools', which has its genes in ``model.pt`` and not beside it."""
    saved = (directory / "model.pt").is_file() or (directory / LEGACY).is_file()
    return saved and not (directory / "var.parquet").is_file()


def load(directory: Path) -> ScVI:
    """The encoder of a saved model."""
    path = directory / "model.pt"
    if not path.is_file() and (directory / LEGACY).is_file():
        raise UnreadableModel(
            directory / LEGACY,
            "a pickle of scvi-tools before 0.15, and reading it would run code from the file; convert the "
            "directory with scvi.model.SCVI.convert_legacy_save(DIRECTORY, NEW_DIRECTORY)",
        )
    saved = read_with_stand_ins(path)
    state, about = saved.get("model_state_dict"), saved.get("attr_dict")
    if not isinstance(state, Mapping) or not isinstance(about, Mapping):
        raise UnreadableModel(
            path,
            "it has no 'model_state_dict' and 'attr_dict'; save it with model.save(DIRECTORY) of scvi-tools",
        )
    genes = strings_of(saved.get("var_names"))
    if not genes:
        raise UnreadableModel(
            path, "its 'var_names' are no list of genes; save the model again with scvi-tools 1"
        )
    settings = _settings(path, about)
    row, weights = _encoder(path, state, settings, len(genes))
    load_state(path, row, weights)
    takes_log = bool(settings.get("log_variational", True))
    preprocessing = "log1p of counts" if takes_log else "counts"
    if settings.get("encode_covariates", False):
        preprocessing += "; all covariates of the encoder zero"
    return ScVI(genes, row, takes_log, preprocessing)


def _settings(path: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """What the model was made with; defaults of scvi-tools are left out."""
    registry, given = about.get("registry_"), about.get("init_params_")
    name = registry.get("model_name") if isinstance(registry, Mapping) else None
    if name != "SCVI":
        raise UnreadableModel(path, f"a model of class {name}; of scvi-tools' models, SCVI is read")
    if not isinstance(given, Mapping):
        raise UnreadableModel(path, "it has no 'init_params_', which say how its encoder is built")
    named = given.get("non_kwargs", {name: v for name, v in given.items() if not isinstance(v, Mapping)})
    groups = given.get("kwargs", {name: v for name, v in given.items() if isinstance(v, Mapping)})
    settings = dict(named)
    for group in groups.values():
        settings.update(group if isinstance(group, Mapping) else {})
    if settings.get("extra_encoder_kwargs"):
        raise UnreadableModel(
            path, "its encoder has settings of its own (extra_encoder_kwargs), which are not read"
        )
    for norm in ("use_batch_norm", "use_layer_norm"):
        if settings.get(norm, "none") not in NORMS:
            raise UnreadableModel(path, f"{norm} is {settings[norm]!r}, none of {', '.join(NORMS)}")
    return settings


def _encoder(
    path: Path, state: Mapping[str, Tensor], settings: Mapping[str, Any], n_genes: int
) -> tuple[nn.Sequential, dict[str, Tensor]]:
    """[linear, batch norm, layer norm, ReLU] a layer and the linear of the mean; and weights by its names."""
    n_layers = sum(1 for name in state if LAYER.fullmatch(name))
    if n_layers == 0 or n_layers != settings.get("n_layers", 1):
        said = settings.get("n_layers", 1)
        raise UnreadableModel(path, f"its encoder has {n_layers} layers, and its settings say {said}")
    has_batch_norm = settings.get("use_batch_norm", "both") in ("encoder", "both")
    has_layer_norm = settings.get("use_layer_norm", "none") in ("encoder", "both")
    has_covariates = bool(settings.get("encode_covariates", False))
    row: list[tuple[nn.Module, dict[str, Tensor]]] = []
    n_in = n_genes
    for i in range(n_layers):
        name = f"z_encoder.encoder.fc_layers.Layer {i}."
        linear, n_out = _linear(path, state, f"{name}0.", n_in, has_covariates)
        row.append((nn.Linear(n_in, n_out), linear))
        if has_batch_norm:
            row.append((nn.BatchNorm1d(n_out, eps=1e-3), _part(state, f"{name}1.")))  # scvi-tools' eps
        if has_layer_norm:
            row.append((nn.LayerNorm(n_out, elementwise_affine=False), {}))
        row.append((nn.ReLU(), {}))
        n_in = n_out
    mean, n_out = _linear(path, state, "z_encoder.mean_encoder.", n_in, has_covariates=False)
    row.append((nn.Linear(n_in, n_out), mean))
    weights = {f"{i}.{key}": value for i, (_, part) in enumerate(row) for key, value in part.items()}
    return nn.Sequential(*(module for module, _ in row)), weights


def _linear(
    path: Path, state: Mapping[str, Tensor], name: str, n_in: int, has_covariates: bool
) -> tuple[dict[str, Tensor], int]:
    """Weights of a linear layer without its covariates, which come last, and how many outputs it has."""
    part = _part(state, name)
    weight = part.get("weight")
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise UnreadableModel(path, f"it has no matrix '{name}weight'")
    n_out, width = weight.shape
    if width < n_in or (width > n_in and not has_covariates):
        raise UnreadableModel(
            path, f"'{name}weight' takes {width:,} inputs, and {n_in:,} are expected; save it again"
        )
    return {**part, "weight": weight[:, :n_in]}, int(n_out)


def _part(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Weights whose names begin with ``name``, by the rest of them."""
    return {key.removeprefix(name): value for key, value in state.items() if key.startswith(name)}
