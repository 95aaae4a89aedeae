"""Small models and counts for tests of attributions."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix, random
from torch import Tensor, nn

from insignia_index.attribution.model import embedding_target
from insignia_index.attribution.normalise import log1p_counts

GENES = [f"G{i}" for i in range(40)]


@dataclass
class Made:
    """A model of any module; counts go in as log1p."""

    module: nn.Module
    genes: list[str] = field(default_factory=lambda: list(GENES))
    kind: str = "made"
    preprocessing: str = "log1p of counts"
    target_formula: str = "sum(|embedding(x) * embedding(input)|)"
    uses_depth: bool = True
    gradient_vanishes: bool = False
    rows_at_once: int = 7

    def prepare(self, counts: csr_matrix) -> csr_matrix:
        return log1p_counts(counts)

    def target(self, embedding: Tensor, own: Tensor) -> Tensor:
        return embedding_target(embedding, own)


def layers(activation: type[nn.Module], *, norm: bool = True, seed: int = 0) -> nn.Sequential:
    """Two hidden layers, the first with a batch norm that has seen something."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Linear(40, 16), *([nn.BatchNorm1d(16)] if norm else []), activation(),
        nn.Linear(16, 12), activation(), nn.Linear(12, 5),
    )  # fmt: skip
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 2)
    return module.eval()


def counts(n_cells: int = 30, *, n_genes: int = 40, seed: int = 0) -> csr_matrix:
    """Counts of cells with 0 to 40 % of the genes; the second cell is empty."""
    rng = np.random.default_rng(seed)
    made = random(n_cells, n_genes, 0.25, "csr", np.float32, rng=rng)
    made.data = np.ceil(made.data * 9).astype(np.float32)
    keep = np.ones(n_cells, np.float32)
    keep[1:2] = 0
    made = csr_matrix(made.multiply(keep[:, None]))
    made.eliminate_zeros()
    made.sort_indices()
    return made


def write_scimilarity(
    folder: Path, genes: list[str], widths: tuple[int, ...] = (16, 12, 5), *, residual: bool = False
) -> dict[str, Tensor]:
    """Write a directory as SCimilarity's releases have it; returns its weights."""
    torch.manual_seed(1)
    network: list[nn.Module] = []
    n_in = len(genes)
    for width in widths[:-1]:
        norm = nn.BatchNorm1d(width)
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.5, 2)
        network.append(nn.Sequential(nn.Dropout(), nn.Linear(n_in, width), norm, nn.PReLU()))
        n_in = width
    network.append(nn.Linear(n_in, widths[-1]))
    state = {f"network.{name}": value for name, value in nn.ModuleList(network).state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state}, folder / "encoder.ckpt")
    sizes = {name: list(value.shape) for name, value in state.items()}
    (folder / "layer_sizes.json").write_text(json.dumps(sizes))
    (folder / "hyperparameters.json").write_text(json.dumps({"residual": residual}))
    (folder / "gene_order.tsv").write_text("\n".join(genes) + "\n")
    return state
