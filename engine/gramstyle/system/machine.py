"""The cores and the memory that this process may use."""

import math
import os
import sys

from gramstyle.errors import OptionError
from gramstyle.system.control_groups import cpu_limit, memory_limit

if sys.platform != "win32":
    import resource


def available_threads() -> int:
    """Return the number of processor cores that this process may use.

    The cores that it may run on, or the CPU quota of its container, rounded up, if that is lower.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    quota = cpu_limit()
    return cores if quota is None else min(cores, math.ceil(quota))


def physical_memory() -> int | None:
    """Return the bytes of memory available to this process, or None if the system gives none.

    The lowest of the machine's memory, the limits of its container, and those of `ulimit`.
    """
    found = [_machine(), memory_limit(), *_resource_limits()]
    return min((number for number in found if number is not None), default=None)


def _machine() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _resource_limits() -> list[int]:
    """Return the limits of address space and of data that hold for this process (`ulimit`)."""
    if sys.platform == "win32":
        return []
    limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return [limit for limit in limits if limit != resource.RLIM_INFINITY]


def check_memory(width: int, height: int, *, bytes_per_pixel: int, option: str = "--size") -> None:
    """Refuse an image size for which the machine has too little memory.

    The message says which option to make smaller.

    Raises
    ------
    OptionError
        If the image needs more memory than there is; the system would kill the process.
    """
    needed, available = bytes_per_pixel * width * height, physical_memory()
    if available is not None and needed > available:
        raise OptionError(
            f"a size of {width}×{height} pixels takes about {needed / 1e9:.0f} GB of memory and "
            f"this machine has {available / 1e9:.0f}; choose a smaller {option}"
        )
