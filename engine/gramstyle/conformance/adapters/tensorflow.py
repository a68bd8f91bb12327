"""The objective as users of TensorFlow write it. The only module that imports tensorflow."""

import os
from typing import Any

# TensorFlow reports each instruction set of the processor on stderr, unless this is set.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from gramstyle.conformance.adapters.statement import Statement, state
from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter, FourParts
from gramstyle.core.arrays import Array
from gramstyle.core.layers import Padding
from gramstyle.core.network import Convolution
from gramstyle.errors import OptionError

# TensorFlow's names of the paddings by one position.
MODES = {"zeros": "CONSTANT", "replicate": "SYMMETRIC", "reflect": "REFLECT"}


def adapter(device: str) -> Adapter:
    """Return the adapter for a device; raises OptionError if there is no such device."""
    if device == "cuda" and not tf.config.list_physical_devices("GPU"):
        raise OptionError("TensorFlow sees no GPU; leave --device out")

    def value_and_grad(image: Array, case: Case) -> FourParts:
        with tf.device("GPU" if device == "cuda" else "CPU"):
            return _differentiated(image, case)

    return value_and_grad


def _differentiated(image: Array, case: Case) -> FourParts:
    """Return loss and gradients by reverse mode, jvp and hvp by forward mode around it.

    TensorFlow convolves (H, V, C) on a CPU: dF is the derivative with respect to zeros of this
    layout that are added to the responses.
    """
    said = state(case, image.dtype)
    shapes = case.network.shapes(*image.shape[1:])
    zeros = {}
    for layer in said.layers:
        N, H, V = shapes[layer.name]
        zeros[layer.name] = tf.zeros((1, H, V, N), image.dtype)
    weights = {
        layer.name: (tf.constant(layer.W), tf.constant(layer.b))
        for layer in said.layers
        if isinstance(layer, Convolution)
    }
    x = tf.constant(image)
    with tf.autodiff.ForwardAccumulator(x, tf.constant(case.direction, image.dtype)) as forward:
        with tf.GradientTape() as tape:
            tape.watch((x, zeros, weights))
            loss = _loss(said, x, zeros, weights)
        gradient, dF, by_weights = tape.gradient(
            loss, (x, zeros, weights), unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
    hvp = forward.jvp(gradient, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    more = {
        "dW": {name: dW.numpy() for name, (dW, _) in by_weights.items()},
        "db": {name: db.numpy() for name, (_, db) in by_weights.items()},
        "jvp": float(forward.jvp(loss)),
        "hvp": hvp.numpy(),
    }
    layers = {name: each.numpy()[0].transpose(2, 0, 1) for name, each in dF.items()}
    return float(loss), gradient.numpy(), layers, more


def _loss(said: Statement, x: Any, zeros: dict[str, Any], weights: dict[str, Any]) -> Any:
    # Not by tf.gather, whose gradient is sparse: the accumulator of forward mode refuses it.
    F: Any = tf.stack([x[channel] for channel in said.order])
    F = tf.transpose((F - said.mean) * said.scale, (1, 2, 0))[None]
    responses: dict[str, Any] = {}
    for layer in said.layers:
        if isinstance(layer, Convolution):
            W, b = weights[layer.name]
            W = tf.transpose(W, (2, 3, 1, 0))
            F = tf.nn.relu(tf.nn.conv2d(_padded(F, layer.padding), W, 1, "VALID") + b)
        else:
            F = (tf.nn.max_pool2d if layer.kind == "max" else tf.nn.avg_pool2d)(F, 2, 2, "VALID")
        F = F + zeros[layer.name]
        responses[layer.name] = tf.transpose(F[0], (2, 0, 1))
    loss: Any = tf.zeros((), said.wide)
    for name, term in said.content.items():
        F = tf.cast(responses[name], said.wide)
        loss += term.factor * tf.reduce_sum(tf.square(F - term.target))
    for name, term in said.style.items():
        F = tf.reshape(tf.cast(responses[name], said.wide), (len(term.target), -1))
        G = tf.matmul(F, F, transpose_b=True) / F.shape[1]
        loss += term.factor * tf.reduce_sum(tf.square(G - term.target))
    for name, regions in said.regions.items():
        for region in regions:
            F = tf.reshape(tf.cast(responses[name], said.wide), (len(region.target), -1))
            X = F * region.T
            G = tf.matmul(X, X, transpose_b=True) / region.m
            loss += region.factor * tf.reduce_sum(tf.square(G - region.target))
    for name, each in said.statistics.items():
        F = tf.reshape(tf.cast(responses[name], said.wide), (each.target.shape[1], -1))
        if each.statistic == "mean-std":
            mu, variance = tf.nn.moments(F, axes=1)
            S = tf.stack([mu, tf.sqrt(variance + said.epsilon)])
        else:
            H = F - tf.reduce_mean(F, axis=1, keepdims=True)
            S = tf.matmul(H, H, transpose_b=True) / F.shape[1]
        loss += each.factor * tf.reduce_sum(tf.square(S - each.target))
    if said.tv:
        wide = tf.cast(x, said.wide)
        for d in (wide[:, 1:] - wide[:, :-1], wide[:, :, 1:] - wide[:, :, :-1]):
            loss += said.tv * tf.reduce_sum(tf.square(d))
    return loss


def _padded(F: Any, padding: Padding) -> Any:
    """Return F with a ring of one position; TensorFlow has no circular padding."""
    if padding == "circular":
        F = tf.concat([F[:, -1:], F, F[:, :1]], axis=1)
        return tf.concat([F[:, :, -1:], F, F[:, :, :1]], axis=2)
    return tf.pad(F, ((0, 0), (1, 1), (1, 1), (0, 0)), MODES[padding])
