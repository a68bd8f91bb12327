"""An objective of VGG-19's shape: the numbers that it is made of, and the same on a device."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.layers import Padding
from gramstyle.core.network import Convolution, Layer, Network, Pool
from gramstyle.core.objective import Objective
from gramstyle.core.terms import loss_terms, with_targets
from gramstyle.engines.cuda.device import Device
from gramstyle.engines.cuda.forward import ForwardPass
from gramstyle.engines.cuda.kernels import DeviceKernels
from gramstyle.engines.cuda.products import Buffers
from gramstyle.model.architecture import VGGS
from gramstyle.model.onnx_file import read_model
from gramstyle.model.preprocessings import CAFFE

CONTENT, STYLE = "conv4_2", ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
ALPHA, BETA = 1e-3, 1.0
# What runs use by default.
PADDING: Padding = "replicate"


@dataclass(frozen=True)
class Numbers:
    """What an objective is made of.

    Attributes
    ----------
    network
        In float32, on the host.
    x, p, a
        The start, the content image and the style image (3, H, V), 0..255.
    """

    network: Network
    x: Array
    p: Array
    a: Array


def vgg19(model: Path | None, *, divisor: int = 1) -> Network:
    """Return VGG-19 up to conv5_1: a model file's weights, or random ones that keep the scale.

    Its poolings take the mean. With a divisor, each layer has so many times fewer filters.
    """
    if model is not None:
        network = read_model(model).network.pooled_by("avg")
    else:
        rng, layers, last = np.random.default_rng(0), list[Layer](), 1
        for block, number, (N, C, *_) in VGGS["VGG-19"].convolutions():
            if block != last:
                layers.append(Pool(f"pool{last}", "avg"))
            last, N, C = block, N // divisor, C if C == 3 else C // divisor
            # 1/64 in the first layer: pixels are of the size of 64, responses of the size of 1.
            scale = np.sqrt(2 / (9 * C)) / (64 if block == number == 1 else 1)
            W = (scale * rng.standard_normal((N, C, 3, 3))).astype(np.float32)
            layers.append(Convolution(f"conv{block}_{number}", W, np.zeros(N, np.float32)))
        network = Network(tuple(layers))
    return network.until([STYLE[-1]]).padded_by(PADDING)


def numbers(network: Network, size: int) -> Numbers:
    """Return three smooth random images of an edge, with a network."""
    rng = np.random.default_rng(size)
    images = []
    for _ in range(3):
        coarse = rng.uniform(0, 255, (3, size // 8 + 1, size // 8 + 1))
        fine = np.kron(coarse, np.ones((1, 8, 8)))[:, :size, :size]
        images.append(np.clip(fine + rng.normal(0, 16, fine.shape), 0, 255))
    return Numbers(network, *images)


def on_device(these: Numbers, device: Device) -> Objective:
    """Return the objective on a device, as the engine cupy evaluates it."""
    network = Network(
        tuple(
            Convolution(
                layer.name, device.to_device(layer.W), device.to_device(layer.b), layer.padding
            )
            if isinstance(layer, Convolution)
            else layer
            for layer in these.network.layers
        )
    )
    buffers = Buffers()
    forward, kernels = ForwardPass(network, buffers), DeviceKernels(buffers)
    terms = loss_terms(content={CONTENT: 1.0}, style=dict.fromkeys(STYLE, 1 / len(STYLE)))
    terms = with_targets(terms, "content", forward(CAFFE.forward(these.p)), kernels)
    terms = with_targets(terms, "style", forward(CAFFE.forward(these.a)), kernels)
    return Objective(
        network=network,
        preprocessing=CAFFE,
        terms=terms,
        weights={"content": ALPHA, "style": BETA},
        forward=forward,
        kernels=kernels,
    )
