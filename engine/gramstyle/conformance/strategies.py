"""Hypothesis strategies for random cases: networks, sizes, images, terms, conventions, paddings.

Drawn cases shrink: to fewer layers and filters, smaller images, fewer and simpler terms. All drawn
integers are below 100. Hypothesis mixes larger constants from the user's own code into larger
ranges, and a seed would then give other cases whenever that code changes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from gramstyle.conformance.building import PLAIN, case_of
from gramstyle.conformance.cases import Case
from gramstyle.conformance.exact.hashed import Numbers
from gramstyle.conformance.posed import is_well_posed
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import AUTHOR, PAPER
from gramstyle.core.layers import PADDINGS
from gramstyle.core.network import Layer, Network, Pool
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.term import PIXELS
from gramstyle.errors import ImageError
from gramstyle.model.preprocessings import CAFFE, TORCHVISION

__all__ = ["cases", "networks", "preprocessings", "sizes"]

NAME = "random"
PINS = "a random case of the formulas: network, sizes, terms, weights and paddings"

# The most layers above the first one, poolings, filters, and pixels above the smallest size.
MOST_LAYERS, MOST_POOLINGS, MOST_FILTERS, MOST_PIXELS = 7, 3, 5, 7
# Every loss is 1 to 2 to this power.
MOST_POWER = 6
ROLES = ("", "content", "style", "content and style")
KINDS = ("absent", "absent", "absent", "absent", "convolution", "convolution", "avg", "max")
STYLES = ("gram", "regions", "mean-std", "covariance")


def seeds() -> st.SearchStrategy[str]:
    """Return a strategy for names of streams of numbers."""
    digits = st.integers(0, 99)
    return st.builds("{}/{:02}{:02}{:02}".format, st.just(NAME), digits, digits, digits)


@st.composite
def preprocessings(draw: st.DrawFn) -> Preprocessing:
    """Return a strategy for preprocessings: none, Caffe's, torchvision's, or random numbers.

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> from gramstyle.conformance.strategies import preprocessings
    >>> @settings(max_examples=10, database=None, deadline=None)
    ... @given(preprocessings())
    ... def test_every_channel_has_a_scale(preprocessing):
    ...     assert min(preprocessing.scale) > 0
    >>> test_every_channel_has_a_scale()
    """
    known = draw(st.sampled_from([PLAIN, CAFFE, TORCHVISION, None]))
    if known is not None:
        return known
    channels = draw(st.sampled_from(["RGB", "BGR"]))
    mean = draw(st.tuples(*[st.integers(0, 99)] * 3))
    scale = draw(st.tuples(*[st.integers(0, 7)] * 3))
    return Preprocessing(
        channels=channels,  # type: ignore[arg-type] # one of the two
        mean=(2.0 * mean[0], 2.0 * mean[1], 2.0 * mean[2]),
        scale=(2.0 ** -scale[0], 2.0 ** -scale[1], 2.0 ** -scale[2]),
    )


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Return a strategy for networks: 3×3 convolutions with their ReLUs, and 2×2 poolings.

    Parameters
    ----------
    draw
        Hypothesis passes it.

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> from gramstyle.conformance.strategies import networks
    >>> @settings(max_examples=10, database=None, deadline=None)
    ... @given(networks())
    ... def test_the_first_layer_is_a_convolution(network):
    ...     assert network.names[0] == "conv1_1"
    >>> test_the_first_layer_is_a_convolution()
    """
    planned, padding = draw(_chains()), draw(st.sampled_from(PADDINGS))
    return _network(planned, Numbers(draw(seeds()))).padded_by(padding)


def sizes(network: Network) -> st.SearchStrategy[tuple[int, int]]:
    """Return a strategy for height and width of an image, from the smallest that is legal.

    Examples
    --------
    >>> from gramstyle.conformance.strategies import sizes
    >>> from gramstyle.core.network import Network, Pool
    >>> sizes(Network((Pool("pool1", "max"),)))
    tuples(integers(min_value=2, max_value=9), integers(min_value=2, max_value=9))
    """
    least = next(edge for edge in range(1, 99) if _is_legal(network, edge))
    edges = st.integers(least, least + MOST_PIXELS)
    return st.tuples(edges, edges)


@st.composite
def cases(draw: st.DrawFn, *, dtype: str = "float64") -> Case:
    """Return a strategy for cases with their truth, to which every correct answer is the same.

    Parameters
    ----------
    draw
        Hypothesis passes it.
    dtype
        "float64" or "float32": the float type in which implementations compute. Cases whose answer
        depends on the rounding in this type are discarded.

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> from gramstyle.conformance.adapters.numpy_plain import value_and_grad
    >>> from gramstyle.conformance.running import check
    >>> from gramstyle.conformance.strategies import cases
    >>> @settings(max_examples=10, database=None, deadline=None)
    ... @given(cases())
    ... def test_of_my_implementation(case):
    ...     assert check(value_and_grad, case, dtype="float64").passed
    >>> test_of_my_implementation()
    """
    planned, terms = draw(_chains()), draw(_terms())
    padding, preprocessing = draw(st.sampled_from(PADDINGS)), draw(preprocessings())
    low, high = draw(st.sampled_from([(-4.0, 4.0), (0.0, 255.0)]))
    largest = max(
        abs(scale * (pixel - mean))
        for pixel in (low, high)
        for mean, scale in zip(preprocessing.mean, preprocessing.scale, strict=True)
    )
    # In units of the largest input: half of all ReLUs open, most, all, few.
    bias = round(draw(st.sampled_from([0.0, 0.5, 1.0, -0.25])) * largest * 8) / 8
    numbers = Numbers(draw(seeds()))
    network = _network(planned, numbers, bias).padded_by(padding)
    content, style = _roles(network, planned)
    has_regions = bool(style) and terms.style_loss == "regions"
    # The other style losses have no convention.
    has_convention = bool(content or has_regions or terms.style_loss == "gram")
    height, width = draw(sizes(network))
    artwork = draw(sizes(network)) if style else (height, width)
    images = {
        "x": numbers.uniform(low, high, 3, height, width),
        "p": numbers.uniform(low, high, 3, height, width),
        "a": numbers.uniform(low, high, 3, *artwork),
    }
    guidance: tuple[dict[str, Array], dict[str, Array]] = ({}, {})
    if has_regions:
        for of_image, size in zip(guidance, ((height, width), artwork), strict=True):
            shapes = network.shapes(*size)
            for layer in style:
                of_image[layer] = _guidance(numbers, len(terms.shares), shapes[layer][1:])
    case = case_of(
        NAME,
        PINS,
        network.layers,
        images,
        content=content,
        style=tuple(style),
        alpha=1.0,
        beta=1.0,
        w=dict.fromkeys(style, 1.0),
        tv=1.0 if terms.tv else 0.0,
        preprocessing=preprocessing,
        convention=AUTHOR if terms.author and has_convention else PAPER,
        padding=padding,
        style_loss="gram" if terms.style_loss == "regions" else terms.style_loss,
        regions=[share / 4 for share in terms.shares] if has_regions else None,
        guidance=guidance,
        same_bytes=False,
    )
    case = _balanced(case, terms, style)
    assume(is_well_posed(case, dtype))
    return case


@dataclass(frozen=True)
class _Planned:
    """A layer: a pooling, or a convolution with N filters; its terms, and w_l as a power of 2."""

    kind: str
    N: int
    role: str
    power: int


def _chains() -> st.SearchStrategy[list[_Planned]]:
    """Return a strategy for the layers of a network and the terms that look at them.

    The number of drawn values is always the same: only then can Hypothesis remove a layer and keep
    all others.
    """

    def layer(kinds: Sequence[str]) -> st.SearchStrategy[_Planned]:
        N, power = st.integers(1, MOST_FILTERS), st.integers(0, MOST_POWER)
        return st.builds(_Planned, st.sampled_from(kinds), N, st.sampled_from(ROLES), power)

    chain = st.tuples(layer(["convolution"]), *[layer(KINDS)] * MOST_LAYERS)
    return chain.map(lambda layers: [each for each in layers if each.kind != "absent"])


def _network(planned: Sequence[_Planned], numbers: Numbers, bias: float = 0.0) -> Network:
    """Return the network, up to the last layer; its names are those of VGG."""
    layers: list[Layer] = []
    block, number, channels = 1, 1, 3
    for each in planned:
        if each.kind != "convolution" and block <= MOST_POOLINGS:
            layers.append(Pool(f"pool{block}", "max" if each.kind == "max" else "avg"))
            block, number = block + 1, 1
        else:
            name = f"conv{block}_{number}"
            layers.append(numbers.convolution(name, channels, each.N, bias=bias))
            number, channels = number + 1, each.N
    return Network(tuple(layers))


def _roles(network: Network, planned: Sequence[_Planned]) -> tuple[str | None, dict[str, int]]:
    """Return the layer of the content, and the style layers with w_l as powers.

    Of several layers for the content, the deepest has it. The last layer has a term.
    """
    pairs = list(zip(network.names, planned, strict=True))
    content = next((name for name, each in reversed(pairs) if "content" in each.role), None)
    style = {name: each.power for name, each in pairs if "style" in each.role}
    last = network.names[-1]
    if last != content and last not in style:
        if content is None:
            content = last
        else:
            style[last] = planned[-1].power
    return content, style


@dataclass(frozen=True)
class _Terms:
    """The terms, apart from their layers; the powers of 2 are the sizes of their losses."""

    style_loss: str
    shares: list[int]
    tv: bool
    author: bool
    content_power: int
    tv_power: int


def _terms() -> st.SearchStrategy[_Terms]:
    powers = st.integers(0, MOST_POWER)
    shares = st.lists(st.integers(1, 8), min_size=1, max_size=3)
    return st.builds(
        _Terms, st.sampled_from(STYLES), shares, st.booleans(), st.booleans(), powers, powers
    )


def _balanced(case: Case, terms: _Terms, style: Mapping[str, int]) -> Case:
    """Return the case with weights that make every loss a power of 2, so that each counts."""
    losses = case.objective.loss_and_gradient(case.x).layers
    content = sum(losses.get("content", {}).values())
    weights = {
        "content": _weight(content, terms.content_power),
        "style": 1.0,
        "tv": _weight(losses["tv"][PIXELS], terms.tv_power) if case.gamma else 0.0,
    }
    balanced: list[Any] = [*case.objective.terms]  # each a frozen dataclass
    for place, term in enumerate(balanced):
        if term.name == "style":
            weight = _weight(losses["style"][term.layer], style[term.layer])
            balanced[place] = replace(term, weight=weight)
    return replace(case, objective=replace(case.objective, terms=tuple(balanced), weights=weights))


def _weight(loss: float, power: int) -> float:
    """Return the power of 2 that makes a loss about 2 to this power."""
    exponent = math.frexp(loss)[1] if loss > 0 else 0
    return float(2.0 ** (power - max(-60, min(exponent, 60))))


def _guidance(numbers: Numbers, regions: int, size: tuple[int, ...]) -> Array:
    """Return the guidance (R, H, V) of regions in sixteenths, 0 at many positions."""
    T = (numbers.uniform(-8, 16, regions, *size).round() / 16).clip(0, 1)
    T[~T.any(axis=(1, 2))] = 0.5
    return T


def _is_legal(network: Network, edge: int) -> bool:
    try:
        network.shapes(edge, edge)
    except ImageError:
        return False
    return True
