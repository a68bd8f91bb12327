"""The objective as users of HIPS autograd write it. The only module that imports autograd."""

from typing import Any

import autograd
import autograd.numpy as anp

from gramstyle.conformance.adapters import cpu_only
from gramstyle.conformance.adapters.statement import Statement, state
from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter, FourParts
from gramstyle.core.arrays import Array
from gramstyle.core.layers import Padding, ring_sources
from gramstyle.core.network import Convolution


def adapter(device: str) -> Adapter:
    """Return the adapter; raises OptionError if the device is not the CPU."""
    cpu_only("autograd", device)
    return value_and_grad


def value_and_grad(image: Array, case: Case) -> FourParts:
    """Return loss, gradient and dF of a case, and its further derivatives."""
    said = state(case, image.dtype)
    # dF is the derivative with respect to zeros that are added to the responses.
    shapes = case.network.shapes(*image.shape[1:])
    zeros = {name: anp.zeros(shape, image.dtype) for name, shape in shapes.items()}
    weights = {
        layer.name: (layer.W, layer.b) for layer in said.layers if isinstance(layer, Convolution)
    }

    def gradients(x: Any) -> Any:
        return autograd.value_and_grad(lambda three: _loss(said, *three))((x, zeros, weights))

    loss, (gradient, dF, by_weights) = gradients(image)

    def slope(x: Any) -> Any:
        # The sum in the wide float type of the loss: it overflows in float16.
        return anp.sum(gradients(x)[1][0].astype(said.wide) * case.direction.astype(said.wide))

    jvp, hvp = autograd.value_and_grad(slope)(image)
    more = {
        "dW": {name: dW for name, (dW, _) in by_weights.items()},
        "db": {name: db for name, (_, db) in by_weights.items()},
        "jvp": jvp,
        "hvp": hvp,
    }
    return loss, gradient, dF, more


def _loss(said: Statement, x: Any, zeros: dict[str, Any], weights: dict[str, Any]) -> Any:
    responses = {}
    F = (x[said.order] - said.mean) * said.scale
    for layer in said.layers:
        if isinstance(layer, Convolution):
            W, b = weights[layer.name]
            F = anp.maximum(_convolution(F, W, b, layer.padding), 0)
        else:
            N, H, V = F.shape
            windows = F[:, : H // 2 * 2, : V // 2 * 2].reshape((N, H // 2, 2, V // 2, 2))
            F = (anp.max if layer.kind == "max" else anp.mean)(windows, axis=(2, 4))
        F = F + zeros[layer.name]
        responses[layer.name] = F
    loss = 0.0
    for name, term in said.content.items():
        F = responses[name].astype(said.wide)
        loss = loss + term.factor * anp.sum((F - term.target) ** 2)
    for name, term in said.style.items():
        F = anp.reshape(responses[name].astype(said.wide), (len(term.target), -1))
        G = anp.dot(F, F.T) / F.shape[1]
        loss = loss + term.factor * anp.sum((G - term.target) ** 2)
    for name, regions in said.regions.items():
        for region in regions:
            F = anp.reshape(responses[name].astype(said.wide), (len(region.target), -1))
            X = F * region.T
            G = anp.dot(X, X.T) / region.m
            loss = loss + region.factor * anp.sum((G - region.target) ** 2)
    for name, each in said.statistics.items():
        F = anp.reshape(responses[name].astype(said.wide), (each.target.shape[1], -1))
        mu = anp.mean(F, axis=1)
        H = F - mu[:, None]
        if each.statistic == "mean-std":
            S = anp.stack([mu, anp.sqrt(anp.mean(H**2, axis=1) + said.epsilon)])
        else:
            S = anp.dot(H, H.T) / H.shape[1]
        loss = loss + each.factor * anp.sum((S - each.target) ** 2)
    if said.tv:
        wide = x.astype(said.wide)
        for d in (wide[:, 1:] - wide[:, :-1], wide[:, :, 1:] - wide[:, :, :-1]):
            loss = loss + said.tv * anp.sum(d**2)
    return loss


def _convolution(X: Any, W: Any, b: Any, padding: Padding) -> Any:
    """Convolve by nine shifted matrix products: autograd's own convolution would take hours."""
    _, H, V = X.shape
    padded = _padded(X, padding)
    taps = [(i, j) for i in range(3) for j in range(3)]
    products = [anp.tensordot(W[:, :, i, j], padded[:, i : i + H, j : j + V], 1) for i, j in taps]
    return sum(products, b[:, None, None])


def _padded(X: Any, padding: Padding) -> Any:
    """Return X with a ring of one position: autograd's own pad knows constants only."""
    if padding == "zeros":
        return anp.pad(X, ((0, 0), (1, 1), (1, 1)), "constant")
    (top, bottom), (left, right) = (ring_sources(edge, padding) for edge in X.shape[1:])
    X = anp.concatenate([X[:, top : top + 1], X, X[:, bottom : bottom + 1]], axis=1)
    return anp.concatenate([X[:, :, left : left + 1], X, X[:, :, right : right + 1]], axis=2)
