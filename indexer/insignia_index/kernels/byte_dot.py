"""Inner products of bytes: with one instruction for 64 of them where there is one, else by a plain loop."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from insignia_index.kernels.memory import HAS_BYTE_DOT, view

#: Bytes of the one instruction.
WIDTH = 64
_WORD = ir.IntType(32)
_WORDS = ir.VectorType(_WORD, WIDTH // 4)


@intrinsic
def _dot_64(typing_context, codes, query):
    """Sum of uint8 at one address times int8 at another, 64 each, as int32."""

    def generate(context, builder, signature, args):
        loaded = [builder.load(builder.inttoptr(address, _WORDS.as_pointer())) for address in args]
        for load in loaded:
            load.align = 1
        module = builder.module
        name = "llvm.x86.avx512.vpdpbusd.512"
        kind = ir.FunctionType(_WORDS, [_WORDS] * 3)
        multiply = module.globals.get(name) or ir.Function(module, kind, name)
        sums = builder.call(multiply, [ir.Constant(_WORDS, [0] * (WIDTH // 4)), *loaded])
        name = "llvm.vector.reduce.add.v16i32"
        add = module.globals.get(name) or ir.Function(module, ir.FunctionType(_WORD, [_WORDS]), name)
        return builder.call(add, [sums])

    return types.int32(types.uint64, types.uint64), generate


@njit(nogil=True, inline="always")
def dot_by_loop(codes, query, d):
    """Sum of ``d`` uint8 at the address ``codes`` times int8 at ``query``, as int32."""
    a, b, total = view(codes, d, np.uint8), view(query, d, np.int8), np.int32(0)
    for j in range(d):
        total += np.int32(a[j]) * np.int32(b[j])
    return total


if HAS_BYTE_DOT:

    @njit(nogil=True, inline="always")
    def byte_dot(codes, query, d):
        """As `dot_by_loop`, 64 at a time."""
        if d % WIDTH:
            return dot_by_loop(codes, query, d)
        total = np.int32(0)
        for j in range(0, d, WIDTH):
            total += _dot_64(codes + np.uint64(j), query + np.uint64(j))
        return total

else:
    byte_dot = dot_by_loop
