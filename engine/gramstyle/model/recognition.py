"""Recognise a network by the names and shapes of the tensors in a file, which are not read."""

import re
from collections.abc import Iterator, Sequence
from itertools import chain, repeat

from gramstyle.errors import ModelError
from gramstyle.model.architecture import VGGS, Architecture
from gramstyle.model.messages import quoted
from gramstyle.model.naming import SCHEMES, Named, NamingScheme
from gramstyle.model.sources.tensors import Tensors

MEAN = ".running_mean"
REMEDY = "is it another network?"
# The fewest convolutions of a VGG.
FEWEST = min(len(network.layers) for network in VGGS.values())


def recognised(tensors: Tensors, network: Architecture | None = None) -> list[Named]:
    """Return the names of the convolutions of the VGG in a file.

    Parameters
    ----------
    tensors
        The tensors of the file; those of a classifier are ignored.
    network
        The VGG; None takes the one whose names and shapes the file has.

    Raises
    ------
    ModelError
        If there is no VGG, or more than one; names the first tensor that does not fit.
    """
    scheme, prefix, found = _scheme(tensors)
    norms = _norms(tensors)
    normalised = any(
        parts is not None and parts[0] == prefix for parts in map(scheme.split_norm, norms)
    )
    candidates = {
        name: list(scheme.names(known, prefix=prefix, normalised=normalised))
        for name, known in VGGS.items()
        if network is None or known == network
    }
    best = max(candidates, key=lambda name: (_common(tensors, found, candidates[name]), name))
    names = candidates[best]
    # The layers of Keras have numbers only, and those of a classifier follow.
    check_network(tensors, found[: len(names)] if scheme.is_ordered else found, names, best)
    _check_norms(norms, names)
    _check_others(tensors, names, best)
    return names


def described(tensors: Tensors, network: Architecture) -> list[Named]:
    """Return the names of the convolutions of a network that the user has described.

    The convolutions are those whose names differ in numbers only, in the order of the numbers.
    Batch normalisations are assigned to them in the same order.

    Raises
    ------
    ModelError
        If the tensors are not those of the network; names the first one that does not fit.
    """
    kernels = [key for key, tensor in tensors.items() if len(tensor.shape) == 4]
    if not kernels:
        raise ModelError(
            f"expected the convolutions of {network.title}, found {_first(tensors)}; {REMEDY}"
        )
    patterns = list(dict.fromkeys(map(_pattern, kernels)))
    if len(patterns) > 1:
        others = [next(key for key in kernels if _pattern(key) == each) for each in patterns]
        raise ModelError(
            "expected convolutions whose names differ in numbers only, found "
            f"{quoted(others[0])} and {quoted(others[1])}; export the network as ONNX"
        )
    found = sorted(kernels, key=_numbers)
    norms = sorted(_norms(tensors), key=_numbers)
    layers = ((f"conv{block}_{k}", shape) for block, k, shape in network.convolutions())
    names = [
        Named(layer, shape, key, norm)
        for (layer, shape), key, norm in zip(layers, _padded(found), _padded(norms), strict=False)
    ]
    check_network(tensors, found, names, network.title)
    if norms and (len(norms) != len(found) or not all(map(_is_behind, found, norms))):
        raise ModelError(
            "expected one batch normalisation directly behind each convolution or none, found "
            f"{quoted(norms[0])}; export the network as ONNX"
        )
    _check_others(tensors, names, network.title)
    for key, tensor in tensors.items():
        module = key.removesuffix(".weight")
        if module != key and len(tensor.shape) < 2 and module not in norms:
            raise ModelError(_other(key, tensors, network.title))
    return names


def check_network(
    tensors: Tensors, found: Sequence[str], names: Sequence[Named], network: str
) -> None:
    """Raise ModelError at the first of the weights found that is not the network's.

    Parameters
    ----------
    tensors
        The tensors of the file.
    found
        The names of all weights that may be the network's, in order.
    names
        The names and shapes of the network's weights.
    network
        The network's name.
    """
    for name, key in zip(names, _padded(found), strict=False):
        if not key or not name.weight:
            raise ModelError(
                f"expected the {len(names)} convolutions of {network}, found {len(found)} and "
                f"none for {name.layer}{f' ({quoted(name.weight)})' if name.weight else ''}; "
                f"{REMEDY}"
            )
        if key != name.weight:
            raise ModelError(
                f"expected {quoted(name.weight)}, {name.layer} of {network}, found {quoted(key)} "
                f"in its place; {REMEDY}"
            )
        tensor = tensors[key]
        if tensor.shape != name.shape or tensor.dtype.kind != "f":
            raise ModelError(
                f"expected floats of shape {name.shape} for {name.layer} of {network}, found "
                f"{tensor.dtype} of shape {tensor.shape} ({quoted(key)}); {REMEDY}"
            )
    if len(found) > len(names):
        raise ModelError(
            f"expected the {len(names)} convolutions of {network}, found another one, "
            f"{quoted(found[len(names)])}; {REMEDY}"
        )


def _scheme(tensors: Tensors) -> tuple[NamingScheme, str, list[str]]:
    """Return the scheme and the prefix of the most convolutions, and their weights' names."""
    places: dict[tuple[int, str], list[tuple[tuple[int, ...], str]]] = {}
    for key, tensor in tensors.items():
        for place, scheme in enumerate(SCHEMES):
            parts = scheme.split(key) if len(tensor.shape) == 4 else None
            if parts is not None:
                places.setdefault((place, parts[0]), []).append((parts[1], key))
    if not places:
        raise ModelError(
            f"expected the names of a VGG's convolutions (such as {_examples()}), found "
            f"{_first(tensors)}"
        )
    most = max(map(len, places.values()))
    best = [key for key, found in places.items() if len(found) == most]
    # "features.0.weight" also ends in "0.weight": the longer name, which comes first, wins.
    place = min(place for place, _ in best)
    prefixes = sorted(prefix for at, prefix in best if at == place)
    if len(prefixes) > 1 and most < FEWEST:  # parts of another network, such as a ResNet
        raise ModelError(
            f"expected the names of a VGG's convolutions (such as {_examples()}), found "
            f"{_first(tensors)}; {REMEDY}"
        )
    if len(prefixes) > 1:
        raise ModelError(
            f"expected one network, found {len(prefixes)}: under {quoted(prefixes[0])} and "
            f"{quoted(prefixes[1])}"
        )
    return SCHEMES[place], prefixes[0], [key for _, key in sorted(places[place, prefixes[0]])]


def _first(tensors: Tensors) -> str:
    """Return the name and shape of the first kernel, else the names of the first tensors."""
    for key, tensor in tensors.items():
        if len(tensor.shape) == 4:
            return f"{quoted(key)} of shape {tensor.shape}"
    return ", ".join(quoted(name) for name in list(tensors)[:3]) or "no tensor at all"


def _examples() -> str:
    # Only the reader of Keras' files gives the names of the last scheme.
    schemes = [scheme for scheme in SCHEMES if not scheme.is_ordered]
    return ", ".join(repr(next(scheme.names(VGGS["VGG-19"])).weight) for scheme in schemes)


def _common(tensors: Tensors, found: Sequence[str], names: Sequence[Named]) -> tuple[int, int]:
    """Return how many names agree from the first one on, and how many shapes."""
    agree = [key == name.weight for key, name in zip(found, names, strict=False)]
    shapes = [tensors[key].shape == name.shape for key, name in zip(found, names, strict=False)]
    return _leading(agree), _leading(shapes)


def _leading(flags: Sequence[bool]) -> int:
    """Return how many of the first flags are true."""
    return flags.index(False) if False in flags else len(flags)


def _norms(tensors: Tensors) -> list[str]:
    """Return the names of all batch normalisations."""
    return [key.removesuffix(MEAN) for key in tensors if key.endswith(MEAN)]


def _check_norms(norms: Sequence[str], names: Sequence[Named]) -> None:
    """Refuse batch normalisations of the convolutions that have other names."""
    others = [norm for norm in norms if norm not in {name.norm for name in names}]
    if len(others) >= len(names):  # a classifier has fewer
        raise ModelError(
            f"expected no batch normalisation, or one with the name of its convolution, found "
            f"{quoted(others[0])}; export the network as ONNX"
        )


def _check_others(tensors: Tensors, names: Sequence[Named], network: str) -> None:
    """Refuse tensors of the layers between the convolutions that no convolution reads.

    They belong to what the network must not have, such as a PReLU, or a normalisation without
    running means. In a list of layers they have numbers between those of the convolutions; beside
    "conv1_1" they have the numbers of a convolution.
    """
    modules = [name.weight.removesuffix(".weight") for name in names]
    norms = {name.norm for name in names if name.norm}
    equal = [len(set(letters)) == 1 for letters in zip(*modules, strict=False)]
    start = modules[0][: _leading(equal)].rstrip("0123456789")
    last, layers = _numbers(modules[-1][len(start) :]), {tuple(_numbers(m)) for m in modules}
    in_pairs = "_" in modules[-1][len(start) :]
    for key, tensor in tensors.items():
        module, _, part = key.rpartition(".")
        if (module in modules and part in ("weight", "bias")) or module in norms:
            continue
        place = re.match(r"\d+(_\d+)?(?=[./])", key.removeprefix(start))
        is_between = key.startswith(start) and place is not None and _numbers(place[0]) <= last
        is_beside = in_pairs and part == "weight" and len(tensor.shape) < 2
        if is_between or (is_beside and tuple(_numbers(module)) in layers):
            raise ModelError(_other(key, tensors, network))


def _other(key: str, tensors: Tensors, network: str) -> str:
    return (
        f"expected nothing but convolutions and batch normalisations with running means in "
        f"{network}, found {quoted(key)} of shape {tensors[key].shape}, as of a PReLU or another "
        f"normalisation; {REMEDY}"
    )


def _pattern(key: str) -> str:
    return re.sub(r"\d+", "0", key)


def _numbers(key: str) -> list[int]:
    return [int(number[:18]) for number in re.findall(r"\d+", key)]


def _is_behind(weight: str, norm: str) -> bool:
    """Return whether a batch normalisation is directly behind a convolution, by their numbers."""
    convolution = weight.removesuffix(".weight")
    *path, last = _numbers(convolution) or [0]
    in_one_list = _pattern(convolution) == _pattern(norm)
    return _numbers(norm) == ([*path, last + 1] if in_one_list else _numbers(convolution))


def _padded(names: Sequence[str]) -> Iterator[str]:
    """Yield names, then empty ones for ever."""
    return chain(names, repeat(""))
