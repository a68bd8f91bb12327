"""Model files that a command writes: what may be written where, and the line at the end."""

from collections.abc import Iterable
from pathlib import Path

from gramstyle.errors import ModelError
from gramstyle.model import network_name, read_model
from gramstyle.system.files import check_folder


def check_target(target: Path, *, sources: Iterable[Path | None]) -> None:
    """Refuse to start on what could not be written, or would overwrite what it is made from.

    Raises
    ------
    ModelError
        If there is no such folder, or the target is one of the sources.
    """
    check_folder(target, error=ModelError)
    if target.resolve() in {source.resolve() for source in sources if source is not None}:
        raise ModelError(f"{target} would overwrite what it is made from; choose another --to")


def say_written(target: Path) -> None:
    """Print where the file is and what it holds, as it reads back."""
    model = read_model(target)
    size = target.stat().st_size / 1e6
    precision = model.metadata["precision"]
    print(f"wrote {target} ({size:.1f} MB, {precision}, sha256 {model.sha256})")  # noqa: T201
    print(f"network: {network_name(model.network, model.metadata)}")  # noqa: T201
