"""Which of 16 cells to keep, as one mask: what a loop with a branch, or with none, needs 16 steps for."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16
_I32 = ir.IntType(32)


def _make(score_type: Any) -> Any:
    """Intrinsic ``(scores, codes, bound)``: addresses of 16 scores and 16 int32 codes, and the bound."""
    element = ir.FloatType() if score_type is types.float32 else ir.DoubleType()
    vector, code_vector = ir.VectorType(element, LANES), ir.VectorType(_I32, LANES)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scores, codes, bound = args
        score = builder.load(builder.inttoptr(scores, vector.as_pointer()), align=4)
        code = builder.load(builder.inttoptr(codes, code_vector.as_pointer()), align=4)
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), bound, _I32(0))
        bounds = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_I32, LANES), None))
        enough = builder.fcmp_ordered(">=", score, bounds)
        passes = builder.icmp_signed(">=", code, ir.Constant(code_vector, None))
        return builder.bitcast(builder.and_(enough, passes), ir.IntType(16))

    def mask(typing_context, scores, codes, bound):
        return types.uint16(types.uint64, types.uint64, score_type), generate

    return intrinsic(mask)


#: Bit i of the result: cell i passes the filter (code >= 0) and scores at least the bound.
mask_single = _make(types.float32)
mask_double = _make(types.float64)
