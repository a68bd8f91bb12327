"""A register of eight floats as a type for Numba.

The compiler cannot prove that the transforms' many pointers never overlap, so it would compute one
float after the other. A value of this type is a vector register from the start: it is loaded,
added and multiplied like a number, and stored. On a processor without registers of eight floats,
LLVM uses two registers of four.

An index counts elements of a flat array. Indices are not checked.
"""

import hashlib
import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, models, overload, register_model

from gramstyle.engines.winograd.layout import WIDTH

_FLOATS = ir.VectorType(ir.FloatType(), WIDTH)
_BYTES = ir.VectorType(ir.IntType(8), WIDTH)

# mypy does not know the types of compiled functions.
_intrinsic: Any = intrinsic


def target() -> str:
    """Return the processor for which Numba compiles, and a hash of its features."""
    _, name, features = cpu_target.target_context.codegen().magic_tuple()
    return f"{name} {hashlib.sha256(str(features).encode()).hexdigest()[:12]}"


class _Vector(types.Type):
    """The Numba type of a register of eight floats."""

    def __init__(self) -> None:
        super().__init__(name="Vector")


VECTOR = _Vector()


@register_model(_Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Any) -> None:
        super().__init__(manager, vector, _FLOATS)


@_intrinsic
def load(_context: Any, array: Any, index: Any) -> Any:
    """Return the eight floats that start at an index."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments, _FLOATS)
        return _unaligned(builder.load(place), 4)

    return VECTOR(array, types.intp), generate


@_intrinsic
def store(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write eight floats from an index onwards."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments, _FLOATS)
        _unaligned(builder.store(arguments[2], place), 4)
        return context.get_dummy_value()

    return types.void(array, types.intp, VECTOR), generate


@_intrinsic
def load_bytes(_context: Any, array: Any, index: Any) -> Any:
    """Return the eight bytes that start at an index, as floats."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments, _BYTES)
        return builder.uitofp(_unaligned(builder.load(place), 1), _FLOATS)

    return VECTOR(array, types.intp), generate


@_intrinsic
def store_bytes(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write eight floats, integers from 0 to 255, as bytes from an index onwards."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments, _BYTES)
        numbers = builder.fptoui(arguments[2], ir.VectorType(ir.IntType(32), WIDTH))
        _unaligned(builder.store(builder.trunc(numbers, _BYTES), place), 1)
        return context.get_dummy_value()

    return types.void(array, types.intp, VECTOR), generate


@_intrinsic
def splat(_context: Any, number: Any) -> Any:
    """Return a register that holds the same float eight times."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        none = ir.Constant(_FLOATS, ir.Undefined)
        first = builder.insert_element(none, arguments[0], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        return builder.shuffle_vector(first, none, zeros)

    return VECTOR(types.float32), generate


def _selection(comparison: str) -> Any:
    @_intrinsic
    def select(_context: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            a, b, yes, no = arguments
            return builder.select(builder.fcmp_ordered(comparison, a, b), yes, no)

        return VECTOR(VECTOR, VECTOR, VECTOR, VECTOR), generate

    return select


# where_greater(a, b, yes, no): elementwise `yes` where a > b, else `no`; likewise where_equal.
where_greater, where_equal = _selection(">"), _selection("==")


def _arithmetic(python: Any, instruction: str) -> None:
    """Define an operator of registers; `contract` allows a product and a sum to be fused."""

    @_intrinsic
    def elementwise(_context: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments, flags=("contract",))

        return VECTOR(VECTOR, VECTOR), generate

    def typed(a: Any, b: Any) -> Any:
        if a is VECTOR and b is VECTOR:
            return lambda a, b: elementwise(a, b)
        if a is types.float32 and b is VECTOR:
            return lambda a, b: elementwise(splat(a), b)
        return None

    overload(python, strict=False)(typed)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")


def _place(context: Any, builder: Any, array: Any, arguments: Any, vector: Any) -> Any:
    data = context.make_array(array)(context, builder, arguments[0]).data
    return builder.bitcast(builder.gep(data, [arguments[1]]), vector.as_pointer())


def _unaligned(instruction: Any, align: int) -> Any:
    instruction.align = align
    return instruction
