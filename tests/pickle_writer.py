"""Write pickles and torch streams instruction by instruction, without torch."""

import pickle
import struct
from collections.abc import Iterable, Mapping

from gramstyle.core.arrays import Array

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
TYPES = {"float32": "Float", "float64": "Double", "uint8": "Byte"}


# Each function returns the instructions that push one object on the stack.


def text(string: str) -> bytes:
    encoded = string.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    encoded = pickle.encode_long(value)
    return b"\x8a" + struct.pack("<B", len(encoded)) + encoded


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def list_of(*items: bytes) -> bytes:
    return b"](" + b"".join(items) + b"e"


def dictionary(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def name_of(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def storage(key: str = "0", dtype: str = "float32", size: int = 4) -> bytes:
    """A reference to a storage; the type is NumPy's name of it, or torch's such as "BFloat16"."""
    kind = name_of("torch", f"{TYPES.get(dtype, dtype)}Storage")
    return tuple_of(text("storage"), kind, text(key), text("cpu"), number(size), b"N") + b"Q"


def tensor(
    stored: bytes | None = None,
    offset: int = 0,
    shape: Iterable[int] = (4,),
    stride: Iterable[int] = (1,),
) -> bytes:
    no_hooks = name_of("collections", "OrderedDict") + b")R"
    return (
        name_of("torch._utils", "_rebuild_tensor_v2")
        + tuple_of(
            storage() if stored is None else stored,
            number(offset),
            tuple_of(*map(number, shape)),
            tuple_of(*map(number, stride)),
            b"\x89",
            no_hooks,
        )
        + b"R"
    )


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def raw(elements: Array) -> bytes:
    return struct.pack("<q", elements.size) + elements.tobytes()


def stream(
    body: bytes,
    storages: Mapping[str, Array] | None = None,
    *,
    replaced: Mapping[int, bytes] | None = None,
) -> bytes:
    """The five pickles of a stream, some of them replaced, and the storages."""
    storages = {} if storages is None else storages
    pickles = {
        0: pickled(number(MAGIC)),
        1: pickled(number(PROTOCOL)),
        2: pickled(dictionary({"little_endian": b"\x88", "type_sizes": dictionary({})})),
        3: pickled(body),
        4: pickled(list_of(*map(text, storages))),
        **({} if replaced is None else replaced),
    }
    return b"".join(pickles[k] for k in range(5)) + b"".join(map(raw, storages.values()))
