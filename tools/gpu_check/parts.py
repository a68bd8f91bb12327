"""The parts of a run: each within its time, none stopped by the failure of another."""

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

NOT_MEASURED: Literal["not measured"] = "not measured"

State = Literal["passed", "failed", "not measured"]


@dataclass
class Check:
    """One thing that was compared, or measured."""

    name: str
    state: State
    detail: str = ""


@dataclass
class Part:
    """The outcome of a part.

    Attributes
    ----------
    name
        Its name in the report.
    checks
        What it compared.
    figures
        What it measured, as JSON types.
    seconds
        The time that it took.
    """

    name: str
    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether something in it failed."""
        return any(each.state == "failed" for each in self.checks)


class Clock:
    """The time of a part."""

    def __init__(self, seconds: float) -> None:
        self._began, self._seconds = time.perf_counter(), seconds

    def passed(self) -> float:
        """Return the seconds since the part began."""
        return time.perf_counter() - self._began

    def left(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(0.0, self._seconds - self.passed())


# Runs one check, which compares or measures something, and returns what is worth telling: a
# relative difference, or words. It raises an error if the check fails, and SkippedError if it
# cannot be made.
Work = Callable[[], float | str]


class SkippedError(Exception):
    """Raised by a check that cannot be made; its text says why."""


def run(part: Part, works: Iterable[tuple[str, Work]], clock: Clock) -> Part:
    """Run the checks of a part one after the other, as long as there is time."""
    works = iter(works)
    while True:
        name = part.name
        try:
            following = next(works, None)
            if following is None:
                break
            name, work = following
            if not clock.left():
                part.checks.append(Check(name, NOT_MEASURED, "no time was left"))
                continue
            said = work()
            detail = said if isinstance(said, str) else f"{said:.1e}"
            part.checks.append(Check(name, "passed", detail))
        except SkippedError as error:
            part.checks.append(Check(name, NOT_MEASURED, str(error)))
        except Exception as error:  # the libraries of a GPU raise anything
            part.checks.append(Check(name, "failed", _said(error)))
    part.seconds = clock.passed()
    return part


def _said(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text} ({where.filename.rpartition('/')[2]}:{where.lineno})"
