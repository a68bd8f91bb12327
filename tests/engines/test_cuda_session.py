"""The forward pass on a GPU, tested without one: the calls to CuPy and ONNX Runtime."""

import sys
from typing import Any

import numpy as np
import pytest

from fake_cuda import CPU, CUDA, FakeRuntime, fake_cupy
from gramstyle.engines.cuda.device import Device, open_device
from gramstyle.engines.cuda.session import CudaSession
from gramstyle.errors import ModelError, RuntimeMissingError


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = fake_cupy(gpus=2)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def opened(
    monkeypatch: pytest.MonkeyPatch, runtime: FakeRuntime, *, tf32: bool = False
) -> tuple[CudaSession, Device]:
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    device = open_device(tf32=tf32, index=1)
    return CudaSession(b"graph", shapes, device=device), device


def shapes(H: int, V: int) -> dict[str, tuple[int, int, int]]:
    return {"conv1_1": (4, H, V), "pool1": (4, H // 2, V // 2)}


@pytest.mark.parametrize("tf32", [False, True])
def test_the_provider_gets_the_stream_and_the_tf32_setting_of_the_device(
    cupy: Any, monkeypatch: pytest.MonkeyPatch, tf32: bool
) -> None:
    runtime = FakeRuntime()
    opened(monkeypatch, runtime, tf32=tf32)
    [(_, [(name, options)])] = [each for each in runtime.events if each[0] == "session"]
    assert name == CUDA
    # ONNX Runtime takes options as strings.
    assert options == {
        "device_id": "1",
        "user_compute_stream": "4711",
        "use_tf32": str(int(tf32)),
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }


def test_input_and_outputs_are_bound_by_their_addresses_on_the_gpu(
    cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = FakeRuntime()
    run, _ = opened(monkeypatch, runtime)
    v = cupy.zeros((3, 8, 6), dtype=np.float32)
    responses = run(v)
    assert {name: F.shape for name, F in responses.items()} == shapes(8, 6)
    assert runtime.bound["v"] == ("cuda", 1, np.float32, (1, 3, 8, 6), v.data.ptr)
    for name, F in responses.items():
        assert F.dtype == np.float32
        assert runtime.bound[name] == ("cuda", 1, np.float32, (1, *F.shape), F.data.ptr)
    assert runtime.events[-1] == "run"


def test_an_input_of_another_type_or_order_is_bound_as_a_contiguous_copy(
    cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = opened(monkeypatch, runtime := FakeRuntime())
    v = cupy.zeros((3, 8, 6), dtype=np.float64)[::-1]
    run(v)
    assert runtime.bound["v"][3] == (1, 3, 8, 6)
    assert runtime.bound["v"][4] != v.data.ptr


def test_the_outputs_are_allocated_again_only_when_the_size_changes(
    cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = opened(monkeypatch, runtime := FakeRuntime())
    found = [
        dict(run(cupy.zeros((3, height, 6), dtype=np.float32)))["conv1_1"] for height in (8, 8, 10)
    ]
    assert found[0] is found[1]
    assert runtime.bound["conv1_1"][3:] == ((1, 4, 10, 6), found[2].data.ptr)


def test_the_cuda_libraries_are_loaded_before_the_session_opens(
    cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(monkeypatch, runtime := FakeRuntime())
    assert [each if isinstance(each, str) else each[0] for each in runtime.events] == [
        "preload",
        "session",
    ]


def test_a_runtime_without_preload_dlls_opens_a_session(
    cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(FakeRuntime, "preload_dlls")
    opened(monkeypatch, runtime := FakeRuntime())
    assert [each[0] for each in runtime.events] == ["session"]


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        (FakeRuntime(available=(CPU,)), "computes on the CPU only; choose --engine cupy"),
        (FakeRuntime(loads=False), "cannot load its CUDA provider: CUDA's or cuDNN's libraries"),
    ],
)
def test_a_runtime_that_would_silently_use_the_cpu_is_refused(
    cupy: Any, monkeypatch: pytest.MonkeyPatch, runtime: FakeRuntime, expected: str
) -> None:
    with pytest.raises(RuntimeMissingError, match=expected) as caught:
        opened(monkeypatch, runtime)
    assert "onnxruntime-gpu[cuda,cudnn]" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("no"), MemoryError("out of memory")])
def test_the_error_of_a_failed_run_names_the_image_size_and_the_remedy(
    cupy: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    run, _ = opened(monkeypatch, runtime := FakeRuntime())
    runtime.error = error
    with pytest.raises(ModelError, match=r"6×8 pixels \((no|out of memory)\).*smaller --size"):
        run(cupy.zeros((3, 8, 6), dtype=np.float32))


def test_the_installed_runtime_is_refused_if_it_has_no_cuda(cupy: Any) -> None:
    runtime = pytest.importorskip("onnxruntime")
    if CUDA in runtime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(RuntimeMissingError, match="computes on the CPU only"):
        CudaSession(b"graph", shapes, device=open_device(tf32=False))
