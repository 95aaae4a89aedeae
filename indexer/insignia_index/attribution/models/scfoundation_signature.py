"""scFoundation read as `sc-signature` 1.0.0 reads it, to compare with it and with what was published of it.

Files and weights are those of `insignia_index.attribution.models.scfoundation`; what differs is how a cell
becomes a sequence and an embedding. `sc-signature`

- gives the encoder no depth tokens T and S;
- cuts every cell to its first 512 genes above zero, and pads shorter ones to 512;
- hides from attention the places j < 512 whose *gene* j is above zero, instead of the places that are
  padding: its padding mask is the first 512 entries of the mask of genes;
- takes, for S and T, the last two places, which are padding in a cell of fewer than 511 genes, and pools
  the largest and the mean over the other 510 with their padding.

By name only (``--model-kind scfoundation-signature``): a directory is never taken for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from insignia_index.attribution.models.scfoundation import FILES as FILES
from insignia_index.attribution.models.scfoundation import ScFoundation, read_encoder
from insignia_index.attribution.models.scfoundation_encoder import CellEncoder, Sizes, present_order

N_TOKENS = 512


@dataclass(frozen=True)
class ScFoundationOfSignature(ScFoundation):
    """The encoder, of `sc-signature`'s sequences."""

    kind: str = "scfoundation-signature"
    preprocessing: str = "log1p of counts per 10,000 of the model's genes; first 512 genes, no depth tokens"
    rows_at_once: int = 1  # as `sc-signature`: DeepLift depends on it, see `FirstTokens`


class FirstTokens(CellEncoder):
    """As the module says. DeepLift is `sc-signature`'s for batches of one cell, which are its default.

    (captum's rule for `nn.Softmax` subtracts a mean over the whole batch.)
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes, nn.Softmax(dim=-1))

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings (n, 4 * n_dims): of the last place, of the one before it, largest, mean."""
        is_present = x > 0
        positions = present_order(is_present)[:, :N_TOKENS]
        is_gene = _to_width(is_present.gather(1, positions), False)
        values = _to_width(x.gather(1, positions), 0.0).masked_fill(~is_gene, self.sizes.pad_id)
        positions = _to_width(positions, 0).masked_fill(~is_gene, self.sizes.pad_id)
        embedded = self.token_emb(values)
        embedded = torch.where(is_gene.unsqueeze(-1), embedded, self.token_emb.emb_pad.weight[0])
        encoded = self.encoder(embedded + self.pos_emb(positions), _to_width(is_present[:, :N_TOKENS], False))
        pooled = encoded[:, :-2]
        largest, mean = pooled.max(dim=1).values, pooled.mean(dim=1)
        return torch.cat([encoded[:, -1], encoded[:, -2], largest, mean], dim=1)


def _to_width(x: Tensor, filler: float) -> Tensor:
    """At most `N_TOKENS` columns, filled up to as many."""
    return functional.pad(x, (0, N_TOKENS - x.shape[1]), value=filler)


def recognises(directory: Path) -> bool:
    """Never: the files are those of `scfoundation`."""
    return False


def load(directory: Path) -> ScFoundationOfSignature:
    """The encoder of a directory."""
    return ScFoundationOfSignature(*read_encoder(directory, FirstTokens))
