"""A pretrained network in memory: convolutions, preprocessing and provenance."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Self

from gramstyle.core.network import Convolution
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import ModelError
from gramstyle.model.architecture import architecture_of
from gramstyle.model.known import DEFAULT, KNOWN_NETWORKS, UNKNOWN, identify
from gramstyle.model.onnx_file import Model

# How metadata record batch normalisations.
NORMALISATION, FOLDED = "batch.normalisation", "folded into the convolutions"
# Metadata that stay valid when a model file's network is written to another file.
PROVENANCE = ("source", "source.sha256", "network", "licence", "attribution", NORMALISATION)
NORMALISED = "normalised."


@dataclass(frozen=True)
class Pretrained:
    """A pretrained network.

    Attributes
    ----------
    convolutions
        From the first to the last, in float32.
    preprocessing
        The preprocessing that the network was trained with.
    metadata
        Source, authors, licence and hashes of the weights.
    """

    convolutions: tuple[Convolution, ...]
    preprocessing: Preprocessing
    metadata: Mapping[str, str]

    @classmethod
    def from_model(cls, model: Model) -> Self:
        """Return the network of a model file.

        Raises
        ------
        ModelError
            If the network does not have exactly one pooling after each block.
        """
        convolutions = tuple(c for c in model.network.layers if isinstance(c, Convolution))
        names: list[str] = []
        for block, members in groupby(convolutions, lambda c: c.name.partition("_")[0]):
            names += [*(c.name for c in members), f"pool{block.removeprefix('conv')}"]
        if tuple(names) != model.network.names:
            raise ModelError(
                f"expected {model.path} to hold convB_K, block by block, with a poolB after each, "
                f"found {', '.join(model.network.names)}"
            )
        known = identify(convolutions)
        metadata = {
            "architecture": architecture_of(convolutions).name,
            "network": known.name if known else UNKNOWN,
            **provenance(model.metadata),
        }
        return cls(convolutions, model.preprocessing, metadata)

    @property
    def is_default(self) -> bool:
        """Whether these are the default weights, unchanged."""
        return KNOWN_NETWORKS.get(self.metadata["weights.sha256"]) is DEFAULT


def is_normalised(metadata: Mapping[str, str]) -> bool:
    """Return whether a model file's metadata record rescaled filters.

    Examples
    --------
    >>> from gramstyle.model import is_normalised
    >>> is_normalised({"source": "vgg19-dcbb9e9d.pth"})
    False
    """
    return any(key.startswith(NORMALISED) for key in metadata)


def provenance(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata that stay valid when the network is written to another file."""
    return {
        key: value
        for key, value in metadata.items()
        if key in PROVENANCE or key.startswith(NORMALISED)
    }
