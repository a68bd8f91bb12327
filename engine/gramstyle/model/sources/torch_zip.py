"""torch's format since version 1.6: a zip archive, read without unpacking it to disk.

NAME/data.pkl describes the tensors; NAME/data/KEY holds a storage's raw elements, uncompressed.
"""

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.messages import quoted
from gramstyle.model.sources.archives import open_archive, plain_member, read_member
from gramstyle.model.sources.pickles import MAX_BYTES, unpickle
from gramstyle.model.sources.tensors import StoredTensor, Tensors
from gramstyle.model.sources.torch_tensors import Storage, View, find_tensors

PICKLE, BYTE_ORDER, VERSION = "data.pkl", "byteorder", "version"
# The newest version that torch itself reads.
MAX_VERSION = 10
MAX_TEXT = 16


@contextmanager
def open_torch_zip(path: Path) -> Iterator[Tensors]:
    """Open a checkpoint in the zip format; yield its tensors by dotted names.

    Raises
    ------
    ModelError
        If it is not a dictionary of tensors, imports a global that is not on the allow-list, is
        compressed or encrypted, or its parts contradict each other.
    """
    with open_archive(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        root = _root(members)
        if _text(archive, members, f"{root}/{BYTE_ORDER}", "little") != "little":
            raise ModelError("expected little-endian elements, found another byte order")
        version = _text(archive, members, f"{root}/{VERSION}", "1")
        if not version.isdecimal() or int(version) > MAX_VERSION:
            raise ModelError(
                f"expected a format of version {MAX_VERSION} or less, found {quoted(version)}"
            )
        member = plain_member(members, f"{root}/{PICKLE}")
        if member.file_size > MAX_BYTES:
            raise ModelError(
                f"expected a {PICKLE} of at most {MAX_BYTES} bytes, found a larger one"
            )
        pickled = read_member(archive, member, 0, member.file_size)
        views = find_tensors(unpickle(io.BytesIO(pickled.tobytes()), {}))
        yield {
            name: StoredTensor(
                view.shape,
                view.storage.dtype,
                partial(_load, archive, _storage_member(members, root, view.storage), view),
            )
            for name, view in views.items()
        }


def _root(members: Mapping[str, zipfile.ZipInfo]) -> str:
    roots = [root for root, _, name in (n.partition("/") for n in members) if name == PICKLE]
    if len(roots) != 1:
        raise ModelError(
            f"expected one NAME/{PICKLE}, as torch writes, found {len(roots)} in this archive; "
            "save model.state_dict() by torch.save"
        )
    return roots[0]


def _text(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str, default: str
) -> str:
    """Return the text of a short member; some versions of torch omit some of these members."""
    if name not in members:
        return default
    info = plain_member(members, name)
    if info.file_size > MAX_TEXT:
        raise ModelError(f"expected a word in {quoted(name)}, found {info.file_size} bytes")
    return read_member(archive, info, 0, info.file_size).tobytes().decode("ascii").strip()


def _storage_member(
    members: Mapping[str, zipfile.ZipInfo], root: str, storage: Storage
) -> zipfile.ZipInfo:
    info = plain_member(members, f"{root}/data/{storage.key}")
    if info.file_size != storage.nbytes:
        raise ModelError(
            f"expected a storage of {storage.nbytes} bytes, as its tensor describes it, found "
            f"{info.file_size} bytes in {quoted(info.filename)}"
        )
    return info


def _load(archive: zipfile.ZipFile, info: zipfile.ZipInfo, view: View) -> Array:
    return view.array(read_member(archive, info, view.first_byte, view.nbytes))
