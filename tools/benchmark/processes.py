"""Worker processes, which run one at a time and in turn."""

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

# A worker's measurements.
Sample = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A worker's task.

    Attributes
    ----------
    kind
        "evaluation", "optimisation", "optimiser", "optimiser in run" or "sgemm".
    contender
        The contender's name; "" for "sgemm".
    size
        The longer edge of the images; for "sgemm", the order of the matrices.
    threads
        The number of threads it may use.
    gradient
        For "evaluation": the file for the gradient.
    content, style, iterations
        For "optimisation" and "optimiser in run": the image files, and the number of iterations.
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
    """A worker failed; the message says why in one line."""


def in_own_process(job: Job, *, cache: Path | None = None) -> Sample:
    """Run a job in a process of its own and return its measurements.

    Parameters
    ----------
    cache
        The folder for torch.compile's cache. Each run of the benchmark uses a new one, so that the
        time of compiling is measured in the first process.

    Raises
    ------
    WorkerFailedError
        If the process fails or is killed.
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
        raise WorkerFailedError(f"ended by {name}; SIGKILL usually means too little memory")
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
    """The measurements of alternating processes.

    Attributes
    ----------
    by_round
        For each round, the sample of each contender that did not fail.
    failures
        By contender, why it failed.
    """

    by_round: list[dict[str, Sample]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def of(self, contender: str) -> list[Sample]:
        """Return a contender's samples, one for each round."""
        return [samples[contender] for samples in self.by_round if contender in samples]


def alternate(
    jobs: Mapping[str, Job],
    rounds: int,
    work: Callable[[Job], Sample],
    *,
    after_round: Callable[[dict[str, Sample]], None] = lambda _: None,
) -> Samples:
    """Run the contenders in turn, once in each round; every other round in reverse order.

    A contender that fails is left out of later rounds. `after_round` is called with the samples of
    each round; an exception it raises ends the run.
    """
    result = Samples()
    for number in range(rounds):
        finished: dict[str, Sample] = {}
        for name in list(jobs)[:: -1 if number % 2 else 1]:
            if name in result.failures:
                continue
            try:
                finished[name] = work(jobs[name])
            except WorkerFailedError as error:
                result.failures[name] = str(error)
        after_round(finished)
        result.by_round.append(finished)
    return result
