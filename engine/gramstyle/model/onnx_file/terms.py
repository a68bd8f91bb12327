"""The loss terms as ONNX operators, one function for each kind of term.

For a layer like conv4_2 the tensors are:

- "conv4_2.P" and "conv1_1.A/M": the targets. A Gram matrix is only ever used divided by the number
  of positions that it is summed over, so that sizes may differ and nothing overflows.
- "conv1_1.G/M" of the image, "conv1_1.E" its loss, "conv1_1.w" its weight.
- "conv1_1.mean" and "conv1_1.deviation": the targets of the statistics mean-std, (1, N, 1, 1);
  "conv1_1.mu" and "conv1_1.sigma" are those of the image.
- "conv1_1.covariance": the target of the statistic covariance; "conv1_1.C" is that of the image.
- "conv4_2.content.dF" or "conv1_1.style.dF": the derivative of one term, weighted.
"""

from collections.abc import Callable, Sequence

import numpy as np

from gramstyle.core.mean_std import EPSILON
from gramstyle.core.term import PIXELS
from gramstyle.core.terms import (
    ContentTerm,
    CovarianceTerm,
    GuidedStyleTerm,
    MeanStdTerm,
    StyleTerm,
    Term,
    TotalVariationTerm,
)
from gramstyle.errors import OptionError
from gramstyle.model.onnx_file.graph import IMAGE
from gramstyle.model.onnx_file.guided import add_guided_style
from gramstyle.model.onnx_file.objective_parts import Dimensions, ObjectiveParts

# The inputs with the weights of equation 7, by the losses' names.
LOSS_WEIGHTS = {"content": "alpha", "style": "beta"}


def weight_name(loss: str) -> str:
    """Return the input with the weight of a loss in equation 7."""
    return LOSS_WEIGHTS.get(loss, f"{loss}.weight")


def value_names(terms: Sequence[Term]) -> list[str]:
    """Return the names of the tensors with the values of the terms, which belong to one loss."""
    if len(terms) == 1 and terms[0].weight == 1 and terms[0].name != "style":
        return [terms[0].name]
    return [f"{each.layer}.{'E' if each.name == 'style' else each.name}" for each in terms]


def add_term(graph: ObjectiveParts, term: Term, value: str, factor: str) -> str:
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


def add_target(graph: ObjectiveParts, term: Term) -> dict[str, Dimensions]:
    """Add a term's target, computed from the image; return the tensor's shape by its name."""
    layer = term.layer
    if isinstance(term, ContentTerm):
        return {graph.node("Identity", [layer], f"{layer}.P"): graph.dimensions(layer)}
    if isinstance(term, StyleTerm):
        N = graph.filters[layer]
        return {graph.node("Identity", [_gram(graph, layer)], f"{layer}.A/M"): (N, N)}
    if isinstance(term, MeanStdTerm):
        mu, sigma, _ = _mean_std(graph, layer)
        return {
            graph.node("Identity", [found], f"{layer}.{name}"): (1, graph.filters[layer], 1, 1)
            for found, name in ((mu, "mean"), (sigma, "deviation"))
        }
    if isinstance(term, CovarianceTerm):
        N = graph.filters[layer]
        return {
            graph.node("Identity", [_covariance(graph, layer)[0]], f"{layer}.covariance"): (N, N)
        }
    return {}


def _add_content(graph: ObjectiveParts, term: ContentTerm, value: str, factor: str) -> str:
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


def _add_style(graph: ObjectiveParts, term: StyleTerm, value: str, factor: str) -> str:
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


def _add_mean_std(graph: ObjectiveParts, term: MeanStdTerm, value: str, factor: str) -> str:
    """Add factor · E_l of means and deviations, and its derivative without the ReLU's mask.

    ∂E/∂F = 2/(N M) ((μ − μᵃ) + (σ − σᵃ) (F − μ)/σ).
    """
    layer, N = term.layer, graph.filters[term.layer]
    mu, sigma, centred = _mean_std(graph, layer)
    names = (f"{layer}.mean", f"{layer}.deviation")
    stored = (None, None) if term.A is None else tuple(row[:, None, None] for row in term.A)
    targets = [graph.target(*each, (1, N, 1, 1)) for each in zip(names, stored, strict=True)]
    pairs = zip((mu, sigma), targets, names, strict=True)
    apart = [graph.node("Sub", [found, wanted], f"{name}.apart") for found, wanted, name in pairs]
    parts = [graph.sum_of_squares(d, f"{d}²", axes=4) for d in apart]
    total = graph.node("Add", parts, f"{layer}.style.sum")
    graph.node("Mul", [total, graph.stored(f"{layer}.factor/N", term.factor / N)], value)

    w = graph.weight(f"{layer}.w", term.weight)
    slope = graph.stored(f"{layer}.2·factor/N", 2 * term.factor / N)
    weight = graph.node("Mul", [factor, w], f"{layer}.beta·w")
    weight = graph.node("Mul", [weight, slope], f"{layer}.beta·w·2/N")
    weight = graph.node("Div", [weight, graph.positions(layer)], f"{layer}.beta·w·2/NM")
    ratio = graph.node("Div", [apart[1], sigma], f"{layer}.ratio")
    turned = graph.node("Mul", [centred, ratio], f"{layer}.style.centred")
    both = graph.node("Add", [turned, apart[0]], f"{layer}.style.dE")
    dF = graph.node("Mul", [both, weight], f"{layer}.style.dF")
    graph.seeds.setdefault(layer, []).append(dF)
    return graph.node("Mul", [w, value], f"{layer}.w·E")


def _add_covariance(graph: ObjectiveParts, term: CovarianceTerm, value: str, factor: str) -> str:
    """Add factor · E_l of covariances, and its derivative without the ReLU's mask.

    ∂E/∂F = (C − A) (F − μ) / (N² M). The graph divides by 2 N before it squares.
    """
    layer, N = term.layer, graph.filters[term.layer]
    C, centred = _covariance(graph, layer)
    A = graph.target(f"{layer}.covariance", term.A, (N, N))
    difference = graph.node("Sub", [C, A], f"{layer}.C-A")
    halved = graph.node(
        "Div", [difference, graph.stored(f"{layer}.2N", 2.0 * N)], f"{layer}.style.part"
    )
    total = graph.sum_of_squares(halved, f"{layer}.style", axes=2)
    graph.node("Mul", [total, graph.stored(f"{layer}.factor'", term.factor)], value)

    w = graph.weight(f"{layer}.w", term.weight)
    slope = graph.stored(f"{layer}.factor'/N²", term.factor / N**2)
    weight = graph.node("Mul", [factor, w], f"{layer}.beta·w")
    weight = graph.node("Mul", [weight, slope], f"{layer}.beta·w/N²")
    weight = graph.node("Div", [weight, graph.positions(layer)], f"{layer}.beta·w/N²M")
    D = graph.node("Mul", [difference, weight], f"{layer}.D")
    flat = graph.node("MatMul", [D, centred], f"{layer}.D·(F-mu)")
    dF = graph.node("Reshape", [flat, graph.shape(layer)], f"{layer}.style.dF")
    graph.seeds.setdefault(layer, []).append(dF)
    return graph.node("Mul", [w, value], f"{layer}.w·E")


def _add_total_variation(
    graph: ObjectiveParts, term: TotalVariationTerm, value: str, factor: str
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
    graph.node("Div", [graph.total(totals, f"{term.name}.V"), M], value)
    graph.seeds.setdefault(PIXELS, []).extend(parts)
    return value


def _inner_differences(graph: ObjectiveParts, axis: int, name: str, slope: str) -> tuple[str, str]:
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
    graph: ObjectiveParts, axis: int, name: str, slope: str
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


def _gram(graph: ObjectiveParts, layer: str) -> str:
    """Add equation 3 divided by the number of positions; return G / M."""
    F = graph.node("Reshape", [layer, graph.whole([graph.filters[layer], -1])], f"{layer}.F")
    G = graph.node("Gemm", [F, F], f"{layer}.G", transB=1)
    return graph.node("Div", [G, graph.positions(layer)], f"{layer}.G/M")


def _covariance(graph: ObjectiveParts, layer: str) -> tuple[str, str]:
    """Add the covariance C (N, N) of a layer and F − μ as a matrix (N, M); return both."""
    mu = _mean(graph, layer, f"{layer}.mu")
    apart = graph.node("Sub", [layer, mu], f"{layer}.F-mu")
    rows = graph.whole([graph.filters[layer], -1])
    centred = graph.node("Reshape", [apart, rows], f"{layer}.centred")
    product = graph.node("Gemm", [centred, centred], f"{layer}.CM", transB=1)
    return graph.node("Div", [product, graph.positions(layer)], f"{layer}.C"), centred


def _mean_std(graph: ObjectiveParts, layer: str) -> tuple[str, str, str]:
    """Add a layer's means μ and deviations σ, each (1, N, 1, 1), and F − μ; return the three."""
    mu = _mean(graph, layer, f"{layer}.mu")
    centred = graph.node("Sub", [layer, mu], f"{layer}.F-mu")
    squares = graph.node("Mul", [centred, centred], f"{layer}.centred²")
    variance = _mean(graph, squares, f"{layer}.variance")
    epsilon = graph.number("epsilon", EPSILON)
    return mu, graph.node("Sqrt", [graph.node("Add", [variance, epsilon], f"{layer}.variance+ε")],
                          f"{layer}.sigma"), centred  # fmt: skip


def _mean(graph: ObjectiveParts, values: str, name: str) -> str:
    """Add the mean over positions, edge by edge: one long float32 sum would lose digits."""
    rows = graph.node("ReduceMean", [values], f"{name}.rows", axes=[3])
    return graph.node("ReduceMean", [rows], name, axes=[2])


_ADD: dict[type, Callable[..., str]] = {
    ContentTerm: _add_content,
    StyleTerm: _add_style,
    GuidedStyleTerm: add_guided_style,
    MeanStdTerm: _add_mean_std,
    CovarianceTerm: _add_covariance,
    TotalVariationTerm: _add_total_variation,
}
