"""Reading ``genes.bin``: per-gene statistics of one study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from insignia_index.format.files import ShardFiles, bytes_digest, unreadable
from insignia_index.format.layout import n_words
from insignia_model.errors import AtlasCorrupt

STATISTICS = "genes.bin"


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the ``genes`` int64 (n,) with a posting: detecting cells uint32 (n,), sum float32 (n,)."""

    genes: npt.NDArray[np.int64]
    n_cells: npt.NDArray[np.uint32]
    total: npt.NDArray[np.float32]


def read_statistics(directory: Path, files: ShardFiles, n_genes: int) -> Statistics:
    """Statistics of a shard written with ``n_genes`` genes in the vocabulary; raises `AtlasCorrupt`."""
    path = directory / STATISTICS
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if bytes_digest(raw) != files.digests.get(STATISTICS):
        raise AtlasCorrupt(path, "it does not match the catalog's checksum")
    at = 8 * n_words(n_genes)
    genes = np.flatnonzero(np.unpackbits(np.frombuffer(raw[:at], np.uint8), bitorder="little"))
    if len(raw) != at + 12 * len(genes) or (len(genes) and genes[-1] >= n_genes):
        raise AtlasCorrupt(path, "its parts do not add up to its size")
    return Statistics(
        genes=genes,
        n_cells=np.frombuffer(raw, "<u4", len(genes), at),
        total=np.frombuffer(raw, "<f4", len(genes), at + 4 * len(genes)),
    )
