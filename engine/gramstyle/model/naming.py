"""Find VGG-19's sixteen convolutions among the tensors of a file, by several naming schemes."""

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
class NamingScheme:
    """The names of the tensors in a family of files.

    Attributes
    ----------
    weight
        The name of a layer's weights, with {block} and {number} for the layer's number, or
        {index} for its index in torch's ``features``. The biases have "bias" in place of "weight".
    """

    weight: str

    # ReLUs and poolings have indices in torch's list of layers too.
    _STEP: ClassVar[int] = 2

    def names(self) -> Iterator[tuple[str, tuple[int, int, int, int], str]]:
        """Yield "convB_K", the shape and the weights' name of each convolution."""
        index, previous = 0, 1
        for block, number, shape in convolution_shapes():
            index += block - previous
            name = self.weight.format(block=block, number=number, index=index)
            yield f"conv{block}_{number}", shape, name
            index, previous = index + self._STEP, block


SCHEMES = (
    # torchvision, timm, and conversions of the Caffe network to torch.
    NamingScheme("features.{index}.weight"),
    NamingScheme("{index}.weight"),
    # The names that open_onnx gives.
    NamingScheme("chain.conv{block}_{number}.weight"),
    # Caffe, and conversions with its names, such as Gatys' files for torch.
    NamingScheme("conv{block}_{number}.weight"),
    # Keras.
    NamingScheme("block{block}_conv{number}.weight"),
)


def find_convolutions(tensors: Tensors) -> list[Convolution]:
    """Return VGG-19's convolutions in float32.

    The names may have a common prefix, such as "module." or "state_dict."; other tensors, such
    as a classifier's, are ignored. All names, shapes and types are checked before the first
    tensor is read.

    Raises
    ------
    ModelError
        If a convolution is missing, occurs twice, differs in shape from VGG-19's, or contains
        NaN or infinite values.
    """
    scheme, prefix = _scheme(tensors)
    _refuse_batch_normalisation(tensors, scheme, prefix)
    places = [(layer, shape, prefix + name) for layer, shape, name in scheme.names()]
    keys = [key for *_, name in places for key in (name, _bias(name))]
    if missing := [key for key in keys if key not in tensors]:
        raise ModelError(
            f"expected VGG-19's sixteen convolutions, found {len(keys) - len(missing)} of their "
            f"{len(keys)} tensors and no {missing[0]!r}; is it another network?"
        )
    chosen = [
        (
            layer,
            _checked(tensors, name, shape, layer),
            _checked(tensors, _bias(name), shape[:1], layer),
        )
        for layer, shape, name in places
    ]
    return [Convolution(layer, _load(W, layer), _load(b, layer)) for layer, W, b in chosen]


def _bias(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"


def _scheme(tensors: Tensors) -> tuple[NamingScheme, str]:
    """Return the scheme and the prefix that match the most weights."""
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
    # "features.0.weight" also ends in "0.weight": the longer name, which comes first, wins.
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


def _refuse_batch_normalisation(tensors: Tensors, scheme: NamingScheme, prefix: str) -> None:
    """Refuse VGG-19 with batch normalisation; its convolutions alone are another network."""
    stem = prefix + next(scheme.names())[2].rpartition("0.weight")[0]
    pattern = re.compile(re.escape(stem) + r"\d+\.running_mean")
    if any(pattern.fullmatch(name) for name in tensors):
        raise ModelError(
            "expected plain VGG-19, found VGG-19 with batch normalisation; use the plain network's "
            "weights"
        )


def _checked(tensors: Tensors, name: str, shape: tuple[int, ...], layer: str) -> StoredTensor:
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
        raise ModelError(f"expected {tensor.shape} values in {layer}, found {array.shape}")
    if not np.isfinite(array).all():
        raise ModelError(f"expected finite numbers in {layer}, found NaN or an infinite value")
    return array
