"""A folder for checkpoints, empty or with one saved."""

from pathlib import Path

import pytest

from gramstyle.run.checkpoint import (
    save,
)
from run.checkpoint.states import manifest, state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture
def saved(folder: Path) -> Path:
    save(folder, manifest(120), state(120).items())
    return folder
