"""Take from the environment what a machine may lack."""

import os
import tempfile

import pytest


def without_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder for temporary files can be written."""

    def none() -> list[str]:
        return []

    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", none)
    real = os.access

    def access(path: str, mode: int) -> bool:
        return path != "/var/tmp" and real(path, mode)  # noqa: S108 - the folder that gramstyle tries

    monkeypatch.setattr(os, "access", access)
