"""Rows of a tile: adding those of a signature, and its lists.

A row is TILE_CELLS float32 in whole cache lines, see `kernels.tile_words`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from insignia_index.kernels.tile_words import LANES, TILE_CELLS, widened
from insignia_index.kernels.vectors import (
    FLOAT,
    I16,
    I32,
    I64,
    fused_multiply_add,
    place,
    splat,
)

ROW_BYTES = 4 * TILE_CELLS

#: Postings of a list that are added in a step: more would need more registers.
LIST_STEP = 8
_FLOATS = ir.VectorType(FLOAT, LANES)


@intrinsic
def add_postings(typing_context, values, ids, weight, sums):
    """Add LIST_STEP float16 values times a weight to the float32 sums at as many uint16 ids, in order."""
    halves = ir.VectorType(I16, LIST_STEP)

    def generate(context, builder, signature, args):
        values, ids, weight, sums = args
        terms = widened(builder, builder.load(place(builder, values, 0, halves), align=2))
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
