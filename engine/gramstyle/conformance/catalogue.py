"""The cases by name: each operation, each convention that is easily mistaken, whole objectives.

All numbers come from a hash of the case's name (`gramstyle.conformance.exact.hashed`).
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from gramstyle.conformance.building import case_of, images_of
from gramstyle.conformance.cases import Case
from gramstyle.conformance.exact.hashed import Numbers
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import AUTHOR, PAPER, Convention
from gramstyle.core.kernels import Pooling
from gramstyle.core.layers import Padding
from gramstyle.core.network import Convolution, Layer, Network, Pool
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.model.architecture import VGGS
from gramstyle.model.preprocessings import CAFFE, TORCHVISION

STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")


def cases() -> tuple[Case, ...]:
    """Return all cases, in the order of the paper: operations, losses, whole objectives, paddings.

    Examples
    --------
    >>> from gramstyle.conformance import cases
    >>> [case.name for case in cases()][:3]
    ['convolution', 'convolution-narrow', 'relu']
    """
    return (*_operations(), *_losses(), *_objectives(), *_paddings(), *_statistics())


def _operations() -> list[Case]:
    return [
        _one_layer(
            "convolution", "the backward pass of a convolution flips its kernels", bias=64.0
        ),
        _one_layer(
            "convolution-narrow", "an image one pixel wide is all border", size=(9, 1), bias=64.0
        ),
        _one_layer("relu", "no gradient passes where the ReLU is closed"),
        *(
            _pooled(f"{kind}-pooling{suffix}", pins, kind, size)
            for kind in ("avg", "max")
            for suffix, size, pins in (
                ("", (8, 10), f"{kind} pooling of 2×2 with stride 2"),
                ("-odd", (9, 7), "an odd last row or column is in no window: its gradient is 0"),
            )
        ),
        _max_pool_ties(),
        _preprocessed("preprocessing-caffe", CAFFE),
        _preprocessed("preprocessing-torchvision", TORCHVISION),
    ]


def _losses() -> list[Case]:
    style = partial(_terms, content=None, style=("conv1_1", "conv2_1"))
    content = partial(_terms, content="conv2_1", style=())
    return [
        content("content-half", "equation 1 has a factor of ½"),
        style("style-quarter", "equation 4 has 1 / (4 N² M²)"),
        style(
            "style-of-another-size",
            "A is divided by the M of the style image, G by the M of the generated image",
            artwork=(12, 10),
        ),
        _terms(
            "content-behind-the-relu",
            "the losses compare responses after the ReLU",
            content="conv2_1",
            style=("conv2_1",),
        ),
        _relu_at_zero(),
        style("style-weights", "each E_l has its own w_l", w=(0.75, 0.125)),
        _regions(),
        content("author-content", "the released code averages (F − P)²", author=True),
        style("author-style", "the released code averages (G/M − A/M)²", author=True),
        content(
            "total-variation",
            "L_tv sums the squared differences of neighbouring pixels and divides by their number",
            tv=512.0,
        ),
    ]


def _objectives() -> list[Case]:
    return [
        _objective(
            "objective", "whole objective, average pooling", "avg", (32, 32), 9, (-1, 0, 8, 15, 20)
        ),
        _objective(
            "objective-max", "whole objective, max pooling", "max", (32, 32), 4, (1, -1, -2, -5, -2)
        ),
        _objective(
            "objective-odd",
            "whole objective at odd sizes, average pooling",
            "avg",
            (35, 41),
            8,
            (-3, 3, 1, 16, 23),
            artwork=(33, 37),
        ),
        _objective(
            "objective-odd-max",
            "whole objective at odd sizes, max pooling",
            "max",
            (35, 41),
            4,
            (2, 1, -3, -3, -1),
            artwork=(33, 37),
        ),
        _objective(
            "objective-author",
            "whole objective in the released code's formulas",
            "max",
            (32, 48),
            13,
            (6, 2, -6, -3, -1),
            convention=AUTHOR,
        ),
    ]


def _paddings() -> list[Case]:
    pins: Mapping[Padding, str] = {
        "replicate": "outside the image a convolution reads the nearest position",
        "reflect": "a reflection does not repeat the edge itself",
        "circular": "outside the image a convolution reads the opposite edge",
    }
    return [
        _terms(
            f"padding-{padding}",
            sentence,
            content="conv2_1",
            style=("conv1_1", "conv2_1"),
            w=(8.0, 8.0),
            size=(7, 9) if padding != "circular" else (8, 10),
            padding=padding,
        )
        for padding, sentence in pins.items()
    ]


def _statistics() -> list[Case]:
    style = partial(_terms, content=None, style=("conv1_1", "conv2_1"), artwork=(12, 10))
    return [
        style(
            "style-mean-std",
            "the style may be means and deviations: variances divide by M, ε is under the root",
            style_loss="mean-std",
        ),
        style(
            "style-covariance",
            "the style may be covariances: Gram matrices of centred responses, divided by M",
            style_loss="covariance",
        ),
    ]


def _one_layer(name: str, pins: str, *, size: tuple[int, int] = (6, 7), bias: float = 0.0) -> Case:
    numbers = Numbers(name)
    layers = [numbers.convolution("conv1_1", 3, 4, bias=bias)]
    return case_of(name, pins, layers, images_of(numbers, size, size, -8, 8), content="conv1_1")


def _relu_at_zero() -> Case:
    """Return a case in which Z is exactly 0 where an image of 0 meets biases of 0.

    Gradients reach that 0 from the layer's own loss and from the layer above.
    """
    numbers = Numbers("relu-at-zero")
    layers = [numbers.convolution("conv1_1", 3, 4), numbers.convolution("conv1_2", 4, 3, bias=8.0)]
    layers[0].b[:] = 0
    # As drawn, these taps of the first filter add up to 0 over the channels. Padded with a constant
    # by mistake, Z would be 0 at the border, and rounding would decide whether the ReLU is open.
    layers[0].W[0, 0, 0, 0] += 0.0625
    images = images_of(numbers, (6, 7), (6, 7), -8, 8)
    images["x"][:, :5, :5] = 0
    return case_of(
        "relu-at-zero",
        "the derivative of the ReLU at 0 is 0",
        layers,
        images,
        content="conv1_1",
        style=("conv1_2",),
    )


def _pooled(name: str, pins: str, kind: Pooling, size: tuple[int, int]) -> Case:
    numbers = Numbers(name)
    layers: list[Layer] = [
        numbers.convolution("conv1_1", 3, 4, bias=8.0),
        Pool("pool1", kind),
        numbers.convolution("conv2_1", 4, 3, bias=8.0),
    ]
    return case_of(name, pins, layers, images_of(numbers, size, size, -4, 4), content="conv2_1")


def _max_pool_ties() -> Case:
    """Return a case that pools an image of a few whole numbers, so that many are equal."""
    numbers = Numbers("max-pooling-ties")
    copy = np.zeros((3, 3, 3, 3))
    copy[range(3), range(3), 1, 1] = 1
    layers: list[Layer] = [
        Convolution("conv1_1", copy, np.zeros(3)),
        Pool("pool1", "max"),
        numbers.convolution("conv2_1", 3, 3, bias=8.0),
    ]
    images = {
        role: np.round(x) + 2 for role, x in images_of(numbers, (8, 10), (8, 10), -1, 1).items()
    }
    pins = "the first in reading order of equal largest values gets the whole gradient"
    return case_of("max-pooling-ties", pins, layers, images, content="conv2_1")


def _preprocessed(name: str, preprocessing: Preprocessing) -> Case:
    numbers = Numbers(name)
    return case_of(
        name,
        "the gradient is with respect to pixels on the scale 0..255, in the order RGB",
        [numbers.convolution("conv1_1", 3, 4)],
        images_of(numbers, (6, 7), (6, 7), 0, 255),
        content="conv1_1",
        preprocessing=preprocessing,
    )


def _terms(
    name: str,
    pins: str,
    *,
    content: str | None,
    style: tuple[str, ...],
    size: tuple[int, int] = (8, 10),
    artwork: tuple[int, int] = (8, 10),
    w: Sequence[float] | None = None,
    tv: float = 0.0,
    author: bool = False,
    padding: Padding = "zeros",
    style_loss: str = "gram",
) -> Case:
    numbers = Numbers(name)
    layers: list[Layer] = [
        numbers.convolution("conv1_1", 3, 4),
        Pool("pool1", "avg"),
        numbers.convolution("conv2_1", 4, 5),
    ]
    images = images_of(numbers, size, artwork, -4, 4)
    convention = AUTHOR if author else PAPER
    weights = dict(zip(style, w, strict=True)) if w else None
    return case_of(
        name,
        pins,
        layers,
        images,
        content=content,
        style=style,
        w=weights,
        tv=tv,
        convention=convention,
        padding=padding,
        style_loss=style_loss,
    )


def _regions() -> Case:
    """Return a case of two regions that overlap, whose style image has another size.

    The guidance has few digits, so that its squares and their sums are exact.
    """
    name, numbers = "style-regions", Numbers("style-regions")
    layers: list[Layer] = [
        numbers.convolution("conv1_1", 3, 4),
        Pool("pool1", "avg"),
        numbers.convolution("conv2_1", 4, 5),
    ]
    network = Network(tuple(layers))

    def guidance(size: tuple[int, int]) -> dict[str, Array]:
        """Return random guidance (R, h, v) of both regions at each layer, in sixteenths."""
        shapes = network.shapes(*size)
        return {
            layer: numbers.uniform(0, 16, 2, *shapes[layer][1:]).round() / 16
            for layer in ("conv1_1", "conv2_1")
        }

    images = images_of(numbers, (8, 10), (12, 10), -4, 4)
    of_x, of_a = guidance((8, 10)), guidance((12, 10))
    pins = "a region multiplies F by T before the Gram matrix and divides by the sum of T squared"
    return case_of(
        name,
        pins,
        layers,
        images,
        style=("conv1_1", "conv2_1"),
        w={"conv1_1": 0.75, "conv2_1": 0.125},
        regions=(1.25, 0.75),
        guidance=(of_x, of_a),
    )


def _objective(
    name: str,
    pins: str,
    pooling: Pooling,
    size: tuple[int, int],
    content: int,
    style: tuple[int, ...],
    *,
    artwork: tuple[int, int] | None = None,
    convention: Convention = PAPER,
) -> Case:
    """Return a case of VGG-19's chain from conv1_1 to conv5_1, with few filters.

    `content` and `style` are α and the w_l as powers of 2. They are chosen so that every term
    contributes about equally to the gradient: a mistake in any of them shows.
    """
    numbers = Numbers(name)
    layers: list[Layer] = []
    channels = 3
    blocks = VGGS["VGG-19"].blocks
    for block, (filters, N) in enumerate(zip(blocks, (4, 5, 6, 7, 8), strict=True), start=1):
        for number in range(1, len(filters) + 1):
            layers.append(numbers.convolution(f"conv{block}_{number}", channels, N))
            channels = N
        layers.append(Pool(f"pool{block}", pooling))
    return case_of(
        name,
        pins,
        layers,
        images_of(numbers, size, artwork or size, 0, 255),
        content="conv4_2",
        style=STYLE,
        alpha=2.0**content,
        w={layer: 2.0**power for layer, power in zip(STYLE, style, strict=True)},
        preprocessing=CAFFE,
        convention=convention,
    )
