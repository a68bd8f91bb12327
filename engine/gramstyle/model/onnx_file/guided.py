"""The style term of regions as ONNX operators."""

import numpy as np

from gramstyle.core.terms import GuidedStyleTerm
from gramstyle.model.onnx_file.objective_parts import ObjectiveParts


def add_guided_style(graph: ObjectiveParts, term: GuidedStyleTerm, value: str, factor: str) -> str:
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
