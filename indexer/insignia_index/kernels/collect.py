"""From scores to candidates, the best of them and hit counts.

A cell that is filtered out has the score NaN; blocks that have no other cell are not visited.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.compare import LANES, keep_between
from insignia_index.kernels.memory import value_of_key
from insignia_index.kernels.order import (
    DIGITS,
    count_digits,
    key_of_rank,
    next_key,
    nth_smallest,
    order_keys,
    sort_places,
)


@njit(nogil=True, cache=True)
def sampled_bound(scores, blocks, block_starts, stride, share, sample):
    """Score that a few more than ``share`` of all cells reach, as a sample says; -inf if it cannot say.

    Takes every ``stride``-th row of the blocks, into ``sample`` (n_rows // stride + 1,). The slack is four
    standard deviations of the binomial count, and 8.
    """
    n, skip = 0, stride // 2
    for block in blocks:
        n_rows = block_starts[block + 1] - block_starts[block]
        while skip < n_rows:
            score = scores[block_starts[block] + skip]
            if score == score:
                sample[n] = score
                n += 1
            skip += stride
        skip -= n_rows
    expected = share * n
    rank = np.int64(np.ceil(expected + 4 * np.sqrt(expected * (1 - share)) + 8))
    if rank >= n:
        return -np.inf
    return nth_smallest(sample[:n], n - rank)


@njit(nogil=True, cache=True)
def collect(scores, blocks, block_starts, bound, rows, values):
    """Rows of the blocks that score ``bound`` or more, in row order; returns how many.

    scores (n_cells of the atlas,), contiguous; ``rows`` int64 and ``values`` (of the scores' type) have room
    for all rows of the blocks and LANES more.
    """
    n, highest = 0, scores.dtype.type(np.inf)
    for block in blocks:
        first = block_starts[block]
        n = keep_between(scores, first, block_starts[block + 1], bound, highest, first, rows, values, n)
    return n


@njit(nogil=True)
def _n_above(keys, bound):
    n = 0
    for i in range(len(keys)):
        n += keys[i] > bound
    return n


@njit(nogil=True)
def _best(rows, values, keys, bound, k):
    """The k largest of ``values`` (n,) and their ``rows`` (n, ascending), best first. Ties: lower row.

    ``keys``: the values' order keys; ``bound``: that of the k-th largest.
    """
    places, kept = np.empty(len(keys) + LANES, np.int64), np.empty(len(keys) + LANES, keys.dtype)
    highest = keys.dtype.type(~keys.dtype.type(0))
    n = keep_between(keys, 0, len(keys), bound, highest, 0, places, kept, 0)
    n_ties = k - _n_above(kept[:n], bound)
    n_best = 0
    for i in range(n):
        is_tie = kept[i] == bound
        if not is_tie or n_ties > 0:
            places[n_best], kept[n_best] = places[i], kept[i]
            n_best += 1
        n_ties -= is_tie
    below, best = np.empty(k, np.uint64), np.arange(k)
    for i in range(k):
        below[i] = ~np.uint64(kept[i])
    sort_places(best, below)
    top_rows, top_values = np.empty(k, rows.dtype), np.empty(k, values.dtype)
    for i in range(k):
        place = places[best[i]]
        top_rows[i], top_values[i] = rows[place], values[place]
    return top_rows, top_values


@njit(nogil=True)
def _count_hits(rows, values, cutoff, n_ties, block_starts, codes, slot_starts, counts):
    """Count per slot the values above ``cutoff`` and the first ``n_ties`` that equal it; returns how many."""
    n_hits, i, n = 0, 0, len(rows)
    block = np.searchsorted(block_starts, rows[0], side="right") - 1 if n else 0
    while i < n:
        stop, first_slot = block_starts[block + 1], slot_starts[block]
        while i < n and rows[i] < stop:
            value = np.float64(values[i])
            # no branch: three in four are hits, in no order, and the processor would often guess wrong
            is_tie = (value == cutoff) & (n_ties > 0)
            is_hit = (value > cutoff) | is_tie
            n_ties -= is_tie
            counts[first_slot + codes[rows[i]]] += is_hit
            n_hits += is_hit
            i += 1
        block += 1
    return n_hits


@njit(nogil=True, cache=True)
def choose(rows, values, k, cutoff, rank, share, n_best, block_starts, codes, slot_starts, slot_hits):
    """Among candidates (``rows`` ascending, their ``values``): the k best, the cut-off and the hits.

    The cut-off is the value between ``rank`` (from the lowest, -1: not asked) and the next, ``share`` of the
    way, as `numpy.quantile` takes it: from the nearer end, in float64; or that of the ``n_best``-th best (-1:
    not asked), of whose ties only so many are hits as make ``n_best``; or the given ``cutoff``. slot_hits
    int64 (n_slots,) += 1 for each hit's slot. Returns the cut-off, the number of hits, the rows and the
    values of the best.
    """
    n, n_ties = len(values), 0
    if n == 0:
        return cutoff, 0, rows[:0].copy(), values[:0].copy()
    keys, counts = order_keys(values), np.empty(DIGITS, np.int32)
    low, shift = count_digits(keys, n, counts)
    if rank >= 0:
        key = key_of_rank(keys, low, shift, counts, rank)
        lower = np.float64(value_of_key(key))
        upper = np.float64(value_of_key(next_key(keys, key, rank)))
        step = upper - lower
        cutoff = lower + step * share if share < 0.5 else upper - step * (1 - share)
    elif n_best >= 0:
        key = key_of_rank(keys, low, shift, counts, n - n_best)
        cutoff = np.float64(value_of_key(key))
        n_ties = n_best - _n_above(keys, key)
    n_hits = _count_hits(rows, values, cutoff, n_ties, block_starts, codes, slot_starts, slot_hits)
    if k == 0:
        return cutoff, n_hits, rows[:0].copy(), values[:0].copy()
    top_rows, top_values = _best(rows, values, keys, key_of_rank(keys, low, shift, counts, n - k), k)
    return cutoff, n_hits, top_rows, top_values


@njit(nogil=True, cache=True)
def select_cells(
    scores, blocks, block_starts, n_cells, needed, stride, k, cutoff, position, n_best,
    codes, slot_starts, slot_hits, rows, values, sample,
):  # fmt: skip
    """Bound, candidates and choice in one call, see `sampled_bound`, `collect` and `choose`.

    ``n_cells`` pass, of whose best ``needed`` have to be seen. ``stride``: of the sample, 0 for none.
    ``cutoff``: the given one, NaN for none. ``position``: that of the cut-off among all cells that pass, from
    the lowest, -1 if it is not asked.
    """
    bound = -np.inf
    if needed == 0:
        bound = np.inf
    elif stride > 0:
        bound = sampled_bound(scores, blocks, block_starts, stride, needed / n_cells, sample)
    if cutoff < bound:
        bound = cutoff
    typed = scores.dtype.type
    n = collect(scores, blocks, block_starts, typed(bound), rows, values)
    if n < needed:
        n = collect(scores, blocks, block_starts, typed(-np.inf), rows, values)
    rank, share = -1, 0.0
    if position >= 0:
        rank, share = np.int64(position) - (n_cells - n), position - np.floor(position)
    return choose(
        rows[:n], values[:n], k, cutoff, rank, share, n_best, block_starts, codes, slot_starts, slot_hits
    )
