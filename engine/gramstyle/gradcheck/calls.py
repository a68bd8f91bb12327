"""The functions under check, called with copies and believed nothing.

Inside the checker every point, every result and every derivative is one flat vector; here they
are cut into the arrays that the functions know, and back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError
from gramstyle.gradcheck.report import GradientCheckError, entry

# f(*inputs) -> an array, a number, or a tuple of them.
Function = Callable[..., Any]
# vjp(cotangents, *inputs) -> one derivative for each input; cotangents are shaped as f's result.
Vjp = Callable[..., Any]
# kinks(*inputs) -> the discrete choices by name.
Kinks = Callable[..., Mapping[str, Array]]


@dataclass
class Calls:
    """f, its vjp and its choices around one point, with their rules held.

    Attributes
    ----------
    f, vjp, kinks
        As in `check_vjp`.
    names, inputs
        The inputs, float64.
    forwards, backwards
        How often f and vjp have been called.
    """

    f: Function
    vjp: Vjp
    kinks: Kinks | None
    names: tuple[str, ...]
    inputs: tuple[Array, ...]
    forwards: int = 0
    backwards: int = 0
    _several: bool = False
    _shapes: tuple[tuple[int, ...], ...] | None = field(default=None)

    @property
    def point(self) -> Array:
        """The inputs as one vector."""
        return flat(self.inputs)

    def value(self, point: Array) -> Array:
        """Return f at a point, as one vector."""
        self.forwards += 1
        arguments = cut(point, [x.shape for x in self.inputs])
        answer = call("f", self.f, self.names, arguments)
        several = isinstance(answer, tuple | list)
        where = "" if np.array_equal(point, self.point) else " a step away from the inputs"
        outputs = [float64(f"f's {what}{where}", y) for what, y in numbered("result", answer)]
        shapes = tuple(y.shape for y in outputs)
        if self._shapes is None:
            self._several, self._shapes = several, shapes
        if (several, shapes) != (self._several, self._shapes):
            raise GradientCheckError(
                f"f returns shapes {list(shapes)} at one point and {list(self._shapes)} at another"
            )
        return flat(outputs)

    def pull(self, point: Array, cotangent: Array) -> Array:
        """Return the vjp at a point for one cotangent, as one vector."""
        assert self._shapes is not None  # noqa: S101 - f is called first, it says what to expect
        self.backwards += 1
        shapes = [x.shape for x in self.inputs]
        u = cut(cotangent, self._shapes)
        arguments: tuple[Any, ...] = (u if self._several else u[0], *cut(point, shapes))
        answer = call("vjp", self.vjp, ("its cotangents", *self.names), arguments)
        if not isinstance(answer, tuple | list) and len(shapes) == 1:
            answer = (answer,)
        if not isinstance(answer, tuple | list) or len(answer) != len(shapes):
            found = len(answer) if isinstance(answer, tuple | list) else type(answer).__name__
            raise GradientCheckError(
                f"vjp must return a derivative for each of {len(shapes)} inputs; found {found}"
            )
        result = []
        for name, shape, dx in zip(self.names, shapes, answer, strict=True):
            given = float64(f"vjp's derivative by {name}", dx)
            if given.shape != shape:
                raise GradientCheckError(
                    f"vjp's derivative by {name} has shape {given.shape}; the input has {shape}"
                )
            result.append(given)
        return flat(result)

    def choices(self, point: Array) -> dict[str, Array]:
        """Return the discrete choices at a point; none without `kinks`."""
        if self.kinks is None:
            return {}
        arguments = cut(point, [x.shape for x in self.inputs])
        answer = call("kinks", self.kinks, self.names, arguments)
        if not isinstance(answer, Mapping):
            raise GradientCheckError(
                f"kinks must return a mapping of names to arrays; found {type(answer).__name__}"
            )
        result = {str(name): np.array(each) for name, each in answer.items()}
        for name, each in result.items():
            if each.dtype.kind not in "biu":
                raise GradientCheckError(
                    f"kinks must return arrays of bool or integers; {name} is {each.dtype}"
                )
        return result

    def input_at(self, place: int) -> tuple[str, tuple[int, ...]]:
        """Return the input's name and the index in it of one entry of the vector."""
        at, index = found(place, [x.shape for x in self.inputs])
        return self.names[at], index

    def output_at(self, place: int) -> str:
        """Return which entry of f's result one entry of its vector is: "f[2, 0]", "f 1[3]"."""
        assert self._shapes is not None  # noqa: S101 - as in `pull`
        at, index = found(place, self._shapes)
        return entry(f"f {at}" if self._several else "f", index)


def taken(inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Return the inputs as arrays of their own.

    Raises
    ------
    OptionError
        If there is none, or one is not a finite float64 array.
    """
    if not isinstance(inputs, tuple | list) or not inputs:
        raise OptionError("inputs must be a list or a tuple with at least one array in it")
    result = []
    for number, x in enumerate(inputs):
        if kind_of(x) != "float64":
            raise OptionError(
                f"input {number} is {kind_of(x)}; differences need float64: "
                "give x.astype(np.float64), and f with float64 weights"
            )
        result.append(np.array(x, dtype=np.float64))
        if not np.isfinite(result[-1]).all():
            raise OptionError(f"input {number} is not finite; check at another point")
    return tuple(result)


def call(what: str, function: Callable[..., Any], names: Sequence[str], given: Any) -> Any:
    """Call with copies, and see that they have not changed.

    Raises
    ------
    GradientCheckError
        If an argument is not what it was before.
    """
    arguments = copied(given)
    answer = function(*arguments)
    for name, before, after in zip(names, given, arguments, strict=True):
        if not same(before, after):
            raise GradientCheckError(
                f"{what} changes {name} in place; let it work on a copy: ({name}.copy())"
            )
    return answer


def copied(value: Any) -> Any:
    """Return an array copied, or a tuple of them."""
    return tuple(copied(each) for each in value) if isinstance(value, tuple) else value.copy()


def same(a: Any, b: Any) -> bool:
    """Whether two arrays, or tuples of them, are equal in shape and in every value."""
    if isinstance(a, tuple):
        return all(same(*pair) for pair in zip(a, b, strict=True))
    return bool(np.array_equal(a, b))


def numbered(what: str, answer: Any) -> list[tuple[str, Any]]:
    """Return the parts of an answer, each with what to call it."""
    if isinstance(answer, tuple | list):
        return [(f"{what} {number}", part) for number, part in enumerate(answer)]
    return [(what, answer)]


def kind_of(value: Any) -> str:
    """Return the type of a NumPy array's entries; a float is a float64, the rest by its class."""
    if isinstance(value, np.ndarray | np.generic):
        return str(value.dtype)
    if isinstance(value, float):
        return "float64"
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def float64(what: str, value: Any) -> Array:
    """Return a function's answer as an array.

    Raises
    ------
    GradientCheckError
        If it is not a finite float64 array or number.
    """
    if kind_of(value) != "float64":
        raise GradientCheckError(f"{what} is {kind_of(value)}; expected a float64 array")
    array = np.asarray(value, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        index = tuple(int(i) for i in np.unravel_index(bad[0], array.shape))
        raise GradientCheckError(
            f"{what} is not finite: {bad.size} of {array.size} values, the first "
            f"{array[index]}{entry(' at ', index) if index else ''}"
        )
    return array


def flat(arrays: Sequence[Array]) -> Array:
    """Return arrays as one vector of its own: a function may use its result's memory again."""
    return np.concatenate([np.zeros(0), *(array.ravel() for array in arrays)])


def cut(vector: Array, shapes: Sequence[tuple[int, ...]]) -> tuple[Array, ...]:
    """Return a vector as arrays of these shapes."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes], dtype=int)
    return tuple(
        part.reshape(shape)
        for part, shape in zip(np.split(vector, ends)[: len(shapes)], shapes, strict=True)
    )


def found(place: int, shapes: Sequence[tuple[int, ...]]) -> tuple[int, tuple[int, ...]]:
    """Return which of the arrays an entry of their vector lies in, and where in it."""
    for at, shape in enumerate(shapes):
        size = int(np.prod(shape))
        if place < size:
            return at, tuple(int(i) for i in np.unravel_index(place, shape))
        place -= size
    raise IndexError(place)
