"""Sums of attributions per (gene, unit of cells): from containers, to groups, to a matrix.

Stored sums: ``genes`` int64 (n,) ascending; ``bits`` uint8 (n, ceil(n_units / 8)), bit u % 8 of byte u // 8
set where the sum of unit u is not 0; ``values`` float32, the sums of the set bits, row after row.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.format.layout import BITMAP, LIST
from insignia_index.kernels.directory import (
    ENTRIES,
    FIRST_ROW,
    N_CELLS,
    N_ENTRIES,
    PAYLOAD,
    entry_count,
    entry_exponent,
    entry_index,
    entry_kind,
    entry_offset,
)
from insignia_index.kernels.memory import half_to_float, trailing_zeros, view
from insignia_index.kernels.score import SCALES


@njit(nogil=True, inline="always")
def _value(address, i, is_half):
    if is_half:
        return np.float64(half_to_float(view(address, i + 1, np.uint16)[i]))
    return np.float64(view(address, i + 1, np.float32)[i])


@njit(nogil=True)
def _add_container(address, kind, count, n_cells, scale, is_half, units, sums):
    """Add a container's values to the sums float64 (n_units,) of their cells' ``units`` (n_cells,)."""
    width = np.uint64(2 if is_half else 4)
    if kind == LIST:
        ids = view(address + np.uint64(count) * width, count, np.uint16)
        for i in range(count):
            sums[units[ids[i]]] += scale * _value(address, i, is_half)
    elif kind == BITMAP:
        n_masks = (n_cells + 31) // 32
        masks = view(address, n_masks, np.uint32)
        values, n_values = address + np.uint64(4 * n_masks), 0
        for m in range(n_masks):
            bits = masks[m]
            while bits:
                sums[units[32 * m + trailing_zeros(bits)]] += scale * _value(values, n_values, is_half)
                n_values += 1
                bits &= np.uint32(bits - np.uint32(1))
    else:
        for i in range(n_cells):
            sums[units[i]] += scale * _value(address, i, is_half)


@njit(nogil=True, cache=True)
def sum_units(table, first_gene, is_half, units, sums):
    """Add the attributions of genes ``first_gene``... to ``sums`` float64 (n genes, n_units).

    ``table``: block table of one study (checked, see `check_genes`); ``units`` int32 (n_cells,): the unit of
    each of its cells. The values are those that a search reads.
    """
    for g in range(len(sums)):
        gene = first_gene + g
        for b in range(len(table)):
            row = table[b]
            index = entry_index(row, gene)
            if index < 0:
                continue
            entry = view(np.uint64(row[ENTRIES]), row[N_ENTRIES], np.uint64)[index]
            address = np.uint64(row[PAYLOAD] + entry_offset(entry))
            n_cells = row[N_CELLS]
            _add_container(
                address, entry_kind(entry), entry_count(entry), n_cells, SCALES[entry_exponent(entry)],
                is_half, units[row[FIRST_ROW] : row[FIRST_ROW] + n_cells], sums[g],
            )  # fmt: skip


@njit(nogil=True, cache=True)
def count_cells(table, counts):
    """Add to ``counts`` float64 (n_genes,) how many cells of the block table have a posting of each gene."""
    for gene in range(len(counts)):
        for b in range(len(table)):
            row = table[b]
            index = entry_index(row, gene)
            if index >= 0:
                counts[gene] += entry_count(view(np.uint64(row[ENTRIES]), row[N_ENTRIES], np.uint64)[index])


@njit(nogil=True, cache=True)
def add_to_groups(genes, bits, values, unit_group, out):
    """Add stored sums to ``out`` float64 (n_genes, n_groups); ``unit_group`` int64 (n_units,), -1: none."""
    n = 0
    for r in range(len(genes)):
        gene = genes[r]
        for byte in range(bits.shape[1]):
            left = bits[r, byte]
            while left:
                group = unit_group[8 * byte + trailing_zeros(left)]
                if group >= 0:
                    out[gene, group] += values[n]
                n += 1
                left &= np.uint8(left - np.uint8(1))


@njit(nogil=True, cache=True)
def group_of_units(units, group, unit_group):
    """Write each unit's group to ``unit_group`` int64 (n_units,); whether all of its cells have the same.

    ``units`` int32 and ``group`` int64 (n_cells,), -1: the cell does not take part.
    """
    unit_group[:] = -2
    whole = True
    for i in range(len(units)):
        if unit_group[units[i]] == -2:
            unit_group[units[i]] = group[i]
        whole &= unit_group[units[i]] == group[i]
    return whole
