"""Fixtures for model files, and for downloads from a server on this machine."""

import dataclasses
import hashlib
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from download_server import DATA, Server, running
from gramstyle.model.fetch import download
from gramstyle.model.onnx_file import Model, read_model
from gramstyle.model.published import PUBLIC_FILES, PublicFile
from gramstyle.model.sources import keras
from h5_server import H5Server
from onnx_edits import Edited, altered, write


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server, no proxies, and no waits between connections."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(download, "FIRST_WAIT", 0.0)
    with running() as server:
        yield server


@pytest.fixture
def file(server: Server) -> PublicFile:
    """The file as it is published on the server."""
    return dataclasses.replace(
        PUBLIC_FILES["keras"],
        file_name="weights.bin",
        urls=(server.url,),
        size=len(DATA),
        algorithm="sha256",
        digest=hashlib.sha256(DATA).hexdigest(),
    )


@pytest.fixture
def unsized(file: PublicFile) -> PublicFile:
    return dataclasses.replace(file, size=None)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "weights.bin"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for this machine and its key, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    key, both = folder / "key.pem", folder / "both.pem"
    command = [
        *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
        *("-days", "2", "-keyout", str(key), "-out", str(both)),
    ]
    subprocess.run(command, check=True, capture_output=True)
    both.write_bytes(both.read_bytes() + key.read_bytes())
    return both


@pytest.fixture
def secure(certificate: Path) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with running(context) as server:
        yield server


@pytest.fixture(scope="session")
def _h5_server() -> Iterator[H5Server]:
    server = H5Server()
    yield server
    server.close()


@pytest.fixture
def h5_server(_h5_server: H5Server, monkeypatch: pytest.MonkeyPatch) -> H5Server:
    """Read the tables of contents of all HDF5 files of the test in one process."""
    monkeypatch.setattr(keras, "subprocess", _h5_server)
    return _h5_server


@pytest.fixture(scope="session")
def small_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "small.onnx"
    write(file, licence="none", source="dice")
    return file


@pytest.fixture(scope="session")
def small_model(small_path: Path) -> Model:
    return read_model(small_path)


@pytest.fixture
def edited(small_path: Path, tmp_path: Path) -> Edited:
    """Return a function that writes an edited copy of the small model file."""
    return partial(altered, small_path, tmp_path)
