"""From postings by gene to rows of cells, see `kernels.rows`."""

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
from insignia_index.kernels.memory import float_bits, float_to_half, trailing_zeros, view
from insignia_index.kernels.rows import LEVEL_ENDS, stored
from insignia_index.kernels.score import SCALES

#: Parts of the range of a value's bits, of which those with a level's least value are looked at closely.
_PARTS = 2_048


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
            cells[i], values[i] = ids[i], scale * stored(address, i, is_half)
        return count
    if kind == BITMAP:
        n_words = (n_cells + 31) // 32
        words = view(address, n_words, np.uint32)
        after, n = address + np.uint64(4 * n_words), 0
        for word in range(n_words):
            bits = words[word]
            while bits:
                cells[n] = 32 * word + trailing_zeros(bits)
                values[n] = scale * stored(after, n, is_half)
                n += 1
                bits &= np.uint32(bits - np.uint32(1))
        return n
    n = 0
    for i in range(n_cells):
        value = stored(address, i, is_half)
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
    """Write the rows of a block gene by gene: of each posting the gene, then the bits of the value.

    Side by side, as one unsigned number of type ``kind``, the gene in its lower half: the end of every row is
    written to in turn, and the nearer caches hold so many cache lines, not twice as many.
    """
    n_cells, width = row[N_CELLS], 8 if wide else 4
    cells, values = np.empty(n_cells, np.int64), np.empty(n_cells, np.float32)
    ends, factors = np.empty(n_cells, np.uint64), np.empty(n_cells, np.float32)
    for cell in range(n_cells):
        ends[cell] = base + np.uint64(width * starts[cell])
        factors[cell] = 1 / SCALES[exponents[cell] + 128]
    for gene in range(n_genes):
        n = _unpack(row, gene, is_half, cells, values)
        for i in range(n):
            cell = cells[i]
            bits = float_bits(values[i]) if wide else float_to_half(values[i] * factors[cell])
            view(ends[cell], 1, kind)[0] = kind(gene) | kind(kind(bits) << kind(4 * width))
            ends[cell] += np.uint64(width)


@njit(nogil=True, inline="always")
def _bounds(keys, count, ends, shift, counts, some, alike, bounds, spare):
    """Write the least key of each level, and how many keys that equal it belong to it or those before.

    ``counts`` (_PARTS,), ``some`` and ``alike`` (one more than ``keys``) are room to work in; ``shift``
    leaves of a key its part.
    """
    counts[:] = 0
    for i in range(count):
        counts[keys[i] >> shift] += 1
    lowest, n_from = _PARTS, 0
    while n_from < min(ends[len(ends) - 1], count):
        lowest -= 1
        n_from += counts[lowest]
    n = 0  # of all keys that can be a bound
    for i in range(count):
        some[n] = keys[i]
        n += (keys[i] >> shift) >= lowest
    part, n_above = _PARTS, 0  # keys of higher parts
    for level in range(len(ends)):
        bounds[level], spare[level] = 0, ends[level]
        if count <= ends[level]:
            continue
        while n_above < ends[level]:
            part -= 1
            n_above += counts[part]
        n_above -= counts[part]
        n_alike = 0
        for i in range(n):
            alike[n_alike] = some[i]
            n_alike += (some[i] >> shift) == part
        rank = ends[level] - n_above  # from the highest of the part, 1 for itself
        bounds[level] = np.sort(alike[:n_alike])[n_alike - rank]
        spare[level] = rank
        for i in range(n_alike):
            spare[level] -= alike[i] > bounds[level]
        part += 1  # a part may hold the bounds of several levels


@njit(nogil=True, inline="always")
def _level(key, bounds, spare):
    """The level of a key of a head; marks its place there as taken."""
    found = len(bounds) - 1
    for level in range(len(bounds) - 2, -1, -1):
        if not (key > bounds[level] or (key == bounds[level] and spare[level] > 0)):
            break
        found = level
    for level in range(found, len(bounds)):
        spare[level] -= key == bounds[level]
    return found


@njit(nogil=True, inline="always")
def _divide(keys, count, bound, n_equal, genes, bits, heads, tail_genes, tail_bits):
    """Write the places of keys above ``bound`` and of ``n_equal`` that equal it; the postings of others.

    Returns how many places there are. One more of each may be overwritten.
    """
    n_heads, n_tail = 0, 0
    for i in range(count):  # no branch: the processor would often guess wrong
        is_equal = (keys[i] == bound) & (n_equal > 0)
        is_head = (keys[i] > bound) | is_equal
        n_equal -= is_equal
        heads[n_heads] = i
        tail_genes[n_tail], tail_bits[n_tail] = genes[i], bits[i]
        n_heads += is_head
        n_tail += not is_head
    return n_heads


@njit(nogil=True, inline="always")
def _split(starts, base, both, kind, magnitude, shift, heads, tails):
    """Split whole rows into ``heads`` (n_cells, 2 * HEAD) and, in place, tails; write where those begin.

    ``both``: type of a gene and a value's bits side by side, each of type ``kind``.
    """
    width, n_levels = heads.itemsize, len(LEVEL_ENDS)
    longest = 0
    for cell in range(len(heads)):
        longest = max(longest, starts[cell + 1] - starts[cell])
    genes, bits, keys = np.empty(longest, kind), np.empty(longest, kind), np.empty(longest, kind)
    some, alike = np.empty(longest + 1, kind), np.empty(longest + 1, kind)
    counts = np.empty(_PARTS, np.int32)
    rear_genes, rear_bits = np.empty(longest + 1, kind), np.empty(longest + 1, kind)
    ends, bounds, spare = np.array(LEVEL_ENDS), np.empty(n_levels, kind), np.empty(n_levels, np.int64)
    places, written = np.empty(longest + 1, np.int32), np.empty(n_levels, np.int64)
    end = 0  # of the tails so far, which never reaches the row that is read
    for cell in range(len(heads)):
        tails[cell] = end
        count = starts[cell + 1] - starts[cell]
        postings = view(base + np.uint64(2 * width * starts[cell]), count, both)
        for i in range(count):
            genes[i], bits[i] = kind(postings[i]), kind(postings[i] >> both(8 * width))
            keys[i] = bits[i] & magnitude  # bits of non-negative floats order as they do
        _bounds(keys, count, ends, shift, counts, some, alike, bounds, spare)
        n_heads = _divide(
            keys, count, bounds[n_levels - 1], spare[n_levels - 1], genes, bits, places, rear_genes, rear_bits
        )
        heads[cell] = 0
        written[:] = 0
        for i in places[:n_heads]:
            level = _level(keys[i], bounds, spare)
            first = ends[level - 1] if level else 0
            at = 2 * first + written[level]
            heads[cell, at], heads[cell, at + ends[level] - first] = genes[i], bits[i]
            written[level] += 1
        n_tail = count - n_heads
        view(base + np.uint64(end), n_tail, kind)[:] = rear_genes[:n_tail]
        view(base + np.uint64(end + width * n_tail), n_tail, kind)[:] = rear_bits[:n_tail]
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
    _write_whole(row, n_genes, is_half, False, starts, exponents, base, np.uint32)
    _split(starts, base, np.uint32, np.uint16, np.uint16(0x7FFF), np.uint16(4), heads, tails)


@njit(nogil=True, cache=True)
def write_wide(row, n_genes, is_half, starts, exponents, room, heads, tails):
    """As `write_narrow`, with ``heads`` uint32."""
    base = np.uint64(room.ctypes.data)
    _write_whole(row, n_genes, is_half, True, starts, exponents, base, np.uint64)
    _split(starts, base, np.uint64, np.uint32, np.uint32(0x7FFFFFFF), np.uint32(20), heads, tails)
