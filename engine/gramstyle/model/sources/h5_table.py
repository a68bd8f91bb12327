"""A program that prints the table of contents of an HDF5 file as JSON; the only `import h5py`.

HDF5 is a large C library. A damaged or hostile file can crash it, put it in an endless loop or
make it allocate gigabytes. `keras` therefore runs this file in a separate process. The separate
process protects gramstyle from crashes; it is not a sandbox. The program does not import
gramstyle, which takes several times as long as h5py.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

# Keras' names of VGG-19's layers, and of convolutions whose names it makes up.
LAYER = re.compile(r"block\d+_conv\d+")
NUMBERED = re.compile(r"(?:^|/)conv2d(?:_(\d{1,9}))?/")
# The means of batch normalisations, in Keras 2 and 3.
MEAN = re.compile(r"moving_mean(?::0)?$|(?:^|/)batch_normalization(?:_\d{1,9})?/vars/2$")
# Layers with weights that change what a chain of convolutions computes, by the names that Keras
# makes up.
OTHER = re.compile(
    r"(?:^|/)((?:batch|layer|group|unit|rms)_normalization|p_re_lu|(?:depthwise|separable)_conv2d"
    r"|conv2d_transpose)(?:_\d{1,9})?/"
)
# Keras 3 writes the variables of a layer as LAYER/vars/0, LAYER/vars/1 and so on.
VARIABLES = "vars"
KINDS = (LAYER, NUMBERED, MEAN, OTHER)
FLOATS = ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8")

MAX_OBJECTS, MAX_DEPTH, MAX_NAME = 10_000, 16, 200
MAX_SECONDS, MAX_MEMORY = 30, 2 * 1024**3


def main(path: str, start: str, size: str) -> None:
    """Print the table of contents of an HDF5 file, which is a part of another file."""
    import h5py

    _limit_resources()
    sys.stdout.write(json.dumps(read_table(h5py, path, int(start), int(size))))


def read_table(h5py: Any, path: str, start: int, size: int) -> list[Any] | str:
    """Return path, layer, shape, type and offset of the datasets in use, or an error message.

    They are those of convolutions, the means of batch normalisations, and those of layers that do
    not fit between convolutions.

    The layer is Keras 3's name of it, or empty.
    """
    try:
        with Path(path).open("rb") as stream, h5py.File(_Part(stream, start, size), "r") as file:
            return [
                (name, layer, *_entry(h5py, dataset))
                for name, layer, dataset in _datasets(h5py, file)
                if any((LAYER.search(layer), *(kind.search(name) for kind in KINDS)))
            ]
    except _TooManyObjectsError:
        return "expected a Keras model, found too many or too deeply nested groups"
    except Exception as error:
        return f"the HDF5 library cannot read it ({type(error).__name__}); get a fresh copy"


class _TooManyObjectsError(Exception):
    """A file has too many objects, too long names, or groups that contain themselves."""


class _Part(io.RawIOBase):
    """A part of a file, as a file of its own."""

    def __init__(self, stream: io.BufferedReader, start: int, size: int) -> None:
        self._stream, self._start, self._size = stream, start, size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        ends = {io.SEEK_SET: self._start, io.SEEK_END: self._start + self._size}
        if whence in ends:
            return self._stream.seek(max(ends[whence] + offset, self._start)) - self._start
        return self._stream.seek(offset, whence) - self._start

    def tell(self) -> int:
        return self._stream.tell() - self._start

    def readinto(self, buffer: Any) -> int:
        rest = max(self._size - self.tell(), 0)
        return self._stream.readinto(memoryview(buffer).cast("B")[:rest])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _limit_resources() -> None:
    """Limit this process's memory and time, if the operating system supports it."""
    with suppress(ImportError):
        import resource

        for resource_type, limit in (
            (resource.RLIMIT_AS, MAX_MEMORY),
            (resource.RLIMIT_CPU, MAX_SECONDS),
            (resource.RLIMIT_CORE, 0),
        ):
            with suppress(OSError, ValueError):
                resource.setrlimit(resource_type, (limit, limit))


def _datasets(h5py: Any, file: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield all datasets; follow hard links only, because others may lead to other files."""
    pending = [("", "", 0, file)]
    seen = 0
    while pending:
        path, layer, depth, group = pending.pop()
        # The count comes first, because it is faster than a list of the names.
        if seen + len(group) > MAX_OBJECTS or depth > MAX_DEPTH:
            raise _TooManyObjectsError
        for name in group:
            seen += 1
            if seen > MAX_OBJECTS or len(name) > MAX_NAME:
                raise _TooManyObjectsError
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink) or (
                not path and name in ("optimizer", "optimizer_weights")
            ):
                continue
            child = group[name]
            if isinstance(child, h5py.Group):
                found = _name(child) if name == VARIABLES else ""
                pending.append((f"{path}/{name}", found, depth + 1, child))
            elif isinstance(child, h5py.Dataset):
                yield f"{path}/{name}", layer, child


def _name(group: Any) -> str:
    """Return the name of the layer that Keras 3 states in an attribute of its variables."""
    name = group.attrs.get("name")
    return name[:MAX_NAME] if isinstance(name, str) else ""


def _entry(h5py: Any, dataset: Any) -> tuple[list[int], str, int | None]:
    """Return a dataset's shape, type and offset; None unless its values are contiguous."""
    if dataset.shape is None:
        return [], "nothing", None
    kinds = [kind for kind in FLOATS if h5py.h5t.py_create(np.dtype(kind)) == dataset.id.get_type()]
    kind = kinds[0] if kinds else str(dataset.dtype)[:MAX_NAME]
    # None if the values are chunked, in the header or in other files.
    start = dataset.id.get_offset()
    # A dataset that was never written has no storage, but an offset if the file has a user block.
    is_stored = dataset.id.get_storage_size() == dataset.size * dataset.dtype.itemsize
    return list(dataset.shape), kind, start if is_stored else None


if __name__ == "__main__":
    main(*sys.argv[1:])
