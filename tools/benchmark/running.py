"""A whole run of the benchmark: all sizes and rounds, the checks, the optimisation."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.images import fitted_size, read_image
from gramstyle.model import locate_model, read_model
from gramstyle.run.options import Options

from . import contenders, summary
from .contenders import BASELINE, Contender
from .machine import machine, versions
from .processes import Job, Sample, alternate, in_own_process

# The version of the report's format.
SCHEMA = 1

# The order of the matrices whose product measures the machine's peak: 16 MB each, 17 GFLOP.
SGEMM, SGEMM_ORDER = "sgemm", 2048

# From this size on, two rounds are enough: an evaluation takes ten seconds.
LARGE, LARGE_ROUNDS = 1024, 2

Work = Callable[[Job], Sample]
Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a run.

    Attributes
    ----------
    sizes
        The edges of the square images for one evaluation.
    names
        The contenders, for one evaluation and for the optimisation.
    rounds, optimisation_rounds
        The number of processes for each contender.
    threads
        The number of threads for each process.
    size, iterations, content, style
        The optimisation: the longer edge, the number of iterations and the image files. With 0
        iterations it is left out.
    """

    sizes: tuple[int, ...]
    names: tuple[str, ...]
    rounds: int
    threads: int
    size: int
    iterations: int
    optimisation_rounds: int
    content: Path
    style: Path


def measure(settings: Settings, *, folder: Path, log: Log) -> dict[str, Any]:
    """Run the benchmark and return the report, ready for JSON.

    Parameters
    ----------
    folder
        An empty folder for gradients and for torch.compile's cache.
    log
        Called with a line of text before each process starts.

    Raises
    ------
    DisagreementError
        If contenders disagree about the loss or its gradient.
    ImageError, ModelError
        If an image or the network's file cannot be read.
    """
    began, now = time.perf_counter(), datetime.now(UTC)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "date": now.isoformat(timespec="seconds"),
        "command": " ".join(["python -m tools.benchmark", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "threads": settings.threads,
        "sgemm": None,
        "evaluations": [],
        "optimisation": {"targets": [], "results": []},
        "failures": [],
    }

    def work(job: Job) -> Sample:
        log(" ".join(filter(None, (job.kind, job.contender, f"at {job.size}"))))
        return in_own_process(job, cache=folder)

    # Read the images first, so that an error does not come after minutes of measuring.
    images = _images(settings) if settings.iterations else {}
    if settings.sizes:
        _evaluations(report, settings, folder, work)
    if settings.iterations:
        report["optimisation"] = {**images, **_optimisation(report, settings, work)}
    report["minutes"] = (time.perf_counter() - began) / 60
    return report


def _evaluations(report: dict[str, Any], settings: Settings, folder: Path, work: Work) -> None:
    able = _able(contenders.evaluations(), settings, "evaluation", report)
    by_size = {}
    for size in settings.sizes:
        jobs = {
            name: Job(
                kind="evaluation",
                contender=name,
                size=size,
                threads=settings.threads,
                gradient=str(folder / f"{name}.npy"),
            )
            for name in able
        }
        jobs[SGEMM] = Job(kind="sgemm", size=SGEMM_ORDER, threads=settings.threads)
        rounds = settings.rounds if size < LARGE else min(settings.rounds, LARGE_ROUNDS)
        by_size[size] = alternate(jobs, rounds, work, after_round=partial(check_agreement, folder))
        _note_failures(by_size[size].failures, able, f"evaluation at {size}", report)
    peaks = [s["gflops"] for samples in by_size.values() for s in samples.of(SGEMM)]
    if peaks:
        report["sgemm"] = {"order": SGEMM_ORDER, "gflops": max(peaks), "by_process": peaks}
    network = read_model(locate_model()).network.until(_layers())
    for size, samples in by_size.items():
        # The backward pass takes as many operations as the forward pass.
        operations = 2 * sum(network.operations(size, size).values())
        for name, contender in able.items():
            if samples.of(name):
                figures = summary.evaluation_figures(
                    samples,
                    name,
                    baseline=BASELINE,
                    operations=operations,
                    sgemm_gflops=max(peaks, default=None),
                )
                head = {"contender": name, "title": contender.title, "size": size}
                report["evaluations"].append({**head, "operations": operations, **figures})


def _layers() -> tuple[str, ...]:
    """Return the layers that the loss terms of an evaluation look at."""
    return Options().named_layers


def check_agreement(folder: Path, samples: dict[str, Sample]) -> None:
    """Check that all contenders found the same loss and gradient; note the gradients' distances.

    Raises
    ------
    DisagreementError
        If they did not.
    """
    losses = {name: sample["loss"] for name, sample in samples.items() if "loss" in sample}
    if not losses:
        return
    reference = BASELINE if BASELINE in losses else next(iter(losses))
    summary.check_losses(losses, reference=reference)
    gradients = {name: np.load(folder / f"{name}.npy") for name in losses}
    for name, distance in summary.check_gradients(gradients, reference=reference).items():
        samples[name]["gradient_distance"] = distance


def _images(settings: Settings) -> dict[str, Any]:
    """Return the report's entries for the images; raises ImageError if one cannot be read."""
    image = read_image(settings.content)
    read_image(settings.style)
    width, height = fitted_size(image.width, image.height, settings.size)
    return {
        "content": settings.content.name,
        "style": settings.style.name,
        "width": width,
        "height": height,
        "iterations": settings.iterations,
    }


def _optimisation(report: dict[str, Any], settings: Settings, work: Work) -> dict[str, Any]:
    able = _able(contenders.optimisations(), settings, "optimisation", report)
    jobs = {
        name: Job(
            kind="optimisation",
            contender=name,
            size=settings.size,
            threads=settings.threads,
            content=str(settings.content.resolve()),
            style=str(settings.style.resolve()),
            iterations=settings.iterations,
        )
        for name in able
    }
    samples = alternate(jobs, settings.optimisation_rounds, work, after_round=_check_starts)
    _note_failures(samples.failures, able, "optimisation", report)
    figures = summary.optimisation_figures(
        samples, list(able), baselines=list(contenders.OPTIMISERS)
    )
    for row in figures["results"]:
        row["title"] = able[row["contender"]].title
    return figures


def _check_starts(samples: dict[str, Sample]) -> None:
    """Check that all optimisations start at the same loss."""
    if samples:
        starts = {name: sample["losses"][0] for name, sample in samples.items()}
        summary.check_losses(starts, reference=next(iter(starts)))


def _able(
    known: Mapping[str, Contender], settings: Settings, what: str, report: dict[str, Any]
) -> dict[str, Contender]:
    """Return the chosen contenders that can run, and report why others cannot."""
    chosen = {name: each for name, each in known.items() if name in settings.names}
    missing = {name: why for name, each in chosen.items() if (why := each.missing())}
    _note_failures(missing, chosen, what, report)
    return {name: each for name, each in chosen.items() if name not in missing}


def _note_failures(
    failures: Mapping[str, str], known: Mapping[str, Contender], what: str, report: dict[str, Any]
) -> None:
    for name, reason in failures.items():
        title = known[name].title if name in known else name
        report["failures"].append(
            {"contender": name, "title": title, "what": what, "reason": reason}
        )
