"""Rows of cells from postings by gene, and their projection.

A *row* is a cell's genes and values, in two parts. Its **head** is the HEAD values of largest magnitude,
in **levels**: the LEVELS[0] largest, then the LEVELS[1] that follow, and so on; what a level lacks are zeros.
Its **tail**: the other values. A level and a tail are each in gene order: genes, then values. Narrow rows
hold uint16 genes and float16 values times 2**exponent, where the cell's exponent brings its largest to
between 2**14 and 2**15; so a value of an atlas of float16 values is held exactly down to 2**-29 of the cell's
largest. Wide rows: uint32 and float32, exponent 0.

Rows of several studies are reached by a *row table*, int64 (n_studies, ROW_COLUMNS): addresses of heads,
tails, tail starts (in bytes, int64) and exponents (int8).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.format.layout import BITMAP, LIST
from insignia_index.kernels.combine import add_combination
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
from insignia_index.kernels.memory import float_to_half, half_to_float, trailing_zeros, view
from insignia_index.kernels.score import SCALES

#: Values of each level of a head, and of all; see docs/decisions/0014.
LEVELS = (40, 88, 128)
HEAD = sum(LEVELS)
#: Where each level ends among the values of a head.
LEVEL_ENDS = (40, 128, 256)
#: Columns of a row table.
HEADS, TAILS, STARTS, EXPONENTS = range(4)
ROW_COLUMNS = 4
#: Parts of the range of a value's bits, of which those with a level's least value are looked at closely.
_PARTS = 2_048
#: Genes whose components fit a processor's second-level cache beside the sums.
_GENES = 1_024


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
def _bounds(keys, count, ends, shift, counts, some, bounds, spare):
    """Write the least key of each level, and how many keys that equal it belong to it or those before.

    ``counts`` (_PARTS,) and ``some`` (as ``keys``) are room to work in; ``shift`` leaves of a key its part.
    """
    counts[:] = 0
    for i in range(count):
        counts[keys[i] >> shift] += 1
    part, n_above = _PARTS, 0  # keys of higher parts
    for level in range(len(ends)):
        bounds[level], spare[level] = 0, ends[level]
        if count <= ends[level]:
            continue
        while n_above < ends[level]:
            part -= 1
            n_above += counts[part]
        n_above -= counts[part]
        n = 0
        for i in range(count):
            some[n] = keys[i]
            n += (keys[i] >> shift) == part
        rank = ends[level] - n_above  # from the highest of the part, 1 for itself
        bounds[level] = np.sort(some[:n])[n - rank]
        spare[level] = rank
        for i in range(n):
            spare[level] -= some[i] > bounds[level]
        part += 1  # a part may hold the bounds of several levels


@njit(nogil=True, inline="always")
def _level(key, bounds, spare):
    """The level of a key, or their number for a tail; marks its place there as taken."""
    found = len(bounds)
    for level in range(len(bounds) - 1, -1, -1):
        if not (key > bounds[level] or (key == bounds[level] and spare[level] > 0)):
            break
        found = level
    for level in range(found, len(bounds)):
        spare[level] -= key == bounds[level]
    return found


@njit(nogil=True, inline="always")
def _split(starts, base, kind, magnitude, shift, heads, tails):
    """Split whole rows into ``heads`` (n_cells, 2 * HEAD) and, in place, tails; write where those begin."""
    width, n_levels = heads.itemsize, len(LEVEL_ENDS)
    longest = 0
    for cell in range(len(heads)):
        longest = max(longest, starts[cell + 1] - starts[cell])
    genes, bits, keys = np.empty(longest, kind), np.empty(longest, kind), np.empty(longest, kind)
    some, counts = np.empty(longest + 1, kind), np.empty(_PARTS, np.int32)
    ends, bounds, spare = np.array(LEVEL_ENDS), np.empty(n_levels, kind), np.empty(n_levels, np.int64)
    written = np.empty(n_levels, np.int64)
    end = 0  # of the tails so far, which never reaches the row that is read
    for cell in range(len(heads)):
        tails[cell] = end
        count = starts[cell + 1] - starts[cell]
        address = base + np.uint64(2 * width * starts[cell])
        genes[:count] = view(address, count, kind)
        bits[:count] = view(address + np.uint64(width * count), count, kind)
        for i in range(count):
            keys[i] = bits[i] & magnitude  # bits of non-negative floats order as they do
        _bounds(keys, count, ends, shift, counts, some, bounds, spare)
        heads[cell] = 0
        written[:] = 0
        n_tail, rear = max(0, count - HEAD), 0
        tail_genes = view(base + np.uint64(end), n_tail, kind)
        tail_bits = view(base + np.uint64(end + width * n_tail), n_tail, kind)
        for i in range(count):
            if keys[i] < bounds[n_levels - 1]:  # as most are
                tail_genes[rear], tail_bits[rear] = genes[i], bits[i]
                rear += 1
                continue
            level = _level(keys[i], bounds, spare)
            if level < n_levels:
                first = ends[level - 1] if level else 0
                at = 2 * first + written[level]
                heads[cell, at], heads[cell, at + ends[level] - first] = genes[i], bits[i]
                written[level] += 1
            else:
                tail_genes[rear], tail_bits[rear] = genes[i], bits[i]
                rear += 1
        end += 2 * width * n_tail
    tails[len(heads)] = end


# Two entry points for each rather than a flag: the compiler drops the other width's branches from the loops.


@njit(nogil=True, cache=True)
def write_narrow(row, n_genes, is_half, starts, exponents, room, heads, tails):
    """Write the rows of a block: ``heads`` uint16 (n_cells, 2 * HEAD), and the tails to ``room``.

    ``starts`` int64 (n_cells + 1,): postings before each row; ``exponents`` int64 (n_cells,); ``room`` uint8:
    as large as all whole rows; ``tails`` int64 (n_cells + 1,): where each tail begins in it, in bytes.
    """
    base = np.uint64(room.ctypes.data)
    _write_whole(row, n_genes, is_half, False, starts, exponents, base, np.uint16)
    _split(starts, base, np.uint16, np.uint16(0x7FFF), np.uint16(4), heads, tails)


@njit(nogil=True, cache=True)
def write_wide(row, n_genes, is_half, starts, exponents, room, heads, tails):
    """As `write_narrow`, with ``heads`` uint32."""
    base = np.uint64(room.ctypes.data)
    _write_whole(row, n_genes, is_half, True, starts, exponents, base, np.uint32)
    _split(starts, base, np.uint32, np.uint32(0x7FFFFFFF), np.uint32(20), heads, tails)


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
        value = scale * _stored(values_at, at, not wide)
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
            while at[number] < count and _stored(values_at, at[number], not wide) == 0:
                at[number] += 1
            if at[number] < count and np.int64(some[at[number]]) < nearest:
                nearest, found = np.int64(some[at[number]]), number
        if found < 0 or n == len(genes) or nearest <= last:  # the last two: no row that was written here
            return n
        address, count = _part(table, cell, found, width)
        genes[n] = last = nearest
        values[n] = scale * _stored(address + np.uint64(width * count), at[found], not wide)
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
