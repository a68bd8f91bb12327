"""The same objective as users of PyTorch write it, its gradient by autograd."""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d, relu

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution
from gramstyle.images import Image
from gramstyle.run.prepare import Plan

from .contenders import Curve, Evaluate

Loss = Callable[[torch.Tensor], torch.Tensor]


def evaluation(plan: Plan, *, way: str) -> Evaluate:
    """Return loss and gradient of a plan's objective: eager, channels_last or compile."""
    torch.set_num_threads(plan.options.threads or torch.get_num_threads())
    layout = torch.channels_last if way == "channels_last" else torch.contiguous_format
    loss_of = loss_function(plan, layout=layout)
    if way == "compile":
        loss_of = torch.compile(loss_of)
    preprocessing = plan.model.preprocessing

    def evaluate(x: Array) -> tuple[float, Array]:
        v = as_input(preprocessing.forward(x), layout).requires_grad_()
        loss = loss_of(v)
        (dv,) = torch.autograd.grad(loss, v)
        return float(loss.detach()), preprocessing.backward(dv[0].numpy())

    return evaluate


def as_input(v: Array, layout: torch.memory_format) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(v, np.float32))
    return tensor[None].to(memory_format=layout)


def loss_function(plan: Plan, *, layout: torch.memory_format = torch.contiguous_format) -> Loss:
    """Return equation 7 as a function of the network's input v (1, 3, H, W)."""
    if plan.photograph is None or plan.artwork is None:
        raise ValueError("both images are compared with, or there is nothing to compare")
    layers = [
        # gramstyle keeps weights tap by tap; PyTorch gets them in its own order.
        (layer.name, torch.tensor(layer.W).to(memory_format=layout), torch.tensor(layer.b))
        if isinstance(layer, Convolution)
        else (layer.name, None, None)
        for layer in plan.network.layers
    ]
    pool = max_pool2d if plan.options.pools == "max" else avg_pool2d
    content, style = plan.options.content_layer, plan.options.style_layers
    alpha, beta, w = plan.weights.alpha, plan.weights.beta, dict(plan.weights.w)

    def responses(v: torch.Tensor) -> dict[str, torch.Tensor]:
        kept, F = {}, v
        for name, W, b in layers:
            F = pool(F, 2) if W is None else relu(conv2d(F, W, b, padding=1))
            if name == content or name in style:
                kept[name] = F[0]
        return kept

    def gram(F: torch.Tensor) -> torch.Tensor:
        matrix = F.flatten(1)
        return matrix @ matrix.T

    def of(image: Image) -> dict[str, torch.Tensor]:
        pixels = image.pixels.transpose(2, 0, 1).astype(np.float64)
        return responses(as_input(plan.model.preprocessing.forward(pixels), layout))

    with torch.no_grad():
        P = of(plan.photograph)[content]
        # Each Gram matrix by its own number of positions, as gramstyle does.
        A = {name: gram(F) / F[0].numel() for name, F in of(plan.artwork).items() if name in style}

    def loss_of(v: torch.Tensor) -> torch.Tensor:
        F = responses(v)
        loss = alpha * 0.5 * ((F[content] - P) ** 2).sum()
        for name in style:
            N, M = F[name].shape[0], F[name][0].numel()
            E = ((gram(F[name]) / M - A[name]) ** 2).sum() / (4 * N**2)
            loss = loss + beta * w[name] * E
        return loss

    return loss_of


def optimise(plan: Plan, *, way: str) -> Curve:
    """Optimise the pixels by torch.optim.LBFGS from the photograph.

    "strong_wolfe" has the ten corrections that gramstyle's L-BFGS-B has, and its scaling, whose
    gradient is 1 in each pixel on average. "fixed" is how neural-style and its descendants use
    L-BFGS: every step in full, a hundred corrections, the loss as it is. Neither keeps pixels
    within 0..255, so both may go where L-BFGS-B may not.
    """
    torch.set_num_threads(plan.options.threads or torch.get_num_threads())
    if plan.photograph is None:
        raise ValueError("without a photograph there is nothing to start from")
    wolfe, iterations = way == "strong_wolfe", plan.options.iterations
    loss_of = loss_function(plan)
    x = plan.photograph.pixels.transpose(2, 0, 1).astype(np.float64)
    v = as_input(plan.model.preprocessing.forward(x), torch.contiguous_format).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [v],
        max_iter=iterations,
        max_eval=20 * iterations + 20,
        history_size=plan.options.history if wolfe else 100,
        line_search_fn="strong_wolfe" if wolfe else None,
        tolerance_grad=-1,  # as many iterations as asked for
        tolerance_change=-1,
    )
    curve, scale, began = Curve([], [], []), 0.0, time.perf_counter()

    def closure() -> torch.Tensor:
        nonlocal scale
        loss = loss_of(v)
        (dv,) = torch.autograd.grad(loss, v)
        if not scale:
            scale = math.sqrt(dv.numel()) / float(dv.norm()) if wolfe else 1.0
        v.grad = dv * scale
        curve.seconds.append(time.perf_counter() - began)
        curve.evaluations.append(len(curve.seconds))
        curve.losses.append(float(loss.detach()))
        return loss.detach() * scale

    step: Callable[[Callable[[], torch.Tensor]], object] = optimiser.step  # has no types
    step(closure)
    return curve
