"""External data: tensors of an ONNX file whose values are in another file of its folder."""

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.messages import quoted
from gramstyle.model.sources.beside import file_beside
from gramstyle.model.sources.bounded import read_into

# The types of weights in model files and in those of other programs.
ITEM_SIZES: Mapping[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.DOUBLE: 8,
    TensorProto.FLOAT16: 2,
    TensorProto.UINT8: 1,
}
MAX_BYTES = 512 * 1024 * 1024


def is_external(tensor: onnx.TensorProto) -> bool:
    """Return whether a tensor refers to another file."""
    return tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data) > 0


class ExternalValues:
    """The values of a tensor in another file, once they are known to be there.

    Parameters
    ----------
    tensor
        A tensor with external data.
    model
        The ONNX file that contains it.

    Raises
    ------
    ModelError
        If the file is not in the folder of the model, or does not have as many bytes as the shape
        of the tensor.
    """

    def __init__(self, tensor: onnx.TensorProto, model: Path) -> None:
        name = quoted(tensor.name)
        if tensor.data_type not in ITEM_SIZES or min(tensor.dims, default=0) < 0:
            raise ModelError(f"expected floats in the tensor {name}")
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if tensor.HasField("raw_data") or "location" not in entries:
            raise ModelError(f"expected the values of {name} in one place, found none or two")
        self.nbytes = prod(tensor.dims) * ITEM_SIZES[tensor.data_type]
        self._file = file_beside(model, entries["location"])
        self._offset = _number(entries.get("offset", "0"), name)
        size = self._file.stat().st_size
        length = _number(entries.get("length", str(max(size - self._offset, 0))), name)
        if length != self.nbytes or self._offset + length > size:
            raise ModelError(
                f"expected {self.nbytes} bytes of {name} in {quoted(self._file.name)}, found "
                f"{min(length, max(size - self._offset, 0))}; get fresh copies of both files"
            )

    def read(self) -> Array:
        """Return the values as uint8."""
        values = np.empty(self.nbytes, np.uint8)
        with self._file.open("rb") as stream:
            read_into(values, stream, self._offset)
        return values


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ModelError(f"expected an offset or length of {name}, found {quoted(text)}")
    return int(text)


def include_external_data(proto: onnx.ModelProto, model: Path) -> None:
    """Put the values of all external tensors into the message itself.

    Raises
    ------
    ModelError
        As `ExternalValues`; also if they are too large.
    """
    values = {t.name: ExternalValues(t, model) for t in proto.graph.initializer if is_external(t)}
    if (size := sum(value.nbytes for value in values.values())) > MAX_BYTES:
        raise ModelError(f"expected at most {MAX_BYTES} bytes of weights, found {size}")
    for tensor in proto.graph.initializer:
        if is_external(tensor):
            tensor.raw_data = values[tensor.name].read().tobytes()
            del tensor.external_data[:]
            tensor.data_location = TensorProto.DEFAULT
