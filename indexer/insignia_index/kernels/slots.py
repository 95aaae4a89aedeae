"""Cells by slot: the order in which the statistics of a block's slots are taken, see `kernels.moments`."""

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
