"""The padding of a convolution's input as ONNX operators, and its backward pass.

Both hold for images of any size. Opset 17's Pad knows no circular padding, so that one is written
with Slice and Concat.
"""

from collections.abc import Mapping

from gramstyle.core.layers import Padding
from gramstyle.model.onnx_file.nodes import Nodes

# The modes of the operator Pad.
PAD_MODES: Mapping[Padding, str] = {"replicate": "edge", "reflect": "reflect"}

# Where the first and then the last entry of a padded edge are added, both counted in what is left
# of the edge: from its beginning, or from its end if negative (`core.layers.ring_sources`).
TARGETS: Mapping[Padding, tuple[int, int]] = {
    "replicate": (1, -2),
    "reflect": (2, -3),
    "circular": (-2, 0),
}

EDGES = (2, 3)  # the axes of the rows and of the columns


def add_padding(graph: Nodes, X: str, padding: Padding, name: str) -> str:
    """Add `core.layers.pad_forward` of the tensor X; return the tensor's name, which is `name`."""
    if padding in PAD_MODES:
        pads = graph.whole([0, 0, 1, 1, 0, 0, 1, 1])
        return graph.node("Pad", [X, pads], name, mode=PAD_MODES[padding])
    for axis, result in zip(EDGES, (f"{name}.rows", name), strict=True):
        last = graph.part(X, axis, -1, None, f"{result}.last")
        first = graph.part(X, axis, 0, 1, f"{result}.first")
        X = graph.node("Concat", [last, X, first], result, axis=axis)
    return X


def add_padding_backward(graph: Nodes, padded: str, padding: Padding, name: str) -> str:
    """Add `core.layers.pad_backward` of a tensor; return the result's name, which is `name`."""
    first, last = TARGETS[padding]
    for axis in reversed(EDGES):
        left = _added(graph, padded, axis, 0, first, f"{name}.{axis}.first")
        result = name if axis == EDGES[0] else f"{name}.{axis}"
        padded = _added(graph, left, axis, -1, last, result)
    return padded


def _added(graph: Nodes, X: str, axis: int, ring: int, to: int, name: str) -> str:
    """Return X without its first (ring = 0) or last (−1) entry, which is added to another entry."""
    own = graph.part(X, axis, ring, 1 if ring == 0 else None, f"{name}.ring")
    there = graph.part(X, axis, to, to + 1, f"{name}.source")
    parts = [graph.node("Add", [there, own], f"{name}.sum")]
    start, end = (1, None) if ring == 0 else (0, -1)
    if to != start:
        parts.insert(0, graph.part(X, axis, start, to, f"{name}.before"))
    if to + 1 != end:
        parts.append(graph.part(X, axis, to + 1, end, f"{name}.after"))
    return graph.node("Concat", parts, name, axis=axis)
