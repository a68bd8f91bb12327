"""Parse an ONNX file within bounds.

An empty node takes two bytes in a file, and an object of 170 bytes once protobuf has parsed it. The
fields of a file are therefore counted before it is parsed.
"""

import io
from typing import Any

import onnx

from gramstyle.model.sources.protobuf import BYTES, LimitError, Message

# The values of a tensor, which take at most four times as much memory as in the file.
VALUES = frozenset({"raw_data", "float_data", "double_data", "int32_data"})

# Names, shapes, operators and descriptions; those of VGG-19 take 10 to 100 kB.
MAX_DESCRIPTION = 2 * 1024 * 1024
MAX_DEPTH = 16


def parse_onnx(stream: io.BufferedIOBase) -> onnx.ModelProto:
    """Parse an ONNX file from its beginning to its end.

    Raises
    ------
    LimitError
        If it has too many fields, or too many bytes in addition to the values of tensors.
    Exception
        Of nearly any type, if it is damaged.
    """
    message = Message(stream)
    size = _described(message, 0, message.size, onnx.ModelProto.DESCRIPTOR, 0)
    if size > MAX_DESCRIPTION:
        raise LimitError(
            f"expected at most {MAX_DESCRIPTION} bytes besides the weights, found {size}; is it "
            "another network?"
        )
    stream.seek(0)
    return onnx.load_model_from_string(stream.read())


def _described(message: Message, start: int, end: int, kind: Any, depth: int) -> int:
    """Return the number of bytes in a message of a kind without the values of tensors."""
    if depth > MAX_DEPTH:
        raise LimitError("expected a graph, found graphs nested in graphs; is it another network?")
    size = 0
    for field in message.fields(start, end):
        known = kind.fields_by_number.get(field.number)
        inner = known.message_type if known is not None and field.encoding == BYTES else None
        if inner is not None:
            size += _described(message, field.start, field.end, inner, depth + 1)
        elif known is None or kind.name != "TensorProto" or known.name not in VALUES:
            size += field.end - field.start
    return size
