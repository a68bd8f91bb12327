"""An interpreter for the pickle in a torch checkpoint that executes nothing in it.

Pickle is a small language. Python's own interpreter of it is unsafe even with an allow-list of
globals: BUILD can change a tensor after its check, a key of nested tuples overflows the stack, a
large memo index exhausts memory. This module therefore interprets the three dozen instructions
that checkpoints need. None of them calls a function; every dictionary key is a string; the work
that a short pickle can cause is limited.
"""

import io
import pickletools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np

from gramstyle.errors import ModelError
from gramstyle.model.messages import quoted
from gramstyle.model.sources.bounded import BoundedReader
from gramstyle.model.sources.torch_tensors import Storage, View, make_view

# The pickle of VGG-19's state_dict has 4 kB, those of the largest networks some hundreds.
MAX_BYTES = 16 * 1024 * 1024
MAX_STRING = 1024 * 1024
# A tensor takes about 35 instructions.
MAX_INSTRUCTIONS = 500_000

REMEDY = "save model.state_dict() instead"
# For the globals of tensors of other kinds: quantised, sparse, complex, without values and others.
DENSE = "save dense tensors in float32, as of model.cpu().float().state_dict()"


@dataclass(frozen=True)
class _Global:
    """The name of a global in a pickle; the global itself is never imported."""

    name: str


class _OrderedDict(dict[str, Any]):
    """A dictionary made by the OrderedDict global; only these may have attributes."""


_REBUILD_TENSOR = _Global("torch._utils _rebuild_tensor")  # in files of 2017
_REBUILD_TENSOR_V2 = _Global("torch._utils _rebuild_tensor_v2")
_REBUILD_PARAMETER = _Global("torch._utils _rebuild_parameter")
# A parameter or tensor that has Python attributes, which are dropped.
_REBUILD_PARAMETER_WITH_STATE = _Global("torch._utils _rebuild_parameter_with_state")
_REBUILD_FROM_TYPE = _Global("torch._tensor _rebuild_from_type_v2")
_ORDERED_DICT = _Global("collections OrderedDict")
_DTYPES: Mapping[_Global, tuple[np.dtype[Any], np.dtype[Any]]] = {
    _Global(f"torch {name}Storage"): (np.dtype(stored), np.dtype(dtype))
    for name, stored, dtype in (
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
# The tar format names the types of its tensors, but nothing here needs them.
_TENSOR_TYPES = {_Global(kind.name.replace("Storage", "Tensor")) for kind in _DTYPES}
_CLASSES = {
    *(_Global("torch Tensor"), _Global("torch.nn.parameter Parameter")),
    _Global("torch.nn.parameter Buffer"),
}
# torch.load(weights_only=True) accepts these too. They contain no tensors and are discarded.
_DTYPE_NAMES = (
    *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"),
    *("bool", "complex64", "complex128"),
)
_VALUES = {_Global(f"torch {name}") for name in _DTYPE_NAMES}
_VALUE_CALLS = {
    *(_Global("torch Size"), _Global("torch device"), _Global("collections Counter")),
    *(_Global("_codecs encode"), _Global("torch.serialization _get_layout")),
    # Up to protocol 2, Python 3 writes the names of Python 2.
    *(
        _Global(f"{module} {name}")
        for module in ("builtins", "__builtin__")
        for name in ("set", "complex", "bytearray")
    ),
}
_ALLOWED = {
    *(_REBUILD_TENSOR, _REBUILD_TENSOR_V2, _REBUILD_PARAMETER, _REBUILD_PARAMETER_WITH_STATE),
    *(_REBUILD_FROM_TYPE, _ORDERED_DICT),
    *_DTYPES,
    *_TENSOR_TYPES,
    *_CLASSES,
    *_VALUES,
    *_VALUE_CALLS,
}

_OF_TENSORS = re.compile(r"torch\._utils _rebuild_|torch \w+Storage$")
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def unpickle(
    stream: io.BufferedIOBase,
    storages: dict[str, Storage] | None = None,
    *,
    tensors: Mapping[int, View] | None = None,
) -> Any:
    """Return the object that the pickle at the stream's position describes, tensors as `View`.

    Parameters
    ----------
    stream
        Afterwards its position is immediately after the pickle.
    storages
        Receives the storages that the pickle refers to, by key. With neither this nor `tensors`,
        the pickle may not refer to storages or globals.
    tensors
        The tensors that the pickle refers to by key, in the tar format.

    Raises
    ------
    ModelError
        If the pickle uses an instruction or a global that a checkpoint of plain tensors does not
        need, or is too long.
    Exception
        Of nearly any type, if the pickle is damaged.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    work = 0
    allows_globals = storages is not None or tensors is not None
    argument: Any

    def pop_to_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    bounded = BoundedReader(stream, "a pickle", per_read=MAX_STRING, in_total=MAX_BYTES)
    for opcode, argument, _ in pickletools.genops(cast(IO[bytes], bounded)):
        work += 1
        if work > MAX_INSTRUCTIONS:
            raise ModelError(
                f"expected a pickle of at most {MAX_INSTRUCTIONS} instructions, found a longer one"
            )
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                stack.append(_CONSTANTS[opcode.name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            # Python 2 wrote the latter two.
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
                stack.append(tuple(pop_to_mark()))
            case "APPEND":
                _extend(stack, [stack.pop()])
            case "APPENDS":
                _extend(stack, pop_to_mark())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _update(stack, [key, value])
            case "SETITEMS":
                _update(stack, pop_to_mark())
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_global(argument, allows_globals))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_global(_qualified(module, name), allows_globals))
            case "BINPERSID" if tensors is not None:
                stack.append(tensors[key_number(stack.pop())])
            case "BINPERSID" if storages is not None:
                stack.append(_storage(stack.pop(), storages))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                result = _reduced(function, arguments)
                stack.append(result)
                # Each of these instructions may copy a long list from the memo.
                work += len(result) if isinstance(result, dict) else 0
            case "BUILD":
                # The `_metadata` of a state_dict, or another attribute, is dropped.
                stack.pop()
                if not isinstance(stack[-1], _OrderedDict):
                    raise ModelError("expected plain tensors, found one with attributes (BUILD)")
            case "STOP":
                return stack.pop()
            case _:
                raise ModelError(
                    "expected a dictionary of tensors, found the pickle instruction "
                    f"{opcode.name}; {REMEDY}"
                )
    return None  # unreachable: without a STOP, genops raises


def _qualified(module: Any, name: Any) -> str:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise ModelError("expected the name of a global, found something else")
    return f"{module} {name}"


def _global(name: str, allows_globals: bool) -> _Global:
    if not allows_globals or _Global(name) not in _ALLOWED:
        raise ModelError(
            "expected a dictionary of tensors, found a pickle that imports "
            f"{quoted(name.replace(' ', '.'))}; {DENSE if _OF_TENSORS.match(name) else REMEDY}"
        )
    return _Global(name)


def _extend(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], list):
        raise ModelError("expected a list to append to, found something else")
    stack[-1].extend(items)


def _update(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], dict):
        raise ModelError("expected a dictionary to set items of, found something else")
    _set_items(stack[-1], zip(items[::2], items[1::2], strict=True))


def _set_items(target: dict[str, Any], items: Iterable[tuple[Any, Any]]) -> None:
    for key, value in items:
        # Integers become strings, because integers can be chosen so that their hashes collide.
        name = str(key) if isinstance(key, int) else key
        if not isinstance(name, str):
            raise ModelError("expected strings or integers as keys, found something else")
        if name in target:
            raise ModelError(f"expected every key once, found {quoted(name)} twice")
        target[name] = value


def _storage(reference: Any, storages: dict[str, Storage]) -> Storage:
    """Record a storage: ("storage", type, key, device, number of elements), in streams also None.

    In place of the None a stream may describe a part of the storage, but no known file does.
    """
    match reference:
        case ("storage", _Global() as storage_type, str(key), _device, size, *rest) if isinstance(
            reference, tuple
        ) and rest in ([], [None]):
            storage = make_storage(storage_type, key, size)
            if storages.setdefault(key, storage) != storage:
                raise ModelError("expected one description of each storage, found two that differ")
            return storage
    raise ModelError("expected a plain storage, found one of an unknown kind")


def make_storage(storage_type: Any, key: str, size: Any) -> Storage:
    """Return a storage; raise ModelError if its type or size is invalid."""
    # The type is checked before the look-up: hashing another object could overflow the stack.
    is_type = isinstance(storage_type, _Global) and storage_type in _DTYPES
    if not is_type or not isinstance(size, int) or size < 0:
        raise ModelError("expected a storage's type and size, found something else")
    return Storage(key, *_DTYPES[storage_type], size)


def key_number(key: Any) -> int:
    """Return a key of the tar format; raise ModelError unless it is an integer or its digits."""
    if not isinstance(key, int | str):
        raise ModelError("expected a number as a tensor's key, found something else")
    return int(key)


def _reduced(function: Any, arguments: Any) -> Any:
    """Return the result of one of the function calls that checkpoints contain."""
    match function, arguments:
        case _Global(), tuple() if function == _ORDERED_DICT:
            return _ordered_dict(*arguments)
        case _Global(), (View() as view, _grad, _hooks) if function == _REBUILD_PARAMETER:
            return view
        case _Global(), (View() as view, _grad, _hooks, _state) if (
            function == _REBUILD_PARAMETER_WITH_STATE
        ):
            return view
        case _Global(), (_Global() as rebuild, _Global(), tuple() as facts, _state) if (
            function == _REBUILD_FROM_TYPE and rebuild == _REBUILD_TENSOR_V2
        ):
            return _reduced(rebuild, facts)
        case _Global(), tuple() if function in _VALUE_CALLS:
            return None
        case _Global(), (storage, offset, shape, stride) if function == _REBUILD_TENSOR:
            return make_view(storage, offset, shape, stride)
        case _Global(), (storage, offset, shape, stride, _, _, *rest) if (
            function == _REBUILD_TENSOR_V2 and len(rest) <= 1
        ):
            if any(rest):
                raise ModelError("expected plain tensors, found a negated or conjugated one")
            return make_view(storage, offset, shape, stride)
    raise ModelError("expected a tensor or a dictionary, found an unknown function call")


def _ordered_dict(pairs: Any = ()) -> _OrderedDict:
    """Return a dictionary; Python 2 writes its items as a list of pairs."""
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    ):
        raise ModelError("expected a dictionary's items, found something else")
    result = _OrderedDict()
    _set_items(result, pairs)
    return result
