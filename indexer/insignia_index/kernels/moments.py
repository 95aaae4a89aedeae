"""Sum, sum of squares and maximum of chosen scores, sixteen at a time.

Chain j adds the scores j, j + 16, j + 32, ... of the sequence; then chain j takes in chain j + 8, and so on
by halves. The order of summation is that of the sequence and nothing else, so that a GPU, which adds in the
same chains (`gpu/kernels/select.cu`), and a processor without vectors come to the same bits.
"""

from __future__ import annotations

from typing import Any

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


def _gathered(builder: Any, element: Any, base: Any, ids: Any) -> list[Any]:
    """Scores ``ids`` <16 x i32> from address ``base`` on, in one vector or two."""
    if element == FLOAT:
        name, n, scale = "llvm.x86.avx512.mask.gather.dps.512", CHAINS, 4
    else:
        name, n, scale = "llvm.x86.avx512.mask.gather.dpd.512", CHAINS // 2, 8
    nothing, every = ir.Constant(ir.VectorType(element, n), None), lanes(I1, [1] * n)
    return [
        call(
            builder,
            name,
            nothing.type,
            [nothing, place(builder, base, 0, I8), part(builder, ids, first, n), every, I32(scale)],
        )
        for first in range(0, CHAINS, n)
    ]


def _loaded(builder: Any, element: Any, base: Any, ids_at: Any) -> Any:
    """The scores of the 16 ids uint16 at an address, one by one: AVX2's gather takes longer than that."""
    scores = ir.Constant(ir.VectorType(element, CHAINS), ir.Undefined)
    width = 4 if element == FLOAT else 8
    for lane in range(CHAINS):
        number = builder.zext(builder.load(place(builder, ids_at, 2 * lane, I16), align=2), I64)
        at = place(builder, builder.add(base, builder.mul(number, I64(width))), 0, element)
        scores = builder.insert_element(scores, builder.load(at), I32(lane))
    return scores


def _scores(builder: Any, element: Any, base: Any, ids_at: Any) -> tuple[Any, Any]:
    """The scores of the 16 ids uint16 at an address, as two <8 x double>."""
    half = CHAINS // 2
    if HAS_GATHER:
        ids = builder.load(place(builder, ids_at, 0, ir.VectorType(I16, CHAINS)), align=2)
        found = _gathered(builder, element, base, builder.zext(ids, ir.VectorType(I32, CHAINS)))
    else:
        found = [_loaded(builder, element, base, ids_at)]
    if len(found) == 1:
        found = [part(builder, found[0], first, half) for first in (0, half)]
    if element == FLOAT:
        found = [builder.fpext(scores, _HALF_CHAINS) for scores in found]
    return found[0], found[1]


def _add(builder: Any, state: list[Any], low: Any, high: Any, mask: Any) -> None:
    """Take sixteen scores in, those of the mask if there is one."""
    for half, scores in enumerate((low, high)):
        sums, squares, maxima = state[3 * half : 3 * half + 3]
        if mask is not None:
            its_mask = part(builder, mask, 8 * half, 8)
            scores = builder.select(its_mask, scores, ir.Constant(_HALF_CHAINS, None))
        builder.store(builder.fadd(builder.load(sums), scores), sums)
        builder.store(builder.fadd(builder.load(squares), builder.fmul(scores, scores)), squares)
        before = builder.load(maxima)
        is_larger = builder.fcmp_ordered(">", scores, before)
        if mask is not None:
            is_larger = builder.and_(is_larger, its_mask)
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
        n = builder.sub(args[3], args[2])
        places = builder.add(places, builder.shl(args[2], I64(1)))
        n_whole = builder.and_(n, I64(-CHAINS))
        with cgutils.for_range_slice(builder, I64(0), n_whole, I64(CHAINS), intp=I64) as (i, _):
            ids_at = builder.add(places, builder.shl(i, I64(1)))
            _add(builder, state, *_scores(builder, element, base, ids_at), None)
        n_left = builder.sub(n, n_whole)
        with builder.if_then(builder.icmp_signed(">", n_left, I64(0))):
            # the last ids one by one: what lies behind them may be nobody's memory. The others are 0, whose
            # score is there, and is not counted
            rest = cgutils.alloca_once_value(builder, ir.Constant(ir.VectorType(I16, CHAINS), None))
            rest_at = builder.ptrtoint(rest, I64)
            with cgutils.for_range(builder, n_left, intp=I64) as loop:
                offset = builder.shl(loop.index, I64(1))
                last = builder.add(builder.add(places, builder.shl(n_whole, I64(1))), offset)
                number = builder.load(place(builder, last, 0, I16))
                builder.store(number, place(builder, builder.add(rest_at, offset), 0, I16))
            left = splat(builder, builder.trunc(n_left, I32), CHAINS)
            mask = builder.icmp_signed(">", left, lanes(I32, list(range(CHAINS))))
            _add(builder, state, *_scores(builder, element, base, rest_at), mask)
        halves = [builder.load(part) for part in state]

        def larger(a, b):
            return builder.select(builder.fcmp_ordered(">", b, a), b, a)

        found = [
            _fold(builder, halves[i], halves[3 + i], combine)
            for i, combine in enumerate((builder.fadd, builder.fadd, larger))
        ]
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(types.float64, 3)(scores, order, first, stop), generate


@njit(nogil=True, inline="always")
def moments(scores, order, first, stop):
    """Sum, sum of squares and maximum (float64; 0, 0, -inf of none) of ``scores[order[first:stop]]``.

    ``scores`` float32 or float64, contiguous, no NaN among the chosen; ``order`` uint16.
    """
    return _moments(scores, order, first, stop)
