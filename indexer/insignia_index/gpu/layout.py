"""Records and constants that Python and the kernels share; `kernels/types.cuh` is the other half.

Every field has 8 bytes (a tile's two have 4), so that no compiler puts anything between them.
"""

from __future__ import annotations

import numpy as np

BLOCK = np.dtype([
    ("words", "<u8"), ("ranks", "<u8"), ("entries", "<u8"), ("payload", "<u8"),
    ("mark_starts", "<u8"), ("marks", "<u8"),
    ("n_words", "<i8"), ("n_entries", "<i8"), ("n_cells", "<i8"), ("first_row", "<i8"),
])  # fmt: skip
TILE = np.dtype([("block", "<u4"), ("first", "<u4")])
TARGET = np.dtype([("key", "<u8"), ("rank", "<i8"), ("count", "<i8")])
QUERY = np.dtype([
    ("blocks", "<u8"), ("tiles", "<u8"), ("n_tiles", "<i8"), ("passes", "<u8"),
    ("order", "<u8"), ("order_starts", "<u8"), ("slot_block", "<u8"),
    ("slot_starts", "<u8"), ("codes", "<u8"), ("n_slots", "<i8"),
    ("genes", "<u8"), ("weights", "<u8"), ("n_genes", "<i8"), ("divisor", "<f8"),
    ("scores", "<u8"), ("statistics", "<u8"), ("histograms", "<u8"),
    ("targets", "<u8"), ("n_targets", "<i8"), ("slot_hits", "<u8"),
    ("cutoff", "<f8"), ("hit_mode", "<i8"), ("hit_ties", "<i8"),
    ("top_key", "<u8"), ("top_mode", "<i8"), ("top_ties", "<i8"), ("top_above", "<i8"),
    ("top_rows", "<u8"), ("top_scores", "<u8"), ("counters", "<u8"), ("tile_ties", "<u8"),
])  # fmt: skip

#: What becomes of scores that equal a bound: none counts, all do, the first in row order do.
TIES_NONE, TIES_ALL, TIES_FIRST = range(3)

DIGIT_BITS, DIGITS, TARGETS, GROUP_WORDS, LARGE_SLOT = 11, 2048, 3, 4, 1024

#: Cells of a tile, by bits of a stored value: 32 KiB of scores either way.
TILE_CELLS = {16: 8192, 32: 4096}
#: Suffix of a kernel's name.
KIND = {16: "half", 32: "single"}


def n_passes(value_bits: int) -> int:
    """Steps of the radix selection: float16 values have 32-bit keys, float32 values 64-bit ones."""
    return -(-2 * value_bits // DIGIT_BITS)


def score_of_key(key: int, value_bits: int) -> float:
    """The number that has the order key."""
    if value_bits == 16:
        bits = key ^ (0x8000_0000 if key >> 31 else 0xFFFF_FFFF)
        return float(np.uint32(bits).view(np.float32))
    bits = key ^ (0x8000_0000_0000_0000 if key >> 63 else 0xFFFF_FFFF_FFFF_FFFF)
    return float(np.uint64(bits).view(np.float64))
