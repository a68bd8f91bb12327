"""Stand-ins for two small packages of gramstyle that a bare machine may lack."""

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


def provide() -> list[str]:
    """Put stand-ins in the place of missing packages; return their names.

    Without threadpoolctl the number of BLAS' threads is not limited, and without platformdirs the
    caches are in the folder for temporary files: neither is part of what is checked or measured.
    """
    made = []
    for name, make in (("threadpoolctl", _threadpoolctl), ("platformdirs", _platformdirs)):
        try:
            import_module(name)
        except ImportError:
            sys.modules[name] = make(name)
            made.append(name)
    return made


def _threadpoolctl(name: str) -> ModuleType:
    module: Any = ModuleType(name)
    none = SimpleNamespace(lib_controllers=[])
    module.ThreadpoolController = lambda: SimpleNamespace(select=lambda **_: none)
    module.threadpool_info = list
    found: ModuleType = module
    return found


def _platformdirs(name: str) -> ModuleType:
    module: Any = ModuleType(name)
    module.user_cache_path = lambda app, **_: Path(tempfile.gettempdir()) / app
    found: ModuleType = module
    return found
