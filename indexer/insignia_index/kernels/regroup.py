"""Statistics of slots from scores that are there: for a grouping other than the one that was scored by."""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.moments import moments
from insignia_index.kernels.score import MAXIMUM, SUM, SUM_OF_SQUARES


@njit(nogil=True, cache=True)
def slot_totals(
    scores, block_starts, slot_starts, order, order_starts, cutoff, last_tie, statistics, slot_hits
):
    """Write sum, sum of squares and maximum (n_slots, 3) and hits int64 (n_slots,) of every slot.

    scores (n_cells of the atlas,), contiguous; ``order`` and ``order_starts``: the cells of every slot by
    their place in the block. A hit scores above ``cutoff``, or as much in a row up to ``last_tie``.
    """
    for block in range(len(block_starts) - 1):
        first = block_starts[block]
        of_block = scores[first : block_starts[block + 1]]
        for slot in range(slot_starts[block], slot_starts[block + 1]):
            start, stop = order_starts[slot], order_starts[slot + 1]
            total, squares, largest = moments(of_block, order, start, stop)
            statistics[slot, SUM] = total
            statistics[slot, SUM_OF_SQUARES] = squares
            statistics[slot, MAXIMUM] = largest
            n_hits = 0
            for i in range(start, stop):
                value = np.float64(of_block[order[i]])
                n_hits += (value > cutoff) | ((value == cutoff) & (first + order[i] <= last_tie))
            slot_hits[slot] = n_hits
