"""Calls of the functions under check: with copies, in float64, and with checked results.

Inside the checker every point, result and derivative is one flat vector. This module cuts vectors
into the arrays that the functions expect, and concatenates their results.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.gradcheck.report import GradientCheckError, entry_name

# f(*inputs) -> an array, a number, or a tuple of them.
Function = Callable[..., Any]
# vjp(cotangents, *inputs) -> one derivative for each input; cotangents have the form of f's result.
Vjp = Callable[..., Any]
# jvp(tangents, *inputs) -> a derivative of the form of f's result; tangents: one for each input.
Jvp = Callable[..., Any]
# kinks(*inputs) -> the discrete choices by name.
Kinks = Callable[..., Mapping[str, Array]]

Shapes = tuple[tuple[int, ...], ...]


@dataclass
class Calls:
    """A function f, its derivative and its discrete choices around one point.

    Attributes
    ----------
    f, kinks
        As in `check_vjp`.
    derivative
        The derivative under check: a vjp, which `backward` calls, or a jvp, which `push` calls.
    names, inputs
        The inputs' names and the inputs, float64.
    called
        The names of f and of the derivative in messages.
    forwards, backwards
        The numbers of calls of f and of the derivative so far.
    """

    f: Function
    derivative: Vjp | Jvp
    kinks: Kinks | None
    names: tuple[str, ...]
    inputs: tuple[Array, ...]
    called: tuple[str, str] = ("f", "vjp")
    forwards: int = 0
    backwards: int = 0
    _form: tuple[bool, Shapes] | None = None  # whether f returns a tuple, and its shapes

    @property
    def point(self) -> Array:
        """The inputs as one vector."""
        return concatenated(self.inputs)

    @property
    def _shapes(self) -> Shapes:
        return tuple(x.shape for x in self.inputs)

    def forward(self, point: Array) -> Array:
        """Return f at a point, as one vector."""
        self.forwards += 1
        name = self.called[0]
        where = "" if np.array_equal(point, self.point) else " a step away from the inputs"
        outputs, form = _outputs(f"{name}'s result", where, self._call(name, self.f, point))
        self._form = self._form or form
        if form != self._form:
            shapes, earlier = list(form[1]), list(self._form[1])
            raise GradientCheckError(
                f"{name} returns shapes {shapes} at one point and {earlier} at another"
            )
        return concatenated(outputs)

    def push(self, point: Array, tangent: Array) -> Array:
        """Return the jvp at a point for one tangent, as one vector."""
        assert self._form is not None  # noqa: S101 - f is called first
        self.backwards += 1
        name = self.called[1]
        before, tangent = tangent, tangent.copy()
        t = cut(tangent, self._shapes)
        result = self._call(name, self.derivative, point, t if len(t) > 1 else t[0])
        if not np.array_equal(tangent, before):
            raise in_place(name, "its tangents")
        outputs, form = _outputs(f"{name}'s result", "", result)
        if form != self._form:
            raise GradientCheckError(
                f"{name} returns shapes {list(form[1])}; {self.called[0]} returns "
                f"{list(self._form[1])}"
            )
        return concatenated(outputs)

    def backward(self, point: Array, cotangent: Array) -> Array:
        """Return the vjp at a point for one cotangent, as one vector."""
        assert self._form is not None  # noqa: S101 - f is called first
        self.backwards += 1
        several, shapes = self._form
        before, cotangent = cotangent, cotangent.copy()
        u = cut(cotangent, shapes)
        result = self._call("vjp", self.derivative, point, u if several else u[0])
        if not np.array_equal(cotangent, before):
            raise in_place("vjp", "its cotangents")
        if not isinstance(result, tuple | list):
            result = (result,)
        if len(result) != len(self.inputs):
            raise GradientCheckError(
                f"vjp must return a derivative for each of {len(self.inputs)} inputs; "
                f"found {len(result)}"
            )
        derivatives = []
        for name, x, dx in zip(self.names, self.inputs, result, strict=True):
            derivatives.append(float64(f"vjp's derivative by {name}", dx))
            if (shape := derivatives[-1].shape) != x.shape:
                raise GradientCheckError(
                    f"vjp's derivative by {name} has shape {shape}; the input has {x.shape}"
                )
        return concatenated(derivatives)

    def choices(self, point: Array) -> dict[str, Array]:
        """Return the discrete choices at a point; none without `kinks`."""
        if self.kinks is None:
            return {}
        found = self._call("kinks", self.kinks, point)
        if not isinstance(found, Mapping):
            raise GradientCheckError(
                f"kinks must return a mapping of names to arrays; found {type(found).__name__}"
            )
        choices = {str(name): np.array(choice) for name, choice in found.items()}
        for name, choice in choices.items():
            if choice.dtype.kind not in "biu":  # floats would differ at every step
                raise GradientCheckError(
                    f"kinks must return arrays of bool or integers; {name} is {choice.dtype}"
                )
        return choices

    def _call(self, what: str, function: Callable[..., Any], point: Array, *first: Any) -> Any:
        """Call a function with copies of the inputs at a point; refuse one that changes them."""
        vector = point.copy()
        result = function(*first, *cut(vector, self._shapes))
        changed = np.flatnonzero(vector != point)
        if changed.size:
            raise in_place(what, self.input_at(int(changed[0]))[0])
        return result

    def input_at(self, place: int) -> tuple[str, tuple[int, ...]]:
        """Return the input's name and the index in it of one entry of the vector of inputs."""
        number, index = locate(place, self._shapes)
        return self.names[number], index

    def output_at(self, place: int) -> str:
        """Return the name of one entry of the vector of results, such as "f[2, 0]" or "f 1[3]"."""
        assert self._form is not None  # noqa: S101 - f is called first
        several, shapes = self._form
        number, index = locate(place, shapes)
        return entry_name(f"{self.called[0]} {number}" if several else self.called[0], index)

    @property
    def outputs(self) -> Shapes:
        """The shapes of f's results."""
        assert self._form is not None  # noqa: S101 - f is called first
        return self._form[1]


def _outputs(what: str, where: str, result: Any) -> tuple[list[Array], tuple[bool, Shapes]]:
    """Return the arrays of a result, whether it is a tuple of several, and their shapes."""
    several = isinstance(result, tuple | list)
    outputs = [
        float64(f"{what}{f' {number}' if several else ''}{where}", output)
        for number, output in enumerate(result if several else (result,))
    ]
    return outputs, (several, tuple(output.shape for output in outputs))


def checked_inputs(inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Return copies of the inputs.

    Raises
    ------
    OptionError
        If there is none, or one is not a finite float64 array.
    """
    if not isinstance(inputs, tuple | list) or not inputs:
        raise OptionError("inputs must be a list or a tuple with at least one array in it")
    return tuple(float64(f"input {n}", x, error=OptionError).copy() for n, x in enumerate(inputs))


def names_of(inputs: Sequence[Array], names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the inputs in messages.

    Raises
    ------
    OptionError
        If there are more or fewer names than inputs.
    """
    called = tuple(names) if names is not None else tuple(f"input {i}" for i in range(len(inputs)))
    if len(called) != len(inputs):
        raise OptionError(f"there are {len(inputs)} inputs and {len(called)} names")
    return called


def both_of(evaluation: Any) -> tuple[Any, Any]:
    """Return loss and gradient of what ``loss_and_gradient`` returned.

    Raises
    ------
    GradientCheckError
        If it is neither a pair nor an object with both.
    """
    if hasattr(evaluation, "loss") and hasattr(evaluation, "gradient"):
        return evaluation.loss, evaluation.gradient
    if isinstance(evaluation, tuple | list) and len(evaluation) == 2:
        return evaluation[0], evaluation[1]
    raise GradientCheckError(
        "loss_and_gradient must return a pair, or an object with .loss and .gradient; found "
        f"{type(evaluation).__name__}"
    )


def float64(what: str, value: Any, *, error: type[GramstyleError] = GradientCheckError) -> Array:
    """Return an array or number as an array.

    Raises
    ------
    GramstyleError
        Of the type given, if it is not finite or not float64: in float32, rounding is larger than
        the differences that the checker measures.
    """
    array = np.asarray(value)
    if array.dtype != np.float64:
        raise error(
            f"{what} is {array.dtype}; expected a float64 array: differences need float64, so "
            "pass x.astype(np.float64), and f with float64 weights"
        )
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        index = tuple(map(int, bad[0]))
        raise error(
            f"{what} is not finite: {len(bad)} of {array.size} values, the first "
            f"{array[index]}{entry_name(' at ', index) if index else ''}; check at another point"
        )
    return array


def in_place(what: str, name: str) -> GradientCheckError:
    """Return the error for a function that changes one of its arguments."""
    return GradientCheckError(
        f"{what} changes {name} in place; let it work on a copy: ({name}.copy())"
    )


def concatenated(arrays: Sequence[Array]) -> Array:
    """Return arrays as one new vector; a function may reuse the memory of its result."""
    return np.concatenate([np.zeros(0), *(array.ravel() for array in arrays)])


def cut(vector: Array, shapes: Sequence[tuple[int, ...]]) -> tuple[Array, ...]:
    """Return views of a vector with these shapes, in order."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes], dtype=int)
    return tuple(
        part.reshape(shape)
        for part, shape in zip(np.split(vector, ends)[: len(shapes)], shapes, strict=True)
    )


def locate(place: int, shapes: Sequence[tuple[int, ...]]) -> tuple[int, tuple[int, ...]]:
    """Return the array that contains an entry of their vector, and the index in it."""
    for number, shape in enumerate(shapes):
        size = int(np.prod(shape))
        if place < size:
            return number, tuple(int(i) for i in np.unravel_index(place, shape))
        place -= size
    raise IndexError(place)
