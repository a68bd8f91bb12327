"""Is this the same network? Two model files compared layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.engines.onnx_session import Session
from gramstyle.errors import ModelError
from gramstyle.images import Image, resize
from gramstyle.model import Model
from gramstyle.system.machine import available_threads

# Rounding in float32 and in ONNX Runtime's order of summation stays below the first; what 8-bit
# codebooks do to VGG-19 stays below the second (docs/weights.md has the measurements).
ROUNDING, QUANTISING = 1e-3, 0.1

SAMPLE = 256  # edge of the sample image, in pixels
OCTAVES = (4, 16, 64, 256)
SEED = 19


@dataclass(frozen=True)
class LayerDifference:
    """How far a layer of B is from the same layer of A; each number is relative to A's.

    Attributes
    ----------
    name
        The layer's name.
    weights, biases
        ‖B − A‖ / ‖A‖, the first layer's weights in terms of the pixels, red, green, blue, 0..255.
    responses
        The same for the responses to the sample image.
    directions
        The same once every filter of B has the scale that suits A best: 0 where filters were
        only rescaled.
    """

    name: str
    weights: float
    biases: float
    responses: float
    directions: float


@dataclass(frozen=True)
class Comparison:
    """Two networks compared.

    Attributes
    ----------
    layers
        The convolutions, from the image upwards.
    verdict
        One sentence.
    """

    layers: tuple[LayerDifference, ...]
    verdict: str


def compare_models(
    a: Model, b: Model, image: Image | None = None, *, threads: int | None = None
) -> Comparison:
    """Compare two networks, each seeing the image in its own way, with max pooling.

    Parameters
    ----------
    a, b
        The models.
    image
        What both look at; without one a drawn sample of 256×256 pixels.
    threads
        How many processor cores to use; None takes all that this process may run on.

    Raises
    ------
    ModelError
        If they have not the same layers of the same shapes.
    ImageError
        If the image is too small for them.
    """
    image = sample_image() if image is None else image
    _check_alike(a, b)
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
    """Return an image with structure at every scale, the same one every time."""
    rng = np.random.default_rng(SEED)
    octaves = [
        resize(Image(rng.uniform(0, 255, (n, n, 3)).astype(np.float32)), SAMPLE, SAMPLE).pixels
        for n in OCTAVES
    ]
    return Image(np.mean(octaves, axis=0, dtype=np.float32))


def _check_alike(a: Model, b: Model) -> None:
    shapes_a, shapes_b = (
        {layer.name: getattr(layer, "W", np.empty(0)).shape for layer in model.network.layers}
        for model in (a, b)
    )
    for name in {**shapes_a, **shapes_b}:
        if shapes_a.get(name) != shapes_b.get(name):
            found = [
                f"{_shape(s.get(name))} in {m.path}" for s, m in ((shapes_a, a), (shapes_b, b))
            ]
            raise ModelError(f"these are two architectures: {name} is {' and '.join(found)}")


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
    """Return a layer's weights; those of the first in terms of the pixels."""
    return _by_pixels(convolution.W, model.preprocessing) if first else convolution.W


def _by_pixels(W: Array, preprocessing: Preprocessing) -> Array:
    scaled = W * np.asarray(preprocessing.scale, np.float64)[:, None, None]
    return scaled[:, ::-1] if preprocessing.channels == "BGR" else scaled


def _relative(a: Array, b: Array) -> float:
    """‖b − a‖ / ‖a‖, 0 where both are 0."""
    difference = np.linalg.norm((b.astype(np.float64) - a).ravel())
    size = np.linalg.norm(a.astype(np.float64).ravel())
    if difference == 0:
        return 0.0
    return float(difference / size) if size > 0 else float("inf")


def _direction(of_a: Array, of_b: Array) -> float:
    """Root mean square over the filters of the sine between their responses in A and in B."""
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
        return f"the same network but for rounding: responses differ by {responses:.1e} at most"
    if directions < ROUNDING:
        return "the same network with its filters rescaled"
    if responses < QUANTISING:
        return (
            f"much the same network: responses differ by {responses:.1%} at most, as when weights "
            "are quantised"
        )
    return f"another network: responses differ by up to {responses:.0%}"
