"""A pretrained VGG-19 in memory: its convolutions and how it sees images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from gramstyle.core.network import Convolution
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import ModelError
from gramstyle.model.known import DEFAULT, KNOWN, UNKNOWN, identify
from gramstyle.model.onnx_file import Model

# What a model file says of itself that stays true when its network is written anew.
LASTING = ("source", "source.sha256", "network", "licence", "attribution")
NORMALISED = "normalised."


@dataclass(frozen=True)
class Pretrained:
    """VGG-19 as a file of weights gives it.

    Attributes
    ----------
    convolutions
        conv1_1 to conv5_4 in float32.
    preprocessing
        What the network's authors did to an image first.
    metadata
        Where the weights come from, whose they are, their hashes.
    """

    convolutions: tuple[Convolution, ...]
    preprocessing: Preprocessing
    metadata: Mapping[str, str]

    @classmethod
    def of_model(cls, model: Model) -> Self:
        """Return what a model file holds.

        Raises
        ------
        ModelError
            If its poolings are not where VGG's are: one behind each block.
        """
        convolutions = tuple(c for c in model.network.layers if isinstance(c, Convolution))
        blocks = [c.name.partition("_")[0].removeprefix("conv") for c in convolutions]
        names = []
        for convolution, block, following in zip(
            convolutions, blocks, [*blocks[1:], ""], strict=True
        ):
            names.append(convolution.name)
            if block != following:
                names.append(f"pool{block}")
        if tuple(names) != model.network.names:
            raise ModelError(
                f"expected {model.path} to hold convB_K, block by block, with a poolB behind each, "
                f"found {', '.join(model.network.names)}"
            )
        known = identify(convolutions)
        network = known.name if known else UNKNOWN
        return cls(
            convolutions, model.preprocessing, {"network": network, **lasting(model.metadata)}
        )

    @property
    def is_default(self) -> bool:
        """Whether these are the default weights, as they were published."""
        return KNOWN.get(self.metadata["weights.sha256"]) is DEFAULT


def is_normalised(metadata: Mapping[str, str]) -> bool:
    """Say whether a model file's record tells of rescaled filters."""
    return any(key.startswith(NORMALISED) for key in metadata)


def lasting(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what of a model file's record stays true when its network is written anew."""
    return {
        key: value
        for key, value in metadata.items()
        if key in LASTING or key.startswith(NORMALISED)
    }
