"""The nodes and the stored tensors of a graph, which a graph is written with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from gramstyle.core.arrays import Array


@dataclass
class Nodes:
    """The nodes and stored tensors of a graph, in the order in which they are added."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def stored(self, name: str, array: Array | float, dtype: str = "<f4") -> str:
        """Add a stored tensor and return its name."""
        # Not ascontiguousarray, which turns a scalar into a vector.
        values = np.asarray(array, dtype, order="C")
        self.tensors.append(numpy_helper.from_array(values, name))
        return name

    def whole(self, values: Sequence[int]) -> str:
        """Return integers, stored once; brackets in the name tell [0] from the number 0."""
        name = f"[{','.join(map(str, values))}]"
        return self.stored_once(name, np.array(values), "<i8")

    def stored_once(self, name: str, array: Array | float, dtype: str = "<f4") -> str:
        """Add a stored tensor unless its name is there; return its name."""
        return name if self.is_there(name) else self.stored(name, array, dtype)

    def once(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node unless its output is there; return the name of its output."""
        return name if self.is_there(name) else self.node(operator, inputs, name, **attributes)

    def is_there(self, name: str) -> bool:
        """Return whether a tensor of this name has been added."""
        return any(tensor.name == name for tensor in self.tensors) or any(
            name in node.output for node in self.nodes
        )

    def part(self, X: str, axis: int, start: int, end: int | None, name: str) -> str:
        """Add the entries of X from `start` to `end` along an axis; None is the end of the axis."""
        stop = 2**31 - 1 if end is None else end
        bounds = [self.whole([number]) for number in (start, stop, axis)]
        return self.node("Slice", [X, *bounds], name)
