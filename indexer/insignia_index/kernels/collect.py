"""From scores to candidates and hit counts."""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.compare import LANES, mask_double, mask_single
from insignia_index.kernels.memory import trailing_zeros


@njit(nogil=True, cache=True)
def sample_scores(scores, codes, first, stop, stride, out):
    """Scores of every ``stride``-th row from ``first`` that passes the filter; returns how many."""
    n = 0
    for i in range(first, stop, stride):
        if codes[i] >= 0:
            out[n] = scores[i]
            n += 1
    return n


@njit(nogil=True, inline="always")
def _collect(scores, codes, first, stop, bound, rows, values, is_single):
    n, i = 0, first
    score_at = np.uint64(scores.ctypes.data) + np.uint64(scores.itemsize * first)
    code_at = np.uint64(codes.ctypes.data) + np.uint64(codes.itemsize * first)
    while i + LANES <= stop:
        mask = mask_single(score_at, code_at, bound) if is_single else mask_double(score_at, code_at, bound)
        while mask:
            row = i + trailing_zeros(mask)
            rows[n], values[n] = row, scores[row]
            n += 1
            mask &= np.uint16(mask - np.uint16(1))
        i += LANES
        score_at += np.uint64(LANES * scores.itemsize)
        code_at += np.uint64(LANES * codes.itemsize)
    while i < stop:
        if codes[i] >= 0 and scores[i] >= bound:
            rows[n], values[n] = i, scores[i]
            n += 1
        i += 1
    return n


@njit(nogil=True, cache=True)
def collect_single(scores, codes, first, stop, bound, rows, values):
    """Rows in [first, stop) that pass the filter and score ``bound`` or more, in row order; returns how many.

    scores float32, codes int32 (contiguous); ``rows`` int64 and ``values`` have room for all such rows.
    """
    return _collect(scores, codes, first, stop, bound, rows, values, True)


@njit(nogil=True, cache=True)
def collect_double(scores, codes, first, stop, bound, rows, values):
    """As `collect_single`, for float64 scores."""
    return _collect(scores, codes, first, stop, bound, rows, values, False)


@njit(nogil=True, cache=True)
def count_slots(rows, block_starts, codes, slot_starts, counts):
    """Count rows (ascending) per slot: counts (n_slots,) int64 += 1 for each row's slot."""
    block = 0
    for row in rows:
        while row >= block_starts[block + 1]:
            block += 1
        counts[slot_starts[block] + codes[row]] += 1
    return block


@njit(nogil=True, cache=True)
def count_codes(codes, n_slots):
    """Cells of each slot of one block, int64 (n_slots,)."""
    counts = np.zeros(n_slots, np.int64)
    for code in codes:
        if code >= 0:
            counts[code] += 1
    return counts
