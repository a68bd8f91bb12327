"""Measure an evaluation and the iterations on the device, and the same in PyTorch.

PyTorch computes in a process of its own: it may lack, crash or hang, and its memory is its own.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution, Network
from gramstyle.engines.cuda.device import Device, open_device
from gramstyle.optimise import lbfgsb

from . import objective
from .objective import Numbers
from .parts import Clock, Part, SkippedError, Work

ROOT = Path(__file__).parents[2]
WARM_UP, REPEATED = 3, 20
HISTORY = 10
# ‖found − PyTorch's‖ / ‖PyTorch's‖ of the gradient, in float32 and with TF32: TF32 rounds factors
# to 1e-3, and both flip ReLUs.
AGREES = {False: 1e-3, True: 1e-1}


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes
    ----------
    sizes
        The edges of the images, in pixels.
    iterations
        How many iterations of L-BFGS, at most.
    on
        "cuda" or "cpu".
    """

    sizes: tuple[int, ...]
    iterations: int
    on: str


def checks(
    settings: Settings, network: Network, part: Part, clock: Clock
) -> Iterator[tuple[str, Work]]:
    """Yield every measurement; the figures go to the part.

    The sizes take turns with the precisions, so that the first figures come early. Each
    measurement gets an equal share of the time that is left.
    """
    todo = [(size, tf32) for size in settings.sizes for tf32 in (False, True)]
    part.figures["rows"] = rows = list[dict[str, Any]]()
    for index, (size, tf32) in enumerate(todo):
        these = objective.numbers(network, size)
        row: dict[str, Any] = {"size": size, "tf32": tf32}
        rows.append(row)
        name = f"{size}×{size}, {'TF32' if tf32 else 'float32'}"
        share = clock.left() / (len(todo) - index)
        yield f"gramstyle {name}", partial(_gramstyle, settings, these, row, share / 2)
        yield f"PyTorch {name}", partial(_pytorch, settings, these, row, share / 2)


def timed(work: Callable[[], object], wait: Callable[[], object], seconds: float) -> dict[str, Any]:
    """Return the seconds of the first run, and the median and minimum of the repeated ones."""
    taken: list[float] = []
    limit = time.perf_counter() + seconds
    while len(taken) < WARM_UP + REPEATED and (len(taken) < 2 or time.perf_counter() < limit):
        began = time.perf_counter()
        work()
        wait()
        taken.append(time.perf_counter() - began)
    kept = taken[min(WARM_UP, len(taken) - 1) :]
    return {
        "first_seconds": taken[0],
        "median_seconds": float(np.median(kept)),
        "minimum_seconds": min(kept),
        "evaluations": len(kept),
    }


def _gramstyle(settings: Settings, these: Numbers, row: dict[str, Any], seconds: float) -> str:
    clock = Clock(seconds)
    device = open_device(tf32=row["tf32"])
    pool = device.xp.get_default_memory_pool()
    pool.free_all_blocks()
    objective_here = objective.on_device(these, device)
    x = device.to_device(these.x)
    found = objective_here.loss_and_gradient(x)
    row["loss"], row["gradient"] = found.loss, device.to_host(found.gradient)
    row["gramstyle"] = figures = timed(
        lambda: objective_here.loss_and_gradient(x), device.stream.synchronize, clock.left() / 4
    )
    figures |= _iterations(settings, device, objective_here.loss_and_gradient, x, clock)
    # The stand-in has no memory of its own to measure.
    figures["memory_bytes"] = pool.total_bytes() if settings.on == "cuda" else None
    return _told(figures)


def _iterations(
    settings: Settings, device: Device, evaluate: Callable[[Array], Any], x: Array, clock: Clock
) -> dict[str, Any]:
    began = time.perf_counter()
    best = lbfgsb.minimise(
        evaluate,
        x,
        iterations=settings.iterations,
        tolerance=0.0,
        history=HISTORY,
        callback=lambda _: not clock.left(),
    )
    device.stream.synchronize()
    return {
        "run_seconds": time.perf_counter() - began,
        "run_iterations": best.iterations,
        "run_evaluations": best.evaluations,
        "run_loss": best.best.evaluation.loss,
    }


def _pytorch(settings: Settings, these: Numbers, row: dict[str, Any], seconds: float) -> str:
    if find_spec("torch") is None:
        raise SkippedError("PyTorch is not installed")
    with tempfile.TemporaryDirectory(prefix="gramstyle-gpu-check-") as folder:
        numbers, answer = Path(folder, "numbers.npz"), Path(folder, "answer.npz")
        arrays: Any = {"x": these.x, "p": these.p, "a": these.a, **_weights(these.network)}
        np.savez(numbers, **arrays)
        job = {
            "numbers": str(numbers),
            "answer": str(answer),
            "layers": [each.name for each in these.network.layers],
            "tf32": row["tf32"],
            "on": settings.on,
            "iterations": settings.iterations,
            "history": HISTORY,
            "seconds": seconds,
        }
        command = [sys.executable, "-m", "tools.gpu_check.pytorch", json.dumps(job)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, cwd=ROOT,
                timeout=60 + 2 * seconds,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise SkippedError("PyTorch did not end in time") from None
        last = (done.stdout if done.returncode == 0 else done.stderr).strip().rpartition("\n")[2]
        if done.returncode != 0:
            # Not skipped: PyTorch is there, and what it was asked to do is wrong.
            raise RuntimeError(f"PyTorch could not measure: {last[:200]}")
        row["pytorch"] = figures = json.loads(last)
        with np.load(answer) as found:
            row["differs"] = _difference(row, float(found["loss"]), found["gradient"])
    return _told(figures)


def _difference(row: dict[str, Any], loss: float, gradient: Array) -> dict[str, float] | None:
    """Return how far gramstyle's loss and gradient are from PyTorch's; raise if it is too far."""
    ours = row.get("gradient")
    if ours is None:
        return None
    apart = float(np.linalg.norm(ours - gradient) / np.linalg.norm(gradient))
    found = {"loss": abs(row["loss"] - loss) / abs(loss), "gradient": apart}
    # Not a maximum, which may skip NaN.
    if not all(each <= AGREES[row["tf32"]] for each in found.values()):
        raise ValueError(f"gramstyle's loss and gradient differ from PyTorch's: {found}")
    return found


def _weights(network: Network) -> dict[str, Array]:
    """Return the weights and biases of a network by the names that PyTorch's process reads."""
    found: dict[str, Array] = {}
    for layer in network.layers:
        if isinstance(layer, Convolution):
            found[f"W {layer.name}"], found[f"b {layer.name}"] = layer.W, layer.b
    return found


def _told(figures: dict[str, Any]) -> str:
    return (
        f"{figures['median_seconds'] * 1000:.3g} ms an evaluation; {figures['run_iterations']} "
        f"iterations in {figures['run_seconds']:.3g} s"
    )
