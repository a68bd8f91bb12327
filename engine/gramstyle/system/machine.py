"""The cores and the memory that this process may use."""

import os
from pathlib import Path

from gramstyle.errors import OptionError

# The file in which Linux gives a container's memory limit (control groups, version 2).
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def available_threads() -> int:
    """Return the number of processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_memory() -> int | None:
    """Return the bytes of memory available to this process, or None if the system gives none.

    The machine's memory, or a container's limit where that is lower.
    """
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        return min(machine, int(CONTAINER_LIMIT.read_text()))
    except (OSError, ValueError):  # there is no limit, or the file contains "max"
        return machine


def check_memory(width: int, height: int, *, bytes_per_pixel: int) -> None:
    """Refuse an image size for which the machine has too little memory.

    Raises
    ------
    OptionError
        If the image needs more memory than there is; the system would kill the process.
    """
    needed, available = bytes_per_pixel * width * height, physical_memory()
    if available is not None and needed > available:
        raise OptionError(
            f"a size of {width}×{height} pixels takes about {needed / 1e9:.0f} GB of memory and "
            f"this machine has {available / 1e9:.0f}; choose a smaller --size"
        )
