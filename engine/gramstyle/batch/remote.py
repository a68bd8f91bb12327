"""What the other machine of a cluster needs for a whole job: the network, and files as bytes."""

import io
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from gramstyle.cluster.worker import find_model, own_name
from gramstyle.errors import ModelError
from gramstyle.run.open_model import OpenModel


def network_here(sha256: str) -> OpenModel:
    """Return the model with this hash, which stays open in this process for the next job.

    Raises
    ------
    ModelError
        If this machine does not have it.
    """
    path = find_model(sha256)
    if path is None:
        raise ModelError(
            f"worker {own_name()} does not have the model {sha256[:12]}…; set GRAMSTYLE_MODEL to "
            "its file there"
        )
    return _opened(path, sha256)


def zipped(parts: Mapping[str, bytes]) -> bytes:
    """Return parts by their names as one archive."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:  # not deflated: images are compressed already
        for name, part in parts.items():
            archive.writestr(name, part)
    return data.getvalue()


def unzipped(data: bytes) -> dict[str, bytes]:
    """Return the parts of an archive by their names."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@lru_cache(maxsize=1)
def _opened(path: Path, _sha256: str) -> OpenModel:
    return OpenModel(path)
