"""What each gene adds: its values in chosen cells, and their sums over groups of cells.

Plain loops over the containers of one gene at a time. As in `kernels.score`, everything that is dereferenced
was checked when the gene was first asked for. Values are float64, in which every stored value is exact.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.format.layout import BITMAP, LIST
from insignia_index.kernels.directory import (
    N_CELLS,
    NO_KIND,
    PAYLOAD,
    entry_count,
    entry_exponent,
    entry_kind,
    entry_offset,
)
from insignia_index.kernels.memory import half_to_float, popcount, trailing_zeros, view
from insignia_index.kernels.score import SCALES


@njit(nogil=True, inline="always")
def _container(row, block, entries, payload):
    """Kind, count, scale and address of a gene's container in a block; kind NO_KIND if it has none."""
    entry = view(entries, block + 1, np.uint64)[block]
    base = np.int64(payload) if payload else row[PAYLOAD]
    address = np.uint64(base + entry_offset(entry))
    return entry_kind(entry), entry_count(entry), SCALES[entry_exponent(entry)], address


@njit(nogil=True, inline="always")
def _value(values, i, is_half):
    """Stored value ``i`` (float64) of those at address ``values``."""
    if is_half:
        return np.float64(half_to_float(view(values, i + 1, np.uint16)[i]))
    return np.float64(view(values, i + 1, np.float32)[i])


@njit(nogil=True)
def _values_of_list(address, count, cells, scale, is_half, out):
    ids = view(address + np.uint64(count * (2 if is_half else 4)), count, np.uint16)
    at = 0
    for i in range(len(cells)):
        at += np.searchsorted(ids[at:], cells[i])
        if at < count and ids[at] == cells[i]:
            out[i] = scale * _value(address, at, is_half)


@njit(nogil=True)
def _values_of_bitmap(address, n_cells, cells, scale, is_half, out):
    n_words = (n_cells + 31) // 32
    words = view(address, n_words, np.uint32)
    values = address + np.uint64(4 * n_words)
    word, n_before = 0, 0  # the values of all words before this one
    for i in range(len(cells)):
        while word < cells[i] // 32:
            n_before += popcount(words[word])
            word += 1
        bit = np.uint32(1) << np.uint32(cells[i] % 32)
        if words[word] & bit:
            at = n_before + popcount(np.uint32(words[word] & np.uint32(bit - np.uint32(1))))
            out[i] = scale * _value(values, at, is_half)


@njit(nogil=True, cache=True)
def gene_values(table, block_starts, rows, entries, payloads, is_half, out):
    """Write the value of each gene in each of the ``rows`` (int64, ascending) to ``out``.

    ``entries`` and ``payloads`` uint64 (n_genes,): see `score_blocks_half`. ``out`` float64 (n_genes, n_rows)
    must come in as zeros.
    """
    first = 0
    while first < len(rows):
        block = np.searchsorted(block_starts, rows[first], side="right") - 1
        stop = first + np.searchsorted(rows[first:], block_starts[block + 1])
        cells = rows[first:stop] - block_starts[block]
        row = table[block]
        for g in range(len(entries)):
            kind, count, scale, address = _container(row, block, entries[g], payloads[g])
            found = out[g, first:stop]
            if kind == NO_KIND:
                continue
            if kind == LIST:
                _values_of_list(address, count, cells, scale, is_half, found)
            elif kind == BITMAP:
                _values_of_bitmap(address, row[N_CELLS], cells, scale, is_half, found)
            else:
                for i in range(len(cells)):
                    found[i] = scale * _value(address, cells[i], is_half)
        first = stop


@njit(nogil=True, cache=True)
def label_cells(blocks, block_starts, order, order_starts, slot_starts, slot_group, none, labels):
    """Write the group of every cell of the blocks to its row of ``labels`` (int32), ``none`` if it has none.

    The cells that pass: ``order`` and ``order_starts`` as `sort_by_slot` writes them; ``slot_group`` int64
    (n_slots,).
    """
    for block in blocks:
        first = block_starts[block]
        labels[first : block_starts[block + 1]] = none
        for slot in range(slot_starts[block], slot_starts[block + 1]):
            for i in range(order_starts[slot], order_starts[slot + 1]):
                labels[first + order[i]] = slot_group[slot]


@njit(nogil=True)
def _sum_list(address, count, labels, scale, is_half, sums):
    ids = view(address + np.uint64(count * (2 if is_half else 4)), count, np.uint16)
    for i in range(count):
        sums[labels[ids[i]]] += scale * _value(address, i, is_half)


@njit(nogil=True)
def _sum_bitmap(address, n_cells, labels, scale, is_half, sums):
    n_words = (n_cells + 31) // 32
    words = view(address, n_words, np.uint32)
    values = address + np.uint64(4 * n_words)
    at = 0
    for word in range(n_words):
        bits = words[word]
        while bits:
            sums[labels[word * 32 + trailing_zeros(bits)]] += scale * _value(values, at, is_half)
            at += 1
            bits &= np.uint32(bits - np.uint32(1))


@njit(nogil=True)
def _sum_full(address, n_cells, labels, scale, is_half, sums):
    for i in range(n_cells):
        sums[labels[i]] += scale * _value(address, i, is_half)


@njit(nogil=True, cache=True)
def gene_sums(table, blocks, block_starts, labels, entries, payload, is_half, sums):
    """Add one gene's values over the cells of each label, block after block, to ``sums`` float64 (n_labels,).

    ``labels`` int32 (n_cells of the atlas,) as `label_cells` writes them; ``entries`` and ``payload``: the
    gene's addresses. The order of summation is that of the cells: the same whoever calls.
    """
    for block in blocks:
        row = table[block]
        kind, count, scale, address = _container(row, block, entries, payload)
        here = labels[block_starts[block] : block_starts[block + 1]]
        if kind == NO_KIND:
            continue
        if kind == LIST:
            _sum_list(address, count, here, scale, is_half, sums)
        elif kind == BITMAP:
            _sum_bitmap(address, row[N_CELLS], here, scale, is_half, sums)
        else:
            _sum_full(address, row[N_CELLS], here, scale, is_half, sums)
