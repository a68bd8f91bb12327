"""The paper's normalised network: every filter's mean activation over images and positions is 1.

Convolution, ReLU and both poolings are homogeneous: a filter whose weights and bias are divided
by its mean μ > 0 responds F / μ, and the next layer undoes that if it multiplies the weights
that read this filter by μ. So one pass over the images measures every layer at once, and the
rescaled network's responses are those of the original, each divided by its filter's mean.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Pooling
from gramstyle.core.network import Convolution
from gramstyle.engines.onnx_session import Session
from gramstyle.errors import ImageError, ModelError, OptionError
from gramstyle.images import SUFFIXES, Image, fitted_size, read_image, resize
from gramstyle.model import Model
from gramstyle.model.known import weights_hash
from gramstyle.model.pretrained import Pretrained
from gramstyle.system.machine import available_threads, check_memory

# What the responses of all convolutions take for each pixel of an image, and what copies them.
BYTES_PER_PIXEL = 1600


@dataclass(frozen=True, kw_only=True)
class PassOptions:
    """How the mean activations are measured.

    Attributes
    ----------
    size
        Images whose longer edge is longer are shrunk to it; smaller ones stay as they are.
    pooling
        The pooling of the network that is measured, and for which the means will be 1.
    threads
        How many processor cores to use; None takes all that this process may run on.
    """

    size: int = 512
    pooling: Pooling = "avg"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check the options; raises OptionError."""
        if self.size < 1:
            raise OptionError(f"size must be at least 1, not {self.size}")
        if self.pooling not in ("max", "avg"):
            raise OptionError(f"pooling must be max or avg, not {self.pooling!r}")
        if self.threads is not None and self.threads < 1:
            raise OptionError(f"threads must be at least 1, not {self.threads}")


@dataclass(frozen=True)
class Passed:
    """What a callback is told after each image.

    Attributes
    ----------
    done, total
        How many images have been looked at, of how many.
    image
        The last of them.
    problem
        Why it was left out, or None if it was used.
    """

    done: int
    total: int
    image: Path
    problem: str | None


@dataclass(frozen=True)
class Means:
    """Mean activations, and what they were measured on.

    Attributes
    ----------
    of
        For each convolution the mean of every filter's responses over all positions of all
        images, float64 (N,).
    images
        How many images were used.
    sha256
        One hash over the images' own, whatever their order.
    options
        How it was done.
    """

    of: Mapping[str, Array] = field(repr=False)
    images: int
    sha256: str
    options: PassOptions


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Return images that were named, and those in folders that were, each once.

    In a folder, files count as images by their names' endings; hidden ones do not.

    Raises
    ------
    ImageError
        If something named is not there, or no image is left.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            found |= {p: None for p in sorted(inside) if not p.name.startswith(".")}
        elif path.is_file():
            found[path] = None
        else:
            raise ImageError(f"there is no image or folder {path}")
    once: dict[Path, Path] = {}
    for path in found:
        once.setdefault(path.resolve(), path)
    if not once:
        raise ImageError("there is no image in what was named; name images or their folder")
    return list(once.values())


def mean_activations(
    model: Model,
    images: Sequence[Path],
    options: PassOptions | None = None,
    *,
    callback: Callable[[Passed], None] | None = None,
) -> Means:
    """Measure every filter's mean activation in one pass, one image in memory at a time.

    An image that cannot be read, or is too small for the network, is left out; `callback` is
    told.

    Raises
    ------
    ImageError
        If none of the images can be used.
    ModelError, RuntimeMissingError
        If the network cannot be run.
    """
    options = PassOptions() if options is None else options
    convolutions = [c for c in model.network.layers if isinstance(c, Convolution)]
    network = model.network.until([convolutions[-1].name])
    forward = Session(
        model.runnable([convolutions[-1].name], options.pooling),
        network.shapes,
        threads=options.threads or available_threads(),
    )
    sums = {c.name: np.zeros(len(c.b)) for c in convolutions}
    positions = dict.fromkeys(sums, 0)
    digests: list[bytes] = []
    problem: str | None = "there is none"
    for done, path in enumerate(images, start=1):
        problem = None
        try:
            v, digest = _input(path, model, options)
            network.shapes(*v.shape[1:])
        except ImageError as error:
            problem = str(error)
        else:
            responses = forward(v)
            for name, total in sums.items():
                F = responses[name].reshape(len(total), -1)
                total += F.sum(axis=1, dtype=np.float64)
                positions[name] += F.shape[1]
            digests.append(digest)
        if callback is not None:
            callback(Passed(done, len(images), path, problem))
    if not digests:
        raise ImageError(f"none of {len(images)} images can be used; the last one: {problem}")
    return Means(
        of={name: total / positions[name] for name, total in sums.items()},
        images=len(digests),
        sha256=hashlib.sha256(b"".join(sorted(digests))).hexdigest(),
        options=options,
    )


def rescaled(convolutions: Iterable[Convolution], means: Mapping[str, Array]) -> list[Convolution]:
    """W'[n, c] = W[n, c] μ_below[c] / μ[n], b'[n] = b[n] / μ[n]: the same network in other units.

    A filter that never responds keeps its units.

    Parameters
    ----------
    convolutions
        From the image upwards.
    means
        μ of each of them, (N,).

    Raises
    ------
    ModelError
        If a weight would leave float32's range.

    Notes
    -----
    Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style", arXiv 1508.06576, methods.
    """
    result = []
    below = np.ones(3)
    for convolution in convolutions:
        mean = np.where(means[convolution.name] > 0, means[convolution.name], 1.0)
        with np.errstate(over="ignore"):
            W = (convolution.W * below[:, None, None] / mean[:, None, None, None]).astype("f4")
            b = (convolution.b / mean).astype("f4")
        if not (np.isfinite(W).all() and np.isfinite(b).all()):
            raise ModelError(
                f"a filter of {convolution.name} responds too little to be rescaled; use more "
                "images"
            )
        result.append(Convolution(convolution.name, W, b))
        below = mean
    return result


def normalised(pretrained: Pretrained, means: Means) -> Pretrained:
    """Return a network with its filters rescaled, and the record of what they were measured on."""
    convolutions = tuple(rescaled(pretrained.convolutions, means.of))
    return Pretrained(
        convolutions=convolutions,
        preprocessing=pretrained.preprocessing,
        metadata={
            **pretrained.metadata,
            "weights.sha256": weights_hash(convolutions),
            "normalised.images": str(means.images),
            "normalised.sha256": means.sha256,
            "normalised.size": str(means.options.size),
            "normalised.pooling": means.options.pooling,
        },
    )


def _input(path: Path, model: Model, options: PassOptions) -> tuple[Array, bytes]:
    """Return an image as the network's input v (3, H, V), and its file's hash."""
    image = read_image(path)
    if max(image.width, image.height) > options.size:
        image = resize(image, *fitted_size(image.width, image.height, options.size))
    check_memory(image.width, image.height, bytes_per_pixel=BYTES_PER_PIXEL)
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from None
    return model.preprocessing.forward(_as_pixels(image)), digest


def _as_pixels(image: Image) -> Array:
    return np.ascontiguousarray(image.pixels.transpose(2, 0, 1))
