"""Cells by slot: the order in which the statistics of a block's slots are taken."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def sort_by_slot(codes, passes, block_starts, slot_starts, order, starts):
    """Sort the cells that pass by slot, then row (a counting sort).

    codes uint16 (n_cells,): slot within the block; passes bool (n_cells,). Writes ``starts`` int64
    (n_slots + 1,): where each slot's cells begin in ``order`` uint16 (n_cells that pass,), which names
    them by their place in the block.
    """
    n = 0
    for block in range(len(block_starts) - 1):
        first, stop = block_starts[block], block_starts[block + 1]
        next_place = np.zeros(slot_starts[block + 1] - slot_starts[block], np.int64)
        for i in range(first, stop):
            if passes[i]:
                next_place[codes[i]] += 1
        for slot in range(len(next_place)):
            starts[slot_starts[block] + slot] = n
            n += next_place[slot]
            next_place[slot] = starts[slot_starts[block] + slot]
        for i in range(first, stop):
            if passes[i]:
                order[next_place[codes[i]]] = i - first
                next_place[codes[i]] += 1
    starts[len(starts) - 1] = n


@njit(nogil=True, inline="always")
def slot_statistics(scores, order, first, stop):
    """Sum, sum of squares and maximum (float64) of the scores of the cells ``order[first:stop]``.

    Four of each: one alone would wait for its last addition at every cell. The order of summation is that of
    the cells, so that the result depends on nothing else.
    """
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    q0, q1, q2, q3 = 0.0, 0.0, 0.0, 0.0
    m0, m1, m2, m3 = -np.inf, -np.inf, -np.inf, -np.inf
    i = first
    while i + 4 <= stop:
        x0, x1 = np.float64(scores[order[i]]), np.float64(scores[order[i + 1]])
        x2, x3 = np.float64(scores[order[i + 2]]), np.float64(scores[order[i + 3]])
        s0, s1, s2, s3 = s0 + x0, s1 + x1, s2 + x2, s3 + x3
        q0, q1, q2, q3 = q0 + x0 * x0, q1 + x1 * x1, q2 + x2 * x2, q3 + x3 * x3
        m0, m1 = (x0 if x0 > m0 else m0), (x1 if x1 > m1 else m1)
        m2, m3 = (x2 if x2 > m2 else m2), (x3 if x3 > m3 else m3)
        i += 4
    while i < stop:
        x0 = np.float64(scores[order[i]])
        s0, q0, m0 = s0 + x0, q0 + x0 * x0, (x0 if x0 > m0 else m0)
        i += 1
    m0, m2 = (m1 if m1 > m0 else m0), (m3 if m3 > m2 else m2)
    return (s0 + s1) + (s2 + s3), (q0 + q1) + (q2 + q3), (m2 if m2 > m0 else m0)
