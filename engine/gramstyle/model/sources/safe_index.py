"""safetensors in several files: an index in JSON names the file of each tensor."""

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gramstyle.errors import ModelError
from gramstyle.model.messages import quoted
from gramstyle.model.sources.beside import file_beside
from gramstyle.model.sources.safe_tensors import MAX_HEADER, header_size, open_safe_tensors
from gramstyle.model.sources.tensors import StoredTensor, Tensors

SUFFIX = ".safetensors"
REMEDY = "save the weights in one file instead"
MAX_BYTES = 2 * 1024 * 1024


def is_index(head: bytes) -> bool:
    """Return whether a file with this head is JSON text; a safetensors file begins with a size."""
    return head.startswith(b"{") and b"\0" not in head[:8]


@contextmanager
def open_safe_index(path: Path) -> Iterator[Tensors]:
    """Open the files that an index names, in its own folder; yield the tensors in the index.

    Raises
    ------
    ModelError
        If it is not such an index, a file is missing or leads out of the folder, or a tensor is
        not in its file.
    """
    tensors: dict[str, StoredTensor] = {}
    with ExitStack() as files:
        for file, names in _files(path):
            found = files.enter_context(open_safe_tensors(file))
            if missing := [name for name in names if name not in found]:
                raise ModelError(
                    f"expected {quoted(missing[0])} in {quoted(file.name)}, as the index says, "
                    "found none; get fresh copies of all files"
                )
            tensors.update({name: found[name] for name in names})
        yield tensors


def _files(path: Path) -> list[tuple[Path, list[str]]]:
    """Return the files and the names of their tensors, once all headers together are small."""
    files = [(file_beside(path, name), tensors) for name, tensors in _names(path).items()]
    if (size := sum(header_size(file) for file, _ in files)) > MAX_HEADER:
        raise ModelError(f"expected headers of at most {MAX_HEADER} bytes in all, found {size}")
    return files


def _names(path: Path) -> dict[str, list[str]]:
    """Return the names of the files that an index names, and the names of their tensors."""
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ModelError(f"expected an index of at most {MAX_BYTES} bytes, found {size}")
    index = json.loads(path.read_bytes())
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError('expected an index of safetensors files, found JSON without "weight_map"')
    names: dict[str, list[str]] = defaultdict(list)
    for tensor, name in places.items():
        if not isinstance(name, str) or not name.endswith(SUFFIX):
            raise ModelError(
                f"expected the index of {SUFFIX} files, found that of {quoted(str(name))}; {REMEDY}"
            )
        names[name].append(tensor)
    return names
