"""The pickle inside a torch checkpoint, interpreted without executing what it says.

Pickle is a small language, and Python's own interpreter of it is not safe behind an allow-list
of globals: BUILD rewrites a tensor after it was checked, a key of nested tuples overflows the
stack, a memo index takes all memory. So the few dozen instructions that checkpoints need are
interpreted here; none of them calls anything, and nothing but strings and whole numbers is ever
a key.
"""

import pickletools
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO, TypeGuard

import numpy as np

from gramstyle.arrays import Array
from gramstyle.errors import ModelError

# The description of VGG-19's tensors takes 4 kB; a training run's own bookkeeping a few more.
MAX_BYTES = 16 * 1024 * 1024
MAX_DIMENSIONS = 8
# A checkpoint is a dictionary of dictionaries, not a labyrinth.
MAX_DEPTH, MAX_ENTRIES, MAX_KEY = 8, 100_000, 1000


@dataclass(frozen=True)
class Storage:
    """The elements that tensors are views of; they lie outside the pickle.

    Attributes
    ----------
    key
        What the pickle calls it.
    dtype
        Its elements'; a bfloat16 counts as the two bytes that it is.
    is_bfloat16
        Whether they are bfloat16, which NumPy lacks.
    size
        How many there are.
    """

    key: str
    dtype: np.dtype[Any]
    is_bfloat16: bool
    size: int

    @property
    def nbytes(self) -> int:
        """How many bytes its elements take."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True)
class View:
    """A tensor in a storage: the offset of its first element, its shape, its strides."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of `array`."""
        return np.dtype("<f4") if self.storage.is_bfloat16 else self.storage.dtype

    @property
    def span(self) -> int:
        """How many elements lie between its first and its last."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))

    def array(self, elements: Array) -> Array:
        """Return the tensor as a contiguous copy, out of the elements that it spans."""
        itemsize = self.storage.dtype.itemsize
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        strided = np.lib.stride_tricks.as_strided(
            elements, self.shape, [step * itemsize for step in self.stride], writeable=False
        )
        if self.storage.is_bfloat16:
            # A bfloat16 is the upper half of a float32.
            return (strided.astype("<u4") << 16).view("<f4")
        return strided.copy()


@dataclass(frozen=True)
class _Global:
    """A name that a pickle asks for; it stays a name."""

    name: str


class _OrderedDict(dict[str | int, Any]):
    """What the pickle calls an OrderedDict; the only thing that BUILD may name."""


_TENSORS = {_Global("torch._utils _rebuild_tensor"), _Global("torch._utils _rebuild_tensor_v2")}
_PARAMETER = _Global("torch._utils _rebuild_parameter")
_ORDERED_DICT = _Global("collections OrderedDict")
_BFLOAT16 = _Global("torch BFloat16Storage")
_DTYPES: Mapping[_Global, np.dtype[Any]] = {
    _Global(f"torch {name}Storage"): np.dtype(code)
    for name, code in {
        "Double": "<f8", "Float": "<f4", "Half": "<f2", "BFloat16": "<u2", "Long": "<i8",
        "Int": "<i4", "Short": "<i2", "Char": "i1", "Byte": "u1", "Bool": "?",
    }.items()
}  # fmt: skip
_GLOBALS = {*_TENSORS, _PARAMETER, _ORDERED_DICT, *_DTYPES}

_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def unpickle(stream: BinaryIO, storages: dict[str, Storage] | None = None) -> Any:
    """Return what the pickle at the stream's position describes; tensors as `View`.

    Parameters
    ----------
    stream
        Holds at most `MAX_BYTES`; is left behind the pickle's end.
    storages
        Notes the storages that the pickle refers to, by key. Without it, the pickle may refer to
        none and name no global.

    Raises
    ------
    ModelError
        If it uses an instruction or a global that no checkpoint of plain tensors needs.
    Exception
        Of nearly any type, if it is damaged.
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
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                stack.append(_CONSTANTS[opcode.name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            # The older two are Python 2's.
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
                stack.append(_global(argument, storages))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_global(f"{module} {name}", storages))
            case "BINPERSID" if storages is not None:
                stack.append(_storage(stack.pop(), storages))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_result(function, arguments))
            case "BUILD" if isinstance(stack[-2], _OrderedDict):
                # A state_dict's version numbers, kept as an attribute of the dictionary.
                stack.pop()
            case "STOP":
                return stack.pop()
            case _:
                raise ModelError(f"it uses the instruction {opcode.name}, which no weight needs")
    return None  # not reached: without a STOP, genops raises


def find_tensors(held: object) -> dict[str, View]:
    """Return the tensors in a dictionary, and in dictionaries in it, by dotted names.

    Raises
    ------
    ModelError
        If it is no dictionary, or one of an absurd depth or size.
    """
    if not isinstance(held, dict):
        raise ModelError("expected a dictionary of tensors (a state_dict), found something else")
    tensors: dict[str, View] = {}
    waiting: list[tuple[str, int, dict[str | int, Any]]] = [("", 0, held)]
    entries = 0
    while waiting:
        prefix, depth, dictionary = waiting.pop()
        entries += len(dictionary)
        if depth > MAX_DEPTH or entries > MAX_ENTRIES:
            raise ModelError("expected a dictionary of tensors, found a labyrinth of dictionaries")
        for key, value in dictionary.items():
            if isinstance(value, View):
                tensors[f"{prefix}{key}"] = value
            elif isinstance(value, dict):
                waiting.append((f"{prefix}{key}.", depth + 1, value))
    return tensors


def _global(name: str, storages: dict[str, Storage] | None) -> _Global:
    if storages is None or _Global(name) not in _GLOBALS:
        raise ModelError(
            f"it asks for {name.replace(' ', '.')[:MAX_KEY]!r}, which no weight needs; save "
            "model.state_dict() alone, with plain tensors"
        )
    return _Global(name)


def _extend(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], list):
        raise ModelError("it appends to something else than a list")
    stack[-1].extend(items)


def _update(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], dict):
        raise ModelError("it sets items of something else than a dictionary")
    stack[-1].update(_items(zip(items[::2], items[1::2], strict=True)))


def _items(pairs: Any) -> dict[str | int, Any]:
    """Return a dictionary of pairs, its keys short strings or whole numbers."""
    items: dict[str | int, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str | int) or len(str(key)) > MAX_KEY:
            raise ModelError("it sets items of a dictionary under something else than names")
        items[key] = value
    return items


def _storage(key: Any, storages: dict[str, Storage]) -> Storage:
    """Note a storage: ("storage", type, key, device, number of elements[, view])."""
    kind, storage_type, name, _device, size, *view = key
    if kind != "storage" or not isinstance(storage_type, _Global) or view not in ([], [None]):
        raise ModelError("it refers to a storage of an unknown kind")
    if not isinstance(name, str) or storage_type not in _DTYPES:
        raise ModelError("it refers to a storage of an unknown kind")
    if not isinstance(size, int) or size < 0:
        raise ModelError("it refers to a storage of an impossible size")
    storage = Storage(name, _DTYPES[storage_type], storage_type == _BFLOAT16, size)
    if storages.setdefault(name, storage) != storage:
        raise ModelError("it describes one storage in two ways")
    return storage


def _result(function: Any, arguments: Any) -> Any:
    """Return what the few calls that occur would give."""
    if function == _ORDERED_DICT:
        # Python 2 gives the items at once.
        if arguments == () or (len(arguments) == 1 and isinstance(arguments[0], list)):
            return _OrderedDict(_items(arguments[0] if arguments else ()))
    elif function == _PARAMETER and isinstance(arguments, tuple):
        if len(arguments) == 3 and isinstance(arguments[0], View):
            return arguments[0]
    elif function in _TENSORS and isinstance(arguments, tuple) and len(arguments) >= 4:
        return _view(*arguments[:4])
    raise ModelError("it calls something in an unknown way")


def _view(storage: Any, offset: Any, shape: Any, stride: Any) -> View:
    if not (isinstance(storage, Storage) and _is_sizes(shape) and _is_sizes(stride)):
        raise ModelError("a tensor is described in an unknown way")
    if not isinstance(offset, int) or offset < 0 or len(shape) != len(stride):
        raise ModelError("a tensor is described in an unknown way")
    view = View(storage, offset, shape, stride)
    if prod(shape) > storage.size or offset + view.span > storage.size:
        raise ModelError(f"a tensor of shape {shape} does not fit its storage of {storage.size}")
    return view


def _is_sizes(value: object) -> TypeGuard[tuple[int, ...]]:
    return (
        isinstance(value, tuple)
        and len(value) <= MAX_DIMENSIONS
        and all(isinstance(n, int) and n >= 0 for n in value)
    )
