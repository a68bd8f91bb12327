"""Read a network's convolutions from the tensors of a file, with what is folded into them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution
from gramstyle.errors import ModelError
from gramstyle.model.architecture import Architecture
from gramstyle.model.messages import quoted
from gramstyle.model.naming import CHAIN, Named
from gramstyle.model.recognition import REMEDY, check_network, described, recognised
from gramstyle.model.sources.batch_norm import BatchNorm, no_biases
from gramstyle.model.sources.tensors import StoredTensor, Tensors

# torch's default; a checkpoint does not state ε.
EPSILON = 1e-5
# The tensors of a batch normalisation in torch: μ, σ², γ and β, of which the last two may lack.
NORM_PARTS = ("running_mean", "running_var", "weight", "bias")


@dataclass(frozen=True)
class FoundNetwork:
    """A network in a file.

    Attributes
    ----------
    convolutions
        In float32.
    normalised
        Whether batch normalisations were folded into them.
    """

    convolutions: tuple[Convolution, ...]
    normalised: bool


def find_network(
    tensors: Tensors, network: Architecture | None = None, *, in_chain: bool = False
) -> FoundNetwork:
    """Return the network in a file.

    The names may have a common prefix, such as "module." or "state_dict."; other tensors, such
    as a classifier's, are ignored. All names, shapes and types are checked before the first
    tensor is read.

    Parameters
    ----------
    tensors
        The tensors of the file.
    network
        The architecture; None recognises a VGG.
    in_chain
        Whether the tensors have the names that `open_onnx` gives to those of this architecture.

    Raises
    ------
    ModelError
        If a convolution is missing, occurs twice, has another shape, or contains NaN or infinite
        values; names the first tensor that does not fit.
    """
    is_own = network is not None and not network.is_vgg
    if network is not None and in_chain:
        names = list(CHAIN.names(network))
        check_network(tensors, [name.weight for name in names], names, network.title)
    elif network is not None and is_own:
        names = described(tensors, network)
    else:
        names = recognised(tensors, network)
    _check_parts(tensors, [name.norm for name in names if name.norm])
    stored = [(name.layer, *_stored(tensors, name, may_lack_biases=is_own)) for name in names]
    return FoundNetwork(
        tuple(Convolution(layer, _weights(W, layer), _load(b, layer)) for layer, W, b in stored),
        normalised=any(name.norm for name in names),
    )


def _stored(
    tensors: Tensors, name: Named, *, may_lack_biases: bool
) -> tuple[StoredTensor, StoredTensor]:
    """Return the weights and the biases of a convolution, with its normalisation folded in."""
    W, filters = tensors[name.weight], name.shape[:1]
    b = tensors.get(name.bias)
    if b is None and not (name.norm or may_lack_biases):
        raise ModelError(f"expected the biases {quoted(name.bias)}, found none; {REMEDY}")
    if b is not None:
        _check(b, filters, name.bias, name.layer)
    if not name.norm:
        return W, no_biases(*filters) if b is None else b
    norm = {part: tensors.get(f"{name.norm}.{part}") for part in NORM_PARTS}
    for part, tensor in norm.items():
        key = f"{name.norm}.{part}"
        if tensor is not None:
            _check(tensor, filters, key, f"the batch normalisation of {name.layer}")
        elif part.startswith("running"):
            raise ModelError(
                f"expected a batch normalisation behind each convolution or none, found no "
                f"{quoted(key)}; {REMEDY}"
            )
    mean, variance = norm["running_mean"], norm["running_var"]
    assert mean is not None  # noqa: S101 - checked above
    assert variance is not None  # noqa: S101 - checked above
    scale, shift = norm["weight"], norm["bias"]
    return BatchNorm(name.layer, mean, variance, scale, shift, EPSILON).folded(W, b)


def _check_parts(tensors: Tensors, norms: Sequence[str]) -> None:
    """Refuse batch normalisations of which some have γ or β and others lack them."""
    for part in ("weight", "bias"):
        lacking = [norm for norm in norms if f"{norm}.{part}" not in tensors]
        if lacking and len(lacking) < len(norms):
            raise ModelError(
                f"expected {part} in every batch normalisation or in none, found no "
                f"{quoted(f'{lacking[0]}.{part}')}; is the file complete?"
            )


def _check(tensor: StoredTensor, shape: tuple[int, ...], key: str, layer: str) -> None:
    if tensor.shape != shape or tensor.dtype.kind != "f":
        raise ModelError(
            f"expected floats of shape {shape} for {layer}, found {tensor.dtype} of shape "
            f"{tensor.shape} ({quoted(key)}); {REMEDY}"
        )


def _weights(tensor: StoredTensor, layer: str) -> Array:
    array = _load(tensor, layer)
    if not array.any():
        raise ModelError(
            f"expected weights other than 0 in {layer}, found zeros only, through which no "
            "gradient flows; save the network once its weights are loaded"
        )
    return array


def _load(tensor: StoredTensor, layer: str) -> Array:
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(tensor.load(), dtype=np.float32)
    if array.shape != tensor.shape:
        raise ModelError(f"expected {tensor.shape} values in {layer}, found {array.shape}")
    if not np.isfinite(array).all():
        raise ModelError(f"expected finite numbers in {layer}, found NaN or an infinite value")
    return array
