"""What an examination of the installation finds: facts, and problems with their remedies."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

# "note": a run works, but something is missing or slower. "broken": a run fails.
State = Literal["ok", "note", "broken"]


@dataclass(frozen=True)
class Finding:
    """A fact about the installation or the machine.

    Attributes
    ----------
    section, name
        What it is about.
    value
        The fact, in one line.
    state
        "ok", "note" (a run works, but something is missing) or "broken".
    remedy
        What to do, in one line; None if there is nothing to do.

    Examples
    --------
    >>> from gramstyle.cli.doctor import Finding
    >>> Finding("packages", "numpy", "2.4.6").state
    'ok'
    """

    section: str
    name: str
    value: str
    state: State = "ok"
    remedy: str | None = None


@dataclass(frozen=True)
class Report:
    """The findings of an examination, in the order of their sections.

    Examples
    --------
    >>> from gramstyle.cli.doctor import Finding, Report
    >>> missing = Finding("packages", "scipy", "not installed", "broken", "pip install scipy")
    >>> Report((missing,)).broken[0].name
    'scipy'
    """

    findings: tuple[Finding, ...]

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The findings because of which runs fail."""
        return tuple(each for each in self.findings if each.state == "broken")

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {"healthy": not self.broken, "findings": [asdict(each) for each in self.findings]}


def guarded(section: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return the findings of a check; if it fails, a finding that says so."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except Exception as error:  # an examination goes on in every state of the installation
        problem = f"cannot be examined: {type(error).__name__}: {error}"
        remedy = "report this as a bug in gramstyle"
        found.append(Finding(section, "examination", one_line(problem), "broken", remedy))
    return found


def one_line(text: str) -> str:
    """Return a text as one line of at most 500 characters."""
    return " ".join(text.split())[:500]
