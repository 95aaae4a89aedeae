"""SCimilarity's encoder (Heimberg et al. 2024, doi:10.1038/s41586-024-08411-y), as its releases hold it.

``encoder.ckpt``: {"state_dict": weights}; ``layer_sizes.json``: shape of each weight; ``gene_order.tsv``: a
symbol a line; ``hyperparameters.json`` says whether its hidden layers are residual (they are not, if it is
not there). Source: ``Encoder`` and ``CellEmbedding`` of github.com/Genentech/scimilarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch.nn.functional as functional
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from insignia_index.attribution.errors import UnreadableModel
from insignia_index.attribution.model import EMBEDDING_TARGET, embedding_target
from insignia_index.attribution.normalise import log_normalised
from insignia_index.attribution.weights import load_state, read_checkpoint, read_json, read_lines

#: Larger than any layer or list of genes: of a damaged number memory would be taken.
_LARGEST_WIDTH = 1_000_000
FILES = "encoder.ckpt, layer_sizes.json, gene_order.tsv"


@dataclass(frozen=True)
class SCimilarity:
    """The encoder: cells on the unit sphere."""

    genes: Sequence[str]
    module: nn.Sequential
    kind: str = "scimilarity"
    preprocessing: str = "log1p of counts per 10,000 of the model's genes"
    target_formula: str = EMBEDDING_TARGET
    uses_depth: bool = False
    # of unit length, an embedding has its greatest product with itself
    gradient_vanishes: bool = True
    rows_at_once: int = 1024

    def prepare(self, counts: csr_matrix) -> csr_matrix:
        """log1p of counts per 10,000."""
        return log_normalised(counts)

    def target(self, embedding: Tensor, own: Tensor) -> Tensor:
        """See `embedding_target`."""
        return embedding_target(embedding, own)


class _Residual(nn.Module):
    """A layer whose input is added to its output."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.layer(x) + x
        return added


class _UnitLength(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(x, p=2.0, dim=1)


def recognises(directory: Path) -> bool:
    """Whether the files are SCimilarity's."""
    return (directory / "encoder.ckpt").is_file() and (directory / "layer_sizes.json").is_file()


def load(directory: Path) -> SCimilarity:
    """The encoder of a directory."""
    genes = read_lines(directory / "gene_order.tsv")
    widths = _widths(directory / "layer_sizes.json", len(genes))
    settings = directory / "hyperparameters.json"
    residual = settings.is_file() and bool(read_json(settings).get("residual", False))
    if residual and len(set(widths[1:-1])) > 1:
        raise UnreadableModel(settings, "residual layers must be of one width")
    path = directory / "encoder.ckpt"
    checkpoint = read_checkpoint(path)
    state = checkpoint.get("state_dict")
    if not isinstance(state, dict):
        raise UnreadableModel(path, "it has no 'state_dict'")
    layers = _published(widths)
    load_state(path, layers, {name.removeprefix("network."): value for name, value in state.items()})
    return SCimilarity(genes, _in_one_row(layers, residual))


def _widths(path: Path, n_genes: int) -> list[int]:
    """Widths of input, hidden layers and embedding."""
    sizes = read_json(path)
    try:
        # "network.10.1.weight" comes after "network.9.1.weight"
        numbered = {int(name.split(".")[1]): size for name, size in sizes.items() if _is_matrix(name, size)}
        shapes = [numbered[i] for i in sorted(numbered)]
        widths = [int(shapes[0][1]), *(int(shape[0]) for shape in shapes)]
    except (IndexError, ValueError, TypeError, OverflowError) as error:
        raise UnreadableModel(path, f"it does not tell the sizes of layers ({error})") from error
    if not all(1 <= width <= _LARGEST_WIDTH for width in widths):
        raise UnreadableModel(path, f"a layer has {min(widths):,} to {max(widths):,} units, which none has")
    if widths[0] != n_genes:
        raise UnreadableModel(path, f"{widths[0]:,} inputs, and gene_order.tsv has {n_genes:,} genes")
    return widths


def _is_matrix(name: str, size: object) -> bool:
    return name.endswith("weight") and isinstance(size, list) and len(size) == 2


def _published(widths: list[int]) -> nn.ModuleList:
    """Layers under the names of the checkpoint: [dropout, linear, batch norm, PReLU] each, then linear."""
    layers: list[nn.Module] = [
        nn.Sequential(nn.Dropout(), nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.PReLU())
        for n_in, n_out in pairwise(widths[:-1])
    ]
    return nn.ModuleList([*layers, nn.Linear(widths[-2], widths[-1])])


def _in_one_row(layers: nn.ModuleList, residual: bool) -> nn.Sequential:
    """The same without dropout, one after the other, so that it begins with its first linear layer."""
    row: list[nn.Module] = []
    for i, layer in enumerate(layers[:-1]):
        parts = list(layer.children())[1:]
        row += [_Residual(nn.Sequential(*parts))] if residual and i > 0 else parts
    return nn.Sequential(*row, layers[-1], _UnitLength()).eval()
