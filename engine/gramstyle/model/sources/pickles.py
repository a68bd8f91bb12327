"""The pickle inside a torch checkpoint, interpreted without executing what it says.

Pickle is a small language, and Python's own interpreter of it is not safe behind an allow-list
of globals: BUILD rewrites a tensor after it was checked, a key of nested tuples overflows the
stack, a memo index takes all memory. So the three dozen instructions that checkpoints need are
interpreted here. None of them calls anything, nothing but strings is ever a key, and what a
short pickle can be made to do is counted.
"""

import io
import pickletools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import IO, Any, TypeGuard, cast

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError

# The description of VGG-19's tensors takes 4 kB, those of the largest networks some hundreds.
MAX_BYTES = 16 * 1024 * 1024
MAX_TEXT = 1024 * 1024
# A tensor takes about 35 instructions.
MAX_INSTRUCTIONS = 500_000
MAX_DIMENSIONS = 8
MAX_ENTRIES = 50_000
MAX_NAME = 500
SHOWN = 80

REMEDY = "save model.state_dict() instead"


@dataclass(frozen=True)
class Storage:
    """The elements that tensors are views of; they lie outside the pickle.

    Attributes
    ----------
    key
        What the pickle calls it.
    stored
        The type of its elements as NumPy can read them: bfloat16 and bool as the bytes they are.
    dtype
        The type in which they are given.
    size
        How many there are.
    """

    key: str
    stored: np.dtype[Any]
    dtype: np.dtype[Any]
    size: int

    @property
    def nbytes(self) -> int:
        """How many bytes its elements take."""
        return self.size * self.stored.itemsize


@dataclass(frozen=True)
class View:
    """A tensor in a storage.

    Attributes
    ----------
    storage
        Holds its elements.
    offset
        Where the first of them is.
    shape, stride
        In elements; a stride of 0 where there is nothing to step over.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def span(self) -> int:
        """How many elements there are from its first to its last."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))

    @property
    def first_byte(self) -> int:
        """Where in the storage's bytes the span begins."""
        return self.offset * self.storage.stored.itemsize

    @property
    def nbytes(self) -> int:
        """How many bytes the span takes."""
        return self.span * self.storage.stored.itemsize

    def array(self, raw: Array) -> Array:
        """Return the tensor, contiguous.

        Parameters
        ----------
        raw
            The span's bytes, uint8; they may become the tensor's memory.
        """
        elements = _given(raw.view(self.storage.stored), self.storage.dtype)
        steps = [step * elements.itemsize for step in self.stride]
        strided = np.lib.stride_tricks.as_strided(elements, self.shape, steps)
        return np.asarray(strided, order="C")


def _given(elements: Array, dtype: np.dtype[Any]) -> Array:
    if elements.dtype == dtype:
        return elements
    if dtype.kind == "f":
        # A bfloat16 is the upper half of a float32.
        return (elements.astype("<u4") << 16).view(dtype)
    # A byte other than 0 and 1 is no bool to NumPy; to torch it is true.
    return elements.astype(dtype)


@dataclass(frozen=True)
class _Global:
    """A name that a pickle asks for; it stays a name."""

    name: str


class _OrderedDict(dict[str, Any]):
    """A dictionary made by the OrderedDict global: the one thing that may carry attributes."""


_REBUILD_TENSOR = _Global("torch._utils _rebuild_tensor")  # in files of 2017
_REBUILD_TENSOR_V2 = _Global("torch._utils _rebuild_tensor_v2")
_REBUILD_PARAMETER = _Global("torch._utils _rebuild_parameter")
_ORDERED_DICT = _Global("collections OrderedDict")
_DTYPES: Mapping[_Global, tuple[np.dtype[Any], np.dtype[Any]]] = {
    _Global(f"torch {name}Storage"): (np.dtype(stored), np.dtype(given))
    for name, stored, given in (
        ("Double", "<f8", "<f8"),
        ("Float", "<f4", "<f4"),
        ("Half", "<f2", "<f2"),
        ("BFloat16", "<u2", "<f4"),
        ("Long", "<i8", "<i8"),
        ("Int", "<i4", "<i4"),
        ("Short", "<i2", "<i2"),
        ("Char", "i1", "i1"),
        ("Byte", "u1", "u1"),
        ("Bool", "u1", "?"),
    )
}
# What the tar format calls its tensors' types: they are named, and never used.
_TENSOR_TYPES = {_Global(kind.name.replace("Storage", "Tensor")) for kind in _DTYPES}
_GLOBALS = {
    *(_REBUILD_TENSOR, _REBUILD_TENSOR_V2, _REBUILD_PARAMETER, _ORDERED_DICT),
    *_DTYPES,
    *_TENSOR_TYPES,
}

_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def unpickle(
    stream: io.BufferedIOBase,
    storages: dict[str, Storage] | None = None,
    *,
    tensors: Mapping[int, View] | None = None,
) -> Any:
    """Return what the pickle at the stream's position describes, a tensor as a `View`.

    Parameters
    ----------
    stream
        Is left right behind the pickle.
    storages
        Notes the storages that the pickle refers to, by key. Without it, the pickle may refer to
        none and name no global.
    tensors
        What the pickle refers to instead of storages, by key: in the tar format.

    Raises
    ------
    ModelError
        If it uses an instruction or a global that no checkpoint of plain tensors needs, or is
        absurdly long.
    Exception
        Of nearly any type, if it is damaged.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    effort = 0
    is_object = storages is not None or tensors is not None
    argument: Any

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, argument, _ in pickletools.genops(cast(IO[bytes], _Bounded(stream))):
        effort += 1
        if effort > MAX_INSTRUCTIONS:
            raise ModelError("expected a description of tensors, found an absurdly long one")
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                stack.append(_CONSTANTS[opcode.name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            # The latter two are Python 2's.
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING":
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
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_global(argument, is_object))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_global(_joined(module, name), is_object))
            case "BINPERSID" if tensors is not None:
                stack.append(tensors[number_of(stack.pop())])
            case "BINPERSID" if storages is not None:
                stack.append(_storage(stack.pop(), storages))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                result = _result(function, arguments)
                stack.append(result)
                # Copying a list that the memo keeps would be much work for few instructions.
                effort += len(result) if isinstance(result, dict) else 0
            case "BUILD":
                # A state_dict's `_metadata`, or whatever else: it is dropped.
                stack.pop()
                if not isinstance(stack[-1], _OrderedDict):
                    raise ModelError("expected plain tensors, found one with attributes (BUILD)")
            case "STOP":
                return stack.pop()
            case _:
                raise ModelError(
                    f"expected a dictionary of tensors, found the instruction {opcode.name}, which "
                    f"none needs; {REMEDY}"
                )
    return None  # not reached: without a STOP, genops raises


class _Bounded:
    """What genops reads from: so much in all, so much at once."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        self._left = MAX_BYTES

    def read(self, count: int) -> bytes:
        if count > MAX_TEXT:
            raise ModelError(f"expected texts of at most {MAX_TEXT} bytes, found one of {count}")
        return self._counted(self._stream.read(count))

    def readline(self) -> bytes:
        return self._counted(self._stream.readline(MAX_TEXT))

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise ModelError(
                f"expected a description of at most {MAX_BYTES} bytes, found a longer one"
            )
        return data


def find_tensors(held: object) -> dict[str, View]:
    """Return the tensors in a dictionary, and in dictionaries in it, by dotted names.

    Anything else, lists with what is in them too, is left alone.

    Raises
    ------
    ModelError
        If it is no dictionary, two tensors come to one name, or there is no end to it: a
        dictionary in itself, or one that is there twice a level.
    """
    if not isinstance(held, dict):
        raise ModelError("expected a dictionary of tensors, found something else")
    tensors: dict[str, View] = {}
    entries = 0
    open_: list[tuple[str, Iterator[tuple[str, Any]]]] = [("", iter(held.items()))]
    while open_:
        prefix, items = open_[-1]
        key, value = next(items, (None, None))
        if key is None:
            open_.pop()
            continue
        entries += 1
        if entries > MAX_ENTRIES:
            raise ModelError(f"expected at most {MAX_ENTRIES} entries, found more")
        if not isinstance(value, View | dict):
            continue
        # Each level makes names longer, so this ends a dictionary in itself too.
        if len(prefix) + len(key) > MAX_NAME:
            raise ModelError(f"expected names of at most {MAX_NAME} characters, found longer ones")
        name = prefix + key
        if isinstance(value, dict):
            open_.append((f"{name}.", iter(value.items())))
        elif name in tensors:
            raise ModelError(f"expected one tensor called {shown(name)}, found two")
        else:
            tensors[name] = value
    return tensors


def shown(text: str) -> str:
    """Return a text out of a file as it may stand in an error: printable and short."""
    quoted = repr(text[:SHOWN])
    # What is not printable takes more room quoted.
    return quoted if len(quoted) <= SHOWN else quoted[:SHOWN] + "…"


def _joined(module: Any, name: Any) -> str:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise ModelError("expected the name of a global, found something else")
    return f"{module} {name}"


def _global(name: str, allowed: bool) -> _Global:
    if not allowed or _Global(name) not in _GLOBALS:
        raise ModelError(
            "expected a dictionary of tensors, found a pickle that asks for "
            f"{shown(name.replace(' ', '.'))}; {REMEDY}"
        )
    return _Global(name)


def _extend(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], list):
        raise ModelError("expected a list to append to, found something else")
    stack[-1].extend(items)


def _update(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], dict):
        raise ModelError("expected a dictionary to set items of, found something else")
    _put(stack[-1], zip(items[::2], items[1::2], strict=True))


def _put(target: dict[str, Any], items: Iterable[tuple[Any, Any]]) -> None:
    for key, value in items:
        # As text, because numbers can be chosen so that their hashes collide.
        name = str(key) if isinstance(key, int) else key
        if not isinstance(name, str):
            raise ModelError("expected names or whole numbers for keys, found something else")
        if name in target:
            raise ModelError(f"expected every key once, found {shown(name)} twice")
        target[name] = value


def _storage(key: Any, storages: dict[str, Storage]) -> Storage:
    """Note a storage: ("storage", type, key, device, number of elements), in streams and None.

    Instead of None, a stream may describe a part of the storage; no known file does.
    """
    if not isinstance(key, tuple) or len(key) not in (5, 6) or key[5:] not in ((), (None,)):
        raise ModelError("expected a plain storage, found one of an unknown kind")
    kind, storage_type, name, _device, size = key[:5]
    if kind != "storage" or not isinstance(storage_type, _Global) or not isinstance(name, str):
        raise ModelError("expected a plain storage, found one of an unknown kind")
    storage = storage_of(storage_type, name, size)
    if storages.setdefault(name, storage) != storage:
        raise ModelError("expected one storage, found it described in two ways")
    return storage


def storage_of(kind: Any, key: str, size: Any) -> Storage:
    """Return the description of a storage of the type that a pickle named.

    Raises
    ------
    ModelError
        If that is no type of a storage, or the size is impossible.
    """
    if not isinstance(kind, _Global) or kind not in _DTYPES or not isinstance(size, int):
        raise ModelError("expected a storage's type and size, found something else")
    if size < 0:
        raise ModelError("expected a storage's type and size, found something else")
    return Storage(key, *_DTYPES[kind], size)


def number_of(key: Any) -> int:
    """Return a key of the tar format: a number, or its digits.

    Raises
    ------
    ModelError
        If it is neither.
    """
    if not isinstance(key, int | str):
        raise ModelError("expected a number for a tensor's key, found something else")
    return int(key)


def _result(function: Any, arguments: Any) -> Any:
    """Return what the few calls that occur would give."""
    match function, arguments:
        case _Global(), tuple() if function == _ORDERED_DICT:
            return _ordered_dict(*arguments)
        case _Global(), (View() as view, _grad, _hooks) if function == _REBUILD_PARAMETER:
            return view
        case _Global(), (storage, offset, shape, stride) if function == _REBUILD_TENSOR:
            return view_of(storage, offset, shape, stride)
        case _Global(), (storage, offset, shape, stride, _, _, *rest) if (
            function == _REBUILD_TENSOR_V2 and len(rest) <= 1
        ):
            if any(rest):
                raise ModelError("expected plain tensors, found a negated or conjugated one")
            return view_of(storage, offset, shape, stride)
    raise ModelError("expected a tensor or a dictionary, found it made in an unknown way")


def _ordered_dict(pairs: Any = ()) -> _OrderedDict:
    """Return a dictionary, of a list of pairs as Python 2 writes it."""
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    ):
        raise ModelError("expected a dictionary's items, found something else")
    result = _OrderedDict()
    _put(result, pairs)
    return result


def view_of(storage: Any, offset: Any, shape: Any, stride: Any) -> View:
    """Return the description of a tensor that its storage can hold.

    Raises
    ------
    ModelError
        If it does not fit, or is no such description.
    """
    if not (isinstance(storage, Storage) and _is_sizes(shape) and _is_sizes(stride)):
        raise ModelError("expected a tensor, found it described in an unknown way")
    if not isinstance(offset, int) or offset < 0 or len(shape) != len(stride):
        raise ModelError("expected a tensor, found it described in an unknown way")
    steps = tuple(step if n > 1 else 0 for n, step in zip(shape, stride, strict=True))
    view = View(storage, offset, shape, steps)
    if prod(shape) > storage.size or (view.span and offset + view.span > storage.size):
        raise ModelError("expected tensors as large as their storages, found one that does not fit")
    return view


def _is_sizes(value: object) -> TypeGuard[tuple[int, ...]]:
    return (
        isinstance(value, tuple)
        and len(value) <= MAX_DIMENSIONS
        and all(isinstance(n, int) and n >= 0 for n in value)
    )
