"""The architecture of a network: its convolutions, block by block, with a pooling after each."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gramstyle.core.network import Convolution
from gramstyle.errors import OptionError, suggestion

POOL = "pool"
# The most convolutions, blocks and filters of a network. VGG-19 has 16, 5 and 512.
MOST_CONVOLUTIONS, MOST_BLOCKS, MOST_FILTERS = 200, 20, 8192


@dataclass(frozen=True)
class Architecture:
    """A chain of 3×3 convolutions, each with its ReLU, in blocks that a 2×2 pooling ends.

    Attributes
    ----------
    blocks
        The number of filters of each convolution, block by block.

    Examples
    --------
    >>> from gramstyle.model.architecture import VGGS, Architecture
    >>> Architecture(((16, 16), (32,))).name
    '16,16,pool,32,pool'
    >>> VGGS["VGG-16"].layers[-1]
    'conv5_3'
    """

    blocks: tuple[tuple[int, ...], ...]

    @property
    def name(self) -> str:
        """The name of a VGG, such as "VGG-16", or the description of another network."""
        for name, known in VGGS.items():
            if known.blocks == self.blocks:
                return name
        return ",".join(f"{','.join(map(str, block))},{POOL}" for block in self.blocks)

    @property
    def is_vgg(self) -> bool:
        """Whether it is one of the VGGs."""
        return self.name in VGGS

    @property
    def title(self) -> str:
        """Its name in a message."""
        return self.name if self.is_vgg else "the network"

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the convolutions."""
        return tuple(f"conv{block}_{number}" for block, number, _ in self.convolutions())

    def convolutions(self) -> Iterator[tuple[int, int, tuple[int, int, int, int]]]:
        """Yield block, number in the block and weights' shape (N, C, 3, 3) of each convolution."""
        channels = 3
        for block, filters in enumerate(self.blocks, start=1):
            for number, N in enumerate(filters, start=1):
                yield block, number, (N, channels, 3, 3)
                channels = N


# Differs from Gatys et al. (2015), who rescale the filters to a mean activation of 1 over images
# and positions. The filters of a weights file are as trained; `gramstyle model normalise` rescales
# them.


def _vgg(*convolutions: int) -> Architecture:
    """Return the VGG with so many convolutions in each of its five blocks."""
    filters = (64, 128, 256, 512, 512)
    return Architecture(tuple((N,) * n for N, n in zip(filters, convolutions, strict=True)))


# Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition", arXiv
# 1409.1556, table 1: configurations A, B, D and E.
VGGS: dict[str, Architecture] = {
    "VGG-11": _vgg(1, 1, 2, 2, 2),
    "VGG-13": _vgg(2, 2, 2, 2, 2),
    "VGG-16": _vgg(2, 2, 3, 3, 3),
    "VGG-19": _vgg(2, 2, 4, 4, 4),
}


def architecture_of(convolutions: Iterable[Convolution]) -> Architecture:
    """Return the architecture of convolutions with names like conv1_1, in order."""
    blocks: dict[str, list[int]] = {}
    for convolution in convolutions:
        block = convolution.name.partition("_")[0]
        blocks.setdefault(block, []).append(len(convolution.b))
    return Architecture(tuple(map(tuple, blocks.values())))


def parse_architecture(text: str) -> Architecture:
    """Return the architecture that a name (VGG-16) or a description (16,16,pool,32) states.

    Raises
    ------
    OptionError
        If the text is neither, or describes a network that gramstyle does not run.

    Examples
    --------
    >>> from gramstyle.model.architecture import parse_architecture
    >>> parse_architecture("16,16,pool,32").blocks
    ((16, 16), (32,))
    >>> parse_architecture("vgg16").name
    'VGG-16'
    """
    wanted = text.strip().casefold()
    for name, known in VGGS.items():
        if wanted in (name.casefold(), name.casefold().replace("-", "")):
            return known
    blocks: list[list[int]] = [[]]
    parts = [part.strip() for part in wanted.split(",")]
    for number, part in enumerate(parts):
        if part == POOL and blocks[-1]:
            if number < len(parts) - 1:
                blocks.append([])
        elif re.fullmatch(r"[1-9]\d{0,5}", part) and int(part) <= MOST_FILTERS:
            blocks[-1].append(int(part))
        elif part == POOL:
            raise OptionError("in --network, a pooling must follow a convolution")
        else:
            raise OptionError(_refusal(text, part, VGGS))
    if sum(map(len, blocks)) > MOST_CONVOLUTIONS or len(blocks) > MOST_BLOCKS:
        raise OptionError(
            f"--network may have at most {MOST_CONVOLUTIONS} convolutions and {MOST_BLOCKS} "
            "poolings"
        )
    return Architecture(tuple(map(tuple, blocks)))


def _refusal(text: str, part: str, known: Mapping[str, Architecture]) -> str:
    """Return the message for a text that is neither a name nor a description."""
    if "," in text:
        return (
            f"in --network, {part!r} is neither a number of filters (1 to {MOST_FILTERS}) nor "
            f"{POOL}"
        )
    near = suggestion(text, known)
    return (
        f"--network must be {', '.join(known)}, or the filters of each convolution and the "
        f"poolings, like 16,16,{POOL},32,32,{POOL}; not {text[:80]!r}{near}"
    )
