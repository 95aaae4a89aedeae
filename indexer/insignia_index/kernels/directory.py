"""Where a gene's containers lie: the directories of blocks, and a gene's entries over all blocks.

A *block table* is int64 (n_blocks, TABLE_COLUMNS): the addresses and sizes of each block, see
`insignia_index.format.reader`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.format.layout import BITMAP, EXPONENT_SHIFT, KIND_SHIFT, LIST, OFFSET_SHIFT
from insignia_index.kernels.memory import popcount, view

#: Columns of a block table.
WORDS, RANKS, N_WORDS, ENTRIES, CHECKS, N_ENTRIES, PAYLOAD, PAYLOAD_BYTES, N_CELLS, FIRST_ROW = range(10)
TABLE_COLUMNS = 10

#: Entry of a block that has no posting of the gene: of a kind that does not exist.
NO_ENTRY = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
NO_KIND = 3

_OFFSET_UNIT = np.uint64(2)  # offsets count in units of 4 bytes
_BELOW_OFFSET = (np.uint64(1) << OFFSET_SHIFT) - np.uint64(1)


@njit(nogil=True, inline="always")
def entry_index(row, gene):
    """Index of a gene's entry in the block whose table row is given; -1 if the block has no posting of it."""
    word_index = gene >> 6
    if word_index >= row[N_WORDS]:
        return -1
    word = view(np.uint64(row[WORDS]), row[N_WORDS], np.uint64)[word_index]
    bit = np.uint64(1) << np.uint64(gene & 63)
    if not word & bit:
        return -1
    rank = view(np.uint64(row[RANKS]), row[N_WORDS], np.uint32)[word_index]
    return np.int64(rank) + popcount(word & (bit - np.uint64(1)))


@njit(nogil=True, inline="always")
def entry_kind(entry):
    """Kind of a container."""
    return np.int64((entry >> KIND_SHIFT) & np.uint64(3))


@njit(nogil=True, inline="always")
def entry_count(entry):
    """Number of postings."""
    return np.int64(entry & np.uint64(0xFFFF)) + 1


@njit(nogil=True, inline="always")
def entry_exponent(entry):
    """Exponent of the values' scale, plus 128."""
    return np.int64((entry >> EXPONENT_SHIFT) & np.uint64(0xFF))


@njit(nogil=True, inline="always")
def entry_offset(entry):
    """Bytes from the payload's beginning to the container."""
    return np.int64((entry >> OFFSET_SHIFT) << _OFFSET_UNIT)


@njit(nogil=True, cache=True)
def container_size(kind, count, n_cells, value_bytes):
    """Same as `insignia_index.format.layout.container_bytes`."""
    if kind == LIST:
        size = count * (2 + value_bytes)
    elif kind == BITMAP:
        size = (n_cells + 31) // 32 * 4 + count * value_bytes
    else:
        size = n_cells * value_bytes
    return (size + 3) // 4 * 4


@njit(nogil=True, cache=True)
def gene_entries(table, gene, value_bytes, entries):
    """Write a gene's directory entry of every block to ``entries`` uint64 (n_blocks,), NO_ENTRY for none.

    Returns the bytes of its containers together.
    """
    n_bytes = 0
    for block in range(len(table)):
        row = table[block]
        index = entry_index(row, gene)
        entries[block] = NO_ENTRY
        if index >= 0:
            entry = view(np.uint64(row[ENTRIES]), row[N_ENTRIES], np.uint64)[index]
            entries[block] = entry
            n_bytes += container_size(entry_kind(entry), entry_count(entry), row[N_CELLS], value_bytes)
    return n_bytes


@njit(nogil=True, cache=True)
def copy_containers(table, value_bytes, entries, payload):
    """Copy the containers of a gene's entries to ``payload`` (uint32), one behind the other.

    The entries then say where they lie in it.
    """
    n_words = 0
    for block in range(len(table)):
        entry = entries[block]
        if entry == NO_ENTRY:
            continue
        row = table[block]
        size = container_size(entry_kind(entry), entry_count(entry), row[N_CELLS], value_bytes) // 4
        source = view(np.uint64(row[PAYLOAD] + entry_offset(entry)), size, np.uint32)
        payload[n_words : n_words + size] = source
        entries[block] = (entry & _BELOW_OFFSET) | (np.uint64(n_words) << OFFSET_SHIFT)
        n_words += size
