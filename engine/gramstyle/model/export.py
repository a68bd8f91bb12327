"""Build the model file from a file of weights."""

from pathlib import Path


def export_model(path: Path, *, source: Path | None = None) -> None:
    raise NotImplementedError
