"""Which of 16 cells to keep, as one mask: what a loop with a branch, or with none, needs 16 steps for."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16
_I32 = ir.IntType(32)


def _make(score_type: Any) -> Any:
    """Intrinsic ``(scores, bound)``: address of 16 scores, and the bound."""
    element = ir.FloatType() if score_type is types.float32 else ir.DoubleType()
    vector = ir.VectorType(element, LANES)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scores, bound = args
        score = builder.load(builder.inttoptr(scores, vector.as_pointer()), align=4)
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), bound, _I32(0))
        bounds = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_I32, LANES), None))
        return builder.bitcast(builder.fcmp_ordered(">=", score, bounds), ir.IntType(16))

    def mask(typing_context, scores, bound):
        return types.uint16(types.uint64, score_type), generate

    return intrinsic(mask)


#: Bit i of the result: cell i scores at least the bound (NaN does not).
mask_single = _make(types.float32)
mask_double = _make(types.float64)
