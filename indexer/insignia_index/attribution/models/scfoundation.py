"""scFoundation's encoder (Hao et al. 2024, doi:10.1038/s41592-024-02305-7), as its authors publish it.

``models.ckpt``: {"cell": {"config", "state_dict"}, ...}, of which ``cell`` is read, the model of cell
embeddings; ``OS_scRNA_gene_index.19264.tsv``: its genes, column ``gene_name``. Source: ``get_embedding.py``
and ``load.py`` of github.com/biomap-research/scFoundation, for ``--output_type cell --pool_type all
--version ce``.

A cell is a sequence of tokens, its genes above zero, and two of its depth: T, the total count that is aimed
at, and S, that of the cell, both log10. The authors' S is of the raw counts. Here both are 4, as T is by
default: the input is scaled to 10,000 counts, so that is its depth, and a cell's attributions do not depend
on how deep it was sequenced.

On the way from zero to a cell, which integrated gradients take, its genes are in the sequence all along
while their values grow: that is attributed. The step from no genes to these genes at zero is not.

`sc-signature` reads the same files another way: `insignia_index.attribution.models.scfoundation_signature`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.sparse import csr_matrix
from torch import Tensor

from insignia_index.attribution.errors import UnreadableModel
from insignia_index.attribution.model import EMBEDDING_TARGET, embedding_target
from insignia_index.attribution.models.scfoundation_encoder import CellEncoder, DepthTokens, Sizes
from insignia_index.attribution.normalise import log_normalised
from insignia_index.attribution.stand_ins import read_with_stand_ins
from insignia_index.attribution.weights import load_state

FILES = "models.ckpt, OS_scRNA_gene_index.19264.tsv"
GENES = "OS_scRNA_gene_index.19264.tsv"
PARTS = ("token_emb.", "pos_emb.", "encoder.")  # of the weights; the rest is the decoder


@dataclass(frozen=True)
class ScFoundation:
    """The encoder: what it gives for S, for T, and the largest and the mean over a cell's genes."""

    genes: Sequence[str]
    module: CellEncoder
    kind: str = "scfoundation"
    preprocessing: str = "log1p of counts per 10,000 of the model's genes; depth tokens T and S 4"
    target_formula: str = EMBEDDING_TARGET
    uses_depth: bool = False
    gradient_vanishes: bool = False
    rows_at_once: int = 1  # of 2,000 genes, attention alone takes 2 GB: 12 layers of 12 heads

    def prepare(self, counts: csr_matrix) -> csr_matrix:
        """log1p of counts per 10,000."""
        return log_normalised(counts)

    def target(self, embedding: Tensor, own: Tensor) -> Tensor:
        """See `embedding_target`."""
        return embedding_target(embedding, own)


def recognises(directory: Path) -> bool:
    """Whether the files are scFoundation's."""
    return (directory / "models.ckpt").is_file()


def load(directory: Path) -> ScFoundation:
    """The encoder of a directory."""
    return ScFoundation(*read_encoder(directory, DepthTokens))


def read_encoder(directory: Path, of: Callable[[Sizes], CellEncoder]) -> tuple[list[str], CellEncoder]:
    """Genes, and the encoder, reading cells as ``of`` does."""
    genes = _genes(directory / GENES)
    path = directory / "models.ckpt"
    saved = read_with_stand_ins(path).get("cell")
    if not isinstance(saved, Mapping) or not isinstance(saved.get("state_dict"), Mapping):
        raise UnreadableModel(path, "it has no 'cell' with a 'state_dict': no models.ckpt of scFoundation")
    state = {name.removeprefix("model."): weight for name, weight in saved["state_dict"].items()}
    sizes = _sizes(path, _config(path, saved), state, len(genes))
    module = of(sizes)
    load_state(path, module, {name: weight for name, weight in state.items() if name.startswith(PARTS)})
    return genes, module


def _genes(path: Path) -> list[str]:
    """Symbols, in the order of the inputs."""
    try:
        names = pd.read_csv(path, sep="\t", usecols=["gene_name"], keep_default_na=False)["gene_name"]
    except FileNotFoundError:
        raise UnreadableModel(path, "there is no such file, and the model needs it") from None
    except (OSError, ValueError) as error:
        raise UnreadableModel(path, f"no column 'gene_name' can be read from it ({error})") from error
    return [str(name) for name in names]


def _config(path: Path, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the model and, over them, of its data, as the authors' loader joins them."""
    try:
        config = saved["config"]
        joined = {**config["model_config"][config["model"]], **config["dataset_config"]["rnaseq"]}
        encoder = joined["encoder"]
        kind = encoder["module_type"]
    except (KeyError, TypeError) as error:
        raise UnreadableModel(
            path, f"its 'config' does not say how the encoder is built ({error!r})"
        ) from error
    if config["model"] != "mae_autobin" or kind != "transformer":
        raise UnreadableModel(
            path,
            f"a {config['model']!r} with an encoder of type {kind!r}; what the authors publish is read, a "
            "'mae_autobin' with a 'transformer' (others need their code, einops and local_attention)",
        )
    return joined


def _sizes(path: Path, config: Mapping[str, Any], state: Mapping[str, Tensor], n_genes: int) -> Sizes:
    """Sizes that the settings give, held against the weights before memory is taken for them."""
    try:
        encoder = config["encoder"]
        sizes = Sizes(
            n_genes=n_genes,
            n_dims=int(encoder["hidden_dim"]),
            n_layers=int(encoder["depth"]),
            n_heads=int(encoder["heads"]),
            n_bins=int(config["bin_num"]),
            bin_alpha=float(config["bin_alpha"]),
            pad_id=int(config["pad_token_id"]),
            n_positions=int(config["seq_len"]) + 1,
        )
        n_positions, n_dims = state["pos_emb.weight"].shape
        n_bins = state["token_emb.emb.weight"].shape[0]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableModel(
            path, f"its settings or weights lack a part of the encoder ({error!r})"
        ) from error
    n_stored = len(
        [name for name in state if name.endswith(".self_attn.in_proj_weight") and name.startswith("encoder.")]
    )
    if (sizes.n_positions, sizes.n_dims, sizes.n_bins, sizes.n_layers) != (
        n_positions,
        n_dims,
        n_bins,
        n_stored,
    ):
        raise UnreadableModel(path, "its weights have other sizes than its 'config' says")
    if sizes.n_heads < 1 or sizes.n_dims % sizes.n_heads:
        raise UnreadableModel(path, f"{sizes.n_dims} dimensions cannot be shared by {sizes.n_heads} heads")
    if n_genes + 3 != n_positions:  # genes, T, S, and one of padding
        raise UnreadableModel(
            path, f"it is for {n_positions - 3:,} genes, and {GENES} has {n_genes:,}; take both of one model"
        )
    return sizes
