"""Rows of cells, read and projected; `kernels.row_writer` makes them from postings by gene.

A *row* is a cell's genes and values, in two parts. Its **head** is the HEAD values of largest magnitude,
in **levels**: the LEVELS[0] largest, then the LEVELS[1] that follow, and so on; what a level lacks are zeros.
Its **tail**: the other values. A level and a tail are each in gene order: genes, then values. Narrow rows
hold uint16 genes and float16 values times 2**exponent, where the cell's exponent brings its largest to
between 2**14 and 2**15; so a value of an atlas of float16 values is held exactly down to 2**-28 of the cell's
largest. Wide rows: uint32 and float32, exponent 0.

Rows of several studies are reached by a *row table*, int64 (n_studies, ROW_COLUMNS): addresses of heads,
tails, tail starts (in bytes, int64) and exponents (int8).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.combine import add_combination
from insignia_index.kernels.memory import half_to_float, view
from insignia_index.kernels.score import SCALES

#: Values of each level of a head, and of all; see docs/decisions/0014.
LEVELS = (40, 88, 128)
HEAD = sum(LEVELS)
#: Where each level ends among the values of a head.
LEVEL_ENDS = (40, 128, 256)
#: Columns of a row table.
HEADS, TAILS, STARTS, EXPONENTS = range(4)
ROW_COLUMNS = 4
#: Genes whose components fit a processor's second-level cache beside the sums.
_GENES = 1_024


@njit(nogil=True, inline="always")
def stored(address, i, is_half):
    """The value of number ``i`` at an address, as float32."""
    if is_half:
        return half_to_float(view(address, i + 1, np.uint16)[i])
    return view(address, i + 1, np.float32)[i]


@njit(nogil=True, inline="always")
def head_of(table, cell, width):
    """Address of a head."""
    return np.uint64(table[HEADS] + 2 * width * HEAD * cell)


@njit(nogil=True, inline="always")
def tail_of(table, cell, width):
    """Address of a tail's genes, and their number."""
    starts = view(np.uint64(table[STARTS]), cell + 2, np.int64)
    return np.uint64(table[TAILS] + starts[cell]), (starts[cell + 1] - starts[cell]) // (2 * width)


@njit(nogil=True, inline="always")
def _part(table, cell, number, width):
    """Address of the genes of a level of a head, or of the tail, which comes last, and how many they are."""
    if number == len(LEVELS):
        return tail_of(table, cell, width)
    first = LEVEL_ENDS[number] - LEVELS[number]
    return head_of(table, cell, width) + np.uint64(2 * width * first), LEVELS[number]


@njit(nogil=True, inline="always")
def scale_of(table, cell, wide):
    """What the values of a row are to be multiplied with."""
    exponent = np.int64(view(np.uint64(table[EXPONENTS]), cell + 1, np.int8)[cell])
    return np.float32(1.0) if wide else np.float32(SCALES[exponent + 128])


@njit(nogil=True, inline="always")
def _take_until(part, start, until, wide, scale, n_components, genes, values, n):
    """Write a part's postings from ``start`` to the gene ``until`` behind place ``n``.

    Returns where it stopped, the new place and the sum of squares. Genes from ``n_components`` on are left
    out, but for the squares.
    """
    genes_at, count = part
    kind, width = (np.uint32, 4) if wide else (np.uint16, 2)
    some, values_at = view(genes_at, count, kind), genes_at + np.uint64(width * count)
    at, squares = start, 0.0
    while at < count and some[at] < until:
        value = scale * stored(values_at, at, not wide)
        if value == 0:  # the end of a short head
            at = count
            break
        squares += np.float64(value) * np.float64(value)
        genes[n], values[n] = some[at], value
        n += some[at] < n_components
        at += 1
    return at, n, squares


@njit(nogil=True, inline="always")
def _project_rows(table, cells, wide, components, n_genes, out, squares):
    width, n_levels = 4 if wide else 2, len(LEVELS)
    at = np.zeros((len(cells), n_levels + 1), np.int64)
    out[:], squares[:] = 0.0, 0.0
    # a part has a gene once, if it is one that was written here; else it may have any number of them
    most = HEAD
    for i in range(len(cells)):
        most = max(most, HEAD + tail_of(table, cells[i], width)[1])
    genes, values = np.empty(most + 1, np.int32), np.empty(most + 1, np.float32)
    # some genes of all cells at a time, whose components stay in the cache
    for until in range(_GENES, n_genes + _GENES, _GENES):
        for i in range(len(cells)):
            scale, n = scale_of(table, cells[i], wide), 0
            for level in range(n_levels + 1):
                part = _part(table, cells[i], level, width)
                at[i, level], n, more = _take_until(
                    part, at[i, level], until, wide, scale, len(components), genes, values, n
                )
                squares[i] += more
            add_combination(components, genes, values, n, out[i])


@njit(nogil=True, cache=True)
def project_narrow(table, cells, components, n_genes, out, squares):
    """Write rows times ``components`` float32 (any, d) to ``out`` float32 (n_rows, d).

    ``cells`` int64 (n_rows,): which rows. ``table`` int64 (ROW_COLUMNS,): of one study, whose genes are
    below ``n_genes``. ``squares`` float64 (n_rows,): each row's squared norm. Genes past the end of the
    components count 0. Some hundreds of rows at a time are fastest.
    """
    _project_rows(table, cells, False, components, n_genes, out, squares)


@njit(nogil=True, cache=True)
def project_wide(table, cells, components, n_genes, out, squares):
    """As `project_narrow`, for wide rows."""
    _project_rows(table, cells, True, components, n_genes, out, squares)


@njit(nogil=True, inline="always")
def _read_row(table, cell, wide, genes, values):
    """Merge the parts of a row, each in gene order, without zeros; returns how many there are."""
    kind, width, n_parts = np.uint32 if wide else np.uint16, 4 if wide else 2, len(LEVELS) + 1
    scale = scale_of(table, cell, wide)
    at = np.zeros(n_parts, np.int64)
    n, last = 0, -1
    while True:
        nearest, found = np.int64(1) << 32, -1
        for number in range(n_parts):
            address, count = _part(table, cell, number, width)
            some, values_at = view(address, count, kind), address + np.uint64(width * count)
            while at[number] < count and stored(values_at, at[number], not wide) == 0:
                at[number] += 1
            if at[number] < count and np.int64(some[at[number]]) < nearest:
                nearest, found = np.int64(some[at[number]]), number
        if found < 0 or n == len(genes) or nearest <= last:  # the last two: no row that was written here
            return n
        address, count = _part(table, cell, found, width)
        genes[n] = last = nearest
        values[n] = scale * stored(address + np.uint64(width * count), at[found], not wide)
        at[found] += 1
        n += 1


@njit(nogil=True, cache=True)
def read_narrow(table, cell, genes, values):
    """Write genes int64, ascending, and values float32 of a narrow row; returns how many there are.

    ``table`` int64 (ROW_COLUMNS,): of its study. There is room for all genes.
    """
    return _read_row(table, cell, False, genes, values)


@njit(nogil=True, cache=True)
def read_wide(table, cell, genes, values):
    """As `read_narrow`, of a wide row."""
    return _read_row(table, cell, True, genes, values)
