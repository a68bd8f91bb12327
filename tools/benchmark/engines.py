"""gramstyle's engines, built as `gramstyle transfer` builds them, and where their time goes."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from gramstyle.core.arrays import Array
from gramstyle.core.network import AddSeed, Responses
from gramstyle.core.objective import Objective
from gramstyle.run.prepare import Plan, build
from gramstyle.run.transfer import run

from .contenders import Built, Curve


def built(planned: Callable[[], Plan]) -> Built:
    """Make the engine that a plan's options choose ready."""
    prepared = build(planned())

    def evaluate(x: Array) -> tuple[float, Array]:
        evaluation = prepared.loss_and_gradient(x)
        return evaluation.loss, evaluation.gradient

    # An engine that computes loss and gradient in one piece has no phases to tell apart.
    in_steps = prepared.loss_and_gradient == prepared.objective.loss_and_gradient
    return Built(evaluate, partial(phases, prepared.objective) if in_steps else None)


def optimise(plan: Plan) -> Curve:
    """Run a transfer; its record is the curve."""
    history = run(build(plan)).record.losses
    return Curve(
        seconds=[at.seconds for at in history],
        evaluations=[at.evaluations for at in history],
        losses=[at.loss for at in history],
    )


def phases(objective: Objective, x: Array) -> dict[str, float]:
    """Evaluate once and return the seconds by phase.

    The pass asks at layers for the loss terms that look at them: "backward from conv4_2" begins
    at the request for conv4_2 and ends at the next one. An engine that asks at every layer is
    so timed layer by layer.
    """
    forward = objective.forward or objective.network.forward
    backward = objective.backward or partial(objective.network.backward, kernels=objective.kernels)
    taken: dict[str, float] = {}

    def timed_forward(v: Array) -> Responses:
        began = time.perf_counter()
        responses = forward(v)
        taken["forward"] = time.perf_counter() - began
        return responses

    def timed_backward(responses: Responses, add_seed: AddSeed) -> Array:
        marks: list[tuple[str, float]] = []

        def marked(name: str, dF: Array | None) -> Array:
            marks.append((name, time.perf_counter()))
            return add_seed(name, dF)

        began = time.perf_counter()
        dv = backward(responses, marked)
        ended = time.perf_counter()
        taken["backward"] = ended - began
        for (name, start), stop in zip(marks, [*(at for _, at in marks[1:]), ended], strict=True):
            taken[f"backward from {name}"] = stop - start
        return dv

    began = time.perf_counter()
    replace(objective, forward=timed_forward, backward=timed_backward).loss_and_gradient(x)
    total = time.perf_counter() - began
    # Gram matrices, losses, and between pixels and input.
    taken["rest"] = total - taken["forward"] - taken["backward"]
    return taken
