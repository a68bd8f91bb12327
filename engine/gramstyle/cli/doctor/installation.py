"""The program, the packages that it requires, and its engines."""

import platform
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import gramstyle
from gramstyle.cli.doctor.asking import Answer
from gramstyle.cli.doctor.finding import Finding, one_line
from gramstyle.cli.doctor.machine import DRIVER
from gramstyle.cli.doctor.requirements import (
    EXTRAS,
    FOR_GPU,
    INSTEAD_OF_CPU,
    Requirement,
    core,
    of_extra,
)
from gramstyle.system.installing import install_command, install_packages

# Distributions of ONNX Runtime that put the same module in place and exclude each other.
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


def program() -> Iterator[Finding]:
    """Yield the versions of gramstyle and Python, and where they are."""
    section = "program"
    try:
        yield Finding(section, "gramstyle", version("gramstyle"))
    except PackageNotFoundError:
        yield Finding(
            section,
            "gramstyle",
            "run from its sources, without an installed package",
            "broken",
            "install it in the checkout: python -m pip install -e .",
        )
    yield Finding(section, "installed in", str(Path(gramstyle.__file__).parent))
    yield Finding(section, "python", f"{platform.python_version()}, {sys.executable}")
    yield Finding(section, "system", f"{platform.system()} {platform.machine()}")


def to_import() -> list[str]:
    """Return the probes that import each required and each installed optional package."""
    optional = [each for extra in EXTRAS for each in of_extra(extra) if each.installed]
    return list(dict.fromkeys(f"import:{each.module}" for each in (*core(), *optional)))


def packages(answers: Mapping[str, Answer]) -> Iterator[Finding]:
    """Yield each required package, and each extra."""
    for requirement in core():
        yield _package("packages", requirement, answers)
    for extra, purpose in EXTRAS.items():
        if _is_listed(extra):
            yield from _extra(extra, purpose, answers)


def _is_listed(extra: str) -> bool:
    """Return whether an extra is listed: not if it would be of no use here, or do harm."""
    installed = [each.installed is not None for each in of_extra(extra)]
    if extra in INSTEAD_OF_CPU:
        return bool(installed) and all(installed)
    return DRIVER.exists() or extra not in FOR_GPU or any(installed)


def runtimes(installed: Mapping[str, str | None]) -> Iterator[Finding]:
    """Yield a finding if distributions are installed that overwrite each other's files."""
    there = [name for name in RUNTIMES if installed[name] is not None]
    if len(there) > 1:
        yield Finding(
            "packages",
            "onnxruntime",
            f"{' and '.join(there)} are both installed and overwrite each other's files",
            "broken",
            f"uninstall both, then: {install_command('cpu')}",
        )


def installed_runtimes() -> dict[str, str | None]:
    """Return the installed versions of the distributions of ONNX Runtime."""
    found: dict[str, str | None] = dict.fromkeys(RUNTIMES)
    for name in RUNTIMES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def engines(answers: Mapping[str, Answer]) -> Iterator[Finding]:
    """Yield each engine: whether it can run here, and which one is the default."""
    section, registry = "engines", answers["engines"]
    if registry.problem:
        remedy = "repair the packages above"
        yield Finding(section, "all", registry.problem, "broken", remedy)
        return
    default = registry.value["default"]
    for name, problem in registry.value["problems"].items():
        is_default = name == default
        if problem is not None:  # it says what to do
            yield Finding(section, name, one_line(problem), "broken" if is_default else "note")
        elif is_default:
            reason = "is installed" if name == "winograd" else "is not installed"
            yield Finding(section, name, f"ready; the default, because Numba {reason}")
        else:
            yield Finding(section, name, "ready")


def _package(section: str, requirement: Requirement, answers: Mapping[str, Answer]) -> Finding:
    name, installed = requirement.name, requirement.installed
    remedy = install_packages([requirement.text])
    if installed is None:
        return Finding(section, name, "not installed", "broken", f"install it with: {remedy}")
    if not requirement.satisfied:
        value = f"{installed}, and {requirement.text} is required"
        return Finding(section, name, value, "broken", f"install it with: {remedy}")
    answer = answers.get(f"import:{requirement.module}", Answer({}))
    if answer.problem:
        again = install_packages([requirement.text], "--force-reinstall")
        value = f"{installed}, cannot be imported: {answer.problem}"
        return Finding(section, name, value, "broken", f"reinstall it with: {again}")
    return Finding(section, name, installed)


def _extra(extra: str, purpose: str, answers: Mapping[str, Answer]) -> Iterator[Finding]:
    wanted = of_extra(extra)
    there = [each for each in wanted if each.installed is not None]
    if len(there) < len(wanted) or not wanted:
        missing = ", ".join(each.name for each in wanted if each.installed is None)
        yield Finding(
            "extras",
            extra,
            f"not installed: {missing or extra} ({purpose})",
            "note",
            f"to add it: {install_command(extra)}",
        )
        return
    found = [_package("extras", each, answers) for each in there]
    yield from (each for each in found if each.state != "ok")
    versions = ", ".join(f"{each.name} {each.value}" for each in found if each.state == "ok")
    if versions:
        yield Finding("extras", extra, f"{versions} ({purpose})")
