"""The limits that Linux sets a process by control groups, as containers and systemd do.

A process is in one group of each hierarchy, and each group is inside another. The limits of all of
them hold, so the lowest one counts. Version 2 has one hierarchy; version 1 has one per controller;
a machine may have both.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

Number = TypeVar("Number", int, float)

ROOT = Path("/")

# Where the hierarchies of both versions usually are, for a system that does not list its mounts.
USUAL = ("sys/fs/cgroup", "sys/fs/cgroup/{}")


@dataclass(frozen=True)
class _Mount:
    """A hierarchy that is mounted: a part of it, which begins at `top`, is visible at `point`."""

    top: PurePosixPath
    point: PurePosixPath
    controllers: frozenset[str]  # empty for version 2, which has all of them


def memory_limit(root: Path = ROOT) -> int | None:
    """Return the lowest memory limit of this process's groups in bytes, or None.

    Parameters
    ----------
    root
        The folder that contains `proc` and `sys`.
    """
    return min(_limits("memory", _memory_limits, root), default=None)


def cpu_limit(root: Path = ROOT) -> float | None:
    """Return the lowest CPU quota of this process's groups in cores, or None.

    Parameters
    ----------
    root
        The folder that contains `proc` and `sys`.
    """
    return min(_limits("cpu", _cpu_limits, root), default=None)


def _memory_limits(group: Path) -> Iterator[int]:
    for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
        yield from _numbers(group / name)
    # Version 1 also names the lowest limit above, which a container may be unable to see.
    with suppress(OSError, ValueError):
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        if "hierarchical_memory_limit" in stat:
            yield int(stat["hierarchical_memory_limit"])


def _cpu_limits(group: Path) -> Iterator[float]:
    quota_and_period = _numbers(group / "cpu.max")
    if len(quota_and_period) != 2:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        quota_and_period = [number for name in names for number in _numbers(group / name)]
    if len(quota_and_period) == 2 and min(quota_and_period) > 0:  # a quota of -1 is none
        yield quota_and_period[0] / quota_and_period[1]


def _numbers(file: Path) -> list[int]:
    """Return the numbers in a file; none if it says "max", or cannot be read."""
    try:
        return [int(word) for word in file.read_text().split()]
    except (OSError, ValueError):
        return []


def _limits(
    controller: str, read: Callable[[Path], Iterator[Number]], root: Path
) -> Iterator[Number]:
    for group in dict.fromkeys(_groups(controller, root)):
        yield from read(root / group.relative_to("/"))


def _groups(controller: str, root: Path) -> Iterator[PurePosixPath]:
    """Yield the folders of this process's groups, and of the groups around them."""
    paths = _paths(root)
    for mount in _mounts(root):
        if mount.controllers and controller not in mount.controllers:
            continue
        path = paths.get(controller if mount.controllers else "")
        inside = PurePosixPath()  # what a container sees of its groups begins at the mount point
        if path is not None and path.is_relative_to(mount.top) and ".." not in path.parts:
            inside = path.relative_to(mount.top)
        yield from (mount.point / each for each in (inside, *inside.parents))
    yield from (PurePosixPath("/", place.format(controller)) for place in USUAL)


def _paths(root: Path) -> dict[str, PurePosixPath]:
    """Return the path of this process's group by the controller; "" for version 2."""
    paths: dict[str, PurePosixPath] = {}
    for line in _lines(root / "proc/self/cgroup"):
        with suppress(ValueError):
            _, controllers, path = line.split(":", 2)
            paths |= dict.fromkeys(controllers.split(","), PurePosixPath(path))
    return paths


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, filesystem = line.partition(" - ")
        with suppress(ValueError):
            top, point = (PurePosixPath(_unescaped(name)) for name in mount.split()[3:5])
            kind, _, options = filesystem.split()[:3]
            if kind == "cgroup2":
                yield _Mount(top, point, frozenset())
            elif kind == "cgroup":
                yield _Mount(top, point, frozenset(options.split(",")))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []


def _unescaped(name: str) -> str:
    """Return a name of mountinfo, in which the kernel writes spaces and such in octal."""
    for code in (0o11, 0o12, 0o40, 0o134):
        name = name.replace(f"\\{code:03o}", chr(code))
    return name
