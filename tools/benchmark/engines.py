"""gramstyle's engines, built as `gramstyle transfer` builds them, and the time of each phase."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from gramstyle.core.arrays import Array
from gramstyle.core.network import AddSeed, Responses
from gramstyle.core.objective import Objective
from gramstyle.run.plan import RunPlan
from gramstyle.run.prepare import RunResources
from gramstyle.run.transfer import execute

from .contenders import Built, Curve


@contextmanager
def evaluation(make_plan: Callable[[], RunPlan]) -> Iterator[Built]:
    """Build the engine that a plan's options select."""
    with RunResources(make_plan()) as resources, resources.prepare(0) as prepared:

        def evaluate(x: Array) -> tuple[float, Array]:
            evaluation = prepared.loss_and_gradient(x)
            return evaluation.loss, evaluation.gradient

        # An engine that computes loss and gradient in one call has no phases to measure.
        in_steps = prepared.loss_and_gradient == prepared.objective.loss_and_gradient
        yield Built(evaluate, partial(phases, prepared.objective) if in_steps else None)


def optimise(plan: RunPlan) -> Curve:
    """Run a transfer and return the loss curve of its record."""
    losses = execute(plan).record.losses
    return Curve(
        seconds=[each.seconds for each in losses],
        evaluations=[each.evaluations for each in losses],
        losses=[each.loss for each in losses],
    )


def phases(objective: Objective, x: Array) -> dict[str, float]:
    """Evaluate once and return the seconds of each phase.

    The backward pass requests the gradient of the loss terms at each layer it stops at: "backward
    from conv4_2" starts at the request for conv4_2 and ends at the next request. An engine that
    requests it at every layer is timed layer by layer.
    """
    forward = objective.forward or objective.network.forward
    backward = objective.backward or partial(objective.network.backward, kernels=objective.kernels)
    seconds: dict[str, float] = {}

    def timed_forward(v: Array) -> Responses:
        began = time.perf_counter()
        responses = forward(v)
        seconds["forward"] = time.perf_counter() - began
        return responses

    def timed_backward(responses: Responses, add_seed: AddSeed) -> Array:
        marks: list[tuple[str, float]] = []

        def marked(name: str, dF: Array | None) -> Array:
            marks.append((name, time.perf_counter()))
            return add_seed(name, dF)

        began = time.perf_counter()
        dv = backward(responses, marked)
        ended = time.perf_counter()
        seconds["backward"] = ended - began
        for (name, start), stop in zip(marks, [*(at for _, at in marks[1:]), ended], strict=True):
            seconds[f"backward from {name}"] = stop - start
        return dv

    began = time.perf_counter()
    replace(objective, forward=timed_forward, backward=timed_backward).loss_and_gradient(x)
    total = time.perf_counter() - began
    # Gram matrices, losses, preprocessing.
    seconds["rest"] = total - seconds["forward"] - seconds["backward"]
    return seconds
