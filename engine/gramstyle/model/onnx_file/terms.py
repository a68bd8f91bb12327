"""The loss terms as ONNX operators, one function for each kind of term.

For a layer like conv4_2 the tensors are:

- "conv4_2.P" and "conv1_1.A/M": the targets. A Gram matrix is only ever used divided by the number
  of positions that it is summed over, so that sizes may differ and nothing overflows.
- "conv1_1.G/M" of the image, "conv1_1.E" its loss, "conv1_1.w" its weight.
- "conv4_2.content.dF" or "conv1_1.style.dF": the derivative of one term, weighted.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gramstyle.core.term import PIXELS
from gramstyle.core.terms import (
    ContentTerm,
    GuidedStyleTerm,
    StyleTerm,
    Term,
    TotalVariationTerm,
)
from gramstyle.errors import OptionError
from gramstyle.model.onnx_file.graph import IMAGE

if TYPE_CHECKING:
    from gramstyle.model.onnx_file.objective import Dimensions, ObjectiveEmission

# The inputs with the weights of equation 7, by the losses' names.
LOSS_WEIGHTS = {"content": "alpha", "style": "beta"}

# The kinds of terms whose value at a layer is E_l.
_STYLE = (StyleTerm, GuidedStyleTerm)


def value_names(terms: Sequence[Term]) -> list[str]:
    """Return the names of the tensors with the values of the terms, which belong to one loss."""
    if len(terms) == 1 and terms[0].weight == 1 and not isinstance(terms[0], _STYLE):
        return [terms[0].name]
    return [f"{each.layer}.{'E' if isinstance(each, _STYLE) else each.name}" for each in terms]


def add_term(graph: "ObjectiveEmission", term: Term, value: str, factor: str) -> str:
    """Add a term's value and its derivative to the graph.

    Parameters
    ----------
    graph
        The nodes so far; the derivative goes to its `seeds`.
    term
        The term.
    value
        The name for the tensor with the term's value.
    factor
        The tensor with the weight of the loss that the term belongs to.

    Returns
    -------
    str
        The tensor with the value multiplied by the weight within the loss.

    Raises
    ------
    OptionError
        If the term cannot be written in standard operators.
    """
    add = _ADD.get(type(term))
    if add is None:
        raise OptionError(f"the loss {term.name} cannot be exported as a graph; leave it out")
    return add(graph, term, value, factor)


def add_target(graph: "ObjectiveEmission", term: Term) -> "dict[str, Dimensions]":
    """Add a term's target, computed from the image; return the tensor's shape by its name."""
    layer = term.layer
    if isinstance(term, ContentTerm):
        return {graph.node("Identity", [layer], f"{layer}.P"): graph.dimensions(layer)}
    if isinstance(term, StyleTerm):
        N = graph.filters[layer]
        return {graph.node("Identity", [_gram(graph, layer)], f"{layer}.A/M"): (N, N)}
    return {}


def _add_content(graph: "ObjectiveEmission", term: ContentTerm, value: str, factor: str) -> str:
    """Add equation 1, and α · equation 2 without its mask, which the ReLU below applies."""
    layer, of = term.layer, term.convention.content_factor
    P = graph.target(f"{layer}.P", term.P, graph.dimensions(layer))
    difference = graph.node("Sub", [layer, P], f"{layer}.F-P")
    # A convention's factor is a number, or one divided by M.
    N = graph.filters[layer]
    scale = graph.stored(f"{layer}.factor", of(N, 1))
    if of(N, 1) != of(N, 2):
        scale = graph.node("Div", [scale, graph.positions(layer)], f"{layer}.factor/M")
    total = graph.sum_of_squares(difference, f"{layer}.content", axes=4)
    half = graph.node("Mul", [total, graph.number("1/2", 0.5)], f"{layer}.content.half")
    graph.node("Mul", [half, scale], value)

    slope, weighted = graph.node("Mul", [factor, scale], f"{layer}.content.weight"), value
    if value != term.name:
        w = graph.weight(f"{layer}.content.w", term.weight)
        slope = graph.node("Mul", [slope, w], f"{layer}.content.weight·w")
        weighted = graph.node("Mul", [w, value], f"{layer}.w·content")
    dF = graph.node("Mul", [difference, slope], f"{layer}.content.dF")
    graph.seeds.setdefault(layer, []).append(dF)
    return weighted


def _add_style(graph: "ObjectiveEmission", term: StyleTerm, value: str, factor: str) -> str:
    """Add equation 4, and β w · equation 6 without its mask, which the ReLU below applies.

    With G/M and A/M, E = Σ ((G/M − A/M) / (2 N))² and ∂E/∂F = (G/M − A/M) F / (N² M). The graph
    divides before it squares.
    """
    layer, N = term.layer, graph.filters[term.layer]
    stored = None if term.A is None else term.A / term.M
    G, A = _gram(graph, layer), graph.target(f"{layer}.A/M", stored, (N, N))
    difference = graph.node("Sub", [G, A], f"{layer}.G/M-A/M")
    halved = graph.node(
        "Div", [difference, graph.stored(f"{layer}.2N", 2.0 * N)], f"{layer}.style.part"
    )
    total = graph.sum_of_squares(halved, f"{layer}.style", axes=2)
    scale = term.convention.style_factor
    graph.node("Mul", [total, graph.stored(f"{layer}.factor'", scale)], value)

    w = graph.weight(f"{layer}.w", term.weight)
    slope = graph.stored(f"{layer}.factor'/N²", scale / N**2)
    weight = graph.node("Mul", [factor, w], f"{layer}.beta·w")
    weight = graph.node("Mul", [weight, slope], f"{layer}.beta·w/N²")
    weight = graph.node("Div", [weight, graph.positions(layer)], f"{layer}.beta·w/N²M")
    D = graph.node("Mul", [difference, weight], f"{layer}.D")
    flat = graph.node("MatMul", [D, f"{layer}.F"], f"{layer}.D·F")
    dF = graph.node("Reshape", [flat, graph.shape(layer)], f"{layer}.style.dF")
    graph.seeds.setdefault(layer, []).append(dF)
    return graph.node("Mul", [w, value], f"{layer}.w·E")


def _add_guided_style(
    graph: "ObjectiveEmission", term: GuidedStyleTerm, value: str, factor: str
) -> str:
    """Add Σ_r λ_r E_r, and its derivative without its mask, which the ReLU below applies.

    The tensors of region 0 are "conv1_1.region0.T", "conv1_1.region0.G/m" and so on. As in
    `_add_style`, Gram matrices are divided by m before their differences are squared.
    """
    layer, N = term.layer, graph.filters[term.layer]
    assert term.A is not None  # noqa: S101 - graphs of guided terms have stored targets
    positions = int(np.prod(graph.edges[layer]))
    F = graph.node("Reshape", [layer, graph.whole([N, -1])], f"{layer}.F")
    w = graph.weight(f"{layer}.w", term.weight)
    weight = graph.node("Mul", [factor, w], f"{layer}.beta·w")
    values, parts = [], []
    for r, (T, share, m) in enumerate(zip(term.T, term.shares, term.m, strict=True)):
        assert T is not None  # noqa: S101 - no region of the image is empty
        name = f"{layer}.region{r}"
        guide = graph.stored(f"{name}.T", np.asarray(T).reshape(1, -1))
        guided = graph.node("Mul", [F, guide], f"{name}.T∘F")
        G = graph.node("Gemm", [guided, guided], f"{name}.G", transB=1)
        G = graph.node("Div", [G, graph.stored(f"{name}.m", m)], f"{name}.G/m")
        A = graph.stored(f"{name}.A/m", term.A[r] / term.M[r])
        difference = graph.node("Sub", [G, A], f"{name}.G/m-A/m")
        halved = graph.node(
            "Div", [difference, graph.number(f"{layer}.2N", 2.0 * N)], f"{name}.part"
        )
        total = graph.sum_of_squares(halved, name, axes=2)
        scale = term.convention.style_factor * share / positions
        strength = graph.stored(f"{name}.factor'·λ", scale * m)
        values.append(graph.node("Mul", [total, strength], f"{name}.λ·E"))

        slope = graph.node(
            "Mul", [weight, graph.stored(f"{name}.λ/N²m", scale / N**2)], f"{name}.slope"
        )
        D = graph.node("Mul", [difference, slope], f"{name}.D")
        product = graph.node("MatMul", [D, guided], f"{name}.D·T∘F")
        parts.append(graph.node("Mul", [product, guide], f"{name}.dF"))
    graph.node("Sum", values, value)
    flat = graph.node("Sum", parts, f"{layer}.style.flat")
    dF = graph.node("Reshape", [flat, graph.shape(layer)], f"{layer}.style.dF")
    graph.seeds.setdefault(layer, []).append(dF)
    return graph.node("Mul", [w, value], f"{layer}.w·E")


def _add_total_variation(
    graph: "ObjectiveEmission", term: TotalVariationTerm, value: str, factor: str
) -> str:
    """Add V / M, and its derivative: −2 d and 2 d at the two pixels of each difference d."""
    M = graph.positions(IMAGE)
    slope = graph.node("Div", [factor, M], f"{term.name}.weight/M")
    slope = graph.node("Add", [slope, slope], f"{term.name}.2·weight/M")
    totals, parts = [], []
    differences = _wrapped_differences if term.wraps else _inner_differences
    for axis, direction in ((2, "down"), (3, "across")):
        total, dx = differences(graph, axis, f"{term.name}.{direction}", slope)
        totals.append(total)
        parts.append(dx)
    graph.node("Div", [graph.node("Sum", totals, f"{term.name}.V"), M], value)
    graph.seeds.setdefault(PIXELS, []).extend(parts)
    return value


def _inner_differences(
    graph: "ObjectiveEmission", axis: int, name: str, slope: str
) -> tuple[str, str]:
    """Add Σ d² along an axis, and slope · d at the second minus the first pixel of each d."""
    second = graph.part(IMAGE, axis, 1, None, f"{name}.second")
    first = graph.part(IMAGE, axis, 0, -1, f"{name}.first")
    d = graph.node("Sub", [second, first], f"{name}.d")
    total = graph.sum_of_squares(d, name, axes=4)
    scaled = graph.node("Mul", [d, slope], f"{name}.d.weighted")
    before, behind = np.zeros((2, 8), np.int64)
    before[axis], behind[axis + 4] = 1, 1
    at_second = graph.node("Pad", [scaled, graph.whole(before.tolist())], f"{name}.at second")
    at_first = graph.node("Pad", [scaled, graph.whole(behind.tolist())], f"{name}.at first")
    return total, graph.node("Sub", [at_second, at_first], f"{name}.dx")


def _wrapped_differences(
    graph: "ObjectiveEmission", axis: int, name: str, slope: str
) -> tuple[str, str]:
    """Add the same, with the first row or column after the last one."""
    behind = graph.part(IMAGE, axis, 1, None, f"{name}.behind")
    first = graph.part(IMAGE, axis, 0, 1, f"{name}.first")
    second = graph.node("Concat", [behind, first], f"{name}.second", axis=axis)
    d = graph.node("Sub", [second, IMAGE], f"{name}.d")
    total = graph.sum_of_squares(d, name, axes=4)
    scaled = graph.node("Mul", [d, slope], f"{name}.d.weighted")
    last = graph.part(scaled, axis, -1, None, f"{name}.last")
    before = graph.part(scaled, axis, 0, -1, f"{name}.before")
    at_second = graph.node("Concat", [last, before], f"{name}.at second", axis=axis)
    return total, graph.node("Sub", [at_second, scaled], f"{name}.dx")


def _gram(graph: "ObjectiveEmission", layer: str) -> str:
    """Add equation 3 divided by the number of positions; return G / M."""
    F = graph.node("Reshape", [layer, graph.whole([graph.filters[layer], -1])], f"{layer}.F")
    G = graph.node("Gemm", [F, F], f"{layer}.G", transB=1)
    return graph.node("Div", [G, graph.positions(layer)], f"{layer}.G/M")


_ADD: dict[type, Callable[..., str]] = {
    ContentTerm: _add_content,
    StyleTerm: _add_style,
    GuidedStyleTerm: _add_guided_style,
    TotalVariationTerm: _add_total_variation,
}
