"""The bitmap container's vector steps: eight genes, 64 cells at a time.

First each gene's packed values are expanded to their cells in a buffer that stays in the nearest cache
(``llvm.masked.expandload``: VPEXPANDW or VPEXPANDD of AVX-512), then the buffer is added to the scores like
eight full columns. Converting straight from the expanded register costs 2.5 times as much: 0.67 against
0.26 µs a gene of 5,000 cells on Zen 4 (docs/decisions/0001-containers.md).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from insignia_index.kernels.vectors import DOUBLE, FLOAT, HALF, I1, call, fused_multiply_add, place, splat

#: Genes of a step, cells of a step, cells of one addition.
GENES, CELLS, LANES = 8, 64, 16


def _make_expand(value_bits: int, lanes: int) -> Any:
    """Intrinsic ``(values, mask, out)``: packed values at an address to ``lanes`` places at another."""
    stored = ir.IntType(value_bits)
    vector, mask_type = ir.VectorType(stored, lanes), ir.VectorType(I1, lanes)
    name = f"llvm.masked.expandload.v{lanes}i{value_bits}"

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values, mask, out = args
        chosen, nothing = builder.bitcast(mask, mask_type), ir.Constant(vector, None)
        expanded = call(builder, name, vector, [place(builder, values, 0, stored), chosen, nothing])
        builder.store(expanded, place(builder, out, 0, vector), align=lanes * value_bits // 8)
        return context.get_dummy_value()

    mask_integer = types.uint32 if lanes == 32 else types.uint16

    def expand(typing_context, values, mask, out):
        return types.void(types.uint64, mask_integer, types.uint64), generate

    return intrinsic(expand)


def _make_add(value_bits: int, accumulator: Any) -> Any:
    """Intrinsic ``(scores, expanded, weights*8)``: add 16 cells of eight genes, CELLS values apart."""
    stored = HALF if value_bits == 16 else FLOAT
    element = FLOAT if accumulator is types.float32 else DOUBLE
    target, raw_type = ir.VectorType(element, LANES), ir.VectorType(stored, LANES)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scores, expanded, weights = args[0], args[1], args[2:]
        at = place(builder, scores, 0, target)
        total = builder.load(at, align=4)
        for gene, weight in enumerate(weights):
            row = place(builder, expanded, gene * CELLS * value_bits // 8, raw_type)
            raw = builder.load(row, align=LANES * value_bits // 8)
            # one gene after the other: the plain loop's numbers exactly
            term = builder.fpext(raw, target)
            total = fused_multiply_add(builder, term, splat(builder, weight, LANES), total)
        builder.store(total, at, align=4)
        return context.get_dummy_value()

    def add(typing_context, scores, expanded, w0, w1, w2, w3, w4, w5, w6, w7):
        return types.void(types.uint64, types.uint64, *[accumulator] * GENES), generate

    return intrinsic(add)


#: float16 values, 32 cells; float32 values, 16 cells.
expand_half = _make_expand(16, 32)
expand_single = _make_expand(32, 16)
#: float16 values into float32 scores; float32 values into float64 scores.
add_half = _make_add(16, types.float32)
add_single = _make_add(32, types.float64)
