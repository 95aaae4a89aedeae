"""What a model is to Insignia, and how a directory becomes one.

A kind of model is a module with the three members of `ModelKind`, named by an entry point of the group
``insignia.attribution_models``; other packages add theirs like that.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, cast

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from insignia_index.attribution.errors import UnknownModel, UnreadableModel
from insignia_model.signature import repeated

ENTRY_POINTS = "insignia.attribution_models"
#: The target of all four kinds, as `sc-signature` defines it (its wrappers' ``forward``).
EMBEDDING_TARGET = "sum(|embedding(x) * embedding(input)|)"


class AttributionModel(Protocol):
    """A model whose score of a cell can be attributed to the cell's genes.

    ``genes``: inputs of ``module``, in its order. ``preprocessing``, ``target_formula``: what `prepare` and
    `target` do, for the recipe. ``uses_depth``: whether a cell's total count changes its input; if not, a
    log-normalised matrix is as good as counts. ``gradient_vanishes``: the target has its maximum at the cell
    itself, so that the gradient there is zero. ``rows_at_once``: rows whose gradients fit into about a
    gigabyte. ``module``: in evaluation mode, (n_cells, n_genes) float32 →
    embedding (n_cells, n_dimensions). A plain `nn.Sequential` that begins with a plain `nn.Linear` (no
    subclasses, hooks, parametrisations) has its attributions made in one pass over the genes.
    """

    kind: str
    genes: Sequence[str]
    preprocessing: str
    target_formula: str
    uses_depth: bool
    gradient_vanishes: bool
    rows_at_once: int
    module: nn.Module

    def prepare(self, counts: csr_matrix) -> csr_matrix:
        """Input of the module: of counts (n_cells, n_genes) float32, with the same non-zeros."""

    def target(self, embedding: Tensor, own: Tensor) -> Tensor:
        """What is attributed, (n,): of embeddings on the path to cells, and of the cells' own (n, n_dims)."""


class ModelKind(Protocol):
    """How one kind of model is published. ``FILES``: what its directory holds, for people."""

    FILES: str

    def recognises(self, directory: Path) -> bool:
        """Whether a directory looks like a model of this kind, by the names of its files."""

    def load(self, directory: Path) -> AttributionModel:
        """The model; raises `ModelError`."""


def embedding_target(embedding: Tensor, own: Tensor) -> Tensor:
    """`EMBEDDING_TARGET`: how strongly embeddings point where the cells' own do, dimension by dimension."""
    return torch.sum(torch.abs(own * embedding), dim=1)


def model_kinds() -> dict[str, ModelKind]:
    """Every installed kind by name."""
    found = entry_points(group=ENTRY_POINTS)
    return {entry.name: cast(ModelKind, entry.load()) for entry in sorted(found, key=lambda e: e.name)}


def load_model(directory: str | Path, kind: str | None = None) -> AttributionModel:
    """Model in a directory; ``kind``: which it is, else it is told by the names of its files."""
    directory = Path(directory)
    kinds = model_kinds()
    described = [f"{name} ({module.FILES})" for name, module in kinds.items()]
    if kind is not None:
        if kind not in kinds or not directory.is_dir():
            raise UnknownModel(directory, described, kind)
        return _loaded(kinds[kind], directory)
    for module in kinds.values():
        if directory.is_dir() and module.recognises(directory):
            return _loaded(module, directory)
    raise UnknownModel(directory, described)


def _loaded(kind: ModelKind, directory: Path) -> AttributionModel:
    try:
        model = kind.load(directory)
    except (AttributeError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        problem = " ".join(str(error).split())[:200]
        raise UnreadableModel(
            directory, f"its files do not fit together ({problem}); get it again"
        ) from error
    if twice := repeated(model.genes):
        raise UnreadableModel(
            directory, f"its list of genes has {twice[0]!r} twice, so that inputs have no name"
        )
    return model
