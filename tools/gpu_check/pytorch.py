"""The same objective in PyTorch, in a process of its own: prints its figures as one line of JSON.

Eager, with cuDNN's benchmark on, in the faster of its two layouts: which one that is depends on
the GPU and on TF32, and the slower one would be no fair comparison. `torch.optim.LBFGS` with the
strong Wolfe line search has as many pairs and the same scaled loss as gramstyle's optimiser; it
does not keep pixels within 0..255.
"""

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, conv2d, pad, relu

from gramstyle.model.preprocessings import CAFFE

from .objective import ALPHA, BETA, CONTENT, PADDING, STYLE
from .parts import Clock
from .timing import timed

Loss = Callable[[torch.Tensor], torch.Tensor]


def main(job: dict[str, Any]) -> None:
    """Measure a job of `timing`."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = job["tf32"]
    torch.backends.cudnn.benchmark = True
    with np.load(job["numbers"]) as numbers:
        given = {name: torch.from_numpy(numbers[name]).to(job["on"]) for name in numbers.files}
    if job["on"] == "cpu":
        torch.set_num_threads(1)
    clock, there = Clock(job["seconds"]), job["on"] == "cuda"

    def wait() -> None:
        if there:
            torch.cuda.synchronize()

    x = given["x"].float()
    losses = {
        "contiguous": loss_function(job["layers"], given, torch.contiguous_format),
        "channels_last": loss_function(job["layers"], given, torch.channels_last),
    }

    def evaluate(loss_of: Loss) -> tuple[float, torch.Tensor]:
        at = x.clone().requires_grad_()
        loss = loss_of(at)
        (dx,) = torch.autograd.grad(loss, at)
        return float(loss.detach()), dx

    loss, gradient = evaluate(losses["contiguous"])
    np.savez(job["answer"], loss=loss, gradient=gradient.cpu().numpy())
    times = {
        layout: timed(partial(evaluate, loss_of), wait, clock.left() / 6)
        for layout, loss_of in losses.items()
    }
    layout = min(times, key=lambda name: float(times[name]["median_seconds"]))
    figures = times[layout] | {"layout": layout, "layouts": times}
    figures |= iterations(job, losses[layout], x, clock, wait)
    figures["memory_bytes"] = torch.cuda.max_memory_reserved() if there else None
    figures["version"] = torch.__version__
    print(json.dumps(figures))


def loss_function(
    names: list[str], given: dict[str, torch.Tensor], layout: torch.memory_format
) -> Loss:
    """Return equation 7 as a function of the pixels x (3, H, W), 0..255, in float32."""
    W = {
        name: given[f"W {name}"].to(memory_format=layout) for name in names if f"W {name}" in given
    }
    mean = torch.tensor(CAFFE.mean, device=given["x"].device).reshape(3, 1, 1)

    def responses(x: torch.Tensor) -> dict[str, torch.Tensor]:
        found = {}
        F = (x.flip(0) - mean)[None].to(memory_format=layout)  # RGB to BGR; its scale is 1
        for name in names:
            if name in W:
                F = pad(F, (1, 1, 1, 1), mode=PADDING)
                F = relu(conv2d(F, W[name], given[f"b {name}"]))
            else:
                F = avg_pool2d(F, 2)
            if name == CONTENT or name in STYLE:
                found[name] = F[0]
        return found

    def gram(F: torch.Tensor) -> torch.Tensor:
        matrix = F.flatten(1)
        return matrix @ matrix.T

    with torch.no_grad():
        P = responses(given["p"].float())[CONTENT]
        there = responses(given["a"].float())
        A = {name: gram(there[name]) / there[name][0].numel() for name in STYLE}

    def loss_of(x: torch.Tensor) -> torch.Tensor:
        F = responses(x)
        loss = ALPHA * 0.5 * ((F[CONTENT] - P) ** 2).sum()
        for name in STYLE:
            N, M = F[name].shape[0], F[name][0].numel()
            loss = loss + BETA / len(STYLE) * (
                ((gram(F[name]) / M - A[name]) ** 2).sum() / (4 * N**2)
            )
        return loss

    return loss_of


def iterations(
    job: dict[str, Any], loss_of: Loss, x: torch.Tensor, clock: Clock, wait: Any
) -> dict[str, Any]:
    """Run L-BFGS as long as there is time; return its figures."""
    at = x.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [at],
        max_iter=job["iterations"],
        max_eval=20 * job["iterations"] + 20,
        history_size=job["history"],
        line_search_fn="strong_wolfe",
        tolerance_grad=-1,  # run all iterations
        tolerance_change=-1,
    )
    evaluations, scale, last = 0, 0.0, math.nan

    def closure() -> torch.Tensor:
        nonlocal evaluations, scale, last
        if evaluations > 1 and not clock.left():
            raise TimeoutError
        evaluations += 1
        loss = loss_of(at)
        (dx,) = torch.autograd.grad(loss, at)
        scale = scale or math.sqrt(dx.numel()) / float(dx.norm())
        at.grad = (dx * scale).contiguous()  # as the optimiser wants it
        last = float(loss.detach())
        scaled: torch.Tensor = loss.detach() * scale
        return scaled

    step: Any = optimiser.step  # has no types
    began = time.perf_counter()
    with contextlib.suppress(TimeoutError):
        step(closure)
    wait()
    return {
        "run_seconds": time.perf_counter() - began,
        "run_iterations": optimiser.state[at].get("n_iter", 0),
        "run_evaluations": evaluations,
        "run_loss": last,
    }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
