"""Rows of a tile: writing a gene's cells as float32, and adding the rows of a signature.

A row is TILE_CELLS values in whole cache lines. They are converted once, when they are expanded, and not once
for every signature: on Intel a conversion of 16 values costs as much as three additions of them.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from insignia_index.kernels.memory import HAS_HALF
from insignia_index.kernels.vectors import (
    FLOAT,
    HALF,
    I1,
    I16,
    I32,
    I64,
    call,
    fused_multiply_add,
    part,
    place,
    splat,
)

#: Cells of a tile, as many as a bitmap's mask has: two vectors of sums, and two cache lines.
TILE_CELLS = 32
ROW_BYTES = 4 * TILE_CELLS

#: Values of a vector.
LANES = 16
#: Postings of a list that are added in a step: more would need more registers.
LIST_STEP = 8
_FLOATS = ir.VectorType(FLOAT, LANES)


def _widened(builder: Any, bits: Any) -> Any:
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
def copy_halves(typing_context, values, mask, out):
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
def expand_word(typing_context, values, mask, factor, out):
    """Packed float16 values at an address, times a factor, to the set bits of 32 float32; zeros elsewhere."""
    halves, mask_type = ir.VectorType(I16, TILE_CELLS), ir.VectorType(I1, TILE_CELLS)

    def generate(context, builder, signature, args):
        values, mask, factor, out = args
        chosen, nothing = builder.bitcast(mask, mask_type), ir.Constant(halves, None)
        arguments = [place(builder, values, 0, I16), chosen, nothing]
        expanded = call(builder, f"llvm.masked.expandload.v{TILE_CELLS}i16", halves, arguments)
        factors = splat(builder, factor, LANES)
        for first in range(0, TILE_CELLS, LANES):
            term = builder.fmul(_widened(builder, part(builder, expanded, first, LANES)), factors)
            builder.store(term, place(builder, out, 4 * first, _FLOATS), align=64)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint32, types.float32, types.uint64), generate


@intrinsic
def add_postings(typing_context, values, ids, weight, sums):
    """Add LIST_STEP float16 values times a weight to the float32 sums at as many uint16 ids, in order."""
    halves = ir.VectorType(I16, LIST_STEP)

    def generate(context, builder, signature, args):
        values, ids, weight, sums = args
        terms = _widened(builder, builder.load(place(builder, values, 0, halves), align=2))
        terms = builder.fmul(terms, splat(builder, weight, LIST_STEP))
        for i in range(LIST_STEP):
            cell = builder.zext(builder.load(place(builder, ids, 2 * i, I16), align=2), I64)
            total = place(builder, builder.add(sums, builder.shl(cell, I64(2))), 0, FLOAT)
            term = builder.extract_element(terms, I32(i))
            builder.store(builder.fadd(builder.load(total), term), total)
        return context.get_dummy_value()

    address = types.uint64
    return types.void(address, address, types.float32, address), generate


def _row_of(builder: Any, slots: Any, index: Any, tile: Any) -> Any:
    slot = builder.load(place(builder, builder.add(slots, builder.shl(index, I64(1))), 0, I16))
    return builder.add(tile, builder.mul(builder.zext(slot, I64), I64(ROW_BYTES)))


def _parts_of_row() -> Any:
    return range(TILE_CELLS // LANES)


def _no_totals(builder: Any) -> list[Any]:
    return [cgutils.alloca_once_value(builder, ir.Constant(_FLOATS, None)) for _ in _parts_of_row()]


def _store_totals(builder: Any, totals: list[Any], out: Any) -> None:
    for number, total in enumerate(totals):
        builder.store(builder.load(total), place(builder, out, 4 * LANES * number, _FLOATS), align=4)


@intrinsic
def add_rows(typing_context, slots, n, tile, out):
    """Write the sum of ``n`` rows of a tile, one after the other, as TILE_CELLS float32 to ``out``.

    ``slots``: address of their numbers, uint16.
    """

    def generate(context, builder, signature, args):
        slots, n, tile, out = args
        totals = _no_totals(builder)
        with cgutils.for_range(builder, n) as loop:
            row = _row_of(builder, slots, loop.index, tile)
            for number, total in enumerate(totals):
                term = builder.load(place(builder, row, 4 * LANES * number, _FLOATS), align=64)
                builder.store(builder.fadd(builder.load(total), term), total)
        _store_totals(builder, totals, out)
        return context.get_dummy_value()

    return types.void(types.uint64, types.int64, types.uint64, types.uint64), generate


@intrinsic
def add_weighted_rows(typing_context, slots, weights, n_full, n_bitmaps, tile, out):
    """As `add_rows`, each times its weight: full columns by a product and an addition, bitmaps by fma."""

    def generate(context, builder, signature, args):
        slots, weights, *numbers, tile, out = args
        totals, begin = _no_totals(builder), I64(0)
        for number, is_fused in zip(numbers, (False, True), strict=True):
            end = builder.add(begin, number)
            with cgutils.for_range(builder, end, start=begin) as loop:
                row = _row_of(builder, slots, loop.index, tile)
                weight_at = builder.add(weights, builder.shl(loop.index, I64(2)))
                weight = splat(builder, builder.load(place(builder, weight_at, 0, FLOAT)), LANES)
                for number, total in enumerate(totals):
                    term = builder.load(place(builder, row, 4 * LANES * number, _FLOATS), align=64)
                    before = builder.load(total)
                    if is_fused:
                        after = fused_multiply_add(builder, term, weight, before)
                    else:
                        after = builder.fadd(before, builder.fmul(weight, term))
                    builder.store(after, total)
            begin = end
        _store_totals(builder, totals, out)
        return context.get_dummy_value()

    address, number = types.uint64, types.int64
    return types.void(address, address, number, number, address, address), generate
