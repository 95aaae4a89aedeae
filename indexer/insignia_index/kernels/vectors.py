"""What the vector kernels' LLVM code is put together from."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()


def lanes(kind: Any, values: list[Any]) -> Any:
    """A constant vector."""
    return ir.Constant(ir.VectorType(kind, len(values)), values)


def place(builder: Any, address: Any, offset: int, kind: Any) -> Any:
    """Pointer to a ``kind`` so many bytes behind an address."""
    return builder.inttoptr(builder.add(address, I64(offset)) if offset else address, kind.as_pointer())


def splat(builder: Any, scalar: Any, n: int) -> Any:
    """Vector of ``n`` times a scalar."""
    vector = ir.VectorType(scalar.type, n)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, n), None))


def part(builder: Any, vector: Any, first: int, n: int) -> Any:
    """Lanes [first, first + n) of a vector."""
    return builder.shuffle_vector(vector, vector, lanes(I32, list(range(first, first + n))))


def call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call LLVM's intrinsic function of this name."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, arguments)


def fused_multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once, of scalars or vectors of one type."""
    kind = str(a.type).replace("<", "v").replace(" x ", "").replace(">", "")
    name = "llvm.fma." + kind.replace("float", "f32").replace("double", "f64")
    return call(builder, name, a.type, [a, b, c])
