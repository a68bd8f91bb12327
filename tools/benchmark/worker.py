"""The program of a worker process: python -m tools.benchmark.worker JOB, with JSON in and out."""

import importlib
import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.run.options import Options
from gramstyle.run.plan import RunPlan, plan_run

from . import contenders, optimiser
from .contenders import Built, Contender, Curve
from .measuring import Others, peak_bytes, repeated, sgemm_gflops
from .processes import Job

# α and β of the timed evaluation, chosen so that both terms matter.
ALPHA, BETA = 1e-3, 1.0

# The first evaluations allocate memory and are not counted; see `measuring.repeated`.
WARM_UP, AT_LEAST, AT_MOST, SECONDS = 2, 2, 10, 4.0

# Further evaluations, in which every phase is timed.
PHASED = 2


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    work = {
        "evaluation": evaluation,
        "optimisation": optimisation,
        "optimiser": optimiser.alone,
        "optimiser in run": optimiser.in_run,
        "sgemm": sgemm,
    }[job.kind]
    try:
        answer = work(job)
    except Exception as error:  # report any error in one line
        lines = f"{type(error).__name__}: {error}".splitlines()
        answer = {"error": next(line for line in lines if line.strip())}
    print(json.dumps(answer))


def sgemm(job: Job) -> dict[str, Any]:
    return {"gflops": sgemm_gflops(job.size, times=10)}


def evaluation(job: Job) -> dict[str, Any]:
    """Measure one contender's seconds and memory, and record its loss and gradient."""
    contender = contenders.evaluations()[job.contender]
    baseline = memory_with_imports(contender)
    rng = np.random.default_rng(0)
    x, p, a = rng.uniform(0, 255, (3, 3, job.size, job.size))
    began = time.perf_counter()
    with build(contender, partial(random_plan, contender, job, p, a)) as built:
        ready = time.perf_counter()
        loss, gradient = built.evaluate(x)
        first = time.perf_counter()
        if job.gradient:
            np.save(Path(job.gradient), np.asarray(gradient, np.float32))
        others = Others()
        seconds = repeated(
            lambda: built.evaluate(x),
            warm_up=WARM_UP - 1,  # one has run already
            seconds=SECONDS,
            at_least=AT_LEAST,
            at_most=AT_MOST,
        )
        busy, peak = others.share(), peak_bytes()
        return {
            "seconds": seconds,
            "others": busy,
            "build_seconds": ready - began,
            "first_seconds": first - ready,
            "peak_bytes": peak,
            "baseline_bytes": baseline,
            "loss": loss,
            "phases": phases(built.phases, x),
        }


def phases(
    evaluate: Callable[[Array], dict[str, float]] | None, x: Array
) -> dict[str, float] | None:
    """Return the mean seconds of each phase, or None if the contender has no phases."""
    if evaluate is None:
        return None
    runs = [evaluate(x) for _ in range(PHASED)]
    return {name: sum(run[name] for run in runs) / PHASED for name in runs[0]}


def optimisation(job: Job) -> dict[str, Any]:
    """Run one contender's whole optimisation."""
    contender = contenders.optimisations()[job.contender]
    baseline = memory_with_imports(contender)
    chosen = options(contender, job, init="content", iterations=job.iterations)
    others = Others()
    curve = optimise(contender, plan_run(Path(job.content), Path(job.style), chosen))
    return {
        **asdict(curve),
        "others": others.share(),
        "peak_bytes": peak_bytes(),
        "baseline_bytes": baseline,
    }


def build(contender: Contender, make_plan: Callable[[], RunPlan]) -> AbstractContextManager[Built]:
    """Build a contender for the images of a plan; imports only what the contender needs.

    The plan is made where it is used. A reference to it here would keep its memory alive, which
    would count as the contender's.
    """
    if contender.module == "pytorch":
        from . import pytorch

        return nullcontext(Built(pytorch.evaluation(make_plan(), variant=contender.variant)))
    from . import engines

    return engines.evaluation(make_plan)


def optimise(contender: Contender, plan: RunPlan) -> Curve:
    """Run as many iterations as the plan's options say."""
    if contender.module == "pytorch":
        from . import pytorch

        return pytorch.optimise(plan, variant=contender.variant)
    from . import engines

    return engines.optimise(plan)


def memory_with_imports(contender: Contender) -> int:
    for name in contender.imports:
        importlib.import_module(name)
    return peak_bytes()


def random_plan(contender: Contender, job: Job, p: Array, a: Array) -> RunPlan:
    content, style = (image.transpose(1, 2, 0) / 255 for image in (p, a))
    return plan_run(content, style, options(contender, job, alpha=ALPHA, beta=BETA))


def options(contender: Contender, job: Job, **chosen: Any) -> Options:
    """Return the options of a contender; those of PyTorch are based on the engine numpy's."""
    engine: Any = contender.variant if contender.module == "engines" else "numpy"
    return Options(
        engine=engine,
        size=job.size,
        scales=1,
        threads=job.threads,
        pooling="max",
        padding="zeros",  # PyTorch's convolutions pad with zeros themselves, without a copy
        **chosen,
    )


if __name__ == "__main__":
    main()
