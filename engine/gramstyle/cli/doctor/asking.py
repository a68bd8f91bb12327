"""Ask a child process about this installation; a package that crashes ends only the child."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gramstyle.cli.doctor.finding import one_line

# Far longer than any import takes: a package that waits for a network or a lock must end.
SECONDS = 300


@dataclass(frozen=True)
class Answer:
    """The answer to a probe.

    Attributes
    ----------
    value
        What the probe found; empty if it failed.
    problem
        Why it failed, in one line; "" if it did not.
    """

    value: dict[str, Any]
    problem: str = ""


def ask(probes: Sequence[str]) -> dict[str, Answer]:
    """Return the answers to the probes of `gramstyle.cli.doctor.probe`, by their names.

    The probes run in one child process. If it dies, the probe that ended it is answered with that,
    and another child continues with the next one.
    """
    answers: dict[str, Answer] = {}
    while waiting := [name for name in probes if name not in answers]:
        found, end = _run(waiting)
        answers |= found
        left = [name for name in waiting if name not in found]
        if left:
            answers[left[0]] = Answer({}, end)
    return answers


def _run(probes: Sequence[str]) -> tuple[dict[str, Answer], str]:
    """Run a child; return its answers, and how it ended."""
    # -P: a file of the working directory is not imported in place of a package.
    command = [sys.executable, "-P", "-m", "gramstyle.cli.doctor.probe", *probes]
    try:
        child = subprocess.run(  # noqa: S603 - this interpreter with fixed words
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as stop:
        return _answers(stop.stdout or b""), f"it did not end within {SECONDS} seconds"
    except OSError as error:
        return {}, f"Python cannot be started as {sys.executable!r}: {error.strerror}"
    return _answers(child.stdout), _ending(child.returncode)


def _answers(output: bytes) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    for line in output.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # the last line of a child that died
            continue
        value = entry.get("answer")
        problem = one_line(entry.get("problem", ""))
        found[entry["probe"]] = Answer(value if isinstance(value, dict) else {}, problem)
    return found


def _ending(code: int) -> str:
    if code >= 0:
        return f"it ended Python with exit code {code}"
    try:
        return f"it ended Python with {signal.Signals(-code).name}"
    except ValueError:
        return f"it ended Python with signal {-code}"
