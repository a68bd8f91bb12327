"""The machine and the versions that the figures were measured with."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gramstyle.system.machine import available_threads, physical_memory

PACKAGES = ("gramstyle", "numpy", "scipy", "onnx", "onnxruntime", "numba", "torch")


def machine() -> dict[str, Any]:
    memory = physical_memory()
    return {
        "processor": processor(),
        "cores": available_threads(),
        "memory_bytes": memory,
        "system": f"{platform.system()} {platform.machine()}",
        "load_at_start": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str]:
    """Return the version of Python and of each package that is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    if "model name" not in facts:
        return platform.machine()
    numbers = f"family {facts.get('cpu family')}, model {facts.get('model')}"
    return f"{facts['model name']} ({numbers})"
