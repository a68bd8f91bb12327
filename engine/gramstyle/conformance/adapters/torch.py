"""The objective as users of PyTorch write it, and three ways to its gradient.

The only module that imports torch.
"""

from functools import partial
from typing import Any

import torch
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d, pad, relu

from gramstyle.conformance.adapters.statement import Statement, state
from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter, FourParts
from gramstyle.core.arrays import Array
from gramstyle.core.layers import Padding
from gramstyle.core.network import Convolution
from gramstyle.errors import OptionError


def adapter(device: str) -> Adapter:
    """Return the adapter that runs the loss and calls autograd.

    Raises OptionError if there is no such device.
    """
    _check(device)

    def value_and_grad(image: Array, case: Case) -> FourParts:
        said = state(case, image.dtype)
        x, zeros, weights = _inputs(image, case, said, device)
        loss = _loss(said, x, zeros, weights)
        found = _gradients(loss, x, zeros, weights, create_graph=True)
        # The sum in the wide float type of the loss: it overflows in float16.
        slope = (found[0].to(loss.dtype) * _direction(image, case, device)).sum()
        (hvp,) = torch.autograd.grad(slope, x)
        return _answer(loss, *found, jvp=slope.item(), hvp=_array(hvp))

    return value_and_grad


def functional(device: str) -> Adapter:
    """Return the adapter that transforms the loss by torch.func: forward over reverse mode.

    Raises OptionError if there is no such device.
    """
    _check(device)

    def value_and_grad(image: Array, case: Case) -> FourParts:
        said = state(case, image.dtype)
        x, zeros, weights = _inputs(image, case, said, device)
        differentiated = torch.func.grad_and_value(partial(_loss, said), argnums=(0, 1, 2))
        values, tangents = torch.func.jvp(
            lambda x: differentiated(x, zeros, weights), (x,), (_direction(image, case, device),)
        )
        (found, loss), ((hvp, *_), jvp) = values, tangents
        return _answer(loss, *found, jvp=jvp.item(), hvp=_array(hvp))

    return value_and_grad


def compiled(device: str) -> Adapter:
    """Return the adapter that compiles the loss by torch.compile, and its gradient with it.

    Compiled code has no second derivative. Raises OptionError if there is no such device.
    """
    _check(device)

    def value_and_grad(image: Array, case: Case) -> FourParts:
        said = state(case, image.dtype)
        x, zeros, weights = _inputs(image, case, said, device)
        torch.compiler.reset()  # or after eight cases PyTorch runs the rest without compiling
        loss = torch.compile(partial(_loss, said), fullgraph=True)(x, zeros, weights)
        return _answer(loss, *_gradients(loss, x, zeros, weights))

    return value_and_grad


def _check(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("PyTorch sees no CUDA device; leave --device out")


def _inputs(image: Array, case: Case, said: Statement, device: str) -> tuple[Any, Any, Any]:
    """Return the image, zeros that are added to the responses, and the weights."""
    shapes = case.network.shapes(*image.shape[1:])
    dtype = getattr(torch, image.dtype.name)
    named = {
        layer.name: tuple(torch.tensor(each, device=device) for each in (layer.W, layer.b))
        for layer in said.layers
        if isinstance(layer, Convolution)
    }
    zeros = {
        layer.name: torch.zeros(shapes[layer.name], dtype=dtype, device=device)
        for layer in said.layers
    }
    x = torch.tensor(image, device=device)
    for each in (x, *zeros.values(), *(each for pair in named.values() for each in pair)):
        each.requires_grad_()
    return x, zeros, named


def _loss(said: Statement, x: Any, zeros: dict[str, Any], weights: dict[str, Any]) -> Any:
    def tensor(array: Array) -> Any:
        return torch.as_tensor(array, device=x.device)

    F: Any = ((x[said.order] - tensor(said.mean)) * tensor(said.scale))[None]
    responses: dict[str, Any] = {}
    for layer in said.layers:
        if isinstance(layer, Convolution):
            W, b = weights[layer.name]
            F = relu(_convolved(F, W, b, layer.padding))
        else:
            F = (max_pool2d if layer.kind == "max" else avg_pool2d)(F, 2)
        F = F + zeros[layer.name]
        responses[layer.name] = F
    loss: Any = torch.zeros((), dtype=getattr(torch, said.wide), device=x.device)
    for name, term in said.content.items():
        F = responses[name][0].to(loss.dtype)
        loss = loss + term.factor * (F - tensor(term.target)).square().sum()
    for name, term in said.style.items():
        F = responses[name][0].to(loss.dtype).flatten(1)
        G = F @ F.T / F.shape[1]
        loss = loss + term.factor * (G - tensor(term.target)).square().sum()
    for name, regions in said.regions.items():
        F = responses[name][0].to(loss.dtype).flatten(1)
        for region in regions:
            X = F * tensor(region.T)
            G = X @ X.T / region.m
            loss = loss + region.factor * (G - tensor(region.target)).square().sum()
    for name, each in said.statistics.items():
        F = responses[name][0].to(loss.dtype).flatten(1)
        mu = F.mean(1)
        H = F - mu[:, None]
        if each.statistic == "mean-std":
            S = torch.stack([mu, (H.square().mean(1) + said.epsilon).sqrt()])
        else:
            S = H @ H.T / H.shape[1]
        loss = loss + each.factor * (S - tensor(each.target)).square().sum()
    if said.tv:
        for axis in (1, 2):
            loss = loss + said.tv * torch.diff(x.to(loss.dtype), dim=axis).square().sum()
    return loss


def _convolved(F: Any, W: Any, b: Any, padding: Padding) -> Any:
    """Return the convolution of a padded tensor."""
    if padding == "zeros":
        return conv2d(F, W, b, padding=1)
    return conv2d(pad(F, (1, 1, 1, 1), mode=padding), W, b)


def _gradients(
    loss: Any,
    x: Any,
    zeros: dict[str, Any],
    weights: dict[str, Any],
    *,
    create_graph: bool = False,
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return the gradient of the loss by each input, in the structure of the inputs."""
    parameters = [each for pair in weights.values() for each in pair]
    wanted = [x, *zeros.values(), *parameters]
    gradient, *others = torch.autograd.grad(loss, wanted, create_graph=create_graph)
    dF = dict(zip(zeros, others, strict=False))
    dW, db = others[len(zeros) :: 2], others[len(zeros) + 1 :: 2]
    return gradient, dF, dict(zip(weights, zip(dW, db, strict=True), strict=True))


def _direction(image: Array, case: Case, device: str) -> Any:
    return torch.tensor(case.direction.astype(image.dtype), device=device)


def _answer(
    loss: Any, gradient: Any, dF: dict[str, Any], by_weights: dict[str, Any], **more: Any
) -> FourParts:
    more["dW"] = {name: _array(dW) for name, (dW, _) in by_weights.items()}
    more["db"] = {name: _array(db) for name, (_, db) in by_weights.items()}
    return loss.item(), _array(gradient), {name: _array(dF[name]) for name in dF}, more


def _array(tensor: Any) -> Array:
    found: Array = tensor.detach().cpu().numpy()
    return found
