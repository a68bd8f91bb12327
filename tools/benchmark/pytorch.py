"""The same objective as users of PyTorch write it, with its gradient by autograd."""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d, pad, relu

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution
from gramstyle.images import Image
from gramstyle.model import Model
from gramstyle.run.plan import RunPlan

from .contenders import Curve, Evaluate

Loss = Callable[[torch.Tensor], torch.Tensor]


def evaluation(plan: RunPlan, *, variant: str) -> Evaluate:
    """Return loss and gradient of a plan's objective; "eager", "channels_last" or "compile"."""
    torch.set_num_threads(plan.options.threads or torch.get_num_threads())
    layout = torch.channels_last if variant == "channels_last" else torch.contiguous_format
    loss_of = loss_function(plan, layout=layout)
    if variant == "compile":
        loss_of = torch.compile(loss_of)
    preprocessing = _inputs(plan)[0].preprocessing

    def evaluate(x: Array) -> tuple[float, Array]:
        v = as_input(preprocessing.forward(x), layout).requires_grad_()
        loss = loss_of(v)
        (dv,) = torch.autograd.grad(loss, v)
        return float(loss.detach()), preprocessing.backward(dv[0].numpy())

    return evaluate


def _inputs(plan: RunPlan) -> tuple[Model, Image, Image]:
    """Return the model, the content image and the style image of a plan of one scale."""
    model, images = plan.inputs.model, plan.inputs.images[0]
    if model is None or images is None or images.content is None or not images.styles:
        raise ValueError("the comparison with PyTorch needs a content image and a style image")
    return model, images.content, images.styles[0].image


def as_input(v: Array, layout: torch.memory_format) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(v, np.float32))
    return tensor[None].to(memory_format=layout)


def loss_function(plan: RunPlan, *, layout: torch.memory_format = torch.contiguous_format) -> Loss:
    """Return equation 7 as a function of the network's input v (1, 3, H, W)."""
    (model, photograph, painting), spec = _inputs(plan), plan.last.spec
    layers = [
        # gramstyle stores weights tap by tap; PyTorch gets them in its own order.
        (layer.name, torch.tensor(layer.W).to(memory_format=layout), torch.tensor(layer.b))
        if isinstance(layer, Convolution)
        else (layer.name, None, None)
        for layer in spec.network(model).layers
    ]
    pool = max_pool2d if plan.options.pools == "max" else avg_pool2d
    (content,) = (term.layer for term in spec.terms if term.name == "content")
    alpha, beta = spec.weights["content"], spec.weights["style"]
    w = {term.layer: term.weight for term in spec.terms if term.name == "style"}

    def convolved(F: torch.Tensor, W: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if spec.padding == "zeros":
            return conv2d(F, W, b, padding=1)
        return conv2d(pad(F, (1, 1, 1, 1), mode=spec.padding), W, b)

    def responses(v: torch.Tensor) -> dict[str, torch.Tensor]:
        found, F = {}, v
        for name, W, b in layers:
            F = pool(F, 2) if W is None or b is None else relu(convolved(F, W, b))
            if name == content or name in w:
                found[name] = F[0]
        return found

    def gram(F: torch.Tensor) -> torch.Tensor:
        matrix = F.flatten(1)
        return matrix @ matrix.T

    def of(image: Image) -> dict[str, torch.Tensor]:
        pixels = image.pixels.transpose(2, 0, 1).astype(np.float64)
        return responses(as_input(model.preprocessing.forward(pixels), layout))

    with torch.no_grad():
        P = of(photograph)[content]
        # Each Gram matrix is divided by its own number of positions, as in gramstyle.
        A = {name: gram(F) / F[0].numel() for name, F in of(painting).items() if name in w}

    def loss_of(v: torch.Tensor) -> torch.Tensor:
        F = responses(v)
        loss = alpha * 0.5 * ((F[content] - P) ** 2).sum()
        for name in w:
            N, M = F[name].shape[0], F[name][0].numel()
            E = ((gram(F[name]) / M - A[name]) ** 2).sum() / (4 * N**2)
            loss = loss + beta * w[name] * E
        return loss

    return loss_of


def optimise(plan: RunPlan, *, variant: str) -> Curve:
    """Optimise the pixels with torch.optim.LBFGS, starting at the content image.

    "strong_wolfe" has a history of ten pairs and a scaled loss, as gramstyle's L-BFGS-B: the root
    mean square of the first gradient is 1. "fixed" is how neural-style and its descendants use
    L-BFGS: full steps, a history of a hundred pairs, an unscaled loss. Neither keeps pixels within
    0..255, so both may reach images that L-BFGS-B may not.
    """
    torch.set_num_threads(plan.options.threads or torch.get_num_threads())
    wolfe, iterations = variant == "strong_wolfe", plan.options.iterations
    loss_of = loss_function(plan)
    model, photograph, _ = _inputs(plan)
    x = photograph.pixels.transpose(2, 0, 1).astype(np.float64)
    v = as_input(model.preprocessing.forward(x), torch.contiguous_format).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [v],
        max_iter=iterations,
        max_eval=20 * iterations + 20,
        history_size=plan.options.history if wolfe else 100,
        line_search_fn="strong_wolfe" if wolfe else None,
        tolerance_grad=-1,  # run all iterations
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
