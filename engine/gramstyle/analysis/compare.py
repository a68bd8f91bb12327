"""Compare two networks layer by layer, to tell whether they are the same."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution
from gramstyle.engines.onnx_session import Session
from gramstyle.errors import ModelError
from gramstyle.images import Image, resize
from gramstyle.model import Model
from gramstyle.system.machine import available_threads

# Rounding in float32 and in ONNX Runtime's order of summation causes differences below the first
# number; 8-bit codebooks, differences below the second (measured in docs/weights.md).
ROUNDING, QUANTISING = 1e-3, 0.1

SAMPLE = 256  # edge of the sample image, in pixels
OCTAVES = (4, 16, 64, 256)
SEED = 19


@dataclass(frozen=True)
class LayerDifference:
    """The relative differences between a layer of A and the same layer of B.

    Attributes
    ----------
    name
        The layer's name.
    weights, biases
        ‖B − A‖ / ‖A‖; the first layer's weights are compared as applied to red, green and blue
        pixels in 0..255.
    responses
        ‖B − A‖ / ‖A‖ of the responses to the sample image.
    directions
        The same after the best rescaling of each filter of B; 0 if filters were only rescaled.
    """

    name: str
    weights: float
    biases: float
    responses: float
    directions: float


@dataclass(frozen=True)
class Comparison:
    """The comparison of two networks.

    Attributes
    ----------
    layers
        The differences of the convolutions, from the first to the last.
    verdict
        One sentence that summarises them.
    """

    layers: tuple[LayerDifference, ...]
    verdict: str


def compare_models(
    a: Model, b: Model, image: Image | None = None, *, threads: int | None = None
) -> Comparison:
    """Compare two networks, each with its own preprocessing, with max pooling.

    Parameters
    ----------
    a, b
        The models.
    image
        The image to run both networks on; if None, `sample_image`.
    threads
        Number of processor cores to use; if None, all that are available to this process.

    Raises
    ------
    ModelError
        If their layers differ in name or shape.
    ImageError
        If the image is too small for them.
    """
    image = sample_image() if image is None else image
    _check_architectures(a, b)
    pairs = list(zip(_convolutions(a), _convolutions(b), strict=True))
    of_a, of_b = (_responses(model, image, threads) for model in (a, b))
    layers = tuple(
        LayerDifference(
            name=one.name,
            weights=_relative(_weights(one, a, first=i == 0), _weights(two, b, first=i == 0)),
            biases=_relative(one.b, two.b),
            responses=_relative(of_a[one.name], of_b[one.name]),
            directions=_direction(of_a[one.name], of_b[one.name]),
        )
        for i, (one, two) in enumerate(pairs)
    )
    return Comparison(layers, _verdict(layers))


def sample_image() -> Image:
    """Return a random image of 256×256 pixels with structure at every scale; always the same."""
    rng = np.random.default_rng(SEED)
    octaves = [
        resize(Image(rng.uniform(0, 255, (n, n, 3)).astype(np.float32)), SAMPLE, SAMPLE).pixels
        for n in OCTAVES
    ]
    return Image(np.mean(octaves, axis=0, dtype=np.float32))


def _check_architectures(a: Model, b: Model) -> None:
    shapes_a, shapes_b = (
        {layer.name: getattr(layer, "W", np.empty(0)).shape for layer in model.network.layers}
        for model in (a, b)
    )
    for name in {**shapes_a, **shapes_b}:
        if shapes_a.get(name) != shapes_b.get(name):
            found = [
                f"{_shape(s.get(name))} in {m.path}" for s, m in ((shapes_a, a), (shapes_b, b))
            ]
            raise ModelError(f"the architectures differ: {name} is {' and '.join(found)}")


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else "×".join(map(str, shape))


def _convolutions(model: Model) -> list[Convolution]:
    return [layer for layer in model.network.layers if isinstance(layer, Convolution)]


def _responses(model: Model, image: Image, threads: int | None) -> Mapping[str, Array]:
    deepest = _convolutions(model)[-1].name
    network = model.network.until([deepest])
    session = Session(
        model.runnable([deepest], "max"), network.shapes, threads=threads or available_threads()
    )
    x = np.ascontiguousarray(image.pixels.transpose(2, 0, 1))
    return session(model.preprocessing.forward(x))


def _weights(convolution: Convolution, model: Model, *, first: bool) -> Array:
    """Return a layer's weights; those of the first layer as applied to pixels."""
    if not first:
        return convolution.W
    scaled = convolution.W * np.asarray(model.preprocessing.scale, np.float64)[:, None, None]
    return scaled[:, ::-1] if model.preprocessing.channels == "BGR" else scaled


def _relative(a: Array, b: Array) -> float:
    """Return ‖b − a‖ / ‖a‖, or 0 if both are 0."""
    difference = np.linalg.norm((b.astype(np.float64) - a).ravel())
    size = np.linalg.norm(a.astype(np.float64).ravel())
    if difference == 0:
        return 0.0
    return float(difference / size) if size > 0 else float("inf")


def _direction(of_a: Array, of_b: Array) -> float:
    """Return the root mean square, over filters, of the sine between their responses in A and B."""
    a, b = (F.reshape(len(F), -1).astype(np.float64) for F in (of_a, of_b))
    aa, bb, ab = ((p * q).sum(axis=1) for p, q in ((a, a), (b, b), (a, b)))
    silent = (aa == 0) & (bb == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.where(silent, 1.0, np.where(aa * bb > 0, ab / np.sqrt(aa * bb), 0.0))
    return float(np.sqrt(np.mean(np.clip(1.0 - cosine**2, 0.0, 1.0))))


def _verdict(layers: tuple[LayerDifference, ...]) -> str:
    if all(layer.weights == layer.biases == 0 for layer in layers):
        return "the same network: all weights and biases are equal"
    responses = max(layer.responses for layer in layers)
    directions = max(layer.directions for layer in layers)
    if responses < ROUNDING:
        return f"the same network except for rounding: responses differ by at most {responses:.1e}"
    if directions < ROUNDING:
        return "the same network with its filters rescaled"
    if responses < QUANTISING:
        return (
            f"nearly the same network: responses differ by at most {responses:.1%}, as after "
            "quantising the weights"
        )
    return f"another network: responses differ by up to {responses:.0%}"
