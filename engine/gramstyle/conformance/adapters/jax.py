"""The objective as users of JAX write it. The only module that imports jax."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gramstyle.conformance.adapters.statement import Statement, state
from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter, FourParts
from gramstyle.core.arrays import Array
from gramstyle.core.layers import Padding
from gramstyle.core.network import Convolution
from gramstyle.errors import OptionError

WINDOW = (1, 2, 2)

# NumPy's names of the paddings.
MODES: Mapping[Padding, str] = {
    "zeros": "constant",
    "replicate": "edge",
    "reflect": "reflect",
    "circular": "wrap",
}


def adapter(device: str) -> Adapter:
    """Return the adapter for a device; raises OptionError if there is no such device."""
    try:
        place = jax.devices(device)[0]
    except RuntimeError:
        raise OptionError(f"JAX sees no {device.upper()} device; leave --device out") from None

    def adapted(image: Array, case: Case) -> FourParts:
        said = state(case, image.dtype)
        # Without this, JAX converts everything to float32.
        with jax.enable_x64(True), jax.default_device(place):
            # dF is the derivative with respect to zeros that are added to the responses.
            shapes = case.network.shapes(*image.shape[1:])
            zeros = {name: jnp.zeros(shape, image.dtype) for name, shape in shapes.items()}
            # As constants of the compiled function, weights would be folded for minutes.
            weights = {
                layer.name: (layer.W, layer.b)
                for layer in said.layers
                if isinstance(layer, Convolution)
            }
            value_and_grad = jax.value_and_grad(partial(_loss, said), argnums=(0, 1, 2))

            def all_derivatives(x: Any, tx: Any, zeros: Any, weights: Any) -> Any:
                """Return the loss and its gradients, each with its derivative along tx."""
                return jax.jvp(lambda x: value_and_grad(x, zeros, weights), (x,), (tx,))

            tx = case.direction.astype(image.dtype)
            values, tangents = jax.jit(all_derivatives)(image, tx, zeros, weights)
            loss, (gradient, dF, by_weights) = values
            jvp, (hvp, *_) = tangents
            more = {
                "dW": {name: np.asarray(dW) for name, (dW, _) in by_weights.items()},
                "db": {name: np.asarray(db) for name, (_, db) in by_weights.items()},
                "jvp": float(jvp),
                "hvp": np.asarray(hvp),
            }
            layers = {name: np.asarray(dF[name]) for name in dF}
            return float(loss), np.asarray(gradient), layers, more

    return adapted


def _loss(
    said: Statement, x: Any, zeros: dict[str, Any], weights: dict[str, tuple[Any, Any]]
) -> Any:
    responses = {}
    F = (x[jnp.array(said.order)] - said.mean) * said.scale
    for layer in said.layers:
        if isinstance(layer, Convolution):
            W, b = weights[layer.name]
            F = jnp.pad(F, ((0, 0), (1, 1), (1, 1)), mode=MODES[layer.padding])
            Z = lax.conv(F[None], W, (1, 1), "VALID")[0] + b[:, None, None]
            F = jax.nn.relu(Z)
        elif layer.kind == "max":
            F = lax.reduce_window(F, -jnp.inf, lax.max, WINDOW, WINDOW, "VALID")
        else:
            F = lax.reduce_window(F, 0.0, lax.add, WINDOW, WINDOW, "VALID") / 4
        F = F + zeros[layer.name]
        responses[layer.name] = F
    loss = jnp.zeros((), said.wide)
    for name, term in said.content.items():
        F = responses[name].astype(said.wide)
        loss += term.factor * jnp.sum((F - term.target) ** 2)
    for name, term in said.style.items():
        F = responses[name].astype(said.wide).reshape(len(responses[name]), -1)
        G = F @ F.T / F.shape[1]
        loss += term.factor * jnp.sum((G - term.target) ** 2)
    for name, regions in said.regions.items():
        F = responses[name].astype(said.wide).reshape(len(responses[name]), -1)
        for region in regions:
            X = F * region.T
            loss += region.factor * jnp.sum((X @ X.T / region.m - region.target) ** 2)
    for name, each in said.statistics.items():
        F = responses[name].astype(said.wide).reshape(len(responses[name]), -1)
        mu = jnp.mean(F, axis=1)
        H = F - mu[:, None]
        if each.statistic == "mean-std":
            S = jnp.stack([mu, jnp.sqrt(jnp.mean(H**2, axis=1) + said.epsilon)])
        else:
            S = H @ H.T / H.shape[1]
        loss += each.factor * jnp.sum((S - each.target) ** 2)
    if said.tv:
        for axis in (1, 2):
            loss += said.tv * jnp.sum(jnp.diff(x.astype(said.wide), axis=axis) ** 2)
    return loss
