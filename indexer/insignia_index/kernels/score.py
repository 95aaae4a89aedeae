"""Scores of all cells of a run of blocks, and the first statistics of their groups, in one pass.

Everything that a kernel dereferences was checked when the shard was opened, or by `kernels.check` when
the gene was first asked for.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.format.layout import BITMAP, FULL, LIST
from insignia_index.kernels.bitmaps import add_bitmaps
from insignia_index.kernels.containers import add_full, add_list
from insignia_index.kernels.directory import (
    FIRST_ROW,
    N_CELLS,
    NO_KIND,
    PAYLOAD,
    entry_count,
    entry_exponent,
    entry_kind,
    entry_offset,
)
from insignia_index.kernels.expand import GENES
from insignia_index.kernels.memory import fetch_add, load_counter, prefetch, view
from insignia_index.kernels.moments import moments

#: 2**-exponent for each exponent + 128 of a directory entry.
SCALES = 2.0 ** -(np.arange(256.0) - 128)

#: Of a container of the next block: what is read before the containers' own prefetching has an effect.
PREFETCH_BYTES = 512

#: Columns of the statistics of a slot (the part of a replicate unit that lies in one block).
SUM, SUM_OF_SQUARES, MAXIMUM = range(3)


@njit(nogil=True)
def _find_containers(row, block, entries, payloads, weights, no_bits, found, found_weights):
    """Sort a block's containers of the genes by kind, and prefetch their beginnings.

    ``entries`` and ``payloads`` (n_genes,): see `score_blocks_half`. ``found`` int64 (3, n_genes + GENES, 2):
    address and count by kind; ``found_weights`` (3, n_genes + GENES).
    Returns the number of lists, bitmaps and full columns. Bitmaps are filled up to a multiple of GENES with
    empty ones at ``no_bits``, which add 0.
    """
    n_lists, n_bitmaps, n_full = 0, 0, 0
    for g in range(len(entries)):
        entry = view(entries[g], block + 1, np.uint64)[block]
        kind = entry_kind(entry)
        if kind == NO_KIND:
            continue
        address = (np.int64(payloads[g]) if payloads[g] else row[PAYLOAD]) + entry_offset(entry)
        count = entry_count(entry)
        if kind == LIST:
            at = n_lists
            n_lists += 1
        elif kind == BITMAP:
            at = n_bitmaps
            n_bitmaps += 1
        else:
            at = n_full
            n_full += 1
        found[kind, at, 0], found[kind, at, 1] = address, count
        # a power of two: the product with a stored value is the product with the value itself
        found_weights[kind, at] = weights[g] * SCALES[entry_exponent(entry)]
        prefetch(np.uint64(address), min(PREFETCH_BYTES, row[N_CELLS] // 8 + 2 * count))
    for at in range(n_bitmaps, (n_bitmaps + GENES - 1) // GENES * GENES):
        found[BITMAP, at, 0], found_weights[BITMAP, at] = np.int64(no_bits), 0
    return n_lists, n_bitmaps, n_full


@njit(nogil=True)
def _add_block(row, counts, found, found_weights, scores, is_half):
    """Add the sorted containers: full columns, then bitmaps, then lists, each in gene order."""
    n_lists, n_bitmaps, n_full = counts
    n_cells = row[N_CELLS]
    for i in range(n_full):
        add_full(scores, np.uint64(found[FULL, i, 0]), n_cells, found_weights[FULL, i], is_half)
    add_bitmaps(scores, found[BITMAP, :, 0], n_bitmaps, n_cells, found_weights[BITMAP], is_half)
    for i in range(n_lists):
        address, count = np.uint64(found[LIST, i, 0]), found[LIST, i, 1]
        add_list(scores, address, count, found_weights[LIST, i], is_half)


@njit(nogil=True, error_model="numpy", inline="always")
def finish_block(sums, divisor, order, order_starts, scores, statistics):
    """Divide the sums into the block's scores (n_cells,), and take the statistics of its slots.

    ``order_starts`` (n_slots + 1,) into ``order``: the cells of each slot. A cell that is in none is filtered
    out: its score is NaN, which no comparison selects.
    """
    if order_starts[-1] - order_starts[0] == len(scores):
        for i in range(len(scores)):
            scores[i] = sums[i] / divisor
    else:
        scores[:] = np.nan
        for i in range(order_starts[0], order_starts[-1]):
            scores[order[i]] = sums[order[i]] / divisor
    for slot in range(len(statistics)):
        total, squares, maximum = moments(scores, order, order_starts[slot], order_starts[slot + 1])
        statistics[slot, SUM], statistics[slot, SUM_OF_SQUARES] = total, squares
        statistics[slot, MAXIMUM] = maximum


@njit(nogil=True, error_model="numpy", inline="always")  # Python's checks each division, so it stays scalar
def _score_blocks(
    table, blocks, progress, run, enough, polls, entries, payloads, weights, divisor, buffer,
    found, found_weights, no_bits, out, order, order_starts, slot_starts, statistics, is_half,
):  # fmt: skip
    claimed = np.uint64(progress.ctypes.data)
    scored = claimed + np.uint64(8)
    n_done, side, counts = 0, 0, (0, 0, 0)
    current, at, end = -1, 0, 0
    while True:
        if at == end and n_done < enough:
            at = fetch_add(claimed, run)
            end = min(at + run, len(blocks))
        following = blocks[at] if at < end else -1
        at += following >= 0
        # the containers of the next block are asked for while this one is worked on
        ready = counts
        if following >= 0:
            side = 1 - side
            counts = _find_containers(
                table[following], following, entries, payloads, weights, no_bits,
                found[side], found_weights[side],
            )  # fmt: skip
        if current >= 0:
            row, its = table[current], (1 - side if following >= 0 else side)
            _add_block(row, ready, found[its], found_weights[its], buffer, is_half)
            n_cells, first = row[N_CELLS], row[FIRST_ROW]
            slots = slice(slot_starts[current], slot_starts[current + 1])
            starts = order_starts[slots.start : slots.stop + 1]
            finish_block(buffer, divisor, order, starts, out[first : first + n_cells], statistics[slots])
            buffer[: n_cells + 64] = 0
            n_done += n_cells
            fetch_add(scored, 1)
        if following < 0:
            if n_done >= enough:
                return True
            while polls > 0 and load_counter(scored) < len(blocks):
                polls -= 1
            return False
        current = following


# Two entry points rather than a flag: the compiler drops the other value type's branches from the loops.


@njit(nogil=True, cache=True, error_model="numpy")
def score_blocks_half(
    table, blocks, progress, run, enough, polls, entries, payloads, weights, divisor, buffer,
    found, found_weights, no_bits, out, order, order_starts, slot_starts, statistics,
):  # fmt: skip
    """Score blocks of the list ``blocks`` (indices into ``table``) that no other thread has claimed.

    ``progress`` int64 (2,): how many of the list are taken, and how many are scored; threads that share it
    share the work, ``run`` blocks at a time. Returns after some ``enough`` cells (True), or when no block is
    left (False); then it looks up to ``polls`` times whether the others' last blocks are scored too.
    By gene, in gene order: ``entries`` uint64 (n,), the address of its entries by block; ``payloads`` uint64
    (n,), the address that their offsets count from, 0 for the payload of the block; ``weights`` (n,).
    ``divisor`` turns the sum into the aggregate. ``buffer`` (BUFFER_CELLS,) must come in as zeros and is left
    so. ``found`` int64 (2, 3, n + GENES, 2) and ``found_weights`` (2, 3, n + GENES) are room to work in;
    ``no_bits``: address of an empty bitmap. ``order`` uint16 and ``order_starts`` int64 (n_slots + 1,): the
    cells of every slot, as `sort_by_slot` writes them.

    Writes each cell's score at its row of ``out`` (n_cells of the atlas,), NaN if it is filtered out, and the
    statistics of its block's slots (rows slot_starts[b]:slot_starts[b + 1] of ``statistics``; a slot without
    cells: 0, 0, -inf).
    """
    return _score_blocks(
        table, blocks, progress, run, enough, polls, entries, payloads, weights, divisor, buffer,
        found, found_weights, no_bits, out, order, order_starts, slot_starts, statistics, True,
    )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy")
def score_blocks_single(
    table, blocks, progress, run, enough, polls, entries, payloads, weights, divisor, buffer,
    found, found_weights, no_bits, out, order, order_starts, slot_starts, statistics,
):  # fmt: skip
    """As `score_blocks_half`, for float32 values and float64 scores."""
    return _score_blocks(
        table, blocks, progress, run, enough, polls, entries, payloads, weights, divisor, buffer,
        found, found_weights, no_bits, out, order, order_starts, slot_starts, statistics, False,
    )  # fmt: skip
