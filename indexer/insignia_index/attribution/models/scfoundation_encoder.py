"""The transformer of scFoundation: tokens of a cell's genes to one embedding of the cell.

Parts have the names of the authors' weights. A gene's token is the sum of its value's embedding (a mixture of
learned bins) and its position's, which tells the gene; the sequence is in the order of the genes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

DEPTH = 4.0  # T and S: log10 of the 10,000 counts that cells are scaled to


@dataclass(frozen=True)
class Sizes:
    """Of an encoder. ``n_positions``: genes, T, S and padding; ``pad_id``: value and position of padding."""

    n_genes: int
    n_dims: int
    n_layers: int
    n_heads: int
    n_bins: int
    bin_alpha: float
    pad_id: int
    n_positions: int


class _Softmax(nn.Module):
    """Over the bins of a value. Not `nn.Softmax`: captum's DeepLift mixes the cells of a batch at that."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.softmax(x, dim=-1)


class _ValueEmbedding(nn.Module):
    """Values (n, n_tokens) to embeddings (n, n_tokens, n_dims): the bins, by softmax of two small layers."""

    def __init__(self, sizes: Sizes, softmax: nn.Module) -> None:
        super().__init__()
        self.bin_alpha = sizes.bin_alpha
        self.mlp = nn.Linear(1, sizes.n_bins)
        self.mlp2 = nn.Linear(sizes.n_bins, sizes.n_bins)
        self.rectify = nn.LeakyReLU(0.1)
        self.softmax = softmax
        self.emb = nn.Embedding(sizes.n_bins, sizes.n_dims)
        self.emb_mask = nn.Embedding(1, sizes.n_dims)  # of values hidden in training: none here
        self.emb_pad = nn.Embedding(1, sizes.n_dims)

    def forward(self, values: Tensor) -> Tensor:
        hidden = self.rectify(self.mlp(values.unsqueeze(-1)))
        shares = self.softmax(self.bin_alpha * hidden + self.mlp2(hidden))
        embedded: Tensor = shares @ self.emb.weight
        return embedded


class _Transformer(nn.Module):
    """Layers of attention and the norm after them."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.transformer_encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(sizes.n_dims, sizes.n_heads, 4 * sizes.n_dims, batch_first=True)
            for _ in range(sizes.n_layers)
        )
        self.norm = nn.LayerNorm(sizes.n_dims)

    def forward(self, x: Tensor, is_hidden: Tensor) -> Tensor:
        for layer in self.transformer_encoder:
            x = layer(x, src_key_padding_mask=is_hidden)
        normed: Tensor = self.norm(x)
        return normed


class CellEncoder(nn.Module):
    """Cells (n, n_genes) to embeddings (n, 4 * n_dims); subclasses say how a cell becomes a sequence."""

    def __init__(self, sizes: Sizes, softmax: nn.Module) -> None:
        super().__init__()
        self.sizes = sizes
        self.token_emb = _ValueEmbedding(sizes, softmax)
        self.pos_emb = nn.Embedding(sizes.n_positions, sizes.n_dims)
        self.encoder = _Transformer(sizes)


class DepthTokens(CellEncoder):
    """As the authors do it for one cell, so that a cell's embedding does not depend on the cells beside it.

    The genes above zero, then T and S. Shorter cells of a batch are padded in between; padding is neither
    attended to nor pooled. The embedding is what S and T become, and the largest and the mean over the
    genes (zero, if there are none). Memory grows with the square of the longest cell of a batch.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes, _Softmax())

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings (n, 4 * n_dims): of S, of T, largest, mean."""
        positions, is_absent = _present_first(x)
        depths = x.new_full((len(x), 2), DEPTH)
        values = torch.cat([x.gather(1, positions), depths], dim=1)
        depth_positions = torch.tensor([self.sizes.n_genes, self.sizes.n_genes + 1], device=x.device)
        of_depths = depth_positions.expand(len(x), 2)
        tokens = self.token_emb(values) + self.pos_emb(torch.cat([positions, of_depths], dim=1))
        encoded = self.encoder(tokens, functional.pad(is_absent, (0, 2), value=False))
        genes, of_t, of_s = encoded[:, :-2], encoded[:, -2], encoded[:, -1]
        n_present = (~is_absent).sum(dim=1, keepdim=True)
        absent = is_absent.unsqueeze(-1)
        largest = genes.masked_fill(absent, float("-inf")).max(dim=1).values
        largest = torch.where(n_present > 0, largest, torch.zeros_like(largest))
        mean = genes.masked_fill(absent, 0).sum(dim=1) / n_present.clamp(min=1)
        return torch.cat([of_s, of_t, largest, mean], dim=1)


def _present_first(x: Tensor) -> tuple[Tensor, Tensor]:
    """Genes above zero, in order, then others up to the longest cell: positions; which are others."""
    is_present = x > 0
    width = max(1, int(is_present.sum(dim=1).max())) if len(x) else 1
    positions = present_order(is_present)[:, :width]
    return positions, ~is_present.gather(1, positions)


def present_order(is_present: Tensor) -> Tensor:
    """Positions (n, n_genes) of the genes that are present, in order, then of the others."""
    return torch.argsort((~is_present).to(torch.uint8), dim=1, stable=True)  # bool does not sort everywhere
