"""Fakes of CuPy and of ONNX Runtime's CUDA build that record the calls to them."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # tools is not installed

from tools.gpu_check.stand_in import COMPILER_IS_MISSING, HostKernel, stand_in

__all__ = ["COMPILER_IS_MISSING", "CPU", "CUDA", "FakeRuntime", "HostKernel", "fake_cupy"]

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def fake_cupy(*, gpus: int | Exception = 1) -> Any:
    """Return NumPy in CuPy's place; its attribute `events` lists the calls in order."""
    module, events = stand_in(), []

    def count() -> int:
        if isinstance(gpus, Exception):
            raise gpus
        return gpus

    class Stream:
        def __init__(self, *, non_blocking: bool) -> None:
            self.ptr = 4711
            events.append(("stream", non_blocking))

        def use(self) -> None:
            events.append("use stream")

    class Device:
        def __init__(self, index: int) -> None:
            self.index = index

        def use(self) -> None:
            events.append(("use device", self.index))

    module.cuda = SimpleNamespace(
        Stream=Stream, Device=Device, runtime=SimpleNamespace(getDeviceCount=count)
    )
    module._core.set_compute_type = lambda dtype, kind: events.append(("compute type", dtype, kind))
    module.events = events
    return module


class FakeRuntime:
    """A fake ONNX Runtime that records sessions, bound arrays and runs in order."""

    def __init__(self, *, available: tuple[str, ...] = (CUDA, CPU), loads: bool = True) -> None:
        self.available, self.loads = available, loads
        self.events: list[Any] = []
        self.bound: dict[str, tuple[Any, ...]] = {}
        self.error: Exception | None = None
        self.GraphOptimizationLevel = SimpleNamespace(ORT_ENABLE_EXTENDED=2)

    def get_available_providers(self) -> list[str]:
        return list(self.available)

    def preload_dlls(self) -> None:
        self.events.append("preload")

    def SessionOptions(self) -> Any:
        return SimpleNamespace(add_session_config_entry=lambda _key, _value: None)

    def InferenceSession(self, _model: bytes, _options: Any, *, providers: list[Any]) -> Any:
        self.events.append(("session", providers))
        active = [CUDA, CPU] if self.loads else [CPU]
        return SimpleNamespace(
            get_providers=lambda: active,
            get_inputs=lambda: [SimpleNamespace(name="v")],
            io_binding=lambda: self,
            run_with_iobinding=self._run,
        )

    def bind_input(self, name: str, *where: Any) -> None:
        self.bound[name] = where

    bind_output = bind_input

    def _run(self, binding: Any) -> None:
        assert binding is self
        if self.error is not None:
            raise self.error
        self.events.append("run")
