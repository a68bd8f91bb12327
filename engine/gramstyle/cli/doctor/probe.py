"""The child process of an examination: it imports what might fail or crash, and answers in JSON.

It prints a line for each probe that its arguments name. What a package prints meanwhile does not
reach standard output.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def main(names: list[str]) -> None:
    """Print the answer to each probe, such as "import:numpy" or "model"."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for name in names:
            kind, _, argument = name.partition(":")
            answer: dict[str, Any] = {"probe": name}
            try:
                answer["answer"] = PROBES[kind](argument)
            except Exception as error:
                answer["problem"] = f"{type(error).__name__}: {error}"
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def _import(module: str) -> object:
    import_module(module)
    return None


def _engines(_argument: str) -> object:
    from gramstyle.engines.registry import ENGINES, check_packages, default_engine

    problems: dict[str, str | None] = {}
    for name, entry in ENGINES.items():
        try:
            check_packages(name, entry.devices[0])
            problems[name] = None
        except Exception as error:
            problems[name] = f"{error}"
    return {"default": default_engine(), "problems": problems}


def _budget(_argument: str) -> object:
    from gramstyle.run.inputs import memory_budget
    from gramstyle.run.options import Options

    return {"bytes": memory_budget(Options())}


def _model(_argument: str) -> object:
    from gramstyle.model import network_name, read_model
    from gramstyle.model.locate import cache_folder, find_model

    folder = cache_folder()
    found: dict[str, Any] = {"cache": None if folder is None else str(folder)}
    place = find_model()
    if place is None:
        return found
    found |= {"path": str(place.path), "source": place.source}
    try:
        model = read_model(place.path)
    except Exception as error:
        return {**found, "problem": f"{error}"}
    name = network_name(model.network, model.metadata)
    return {**found, "bytes": place.path.stat().st_size, "sha256": model.sha256, "name": name}


def _blas(_argument: str) -> object:
    import numpy as np  # noqa: F401 - loads the library
    from threadpoolctl import threadpool_info

    return {"libraries": [each for each in threadpool_info() if each.get("user_api") == "blas"]}


def _numba(_argument: str) -> object:
    from gramstyle.engines.winograd.masks import add_masked
    from gramstyle.system.compiling import cache_folder

    folder = cache_folder(add_masked.py_func)
    return {"cache": None if folder is None else str(folder)}


def _gpu(_argument: str) -> object:
    from gramstyle.engines.cuda.device import gpu_name, open_device

    device = open_device(tf32=False)
    return {"name": gpu_name(device.index)}


PROBES: Mapping[str, Callable[[str], object]] = {
    "import": _import,
    "engines": _engines,
    "budget": _budget,
    "model": _model,
    "blas": _blas,
    "numba": _numba,
    "gpu": _gpu,
}


if __name__ == "__main__":
    main(sys.argv[1:])
