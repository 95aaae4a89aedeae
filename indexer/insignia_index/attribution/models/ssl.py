"""Encoders of SSL-scTab (Richter et al. 2025, doi:10.1038/s42256-024-00934-3), as its authors publish them.

One checkpoint of Lightning, {"state_dict": weights}, or the weights alone, of any name (``*.ckpt``,
``*.pt``, ``*.pth``, or ``classifier``, as `sc-signature` calls it); beside it ``var.parquet`` of scTab,
whose column ``feature_name`` has the symbols. The first five linear layers are the encoder (of 512, 512,
256, 256 and 64 units), with SELU between them. Source: ``MLP``, ``MLPAutoEncoder`` and ``MLPClassifier`` of
github.com/theislab/ssl_in_scg.

Of a classifier the authors' own embedding is after one more SELU; here, as in `sc-signature`, it is before
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from insignia_index.attribution.errors import UnreadableModel
from insignia_index.attribution.model import EMBEDDING_TARGET, embedding_target
from insignia_index.attribution.normalise import log_normalised
from insignia_index.attribution.stand_ins import read_with_stand_ins
from insignia_index.attribution.weights import load_state

FILES = "var.parquet, one *.ckpt, *.pt, *.pth or classifier"
N_LAYERS = 5


@dataclass(frozen=True)
class SslScTab:
    """The encoder: five linear layers."""

    genes: Sequence[str]
    module: nn.Sequential
    kind: str = "ssl"
    preprocessing: str = "log1p of counts per 10,000 of the model's genes"
    target_formula: str = EMBEDDING_TARGET
    uses_depth: bool = False
    gradient_vanishes: bool = False
    rows_at_once: int = 1024

    def prepare(self, counts: csr_matrix) -> csr_matrix:
        """log1p of counts per 10,000."""
        return log_normalised(counts)

    def target(self, embedding: Tensor, own: Tensor) -> Tensor:
        """See `embedding_target`."""
        return embedding_target(embedding, own)


def recognises(directory: Path) -> bool:
    """Whether the files are SSL-scTab's: none but its list of genes is called the same everywhere."""
    return (directory / "var.parquet").is_file()


def load(directory: Path) -> SslScTab:
    """The encoder of a directory."""
    genes = _genes(directory / "var.parquet")
    path = _checkpoint(directory)
    saved = read_with_stand_ins(path)
    state = saved.get("state_dict", saved)
    if not isinstance(state, Mapping):
        raise UnreadableModel(path, "its 'state_dict' is no dictionary of weights")
    row, weights = _encoder(path, state, len(genes))
    load_state(path, row, weights)
    return SslScTab(genes, row)


def _genes(path: Path) -> list[str]:
    """Symbols, in the order of the inputs."""
    if not path.is_file():
        raise UnreadableModel(path, "there is no such file, and the model needs it")
    try:
        genes: list[str] = pq.read_table(path, columns=["feature_name"]).column("feature_name").to_pylist()
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        problem = " ".join(str(error).split())[:200]
        raise UnreadableModel(path, f"no column 'feature_name' can be read from it ({problem})") from error
    if not genes or not all(isinstance(gene, str) for gene in genes):
        raise UnreadableModel(path, "its column 'feature_name' has values that are no symbols")
    return genes


def _checkpoint(directory: Path) -> Path:
    """The one file with weights."""
    found = [path for path in sorted(directory.iterdir()) if path.is_file() and _may_be_weights(path)]
    if not found:
        raise UnreadableModel(directory, "there are no weights in it (*.ckpt, *.pt, *.pth or classifier)")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UnreadableModel(
            directory, f"several files may be the weights: {names}; leave only the one to be used"
        )
    return found[0]


def _may_be_weights(path: Path) -> bool:
    return path.suffix in (".ckpt", ".pt", ".pth") or path.name == "classifier"


def _encoder(
    path: Path, state: Mapping[str, Tensor], n_genes: int
) -> tuple[nn.Sequential, dict[str, Tensor]]:
    """[linear, SELU] four times and a linear, of the first weights of the file; and these by its names."""
    names = [name.removesuffix(".weight") for name in state if name.endswith(".weight")][:N_LAYERS]
    if len(names) < N_LAYERS:
        raise UnreadableModel(path, f"it has {len(names)} layers, and an encoder of SSL-scTab has {N_LAYERS}")
    row: list[nn.Module] = []
    weights: dict[str, Tensor] = {}
    n_in = n_genes
    for name in names:
        weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
        if not isinstance(weight, Tensor) or weight.ndim != 2 or weight.shape[1] != n_in:
            shape = tuple(getattr(weight, "shape", ()))
            raise UnreadableModel(
                path,
                f"'{name}.weight' has the shape {shape}, and a layer for {n_in:,} inputs is expected; "
                "take it and var.parquet of one model",
            )
        row += [nn.SELU()] if row else []
        weights[f"{len(row)}.weight"] = weight
        if bias is not None:
            weights[f"{len(row)}.bias"] = bias
        row.append(nn.Linear(n_in, int(weight.shape[0]), bias=bias is not None))
        n_in = int(weight.shape[0])
    return nn.Sequential(*row), weights
