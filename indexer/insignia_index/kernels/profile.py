"""Whole profiles: sums of all genes over chosen cells, read from the blocks as they lie in the shard.

A shard keeps a block's genes side by side, so that a profile is read from end to end of a block. As in
`kernels.score`, everything that is dereferenced was checked before (`Snapshot.check_block`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.format.layout import BITMAP, BLOCK_CELLS, LIST
from insignia_index.kernels.directory import (
    ENTRIES,
    N_CELLS,
    N_ENTRIES,
    NO_ENTRY,
    PAYLOAD,
    entry_count,
    entry_exponent,
    entry_index,
    entry_kind,
    entry_offset,
)
from insignia_index.kernels.memory import half_to_float, popcount, trailing_zeros, view
from insignia_index.kernels.score import SCALES

#: Steps of a binary search of a list, about: fewer postings a chosen cell than that are all read instead.
SEARCH_STEPS = 16
#: Words of a bitmap a chosen cell, above which the cells are looked for, not the words.
WORDS_A_CELL = 8


@njit(nogil=True, inline="always")
def _value(address, i, is_half):
    if is_half:
        return np.float64(half_to_float(view(address, i + 1, np.uint16)[i]))
    return np.float64(view(address, i + 1, np.float32)[i])


@njit(nogil=True)
def _sum_list(address, count, cells, marks, is_half):
    ids = view(address + np.uint64(count * (2 if is_half else 4)), count, np.uint16)
    total = 0.0
    if SEARCH_STEPS * len(cells) < count:
        at = 0
        for cell in cells:
            at += np.searchsorted(ids[at:], cell)
            if at < count and ids[at] == cell:
                total += _value(address, at, is_half)
    else:
        for i in range(count):
            # no branch: whether a cell is chosen has no pattern that the processor could guess
            total += marks[ids[i]] * _value(address, i, is_half)
    return total


@njit(nogil=True)
def _sum_bitmap_of_few(masks, values, cells, is_half):
    total, word, n_before = 0.0, 0, 0  # the values of all words before this one
    for cell in cells:
        # a plain loop, which LLVM vectorises: a third of the time of the one that also looks for cells
        for w in range(word, np.int64(cell >> 5)):
            n_before += popcount(masks[w])
        word = np.int64(cell >> 5)
        bit = np.uint32(1) << np.uint32(cell & 31)
        if masks[word] & bit:
            below = np.uint32(masks[word] & np.uint32(bit - np.uint32(1)))
            total += _value(values, n_before + popcount(below), is_half)
    return total


@njit(nogil=True)
def _sum_bitmap(address, n_cells, cells, words, is_half):
    n_words = (n_cells + 31) // 32
    masks = view(address, n_words, np.uint32)
    values = address + np.uint64(4 * n_words)
    if WORDS_A_CELL * len(cells) < n_words:
        return _sum_bitmap_of_few(masks, values, cells, is_half)
    total, n_before = 0.0, 0
    for w in range(np.int64(cells[-1]) // 32 + 1):
        mask = masks[w]
        found = mask & words[w]
        while found:
            below = np.uint32((np.uint32(1) << np.uint32(trailing_zeros(found))) - np.uint32(1))
            total += _value(values, n_before + popcount(np.uint32(mask & below)), is_half)
            found &= np.uint32(found - np.uint32(1))
        n_before += popcount(mask)
    return total


@njit(nogil=True)
def _sum_full(address, cells, is_half):
    total = 0.0
    for cell in cells:
        total += _value(address, np.int64(cell), is_half)
    return total


@njit(nogil=True, cache=True)
def sum_profiles(table, blocks, cell_starts, cells, first_gene, is_half, sums):
    """Add the attributions of genes ``first_gene``... over the chosen cells to ``sums`` float64 (n genes,).

    ``blocks`` int64 (n,): those that have a chosen cell; ``cell_starts`` int64 (n + 1,) into ``cells``
    uint16: the places of each block's, ascending. The order of summation is that of the cells, the same
    whoever calls.
    """
    marks = np.zeros(BLOCK_CELLS, np.float64)
    words = np.zeros(BLOCK_CELLS // 32, np.uint32)
    for b in range(len(blocks)):
        row = table[blocks[b]]
        chosen = cells[cell_starts[b] : cell_starts[b + 1]]
        for cell in chosen:
            marks[cell] = 1.0
            words[cell >> 5] |= np.uint32(1) << np.uint32(cell & 31)
        for g in range(len(sums)):
            index = entry_index(row, first_gene + g)
            if index < 0:
                continue
            entry = view(np.uint64(row[ENTRIES]), row[N_ENTRIES], np.uint64)[index]
            address = np.uint64(row[PAYLOAD] + entry_offset(entry))
            kind = entry_kind(entry)
            if kind == LIST:
                total = _sum_list(address, entry_count(entry), chosen, marks, is_half)
            elif kind == BITMAP:
                total = _sum_bitmap(address, row[N_CELLS], chosen, words, is_half)
            else:
                total = _sum_full(address, chosen, is_half)
            sums[g] += SCALES[entry_exponent(entry)] * total
        for cell in chosen:
            marks[cell] = 0.0
            words[cell >> 5] = 0


@njit(nogil=True, cache=True)
def genes_of_block(row, genes, entries):
    """Write the genes that a block has postings of, ascending, and the addresses of their entries.

    ``row``: of the block table; ``genes`` int64 and ``entries`` uint64 have room for the whole vocabulary.
    Returns how many there are.
    """
    n = 0
    for gene in range(len(genes)):
        index = entry_index(row, gene)
        if index >= 0:
            genes[n] = gene
            entries[n] = np.uint64(row[ENTRIES] + 8 * index)
            n += 1
    return n


@njit(nogil=True, cache=True)
def entries_of_genes(table, genes, entries):
    """Write the directory entries of genes int64 (n,) to ``entries`` uint64 (n, n_blocks), NO_ENTRY for none.

    Block by block, because a block's directory is small and genes ascend.
    """
    for block in range(len(table)):
        row = table[block]
        stored = view(np.uint64(row[ENTRIES]), row[N_ENTRIES], np.uint64)
        for g in range(len(genes)):
            index = entry_index(row, genes[g])
            entries[g, block] = stored[index] if index >= 0 else NO_ENTRY
