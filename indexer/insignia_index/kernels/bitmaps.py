"""Adding bitmap containers to a block's scores, several genes in a pass, and one by one.

With fused multiply-add, gene after gene, by every processor, so that all give the same scores.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels import shuffle
from insignia_index.kernels.expand import (
    CELLS,
    GENES,
    LANES,
    add_half,
    add_single,
    expand_half,
    expand_single,
)
from insignia_index.kernels.memory import (
    HAS_EXPAND,
    HAS_SHUFFLE,
    fma,
    half_to_float,
    memory_barrier,
    popcount,
    prefetch_line,
    trailing_zeros,
    view,
)

#: Places of a scores buffer: 65,536 cells and a vector's width, then room for a step over several bitmaps.
CELLS_END = 65_536 + 64
BUFFER_CELLS = CELLS_END + GENES * CELLS + 16

_AHEAD = np.uint64(shuffle.AHEAD_BYTES)

#: Bitmaps of a pass by shuffle: their places and values stay in the nearest cache, and so does the pass.
SHUFFLED = 16

_U2 = np.uint64(2)
_U4 = np.uint64(4)


@njit(nogil=True)
def add_bitmap(scores, address, n_cells, weight, is_half):
    """Add a bitmap container bit by bit: the plain loop, for processors without either instruction."""
    n_masks = (n_cells + 31) // 32 * 2
    masks = view(address, n_masks, np.uint16)
    values = address + np.uint64(2 * n_masks)
    n_values = 0
    for m in range(n_masks):
        bits = masks[m]
        while bits:
            i = m * 16 + trailing_zeros(bits)
            if is_half:
                value = half_to_float(view(values, n_values + 1, np.uint16)[n_values])
            else:
                value = view(values, n_values + 1, np.float32)[n_values]
            scores[i] = fma(scores.dtype.type(value), weight, scores[i])
            n_values += 1
            bits &= np.uint16(bits - np.uint16(1))


@njit(nogil=True, inline="always")
def _expand_half(masks, m, values, out):
    """Expand the values of 64 cells from mask ``m`` on to ``out``; returns the address of the next values."""
    prefetch_line(values + _AHEAD)
    bits = masks[m]
    expand_half(values, bits, out)
    values += _U2 * np.uint64(popcount(bits))
    # a block's last 64 cells may have one mask only
    bits = masks[m + 1] if m + 1 < len(masks) else np.uint32(0)
    expand_half(values, bits, out + np.uint64(64))
    return values + _U2 * np.uint64(popcount(bits))


@njit(nogil=True, inline="always")
def _expand_single(masks, m, values, out):
    """As `_expand_half`, for float32 values."""
    prefetch_line(values + _AHEAD)
    for part in range(4):
        word = masks[m + part // 2] if m + part // 2 < len(masks) else np.uint32(0)
        bits = np.uint16((word >> np.uint32(16 * (part % 2))) & np.uint32(0xFFFF))
        expand_single(values, bits, out + np.uint64(64 * part))
        values += _U4 * np.uint64(popcount(bits))
    return values


@njit(nogil=True)
def _add_expanded_half(scores, addresses, n_cells, weights):
    _add_expanded(scores, addresses, n_cells, weights, True)


@njit(nogil=True)
def _add_expanded_single(scores, addresses, n_cells, weights):
    _add_expanded(scores, addresses, n_cells, weights, False)


@njit(nogil=True, inline="always")
def _add_expanded(scores, addresses, n_cells, weights, is_half):
    n_masks = (n_cells + 31) // 32
    width = _U2 if is_half else _U4
    stride = np.uint64(CELLS) * width
    # the values are expanded to the end of the scores buffer; one variable each, to stay in registers
    end = np.uint64(scores.ctypes.data) + np.uint64(scores.itemsize * CELLS_END + 63)
    e0 = end // np.uint64(64) * np.uint64(64)
    e1, e2, e3, e4 = e0 + stride, e0 + _U2 * stride, e0 + np.uint64(3) * stride, e0 + _U4 * stride
    e5, e6, e7 = e0 + np.uint64(5) * stride, e0 + np.uint64(6) * stride, e0 + np.uint64(7) * stride
    a0, a1, a2, a3, a4, a5, a6, a7 = (
        np.uint64(addresses[0]), np.uint64(addresses[1]), np.uint64(addresses[2]), np.uint64(addresses[3]),
        np.uint64(addresses[4]), np.uint64(addresses[5]), np.uint64(addresses[6]), np.uint64(addresses[7]),
    )  # fmt: skip
    m0, m1 = view(a0, n_masks, np.uint32), view(a1, n_masks, np.uint32)
    m2, m3 = view(a2, n_masks, np.uint32), view(a3, n_masks, np.uint32)
    m4, m5 = view(a4, n_masks, np.uint32), view(a5, n_masks, np.uint32)
    m6, m7 = view(a6, n_masks, np.uint32), view(a7, n_masks, np.uint32)
    skip = np.uint64(4 * n_masks)
    v0, v1, v2, v3 = a0 + skip, a1 + skip, a2 + skip, a3 + skip
    v4, v5, v6, v7 = a4 + skip, a5 + skip, a6 + skip, a7 + skip
    w0, w1, w2, w3, w4, w5, w6, w7 = (
        weights[0], weights[1], weights[2], weights[3], weights[4], weights[5], weights[6], weights[7],
    )  # fmt: skip
    place = np.uint64(scores.ctypes.data)
    step = np.uint64(LANES * scores.itemsize)
    for m in range(0, n_masks, CELLS // 32):
        if is_half:
            v0, v1 = _expand_half(m0, m, v0, e0), _expand_half(m1, m, v1, e1)
            v2, v3 = _expand_half(m2, m, v2, e2), _expand_half(m3, m, v3, e3)
            v4, v5 = _expand_half(m4, m, v4, e4), _expand_half(m5, m, v5, e5)
            v6, v7 = _expand_half(m6, m, v6, e6), _expand_half(m7, m, v7, e7)
        else:
            v0, v1 = _expand_single(m0, m, v0, e0), _expand_single(m1, m, v1, e1)
            v2, v3 = _expand_single(m2, m, v2, e2), _expand_single(m3, m, v3, e3)
            v4, v5 = _expand_single(m4, m, v4, e4), _expand_single(m5, m, v5, e5)
            v6, v7 = _expand_single(m6, m, v6, e6), _expand_single(m7, m, v7, e7)
        # else LLVM, seeing through the buffer, takes the vectors apart and puts them together word by word
        memory_barrier()
        for part in range(CELLS // LANES):
            here = e0 + np.uint64(part * LANES) * width
            if is_half:
                add_half(place, here, w0, w1, w2, w3, w4, w5, w6, w7)
            else:
                add_single(place, here, w0, w1, w2, w3, w4, w5, w6, w7)
            place += step


@njit(nogil=True)
def add_expanded(scores, addresses, n, n_cells, weights, is_half):
    """As `add_bitmaps`, by AVX-512's expand, GENES at a time; up to a multiple they are filled up."""
    for i in range(0, n, GENES):
        # a constant in each call, so that the loops have no branch
        if is_half:
            _add_expanded_half(scores, addresses[i:], n_cells, weights[i:])
        else:
            _add_expanded_single(scores, addresses[i:], n_cells, weights[i:])


@njit(nogil=True)
def add_shuffled(scores, addresses, n, n_cells, weights, is_half):
    """As `add_bitmaps`, by a shuffle of bytes."""
    n_masks = (n_cells + 31) // 32
    end = np.uint64(scores.ctypes.data) + np.uint64(scores.itemsize * CELLS_END)
    masks, values = end, end + np.uint64(8 * SHUFFLED)
    mask_at, value_at = view(masks, SHUFFLED, np.uint64), view(values, SHUFFLED, np.uint64)
    for first in range(0, n, SHUFFLED):
        n_genes = min(SHUFFLED, n - first)
        for i in range(n_genes):
            mask_at[i] = np.uint64(addresses[first + i])
            value_at[i] = mask_at[i] + np.uint64(4 * n_masks)
        at, its_weights = np.uint64(scores.ctypes.data), np.uint64(weights[first:].ctypes.data)
        if is_half:
            for _ in range(n_masks // 2):
                shuffle.add_64_half(at, masks, values, its_weights, n_genes)
                at += np.uint64(256)
            if n_masks % 2:
                shuffle.add_32_half(at, masks, values, its_weights, n_genes)
        else:
            for _ in range(n_masks):
                shuffle.add_32_single(at, masks, values, its_weights, n_genes)
                at += np.uint64(256)


@njit(nogil=True)
def add_one_by_one(scores, addresses, n, n_cells, weights, is_half):
    """As `add_bitmaps`, with nothing but plain instructions."""
    for i in range(n):
        add_bitmap(scores, np.uint64(addresses[i]), n_cells, weights[i], is_half)


if HAS_EXPAND:

    @njit(nogil=True)
    def add_bitmaps(scores, addresses, n, n_cells, weights, is_half):
        """Add ``n`` bitmap containers, int64 (n,) addresses, times ``weights``, one after the other.

        Up to a multiple of GENES, more addresses have to follow, of empty ones.
        """
        add_expanded(scores, addresses, n, n_cells, weights, is_half)

elif HAS_SHUFFLE:
    add_bitmaps = add_shuffled
else:
    add_bitmaps = add_one_by_one
