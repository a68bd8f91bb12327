"""The conditions that the last bits of an engine's results depend on, besides package versions.

NumPy, OpenBLAS and Numba choose code for the processor when they are loaded. Environment variables
such as OPENBLAS_CORETYPE, NPY_DISABLE_CPU_FEATURES and NUMBA_CPU_NAME can change the choice.
"""

import platform
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from gramstyle.engines.cuda.device import gpu_name
from gramstyle.engines.registry import ENGINES
from gramstyle.engines.spec import DeviceName

# The names of these conditions.
NAMES = ("machine", "system", "processor", "BLAS kernel", "Numba's target", "GPU", "threads")


def rounding(engine: str, device: DeviceName, threads: int) -> dict[str, str]:
    """Return the conditions that the last bits of an engine's results depend on, by name."""
    entry = ENGINES[engine]
    values = (
        platform.machine(),
        platform.system(),
        processor_features(),
        blas_kernel(),
        # Numba also compiles the optimiser's loops on the CPU.
        numba_target() if entry.uses_numba or device == "cpu" else "",
        gpu_name() if device == "cuda" else "",
        str(threads) if entry.rounds_by_threads else "",
    )
    return dict(zip(NAMES, values, strict=True))


def processor_features() -> str:
    """Return the groups of processor instructions that NumPy uses here."""
    return " ".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", ()))


def blas_kernel() -> str:
    """Return the name, version and kernel of the BLAS that NumPy uses.

    SciPy may load its own BLAS, but nothing in a checkpoint is computed with it.
    """
    found = [each for each in threadpool_info() if each["user_api"] == "blas"]
    package = str(Path(np.__file__).parent)  # its libraries are in numpy.libs or numpy/.dylibs
    own = [each for each in found if each["filepath"].startswith(package)] or found
    return ", ".join(
        sorted(
            f"{each['internal_api']} {each['version']} {each.get('architecture', '')}".strip()
            for each in own
        )
    )


def numba_target() -> str:
    """Return the processor for which Numba compiles; empty without Numba."""
    try:
        from gramstyle.engines.winograd.simd import target
    except ImportError:  # the engine reports that when it is opened
        return ""
    return target()
