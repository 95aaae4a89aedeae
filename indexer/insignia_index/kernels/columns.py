"""Many signatures at once: a block's containers are expanded once, then every signature adds its columns.

A *tile* is 32 cells, of which every gene of the batch that the block has takes one *slot*, a row of float32:
a signature's score is a sum of such rows, which stay in the nearer caches while all signatures read them.
Slots are numbered by kind of container, then gene, the order in which `kernels.score` adds, and rows are
added as it adds them: the scores are the same bit for bit. A *span* is a run of tiles, whose values are
copied from the containers tile by tile: each tile is then expanded from one run of memory, not thousands.

Rows hold values times the power of two that their container says, where no weight or scale is so far from 1
that a product could underflow. A signature whose weights are all one power of two then needs no products:
its weight divides the divisor instead.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.format.layout import BITMAP, FULL, LIST
from insignia_index.kernels.containers import add_list_half
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
from insignia_index.kernels.memory import (
    fetch_add,
    popcount,
    prefetch,
    prefetch_line,
    view,
)
from insignia_index.kernels.score import SCALES, finish_block
from insignia_index.kernels.tile_rows import ROW_BYTES, add_rows, add_weighted_rows
from insignia_index.kernels.tile_words import TILE_CELLS, copy_values, expand_values, low_bits

#: Tiles whose values are sorted at a time: a container is read in runs of some hundred bytes.
SPAN_TILES = 8
SPAN_CELLS = TILE_CELLS * SPAN_TILES
#: Places behind the cells of a row of sums: the rest of a tile, and a cache line, so that rows do not all
#: begin in the same part of the cache.
SUMS_PAD = TILE_CELLS + 16
#: Between 1 / MODERATE and this, weights and scales have products that are exact.
MODERATE = 2.0**40
_ROW_BYTES = np.uint64(ROW_BYTES)
_PACKED_BYTES = np.uint64(2 * TILE_CELLS)
#: Bytes before the first packed value, which may be read.
_ROOM = np.uint64(16)
#: Of the values of a container that will soon be read: what a span holds of a common gene.
_BYTES_AHEAD = 256

#: By slot, of its container: addresses where a bitmap's masks and the values are read on, number of values.
MASKS, VALUES, LENGTH = range(3)
#: Slots between the one whose values are sorted and the one whose cache lines are asked for.
_AHEAD = 4
#: Of a signature in a block: numbers of its full columns, of its rows (these and bitmaps), and of its lists.
N_FULL, N_ROWS, N_LISTS = range(3)
#: Bytes of a list's values and of its ids that are asked for early.
_LIST_AHEAD = 128


@njit(nogil=True)
def _find_slots(row, gene_ids, entries, slot_of, containers, scales, ends):
    """Number the containers of the batch's genes in a block; returns whether all scales are moderate.

    ``slot_of`` int32 (n_genes,): the slot, -1 for none. ``containers`` uint64 (3, n_genes) and ``scales``
    float32 (n_genes,) by slot; ``ends`` int64 (3,): the first slot behind full columns, bitmaps, lists.
    ``entries`` uint64 (n_genes,) is room to work in.
    """
    directory = view(np.uint64(row[ENTRIES]), row[N_ENTRIES], np.uint64)
    for g in range(len(gene_ids)):
        index = entry_index(row, gene_ids[g])
        entries[g] = directory[index] if index >= 0 else NO_ENTRY
    n, are_moderate = 0, True
    slot_of[:] = -1
    for place, kind in enumerate((FULL, BITMAP, LIST)):
        for g in range(len(gene_ids)):
            entry = entries[g]
            if entry_kind(entry) != kind:
                continue
            address, count = np.uint64(row[PAYLOAD] + entry_offset(entry)), entry_count(entry)
            slot_of[g] = n
            containers[VALUES, n], containers[LENGTH, n] = address, np.uint64(count)
            if kind == BITMAP:
                containers[MASKS, n] = address
                containers[VALUES, n] += np.uint64((row[N_CELLS] + 31) // 32 * 4)
            scale = SCALES[entry_exponent(entry)]
            scales[n] = scale
            are_moderate &= 1 / MODERATE <= scale <= MODERATE
            n += 1
        ends[place] = n
    return are_moderate


@njit(nogil=True)
def _map_signatures(
    starts, members, weights, is_plain, slot_of, scales, ends, is_scaled,
    row_slots, row_weights, list_slots, list_weights, counts,
):  # fmt: skip
    """Slots uint16 and weights of every signature's rows and lists, each from the signature's start on.

    ``counts`` int64 (n_signatures, 3). Full columns come first among the rows, each kind in gene order.
    ``is_scaled``: whether rows will hold the values times their scale. Lists hold stored values.
    """
    for s in range(len(starts) - 1):
        n_rows, n_lists = starts[s], starts[s]
        for i in range(starts[s], starts[s + 1] if ends[0] else starts[s]):
            slot = slot_of[members[i]]
            if 0 <= slot < ends[0]:
                row_slots[n_rows], row_weights[n_rows] = slot, weights[i] * (1 if is_scaled else scales[slot])
                n_rows += 1
        counts[s, N_FULL] = n_rows - starts[s]
        for i in range(starts[s], starts[s + 1]):
            # no branch: the kinds come in no order, and the processor would guess wrong every other time.
            # What is written behind the last of a kind is not read, or overwritten by the next signature
            slot = np.int64(slot_of[members[i]])
            weight, scale = weights[i], scales[slot]
            row_slots[n_rows], list_slots[n_lists] = slot, slot
            row_weights[n_rows] = weight if is_scaled else weight * scale
            # a power of two: the product with a stored value is the product with the value itself
            list_weights[n_lists] = scale if is_scaled and is_plain[s] else weight * scale
            n_rows += np.int64(slot >= ends[0]) & np.int64(slot < ends[1])
            n_lists += np.int64(slot >= ends[1])
        counts[s, N_ROWS], counts[s, N_LISTS] = n_rows - starts[s], n_lists - starts[s]


@njit(nogil=True)
def pack_span(containers, ends, n_cells, first, masks, cursors):
    """Sort what the containers hold of cells [first, first + SPAN_CELLS) by tile, then slot.

    ``masks`` uint32 (SPAN_TILES, at least n_slots): which cells of a tile have a value. ``cursors`` uint64
    (SPAN_TILES,): where the values of a tile go, float16, one slot behind the other; they are moved on.
    """
    n_tiles = (min(SPAN_CELLS, n_cells - first) + TILE_CELLS - 1) // TILE_CELLS
    for slot in range(ends[0]):
        for tile in range(n_tiles):
            begin = first + tile * TILE_CELLS
            n = min(TILE_CELLS, n_cells - begin)
            masks[tile, slot] = low_bits(n)
            cursors[tile] = copy_values(containers[VALUES, slot] + np.uint64(2 * begin), n, cursors[tile])
    for slot in range(ends[0], ends[1]):
        following = min(slot + _AHEAD, ends[1] - 1)
        prefetch_line(containers[MASKS, following])
        prefetch(containers[VALUES, following], _BYTES_AHEAD)
        values, own = containers[VALUES, slot], view(containers[MASKS, slot], n_tiles, np.uint32)
        for tile in range(n_tiles):
            bits = own[tile]
            n = popcount(bits)
            masks[tile, slot] = bits
            cursors[tile] = copy_values(values, n, cursors[tile])
            values += np.uint64(2 * n)
        containers[VALUES, slot] = values
        containers[MASKS, slot] += np.uint64(4 * n_tiles)


@njit(nogil=True)
def expand_tile(masks, values, scales, n_slots, tile):
    """Write the rows of a tile: float32 values times the scale of their slot, zeros elsewhere."""
    for slot in range(n_slots):
        out = tile + np.uint64(slot) * _ROW_BYTES
        values = expand_values(values, masks[slot], scales[slot], out)


@njit(nogil=True)
def _add_tile(tile, starts, counts, is_plain, row_slots, row_weights, out, pitch):
    """Write the sums of a tile's rows of every signature, ``pitch`` bytes apart."""
    slots_at, weights_at = np.uint64(row_slots.ctypes.data), np.uint64(row_weights.ctypes.data)
    for s in range(len(counts)):
        slots, n_full, n_rows = slots_at + np.uint64(2 * starts[s]), counts[s, N_FULL], counts[s, N_ROWS]
        if is_plain[s]:
            add_rows(slots, n_rows, tile, out)
        else:
            weights = weights_at + np.uint64(4 * starts[s])
            add_weighted_rows(slots, weights, n_full, n_rows - n_full, tile, out)
        out += pitch


@njit(nogil=True, inline="always")
def _prefetch_list(address, count):
    prefetch(address, _LIST_AHEAD)
    prefetch(address + np.uint64(2 * count), _LIST_AHEAD)


@njit(nogil=True, error_model="numpy")
def _finish_signatures(
    containers, starts, counts, list_slots, list_weights, divisors, sums,
    order, order_starts, first, n_cells, out, statistics,
):  # fmt: skip
    """Add the lists, divide, and take the statistics of the block's slots, of every signature.

    ``sums`` float32 (n, at least n_cells), so far; writes n_cells scores of every signature from column
    ``first`` of ``out`` on, and ``statistics`` float64 (n, n_slots, 3).
    """
    for s in range(len(counts)):
        # views of addresses are contiguous, as rows of a part of an array are not to the compiler
        buffer = view(np.uint64(sums[s:].ctypes.data), n_cells, np.float32)
        # the sums of the next signature left the cache when its rows were added
        at_next = np.uint64(sums[min(s + 1, len(counts) - 1) :].ctypes.data)
        n_next = (n_cells // 16 + counts[s, N_LISTS]) // max(1, counts[s, N_LISTS])
        last = starts[s] + counts[s, N_LISTS] - 1
        for i in range(starts[s], last + 1):
            slot, following = list_slots[i], list_slots[min(i + 2, last)]
            _prefetch_list(containers[VALUES, following], np.int64(containers[LENGTH, following]))
            prefetch(at_next, 64 * n_next)
            at_next += np.uint64(64 * n_next)
            add_list_half(
                buffer, containers[VALUES, slot], np.int64(containers[LENGTH, slot]), list_weights[i]
            )
        scores = view(np.uint64(out[s:, first:].ctypes.data), n_cells, np.float32)
        finish_block(buffer, divisors[s], order, order_starts, scores, statistics[s])


@njit(nogil=True, inline="always")
def _reset(cursors, packed, n_slots):
    """Where each tile of a span has its packed values: room for TILE_CELLS of every slot."""
    first = np.uint64(packed.ctypes.data) + _ROOM
    for tile in range(SPAN_TILES):
        cursors[tile] = first + np.uint64(tile * n_slots) * _PACKED_BYTES


@njit(nogil=True, error_model="numpy")
def _plan_block(starts, weights, divisors, is_plain, is_scaled, block_plain, block_divisors):
    """Write which signatures are added without products in a block, and what their sums are divided by."""
    for s in range(len(divisors)):
        block_plain[s] = is_scaled and is_plain[s]
        block_divisors[s] = divisors[s] / (weights[starts[s]] if block_plain[s] else np.float32(1))


@njit(nogil=True, cache=True, error_model="numpy")
def score_signatures(
    table, blocks, claimed, gene_ids, starts, members, weights, divisors, is_plain, are_moderate,
    entries, slot_of, containers, scales, row_slots, row_weights, list_slots, list_weights, counts,
    block_plain, block_divisors, masks, packed, rows, sums,
    order, order_starts, slot_starts, out, statistics,
):  # fmt: skip
    """Score one block, that no other thread has claimed, with every signature of a batch (float16 values).

    ``claimed`` int64 (1,): how many of ``blocks`` (indices into ``table``) are taken. ``gene_ids`` int64
    (n_genes,): genes of the batch, ascending, checked. By signature: ``starts`` int64 (n + 1,) into
    ``members`` int32 (genes of the batch, ascending) and ``weights`` float32; ``divisors`` float32 (n,);
    ``is_plain`` bool (n,): whether its weights are one power of two. ``are_moderate``: whether the sizes of
    all weights lie between 1 / MODERATE and MODERATE. Room to work in: ``entries`` uint64, ``slot_of`` int32,
    ``scales`` float32 (n_genes,), ``containers`` uint64 (3, n_genes), ``row_slots``, ``list_slots`` uint16
    and ``row_weights``, ``list_weights`` float32 (one more than ``members``), ``counts`` int64 (n, 3),
    ``block_plain`` bool and ``block_divisors`` float32 (n,), ``masks`` uint32 (SPAN_TILES, n_genes),
    ``packed`` uint16 (SPAN_CELLS * n_genes + TILE_CELLS,), ``rows`` float32 (TILE_CELLS * n_genes + 16,),
    ``sums`` float32 (n, SUMS_PAD more than the cells of the largest block). ``order``, ``order_starts`` and
    ``slot_starts`` as for `kernels.score.score_blocks_half`.

    The containers are read where they lie in the file: by gene in a block, as they are wanted here.

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
    is_scaled = _find_slots(row, gene_ids, entries, slot_of, containers, scales, ends) and are_moderate
    _map_signatures(
        starts, members, weights, is_plain, slot_of, scales, ends, is_scaled,
        row_slots, row_weights, list_slots, list_weights, counts,
    )  # fmt: skip
    _plan_block(starts, weights, divisors, is_plain, is_scaled, block_plain, block_divisors)
    if not is_scaled:
        scales[: ends[1]] = 1
    tile = (np.uint64(rows.ctypes.data) + np.uint64(63)) // np.uint64(64) * np.uint64(64)
    sums_at, sums_pitch = np.uint64(sums.ctypes.data), np.uint64(4 * sums.shape[1])
    cursors = np.empty(SPAN_TILES, np.uint64)
    for first in range(0, n_cells, SPAN_CELLS):
        _reset(cursors, packed, ends[1])
        pack_span(containers, ends, n_cells, first, masks, cursors)
        _reset(cursors, packed, ends[1])
        for begin in range(first, min(first + SPAN_CELLS, n_cells), TILE_CELLS):
            here = (begin - first) // TILE_CELLS
            expand_tile(masks[here], cursors[here], scales, ends[1], tile)
            at_cells = sums_at + np.uint64(4 * begin)
            _add_tile(tile, starts, counts, block_plain, row_slots, row_weights, at_cells, sums_pitch)
    group_slots = slice(slot_starts[block], slot_starts[block + 1])
    _finish_signatures(
        containers, starts, counts, list_slots, list_weights, block_divisors, sums,
        order, order_starts[group_slots.start : group_slots.stop + 1],
        first_row, n_cells, out, statistics[:, group_slots],
    )  # fmt: skip
    return True
