"""What a gene's container holds of the TILE_CELLS cells of a tile: copied, and written as a row of float32.

Values are converted once, when they are expanded, and not once for every signature: on Intel a conversion of
16 values costs as much as three additions of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from insignia_index.kernels import shuffle
from insignia_index.kernels.memory import (
    HAS_EXPAND,
    HAS_HALF,
    HAS_SHUFFLE,
    half_to_float,
    popcount,
    trailing_zeros,
    view,
)
from insignia_index.kernels.vectors import FLOAT, HALF, I1, I16, I32, I64, call, part, place, splat

#: Cells of a tile, as many as a bitmap's mask has: two vectors of sums, and two cache lines.
TILE_CELLS = 32
#: Values of a vector.
LANES = 16
_FLOATS = ir.VectorType(FLOAT, LANES)
#: Values that a shuffle moves.
_SHUFFLED = shuffle.WIDTH // 2


def widened(builder: Any, bits: Any) -> Any:
    """Vector of float16 (as integers) as float32; without the instruction by `half_by_arithmetic`."""
    n = bits.type.count
    floats, words = ir.VectorType(FLOAT, n), ir.VectorType(I32, n)
    if HAS_HALF:
        return builder.fpext(builder.bitcast(bits, ir.VectorType(HALF, n)), floats)

    def every(kind: Any, value: float) -> Any:
        return ir.Constant(ir.VectorType(kind, n), [value] * n)

    bits = builder.zext(bits, words)
    magnitude = builder.shl(builder.and_(bits, every(I32, 0x7FFF)), every(I32, 13))
    value = builder.fmul(builder.bitcast(magnitude, floats), every(FLOAT, 2.0**112))
    sign = builder.shl(builder.and_(bits, every(I32, 0x8000)), every(I32, 16))
    return builder.bitcast(builder.or_(builder.bitcast(value, words), sign), floats)


@intrinsic
def _copy_lanes(typing_context, values, mask, out):
    """Copy LANES float16 values, those of the mask's set bits, others as zeros and without reading them."""
    halves, mask_type = ir.VectorType(I16, LANES), ir.VectorType(I1, LANES)

    def generate(context, builder, signature, args):
        values, mask, out = args
        chosen, nothing = builder.bitcast(mask, mask_type), ir.Constant(halves, None)
        arguments = [place(builder, values, 0, halves), I32(2), chosen, nothing]
        copied = call(builder, f"llvm.masked.load.v{LANES}i16.p0", halves, arguments)
        builder.store(copied, place(builder, out, 0, halves), align=2)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint16, types.uint64), generate


@intrinsic
def expand_by_lanes(typing_context, values, mask, factor, out):
    """Packed float16 values at an address, times a factor, to the set bits of 32 float32; zeros elsewhere."""
    halves, mask_type = ir.VectorType(I16, TILE_CELLS), ir.VectorType(I1, TILE_CELLS)

    def generate(context, builder, signature, args):
        values, mask, factor, out = args
        chosen, nothing = builder.bitcast(mask, mask_type), ir.Constant(halves, None)
        arguments = [place(builder, values, 0, I16), chosen, nothing]
        expanded = call(builder, f"llvm.masked.expandload.v{TILE_CELLS}i16", halves, arguments)
        factors = splat(builder, factor, LANES)
        for first in range(0, TILE_CELLS, LANES):
            term = builder.fmul(widened(builder, part(builder, expanded, first, LANES)), factors)
            builder.store(term, place(builder, out, 4 * first, _FLOATS), align=64)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint32, types.float32, types.uint64), generate


@intrinsic
def _shuffle(typing_context, end, lanes, out):
    """Write the packed float16 before ``end`` to the set bits of ``lanes``, zeros to the other of eight."""

    def generate(context, builder, signature, args):
        end, lanes, out = args
        found = shuffle.spread(builder, shuffle.controls(builder, 2), lanes, end)
        builder.store(found, place(builder, out, 0, found.type), align=2)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64), generate


@intrinsic
def _copy_16(typing_context, values, out):
    """Copy 16 bytes."""

    def generate(context, builder, signature, args):
        values, out = (place(builder, address, 0, ir.VectorType(I16, _SHUFFLED)) for address in args)
        builder.store(builder.load(values, align=2), out, align=2)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), generate


@intrinsic
def expand_by_shuffle(typing_context, values, mask, factor, out):
    """As `expand_by_lanes`, by a shuffle for every byte of the mask."""

    def generate(context, builder, signature, args):
        end, mask, factor, out = args
        table, mask = shuffle.controls(builder, 2), builder.zext(mask, I64)
        factors = splat(builder, factor, _SHUFFLED)
        for first in range(0, TILE_CELLS, _SHUFFLED):
            lanes = builder.and_(builder.lshr(mask, I64(first)), I64(255))
            end = shuffle.behind(builder, end, lanes, 2)
            found = builder.bitcast(shuffle.spread(builder, table, lanes, end), ir.VectorType(I16, _SHUFFLED))
            term = builder.fmul(widened(builder, found), factors)
            builder.store(term, place(builder, out, 4 * first, term.type), align=32)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint32, types.float32, types.uint64), generate


@njit(nogil=True, inline="always")
def low_bits(n):
    """Mask of the first ``n`` of 32 cells."""
    return np.uint32((np.uint64(1) << np.uint64(n)) - np.uint64(1))


@njit(nogil=True, inline="always")
def copy_by_lanes(values, n, out):
    """As `copy_values`, by AVX-512's loads of the lanes that are asked for."""
    # most words have few values: longer copies would nearly all lie across two cache lines
    bits = low_bits(n)
    _copy_lanes(values, np.uint16(bits), out)
    if n > LANES:
        beyond = np.uint64(2 * LANES)
        _copy_lanes(values + beyond, np.uint16(bits >> np.uint32(LANES)), out + beyond)


@njit(nogil=True, inline="always")
def copy_by_shuffle(values, n, out):
    """As `copy_values`, eight at a time; the last by a shuffle of what ends with them."""
    while n > _SHUFFLED:
        _copy_16(values, out)
        values, out, n = values + np.uint64(2 * _SHUFFLED), out + np.uint64(2 * _SHUFFLED), n - _SHUFFLED
    _shuffle(values + np.uint64(2 * n), np.uint64(low_bits(n)), out)


@njit(nogil=True, inline="always")
def copy_one_by_one(values, n, out):
    """As `copy_values`, with nothing but plain instructions."""
    source, target = view(values, n, np.uint16), view(out, n, np.uint16)
    for i in range(n):
        target[i] = source[i]


@njit(nogil=True, inline="always")
def expand_one_by_one(values, bits, scale, out):
    """As `expand_values`, with nothing but plain instructions."""
    cells, packed = view(out, TILE_CELLS, np.float32), view(values, TILE_CELLS, np.uint16)
    cells[:] = 0
    n = 0
    while bits:
        cells[trailing_zeros(bits)] = half_to_float(packed[n]) * scale
        n += 1
        bits &= np.uint32(bits - np.uint32(1))


if HAS_EXPAND:
    _copy, _expand = copy_by_lanes, expand_by_lanes
elif HAS_SHUFFLE:
    _copy, _expand = copy_by_shuffle, expand_by_shuffle
else:
    _copy, _expand = copy_one_by_one, expand_one_by_one


@njit(nogil=True, inline="always")
def copy_values(values, n, out):
    """Copy ``n`` float16, at most TILE_CELLS, from an address to another; returns the address behind them.

    Up to TILE_CELLS may be overwritten. Up to 14 bytes before the values may be read.
    """
    _copy(values, n, out)
    return out + np.uint64(2 * n)


@njit(nogil=True, inline="always")
def expand_values(values, bits, scale, out):
    """Write packed float16 times ``scale`` to the set ``bits`` (uint32) of TILE_CELLS float32, else zeros.

    ``out``: address of whole cache lines. Returns the address behind the values, before which up to 14 bytes
    may be read.
    """
    _expand(values, bits, scale, out)
    return values + np.uint64(2 * popcount(bits))
