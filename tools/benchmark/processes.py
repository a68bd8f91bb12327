"""Workers, each alone in a process of its own, one after the other, in turn."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

# What a worker says of itself.
Sample = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker is to do.

    Attributes
    ----------
    kind
        "evaluation", "optimisation" or "sgemm".
    contender
        Its name; "" for "sgemm".
    size
        The images' longer edge; the order of the matrices for "sgemm".
    threads
        How many threads it may have.
    gradient
        For "evaluation": where to leave the gradient.
    content, style, iterations
        For "optimisation": the images' files, and how long.
    """

    kind: str
    size: int
    threads: int
    contender: str = ""
    gradient: str = ""
    content: str = ""
    style: str = ""
    iterations: int = 0


class WorkerFailedError(Exception):
    """A worker could not do its job; the message says why in one line."""


def in_own_process(job: Job, *, cache: Path | None = None) -> Sample:
    """Do a job in a process of its own and return what it says.

    Parameters
    ----------
    cache
        A folder in which torch.compile may keep what it has compiled. A new one for each run of
        the benchmark, so that the first process pays and is reported.

    Raises
    ------
    WorkerFailedError
        If it fails, or is killed.
    """
    threads = str(job.threads)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "NUMBA_NUM_THREADS": threads,
    }
    if cache is not None:
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
    command = [sys.executable, "-m", "tools.benchmark.worker", json.dumps(asdict(job))]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, cwd=ROOT
    )
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise WorkerFailedError(f"ended by {name}; SIGKILL is what too little memory looks like")
    if done.returncode > 0:
        raise WorkerFailedError(_last_line(done.stderr) or f"exit code {done.returncode}")
    answer: Sample = json.loads(_last_line(done.stdout))
    if "error" in answer:
        raise WorkerFailedError(answer["error"])
    return answer


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


@dataclass
class Samples:
    """What alternating processes gave.

    Attributes
    ----------
    by_round
        For each round the samples by contender; those that failed are not among them.
    failures
        Why a contender could not go on, by its name.
    """

    by_round: list[dict[str, Sample]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def of(self, contender: str) -> list[Sample]:
        """Return a contender's samples, one a round."""
        return [samples[contender] for samples in self.by_round if contender in samples]


def alternate(
    jobs: Mapping[str, Job],
    rounds: int,
    work: Callable[[Job], Sample],
    *,
    after_round: Callable[[dict[str, Sample]], None] = lambda _: None,
) -> Samples:
    """Let the contenders work in turn, each once a round; every other round in reverse order.

    What fails is reported and left out of later rounds, and the others go on. `after_round` is
    told what a round has given, and may raise to end it all.
    """
    result = Samples()
    for number in range(rounds):
        gained: dict[str, Sample] = {}
        for name in list(jobs)[:: -1 if number % 2 else 1]:
            if name in result.failures:
                continue
            try:
                gained[name] = work(jobs[name])
            except WorkerFailedError as error:
                result.failures[name] = str(error)
        after_round(gained)
        result.by_round.append(gained)
    return result
