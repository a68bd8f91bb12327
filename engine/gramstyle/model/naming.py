"""The names that the tensors of a network have in files of several families."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gramstyle.model.architecture import Architecture

# The longest prefix of names, such as "module.".
MAX_PREFIX = 100
# ReLUs, poolings and batch normalisations have indices in torch's list of layers too.
_STEP, _NORMALISED_STEP = 2, 3


@dataclass(frozen=True)
class Named:
    """The names of a convolution's tensors.

    Attributes
    ----------
    layer
        The layer's name in gramstyle.
    shape
        The shape of the weights (N, C, 3, 3).
    weight
        The name of the weights.
    norm
        The name of the batch normalisation behind the convolution; "" if there is none.
    """

    layer: str
    shape: tuple[int, int, int, int]
    weight: str
    norm: str = ""

    @property
    def bias(self) -> str:
        """The name of the biases."""
        return self.weight.removesuffix("weight") + "bias"


@dataclass(frozen=True)
class NamingScheme:
    """The names of the tensors in a family of files.

    Attributes
    ----------
    weight
        The name of a layer's weights, with {block} and {number} for the layer's number, {index} for
        its index in torch's ``features``, or {order} for its place among the convolutions. The
        biases have "bias" in place of "weight".
    norm
        The name of the batch normalisation behind the layer; "" if such files have none.
    """

    weight: str
    norm: str = ""

    @property
    def is_ordered(self) -> bool:
        """Whether the names state the order of the convolutions only."""
        return "{order}" in self.weight

    def names(
        self, network: Architecture, *, prefix: str = "", normalised: bool = False
    ) -> Iterator[Named]:
        """Yield the names of each convolution of a network, without or with normalisations."""
        step = _NORMALISED_STEP if normalised else _STEP
        index, previous = 0, 1
        for order, (block, number, shape) in enumerate(network.convolutions()):
            index += block - previous
            place = {"block": block, "number": number, "order": order}
            weight = prefix + self.weight.format(**place, index=index)
            norm = prefix + self.norm.format(**place, index=index + 1) if normalised else ""
            yield Named(f"conv{block}_{number}", shape, weight, norm)
            index, previous = index + step, block

    def split(self, weight: str) -> tuple[str, tuple[int, ...]] | None:
        """Return the prefix and the numbers of the name of weights; None for another name."""
        return _split(self.weight, weight)

    def split_norm(self, norm: str) -> tuple[str, tuple[int, ...]] | None:
        """Return the prefix and the numbers of a batch normalisation; None for another name."""
        return _split(self.norm, norm) if self.norm else None


def _split(template: str, name: str) -> tuple[str, tuple[int, ...]] | None:
    pattern = re.sub(r"\\\{\w+\\\}", r"(\\d{1,6})", re.escape(template))
    found = re.fullmatch(rf"((?:.*[./])?){pattern}", name)
    if found is None or len(found[1]) > MAX_PREFIX:
        return None
    return found[1], tuple(map(int, found.groups()[1:]))


# The names that open_onnx gives.
CHAIN = NamingScheme("chain.conv{block}_{number}.weight")

SCHEMES = (
    # torchvision, timm, and conversions of the Caffe network to torch.
    NamingScheme("features.{index}.weight", "features.{index}"),
    NamingScheme("{index}.weight", "{index}"),
    # Caffe, and conversions with its names, such as Gatys' files for torch.
    NamingScheme("conv{block}_{number}.weight", "bn{block}_{number}"),
    # Keras, and its layers without names of their own.
    NamingScheme("block{block}_conv{number}.weight"),
    NamingScheme("order{order}.weight"),
)
