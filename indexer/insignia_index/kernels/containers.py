"""Adding one gene's list or full column to a block's scores.

Scores buffers hold 65,536 cells and a vector's width more, so that no uint16 id, however wrong, can
point outside of them. Weights have the scores' dtype. Bitmaps: `kernels.bitmaps`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.memory import half_to_float, view


@njit(nogil=True)
def add_list(scores, address, count, weight, is_half):
    """Add a list container: values, then uint16 ids (values first keeps them aligned)."""
    if is_half:
        halves = view(address, count, np.uint16)
        ids = view(address + np.uint64(2 * count), count, np.uint16)
        for i in range(count):
            scores[ids[i]] += weight * half_to_float(halves[i])
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
