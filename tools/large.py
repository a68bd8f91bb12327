"""Measure time and memory of a large image in tiles, and compare it with a small whole image.

    python -m tools.large                      4096×3072 pixels within 3GB
    python -m tools.large 8192x6144 --memory 6GB
    python -m tools.large 4096x3072 --workers 2    on a cluster of two processes

Each measurement runs in a process of its own. A whole image of 1024×768 pixels is measured before
and after the large one; the mean of its pixels per second is the reference. Peak memory is the
process's resident set, with the optimiser and without its workers. The optimiser's seconds are
those of one iteration with a full history, without evaluations. The images are the samples in
docs/, enlarged.
"""

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from gramstyle.cli.arguments import size_in_bytes
from gramstyle.core.evaluation import Evaluation
from gramstyle.optimise import lbfgsb
from gramstyle.run.options import Options
from gramstyle.run.prepare import Prepared, prepare

SAMPLES = Path("docs/samples")
WHOLE = "1024x768"


def measure(
    size: str,
    memory: int | None,
    iterations: int,
    workers: int | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Run a few iterations in this process; return their time and memory."""
    width, height = (int(edge) for edge in size.split("x"))
    content = np.asarray(Image.open(SAMPLES / "chelsea.jpg").convert("RGB").resize((width, height)))
    options = Options(
        size=max(width, height), scales=1, padding="zeros", memory=memory, iterations=iterations,
        optimiser="own", max_pixels=10**9, workers=workers, threads=threads,
    )  # fmt: skip
    preparing = prepare(content, SAMPLES / "meadow.jpg", options)
    del content
    with preparing as prepared:
        return measured(prepared, size, memory, iterations)


def measured(prepared: Prepared, size: str, memory: int | None, iterations: int) -> dict[str, Any]:
    """Measure a prepared scale."""
    seconds: list[float] = []

    def evaluate(x: Any) -> Evaluation:
        began = time.perf_counter()
        evaluation = prepared.loss_and_gradient(x)
        seconds.append(time.perf_counter() - began)
        return evaluation

    lbfgsb.proceed(
        evaluate,
        lbfgsb.begin(evaluate, prepared.start, pairs=prepared.pairs()),
        iterations=iterations,
        tolerance=0.0,
    )
    gc.collect()
    width, height = (int(edge) for edge in size.split("x"))
    return {
        "size": size,
        "memory": memory,
        "workers": prepared.options.workers,
        "tile": prepared.options.tile,
        "evaluations": len(seconds),
        "seconds": float(np.median(seconds[1:])),
        "optimiser": optimiser_seconds(prepared),
        "kilopixels": width * height / float(np.median(seconds[1:])) / 1e3,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def optimiser_seconds(prepared: Prepared) -> float:
    """Return the seconds of one iteration with a full history, without its evaluations."""
    height = prepared.start.shape[1]
    # A quadratic with a different curvature in each row needs more than a few iterations.
    curvature = np.geomspace(1.0, 1e3, height)
    evaluating = 0.0

    def quadratic(x: Any) -> Any:
        nonlocal evaluating
        began = time.perf_counter()
        gradient = x - x.dtype.type(128)
        loss = 0.5 * float(np.einsum("cyx,cyx,y->", gradient, gradient, curvature))
        gradient *= curvature[:, None].astype(x.dtype)
        evaluating += time.perf_counter() - began
        return SimpleNamespace(loss=loss, gradient=gradient)

    state = lbfgsb.begin(quadratic, prepared.start, pairs=prepared.pairs())
    took = 0.0
    while not took:
        full = len(state.pairs) == prepared.options.history
        began, evaluating = time.perf_counter(), 0.0
        following = lbfgsb.step(quadratic, state)
        if following is None:
            raise RuntimeError("the quadratic's minimum is reached before the history is full")
        state = following
        took = time.perf_counter() - began - evaluating if full else 0.0
    return took


def measure_in_process(
    size: str,
    memory: int | None,
    iterations: int,
    workers: int | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Call `measure` in a process of its own."""
    arguments = [size, "--here", "--iterations", str(iterations)]
    if workers is not None:
        arguments += ["--workers", str(workers)]
    if threads is not None:
        arguments += ["--threads", str(threads)]
    if memory is not None:
        arguments += ["--memory", str(memory)]
    done = subprocess.run(
        [sys.executable, "-m", "tools.large", *arguments],
        check=True, stdout=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", nargs="?", default="4096x3072", metavar="WIDTHxHEIGHT")
    parser.add_argument("--memory", type=size_in_bytes, default=None, help="(default 3GB)")
    parser.add_argument("--iterations", type=int, default=2, metavar="N")
    parser.add_argument("--workers", type=int, default=None, metavar="N",
        help="compute the tiles of the large image on that many Dask workers")  # fmt: skip
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="(default: all)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        asked = arguments.size, arguments.memory, arguments.iterations
        print(json.dumps(measure(*asked, arguments.workers, arguments.threads)))
        return
    memory = arguments.memory or 3 * 10**9
    rows = [
        measure_in_process(WHOLE, None, 4),
        measure_in_process(
            arguments.size, memory, arguments.iterations, arguments.workers, arguments.threads
        ),
        measure_in_process(WHOLE, None, 4),
    ]
    whole = (rows[0]["kilopixels"] + rows[-1]["kilopixels"]) / 2
    print(
        "| size | --memory | tile | s/evaluation | kpx/s | whole/this | optimiser, s | peak, GB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        budget = "" if row["memory"] is None else f"{row['memory'] / 1e9:g} GB"
        if row["workers"] is not None:
            budget = f"{budget}, {row['workers']} workers"
        print(
            f"| {row['size']} | {budget} | {row['tile'] or 'whole'} | {row['seconds']:.1f} | "
            f"{row['kilopixels']:.0f} | {whole / row['kilopixels']:.2f} | "
            f"{row['optimiser']:.1f} | {row['peak']:.2f} |"
        )


if __name__ == "__main__":
    main()
