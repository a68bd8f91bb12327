"""Read torch's old serialisation stream, with NumPy alone and without executing what it says.

The stream is five pickles (a magic number, the protocol, facts about the machine, the object,
the storages' keys) followed by every storage: an int64 length, then that many raw elements.
Pickle is a small language, and Python's own interpreter of it is not safe behind an allow-list
of globals: BUILD rewrites a tensor after it was checked, a key of nested tuples overflows the
stack, a memo index takes all memory. So the two dozen instructions that weights need are
interpreted here; none of them calls anything, and nothing but strings is ever a key.
"""

import io
import pickletools
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeGuard

import numpy as np

from gramstyle.arrays import Array
from gramstyle.errors import ModelError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_DIMENSIONS = 8


def read_torch_stream(data: bytes, *, name: str) -> dict[str, Array]:
    """Return the tensors of a dictionary saved by an old ``torch.save``.

    Parameters
    ----------
    data
        The whole file.
    name
        What to call it in an error.

    Raises
    ------
    ModelError
        If the stream is damaged, holds anything but a dictionary of tensors, or names a
        global outside the allow-list.
    """
    try:
        return _read(data)
    except ModelError as error:
        raise ModelError(f"{name} is refused: {error}") from None
    # A damaged pickle can raise nearly anything; none of it is worth more than this line.
    except Exception as error:
        raise ModelError(
            f"{name} is damaged or not a torch weight file ({type(error).__name__}); "
            "get a fresh copy"
        ) from None


@dataclass(frozen=True)
class _Storage:
    """The elements that tensors are views of; they come after the object."""

    key: str
    dtype: np.dtype[Any]
    size: int


@dataclass(frozen=True)
class _View:
    """A tensor that waits for its storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self, elements: Array) -> Array:
        """Return the tensor as a contiguous copy out of its storage's elements."""
        itemsize = self.storage.dtype.itemsize
        return np.lib.stride_tricks.as_strided(
            elements[self.offset :], self.shape, [s * itemsize for s in self.stride]
        ).copy()


@dataclass(frozen=True)
class _Global:
    """A name that a pickle asks for; it stays a name."""

    name: str


_REBUILD_TENSOR = _Global("torch._utils _rebuild_tensor_v2")
_ORDERED_DICT = _Global("collections OrderedDict")  # every tensor brings an empty one
_DTYPES: Mapping[_Global, np.dtype[Any]] = {
    _Global("torch FloatStorage"): np.dtype("<f4"),
    _Global("torch ByteStorage"): np.dtype("u1"),
}
_GLOBALS = {_REBUILD_TENSOR, _ORDERED_DICT, *_DTYPES}

_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def _read(data: bytes) -> dict[str, Array]:
    stream = io.BytesIO(data)
    magic, protocol, _machine = (_load(stream) for _ in range(3))
    if magic != MAGIC or protocol != PROTOCOL:
        raise ModelError("it is not torch's old stream format")
    storages: dict[str, _Storage] = {}
    tensors = _load(stream, storages)
    keys = _load(stream)
    if not (isinstance(tensors, dict) and all(isinstance(v, _View) for v in tensors.values())):
        raise ModelError("it holds something else than a dictionary of tensors")
    if not (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):
        raise ModelError("it does not list its storages")
    if sorted(keys) != sorted(storages):
        raise ModelError("it lists other storages than its tensors use")
    elements = {key: _elements(storages[key], stream) for key in keys}
    return {name: view.array(elements[view.storage.key]) for name, view in tensors.items()}


def _elements(storage: _Storage, stream: io.BytesIO) -> Array:
    (size,) = struct.unpack("<q", stream.read(8))
    raw = stream.read(storage.size * storage.dtype.itemsize)
    if size != storage.size or len(raw) != storage.size * storage.dtype.itemsize:
        raise ModelError("a storage is cut short")
    return np.frombuffer(raw, storage.dtype)


def _load(stream: io.BytesIO, storages: dict[str, _Storage] | None = None) -> Any:
    """Return what the pickle at the stream's position describes.

    Only the one with the object may name globals and storages; the latter are noted in
    `storages`.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    argument: Any

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, argument, _ in pickletools.genops(stream):
        match opcode.name:
            case "PROTO":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                stack.append(_CONSTANTS[opcode.name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
                stack.append(argument)
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "MARK":
                marks.append(len(stack))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "APPEND":
                _extend(stack, [stack.pop()])
            case "APPENDS":
                _extend(stack, since_mark())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _update(stack, [key, value])
            case "SETITEMS":
                _update(stack, since_mark())
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                if storages is None or _Global(argument) not in _GLOBALS:
                    name = argument.replace(" ", ".")
                    raise ModelError(f"it asks for {name!r}, which no weight needs")
                stack.append(_Global(argument))
            case "BINPERSID" if storages is not None:
                stack.append(_storage(stack.pop(), storages))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_result(function, arguments))
            case "STOP":
                return stack.pop()
            case _:
                raise ModelError(f"it uses the instruction {opcode.name}, which no weight needs")
    return None  # not reached: without a STOP, genops raises


def _extend(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], list):
        raise ModelError("it appends to something else than a list")
    stack[-1].extend(items)


def _update(stack: list[Any], items: list[Any]) -> None:
    keys, values = items[::2], items[1::2]
    if not isinstance(stack[-1], dict) or not all(isinstance(key, str) for key in keys):
        raise ModelError("it sets items of something else than a dictionary with names")
    stack[-1].update(zip(keys, values, strict=True))


def _storage(key: Any, storages: dict[str, _Storage]) -> _Storage:
    """Note a storage: ("storage", type, key, device, number of elements, view)."""
    kind, storage_type, name, _device, size, view = key
    if kind != "storage" or not isinstance(storage_type, _Global) or view is not None:
        raise ModelError("it refers to a storage of an unknown kind")
    if not isinstance(name, str) or storage_type not in _DTYPES:
        raise ModelError("it refers to a storage of an unknown kind")
    if not isinstance(size, int) or size < 0:
        raise ModelError("it refers to a storage of an impossible size")
    storage = _Storage(name, _DTYPES[storage_type], size)
    if storages.setdefault(name, storage) != storage:
        raise ModelError("it describes one storage in two ways")
    return storage


def _result(function: Any, arguments: Any) -> Any:
    """Return what the only two calls that occur would give."""
    if function == _ORDERED_DICT and arguments == ():
        return {}
    if function != _REBUILD_TENSOR or not isinstance(arguments, tuple) or len(arguments) < 4:
        raise ModelError("it calls something in an unknown way")
    storage, offset, shape, stride = arguments[:4]
    if not (isinstance(storage, _Storage) and _is_sizes(shape) and _is_sizes(stride)):
        raise ModelError("a tensor is described in an unknown way")
    if not isinstance(offset, int) or offset < 0 or len(shape) != len(stride):
        raise ModelError("a tensor is described in an unknown way")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if prod(shape) > storage.size or last >= storage.size:
        raise ModelError(f"a tensor of shape {shape} does not fit its storage of {storage.size}")
    return _View(storage, offset, shape, stride)


def _is_sizes(value: object) -> TypeGuard[tuple[int, ...]]:
    return (
        isinstance(value, tuple)
        and len(value) <= MAX_DIMENSIONS
        and all(isinstance(n, int) and n >= 0 for n in value)
    )
