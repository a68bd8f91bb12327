"""Normalise a network as the paper does: each filter's mean activation becomes 1.

The mean is over all images and positions. Convolution, ReLU and both poolings are homogeneous: a
filter whose weights and bias are divided by its mean μ > 0 has the responses F / μ, and the next
layer compensates if its weights for this filter are multiplied by μ. One forward pass per image
therefore measures all layers, and the responses of the rescaled network are those of the
original, each divided by its filter's mean.
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
from gramstyle.errors import ImageError, ModelError
from gramstyle.images import SUFFIXES, fitted_size, read_original
from gramstyle.model import Model
from gramstyle.model.known import weights_hash
from gramstyle.model.pretrained import Pretrained
from gramstyle.run.options import BOUNDS, CHOICES
from gramstyle.run.options.coercion import check_bounds, choose, make_plain
from gramstyle.system.files import real_path
from gramstyle.system.machine import available_threads, check_memory

# Memory of the responses of all convolutions and their copies, per pixel of an image.
BYTES_PER_PIXEL = 1600


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """Options for measuring mean activations.

    Attributes
    ----------
    size
        The longer edge in pixels to which larger images are reduced.
    pooling
        The pooling of the network during the measurement; with this pooling the means are 1.
    threads
        Number of processor cores to use; if None, all that are available to this process.
    """

    size: int = 512
    pooling: Pooling = "avg"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Make the values plain; raise OptionError if one is invalid."""
        make_plain(self)
        check_bounds(self, {name: BOUNDS[name] for name in ("size", "threads")})
        choose(self, {"pooling": CHOICES["pooling"]})


@dataclass(frozen=True)
class MeasureProgress:
    """The state of a measurement, as passed to a callback after each image.

    Attributes
    ----------
    done, total
        Number of images processed, and of all images.
    image
        The image just processed.
    problem
        Why it was left out, or None if it was used.
    """

    done: int
    total: int
    image: Path
    problem: str | None


@dataclass(frozen=True)
class Means:
    """Mean activations and how they were measured.

    Attributes
    ----------
    by_layer
        For each convolution the mean of each filter's responses over all positions of all
        images, float64 (N,).
    images
        Number of images used.
    sha256
        One hash of the images' hashes, independent of their order.
    options
        The options of the measurement.
    """

    by_layer: Mapping[str, Array] = field(repr=False)
    images: int
    sha256: str
    options: MeasureOptions


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Return the given images and all images in the given folders, each once.

    In folders, images are recognised by their suffixes; hidden files are ignored.

    Raises
    ------
    ImageError
        If a path does not exist, or there are no images.
    """
    found: dict[Path, None] = {}
    for path in paths:
        try:
            is_folder, is_file = path.is_dir(), path.is_file()
        except OSError as reason:  # the name is too long, or a folder may not be searched
            raise ImageError(f"cannot read {path}: {reason.strerror}") from None
        if is_folder:
            inside = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            found |= {p: None for p in sorted(inside) if not p.name.startswith(".")}
        elif is_file:
            found[path] = None
        else:
            raise ImageError(f"there is no image or folder {path}")
    once: dict[Path, Path] = {}
    for path in found:
        once.setdefault(real_path(path), path)
    if not once:
        raise ImageError(
            "there are no images in the given folders; name images, or folders with images"
        )
    return list(once.values())


def mean_activations(
    model: Model,
    images: Sequence[Path],
    options: MeasureOptions | None = None,
    *,
    callback: Callable[[MeasureProgress], None] | None = None,
) -> Means:
    """Measure the mean activation of every filter, with one image in memory at a time.

    Images that cannot be read or are too small for the network are left out; `callback` receives
    the reason.

    Raises
    ------
    ImageError
        If none of the images can be used.
    ModelError, RuntimeMissingError
        If the network cannot be run.
    """
    options = MeasureOptions() if options is None else options
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
    problem: str | None = "there are no images"
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
            callback(MeasureProgress(done, len(images), path, problem))
    if not digests:
        raise ImageError(f"none of {len(images)} images can be used; the last one: {problem}")
    return Means(
        by_layer={name: total / positions[name] for name, total in sums.items()},
        images=len(digests),
        sha256=hashlib.sha256(b"".join(sorted(digests))).hexdigest(),
        options=options,
    )


def rescaled(convolutions: Iterable[Convolution], means: Mapping[str, Array]) -> list[Convolution]:
    """Return the network with each filter's responses divided by its mean μ.

    W'[n, c] = W[n, c] μ_below[c] / μ[n] and b'[n] = b[n] / μ[n]. A filter that never responds
    (μ = 0) is not rescaled.

    Parameters
    ----------
    convolutions
        From the first to the last.
    means
        μ of each layer, (N,).

    Raises
    ------
    ModelError
        If a weight exceeds the range of float32.

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
                f"a filter of {convolution.name} responds too weakly to be rescaled; use more "
                "images"
            )
        result.append(Convolution(convolution.name, W, b))
        below = mean
    return result


def normalise(pretrained: Pretrained, means: Means) -> Pretrained:
    """Return a network with rescaled filters, and metadata that describe the measurement."""
    convolutions = tuple(rescaled(pretrained.convolutions, means.by_layer))
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


def _input(path: Path, model: Model, options: MeasureOptions) -> tuple[Array, bytes]:
    """Return an image as the network's input v (3, H, V), and the hash of its file."""
    original = read_original(path)
    width, height = original.width, original.height
    if max(width, height) > options.size:
        width, height = fitted_size(width, height, options.size)
    check_memory(width, height, bytes_per_pixel=BYTES_PER_PIXEL)
    image = original.resized(width, height)
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from None
    x = np.ascontiguousarray(image.pixels.transpose(2, 0, 1))
    return model.preprocessing.forward(x), digest
