"""The bitmap container's step for processors that shuffle bytes but do not expand: AVX2, NEON.

Sixteen bytes of packed values are moved to the cells of a byte of the mask (four bits of it, for float32) by
one shuffle, whose table also puts zeros where no value belongs. The bytes that are loaded *end* with the last
value that is wanted: what lies before a bitmap's values is its mask, what lies behind them may be nobody's
memory. Of a block of under 97 cells that may reach 12 bytes before the container, where a shard has the
directory entries and `search.gene_cache` leaves room.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from insignia_index.kernels.memory import IS_ARM
from insignia_index.kernels.vectors import (
    DOUBLE,
    FLOAT,
    HALF,
    I8,
    I32,
    I64,
    call,
    fused_multiply_add,
    place,
    splat,
)

#: Bytes that a shuffle moves.
WIDTH = 16
_BYTES = ir.VectorType(I8, WIDTH)
#: A byte of a shuffle's control that makes a zero, on both kinds of processors.
_NOTHING = 0x80
#: How far ahead of its reading a bitmap's values are asked for. Past its end lies the gene's next container.
AHEAD_BYTES = 2048


def _control(mask: int, n_lanes: int, value_bytes: int) -> list[int]:
    """For each byte of the lanes, the byte of WIDTH, which end with the mask's last value, that it takes."""
    control: list[int] = []
    at = WIDTH - value_bytes * mask.bit_count()
    for lane in range(n_lanes):
        if mask >> lane & 1:
            control += range(at, at + value_bytes)
            at += value_bytes
        else:
            control += [_NOTHING] * value_bytes
    return control


def controls(builder: Any, value_bytes: int) -> Any:
    """Address of the controls of every mask of as many lanes as WIDTH has, WIDTH bytes each."""
    name, n_lanes = f"insignia.controls.{value_bytes}", WIDTH // value_bytes
    table = builder.module.globals.get(name)
    if table is None:
        row = ir.ArrayType(I8, WIDTH)
        rows = [ir.Constant(row, _control(mask, n_lanes, value_bytes)) for mask in range(1 << n_lanes)]
        table = ir.GlobalVariable(builder.module, ir.ArrayType(row, len(rows)), name)
        table.global_constant, table.linkage, table.align = True, "internal", 64
        table.initializer = ir.Constant(table.type.pointee, rows)
    return builder.ptrtoint(table, I64)


def spread(builder: Any, table: Any, lanes: Any, end: Any) -> Any:
    """The packed values before the address ``end``, as <WIDTH x i8>: at the set bits of ``lanes`` (i64)."""
    values = builder.load(place(builder, end, -WIDTH, _BYTES), align=2)
    row = builder.add(table, builder.shl(lanes, I64(4)))
    control = builder.load(place(builder, row, 0, _BYTES), align=WIDTH)
    name = "llvm.aarch64.neon.tbl1.v16i8" if IS_ARM else "llvm.x86.ssse3.pshuf.b.128"
    return call(builder, name, _BYTES, [values, control])


def behind(builder: Any, address: Any, lanes: Any, value_bytes: int) -> Any:
    """Address behind the values of the set bits of ``lanes``."""
    return builder.add(address, builder.mul(builder.ctpop(lanes), I64(value_bytes)))


def _shuffles(builder: Any, value_bytes: int, masks: Any, number: int) -> list[Any]:
    """The bits of byte ``number`` of the masks at an address, as i64 for each shuffle."""
    byte = builder.zext(builder.load(place(builder, masks, number, I8)), I64)
    return [byte] if value_bytes == 2 else [builder.and_(byte, I64(15)), builder.lshr(byte, I64(4))]


def _make_add(value_bytes: int, n_cells: int) -> Any:
    """Intrinsic ``(scores, masks, values, weights, n)``: add ``n_cells`` cells of n bitmaps to their scores.

    All but n are addresses: ``masks`` and ``values`` of arrays uint64 (n,) of where each bitmap is read on,
    which are moved on; ``weights`` (n,) have the scores' type, which is twice as wide as the values.
    """
    n_lanes, score_bytes = WIDTH // value_bytes, 2 * value_bytes
    stored, element = (HALF, FLOAT) if value_bytes == 2 else (FLOAT, DOUBLE)
    raw, vector = ir.VectorType(stored, n_lanes), ir.VectorType(element, n_lanes)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scores, masks, values, weights, n = args
        table = controls(builder, value_bytes)
        places = [place(builder, scores, score_bytes * first, vector) for first in range(0, n_cells, n_lanes)]
        # one variable each, to stay in registers while the genes are added one after the other
        totals = [cgutils.alloca_once_value(builder, builder.load(at, align=4)) for at in places]
        with cgutils.for_range(builder, n, intp=I64) as loop:
            index = builder.mul(loop.index, I64(8))
            mask_at, value_at = (place(builder, builder.add(at, index), 0, I64) for at in (masks, values))
            mask, end = builder.load(mask_at), builder.load(value_at)
            ahead = place(builder, end, AHEAD_BYTES, I8)
            call(builder, "llvm.prefetch.p0", ir.VoidType(), [ahead, I32(0), I32(3), I32(1)])
            weight_at = builder.add(weights, builder.mul(loop.index, I64(score_bytes)))
            weight = splat(builder, builder.load(place(builder, weight_at, 0, element)), n_lanes)
            shuffles = [
                bits for byte in range(n_cells // 8) for bits in _shuffles(builder, value_bytes, mask, byte)
            ]
            for bits, total in zip(shuffles, totals, strict=True):
                end = behind(builder, end, bits, value_bytes)
                term = builder.fpext(builder.bitcast(spread(builder, table, bits, end), raw), vector)
                builder.store(fused_multiply_add(builder, term, weight, builder.load(total)), total)
            builder.store(builder.add(mask, I64(n_cells // 8)), mask_at)
            builder.store(end, value_at)
        for at, total in zip(places, totals, strict=True):
            builder.store(builder.load(total), at, align=4)
        return context.get_dummy_value()

    def add(typing_context, scores, masks, values, weights, n):
        address = types.uint64
        return types.void(address, address, address, address, types.int64), generate

    return intrinsic(add)


#: float16 values into float32 scores, 64 cells: as many scores as there are vector registers to spare; the
#: last cells of a block may be half as many. float32 values into float64 scores.
add_64_half, add_32_half, add_32_single = _make_add(2, 64), _make_add(2, 32), _make_add(4, 32)
