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
    return min(core_limits().values())


def core_limits() -> dict[str, int]:
    """Return what limits the number of cores of this process, by name."""
    if hasattr(os, "sched_getaffinity"):
        limits = {"processor affinity": len(os.sched_getaffinity(0))}
    else:
        limits = {"the machine": os.cpu_count() or 1}
    quota = cpu_limit()
    if quota is not None:
        limits["control groups"] = math.ceil(quota)
    return limits


def physical_memory() -> int | None:
    """Return the bytes of memory available to this process, or None if the system gives none.

    The lowest of the machine's memory, the limits of its container, and those of `ulimit`.
    """
    return min(memory_limits().values(), default=None)


def memory_limits() -> dict[str, int]:
    """Return what limits the memory of this process in bytes, by name."""
    limits = {"the machine": _machine(), "control groups": memory_limit(), **_resource_limits()}
    return {name: number for name, number in limits.items() if number is not None}


def _machine() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _resource_limits() -> dict[str, int]:
    """Return the limits of address space and of data that hold for this process (`ulimit`)."""
    if sys.platform == "win32":
        return {}
    kinds = {"ulimit -v": resource.RLIMIT_AS, "ulimit -d": resource.RLIMIT_DATA}
    limits = {name: resource.getrlimit(kind)[0] for name, kind in kinds.items()}
    return {name: limit for name, limit in limits.items() if limit != resource.RLIM_INFINITY}


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
