"""Weighted sums of rows of a matrix; the totals stay in registers, where a plain loop would store each."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from insignia_index.kernels.vectors import FLOAT, I32, I64, fused_multiply_add, place, splat

#: Columns of a step: four vectors of 16, as many as hide the time of an addition.
WIDTH = 64
_LANES = 16
_FLOATS = ir.VectorType(FLOAT, _LANES)


@intrinsic
def _combine(typing_context, matrix, pitch, rows, weights, n, out):
    """Add WIDTH float32 of ``n`` rows int32, ``pitch`` bytes apart, times float32, to ``out``: addresses."""

    def generate(context, builder, signature, args):
        matrix, pitch, rows, weights, n, out = args
        parts = range(WIDTH // _LANES)
        totals = [
            cgutils.alloca_once_value(builder, builder.load(place(builder, out, 64 * part, _FLOATS), align=4))
            for part in parts
        ]
        with cgutils.for_range(builder, n, intp=I64) as loop:
            offset = builder.shl(loop.index, I64(2))
            row = builder.sext(builder.load(place(builder, builder.add(rows, offset), 0, I32)), I64)
            weight = builder.load(place(builder, builder.add(weights, offset), 0, FLOAT))
            factors = splat(builder, weight, _LANES)
            at = builder.add(matrix, builder.mul(row, pitch))
            for part, total in zip(parts, totals, strict=True):
                term = builder.load(place(builder, at, 64 * part, _FLOATS), align=4)
                builder.store(fused_multiply_add(builder, term, factors, builder.load(total)), total)
        for part, total in zip(parts, totals, strict=True):
            builder.store(builder.load(total), place(builder, out, 64 * part, _FLOATS), align=4)
        return context.get_dummy_value()

    address = types.uint64
    return types.void(address, types.int64, address, address, types.int64, address), generate


@njit(nogil=True, fastmath={"contract"})
def add_combination(matrix, rows, weights, n, out):
    """Add the first ``n`` of ``rows`` int32 of ``matrix`` float32 (m, d), times ``weights``, to ``out`` (d,).

    Both contiguous; each column's terms are added in order.
    """
    d, pitch = len(out), 4 * matrix.shape[1]
    whole = d // WIDTH * WIDTH
    for first in range(0, whole, WIDTH):
        offset = np.uint64(4 * first)
        _combine(
            np.uint64(matrix.ctypes.data) + offset, pitch, np.uint64(rows.ctypes.data),
            np.uint64(weights.ctypes.data), n, np.uint64(out.ctypes.data) + offset,
        )  # fmt: skip
    for i in range(n if whole < d else 0):
        for j in range(whole, d):
            out[j] += weights[i] * matrix[rows[i], j]


@njit(nogil=True, cache=True)
def multiply(indptr, indices, data, matrix, first, last, out):
    """Write rows ``first`` to ``last`` of a sparse matrix times ``matrix`` float32 (m, d) to ``out``.

    ``indptr``, ``indices`` int32 and ``data`` float32 as scipy's CSR matrices have them (its CSC matrices
    those of the transpose); ``out`` float32 (n_rows, d), contiguous, as ``matrix`` is.
    """
    for row in range(first, last):
        out[row] = 0
        start, stop = indptr[row], indptr[row + 1]
        add_combination(matrix, indices[start:stop], data[start:stop], stop - start, out[row])
