"""Model files that a command writes: checks before the work, and a report after it."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from gramstyle.cli.speaking import report
from gramstyle.errors import ModelError
from gramstyle.model import network_name, read_model
from gramstyle.system.files import is_same_place, real_path
from gramstyle.system.lock import locked
from gramstyle.system.replaceable import check_file


def check_target(target: Path, *, sources: Iterable[Path | None]) -> None:
    """Raise ModelError if a file's folder does not exist, or the file is one of its sources."""
    check_file(target, error=ModelError)
    if any(is_same_place(target, source) for source in sources if source is not None):
        raise ModelError(f"{target} would overwrite one of its sources; choose another --to")


def owned(target: Path) -> AbstractContextManager[None]:
    """Keep other processes from writing the same model file during the block."""
    action = f"is writing {target}; wait until it has ended, or choose another --to"
    return locked(real_path(target), error=ModelError, action=action)


def report_written(target: Path) -> None:
    """Read a model file back, and print its path, size, precision, hash and network."""
    model = read_model(target)
    size = target.stat().st_size / 1e6
    precision = model.metadata["precision"]
    report(f"wrote {target} ({size:.1f} MB, {precision}, sha256 {model.sha256})")
    report(f"network: {network_name(model.network, model.metadata)}")
