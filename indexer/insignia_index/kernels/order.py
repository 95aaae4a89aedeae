"""Order statistics by radix: as fast as a partition, and not slowed down by ties."""

from __future__ import annotations

import numpy as np
from numba import njit

from insignia_index.kernels.memory import order_key

_DIGIT_BITS = 11
_DIGITS = 1 << _DIGIT_BITS


@njit(nogil=True, cache=True)
def nth_smallest(values, n):
    """Value of rank ``n`` (from 0) of ``values`` (float32 or float64, no NaN), as float64."""
    # float64 keys keep the order of float32 values
    keys = np.empty(len(values), np.uint64)
    for i in range(len(values)):
        keys[i] = order_key(np.float64(values[i]))
    index = np.arange(len(values))
    n_left, shift = len(values), 64
    counts = np.empty(_DIGITS, np.int64)
    while shift > 0 and n_left > 1:
        shift = max(0, shift - _DIGIT_BITS)
        counts[:] = 0
        for i in range(n_left):
            counts[(keys[i] >> np.uint64(shift)) & np.uint64(_DIGITS - 1)] += 1
        digit = 0
        while n >= counts[digit]:
            n -= counts[digit]
            digit += 1
        if counts[digit] == n_left:
            continue
        n_kept = 0
        for i in range(n_left):
            keys[n_kept], index[n_kept] = keys[i], index[i]
            n_kept += (keys[i] >> np.uint64(shift)) & np.uint64(_DIGITS - 1) == np.uint64(digit)
        n_left = n_kept
    return np.float64(values[index[0]])


@njit(nogil=True, cache=True)
def neighbours(values, n):
    """Values of rank ``n`` and ``n + 1`` (of rank ``n`` twice if it is the last), as float64."""
    lower = nth_smallest(values, n)
    n_at_most, larger = 0, np.inf
    for value in values:
        if value <= lower:
            n_at_most += 1
        else:
            larger = min(larger, np.float64(value))
    if n_at_most > n + 1 or n + 1 >= len(values):
        return lower, lower
    return lower, larger
