"""The optimisers without their evaluations: the first step, an iteration, the share in a run.

Each runs alone in a process of its own, in turn. The first two are measured on a quadratic, which
is fast to evaluate, and the share on the network with the default options, at one scale.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple, Self

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.evaluation import Evaluation
from gramstyle.optimise import lbfgsb, scipy_lbfgsb
from gramstyle.optimise.interface import Minimum
from gramstyle.optimise.lbfgsb import PairsInMemory, pairs_on_host
from gramstyle.run.optimising import optimise_scale
from gramstyle.run.options import Options
from gramstyle.run.prepare import prepare
from gramstyle.run.progress import History, ScaleStart

from .machine import machine, versions
from .measuring import Others, peak_bytes
from .processes import Job, Sample, alternate

OWN, PLAIN, SCIPY = "own", "own, without Numba", "scipy"
NAMES = (OWN, PLAIN, SCIPY)

# The pairs of the history. The iterations from there on are measured.
PAIRS, MEASURED = 10, 12


class Times(NamedTuple):
    """Seconds that have passed, and seconds of the processor in all threads."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Self:
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: "Times") -> "Times":  # type: ignore[override]
        return Times(self.wall + other.wall, self.processor + other.processor)

    def __sub__(self, other: "Times") -> "Times":
        return Times(self.wall - other.wall, self.processor - other.processor)


NO_TIME = Times(0.0, 0.0)


def minimiser(name: str, threads: int) -> tuple[Callable[..., Minimum[Any]], type]:
    """Return an optimiser's function and the float type of its start."""
    if name == SCIPY:
        return scipy_lbfgsb.minimise, np.float64
    pairs = PairsInMemory if name == PLAIN else partial(pairs_on_host, threads=threads)
    return partial(lbfgsb.minimise, pairs=pairs), np.float32


def alone(job: Job) -> Sample:
    """Measure an optimiser on 3 · size² entries."""
    minimise, dtype = minimiser(job.contender, job.threads)
    n = 3 * job.size**2
    rng = np.random.default_rng(0)
    curvature = np.geomspace(1.0, 1e4, n, dtype=np.float32)
    rng.shuffle(curvature)
    target = rng.uniform(-20, 275, n).astype(np.float32)  # a seventh is outside the bounds
    start: Array = np.full(n, 128, dtype)
    entered: list[Times] = []
    evaluating = NO_TIME

    def quadratic(x: Array) -> Any:
        nonlocal evaluating
        began = Times.now()
        entered.append(began - evaluating)
        difference = x.astype(np.float32) - target
        gradient = curvature * difference
        at = SimpleNamespace(loss=0.5 * float(np.vdot(gradient, difference)), gradient=gradient)
        evaluating += Times.now() - began
        return at

    marks: list[Times] = []

    def iterated(_iterate: object) -> None:
        marks.append(Times.now() - evaluating)

    # Once at a small size: imports and compiling, which a run pays once.
    minimise(
        lambda x: SimpleNamespace(loss=float(x @ x), gradient=(2 * x).astype(np.float32)),
        np.ones(64, dtype), iterations=3, tolerance=0.0, history=PAIRS,
    )  # fmt: skip
    others, began = Others(), Times.now()
    minimise(
        quadratic, start, iterations=PAIRS + MEASURED, tolerance=0.0, history=PAIRS,
        callback=iterated,
    )  # fmt: skip
    measured = [there - here for here, there in pairwise(marks)][PAIRS - 1 :]
    return {
        # Until the first step is evaluated, without the evaluation of the start: the set-up, and
        # the work of one iteration without pairs.
        "first_step": (entered[1] - began).wall,
        "iteration": median(each.wall for each in measured),
        "fastest": min(each.wall for each in measured),
        "processor": median(each.processor for each in measured),
        "others": others.share(),
        "peak_bytes": peak_bytes(),
    }


def in_run(job: Job) -> Sample:
    """Measure an optimiser's share in a run of one scale."""
    name: Any = SCIPY if job.contender == SCIPY else OWN
    options = Options(
        size=job.size, scales=1, iterations=job.iterations, threads=job.threads, optimiser=name
    )
    seconds: list[float] = []
    with prepare(Path(job.content), Path(job.style), options) as prepared:
        evaluate = prepared.loss_and_gradient
        if job.contender == PLAIN:
            prepared = replace(prepared, pairs=partial(PairsInMemory, PAIRS))

        def timed(x: Array) -> Evaluation:
            began = time.perf_counter()
            evaluation = evaluate(x)
            seconds.append(time.perf_counter() - began)
            return evaluation

        evaluate(prepared.start)  # the first evaluation allocates its buffers
        history = History()
        others, began = Others(), time.perf_counter()
        minimum = optimise_scale(
            replace(prepared, loss_and_gradient=timed),
            ScaleStart(iteration=0, evaluations=0, seconds=0.0, history=PAIRS),
            history,
            callback=lambda _: None,
        )
        took = time.perf_counter() - began
    return {
        "share": 1 - sum(seconds) / took,
        "seconds": took,
        "evaluations": len(seconds),
        "loss": minimum.best.evaluation.loss,
        "others": others.share(),
        "peak_bytes": peak_bytes(),
    }


def measure(
    sizes: tuple[int, ...], rounds: int, run: Job, work: Callable[[Job], Sample]
) -> dict[str, Any]:
    """Return the figures of all optimisers, ready for JSON.

    Parameters
    ----------
    sizes
        The edges of the images of `alone`.
    rounds
        The number of processes for each.
    run
        The job of `in_run` for any of them; with 0 iterations it is left out.
    """
    by_size = {}
    for size in sizes:
        jobs = {name: replace(run, kind="optimiser", contender=name, size=size) for name in NAMES}
        by_size[size] = alternate(jobs, rounds, work)
    jobs = {name: replace(run, kind="optimiser in run", contender=name) for name in NAMES}
    whole = alternate(jobs, rounds, work) if run.iterations else None
    return {
        "command": " ".join(["python -m tools.benchmark", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "threads": run.threads,
        "size": run.size,
        "iterations": run.iterations,
        "alone": [
            {"optimiser": name, "size": size, "rounds": samples.of(name)}
            for size, samples in by_size.items()
            for name in NAMES
        ],
        "in_run": [
            {"optimiser": name, "rounds": [] if whole is None else whole.of(name)} for name in NAMES
        ],
        "failures": {
            name: why
            for samples in (*by_size.values(), *(() if whole is None else (whole,)))
            for name, why in samples.failures.items()
        },
    }


def markdown(figures: dict[str, Any]) -> str:
    """Return the tables."""
    lines = [
        f"{figures['command']}; {figures['machine']}; {figures['threads']} threads",
        "",
        "| size | optimiser | first step, s | an iteration, ms (fastest) | CPU ms | peak GB |",
        "|---|---|---|---|---|---|",
    ]
    for row in figures["alone"]:
        if row["rounds"]:
            first_step, iteration, fastest, processor, peak = (
                [each[key] for each in row["rounds"]]
                for key in ("first_step", "iteration", "fastest", "processor", "peak_bytes")
            )
            lines.append(
                f"| {row['size']}×{row['size']} | {row['optimiser']} | {median(first_step):.3f} | "
                f"{median(iteration) * 1e3:.1f} ({min(fastest) * 1e3:.1f}) | "
                f"{median(processor) * 1e3:.1f} | "
                f"{max(peak) / 1e9:.2f} |"
            )
    head = f"{figures['iterations']} iterations at {figures['size']}"
    lines += [
        "",
        f"| {head} | share of the optimiser | seconds | evaluations | loss | peak GB |",
        "|---|---|---|---|---|---|",
    ]
    for row in figures["in_run"]:
        if row["rounds"]:
            first = row["rounds"][0]
            share, seconds, peak = (
                [each[key] for each in row["rounds"]] for key in ("share", "seconds", "peak_bytes")
            )
            lines.append(
                f"| {row['optimiser']} | {median(share):.1%} | {median(seconds):.1f} | "
                f"{first['evaluations']} | {first['loss']:.4g} | {max(peak) / 1e9:.2f} |"
            )
    lines += [f"{name}: {why}" for name, why in figures["failures"].items()]
    return "\n".join(lines) + "\n"
