"""ONNX Runtime for browsers, from the package registry of npm, as data that is never installed.

npm performs the download, so that its configuration (registry, proxy, certificates) applies.
"""

import hashlib
import logging
import shutil
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

from gramstyle.errors import OptionError, RuntimeMissingError

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
TARBALL_SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
TARBALL_BYTES = 33_106_585

# The files of the package that the page loads: for the processor, and for WebGPU.
RUNTIME_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)

REMEDY = f"fetch {PACKAGE}-{VERSION}.tgz elsewhere by npm pack, and add --runtime TGZ"

log = logging.getLogger(__name__)


def fetch_runtime(folder: Path) -> bytes:
    """Download the package into a folder with npm; return the tarball.

    Raises
    ------
    RuntimeMissingError
        If npm is missing or fails, or the tarball's hash differs from the recorded one.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeMissingError(
            f"npm, which fetches {PACKAGE}, is not installed; install Node.js, or {REMEDY}"
        )
    name = f"{PACKAGE}@{VERSION}"
    log.info("npm downloads %s", name)
    command = [npm, "pack", name, "--loglevel=error", "--pack-destination", str(folder)]
    result = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, cwd=folder, stdin=subprocess.DEVNULL
    )
    tarballs = list(folder.glob("*.tgz"))
    if result.returncode != 0 or len(tarballs) != 1:
        raise RuntimeMissingError(f"npm could not fetch {name} ({_reason(result)}); {REMEDY}")
    return checked_tarball(tarballs[0].read_bytes(), str(tarballs[0].name), RuntimeMissingError)


def read_runtime(path: Path) -> bytes:
    """Return the tarball of a file.

    Raises
    ------
    OptionError
        If it cannot be read, or its hash differs from the recorded one.
    """
    try:
        with path.open("rb") as file:
            data = file.read(TARBALL_BYTES + 1)
    except OSError as error:
        raise OptionError(f"cannot read {path}: {error.strerror}; name another --runtime") from None
    return checked_tarball(data, str(path), OptionError)


def checked_tarball(
    data: bytes, name: str, error: type[OptionError] | type[RuntimeMissingError]
) -> bytes:
    """Return the tarball, or raise an error if it is not the recorded one."""
    digest = hashlib.sha512(data).hexdigest()
    if digest != TARBALL_SHA512:
        raise error(
            f"{name} is not {PACKAGE} {VERSION}: its sha512 is {digest[:16]}…, expected "
            f"{TARBALL_SHA512[:16]}…; {REMEDY}"
        )
    return data


def runtime_files(tarball: bytes) -> dict[str, bytes]:
    """Return the files of the package that the page loads, by the names that they have there.

    A module ends with .js, which every web server knows, unlike .mjs. The tarball has the recorded
    hash, so its members are known.
    """
    wanted = {f"package/dist/{name}": name for name in RUNTIME_FILES}
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=BytesIO(tarball), mode="r:gz") as archive:
        for member in archive:
            name, file = wanted.get(member.name), archive.extractfile(member)
            if name is not None and file is not None:
                found[name] = file.read()
    return {name.replace(".mjs", ".js"): found[name] for name in RUNTIME_FILES}


def _reason(result: "subprocess.CompletedProcess[str]") -> str:
    """Return the line of npm's output that says most: the first one of its errors."""
    lines = [line.removeprefix("npm error").strip() for line in result.stderr.splitlines()]
    lines = [
        line for line in lines if line and not line.startswith(("code ", "errno ", "syscall "))
    ]
    return lines[0] if lines else f"npm ended with code {result.returncode}"
