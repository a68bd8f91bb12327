"""VGG-19: the shapes of its convolutions, and the preprocessing of its two families."""

import re
from collections.abc import Iterator, Mapping

from gramstyle.core.preprocessing import Preprocessing

# Number of filters of each convolution, block by block; a 2×2 pooling ends each block.
BLOCKS = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512))

# Differs from Gatys et al. (2015), who rescale the filters to a mean activation of 1 over images
# and positions. These filters are as trained; `gramstyle model normalise` rescales them.

# The preprocessing of the Caffe model zoo.
CAFFE = Preprocessing(channels="BGR", mean=(103.939, 116.779, 123.68), scale=(1.0, 1.0, 1.0))

# The preprocessing of torchvision: 0..1, minus the mean of ImageNet, over its standard deviation.
TORCHVISION = Preprocessing(
    channels="RGB",
    mean=(255 * 0.485, 255 * 0.456, 255 * 0.406),
    scale=(1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)),
)

CONVENTIONS: Mapping[str, Preprocessing] = {"caffe": CAFFE, "torchvision": TORCHVISION}


def convolution_shapes() -> Iterator[tuple[int, int, tuple[int, int, int, int]]]:
    """Yield block, number in the block and weights' shape (N, C, 3, 3) of each convolution."""
    channels = 3
    for block, filters in enumerate(BLOCKS, start=1):
        for number, N in enumerate(filters, start=1):
            yield block, number, (N, channels, 3, 3)
            channels = N


def poolings_until(layer: str) -> int:
    """Return how many poolings there are from the image to a layer, which is included.

    A name that is not one of VGG-19's layers has none.
    """
    found = re.fullmatch(r"(conv|pool)([1-5])(_\d)?", layer)
    if found is None:
        return 0
    block = int(found[2])
    return block if found[1] == "pool" else block - 1
