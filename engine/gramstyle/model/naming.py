"""Whose names the tensors of a file bear, and VGG-19's sixteen convolutions picked out by them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution
from gramstyle.errors import ModelError
from gramstyle.model.sources.tensors import StoredTensor, Tensors
from gramstyle.model.vgg19 import convolution_shapes

MAX_PREFIX = 100


@dataclass(frozen=True)
class Scheme:
    """How a family of files names its tensors.

    Attributes
    ----------
    weight
        The weights' name with {block} and {number} for a layer of that place, or {index} for
        its place in torch's ``features``; the biases' ends in "bias" instead of "weight".
    """

    weight: str

    # A pooling and the ReLUs take places in torch's list of layers too.
    _STEP: ClassVar[int] = 2

    def names(self) -> Iterator[tuple[str, tuple[int, int, int, int], str]]:
        """Give "convB_K", the shape and the weights' name of each convolution."""
        index, previous = 0, 1
        for block, number, shape in convolution_shapes():
            index += block - previous
            name = self.weight.format(block=block, number=number, index=index)
            yield f"conv{block}_{number}", shape, name
            index, previous = index + self._STEP, block


SCHEMES = (
    # torchvision, timm, and conversions of the Caffe network to torch.
    Scheme("features.{index}.weight"),
    Scheme("{index}.weight"),
    # Found by following an ONNX graph.
    Scheme("chain.conv{block}_{number}.weight"),
    # Caffe, and whoever kept its names: Gatys' files for torch, for example.
    Scheme("conv{block}_{number}.weight"),
    # Keras.
    Scheme("block{block}_conv{number}.weight"),
)


def find_convolutions(tensors: Tensors) -> list[Convolution]:
    """Return VGG-19's convolutions in float32.

    A common prefix such as "module." or "state_dict." is allowed; tensors of no convolution
    (a classifier's, say) are left alone. Names, shapes and types of all are judged before the
    first is read.

    Raises
    ------
    ModelError
        If one is missing, is there twice, has another shape than VGG-19's, or holds NaN or an
        infinite value.
    """
    scheme, prefix = _scheme(tensors)
    _refuse_normalised(tensors, scheme, prefix)
    places = [(layer, shape, prefix + name) for layer, shape, name in scheme.names()]
    keys = [key for *_, name in places for key in (name, _bias(name))]
    if missing := [key for key in keys if key not in tensors]:
        raise ModelError(
            f"expected VGG-19's sixteen convolutions, found {len(keys) - len(missing)} of their "
            f"{len(keys)} tensors, no {missing[0]!r}; is it another network?"
        )
    chosen = [
        (
            layer,
            _judged(tensors, name, shape, layer),
            _judged(tensors, _bias(name), shape[:1], layer),
        )
        for layer, shape, name in places
    ]
    return [Convolution(layer, _load(W, layer), _load(b, layer)) for layer, W, b in chosen]


def _bias(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"


def _scheme(tensors: Tensors) -> tuple[Scheme, str]:
    """Return the scheme and the prefix under which the most weights are found."""
    found: dict[tuple[int, str], int] = {}
    for place, scheme in enumerate(SCHEMES):
        names = [name for _, _, name in scheme.names()]
        for prefix in {key[: -len(names[0])] for key in tensors if _ends(key, names[0])}:
            found[place, prefix] = sum(prefix + name in tensors for name in names)
    if not found:
        some = ", ".join(repr(name) for name in list(tensors)[:3]) or "no tensor at all"
        raise ModelError(
            f"expected the names of VGG-19's convolutions (such as {_examples()}), found {some}"
        )
    most = max(found.values())
    best = [key for key, count in found.items() if count == most]
    # "features.0.weight" ends in "0.weight" too: the longer name, which has the lower place, wins.
    place = min(place for place, _ in best)
    prefixes = sorted(prefix for at, prefix in best if at == place)
    if len(prefixes) > 1:
        raise ModelError(
            f"expected one VGG-19, found {len(prefixes)}: under {prefixes[0]!r} and {prefixes[1]!r}"
        )
    return SCHEMES[place], prefixes[0]


def _ends(key: str, name: str) -> bool:
    prefix = key.removesuffix(name)
    return key.endswith(name) and len(prefix) <= MAX_PREFIX and prefix[-1:] in ("", ".", "/")


def _examples() -> str:
    return ", ".join(repr(next(scheme.names())[2]) for scheme in SCHEMES)


def _refuse_normalised(tensors: Tensors, scheme: Scheme, prefix: str) -> None:
    """Refuse VGG-19 with batch normalisation, whose convolutions alone compute something else."""
    stem = prefix + next(scheme.names())[2].rpartition("0.weight")[0]
    pattern = re.compile(re.escape(stem) + r"\d+\.running_mean")
    if any(pattern.fullmatch(name) for name in tensors):
        raise ModelError(
            "expected plain VGG-19, found VGG-19 with batch normalisation; use the plain network's "
            "weights"
        )


def _judged(tensors: Tensors, name: str, shape: tuple[int, ...], layer: str) -> StoredTensor:
    tensor = tensors[name]
    if tensor.shape != shape or tensor.dtype.kind != "f":
        raise ModelError(
            f"expected floats of shape {shape} for {layer}, found {tensor.dtype} of shape "
            f"{tensor.shape} ({name!r}); is it another network?"
        )
    return tensor


def _load(tensor: StoredTensor, layer: str) -> Array:
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(tensor.load(), dtype=np.float32)
    if array.shape != tensor.shape:
        raise ModelError(f"expected {layer}'s {tensor.shape} values, found {array.shape}")
    if not np.isfinite(array).all():
        raise ModelError(f"expected numbers in {layer}, found NaN or an infinite value")
    return array
