"""The names of layers, and the layers that are compared by default.

The convolution convB_K is number K of block B, and the pooling poolB ends block B, so conv4_2 is
the second convolution after the third pooling.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from gramstyle.core.conventions import CONTENT_LAYER, STYLE_LAYERS

# With two digits, no name stands for so many poolings that a size overflows.
NAME = re.compile(r"conv([1-9]\d?)_([1-9]\d{0,2})|pool([1-9]\d?)")


class DefaultLayers(NamedTuple):
    """The layers where content and style are compared by default."""

    content: tuple[str, ...]
    style: tuple[str, ...]


def default_layers(names: Iterable[str]) -> DefaultLayers:
    """Return the default layers of a network with these layers.

    Style is compared at the first convolution of each of the first five blocks. Content is compared
    at the second convolution of the block before the last of these, or at the first if there is no
    second. In every VGG, these are the layers that the paper compares.

    Examples
    --------
    >>> from gramstyle.core.layer_names import default_layers
    >>> default_layers(["conv1_1", "conv1_2", "pool1", "conv2_1", "pool2"])
    DefaultLayers(content=('conv1_2',), style=('conv1_1', 'conv2_1'))
    """
    blocks: dict[int, list[str]] = defaultdict(list)
    for name in names:
        found = NAME.fullmatch(name)
        if found is not None and found[1] is not None:
            blocks[int(found[1])].append(name)
    first = [blocks[block] for block in sorted(blocks)[: len(STYLE_LAYERS)]]
    if not first:
        return DefaultLayers((CONTENT_LAYER,), STYLE_LAYERS)
    content = first[-2:][0][:2][-1]
    return DefaultLayers((content,), tuple(block[0] for block in first))


def poolings_until(layer: str) -> int:
    """Return how many poolings there are from the image to a layer, which is included.

    Another name than those of this scheme has none.

    Examples
    --------
    >>> from gramstyle.core.layer_names import poolings_until
    >>> poolings_until("conv3_4"), poolings_until("pool3")
    (2, 3)
    """
    found = NAME.fullmatch(layer)
    if found is None:
        return 0
    return int(found[3]) if found[3] is not None else int(found[1]) - 1
