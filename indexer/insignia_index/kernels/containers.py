"""Adding one gene's postings to a block's scores: one function a container and value type.

Scores buffers hold 65,536 cells and a vector's width more, so that no uint16 id, however wrong, can
point outside of them. Weights have the scores' dtype; each product is rounded before it is added.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.expand import LANES, expand_half, expand_single
from insignia_index.kernels.memory import half_to_float, popcount, trailing_zeros, view

_U2 = np.uint64(2)
_U4 = np.uint64(4)


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


@njit(nogil=True)
def add_bitmap(scores, address, n_cells, weight, is_half):
    """Add a bitmap container bit by bit: the plain loop, for processors without expand."""
    n_masks = (n_cells + 31) // 32 * 2
    masks = view(address, n_masks, np.uint16)
    values = address + np.uint64(2 * n_masks)
    n_values = 0
    for m in range(n_masks):
        bits = masks[m]
        while bits:
            i = m * 16 + trailing_zeros(bits)
            if is_half:
                scores[i] += weight * half_to_float(view(values, n_values + 1, np.uint16)[n_values])
            else:
                scores[i] += weight * view(values, n_values + 1, np.float32)[n_values]
            n_values += 1
            bits &= np.uint16(bits - np.uint16(1))


@njit(nogil=True)
def add_bitmaps(scores, addresses, n_cells, weights, is_half):
    """Add GENES bitmap containers in one pass over the scores; same numbers as `add_bitmap` in turn."""
    n_masks = (n_cells + 31) // 32 * 2
    width = _U2 if is_half else _U4
    a0, a1, a2, a3 = (
        np.uint64(addresses[0]),
        np.uint64(addresses[1]),
        np.uint64(addresses[2]),
        np.uint64(addresses[3]),
    )
    a4, a5, a6, a7 = (
        np.uint64(addresses[4]),
        np.uint64(addresses[5]),
        np.uint64(addresses[6]),
        np.uint64(addresses[7]),
    )
    m0, m1 = view(a0, n_masks, np.uint16), view(a1, n_masks, np.uint16)
    m2, m3 = view(a2, n_masks, np.uint16), view(a3, n_masks, np.uint16)
    m4, m5 = view(a4, n_masks, np.uint16), view(a5, n_masks, np.uint16)
    m6, m7 = view(a6, n_masks, np.uint16), view(a7, n_masks, np.uint16)
    skip = np.uint64(2 * n_masks)
    v0, v1, v2, v3, v4, v5, v6, v7 = (
        a0 + skip, a1 + skip, a2 + skip, a3 + skip, a4 + skip, a5 + skip, a6 + skip, a7 + skip,
    )  # fmt: skip
    place = np.uint64(scores.ctypes.data)
    step = np.uint64(LANES * scores.itemsize)
    w0, w1, w2, w3, w4, w5, w6, w7 = (
        weights[0], weights[1], weights[2], weights[3], weights[4], weights[5], weights[6], weights[7],
    )  # fmt: skip
    for m in range((n_cells + LANES - 1) // LANES):
        b0, b1, b2, b3, b4, b5, b6, b7 = m0[m], m1[m], m2[m], m3[m], m4[m], m5[m], m6[m], m7[m]
        if is_half:
            expand_half(place, v0, v1, v2, v3, v4, v5, v6, v7,
                        b0, b1, b2, b3, b4, b5, b6, b7, w0, w1, w2, w3, w4, w5, w6, w7)  # fmt: skip
        else:
            expand_single(place, v0, v1, v2, v3, v4, v5, v6, v7,
                          b0, b1, b2, b3, b4, b5, b6, b7, w0, w1, w2, w3, w4, w5, w6, w7)  # fmt: skip
        v0 += width * np.uint64(popcount(b0))
        v1 += width * np.uint64(popcount(b1))
        v2 += width * np.uint64(popcount(b2))
        v3 += width * np.uint64(popcount(b3))
        v4 += width * np.uint64(popcount(b4))
        v5 += width * np.uint64(popcount(b5))
        v6 += width * np.uint64(popcount(b6))
        v7 += width * np.uint64(popcount(b7))
        place += step
