"""Inner products of 16 cells' bytes with a query's: by the instructions that there are, else by a loop.

Codes lie in *blocks* of LANES cells: four dimensions of each cell side by side, then the next four. One
instruction of VNNI multiplies these with the query's four and adds them up, for all cells at once; AVX2 takes
two for half as many. The sums of a cell never have to be taken across a register.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from insignia_index.kernels.memory import HAS_BYTE_DOT, HAS_PAIR_DOT, view
from insignia_index.kernels.vectors import I16, I32, I64, call, lanes, place, splat

#: Cells of a block, and dimensions that lie side by side.
LANES, SIDE = 16, 4
_WORDS = ir.VectorType(I32, LANES)
#: Half of a block's cells: as many as AVX2 takes at once, each in two numbers of 16 bits.
_HALF = LANES // 2
_PAIRS, _SUMS = ir.VectorType(I16, 2 * _HALF), ir.VectorType(I32, _HALF)


def block_bytes(d: int) -> int:
    """Bytes of a block of codes of ``d`` dimensions, of which the last may be padding."""
    return LANES * SIDE * -(-d // SIDE)


def _make_dot(add_side: Any, initial: list[Any]) -> Any:
    """Intrinsic ``(codes, query, n_sides, out)``: write LANES cells' sums of products of uint8 and int8.

    ``add_side`` takes the totals, the address of a side's codes and its four numbers of the query.
    """

    def generate(context, builder, signature, args):
        codes, query, n_sides, out = args
        totals = [cgutils.alloca_once_value(builder, value) for value in initial]
        with cgutils.for_range(builder, n_sides, intp=I64) as loop:
            some = builder.add(codes, builder.mul(loop.index, I64(LANES * SIDE)))
            at = builder.add(query, builder.mul(loop.index, I64(SIDE)))
            word = builder.load(place(builder, at, 0, I32), align=1)
            added = add_side(builder, [builder.load(total) for total in totals], some, word)
            for total, value in zip(totals, added, strict=True):
                builder.store(value, total)
        width = 4 * initial[0].type.count
        for number, total in enumerate(totals):
            value = builder.load(total)
            builder.store(value, place(builder, out, width * number, value.type), align=4)
        return context.get_dummy_value()

    def dot(typing_context, codes, query, n_sides, out):
        address = types.uint64
        return types.void(address, address, types.int64, address), generate

    return intrinsic(dot)


def _add_by_fours(builder: Any, totals: list[Any], codes: Any, word: Any) -> list[Any]:
    """With VNNI: products of four pairs of bytes and their sum in one instruction."""
    some = builder.load(place(builder, codes, 0, _WORDS), align=4)
    name = "llvm.x86.avx512.vpdpbusd.512"
    return [call(builder, name, _WORDS, [totals[0], some, splat(builder, word, LANES)])]


def _add_by_pairs(builder: Any, totals: list[Any], codes: Any, word: Any) -> list[Any]:
    """With AVX2: even and odd bytes as numbers of 16 bits, for of bytes it adds pairs up only to 32,767."""
    eight, low = lanes(I16, [8] * 2 * _HALF), lanes(I16, [255] * 2 * _HALF)
    numbers = builder.bitcast(splat(builder, word, _HALF), _PAIRS)
    even, odd = builder.ashr(builder.shl(numbers, eight), eight), builder.ashr(numbers, eight)
    added = []
    for half, total in enumerate(totals):
        some = builder.load(place(builder, codes, 4 * _HALF * half, _PAIRS), align=4)
        parts = (builder.and_(some, low), even), (builder.lshr(some, eight), odd)
        for pair in parts:
            total = builder.add(total, call(builder, "llvm.x86.avx2.pmadd.wd", _SUMS, list(pair)))
        added.append(total)
    return added


#: As `dot_block_by_loop`, with VNNI and with AVX2.
dot_block_by_fours = _make_dot(_add_by_fours, [ir.Constant(_WORDS, None)])
dot_block_by_pairs = _make_dot(_add_by_pairs, [ir.Constant(_SUMS, None)] * 2)


@njit(nogil=True, inline="always")
def dot_block_by_loop(codes, query, n_sides, out):
    """Write the sums of LANES cells to int32 at ``out``; ``n_sides`` of SIDE dimensions. All addresses."""
    totals = view(out, LANES, np.int32)
    totals[:] = 0
    a, b = view(codes, n_sides * LANES * SIDE, np.uint8), view(query, n_sides * SIDE, np.int8)
    for side in range(n_sides):
        for lane in range(LANES):
            for i in range(SIDE):
                code = np.int32(a[(side * LANES + lane) * SIDE + i])
                totals[lane] += code * np.int32(b[side * SIDE + i])


if HAS_BYTE_DOT:
    dot_block = dot_block_by_fours
elif HAS_PAIR_DOT:
    dot_block = dot_block_by_pairs
else:
    dot_block = dot_block_by_loop
