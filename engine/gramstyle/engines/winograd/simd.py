"""A register of floats as a type for Numba: 16 floats with AVX-512, else 8.

The compiler cannot prove that the transforms' many pointers never overlap, so it would compute one
float after the other. A value of this type is a vector register from the start: it is loaded,
added and multiplied like a number, and stored. On a processor without registers of eight floats,
LLVM uses two registers of four. Every element is computed as it would be alone, so that results do
not depend on the width.

An index counts elements of a flat array. Indices are not checked.
"""

import hashlib
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, types
from numba.core.registry import cpu_target
from numba.extending import models, overload, register_model

from gramstyle.system.compiling import inlined


def features() -> str:
    """Return the features of the processor for which Numba compiles, separated by commas."""
    return str(cpu_target.target_context.codegen().magic_tuple()[2])


# The floats in a register.
WIDTH = 16 if "+avx512f" in features().split(",") else 8

ZERO = np.float32(0)

# The types of a register and of an index.
REGISTER, INDEX = ir.VectorType(ir.FloatType(), WIDTH), ir.IntType(64)
_BYTES = ir.VectorType(ir.IntType(8), WIDTH)

# Numba's type of an index.
INTEGER = types.intp

# mypy does not know the types of compiled functions.
intrinsic: Any = extending.intrinsic


def target() -> str:
    """Return the processor for which Numba compiles, and a hash of its features."""
    name = cpu_target.target_context.codegen().magic_tuple()[1]
    return f"{name} {hashlib.sha256(features().encode()).hexdigest()[:12]}"


class _Vector(types.Type):
    """The Numba type of a register of floats."""

    def __init__(self) -> None:
        super().__init__(name="Vector")


VECTOR = _Vector()


@register_model(_Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Any) -> None:
        super().__init__(manager, vector, REGISTER)


@intrinsic
def load(_context: Any, array: Any, index: Any) -> Any:
    """Return the floats that start at an index."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments, REGISTER)
        return _unaligned(builder.load(place), 4)

    return VECTOR(array, INTEGER), generate


@intrinsic
def store(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a register's floats from an index onwards."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments, REGISTER)
        _unaligned(builder.store(arguments[2], place), 4)
        return context.get_dummy_value()

    return procedure(array, INTEGER, VECTOR), generate


@intrinsic
def load_bytes(_context: Any, array: Any, index: Any) -> Any:
    """Return the bytes that start at an index, as floats."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments, _BYTES)
        return builder.uitofp(_unaligned(builder.load(place), 1), REGISTER)

    return VECTOR(array, INTEGER), generate


@intrinsic
def store_bytes(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write floats, integers from 0 to 255, as bytes from an index onwards."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments, _BYTES)
        numbers = builder.fptoui(arguments[2], ir.VectorType(ir.IntType(32), WIDTH))
        _unaligned(builder.store(builder.trunc(numbers, _BYTES), place), 1)
        return context.get_dummy_value()

    return procedure(array, INTEGER, VECTOR), generate


@intrinsic
def store_mask(_context: Any, mask: Any, index: Any, value: Any) -> Any:
    """Write one bit for each float, whether it is above 0, from the bit of an index onwards."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero = splat_constant(0.0)
        bits = builder.fcmp_ordered(">", arguments[2], zero)
        place = _bits(context, builder, signature.args[0], arguments)
        _unaligned(builder.store(builder.bitcast(bits, place.type.pointee), place), 1)
        return context.get_dummy_value()

    return procedure(mask, INTEGER, VECTOR), generate


@intrinsic
def where_mask(_context: Any, mask: Any, index: Any, value: Any) -> Any:
    """Return each float whose bit is set, from the bit of an index onwards, and 0 elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _bits(context, builder, signature.args[0], arguments)
        loaded = _unaligned(builder.load(place), 1)
        bits = builder.bitcast(loaded, ir.VectorType(ir.IntType(1), WIDTH))
        return builder.select(bits, arguments[2], splat_constant(0.0))

    return VECTOR(mask, INTEGER, VECTOR), generate


@intrinsic
def splat(_context: Any, number: Any) -> Any:
    """Return a register that holds the same float in every place."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _splatted(builder, arguments[0])

    return VECTOR(types.float32), generate


@intrinsic
def transpose(
    _context: Any, source: Any, at: Any, step: Any, to: Any, index: Any, to_step: Any
) -> Any:
    """Copy a square of registers, transposed: its rows are `step` apart, and `to_step` in `to`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, at, step, to, index, to_step = arguments
        origin = Memory(context, builder, signature.args[0], source)
        target = Memory(context, builder, signature.args[3], to)
        rows = [origin.load(at, (step, row)) for row in range(WIDTH)]
        half = 1
        while half < WIDTH:
            # Exchange the upper right quarter of each square of 2 · half rows with the lower left.
            low = [j if j & half == 0 else j - half + WIDTH for j in range(WIDTH)]
            high = [j + half if j & half == 0 else j + WIDTH for j in range(WIDTH)]
            for i in range(WIDTH):
                if i & half == 0:
                    a, b = rows[i], rows[i + half]
                    rows[i], rows[i + half] = (
                        builder.shuffle_vector(a, b, _places(chosen)) for chosen in (low, high)
                    )
            half *= 2
        for row, value in enumerate(rows):
            target.store(value, index, (to_step, row))
        return context.get_dummy_value()

    return procedure(source, INTEGER, INTEGER, to, INTEGER, INTEGER), generate


def _selection(comparison: str) -> Any:
    @intrinsic
    def select(_context: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            a, b, yes, no = arguments
            return builder.select(builder.fcmp_ordered(comparison, a, b), yes, no)

        return VECTOR(VECTOR, VECTOR, VECTOR, VECTOR), generate

    return select


# where_greater(a, b, yes, no): elementwise `yes` where a > b, else `no`; likewise where_equal.
where_greater, where_equal = _selection(">"), _selection("==")


@inlined
def relu(value):
    """Return max(0, value); NaN where the value is NaN."""
    zero = splat(ZERO)
    return where_greater(zero, value, zero, value)


def _arithmetic(python: Any, instruction: str) -> None:
    """Define an operator of registers; `contract` allows a product and a sum to be fused."""

    @intrinsic
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


def procedure(*kinds: Any) -> Any:
    """Return the signature of a function that returns nothing, from the types of its arguments."""
    return types.void(*kinds)


def at_index(number: int) -> Any:
    """Return a constant index."""
    return ir.Constant(INDEX, number)


def plus_product(builder: Any, total: Any, a: Any, b: Any) -> Any:
    """Emit total + a · b, rounded once on processors that can do so."""
    kind = ir.FunctionType(REGISTER, [REGISTER] * 3)
    function = builder.module.declare_intrinsic(f"llvm.fmuladd.v{WIDTH}f32", (), kind)
    return builder.call(function, [a, b, total])


def splat_constant(number: float) -> Any:
    """Return a constant register that holds the same float in every place."""
    return ir.Constant(REGISTER, [float(np.float32(number))] * WIDTH)


class Memory:
    """The memory of an array in a function that is being compiled."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any) -> None:
        self._builder = builder
        self._data = context.make_array(kind)(context, builder, array).data

    def load(self, index: Any, *steps: tuple[Any, int]) -> Any:
        """Emit the load of a register; each step moves the index by a value times a number."""
        return _unaligned(self._builder.load(self._place(index, steps)), 4)

    def load_splat(self, index: Any, *steps: tuple[Any, int]) -> Any:
        """Emit a register that holds one float of the array in every place."""
        number = self._builder.load(self._element(index, steps))
        return _splatted(self._builder, number)

    def prefetch(self, index: Any, *steps: tuple[Any, int]) -> None:
        """Emit a hint to fetch an element's cache line, which may lie outside the array."""
        builder, number = self._builder, ir.IntType(32)
        place = builder.bitcast(self._element(index, steps), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", (place.type,), kind)
        # To read data, into the cache of the second level.
        builder.call(function, [place, *(ir.Constant(number, value) for value in (0, 2, 1))])

    def store(self, register: Any, index: Any, *steps: tuple[Any, int]) -> None:
        """Emit the store of a register."""
        _unaligned(self._builder.store(register, self._place(index, steps)), 4)

    def _place(self, index: Any, steps: tuple[tuple[Any, int], ...]) -> Any:
        return self._builder.bitcast(self._element(index, steps), REGISTER.as_pointer())

    def _element(self, index: Any, steps: tuple[tuple[Any, int], ...]) -> Any:
        for value, times in steps:
            factor = ir.Constant(value.type, times)
            index = self._builder.add(index, self._builder.mul(value, factor))
        return self._builder.gep(self._data, [index])


def _splatted(builder: Any, number: Any) -> Any:
    none = ir.Constant(REGISTER, ir.Undefined)
    first = builder.insert_element(none, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, none, _places([0] * WIDTH))


def _places(chosen: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), chosen)


def _place(context: Any, builder: Any, array: Any, arguments: Any, vector: Any) -> Any:
    data = context.make_array(array)(context, builder, arguments[0]).data
    return builder.bitcast(builder.gep(data, [arguments[1]]), vector.as_pointer())


def _bits(context: Any, builder: Any, mask: Any, arguments: Any) -> Any:
    """Return the place of a register's bits in an array of bytes."""
    byte = builder.lshr(arguments[1], at_index(3))
    return _place(context, builder, mask, (arguments[0], byte), ir.IntType(WIDTH))


def _unaligned(instruction: Any, align: int) -> Any:
    instruction.align = align
    return instruction
