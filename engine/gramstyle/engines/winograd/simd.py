"""Eight floats worked on at once, for Numba. The only `import numba`.

Left to itself the compiler does not prove that the tiles' many pointers never meet, and works on
one float after the other. A value of this type is a vector register from the start: it is
loaded, added and multiplied like a number, and stored. Where a processor has no registers of
eight floats, LLVM takes two of four.

An index counts elements of a flat array; nothing checks it.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, models, overload, register_model

WIDTH = 8

_FLOATS = ir.VectorType(ir.FloatType(), WIDTH)
_BYTES = ir.VectorType(ir.IntType(8), WIDTH)

# What is compiled has types of its own.
_intrinsic: Any = intrinsic


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function that runs without the interpreter's lock, and keep what was compiled."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # there is no folder to keep it in: it is compiled in every process
        return njit(nogil=True)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function into those that call it."""
    return njit(forceinline=True)(function)


class _Lanes(types.Type):
    """The type of eight floats."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


LANES = _Lanes()


@register_model(_Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Any) -> None:
        super().__init__(manager, lanes, _FLOATS)


@_intrinsic
def load(_context: Any, array: Any, index: Any) -> Any:
    """Return the eight floats that begin at an index."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments, _FLOATS)
        return _unaligned(builder.load(place), 4)

    return LANES(array, types.intp), generate


@_intrinsic
def store(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write eight floats from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments, _FLOATS)
        _unaligned(builder.store(arguments[2], place), 4)
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES), generate


@_intrinsic
def load_bytes(_context: Any, array: Any, index: Any) -> Any:
    """Return the eight bytes that begin at an index, as floats."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments, _BYTES)
        return builder.uitofp(_unaligned(builder.load(place), 1), _FLOATS)

    return LANES(array, types.intp), generate


@_intrinsic
def store_bytes(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write eight floats, whole numbers from 0 to 255, as bytes from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments, _BYTES)
        numbers = builder.fptoui(arguments[2], ir.VectorType(ir.IntType(32), WIDTH))
        _unaligned(builder.store(builder.trunc(numbers, _BYTES), place), 1)
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES), generate


@_intrinsic
def splat(_context: Any, number: Any) -> Any:
    """Return eight times the same float."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        none = ir.Constant(_FLOATS, ir.Undefined)
        first = builder.insert_element(none, arguments[0], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        return builder.shuffle_vector(first, none, zeros)

    return LANES(types.float32), generate


def _choosing(comparison: str) -> Any:
    @_intrinsic
    def choose(_context: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            a, b, yes, no = arguments
            return builder.select(builder.fcmp_ordered(comparison, a, b), yes, no)

        return LANES(LANES, LANES, LANES, LANES), generate

    return choose


# where_greater(a, b, yes, no): in each lane `yes` where a > b, else `no`; likewise where_equal.
where_greater, where_equal = _choosing(">"), _choosing("==")


def _arithmetic(python: Any, instruction: str) -> None:
    """Give lanes one of Python's operators; `contract` lets a product and a sum become one."""

    @_intrinsic
    def lane_by_lane(_context: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments, flags=("contract",))

        return LANES(LANES, LANES), generate

    def typed(a: Any, b: Any) -> Any:
        if a is LANES and b is LANES:
            return lambda a, b: lane_by_lane(a, b)
        if a is types.float32 and b is LANES:
            return lambda a, b: lane_by_lane(splat(a), b)
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
