"""Test an adapter on cases. An adapter that raises or changes its input fails that case only."""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import numpy as np

from gramstyle.conformance.cases import Answer, Case
from gramstyle.conformance.comparing import (
    TOLERANCES,
    Adapter,
    Comparison,
    NoAnswerError,
    compare,
)
from gramstyle.conformance.derivatives import NAMES, Derivatives
from gramstyle.conformance.explaining import explain, explain_all
from gramstyle.conformance.mistakes.families import Member
from gramstyle.conformance.timing import rate_of
from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution
from gramstyle.errors import OptionError

DTYPES = tuple(TOLERANCES)
EXPECTED = "loss, gradient, {layer: dF}"
FURTHER = "a dictionary with any of dW, db, jvp, hvp"
LONGEST = 300

# An explanation takes some hundred passes, so it is searched for only where a forward pass takes at
# most so many operations.
EXPLAINED = 3e8


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one case.

    Attributes
    ----------
    case, pins
        The name of the case, and the convention that it tests.
    comparisons
        The loss, the gradient, dF in the order of the backward pass, then further derivatives;
        empty if there is a problem.
    problem
        Why the answer cannot be compared, in one sentence; "" if it can.
    explanation
        The known mistakes that the answer matches, in one sentence; "" if none does, or if the
        case passed.
    seconds
        The time that the adapter took.
    found
        The answer of the adapter; None if there is a problem.
    rate
        Evaluations a second; None if they were not measured.
    """

    case: str
    pins: str
    comparisons: tuple[Comparison, ...] = ()
    problem: str = ""
    explanation: str = ""
    seconds: float = 0.0
    found: Answer | None = field(default=None, repr=False)
    rate: float | None = None

    @property
    def passed(self) -> bool:
        """Whether every quantity is within its tolerance."""
        return not self.problem and all(each.passed for each in self.comparisons)

    @property
    def worst(self) -> Comparison | None:
        """The quantity with the largest relative deviation."""
        return max(self.comparisons, key=_badness, default=None)

    @property
    def where(self) -> str:
        """Where the backward pass first goes wrong, in one sentence; "" if nothing deviates."""
        wrong = [each.quantity for each in self.comparisons if not each.passed]
        swept = [each.quantity for each in self.comparisons if each.quantity.startswith("dF of ")]
        if not wrong:
            return ""
        if first := next((quantity for quantity in swept if quantity in wrong), None):
            sentence = f"the backward pass deviates first at {first}"
            if wrong[0] != "loss" or self.comparisons[0].problem:
                return sentence
            return f"{sentence}; the loss deviates too: check the forward pass and the terms first"
        if wrong[0] not in ("loss", "gradient"):
            return f"loss and gradient are correct; {wrong[0]} deviates"
        if "gradient" not in wrong:
            return "the loss deviates; every gradient is correct"
        if swept:
            return f"{swept[-1]} is correct; the pass goes wrong between there and the pixels"
        return "the gradient deviates; return dF to find out at which layer"


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of all cases.

    Attributes
    ----------
    dtype
        The float type of the computation.
    results
        One for each case, in the order of the cases.
    explanation
        The known mistakes that explain all failed cases together, in one line; "" if none does.
    """

    dtype: str
    results: tuple[Result, ...]
    explanation: str = ""

    @property
    def failed(self) -> tuple[Result, ...]:
        """The results of the cases that failed."""
        return tuple(result for result in self.results if not result.passed)


def run(
    adapter: Adapter,
    cases: Iterable[Case],
    *,
    dtype: str,
    timed: bool = False,
    callback: Callable[[Result], None] | None = None,
) -> Report:
    """Test an adapter on every case.

    Parameters
    ----------
    adapter
        ``adapter(image, case) -> loss, gradient, {layer: dF}``, and optionally a dictionary of
        further derivatives. It gets copies.
    cases
        The cases to test it on.
    dtype
        "float64", "float32" or "float16": the float type of the image, in which to compute.
    timed
        Whether to measure also how many evaluations the adapter does in a second.
    callback
        Called with the result of each case.

    Raises
    ------
    OptionError
        If the dtype is none of these.
    """
    results, failed = [], []
    suspects: dict[str, Member] = {}
    for case in cases:
        result = check(adapter, case, dtype=dtype, suspects=suspects)
        if result.found is not None and not result.passed and _is_explained(case):
            failed.append((case, result.found))
        if timed and result.found is not None:
            result = replace(result, rate=rate_of(adapter, case, dtype))
        if callback is not None:
            callback(result)
        results.append(result)
    # A single failed case has its own explanation already.
    together = explain_all(failed, dtype, suspects) if len(failed) > 1 else ""
    return Report(dtype=dtype, results=tuple(results), explanation=together)


def check(
    adapter: Adapter,
    case: Case,
    *,
    dtype: str,
    explained: bool = True,
    suspects: dict[str, Member] | None = None,
) -> Result:
    """Test an adapter on one case; parameters and errors as for `run` and `explain`.

    With `explained`, the known mistakes that a wrong answer matches are searched for.
    """
    if dtype not in DTYPES:
        raise OptionError(f"the dtype must be {', '.join(DTYPES)}, not {dtype!r}")
    result = Result(case=printable(case.name), pins=printable(case.pins))
    image = case.x.astype(dtype)
    handed_image, handed = image.copy(), copy.deepcopy(replace(case))
    began = time.perf_counter()
    try:
        found = _read(adapter(handed_image, handed), case)
    except NoAnswerError as error:
        return replace(result, problem=printable(str(error)), seconds=time.perf_counter() - began)
    except KeyboardInterrupt:
        raise
    # Foreign code may raise anything, including SystemExit.
    except BaseException as error:
        return replace(
            result, problem=f"raised {_said(error)}", seconds=time.perf_counter() - began
        )
    result = replace(result, seconds=time.perf_counter() - began)
    if changed := _changed((handed_image, handed), (image, case)):
        return replace(result, problem=f"changed its input: {changed}")
    # The comparison reports numbers that overflow.
    with np.errstate(all="ignore"):
        result = replace(result, comparisons=tuple(compare(case, found, dtype)), found=found)
        asked = explained and not result.passed and _is_explained(case)
        explanation = explain(case, found, dtype, suspects) if asked else None
    return replace(result, explanation=explanation.sentence if explanation else "")


def printable(text: str) -> str:
    """Return a text as one printable line of limited length."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _read(returned: Any, case: Case) -> Answer:
    """Return the answer of an adapter as copies in NumPy arrays."""
    if not isinstance(returned, tuple | list):
        raise NoAnswerError(f"returned {_kind(returned)}; expected {EXPECTED}")
    if len(returned) not in (3, 4):
        raise NoAnswerError(f"returned {len(returned)} things; expected {EXPECTED}")
    loss, gradient, layers, *more = returned
    if not isinstance(layers, Mapping):
        raise NoAnswerError(f"returned {_kind(layers)} as dF; expected a dictionary by layer")
    truth = case.truth
    numbers = _array("the loss", loss, ())
    dF = {}
    for name in layers:
        if name not in truth.dF:
            raise NoAnswerError(
                f"returned dF of {printable(repr(name))}; expected layers of "
                f"{', '.join(case.network.names)}"
            )
        dF[name] = _array(f"dF of {name}", layers[name], truth.dF[name].shape)
    gradient = _array("the gradient", gradient, case.x.shape)
    return Answer(float(numbers), gradient, dF, _derivatives(*more, case=case))


def _derivatives(more: Any = None, *, case: Case) -> Derivatives:
    """Return the further derivatives of an answer; what is left out or None stays out."""
    if more is None:
        return Derivatives()
    if not isinstance(more, Mapping):
        raise NoAnswerError(f"returned {_kind(more)} as further derivatives; expected {FURTHER}")
    if unknown := [name for name in more if name not in NAMES]:
        raise NoAnswerError(f"returned {printable(repr(unknown[0]))}; expected {FURTHER}")
    by_layer = {}
    for letter in ("dW", "db"):
        found = more.get(letter, {})
        if not isinstance(found, Mapping):
            raise NoAnswerError(f"returned {_kind(found)} as {letter}; expected a dictionary")
        true = getattr(case.derivatives, letter)
        for name in found:
            if name not in true:
                raise NoAnswerError(
                    f"returned {letter} of {printable(repr(name))}; expected layers of "
                    f"{', '.join(true)}"
                )
        by_layer[letter] = {
            name: _array(f"{letter} of {name}", found[name], true[name].shape) for name in found
        }
    jvp, hvp = more.get("jvp"), more.get("hvp")
    return Derivatives(
        jvp=None if jvp is None else float(_array("jvp", jvp, ())),
        hvp=None if hvp is None else _array("hvp", hvp, case.x.shape),
        **by_layer,
    )


def _array(what: str, value: Any, shape: tuple[int, ...]) -> Array:
    """Return a copy of a value, which must be an array of floats of this shape."""
    try:
        array = np.array(value)
    except Exception as error:  # the arrays of a framework may raise anything
        raise NoAnswerError(f"{what} is not an array: {_said(error)}") from None
    if array.dtype.kind != "f":
        raise NoAnswerError(f"{what} has the dtype {array.dtype}; expected floats")
    if array.shape != shape:
        raise NoAnswerError(f"{what} has the shape {array.shape}; expected {shape}")
    return array


def _is_explained(case: Case) -> bool:
    return sum(case.network.operations(*case.x.shape[1:]).values()) <= EXPLAINED


def _changed(handed: tuple[Array, Case], kept: tuple[Array, Case]) -> str:
    """Name the first thing that differs from its original; "" if nothing does."""
    pairs = zip_longest(_contents(*kept), _safe_contents(*handed), fillvalue=("", None))
    for (what, before), (_, after) in pairs:
        if before is None or after is None:
            return "the case"
        if not _same(before, after):
            return what
    return ""


def _same(before: Array, after: Any) -> bool:
    if not isinstance(after, np.ndarray):
        return False
    alike = before.dtype == after.dtype and before.shape == after.shape
    return alike and before.tobytes() == after.tobytes()


def _safe_contents(image: Array, case: Case) -> Iterator[tuple[str, Any]]:
    """Yield the contents of the image and the case that an adapter got, damaged or not."""
    try:
        yield from _contents(image, case)
    # The adapter may have removed any attribute.
    except Exception:
        yield "", None


def _contents(image: Array, case: Case) -> Iterator[tuple[str, Array]]:
    """Yield every array and number that an adapter gets."""
    yield "the image", image
    for what, pixels in (("x", case.x), ("p", case.p), ("a", case.a)):
        yield f"{what} of the case", np.asarray([] if pixels is None else pixels)
    for layer in case.objective.network.layers:
        if isinstance(layer, Convolution):
            yield f"the weights of {layer.name}", layer.W
            yield f"the biases of {layer.name}", layer.b
    if case.content is not None:
        yield "P", case.content.P
    for name, term in case.style_terms.items():
        yield f"A of {name}", np.asarray(term.A)
        yield f"M of {name}", np.asarray(getattr(term, "M", 0))
    for name, guided in case.guided_terms.items():
        yield f"A of {name}", np.asarray(guided.A)
        yield f"T of {name}", np.asarray([*guided.T])
        yield f"M of {name}", np.array([*guided.m, *guided.M, *guided.shares])
    for name, T in case.guidance.items():
        yield f"T of {name} in the style image", T
    weights = [*case.objective.weights.values(), *(term.weight for term in case.objective.terms)]
    yield "the weights of the loss", np.array(weights)


def _badness(each: Comparison) -> float:
    return math.inf if each.problem or math.isnan(each.relative) else each.relative


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _said(error: BaseException) -> str:
    """Return an exception as one line; its own __str__ may raise another."""
    try:
        text = str(error)
    except Exception:
        text = ""
    return printable(f"{type(error).__name__}: {text}" if text else type(error).__name__)
