"""Opening a GPU: the calls to CuPy, and a one-line error for each thing that can be missing."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from fake_cuda import fake_cupy
from gramstyle.engines.cuda.device import open_device
from gramstyle.errors import OptionError, RuntimeMissingError


def test_one_stream_other_than_the_null_stream_runs_all_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy := fake_cupy(gpus=3))
    device = open_device(tf32=False, index=2)
    assert (device.xp, device.index, device.tf32) == (cupy, 2, False)
    assert device.stream.ptr != 0
    # A stream belongs to the GPU that is current when it is created.
    assert [each for each in cupy.events if each[0] != "compute type"] == [
        ("use device", 2),
        ("stream", True),
        "use stream",
    ]


@pytest.mark.parametrize(("tf32", "kind"), [(False, 1), (True, 7)])
def test_tf32_is_switched_on_and_off(
    tf32: bool, kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy := fake_cupy())
    open_device(tf32=tf32)
    assert ("compute type", "float32", kind) in cupy.events


def test_arrays_are_copied_to_the_gpu_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy := fake_cupy())
    device = open_device(tf32=False)
    on_gpu = device.to_device(np.arange(3.0))
    assert type(on_gpu) is cupy.ndarray
    assert type(device.to_host(on_gpu)) is np.ndarray
    np.testing.assert_array_equal(device.to_host(on_gpu), [0, 1, 2])


def test_a_missing_cupy_is_reported_in_one_line_with_the_extras(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(
        RuntimeMissingError, match=r"cupy-cuda13x\[ctk\].*cupy-cuda12x\[ctk\]"
    ) as caught:
        open_device(tf32=False)
    assert "\n" not in str(caught.value)


def test_a_missing_gpu_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: Any = RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected\nmore")
    for gpus, index, expected in (
        (missing, 0, "no CUDA-capable device is detected.*driver.*--device"),
        (2, 2, "there is no GPU 2; CUDA finds 2"),
        (2, -1, "there is no GPU -1; CUDA finds 2"),
        (0, 0, "there is no GPU 0; CUDA finds 0"),
    ):
        monkeypatch.setitem(sys.modules, "cupy", fake_cupy(gpus=gpus))
        with pytest.raises(OptionError, match=expected) as caught:
            open_device(tf32=False, index=index)
        assert "\n" not in str(caught.value)


def test_cupy_is_not_imported_before_a_gpu_is_opened() -> None:
    program = (
        "import sys\nfrom gramstyle.engines.cuda import device, kernels, session\n"
        "import gramstyle.optimise.lbfgsb\n"
        "print('cupy' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["False", "False"]
