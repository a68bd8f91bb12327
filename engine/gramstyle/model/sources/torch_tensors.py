"""Tensors as torch describes them: views of storages, in nested dictionaries."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, TypeGuard

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.messages import quoted
from gramstyle.model.sources.bounded import read_into

MAX_DIMENSIONS, MAX_ENTRIES, MAX_NAME = 8, 50_000, 500


@dataclass(frozen=True)
class Storage:
    """A vector of elements, outside the pickle, that tensors are views of.

    Attributes
    ----------
    key
        Its name in the pickle.
    stored
        The type to read its elements with; for bfloat16 and bool, integers of the same size.
    dtype
        The type of the arrays made of them.
    size
        Number of elements.
    """

    key: str
    stored: np.dtype[Any]
    dtype: np.dtype[Any]
    size: int

    @property
    def nbytes(self) -> int:
        """Number of bytes of its elements."""
        return self.size * self.stored.itemsize


@dataclass(frozen=True)
class View:
    """A tensor in a storage.

    Attributes
    ----------
    storage
        The storage of its elements.
    offset
        The index of its first element there.
    shape, stride
        In elements; the stride along an axis of length 0 or 1 is 0.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def span(self) -> int:
        """Number of elements of the storage from the tensor's first to its last."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))

    @property
    def first_byte(self) -> int:
        """Offset of the span in the storage, in bytes."""
        return self.offset * self.storage.stored.itemsize

    @property
    def nbytes(self) -> int:
        """Number of bytes of the span."""
        return self.span * self.storage.stored.itemsize

    def array(self, raw: Array) -> Array:
        """Return the tensor as a contiguous array.

        Parameters
        ----------
        raw
            The span's bytes, uint8; the array may share their memory.
        """
        elements = _converted(raw.view(self.storage.stored), self.storage.dtype)
        steps = [step * elements.itemsize for step in self.stride]
        strided = np.lib.stride_tricks.as_strided(elements, self.shape, steps)
        return np.asarray(strided, order="C")

    def load(self, stream: io.BufferedIOBase, storage_start: int) -> Array:
        """Read the tensor from a stream in which its storage begins at a byte offset."""
        raw = np.empty(self.nbytes, np.uint8)
        read_into(raw, stream, storage_start + self.first_byte)
        return self.array(raw)


def _converted(elements: Array, dtype: np.dtype[Any]) -> Array:
    if elements.dtype == dtype:
        return elements
    if dtype.kind == "f":
        # A bfloat16 is the upper half of a float32.
        return (elements.astype("<u4") << 16).view(dtype)
    # torch takes every byte but 0 for true; NumPy would not take 2 for a bool.
    return elements.astype(dtype)


def make_view(storage: Any, offset: Any, shape: Any, stride: Any) -> View:
    """Return a view; raise ModelError if an argument is invalid or it exceeds its storage."""
    is_known = isinstance(storage, Storage) and _is_shape(shape) and _is_shape(stride)
    if not is_known or not isinstance(offset, int) or offset < 0 or len(shape) != len(stride):
        raise ModelError("expected a tensor, found an unknown description of one")
    steps = tuple(step if n > 1 else 0 for n, step in zip(shape, stride, strict=True))
    view = View(storage, offset, shape, steps)
    if prod(shape) > storage.size or (view.span and offset + view.span > storage.size):
        raise ModelError("expected tensors within their storages, found one that exceeds its own")
    return view


def _is_shape(value: object) -> TypeGuard[tuple[int, ...]]:
    return (
        isinstance(value, tuple)
        and len(value) <= MAX_DIMENSIONS
        and all(isinstance(n, int) and n >= 0 for n in value)
    )


def find_tensors(checkpoint: object) -> dict[str, View]:
    """Return the tensors in a dictionary and its nested dictionaries, by dotted names.

    Other values are ignored, including lists and their contents.

    Raises
    ------
    ModelError
        If the object is not a dictionary, two tensors have the same dotted name, or the number
        of entries or the length of a name shows that a dictionary contains itself or the same
        dictionary many times.
    """
    if not isinstance(checkpoint, dict):
        raise ModelError(
            "expected a dictionary of tensors, found something else; save model.state_dict()"
        )
    tensors: dict[str, View] = {}
    entries = 0
    stack: list[tuple[str, Iterator[tuple[str, Any]]]] = [("", iter(checkpoint.items()))]
    while stack:
        prefix, items = stack[-1]
        key, value = next(items, (None, None))
        if key is None:
            stack.pop()
            continue
        entries += 1
        if entries > MAX_ENTRIES:
            raise ModelError(f"expected at most {MAX_ENTRIES} entries, found more")
        if not isinstance(value, View | dict):
            continue
        # Names grow with the depth, so this also ends a dictionary that contains itself.
        if len(prefix) + len(key) > MAX_NAME:
            raise ModelError(f"expected names of at most {MAX_NAME} characters, found longer ones")
        name = prefix + key
        if isinstance(value, dict):
            stack.append((f"{name}.", iter(value.items())))
        elif name in tensors:
            raise ModelError(f"expected one tensor named {quoted(name)}, found two")
        else:
            tensors[name] = value
    return tensors
