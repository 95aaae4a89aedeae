"""From scores to candidates, the best of them and hit counts.

A cell that is filtered out has the score NaN; blocks that have no other cell are not visited.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.compare import LANES, mask_double, mask_single
from insignia_index.kernels.memory import trailing_zeros
from insignia_index.kernels.order import neighbours, nth_smallest


@njit(cache=True)  # keeps the GIL, see `kernels.gather`
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


@njit(nogil=True, inline="always")
def _collect(scores, blocks, block_starts, bound, rows, values, is_single):
    n = 0
    for block in blocks:
        i, stop = block_starts[block], block_starts[block + 1]
        at = np.uint64(scores.ctypes.data) + np.uint64(scores.itemsize * i)
        while i + LANES <= stop:
            mask = mask_single(at, bound) if is_single else mask_double(at, bound)
            while mask:
                row = i + trailing_zeros(mask)
                rows[n], values[n] = row, scores[row]
                n += 1
                mask &= np.uint16(mask - np.uint16(1))
            i += LANES
            at += np.uint64(LANES * scores.itemsize)
        while i < stop:
            if scores[i] >= bound:
                rows[n], values[n] = i, scores[i]
                n += 1
            i += 1
    return n


@njit(nogil=True, cache=True)
def collect_single(scores, blocks, block_starts, bound, rows, values):
    """Rows of the blocks that score ``bound`` or more, in row order; returns how many.

    scores float32 (n_cells of the atlas,), contiguous; ``rows`` int64 and ``values`` have room for all rows.
    """
    return _collect(scores, blocks, block_starts, bound, rows, values, True)


@njit(nogil=True, cache=True)
def collect_double(scores, blocks, block_starts, bound, rows, values):
    """As `collect_single`, for float64 scores."""
    return _collect(scores, blocks, block_starts, bound, rows, values, False)


@njit(nogil=True)
def _best(rows, values, k):
    """The k largest of ``values`` (n,) and their ``rows`` (n, ascending), best first. Ties: lower row."""
    if k == 0:
        return rows[:0].copy(), values[:0].copy()
    bound = values.dtype.type(nth_smallest(values, len(values) - k))
    n_ties = k - _n_above(values, bound)
    kept = np.empty(k, np.int64)
    n = 0
    for i in range(len(values)):
        is_tie = values[i] == bound and n_ties > 0
        n_ties -= is_tie
        if is_tie or values[i] > bound:
            kept[n] = i
            n += 1
    kept = kept[np.argsort(-values[kept], kind="mergesort")]  # stable
    return rows[kept], values[kept]


@njit(nogil=True)
def _n_above(values, bound):
    n = 0
    for value in values:
        n += value > bound
    return n


@njit(nogil=True)
def _interpolated(values, rank, share):
    """Value between rank ``rank`` and the next, as `numpy.quantile`: from the nearer end, in float64."""
    lower, upper = neighbours(values, rank)
    step = upper - lower
    return lower + step * share if share < 0.5 else upper - step * (1 - share)


@njit(nogil=True)
def _count_hits(rows, values, cutoff, n_ties, block_starts, codes, slot_starts, counts):
    """Count per slot the values above ``cutoff`` and the first ``n_ties`` that equal it; returns how many."""
    n_hits, block = 0, 0
    for i in range(len(rows)):
        value = np.float64(values[i])
        # no branch: three in four are hits, in no order, and the processor would often guess wrong
        is_tie = (value == cutoff) & (n_ties > 0)
        is_hit = (value > cutoff) | is_tie
        n_ties -= is_tie
        while rows[i] >= block_starts[block + 1]:
            block += 1
        counts[slot_starts[block] + codes[rows[i]]] += is_hit
        n_hits += is_hit
    return n_hits


@njit(nogil=True, cache=True)
def choose(rows, values, k, cutoff, rank, share, n_best, block_starts, codes, slot_starts, slot_hits):
    """Among candidates (``rows`` ascending, their ``values``): the k best, the cut-off and the hits.

    The cut-off is the value between ``rank`` (from the lowest, -1: not asked) and the next, ``share`` of the
    way; or that of the ``n_best``-th best (-1: not asked), of whose ties only so many are hits as make
    ``n_best``; or the given ``cutoff``. slot_hits int64 (n_slots,) += 1 for each hit's slot.
    Returns the cut-off, the number of hits, the rows and the values of the best.
    """
    n_ties = 0
    if rank >= 0:
        cutoff = _interpolated(values, rank, share)
    elif n_best >= 0:
        cutoff = nth_smallest(values, len(values) - n_best)
        n_ties = n_best - _n_above(values, cutoff)
    n_hits = _count_hits(rows, values, cutoff, n_ties, block_starts, codes, slot_starts, slot_hits)
    top_rows, top_values = _best(rows, values, k)
    return cutoff, n_hits, top_rows, top_values
