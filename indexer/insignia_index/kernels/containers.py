"""Adding one gene's list or full column to a block's scores.

Scores buffers hold 65,536 cells and a vector's width more, so that no uint16 id, however wrong, can
point outside of them. Weights have the scores' dtype. Bitmaps: `kernels.bitmaps`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.memory import half_to_float, view
from insignia_index.kernels.tile_rows import LIST_STEP, add_postings


@njit(nogil=True, inline="always")
def add_list_half(scores, address, count, weight):
    """Add a list of float16 values, as `add_list` does: LIST_STEP of them are converted at once."""
    at_scores, at_ids = np.uint64(scores.ctypes.data), address + np.uint64(2 * count)
    n = count // LIST_STEP * LIST_STEP
    for i in range(0, n, LIST_STEP):
        offset = np.uint64(2 * i)
        add_postings(address + offset, at_ids + offset, weight, at_scores)
    halves, ids = view(address, count, np.uint16), view(at_ids, count, np.uint16)
    for i in range(n, count):
        scores[ids[i]] += weight * half_to_float(halves[i])


@njit(nogil=True)
def add_list(scores, address, count, weight, is_half):
    """Add a list container: values, then uint16 ids (values first keeps them aligned)."""
    if is_half:
        add_list_half(scores, address, count, weight)
    else:
        singles = view(address, count, np.float32)
        ids = view(address + np.uint64(4 * count), count, np.uint16)
        for i in range(count):
            scores[ids[i]] += weight * singles[i]


@njit(nogil=True)
def add_full(scores, address, n_cells, weight, is_half):
    """Add a full column: one value a cell, zeros included."""
    if is_half:
        halves = view(address, n_cells, np.uint16)
        for i in range(n_cells):
            scores[i] += weight * half_to_float(halves[i])
    else:
        singles = view(address, n_cells, np.float32)
        for i in range(n_cells):
            scores[i] += weight * singles[i]
