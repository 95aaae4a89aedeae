"""The bitmap container's vector step: 16 cells of several genes at once.

``llvm.masked.expandload`` becomes VPEXPANDW/VPEXPANDD where the processor has AVX-512 VBMI2. Taking eight
genes in one pass over the scores hides the chain popcount → value pointer: 0.5 µs a gene for 5,000 cells,
where one gene at a time costs 1.3-2.0 µs (docs/decisions/0001-containers.md).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16
GENES = 8

_I32 = ir.IntType(32)


def _values_as(builder: Any, raw: Any, value_bits: int, target: Any) -> Any:
    """Vector of stored values (float16 or float32 bits) converted to the accumulator's type."""
    float_type = ir.HalfType() if value_bits == 16 else ir.FloatType()
    values = builder.bitcast(raw, ir.VectorType(float_type, LANES))
    return values if target.element == float_type else builder.fpext(values, target)


def _splat(builder: Any, scalar: Any, target: Any) -> Any:
    vector = builder.insert_element(ir.Constant(target, ir.Undefined), scalar, _I32(0))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_I32, LANES), None))


def _make(value_bits: int, accumulator: Any) -> Any:
    """Intrinsic ``(scores, values*8, masks*8, weights*8)``: addresses, uint16 masks, weights."""
    stored = ir.IntType(value_bits)
    element = ir.FloatType() if accumulator is types.float32 else ir.DoubleType()
    target, raw_type = ir.VectorType(element, LANES), ir.VectorType(stored, LANES)
    mask_type = ir.VectorType(ir.IntType(1), LANES)
    name = f"llvm.masked.expandload.v{LANES}i{value_bits}"

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scores, rest = args[0], args[1:]
        values, masks, weights = rest[:GENES], rest[GENES : 2 * GENES], rest[2 * GENES :]
        load_type = ir.FunctionType(raw_type, [stored.as_pointer(), mask_type, raw_type])
        load = builder.module.globals.get(name) or ir.Function(builder.module, load_type, name)
        place = builder.inttoptr(scores, target.as_pointer())
        total = builder.load(place, align=4)
        for value, mask, weight in zip(values, masks, weights, strict=True):
            pointer = builder.inttoptr(value, stored.as_pointer())
            raw = builder.call(load, [pointer, builder.bitcast(mask, mask_type), ir.Constant(raw_type, None)])
            term = _values_as(builder, raw, value_bits, target)
            # one gene after the other, product rounded before the sum: the plain loop's numbers exactly
            total = builder.fadd(total, builder.fmul(term, _splat(builder, weight, target)))
        builder.store(total, place, align=4)
        return context.get_dummy_value()

    def step(typing_context, scores, v0, v1, v2, v3, v4, v5, v6, v7,
             m0, m1, m2, m3, m4, m5, m6, m7, w0, w1, w2, w3, w4, w5, w6, w7):  # fmt: skip
        arguments = [types.uint64] * (1 + GENES) + [types.uint16] * GENES + [accumulator] * GENES
        return types.void(*arguments), generate

    return intrinsic(step)


#: float16 values into float32 scores.
expand_half = _make(16, types.float32)
#: float32 values into float64 scores.
expand_single = _make(32, types.float64)
