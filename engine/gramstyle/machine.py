"""What the machine offers."""

import os

from gramstyle.errors import OptionError


def available_threads() -> int:
    """Return how many processor cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_memory() -> int | None:
    """Return how many bytes of memory the machine has, or None where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def check_memory(width: int, height: int, *, bytes_per_pixel: int) -> None:
    """Refuse a size that could only end with the system killing the process.

    Raises
    ------
    OptionError
        If the machine has less memory than that.
    """
    needed, there = bytes_per_pixel * width * height, physical_memory()
    if there is not None and needed > there:
        raise OptionError(
            f"a size of {width}×{height} pixels takes about {needed / 1e9:.0f} GB of memory and "
            f"this machine has {there / 1e9:.0f}; choose a smaller --size"
        )
