"""Inner products of 16 cells' bytes with a query's: by one instruction where it exists, else by a loop.

Codes lie in *blocks* of LANES cells: four dimensions of each cell side by side, then the next four. The
instruction multiplies these with the query's four and adds them up, for all cells at once; the sums of a cell
never have to be taken across a register.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from insignia_index.kernels.memory import HAS_BYTE_DOT, view

#: Cells of a block, and dimensions that lie side by side.
LANES, SIDE = 16, 4
_I64, _WORD = ir.IntType(64), ir.IntType(32)
_WORDS = ir.VectorType(_WORD, LANES)


def block_bytes(d: int) -> int:
    """Bytes of a block of codes of ``d`` dimensions, of which the last may be padding."""
    return LANES * SIDE * -(-d // SIDE)


@intrinsic
def _dot_block(typing_context, codes, query, n_sides, out):
    """Write the sums of products of uint8 and int8 of LANES cells, as int32; all but a number addresses."""

    def generate(context, builder, signature, args):
        codes, query, n_sides, out = args
        module, name = builder.module, "llvm.x86.avx512.vpdpbusd.512"
        kind = ir.FunctionType(_WORDS, [_WORDS] * 3)
        multiply = module.globals.get(name) or ir.Function(module, kind, name)
        total = cgutils.alloca_once_value(builder, ir.Constant(_WORDS, None))
        with cgutils.for_range(builder, n_sides, intp=_I64) as loop:
            place = builder.add(codes, builder.shl(loop.index, _I64(6)))
            some = builder.load(builder.inttoptr(place, _WORDS.as_pointer()), align=4)
            place = builder.add(query, builder.shl(loop.index, _I64(2)))
            word = builder.load(builder.inttoptr(place, _WORD.as_pointer()), align=1)
            one = builder.insert_element(ir.Constant(_WORDS, ir.Undefined), word, _WORD(0))
            words = builder.shuffle_vector(one, one, ir.Constant(_WORDS, None))
            builder.store(builder.call(multiply, [builder.load(total), some, words]), total)
        builder.store(builder.load(total), builder.inttoptr(out, _WORDS.as_pointer()), align=4)
        return context.get_dummy_value()

    address = types.uint64
    return types.void(address, address, types.int64, address), generate


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

    @njit(nogil=True, inline="always")
    def dot_block(codes, query, n_sides, out):
        """As `dot_block_by_loop`."""
        _dot_block(codes, query, n_sides, out)

else:
    dot_block = dot_block_by_loop
