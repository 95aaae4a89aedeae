"""Constants and record types of the shard format, version 1. The contract is docs/format.md."""

from __future__ import annotations

import numpy as np

FORMAT_VERSION = 1
MAGIC = b"INSGSHD1"

#: uint16 local ids: half the bytes of uint32, and no id can point outside a 65,536-cell score buffer.
BLOCK_CELLS = 65_536
#: A block is closed early at this many postings, so that a build's memory has a bound on dense panels.
BLOCK_POSTINGS = 100_000_000

#: Container kinds: each (block, gene) takes the smallest of its encodings.
LIST, BITMAP, FULL = 0, 1, 2

#: Entry of the block directory, uint64, from bit 0: count - 1 (16 bits), kind (2), exponent + 128 (8),
#: payload offset / 4 (38).
#: A stored value is the attribution times 2**exponent: the largest of a container comes to lie just below
#: float16's limit, so that all of its 11 bits of precision reach 2**-28 below it.
KIND_SHIFT = np.uint64(16)
EXPONENT_SHIFT = np.uint64(18)
OFFSET_SHIFT = np.uint64(26)
EXPONENT_BIAS = 128

#: Fixed part at the start of the head, then n_blocks BLOCK records, then per block its gene directory.
HEAD = np.dtype(
    [
        ("magic", "S8"),
        ("version", "<u4"),
        ("value_bits", "<u4"),  # 16: float16, 32: float32
        ("n_cells", "<u8"),
        ("n_postings", "<u8"),
        ("n_genes", "<u4"),  # length of the vocabulary when the shard was written
        ("n_blocks", "<u4"),
        ("shard", "<u8"),  # number of the shard, so that no two shards of an atlas have the same head
    ]
)
BLOCK = np.dtype(
    [
        ("n_cells", "<u4"),
        ("n_entries", "<u4"),
        ("offset", "<u8"),  # of the block's entries in postings.bin; checks and payload follow
        ("payload_bytes", "<u8"),
        ("n_postings", "<u8"),
    ]
)

ALIGN = 64


def n_words(n_genes: int) -> int:
    """64-bit words of a gene bitmap."""
    return (n_genes + 63) // 64


def aligned(size: int, unit: int = ALIGN) -> int:
    """``size`` rounded up to a multiple of ``unit``."""
    return -(-size // unit) * unit


def directory_bytes(n_genes: int) -> int:
    """Bytes of one block's gene directory in the head: bitmap words (uint64), then ranks (uint32)."""
    return aligned(n_words(n_genes) * 12, 8)


def container_bytes(kind: int, count: int, n_cells: int, value_bytes: int) -> int:
    """Bytes of a container, padded to 4."""
    if kind == LIST:
        return aligned(count * (2 + value_bytes), 4)
    if kind == BITMAP:
        return aligned(aligned(n_cells, 32) // 8 + count * value_bytes, 4)
    return aligned(n_cells * value_bytes, 4)
