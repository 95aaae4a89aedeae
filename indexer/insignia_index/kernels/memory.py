"""Typed views of raw addresses, and the few machine instructions that numba does not spell.

Shards are memory-mapped; a search touches thousands of blocks, so kernels take a table of addresses
instead of thousands of arrays. An address comes only from a mapping that the shard reader has checked.
"""

from __future__ import annotations

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from insignia_index.kernels.vectors import fused_multiply_add

_HALF = ir.IntType(16)
_FLOAT = ir.FloatType()


def _host_features() -> dict[str, bool]:
    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:  # LLVM does not know the features of every processor
        return {}


_FEATURES = _host_features()
#: AVX-512 VBMI2 has the expand instruction that the bitmap kernel is made of.
HAS_EXPAND = bool(_FEATURES.get("avx512vbmi2") and _FEATURES.get("avx512vl") and _FEATURES.get("avx512bw"))
#: AVX-512 gathers sixteen places at once, and packs those of sixteen values that a mask selects.
HAS_GATHER = HAS_COMPRESS = bool(_FEATURES.get("avx512f") and _FEATURES.get("avx512vl"))
#: AVX-512 VNNI multiplies 64 pairs of bytes and adds them up by fours, as one instruction.
HAS_BYTE_DOT = bool(_FEATURES.get("avx512vnni") and _FEATURES.get("avx512f"))
#: AVX2 multiplies sixteen pairs of numbers of 16 bits and adds them up by twos.
HAS_PAIR_DOT = bool(_FEATURES.get("avx2"))
IS_ARM = llvm.get_default_triple().startswith(("aarch64", "arm64"))
#: AVX2 and NEON shuffle sixteen bytes by a table.
HAS_SHUFFLE = IS_ARM or all(_FEATURES.get(name) for name in ("avx2", "f16c", "fma"))
#: Without a conversion instruction LLVM would call a run-time function that numba cannot link.
HAS_HALF = bool(_FEATURES.get("f16c")) or IS_ARM


@intrinsic
def _pointer(typing_context, address):
    """Address (uint64) as a void pointer."""

    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.uint64), generate


@njit(inline="always")
def view(address, n, dtype):
    """Array (n,) of ``dtype`` over memory at ``address``."""
    return carray(_pointer(address), (n,), dtype)


@intrinsic
def _convert_half(typing_context, bits):
    def generate(context, builder, signature, args):
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), _FLOAT)

    return types.float32(types.uint16), generate


@intrinsic
def _truncate_to_half(typing_context, value):
    def generate(context, builder, signature, args):
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), _HALF)

    return types.uint16(types.float32), generate


@intrinsic
def float_bits(typing_context, value):
    """Bits of a float32, as uint32."""

    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), generate


@intrinsic
def _float_of_bits(typing_context, bits):
    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], _FLOAT)

    return types.float32(types.uint32), generate


@njit(inline="always")
def half_by_arithmetic(bits):
    """float16 bits (uint16) as float32, finite values only, without a conversion instruction.

    Exponent and fraction move into place and the difference of the exponent biases, 2**112, is
    multiplied in: exact for normal and subnormal numbers.
    """
    magnitude = _float_of_bits(types.uint32((bits & 0x7FFF) << 13)) * types.float32(2.0**112)
    return -magnitude if bits & 0x8000 else magnitude


@njit(inline="always")
def float_to_half_by_arithmetic(value):
    """Finite float32 below 65,520 as float16 bits (uint16), to nearest, ties to even.

    Below the normal range, adding 0.5 leaves the rounded float16 fraction in the low bits; above, the
    bias is subtracted and half a unit in the last place, less one bit if that place is even, is added.
    """
    bits = np.uint64(float_bits(np.float32(value)))
    sign, magnitude = (bits >> np.uint64(16)) & np.uint64(0x8000), bits & np.uint64(0x7FFFFFFF)
    if magnitude < np.uint64(113 << 23):
        moved = _float_of_bits(np.uint32(magnitude)) + np.float32(0.5)
        half = np.uint64(float_bits(moved)) - np.uint64(126 << 23)
    else:
        odd = (magnitude >> np.uint64(13)) & np.uint64(1)
        half = (magnitude - np.uint64(112 << 23) + np.uint64(0xFFF) + odd) >> np.uint64(13)
    return np.uint16(half | sign)


if HAS_HALF:

    @njit(inline="always")
    def float_to_half(value):
        """Finite float32 as float16 bits (uint16), to nearest, ties to even."""
        return _truncate_to_half(value)

    @njit(inline="always")
    def half_to_float(bits):
        """float16 bits (uint16) as float32."""
        return _convert_half(bits)

else:
    half_to_float = half_by_arithmetic
    float_to_half = float_to_half_by_arithmetic


@intrinsic
def prefetch_line(typing_context, address):
    """Ask for the cache line of an address; no effect on results, never a fault."""

    def generate(context, builder, signature, args):
        pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        # read, keep in all caches, data
        builder.call(function, [builder.inttoptr(args[0], pointer), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(types.uint64), generate


@njit(inline="always")
def prefetch(address, n_bytes):
    """Ask for the cache lines of memory that will be read soon; no effect on results, never a fault."""
    for offset in range(0, n_bytes, 64):
        prefetch_line(address + np.uint64(offset))


@intrinsic
def order_key(typing_context, value):
    """Unsigned integer as wide as the float32 or float64, that orders as it does.

    -0.0 comes just below 0.0; NaN has no place.
    """
    key = types.uint32 if value.bitwidth == 32 else types.uint64

    def generate(context, builder, signature, args):
        integer = ir.IntType(key.bitwidth)
        bits = builder.bitcast(args[0], integer)
        # all bits of a negative number are inverted, of another only the sign
        negative = builder.ashr(bits, integer(key.bitwidth - 1))
        return builder.xor(bits, builder.or_(negative, integer(1 << (key.bitwidth - 1))))

    return key(value), generate


@intrinsic
def value_of_key(typing_context, key):
    """The float32 (of a uint32) or float64 (of a uint64) that has this `order_key`."""
    element = ir.FloatType() if key.bitwidth == 32 else ir.DoubleType()

    def generate(context, builder, signature, args):
        bits = args[0]
        is_negative = builder.icmp_signed(">=", bits, bits.type(0))
        sign = bits.type(1 << (bits.type.width - 1))
        kept = builder.select(is_negative, builder.not_(bits), builder.xor(bits, sign))
        return builder.bitcast(kept, element)

    return (types.float32 if key.bitwidth == 32 else types.float64)(key), generate


@intrinsic
def fetch_add(typing_context, address, amount):
    """Add to the int64 at an address and return what it was, as one step that no other thread can divide.

    Whoever reads the sum by `load_counter` also finds what was written before.
    """

    def generate(context, builder, signature, args):
        counter = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", counter, args[1], "acq_rel")

    return types.int64(types.uint64, types.int64), generate


@intrinsic
def load_counter(typing_context, address):
    """The int64 at an address, that other threads add to by `fetch_add`."""

    def generate(context, builder, signature, args):
        counter = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(counter, "acquire", 8)

    return types.int64(types.uint64), generate


@intrinsic
def memory_barrier(typing_context):
    """Keep the compiler (not the processor) from moving values past memory; no instruction."""

    def generate(context, builder, signature, args):
        nothing = ir.FunctionType(ir.VoidType(), [])
        builder.call(ir.InlineAsm(nothing, "", "~{memory}", side_effect=True), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def fma(typing_context, a, b, c):
    """``a * b + c``, rounded once; float32 or float64."""

    def generate(context, builder, signature, args):
        return fused_multiply_add(builder, *args)

    return c(c, c, c), generate


@intrinsic
def popcount(typing_context, word):
    """Number of set bits of an unsigned integer, as int64."""

    def generate(context, builder, signature, args):
        count = builder.ctpop(args[0])
        return count if count.type.width == 64 else builder.zext(count, ir.IntType(64))

    return types.int64(word), generate


@intrinsic
def trailing_zeros(typing_context, word):
    """Index of the lowest set bit of a non-zero unsigned integer, as int64."""

    def generate(context, builder, signature, args):
        count = builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))
        return count if count.type.width == 64 else builder.zext(count, ir.IntType(64))

    return types.int64(word), generate
