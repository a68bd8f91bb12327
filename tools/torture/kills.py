"""Kill commands at random moments, continue them, and compare with commands that were not."""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from .commands import Ended, run
from .victims import Made, Victim, leftovers

# Trials for each kill: a command that always ends before it is killed must not be tried for ever.
MOST_TRIALS = 20
# The duration of a command is measured so often.
MEASURED = 2


@dataclass
class KillResult:
    """What became of the kills of one command.

    Attributes
    ----------
    kills
        How often the command was killed before it had ended.
    late
        How often it had ended already, and was not counted.
    refused
        How often a run on workers ended with one line, and was started again.
    identical
        How often the continued command made the same, bit for bit.
    left
        How many temporary files there were after the continued commands.
    findings
        What broke a promise, with the number of the trial.
    """

    name: str
    kills: int = 0
    late: int = 0
    refused: int = 0
    identical: int = 0
    left: int = 0
    findings: list[str] = field(default_factory=list)


def kill_at_random(victim: Victim, kills: int, folder: Path, *, seed: int) -> KillResult:
    """Kill a command so many times, each time in a new folder."""
    rng = random.Random(f"{victim.name}:{seed}")  # noqa: S311 - not for secrets
    result = KillResult(victim.name)
    truth, seconds = _uninterrupted(victim, folder)
    for number in range(MOST_TRIALS * kills):
        if result.kills == kills:
            break
        here = _new_folder(victim, folder, str(number))
        ended = run(
            victim.command(here),
            kill_after=rng.uniform(0, seconds),
            prepare=victim.prepare,
        )
        if ended.killed:
            result.kills += 1
            result.findings += [f"trial {number}: {each}" for each in _broken(victim, here, truth)]
            again = run(victim.again(here), prepare=victim.prepare)
            differs = _difference(victim, here, truth, again)
            result.identical += not differs
            result.findings += [f"trial {number}: {differs}"] * bool(differs)
            result.left += leftovers(here)
        else:
            result.late += 1
            seconds = ended.seconds  # the machine has become faster since
        shutil.rmtree(here)
    return result


def _new_folder(victim: Victim, folder: Path, name: str) -> Path:
    here = folder / name
    here.mkdir(parents=True)
    victim.fill(here)
    return here


def _uninterrupted(victim: Victim, folder: Path) -> tuple[Made, float]:
    """Return what the command makes, and how long it takes."""
    found: list[Made] = []
    seconds: list[float] = []
    for number in range(MEASURED):
        here = _new_folder(victim, folder, f"whole-{number}")
        ended = run(victim.command(here), prepare=victim.prepare)
        if ended.code or ended.errors:
            raise RuntimeError(f"{victim.name} fails with code {ended.code}: {ended.errors}")
        found.append(victim.made(here))
        seconds.append(ended.seconds)
        shutil.rmtree(here)
    if any(each != found[0] for each in found):
        raise RuntimeError(f"{victim.name} does not make the same each time")
    return found[0], median(seconds)


def _broken(victim: Victim, here: Path, truth: Made) -> Sequence[str]:
    """Return which outputs are neither the old nor the new ones after a kill."""
    try:
        found = victim.outputs(here)
    except Exception as error:
        return [f"an output is not whole: {error}"]
    return [
        f"{name} is neither the old nor the new one"
        for name, content in found.items()
        if content not in (truth[name], victim.old.get(name))
    ]


def _difference(victim: Victim, here: Path, truth: Made, again: Ended) -> str:
    """Return how a continued command differs from one that was not killed, or nothing."""
    if again.code or again.errors:
        return f"the command after the kill ended with code {again.code}: {again.errors.strip()}"
    try:
        made = victim.made(here)
    except Exception as error:
        return f"what it has made cannot be read: {error}"
    names = [name for name in truth.keys() | made.keys() if made.get(name) != truth.get(name)]
    return f"other bits in {', '.join(sorted(names))}" if names else ""
