"""Give mutants to every reader, and group what broke a promise."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .child import read_mutants
from .sample import Sample
from .trial import Trial

# The readers take turns; in a turn they read so many mutants together.
TURN = 5_000
KEPT = 3  # mutants of each finding in the report


@dataclass
class Finding:
    """Mutants with which the same promise was broken at the same place."""

    reader: str
    outcome: str
    detail: str
    count: int = 0
    numbers: list[int] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The finding in one line, with the arguments that repeat it."""
        what = " ".join(f"{self.outcome}: {self.detail}".split())
        return f'{self.reader}: {self.count} × {what} `--repeat "{self.reader}" {self.numbers[0]}`'


@dataclass
class ReaderResult:
    """What became of the mutants of one reader, the first of which are the samples themselves."""

    reader: str
    samples: int
    mutants: int = 0
    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    originals: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    findings: dict[str, Finding] = field(default_factory=dict)

    def add(self, number: int, trial: Trial) -> None:
        """Count one mutant."""
        self.mutants += 1
        self.slowest = max(self.slowest, trial.seconds)
        if number < self.samples:
            self.originals.append(trial.outcome)
            self.details.append(trial.detail)
        if not trial.is_finding:
            setattr(self, trial.outcome, getattr(self, trial.outcome) + 1)
            return
        key = f"{trial.outcome} {_kind(trial)}"
        found = self.findings.setdefault(key, Finding(self.reader, trial.outcome, trial.detail))
        found.count += 1
        found.numbers = [*found.numbers, number][:KEPT]


def _check_samples(result: ReaderResult, samples: Sequence[Sample]) -> None:
    """Make sure that the mutants are those of files which the reader reads."""
    wanted = ["accepted" if sample.accepted else "refused" for sample in samples]
    if result.originals != wanted[: len(result.originals)]:
        raise RuntimeError(
            f"{result.reader}: {result.originals} instead of {wanted}: {result.details}"
        )


def _kind(trial: Trial) -> str:
    """Return what mutants of one finding have in common: a place in the code, or a word."""
    text = trial.detail.rstrip()
    return text.rpartition("(")[2] if text.endswith(")") else text.partition(" ")[0]


def fuzz(
    mutants: int,
    samples: Mapping[str, Sequence[Sample]],
    folder: Path,
    *,
    shares: Mapping[str, float],
    minutes: float,
    tell: Callable[[str], None],
) -> list[ReaderResult]:
    """Give mutants to the readers, each its share, until there are enough or the time is over."""
    results = {reader: ReaderResult(reader, len(samples[reader])) for reader in shares}
    end = time.monotonic() + 60 * minutes
    told = set[int]()
    for turn in range(0, mutants, TURN):
        for reader, result in results.items():
            last = round(shares[reader] * min(turn + TURN, mutants))
            began = time.monotonic()
            while result.mutants < last and time.monotonic() < end:
                read_mutants(reader, result.mutants, last, samples, folder, result.add)
            _check_samples(result, samples[reader])
            result.seconds += time.monotonic() - began
        done = sum(result.mutants for result in results.values())
        findings = [each for result in results.values() for each in result.findings.values()]
        for each in findings:
            if id(each) not in told:
                tell(each.line)
        told.update(map(id, findings))
        tell(f"{done:,} mutants, {len(findings)} findings")
        if time.monotonic() >= end:
            break
    return list(results.values())
