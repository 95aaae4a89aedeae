"""Sum, sum of squares and maximum of chosen scores, sixteen at a time.

Chain j adds the scores j, j + 16, j + 32, ... of the sequence; then chain j takes in chain j + 8, and so on
by halves. The order of summation is that of the sequence and nothing else, so that a GPU, which adds in the
same chains (`gpu/kernels/select.cu`), and a processor without vectors come to the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from insignia_index.kernels.memory import HAS_GATHER
from insignia_index.kernels.vectors import (
    DOUBLE,
    FLOAT,
    I1,
    I8,
    I16,
    I32,
    I64,
    call,
    lanes,
    part,
    place,
    splat,
)

#: Sums of a slot that are added side by side.
CHAINS = 16

_HALF_CHAINS = ir.VectorType(DOUBLE, CHAINS // 2)


def _gather(builder: Any, element: Any, base: Any, ids: Any, mask: Any) -> tuple[Any, Any]:
    """Scores ``ids`` <16 x i32> from address ``base`` on, as two <8 x double>; 0 where the mask says no."""
    base = place(builder, base, 0, I8)
    if element == FLOAT:
        name, n, scale = "llvm.x86.avx512.mask.gather.dps.512", CHAINS, 4
    else:
        name, n, scale = "llvm.x86.avx512.mask.gather.dpd.512", CHAINS // 2, 8
    vector = ir.VectorType(element, n)

    def some(first: int) -> Any:
        nothing = ir.Constant(vector, None)
        its_ids, its_mask = part(builder, ids, first, n), part(builder, mask, first, n)
        return call(builder, name, vector, [nothing, base, its_ids, its_mask, I32(scale)])

    if n < CHAINS:
        return some(0), some(n)
    scores, half = some(0), CHAINS // 2
    low, high = (part(builder, scores, first, half) for first in (0, half))
    return builder.fpext(low, _HALF_CHAINS), builder.fpext(high, _HALF_CHAINS)


def _add(builder: Any, state: list[Any], low: Any, high: Any, mask: Any) -> None:
    """Take sixteen scores in; those that the mask leaves out are 0, which only the maxima need to know."""
    for half, scores in enumerate((low, high)):
        sums, squares, maxima = state[3 * half : 3 * half + 3]
        builder.store(builder.fadd(builder.load(sums), scores), sums)
        builder.store(builder.fadd(builder.load(squares), builder.fmul(scores, scores)), squares)
        before = builder.load(maxima)
        is_larger = builder.fcmp_ordered(">", scores, before)
        if mask is not None:
            is_larger = builder.and_(is_larger, part(builder, mask, 8 * half, 8))
        builder.store(builder.select(is_larger, scores, before), maxima)


def _fold(builder: Any, low: Any, high: Any, combine: Any) -> Any:
    """Chain j with chain j + 8, then j + 4, j + 2, j + 1: a scalar."""
    vector = combine(low, high)
    while vector.type.count > 1:
        half = vector.type.count // 2
        vector = combine(part(builder, vector, 0, half), part(builder, vector, half, half))
    return builder.extract_element(vector, I32(0))


@intrinsic
def _moments(typing_context, scores, order, first, stop):
    element = FLOAT if scores.dtype.bitwidth == 32 else DOUBLE

    def generate(context, builder, signature, args):
        base, places = (
            builder.ptrtoint(context.make_array(kind)(context, builder, value).data, I64)
            for kind, value in zip(signature.args[:2], args[:2], strict=True)
        )
        lowest = lanes(DOUBLE, [float("-inf")] * (CHAINS // 2))
        initial = [ir.Constant(_HALF_CHAINS, None), ir.Constant(_HALF_CHAINS, None), lowest] * 2
        state = [cgutils.alloca_once_value(builder, value) for value in initial]
        everything = lanes(I1, [1] * CHAINS)
        n = builder.sub(args[3], args[2])
        places = builder.add(places, builder.shl(args[2], I64(1)))
        n_whole = builder.and_(n, I64(-CHAINS))
        ids_type, wide = ir.VectorType(I16, CHAINS), ir.VectorType(I32, CHAINS)
        with cgutils.for_range_slice(builder, I64(0), n_whole, I64(CHAINS), intp=I64) as (i, _):
            at = place(builder, builder.add(places, builder.shl(i, I64(1))), 0, ids_type)
            ids = builder.zext(builder.load(at, align=2), wide)
            _add(builder, state, *_gather(builder, element, base, ids, everything), None)
        n_left = builder.sub(n, n_whole)
        with builder.if_then(builder.icmp_signed(">", n_left, I64(0))):
            # the last ids one by one: what lies behind them may be nobody's memory
            rest = cgutils.alloca_once_value(builder, ir.Constant(ids_type, None))
            with cgutils.for_range(builder, n_left, intp=I64) as loop:
                offset = builder.shl(builder.add(n_whole, loop.index), I64(1))
                source = place(builder, builder.add(places, offset), 0, I16)
                target = builder.bitcast(rest, I16.as_pointer())
                builder.store(builder.load(source), builder.gep(target, [loop.index]))
            left = splat(builder, builder.trunc(n_left, I32), CHAINS)
            mask = builder.icmp_signed(">", left, lanes(I32, list(range(CHAINS))))
            ids = builder.zext(builder.load(rest), wide)
            _add(builder, state, *_gather(builder, element, base, ids, mask), mask)
        halves = [builder.load(part) for part in state]

        def larger(a, b):
            return builder.select(builder.fcmp_ordered(">", b, a), b, a)

        found = [
            _fold(builder, halves[i], halves[3 + i], combine)
            for i, combine in enumerate((builder.fadd, builder.fadd, larger))
        ]
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(types.float64, 3)(scores, order, first, stop), generate


@njit(nogil=True)
def moments_by_loop(scores, order, first, stop):
    """As `moments`, one score after the other: for processors without gather."""
    sums, squares, maxima = np.zeros(CHAINS), np.zeros(CHAINS), np.full(CHAINS, -np.inf)
    for i in range(first, stop):
        score, j = np.float64(scores[order[i]]), (i - first) % CHAINS
        sums[j] += score
        squares[j] += score * score
        maxima[j] = score if score > maxima[j] else maxima[j]
    width = CHAINS // 2
    while width:
        for j in range(width):
            sums[j] += sums[j + width]
            squares[j] += squares[j + width]
            maxima[j] = maxima[j + width] if maxima[j + width] > maxima[j] else maxima[j]
        width //= 2
    return sums[0], squares[0], maxima[0]


if HAS_GATHER:

    @njit(nogil=True, inline="always")
    def moments(scores, order, first, stop):
        """Sum, sum of squares and maximum (float64; 0, 0, -inf of none) of ``scores[order[first:stop]]``.

        ``scores`` float32 or float64, contiguous, no NaN among the chosen; ``order`` uint16.
        """
        return _moments(scores, order, first, stop)

else:
    moments = moments_by_loop
