"""The conformance cases by name, answers with known mistakes, and adapters."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from gramstyle.conformance import Answer, Case, cases
from gramstyle.conformance.adapters import numpy_plain
from gramstyle.conformance.mistakes import MISTAKES
from gramstyle.core.arrays import Array

CASES: Mapping[str, Case] = {case.name: case for case in cases()}
right = numpy_plain.value_and_grad


@cache
def planted(mistake: str, case: str) -> Answer | None:
    """The answer to a case with a mistake."""
    return MISTAKES[mistake].plant(CASES[case])


def apart(found: Array | float, truth: Array | float) -> float:
    """The relative deviation ‖found − truth‖ / ‖truth‖."""
    return float(np.linalg.norm(np.subtract(found, truth)) / np.linalg.norm(truth))


def changed(**parts: Any) -> Callable[[Array, Case], tuple[Any, Any, Any]]:
    """An adapter that returns the correct loss, gradient and dF, changed by functions."""

    def adapter(image: Array, case: Case) -> tuple[Any, Any, Any]:
        answer = dict(zip(("loss", "gradient", "dF"), right(image, case), strict=True))
        answer |= {name: change(answer[name]) for name, change in parts.items()}
        return answer["loss"], answer["gradient"], answer["dF"]

    return adapter


def raising(error: BaseException) -> Callable[[Array, Case], Any]:
    def adapter(image: Array, case: Case) -> Any:
        raise error

    return adapter


def returning(value: Any) -> Callable[[Array, Case], Any]:
    return lambda _image, _case: value
