"""The commands that install the packages of an extra of gramstyle."""

import re
import shutil
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path


def remedy(extra: str, error: ImportError | None = None) -> str:
    """Return what to do if the packages of an extra are missing, or fail with an error."""
    if error is None or isinstance(error, ModuleNotFoundError):
        return f"install it with: {install_command(extra)}"
    return f"reinstall it with: {install_command(extra, '--force-reinstall')}"


def install_command(extra: str, *options: str) -> str:
    """Return the command that installs the packages of an extra into this environment.

    It names the packages, so it works no matter how gramstyle was installed.
    """
    return install_packages(requirements(extra), *options)


def install_packages(packages: Iterable[str], *options: str) -> str:
    """Return the command that installs packages, by their requirements, into this environment."""
    return " ".join((_installer(), *options, *(f'"{requirement}"' for requirement in packages)))


def core_requirements() -> list[str]:
    """Return the packages that every run needs, as the installed gramstyle states them.

    Raises PackageNotFoundError if it is run from its sources.
    """
    stated = distribution("gramstyle").requires or []
    return [requirement for requirement in stated if ";" not in requirement]


def requirements(extra: str) -> list[str]:
    """Return the packages of an extra, with their versions, as the installed gramstyle states."""
    try:
        stated = distribution("gramstyle").requires or []
    except PackageNotFoundError:  # run from its sources
        return [f"gramstyle[{extra}]"]
    found = (re.split(r"\s*;\s*", requirement, maxsplit=1) for requirement in stated)
    wanted = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    return [package for package, *marker in found if marker and wanted.search(marker[0])]


def _installer() -> str:
    """Return the start of the command that installs into this environment."""
    here = Path(sys.executable)
    if find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip install --python {_quoted(str(here))}"
    first = shutil.which("pip")
    if first is not None and Path(first).parent == here.parent:
        return "pip install"
    return f"{_quoted(str(here))} -m pip install"


def _quoted(path: str) -> str:
    return f'"{path}"' if re.search(r"[^\w./\\:-]", path) else path
