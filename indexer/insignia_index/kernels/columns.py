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
    FIRST_ROW,
    N_CELLS,
    PAYLOAD,
    entry_count,
    entry_exponent,
    entry_kind,
    entry_offset,
)
from insignia_index.kernels.expand import expand_half
from insignia_index.kernels.memory import (
    HAS_EXPAND,
    fetch_add,
    fused_multiply_add,
    popcount,
    prefetch_line,
    trailing_zeros,
    view,
)
from insignia_index.kernels.score import SCALES, finish_block

#: Cells of a tile: two vectors of scores, and one cache line of float16 values.
TILE_CELLS = 32
#: Tiles that are expanded at a time: more of them read a container in longer runs, but leave the cache.
SPAN_TILES = 16
SPAN_CELLS = TILE_CELLS * SPAN_TILES
_TILE_BYTES = np.uint64(2 * TILE_CELLS)
_LANES = 16
_I32, _I64 = ir.IntType(32), ir.IntType(64)

#: Where a slot's container is read on: address of a bitmap's masks, of the values, number of a list's ids.
MASKS, VALUES, LEFT = range(3)
#: Slots between the one that is expanded and the one whose cache lines are asked for.
_AHEAD = 4


def _make_add_columns(is_fused: bool) -> Any:
    """Intrinsic ``(slots, weights, n, tile, sums)``, all but ``n`` addresses.

    Adds ``n`` weighted rows of a tile, one after the other, to the TILE_CELLS float32 at ``sums``.
    """
    row, raw_row = ir.VectorType(ir.FloatType(), _LANES), ir.VectorType(ir.HalfType(), _LANES)
    places = range(TILE_CELLS // _LANES)

    def at(builder: Any, address: Any, offset: int, kind: Any) -> Any:
        return builder.inttoptr(builder.add(address, _I64(offset)), kind.as_pointer())

    def splat(builder: Any, scalar: Any) -> Any:
        vector = builder.insert_element(ir.Constant(row, ir.Undefined), scalar, _I32(0))
        return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_I32, _LANES), None))

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        slots, weights, n, tile, sums = args
        totals = [cgutils.alloca_once(builder, row) for _ in places]
        for part, total in zip(places, totals, strict=True):
            builder.store(builder.load(at(builder, sums, 64 * part, row), align=4), total)
        with cgutils.for_range(builder, n) as loop:
            slot_place = builder.add(slots, builder.shl(loop.index, _I64(1)))
            slot = builder.zext(builder.load(at(builder, slot_place, 0, ir.IntType(16))), _I64)
            weight_place = builder.add(weights, builder.shl(loop.index, _I64(2)))
            weight = splat(builder, builder.load(at(builder, weight_place, 0, ir.FloatType())))
            values = builder.add(tile, builder.mul(slot, _I64(2 * TILE_CELLS)))
            for part, total in zip(places, totals, strict=True):
                raw = builder.load(at(builder, values, 2 * _LANES * part, raw_row), align=32)
                term, before = builder.fpext(raw, row), builder.load(total)
                if is_fused:
                    after = fused_multiply_add(builder, term, weight, before)
                else:
                    after = builder.fadd(before, builder.fmul(weight, term))
                builder.store(after, total)
        for part, total in zip(places, totals, strict=True):
            builder.store(builder.load(total), at(builder, sums, 64 * part, row), align=4)
        return context.get_dummy_value()

    def add_columns(typing_context, slots, weights, n, tile, sums):
        address = types.uint64
        return types.void(address, address, types.int64, address, address), generate

    return intrinsic(add_columns)


#: As full columns and lists are added, and as bitmaps are.
_add_columns = _make_add_columns(False)
_add_columns_fused = _make_add_columns(True)


@njit(nogil=True)
def _find_slots(row, block, entries, payloads, slot_of, containers, scales, ends):
    """Number the containers of the batch's genes in a block; returns how many there are.

    ``slot_of`` int32 (n_genes,): the slot, -1 for none. ``containers`` uint64 (n, 3) and ``scales`` float32
    (n,) by slot; ``ends`` int64 (3,): the first slot behind full columns, bitmaps, lists.
    """
    n = 0
    slot_of[:] = -1
    for place, kind in enumerate((FULL, BITMAP, LIST)):
        for g in range(len(entries)):
            entry = view(entries[g], block + 1, np.uint64)[block]
            if entry_kind(entry) != kind:
                continue
            base = payloads[g] if payloads[g] else np.uint64(row[PAYLOAD])
            address = base + np.uint64(entry_offset(entry))
            count = entry_count(entry)
            slot_of[g] = n
            containers[n, VALUES], containers[n, LEFT] = address, np.uint64(count)
            if kind == BITMAP:
                containers[n, MASKS] = address
                containers[n, VALUES] += np.uint64((row[N_CELLS] + 31) // 32 * 4)
            scales[n] = SCALES[entry_exponent(entry)]
            n += 1
        ends[place] = n
    return n


@njit(nogil=True)
def _map_signatures(starts, members, weights, slot_of, scales, ends, slots, slot_weights, cuts):
    """Slots uint16 of every signature's genes by kind, with the weights of their stored values.

    ``cuts`` int64 (n_signatures, 4): where a signature's full columns, bitmaps, lists begin, and the end.
    """
    n = 0
    for s in range(len(starts) - 1):
        n_full, n_bitmaps = 0, 0
        for i in range(starts[s], starts[s + 1]):
            slot = slot_of[members[i]]
            n_full += (slot >= 0) & (slot < ends[0])
            n_bitmaps += (slot >= ends[0]) & (slot < ends[1])
        full, bitmap, sparse = n, n + n_full, n + n_full + n_bitmaps
        cuts[s, 0], cuts[s, 1], cuts[s, 2] = full, bitmap, sparse
        for i in range(starts[s], starts[s + 1]):
            slot = slot_of[members[i]]
            if slot < 0:
                continue
            if slot < ends[0]:
                at = full
                full += 1
            elif slot < ends[1]:
                at = bitmap
                bitmap += 1
            else:
                at = sparse
                sparse += 1
            slots[at] = slot
            # a power of two: the product with a stored value is the product with the value itself
            slot_weights[at] = weights[i] * scales[slot]
        n = sparse
        cuts[s, 3] = n


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
    """Expand cells [first, first + SPAN_CELLS) of full columns and bitmaps, tiles ``pitch`` bytes apart."""
    n_tiles = min(SPAN_TILES, (n_cells - first + TILE_CELLS - 1) // TILE_CELLS)
    for slot in range(ends[1]):
        out = tiles + np.uint64(slot) * _TILE_BYTES
        if slot < ends[0]:
            column = view(containers[slot, VALUES], n_cells, np.uint16)
            for tile in range(n_tiles):
                cells = view(out + np.uint64(tile) * pitch, TILE_CELLS, np.uint16)
                begin = first + tile * TILE_CELLS
                n = min(TILE_CELLS, n_cells - begin)
                cells[:n] = column[begin : begin + n]
            continue
        following = min(slot + _AHEAD, ends[1] - 1)
        prefetch_line(containers[following, VALUES])
        prefetch_line(containers[following, MASKS])
        masks = view(containers[slot, MASKS], n_tiles, np.uint32)
        values = containers[slot, VALUES]
        for tile in range(n_tiles):
            _expand_word(values, masks[tile], out + np.uint64(tile) * pitch)
            values += np.uint64(2 * popcount(masks[tile]))
        containers[slot, VALUES] = values
        containers[slot, MASKS] += np.uint64(4 * n_tiles)


@njit(nogil=True)
def _add_tile(tile, slots, slot_weights, cuts, sums, first, n_cells, out):
    """Add the full columns and bitmaps of ``n_cells`` cells for every signature, into ``out[:, first:]``."""
    sums_at = np.uint64(sums.ctypes.data)
    slots_at, weights_at = np.uint64(slots.ctypes.data), np.uint64(slot_weights.ctypes.data)
    for s in range(len(cuts)):
        a, b, c = cuts[s, 0], cuts[s, 1], cuts[s, 2]
        sums[:] = 0
        if b > a:
            _add_columns(slots_at + np.uint64(2 * a), weights_at + np.uint64(4 * a), b - a, tile, sums_at)
        _add_columns_fused(slots_at + np.uint64(2 * b), weights_at + np.uint64(4 * b), c - b, tile, sums_at)
        target = out[s, first : first + n_cells]
        for i in range(n_cells):
            target[i] = sums[i]


@njit(nogil=True, error_model="numpy")
def _finish_signatures(
    containers, slots, slot_weights, cuts, divisors, sums, order, order_starts, scores, statistics
):
    """Add the lists, divide, and take the statistics of the block's slots, of every signature.

    ``scores`` float32 (n, n_cells), the sums so far; ``statistics`` float64 (n, n_slots, 3).
    """
    n_cells = scores.shape[1]
    for s in range(len(cuts)):
        sums[:n_cells] = scores[s]
        for i in range(cuts[s, 2], cuts[s, 3]):
            container = containers[slots[i]]
            add_list(sums, container[VALUES], np.int64(container[LEFT]), slot_weights[i], True)
        finish_block(sums, divisors[s], order, order_starts, scores[s], statistics[s])


@njit(nogil=True, cache=True, error_model="numpy")
def score_signatures(
    table, blocks, claimed, entries, payloads, starts, members, weights, divisors,
    slot_of, containers, scales, slots, slot_weights, cuts, tiles, buffer,
    order, order_starts, slot_starts, out, statistics,
):  # fmt: skip
    """Score one block, that no other thread has claimed, with every signature of a batch (float16 values).

    ``claimed`` int64 (1,): how many of ``blocks`` (indices into ``table``) are taken. By gene of the batch:
    ``entries`` and ``payloads``, as `kernels.score.score_blocks_half` has them. By signature: ``starts``
    int64 (n + 1,) into ``members`` int32 (genes of the batch, ascending) and ``weights`` float32;
    ``divisors`` float32 (n,). Room to work in: ``slot_of`` int32 (n_genes,), ``containers`` uint64
    (n_genes, 3), ``scales`` float32 (n_genes,), ``slots`` uint16 and ``slot_weights`` float32 (as
    ``members``), ``cuts`` int64 (n, 4), ``tiles`` uint16 (SPAN_CELLS * n_genes + 32,), ``buffer`` float32
    (BUFFER_CELLS,). ``order``, ``order_starts`` and ``slot_starts`` as for `score_blocks_half`.

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
    ends, sums = np.zeros(3, np.int64), np.empty(TILE_CELLS, np.float32)
    _find_slots(row, block, entries, payloads, slot_of, containers, scales, ends)
    _map_signatures(starts, members, weights, slot_of, scales, ends, slots, slot_weights, cuts)
    aligned = (np.uint64(tiles.ctypes.data) + np.uint64(63)) // np.uint64(64) * np.uint64(64)
    pitch = np.uint64(ends[1]) * _TILE_BYTES
    for first in range(0, n_cells, SPAN_CELLS):
        _expand_span(containers, ends, n_cells, first, aligned, pitch)
        for begin in range(first, min(first + SPAN_CELLS, n_cells), TILE_CELLS):
            here = aligned + np.uint64((begin - first) // TILE_CELLS) * pitch
            n = min(TILE_CELLS, n_cells - begin)
            _add_tile(here, slots, slot_weights, cuts, sums, first_row + begin, n, out)
    group_slots = slice(slot_starts[block], slot_starts[block + 1])
    _finish_signatures(
        containers, slots, slot_weights, cuts, divisors, buffer,
        order, order_starts[group_slots.start : group_slots.stop + 1],
        out[:, first_row : first_row + n_cells], statistics[:, group_slots],
    )  # fmt: skip
    return True
