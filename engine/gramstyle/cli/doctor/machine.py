"""The cores, the memory, BLAS, the GPU, and the variables of the environment."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from gramstyle.cli.doctor.asking import Answer
from gramstyle.cli.doctor.finding import Finding
from gramstyle.system.installing import install_command
from gramstyle.system.machine import available_threads, core_limits, memory_limits

# The variables that change what gramstyle does, and how; the values of the last ones are secret.
VARIABLES = {
    "GRAMSTYLE_MODEL": "the model file",
    "TMPDIR": "the folder for temporary files",
    "XDG_CACHE_HOME": "the folder of the caches",
    "NUMBA_CACHE_DIR": "the folder of compiled code",
    "NUMBA_DISABLE_JIT": "1 switches compilation off, which the engine winograd needs",
    "NUMBA_CPU_NAME": "the processor that Numba compiles for",
    "OPENBLAS_CORETYPE": "the kernels of NumPy's matrix products",
    "OPENBLAS_NUM_THREADS": "the threads of BLAS outside of runs",
    "OMP_NUM_THREADS": "the threads of BLAS outside of runs",
    "MKL_NUM_THREADS": "the threads of BLAS outside of runs",
    "CUDA_VISIBLE_DEVICES": "the GPUs that may be used",
    "CUPY_TF32": "--tf32 replaces it",
    "ORT_DISABLE_TELEMETRY": "0 leaves ONNX Runtime's telemetry on",
    "NO_COLOR": "no colours",
    "COLUMNS": "the width of the output",
    "CI": "no progress bars",
}
SECRET = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
# A control group without a limit has a number near 2⁶³.
NO_LIMIT = 2**60
# NVIDIA's driver shows itself here on Linux.
DRIVER = Path("/proc/driver/nvidia/version")


def resources(answers: Mapping[str, Answer]) -> Iterator[Finding]:
    """Yield the threads and the memory budget of a run, and the limits that they come from."""
    section = "machine"
    cores = core_limits()
    memory = {name: number for name, number in memory_limits().items() if number < NO_LIMIT}
    threads = available_threads()
    yield Finding(section, "threads", f"{threads} (the lowest of {_listed(cores, str)})")
    limits = _listed(memory, _size)
    yield Finding(section, "memory", f"the lowest of {limits}" if memory else "unknown")
    budget = answers["budget"]
    if budget.problem:
        yield Finding(section, "memory budget", budget.problem, "broken", "repair the packages")
    else:
        share = "three quarters of the memory; --memory chooses another"
        size = "not limited" if not memory else f"{_size(budget.value['bytes'])}, {share}"
        yield Finding(section, "memory budget", size)


def blas(answers: Mapping[str, Answer]) -> Iterator[Finding]:
    """Yield the BLAS libraries of NumPy, with their kernels and threads."""
    answer = answers["blas"]
    if answer.problem:
        yield Finding("machine", "BLAS", answer.problem, "broken", "repair NumPy")
    for each in answer.value.get("libraries", ()):
        words = (each.get("internal_api"), each.get("version"), each.get("architecture"))
        text = " ".join(str(word) for word in words if word)
        threads = f"{each.get('num_threads')} threads; one during a run"
        yield Finding("machine", "BLAS", f"{text}, {threads}")


def gpu(answers: Mapping[str, Answer]) -> Iterator[Finding]:
    """Yield the GPU, if there is one."""
    answer = answers.get("gpu")
    if answer is not None and not answer.problem:
        yield Finding("machine", "GPU", f"{answer.value['name']}; --device cuda uses it")
    elif answer is not None:
        _, _, problem = answer.problem.partition(": ")
        remedy = "to use a GPU, install or update NVIDIA's driver"
        yield Finding("machine", "GPU", problem or answer.problem, "note", remedy)
    elif DRIVER.exists():
        remedy = f"to use it: {install_command('cuda13')} (CUDA 12: {install_command('cuda12')})"
        yield Finding("machine", "GPU", "NVIDIA's driver is here, CuPy is not", "note", remedy)
    else:
        yield Finding("machine", "GPU", "none found")


def variables() -> Iterator[Finding]:
    """Yield the variables of the environment that are set and change what gramstyle does."""
    for name, meaning in VARIABLES.items():
        if name in os.environ:
            yield Finding("environment", name, f"{os.environ[name]!r} ({meaning})")
    for name in SECRET:
        if name in os.environ:
            yield Finding("environment", name, "set (the proxy of downloads)")


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB"


def _listed(limits: Mapping[str, int], shown: Callable[[int], str]) -> str:
    return ", ".join(f"{name}: {shown(number)}" for name, number in limits.items())
