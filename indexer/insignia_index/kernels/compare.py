"""Keeping those of 16 values that lie in a range, where a loop needs 16 steps, with a branch or without."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from insignia_index.kernels.memory import HAS_COMPRESS, trailing_zeros
from insignia_index.kernels.vectors import I16, I64, call, lanes, part, place, splat

LANES = 16


def _compare(builder: Any, kind: Any, address: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """The 16 values at an address, and the mask of low <= value <= high."""
    at = place(builder, address, 0, ir.VectorType(low.type, LANES))
    vector = builder.load(at, align=kind.bitwidth // 8)
    ordered = builder.fcmp_ordered if isinstance(kind, types.Float) else builder.icmp_unsigned
    at_least, at_most = (
        ordered(">=", vector, splat(builder, low, LANES)),
        ordered("<=", vector, splat(builder, high, LANES)),
    )
    return vector, builder.and_(at_least, at_most)


def _count(builder: Any, mask: Any) -> Any:
    """Number of set lanes, as int64."""
    return builder.zext(builder.ctpop(builder.bitcast(mask, ir.IntType(mask.type.count))), I64)


def _compress(builder: Any, kind: Any, vector: Any, mask: Any, address: Any) -> None:
    """Store the lanes that are set side by side, and anything behind them up to LANES in all."""
    bits = kind.bitwidth
    n = 512 // bits
    name = f"llvm.x86.avx512.mask.compress.v{n}{'f' if isinstance(kind, types.Float) else 'i'}{bits}"
    for first in range(0, LANES, n):
        some, its_mask = part(builder, vector, first, n), part(builder, mask, first, n)
        packed = call(builder, name, some.type, [some, ir.Constant(some.type, None), its_mask])
        builder.store(packed, place(builder, address, 0, some.type), align=bits // 8)
        address = builder.add(address, builder.mul(_count(builder, its_mask), I64(bits // 8)))


@intrinsic
def _mask(typing_context, values, low, high):
    """Bit i: the value i at the address ``values`` lies between low and high."""

    def generate(context, builder, signature, args):
        return builder.bitcast(_compare(builder, low, *args)[1], I16)

    return types.uint16(types.uint64, low, low), generate


@intrinsic
def _pack(typing_context, values, low, high, row, rows, kept):
    """Store which of the 16 values at an address lie between low and high, from ``row`` on, and these."""

    def generate(context, builder, signature, args):
        vector, mask = _compare(builder, low, *args[:3])
        _compress(builder, low, vector, mask, args[5])
        lane = lanes(I64, list(range(LANES)))
        _compress(builder, types.int64, builder.add(splat(builder, args[3], LANES), lane), mask, args[4])
        return _count(builder, mask)

    return types.int64(types.uint64, low, low, types.int64, types.uint64, types.uint64), generate


@njit(nogil=True)
def _address(array, i):
    return np.uint64(array.ctypes.data) + np.uint64(array.itemsize * i)


if HAS_COMPRESS:

    @njit(nogil=True, inline="always")
    def _keep_lanes(values, i, low, high, row, rows, kept, n):
        return n + _pack(_address(values, i), low, high, row, _address(rows, n), _address(kept, n))

else:

    @njit(nogil=True, inline="always")
    def _keep_lanes(values, i, low, high, row, rows, kept, n):
        mask = _mask(_address(values, i), low, high)
        while mask:
            lane = trailing_zeros(mask)
            rows[n], kept[n] = row + lane, values[i + lane]
            n += 1
            mask &= np.uint16(mask - np.uint16(1))
        return n


@njit(nogil=True)
def keep_between(values, first, stop, low, high, row, rows, kept, n):
    """Write which of ``values[first:stop]`` lie from ``low`` to ``high``, both included, behind place ``n``.

    ``values`` and ``kept`` of one type (float32, float64, uint32, uint64), as ``low`` and ``high`` are; NaN
    lies nowhere. ``rows`` int64: ``row`` is that of ``values[first]``. Both need room for LANES more than are
    kept: what lies behind is overwritten. Returns the place behind the last.
    """
    i = first
    while i + LANES <= stop:
        n = _keep_lanes(values, i, low, high, row + (i - first), rows, kept, n)
        i += LANES
    while i < stop:
        if low <= values[i] <= high:
            rows[n], kept[n] = row + (i - first), values[i]
            n += 1
        i += 1
    return n
