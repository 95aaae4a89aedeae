"""Rows of cells from postings by gene, their projection, and their inner product with a dense query.

A *row* is a cell's genes and values, in two parts. Its **head**: the HEAD values of largest magnitude, in
gene order, and behind them zeros; its **tail**: the other values, in gene order. Either is genes, then
values. Narrow rows hold uint16 genes and float16 values times 2**exponent, where the cell's exponent brings
its largest to between 2**14 and 2**15; so a value of an atlas of float16 values is held exactly down to
2**-29 of the cell's largest. Wide rows: uint32 and float32, exponent 0.

Rows of several studies are reached by a *row table*, int64 (n_studies, ROW_COLUMNS): addresses of heads,
tails, tail starts (in bytes, int64) and exponents (int8).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.format.layout import BITMAP, LIST
from insignia_index.kernels.directory import (
    ENTRIES,
    N_CELLS,
    N_ENTRIES,
    PAYLOAD,
    entry_count,
    entry_exponent,
    entry_index,
    entry_kind,
    entry_offset,
)
from insignia_index.kernels.memory import float_to_half, half_to_float, prefetch, trailing_zeros, view
from insignia_index.kernels.score import SCALES

#: Values of a head; see docs/decisions/0011.
HEAD = 128
#: Columns of a row table.
HEADS, TAILS, STARTS, EXPONENTS = range(4)
ROW_COLUMNS = 4
#: Rows, and bytes of a tail, that are asked for before they are read.
_AHEAD = 6
#: Genes whose components fit a processor's second-level cache beside the sums.
_GENES = 1_024
_TAIL_BYTES = 4096


@njit(nogil=True, inline="always")
def _stored(address, i, is_half):
    if is_half:
        return half_to_float(view(address, i + 1, np.uint16)[i])
    return view(address, i + 1, np.float32)[i]


@njit(nogil=True)
def _unpack(row, gene, is_half, cells, values):
    """Write local ids and values float32 of a gene's container in a checked block; returns how many."""
    index = entry_index(row, gene)
    if index < 0:
        return 0
    entry = view(np.uint64(row[ENTRIES]), row[N_ENTRIES], np.uint64)[index]
    kind, count, n_cells = entry_kind(entry), entry_count(entry), row[N_CELLS]
    scale = np.float32(SCALES[entry_exponent(entry)])
    address = np.uint64(row[PAYLOAD] + entry_offset(entry))
    if kind == LIST:
        ids = view(address + np.uint64(count * (2 if is_half else 4)), count, np.uint16)
        for i in range(count):
            cells[i], values[i] = ids[i], scale * _stored(address, i, is_half)
        return count
    if kind == BITMAP:
        n_words = (n_cells + 31) // 32
        words = view(address, n_words, np.uint32)
        after, n = address + np.uint64(4 * n_words), 0
        for word in range(n_words):
            bits = words[word]
            while bits:
                cells[n] = 32 * word + trailing_zeros(bits)
                values[n] = scale * _stored(after, n, is_half)
                n += 1
                bits &= np.uint32(bits - np.uint32(1))
        return n
    n = 0
    for i in range(n_cells):
        value = _stored(address, i, is_half)
        if value != 0:
            cells[n], values[n] = i, scale * value
            n += 1
    return n


@njit(nogil=True, cache=True)
def row_lengths(row, n_genes, is_half, counts, largest):
    """Add up the postings of each cell of a block, int64 (n_cells,), and its largest absolute value float32.

    ``row``: of the block table, whose containers were checked.
    """
    cells, values = np.empty(row[N_CELLS], np.int64), np.empty(row[N_CELLS], np.float32)
    for gene in range(n_genes):
        n = _unpack(row, gene, is_half, cells, values)
        for i in range(n):
            counts[cells[i]] += 1
            largest[cells[i]] = max(largest[cells[i]], abs(values[i]))


@njit(nogil=True, cache=True)
def dense_block(row, genes, is_half, out):
    """Write a block's attributions of ``genes`` int64 (n,) to ``out`` float32 (n_cells, n), all zeros."""
    cells, values = np.empty(row[N_CELLS], np.int64), np.empty(row[N_CELLS], np.float32)
    for g in range(len(genes)):
        n = _unpack(row, genes[g], is_half, cells, values)
        for i in range(n):
            out[cells[i], g] = values[i]


@njit(nogil=True, inline="always")
def _write_whole(row, n_genes, is_half, wide, starts, exponents, base, kind):
    """Write the rows of a block gene by gene: genes, then bits of the values, of unsigned type ``kind``."""
    n_cells, width = row[N_CELLS], 4 if wide else 2
    cells, values = np.empty(n_cells, np.int64), np.empty(n_cells, np.float32)
    written = np.zeros(n_cells, np.int64)
    for gene in range(n_genes):
        n = _unpack(row, gene, is_half, cells, values)
        for i in range(n):
            cell = cells[i]
            at, room = written[cell], starts[cell + 1] - starts[cell]
            address = base + np.uint64(2 * width * starts[cell])
            view(address, room, kind)[at] = gene
            after = address + np.uint64(width * room)
            if wide:
                view(after, room, np.float32)[at] = values[i]
            else:
                view(after, room, kind)[at] = float_to_half(
                    np.float32(values[i] / SCALES[exponents[cell] + 128])
                )
            written[cell] = at + 1


@njit(nogil=True, inline="always")
def _split(starts, base, kind, magnitude, heads, tails):
    """Split whole rows into ``heads`` (n_cells, 2, HEAD) and, in place, tails; write where those begin."""
    width = heads.itemsize
    longest = 0
    for cell in range(len(heads)):
        longest = max(longest, starts[cell + 1] - starts[cell])
    genes, bits, keys = np.empty(longest, kind), np.empty(longest, kind), np.empty(longest, kind)
    end = 0  # of the tails so far, which never reaches the row that is read
    for cell in range(len(heads)):
        tails[cell] = end
        count = starts[cell + 1] - starts[cell]
        address = base + np.uint64(2 * width * starts[cell])
        genes[:count] = view(address, count, kind)
        bits[:count] = view(address + np.uint64(width * count), count, kind)
        heads[cell] = 0
        if count <= HEAD:
            heads[cell, 0, :count], heads[cell, 1, :count] = genes[:count], bits[:count]
            continue
        for i in range(count):
            keys[i] = bits[i] & magnitude  # bits of non-negative floats order as they do
        bound = np.partition(keys[:count], count - HEAD)[count - HEAD]
        spare = HEAD  # places for values that equal the bound
        for i in range(count):
            spare -= keys[i] > bound
        n_tail = count - HEAD
        tail_genes = view(base + np.uint64(end), n_tail, kind)
        tail_bits = view(base + np.uint64(end + width * n_tail), n_tail, kind)
        front, rear = 0, 0
        for i in range(count):
            first = keys[i] > bound
            if keys[i] == bound and spare > 0:
                first = True
                spare -= 1
            if first:
                heads[cell, 0, front], heads[cell, 1, front] = genes[i], bits[i]
                front += 1
            else:
                tail_genes[rear], tail_bits[rear] = genes[i], bits[i]
                rear += 1
        end += 2 * width * n_tail
    tails[len(heads)] = end


# Two entry points for each rather than a flag: the compiler drops the other width's branches from the loops.


@njit(nogil=True, cache=True)
def write_narrow(row, n_genes, is_half, starts, exponents, room, heads, tails):
    """Write the rows of a block: ``heads`` uint16 (n_cells, 2, HEAD), and the tails to ``room``.

    ``starts`` int64 (n_cells + 1,): postings before each row; ``exponents`` int64 (n_cells,); ``room`` uint8:
    as large as all whole rows; ``tails`` int64 (n_cells + 1,): where each tail begins in it, in bytes.
    """
    base = np.uint64(room.ctypes.data)
    _write_whole(row, n_genes, is_half, False, starts, exponents, base, np.uint16)
    _split(starts, base, np.uint16, np.uint16(0x7FFF), heads, tails)


@njit(nogil=True, cache=True)
def write_wide(row, n_genes, is_half, starts, exponents, room, heads, tails):
    """As `write_narrow`, with ``heads`` uint32."""
    base = np.uint64(room.ctypes.data)
    _write_whole(row, n_genes, is_half, True, starts, exponents, base, np.uint32)
    _split(starts, base, np.uint32, np.uint32(0x7FFFFFFF), heads, tails)


@njit(nogil=True, inline="always")
def _tail(table, cell, width):
    """Address of a tail's genes, and their number."""
    starts = view(np.uint64(table[STARTS]), cell + 2, np.int64)
    return np.uint64(table[TAILS] + starts[cell]), (starts[cell + 1] - starts[cell]) // (2 * width)


@njit(nogil=True, inline="always")
def _scale(table, cell, wide):
    exponent = np.int64(view(np.uint64(table[EXPONENTS]), cell + 1, np.int8)[cell])
    return np.float32(1.0) if wide else np.float32(SCALES[exponent + 128])


@njit(nogil=True, fastmath={"contract"})
def _add_scaled(total, component, value):
    for j in range(len(total)):
        total[j] += value * component[j]


# BLAS would wake its threads for these, and wait for them longer than one takes.


@njit(nogil=True, cache=True)
def project_query(genes, weights, components, out):
    """Add ``weights`` float32 (n,) times the components of their ``genes`` int64 (n,) to ``out`` (d,)."""
    for i in range(len(genes)):
        if genes[i] < len(components):
            _add_scaled(out, components[genes[i]], weights[i])


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def inner_products(matrix, vector, out):
    """Write ``matrix`` float32 (n, d) times ``vector`` float32 (d,) to ``out`` float32 (n,)."""
    for i in range(len(matrix)):
        total = np.float32(0.0)
        for j in range(len(vector)):
            total += matrix[i, j] * vector[j]
        out[i] = total


@njit(nogil=True, inline="always")
def _project_until(part, start, until, wide, scale, components, total):
    """Add a row's postings from ``start`` to the gene ``until``; returns where it stopped, sum of squares."""
    genes_at, count = part
    kind, width = (np.uint32, 4) if wide else (np.uint16, 2)
    genes, values_at = view(genes_at, count, kind), genes_at + np.uint64(width * count)
    at, squares = start, 0.0
    while at < count and genes[at] < until:
        value = scale * _stored(values_at, at, not wide)
        if value == 0:  # the end of a short head
            at = count
            break
        squares += np.float64(value) * np.float64(value)
        if genes[at] < len(components):
            _add_scaled(total, components[np.int64(genes[at])], value)
        at += 1
    return at, squares


@njit(nogil=True, inline="always")
def _project_rows(table, cells, wide, components, n_genes, out, squares):
    width = 4 if wide else 2
    at = np.zeros((len(cells), 2), np.int64)
    out[:], squares[:] = 0.0, 0.0
    # some genes of all cells at a time, whose components stay in the cache
    for until in range(_GENES, n_genes + _GENES, _GENES):
        for i in range(len(cells)):
            scale = _scale(table, cells[i], wide)
            head = (np.uint64(table[HEADS] + 2 * width * HEAD * cells[i]), HEAD)
            at[i, 0], more = _project_until(head, at[i, 0], until, wide, scale, components, out[i])
            squares[i] += more
            tail = _tail(table, cells[i], width)
            at[i, 1], more = _project_until(tail, at[i, 1], until, wide, scale, components, out[i])
            squares[i] += more


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


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})  # so that a sum can use vectors
def _dot_narrow(genes_at, count, weights):
    genes, values = view(genes_at, count, np.uint16), view(genes_at + np.uint64(2 * count), count, np.uint16)
    total = np.float32(0.0)
    for i in range(count):
        total += weights[genes[i]] * half_to_float(values[i])
    return total


@njit(nogil=True, cache=True)
def _dot_wide(genes_at, count, weights):
    genes, values = view(genes_at, count, np.uint32), view(genes_at + np.uint64(4 * count), count, np.float32)
    total = 0.0
    for i in range(count):
        if genes[i] < len(weights):
            total += weights[genes[i]] * np.float64(values[i])
    return total


@njit(nogil=True, cache=True)
def add_heads(tables, study_starts, rows, weights, scores):
    """Add the inner products of the heads of ``rows`` with ``weights`` to ``scores`` float32 (n,).

    ``weights`` float32 (65,536,); ``tables``  int64 (n_studies, ROW_COLUMNS), of narrow rows;
    ``study_starts`` int64 (n_studies + 1,): first row of each study; ``rows`` int64 (n,), of the snapshot.
    """
    study = np.searchsorted(study_starts, rows, side="right") - 1
    for i in range(len(rows)):
        if i + _AHEAD < len(rows):
            later = study[i + _AHEAD]
            at = tables[later, HEADS] + 4 * HEAD * (rows[i + _AHEAD] - study_starts[later])
            prefetch(np.uint64(at), 4 * HEAD)
        table, cell = tables[study[i]], rows[i] - study_starts[study[i]]
        head = np.uint64(table[HEADS] + 4 * HEAD * cell)
        scores[i] += _scale(table, cell, False) * _dot_narrow(head, HEAD, weights)


@njit(nogil=True, cache=True)
def score_narrow(tables, study_starts, rows, weights, scores):
    """Write the inner products of narrow ``rows`` with ``weights`` float32 (65,536,) to ``scores`` (n,)."""
    study = np.searchsorted(study_starts, rows, side="right") - 1
    for i in range(len(rows)):
        if i + _AHEAD < len(rows):
            later = study[i + _AHEAD]
            cell = rows[i + _AHEAD] - study_starts[later]
            prefetch(np.uint64(tables[later, HEADS] + 4 * HEAD * cell), 4 * HEAD)
            tail, count = _tail(tables[later], cell, 2)
            prefetch(tail, min(4 * count, _TAIL_BYTES))
        table, cell = tables[study[i]], rows[i] - study_starts[study[i]]
        total = _dot_narrow(np.uint64(table[HEADS] + 4 * HEAD * cell), HEAD, weights)
        tail, count = _tail(table, cell, 2)
        scores[i] = _scale(table, cell, False) * (total + _dot_narrow(tail, count, weights))


@njit(nogil=True, cache=True)
def score_wide(tables, study_starts, rows, weights, scores):
    """As `score_narrow`, for wide rows, ``weights`` and ``scores`` float64."""
    study = np.searchsorted(study_starts, rows, side="right") - 1
    for i in range(len(rows)):
        table, cell = tables[study[i]], rows[i] - study_starts[study[i]]
        total = _dot_wide(np.uint64(table[HEADS] + 8 * HEAD * cell), HEAD, weights)
        tail, count = _tail(table, cell, 4)
        scores[i] = total + _dot_wide(tail, count, weights)
