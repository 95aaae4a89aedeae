"""Many signatures at once: a block's containers are expanded once, then every signature adds its columns.

A *span* is a run of SPAN_TILES tiles, a *tile* 32 cells. Of each, every gene of the batch that the block has
takes one *slot*, 32 float16 values in a row: a signature's score is then a sum of such rows, which stay in
the nearer caches while all signatures read them. Slots are numbered by kind of container, then gene, the
order in which `kernels.score` adds, and rows are added as it adds them: the scores are the same bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from insignia_index.format.layout import BITMAP, FULL, LIST
from insignia_index.kernels.containers import add_list
from insignia_index.kernels.directory import (
    ENTRIES,
    FIRST_ROW,
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
from insignia_index.kernels.expand import expand_half
from insignia_index.kernels.memory import (
    HAS_EXPAND,
    HAS_HALF,
    fetch_add,
    fused_multiply_add,
    popcount,
    prefetch,
    prefetch_line,
    trailing_zeros,
    view,
)
from insignia_index.kernels.score import SCALES, finish_block

#: Cells of a tile: two vectors of scores, and one cache line of float16 values.
TILE_CELLS = 32
#: Tiles that are expanded at a time: more of them read a container in longer runs, but leave the cache.
SPAN_TILES = 8
SPAN_CELLS = TILE_CELLS * SPAN_TILES
#: Places behind the cells of a row of sums: the rest of a tile, and a cache line, so that rows do not all
#: begin in the same part of the cache.
SUMS_PAD = TILE_CELLS + 16
_TILE_BYTES = np.uint64(2 * TILE_CELLS)
_LANES = 16
_I32, _I64 = ir.IntType(32), ir.IntType(64)

#: Of a slot's container: addresses where a bitmap's masks and the values are read on, number of values.
MASKS, VALUES, LENGTH = range(3)
#: Slots between the one that is expanded and the one whose cache lines are asked for.
_AHEAD = 4


def _widened(builder: Any, halves: Any, row: Any) -> Any:
    """Vector of float16 as float32; where there is no instruction for it, by `half_by_arithmetic`."""
    if HAS_HALF:
        return builder.fpext(halves, row)
    n = row.count
    words = ir.VectorType(_I32, n)

    def every(kind: Any, value: float) -> Any:
        return ir.Constant(ir.VectorType(kind, n), [value] * n)

    bits = builder.zext(builder.bitcast(halves, ir.VectorType(ir.IntType(16), n)), words)
    magnitude = builder.shl(builder.and_(bits, every(_I32, 0x7FFF)), every(_I32, 13))
    value = builder.fmul(builder.bitcast(magnitude, row), every(ir.FloatType(), 2.0**112))
    sign = builder.shl(builder.and_(bits, every(_I32, 0x8000)), every(_I32, 16))
    return builder.bitcast(builder.or_(builder.bitcast(value, words), sign), row)


def _make_add_rows() -> Any:
    """Intrinsic ``(slots, weights, n_full, n_bitmaps, tile, out)``, all but the numbers addresses.

    Writes the sum of weighted rows of a tile, one after the other, as TILE_CELLS float32 to ``out``. Rows of
    bitmaps are added by fused multiply-add, full columns by a product and an addition.
    """
    row, raw_row = ir.VectorType(ir.FloatType(), _LANES), ir.VectorType(ir.HalfType(), _LANES)
    places = range(TILE_CELLS // _LANES)

    def at(builder: Any, address: Any, offset: int, kind: Any) -> Any:
        return builder.inttoptr(builder.add(address, _I64(offset)), kind.as_pointer())

    def splat(builder: Any, scalar: Any) -> Any:
        vector = builder.insert_element(ir.Constant(row, ir.Undefined), scalar, _I32(0))
        return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_I32, _LANES), None))

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        slots, weights, *numbers, tile, out = args
        totals = [cgutils.alloca_once_value(builder, ir.Constant(row, None)) for _ in places]
        begin = _I64(0)
        for number, is_fused in zip(numbers, (False, True), strict=True):
            end = builder.add(begin, number)
            with cgutils.for_range(builder, end, start=begin) as loop:
                slot_place = builder.add(slots, builder.shl(loop.index, _I64(1)))
                slot = builder.zext(builder.load(at(builder, slot_place, 0, ir.IntType(16))), _I64)
                weight_place = builder.add(weights, builder.shl(loop.index, _I64(2)))
                weight = splat(builder, builder.load(at(builder, weight_place, 0, ir.FloatType())))
                values = builder.add(tile, builder.mul(slot, _I64(2 * TILE_CELLS)))
                for part, total in zip(places, totals, strict=True):
                    raw = builder.load(at(builder, values, 2 * _LANES * part, raw_row), align=32)
                    term, before = _widened(builder, raw, row), builder.load(total)
                    if is_fused:
                        after = fused_multiply_add(builder, term, weight, before)
                    else:
                        after = builder.fadd(before, builder.fmul(weight, term))
                    builder.store(after, total)
            begin = end
        for part, total in zip(places, totals, strict=True):
            builder.store(builder.load(total), at(builder, out, 64 * part, row), align=4)
        return context.get_dummy_value()

    def add_rows(typing_context, slots, weights, n_full, n_bitmaps, tile, out):
        address, number = types.uint64, types.int64
        return types.void(address, address, number, number, address, address), generate

    return intrinsic(add_rows)


_add_rows = _make_add_rows()


@njit(nogil=True)
def _find_slots(row, gene_ids, entries, slot_of, containers, scales, ends):
    """Number the containers of the batch's genes in a block.

    ``slot_of`` int32 (n_genes,): the slot, -1 for none. ``containers`` uint64 (n_genes, 3) and ``scales``
    float32 (n_genes,) by slot; ``ends`` int64 (3,): the first slot behind full columns, bitmaps, lists.
    ``entries`` uint64 (n_genes,) is room to work in.
    """
    directory = view(np.uint64(row[ENTRIES]), row[N_ENTRIES], np.uint64)
    for g in range(len(gene_ids)):
        index = entry_index(row, gene_ids[g])
        entries[g] = directory[index] if index >= 0 else NO_ENTRY
    n = 0
    slot_of[:] = -1
    for place, kind in enumerate((FULL, BITMAP, LIST)):
        for g in range(len(gene_ids)):
            entry = entries[g]
            if entry_kind(entry) != kind:
                continue
            address, count = np.uint64(row[PAYLOAD] + entry_offset(entry)), entry_count(entry)
            slot_of[g] = n
            containers[n, VALUES], containers[n, LENGTH] = address, np.uint64(count)
            if kind == BITMAP:
                containers[n, MASKS] = address
                containers[n, VALUES] += np.uint64((row[N_CELLS] + 31) // 32 * 4)
            scales[n] = SCALES[entry_exponent(entry)]
            n += 1
        ends[place] = n


@njit(nogil=True)
def _map_signatures(starts, members, weights, slot_of, scales, ends, slots, slot_weights, cuts):
    """Slots uint16 of every signature's genes by kind, with the weights of their stored values.

    ``cuts`` int64 (n_signatures, 4): where a signature's slots of each kind begin, and the end.
    """
    n, counts = 0, np.empty(3, np.int64)
    for s in range(len(starts) - 1):
        counts[:] = 0
        for i in range(starts[s], starts[s + 1]):
            slot = slot_of[members[i]]
            if slot >= 0:
                counts[_kind_of_slot(slot, ends)] += 1
        cuts[s, 0] = n
        for place in range(3):
            cuts[s, place + 1] = cuts[s, place] + counts[place]
            counts[place] = cuts[s, place]
        for i in range(starts[s], starts[s + 1]):
            slot = slot_of[members[i]]
            if slot < 0:
                continue
            place = _kind_of_slot(slot, ends)
            slots[counts[place]] = slot
            # a power of two: the product with a stored value is the product with the value itself
            slot_weights[counts[place]] = weights[i] * scales[slot]
            counts[place] += 1
        n = cuts[s, 3]


@njit(nogil=True, inline="always")
def _kind_of_slot(slot, ends):
    return np.int64(slot >= ends[0]) + np.int64(slot >= ends[1])


@njit(nogil=True, inline="always")
def _expand_word(values, bits, out):
    """Expand packed float16 values to the set bits of 32 cells, zeros elsewhere."""
    if HAS_EXPAND:
        expand_half(values, bits, out)
    else:
        cells, packed = view(out, TILE_CELLS, np.uint16), view(values, TILE_CELLS, np.uint16)
        cells[:] = 0
        n = 0
        while bits:
            cells[trailing_zeros(bits)] = packed[n]
            n += 1
            bits &= np.uint32(bits - np.uint32(1))


@njit(nogil=True)
def _expand_span(containers, ends, n_cells, first, tiles, pitch):
    """Expand cells [first, first + SPAN_CELLS) of full columns and bitmaps; tiles: ``pitch`` bytes apart."""
    n_tiles = min(SPAN_TILES, (n_cells - first + TILE_CELLS - 1) // TILE_CELLS)
    for slot in range(ends[1]):
        out = tiles + np.uint64(slot) * _TILE_BYTES
        if slot < ends[0]:
            _expand_full(containers[slot], first, n_cells, n_tiles, out, pitch)
            continue
        following = min(slot + _AHEAD, ends[1] - 1)
        prefetch_line(containers[following, VALUES])
        prefetch_line(containers[following, MASKS])
        _expand_bitmap(containers[slot], n_tiles, out, pitch)


@njit(nogil=True, inline="always")
def _expand_full(container, first, n_cells, n_tiles, out, pitch):
    column = view(container[VALUES], n_cells, np.uint16)
    for tile in range(n_tiles):
        cells = view(out + np.uint64(tile) * pitch, TILE_CELLS, np.uint16)
        begin = first + tile * TILE_CELLS
        n = min(TILE_CELLS, n_cells - begin)
        cells[:n] = column[begin : begin + n]


@njit(nogil=True, inline="always")
def _expand_bitmap(container, n_tiles, out, pitch):
    """Read on where the last span ended."""
    masks, values = view(container[MASKS], n_tiles, np.uint32), container[VALUES]
    for tile in range(n_tiles):
        _expand_word(values, masks[tile], out + np.uint64(tile) * pitch)
        values += np.uint64(2 * popcount(masks[tile]))
    container[VALUES] = values
    container[MASKS] += np.uint64(4 * n_tiles)


@njit(nogil=True)
def _add_tile(tile, slots, slot_weights, cuts, out, pitch):
    """Write the sums of a tile's full columns and bitmaps of every signature, ``pitch`` bytes apart."""
    slots_at, weights_at = np.uint64(slots.ctypes.data), np.uint64(slot_weights.ctypes.data)
    for s in range(len(cuts)):
        begin, n_full, n_bitmaps = np.uint64(cuts[s, 0]), cuts[s, 1] - cuts[s, 0], cuts[s, 2] - cuts[s, 1]
        places, weights = slots_at + np.uint64(2) * begin, weights_at + np.uint64(4) * begin
        _add_rows(places, weights, n_full, n_bitmaps, tile, out)
        out += pitch


@njit(nogil=True, error_model="numpy")
def _finish_signatures(
    containers,
    slots,
    slot_weights,
    cuts,
    divisors,
    sums,
    order,
    order_starts,
    first,
    n_cells,
    out,
    statistics,
):
    """Add the lists, divide, and take the statistics of the block's slots, of every signature.

    ``sums`` float32 (n, at least n_cells), so far; writes n_cells scores of every signature from column
    ``first`` of ``out`` on, and ``statistics`` float64 (n, n_slots, 3).
    """
    for s in range(len(cuts)):
        # views of addresses are contiguous, as rows of a part of an array are not to the compiler
        buffer = view(np.uint64(sums[s:].ctypes.data), n_cells, np.float32)
        for i in range(cuts[s, 2], cuts[s, 3]):
            following = containers[slots[min(i + 2, cuts[s, 3] - 1)]]
            prefetch(following[VALUES], 128)
            prefetch(following[VALUES] + np.uint64(2) * following[LENGTH], 128)
            container = containers[slots[i]]
            add_list(buffer, container[VALUES], np.int64(container[LENGTH]), slot_weights[i], True)
        scores = view(np.uint64(out[s:, first:].ctypes.data), n_cells, np.float32)
        finish_block(buffer, divisors[s], order, order_starts, scores, statistics[s])


@njit(nogil=True, cache=True, error_model="numpy")
def score_signatures(
    table, blocks, claimed, gene_ids, starts, members, weights, divisors,
    entries, slot_of, containers, scales, slots, slot_weights, cuts, tiles, sums,
    order, order_starts, slot_starts, out, statistics,
):  # fmt: skip
    """Score one block, that no other thread has claimed, with every signature of a batch (float16 values).

    ``claimed`` int64 (1,): how many of ``blocks`` (indices into ``table``) are taken. ``gene_ids`` int64
    (n_genes,): genes of the batch, ascending, checked. By signature: ``starts`` int64 (n + 1,) into
    ``members`` int32 (genes of the batch, ascending) and ``weights`` float32; ``divisors`` float32 (n,). Room
    to work in: ``entries`` uint64, ``slot_of`` int32, ``scales`` float32 (n_genes,), ``containers`` uint64
    (n_genes, 3), ``slots`` uint16 and ``slot_weights`` float32 (as ``members``), ``cuts`` int64 (n, 4),
    ``tiles`` uint16 (SPAN_CELLS * n_genes + 32,), ``sums`` float32 (n, SUMS_PAD more than the cells of the
    largest block). ``order``, ``order_starts`` and ``slot_starts`` as for `kernels.score.score_blocks_half`.

    The containers are read where they lie in the file: by gene within a block, in the order in which they
    are wanted here.

    Writes the scores of the block's cells to their rows of ``out`` float32 (n, n_cells of the atlas) and the
    statistics of its slots to ``statistics`` float64 (n, n_slots of the grouping, 3). Returns whether there
    was a block left to claim.
    """
    at = fetch_add(np.uint64(claimed.ctypes.data), 1)
    if at >= len(blocks):
        return False
    block = blocks[at]
    row = table[block]
    n_cells, first_row = row[N_CELLS], row[FIRST_ROW]
    ends = np.zeros(3, np.int64)
    _find_slots(row, gene_ids, entries, slot_of, containers, scales, ends)
    _map_signatures(starts, members, weights, slot_of, scales, ends, slots, slot_weights, cuts)
    aligned = (np.uint64(tiles.ctypes.data) + np.uint64(63)) // np.uint64(64) * np.uint64(64)
    pitch = np.uint64(ends[1]) * _TILE_BYTES
    sums_at, sums_pitch = np.uint64(sums.ctypes.data), np.uint64(4 * sums.shape[1])
    for first in range(0, n_cells, SPAN_CELLS):
        _expand_span(containers, ends, n_cells, first, aligned, pitch)
        for begin in range(first, min(first + SPAN_CELLS, n_cells), TILE_CELLS):
            here = aligned + np.uint64((begin - first) // TILE_CELLS) * pitch
            _add_tile(here, slots, slot_weights, cuts, sums_at + np.uint64(4 * begin), sums_pitch)
    group_slots = slice(slot_starts[block], slot_starts[block + 1])
    _finish_signatures(
        containers, slots, slot_weights, cuts, divisors, sums,
        order, order_starts[group_slots.start : group_slots.stop + 1],
        first_row, n_cells, out, statistics[:, group_slots],
    )  # fmt: skip
    return True
