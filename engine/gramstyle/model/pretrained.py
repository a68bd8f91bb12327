"""A pretrained VGG-19 in memory: its convolutions and how it sees pictures."""

from collections.abc import Mapping
from dataclasses import dataclass

from gramstyle.model.known import DEFAULT, KNOWN
from gramstyle.network import Convolution
from gramstyle.preprocessing import Preprocessing


@dataclass(frozen=True)
class Pretrained:
    """VGG-19 as a file of weights gives it.

    Attributes
    ----------
    convolutions
        conv1_1 to conv5_4 in float32.
    preprocessing
        What the network's authors did to a picture first.
    metadata
        Where the weights come from, whose they are, their hashes.
    """

    convolutions: tuple[Convolution, ...]
    preprocessing: Preprocessing
    metadata: Mapping[str, str]

    @property
    def is_default(self) -> bool:
        """Whether these are the default weights, as they were published."""
        return KNOWN.get(self.metadata["weights.sha256"]) is DEFAULT
