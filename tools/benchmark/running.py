"""A whole run of the benchmark: every size and round, the guard, the optimisation."""

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

# What the report looks like; raised whenever a reader of an older one would stumble.
SCHEMA = 1

# The order of the matrices whose product is the machine's peak: 16 MB each, 17 GFLOP a product.
SGEMM, SGEMM_ORDER = "sgemm", 2048

# From this size on, at most two rounds: an evaluation takes ten seconds.
LARGE, LARGE_ROUNDS = 1024, 2

Work = Callable[[Job], Sample]
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked for.

    Attributes
    ----------
    sizes
        The edges of the square images at which one evaluation is timed.
    names
        The contenders, for one evaluation and for the optimisation.
    rounds, optimisation_rounds
        How many processes for each contender.
    threads
        How many threads each may have.
    size, iterations, content, style
        The optimisation: longer edge, how long, and the images. 0 iterations leave it out.
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


def measured(settings: Settings, *, cache: Path, tell: Tell) -> dict[str, Any]:
    """Run all that is asked for and return the report, ready for JSON.

    Parameters
    ----------
    cache
        An empty folder for gradients and for what torch.compile keeps.
    tell
        Told of each process before it starts.

    Raises
    ------
    DisagreementError
        If contenders do different work.
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
        tell(" ".join(filter(None, (job.kind, job.contender, f"at {job.size}"))))
        return in_own_process(job, cache=cache)

    # What is asked for last is looked at first: the minutes before it would be lost.
    pair = _pair(settings) if settings.iterations else {}
    if settings.sizes:
        _evaluations(report, settings, cache, work)
    if settings.iterations:
        report["optimisation"] = {**pair, **_optimisation(report, settings, work)}
    report["minutes"] = (time.perf_counter() - began) / 60
    return report


def _evaluations(report: dict[str, Any], settings: Settings, folder: Path, work: Work) -> None:
    rivals = _able(contenders.evaluations(), settings, "evaluation", report)
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
            for name in rivals
        }
        jobs[SGEMM] = Job(kind="sgemm", size=SGEMM_ORDER, threads=settings.threads)
        rounds = settings.rounds if size < LARGE else min(settings.rounds, LARGE_ROUNDS)
        by_size[size] = alternate(jobs, rounds, work, after_round=partial(_agree, folder))
        _note_failures(by_size[size].failures, rivals, f"evaluation at {size}", report)
    peaks = [s["gflops"] for samples in by_size.values() for s in samples.of(SGEMM)]
    if peaks:
        report["sgemm"] = {"order": SGEMM_ORDER, "gflops": max(peaks), "by_process": peaks}
    network = read_model(locate_model()).network.until(_layers())
    for size, samples in by_size.items():
        # Backward takes as many operations as forward.
        operations = 2 * sum(network.operations(size, size).values())
        for name, contender in rivals.items():
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
    """Return the layers that the evaluation looks at."""
    options = Options()
    return (options.content_layer, *options.style_layers)


def _agree(folder: Path, gained: dict[str, Sample]) -> None:
    """Let a round pass only where all contenders found one loss and one gradient."""
    rivals = {name: sample for name, sample in gained.items() if "loss" in sample}
    if not rivals:
        return
    reference = BASELINE if BASELINE in rivals else next(iter(rivals))
    summary.check_losses({n: s["loss"] for n, s in rivals.items()}, reference=reference)
    gradients = {name: np.load(folder / f"{name}.npy") for name in rivals}
    for name, distance in summary.check_gradients(gradients, reference=reference).items():
        gained[name]["gradient_distance"] = distance


def _pair(settings: Settings) -> dict[str, Any]:
    """Return what the report says of the images; raises ImageError if one cannot be read."""
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
    runners = _able(contenders.optimisations(), settings, "optimisation", report)
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
        for name in runners
    }
    samples = alternate(jobs, settings.optimisation_rounds, work, after_round=_start_alike)
    _note_failures(samples.failures, runners, "optimisation", report)
    figures = summary.optimisation_figures(
        samples, list(runners), baselines=list(contenders.OPTIMISERS)
    )
    for row in figures["results"]:
        row["title"] = runners[row["contender"]].title
    return figures


def _start_alike(gained: dict[str, Sample]) -> None:
    if gained:
        starts = {name: sample["losses"][0] for name, sample in gained.items()}
        summary.check_losses(starts, reference=next(iter(starts)))


def _able(
    known: Mapping[str, Contender], settings: Settings, what: str, report: dict[str, Any]
) -> dict[str, Contender]:
    """Return those that were chosen and can run, and note why others cannot."""
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
