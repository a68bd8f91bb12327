"""Hypothesis strategies for random cases: networks, sizes, images, terms, conventions, paddings.

Drawn cases shrink: to fewer layers and filters, smaller images, fewer and simpler terms. All drawn
integers are below 100. Hypothesis mixes larger constants from the user's own code into larger
ranges, and a seed would then give other cases whenever that code changes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hypothesis import assume
from hypothesis import strategies as st

from gramstyle.conformance.building import PLAIN, case_of
from gramstyle.conformance.cases import Case
from gramstyle.conformance.hashed import Numbers
from gramstyle.conformance.posed import is_well_posed
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import AUTHOR, PAPER
from gramstyle.core.kernels import Pooling
from gramstyle.core.layers import PADDINGS, Padding
from gramstyle.core.network import Convolution, Layer, Network, Pool
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.term import PIXELS
from gramstyle.errors import ImageError
from gramstyle.model.vgg19 import CAFFE, TORCHVISION

__all__ = ["cases", "networks", "preprocessings", "sizes"]

NAME = "random"
PINS = "a random case of the formulas: network, sizes, terms, weights and paddings"

# The most layers above the first one, poolings, filters, and pixels above the smallest size.
MOST_LAYERS, MOST_POOLINGS, MOST_FILTERS, MOST_PIXELS = 7, 3, 5, 7
KINDS: tuple[Pooling | None, ...] = (None, None, "avg", "max")  # None: a convolution
STYLES = ("gram", "regions", "mean-std", "covariance")


def seeds() -> st.SearchStrategy[str]:
    """Return a strategy for names of streams of numbers."""
    digits = st.integers(0, 99)
    return st.builds("{}/{:02}{:02}{:02}".format, st.just(NAME), digits, digits, digits)


@st.composite
def preprocessings(draw: st.DrawFn) -> Preprocessing:
    """Return a strategy for preprocessings: none, Caffe's, torchvision's, or random numbers."""
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
def networks(draw: st.DrawFn, *, numbers: Numbers | None = None, bias: float = 0.0) -> Network:
    """Return a strategy for networks: 3×3 convolutions with their ReLUs, and 2×2 poolings.

    Parameters
    ----------
    draw
        Hypothesis passes it.
    numbers
        Where weights and biases come from; drawn if it is None.
    bias
        The mean of all biases.

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> from gramstyle.conformance.strategies import networks
    >>> @settings(max_examples=10, database=None)
    ... @given(networks())
    ... def test_the_first_layer_is_a_convolution(network):
    ...     assert network.names[0] == "conv1_1"
    >>> test_the_first_layer_is_a_convolution()
    """
    numbers = Numbers(draw(seeds())) if numbers is None else numbers
    kinds = [None, *draw(st.lists(st.sampled_from(KINDS), max_size=MOST_LAYERS))]
    padding = draw(st.sampled_from(PADDINGS))
    layers: list[Layer] = []
    block, number, channels = 1, 1, 3
    for kind in kinds:
        if kind is not None and block <= MOST_POOLINGS:
            layers.append(Pool(f"pool{block}", kind))
            block, number = block + 1, 1
        else:
            N = draw(st.integers(1, MOST_FILTERS))
            layers.append(numbers.convolution(f"conv{block}_{number}", channels, N, bias=bias))
            number, channels = number + 1, N
    return Network(tuple(layers)).padded_by(padding)


def sizes(network: Network) -> st.SearchStrategy[tuple[int, int]]:
    """Return a strategy for height and width of an image, from the smallest that is legal.

    Examples
    --------
    >>> from gramstyle.conformance.strategies import sizes
    >>> from gramstyle.core.network import Network, Pool
    >>> sizes(Network((Pool("pool1", "max"),)))
    tuples(integers(2, 9), integers(2, 9))
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
    numbers = Numbers(draw(seeds()))
    preprocessing = draw(preprocessings())
    low, high = draw(st.sampled_from([(-4.0, 4.0), (0.0, 255.0)]))
    largest = max(
        abs(scale * (pixel - mean))
        for pixel in (low, high)
        for mean, scale in zip(preprocessing.mean, preprocessing.scale, strict=True)
    )
    # In units of the largest input: half of all ReLUs open, most, all, few.
    bias = round(draw(st.sampled_from([0.0, 0.5, 1.0, -0.25])) * largest * 8) / 8
    network = draw(networks(numbers=numbers, bias=bias))
    terms = draw(_terms(network.names))
    network = network.until([*([terms.content] if terms.content else []), *terms.style])
    height, width = draw(sizes(network))
    artwork = draw(sizes(network)) if terms.style else (height, width)
    images = {
        "x": numbers.uniform(low, high, 3, height, width),
        "p": numbers.uniform(low, high, 3, height, width),
        "a": numbers.uniform(low, high, 3, *artwork),
    }
    regions = [each / 4 for each in terms.shares] or None
    guidance: tuple[dict[str, Array], dict[str, Array]] = ({}, {})
    if regions:
        for of_image, size in zip(guidance, ((height, width), artwork), strict=True):
            shapes = network.shapes(*size)
            for layer in terms.style:
                of_image[layer] = _guidance(numbers, len(regions), shapes[layer][1:])
    case = case_of(
        NAME,
        PINS,
        network.layers,
        images,
        content=terms.content,
        style=terms.style,
        alpha=1.0,
        beta=1.0,
        w=dict.fromkeys(terms.style, 1.0),
        tv=1.0 if terms.tv else 0.0,
        preprocessing=preprocessing,
        convention=AUTHOR if terms.author else PAPER,
        padding=_padding_of(network),
        style_loss="gram" if terms.style_loss == "regions" else terms.style_loss,
        regions=regions,
        guidance=guidance,
        same_bytes=False,
    )
    case = _balanced(case, terms.powers)
    assume(is_well_posed(case, dtype))
    return case


@dataclass(frozen=True, kw_only=True)
class _Terms:
    """Which terms a case has; the powers of 2 are the sizes of the losses relative to each other."""

    content: str | None
    style: tuple[str, ...]
    style_loss: str
    shares: tuple[int, ...]
    tv: bool
    author: bool
    powers: tuple[int, ...]


@st.composite
def _terms(draw: st.DrawFn, names: Sequence[str]) -> _Terms:
    """Return a strategy for terms at the layers of a network, of which the deepest has one."""
    roles = ["", "content", "style", "content and style"]
    chosen = [draw(st.sampled_from(roles)) for _ in names[:-1]]
    chosen.append(draw(st.sampled_from(roles[1:])))
    pairs = list(zip(names, chosen, strict=True))
    content = next((name for name, role in reversed(pairs) if "content" in role), None)
    style = tuple(name for name, role in pairs if "style" in role)
    style_loss = draw(st.sampled_from(STYLES)) if style else "gram"
    is_guided = style_loss == "regions"
    shares = draw(st.lists(st.integers(1, 8), min_size=1, max_size=3)) if is_guided else []
    # The other style losses have no convention.
    may_be_author = content is not None or style_loss in ("gram", "regions")
    powers = st.lists(st.integers(0, 6), min_size=len(style) + 2, max_size=len(style) + 2)
    return _Terms(
        content=content,
        style=style,
        style_loss=style_loss,
        shares=tuple(shares),
        tv=draw(st.booleans()),
        author=draw(st.booleans()) and may_be_author,
        powers=tuple(draw(powers)),
    )


def _balanced(case: Case, powers: Sequence[int]) -> Case:
    """Return the case with weights that make every loss a power of 2, so that each counts."""
    losses = case.objective.loss_and_gradient(case.x).layers
    of_content, of_tv, *of_style = powers
    weights = {
        "content": _weight(next(iter(losses.get("content", {}).values()), 0.0), of_content),
        "style": 1.0,
        "tv": _weight(losses["tv"][PIXELS], of_tv) if case.gamma else 0.0,
    }
    w: Mapping[str, float] = {
        layer: _weight(loss, power)
        for (layer, loss), power in zip(losses.get("style", {}).items(), of_style, strict=True)
    }
    terms = tuple(
        replace(term, weight=w[term.layer]) if term.name == "style" else term
        for term in case.objective.terms
    )
    objective = replace(case.objective, terms=terms, weights=weights)
    return replace(case, objective=objective)


def _weight(loss: float, power: int) -> float:
    """Return the power of 2 that makes a loss about 2 to this power."""
    exponent = math.frexp(loss)[1] if loss > 0 else 0
    return float(2.0 ** (power - max(-60, min(exponent, 60))))


def _guidance(numbers: Numbers, regions: int, size: tuple[int, ...]) -> Array:
    """Return the guidance (R, H, V) of regions in sixteenths, 0 at many positions but not at all."""
    T = (numbers.uniform(-8, 16, regions, *size).round() / 16).clip(0, 1)
    T[~T.any(axis=(1, 2))] = 0.5
    return T


def _padding_of(network: Network) -> Padding:
    return next(layer.padding for layer in network.layers if isinstance(layer, Convolution))


def _is_legal(network: Network, edge: int) -> bool:
    try:
        network.shapes(edge, edge)
    except ImageError:
        return False
    return True
