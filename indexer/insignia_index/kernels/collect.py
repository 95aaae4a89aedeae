"""From scores to candidates and hit counts."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def sample_scores(scores, codes, first, stop, stride, out):
    """Scores of every ``stride``-th row from ``first`` that passes the filter; returns how many."""
    n = 0
    for i in range(first, stop, stride):
        if codes[i] >= 0:
            out[n] = scores[i]
            n += 1
    return n


@njit(nogil=True, cache=True)
def collect_at_least(scores, codes, first, stop, bound, rows, values):
    """Rows in [first, stop) that pass the filter and score ``bound`` or more, in row order; returns how many.

    ``rows`` int64 and ``values`` have room for one entry more than there are such rows at most.
    """
    n = 0
    for i in range(first, stop):
        # written always, kept sometimes: no branch to mispredict
        rows[n] = i
        values[n] = scores[i]
        n += (codes[i] >= 0) & (scores[i] >= bound)
    return n


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
