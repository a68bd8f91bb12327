"""Engines, devices and optimisers: which there are, what goes together, and that all agree."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from fake_cuda import FakeRuntime, fake_cupy
from gramstyle.cli import main
from gramstyle.core.arrays import Array
from gramstyle.engines import onnx_session as session
from gramstyle.engines import registry
from gramstyle.engines.cuda import session as cuda_session
from gramstyle.engines.cuda.kernels import DeviceKernels
from gramstyle.engines.cuda.session import CudaSession
from gramstyle.engines.registry import ENGINES, check_packages, default_engine
from gramstyle.errors import OptionError, RuntimeMissingError
from gramstyle.model import Model
from gramstyle.run.options import OPTIMISERS, Options
from gramstyle.run.plan import plan_run
from gramstyle.run.prepare import prepare
from gramstyle.run.transfer import execute, transfer

ON_CPU = [name for name in ENGINES if "cpu" in ENGINES[name].devices]


@pytest.fixture
def images(rng: np.random.Generator) -> tuple[Array, Array]:
    photo, painting = rng.uniform(size=(24, 20, 3)), rng.uniform(size=(18, 26, 3))
    return photo, painting


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engine": "fortran"}, "engine must be one of numpy, winograd, hybrid, onnx, cupy"),
        ({"device": "tpu"}, "device must be cpu or cuda, not 'tpu'"),
        ({"engine": "cupy"}, "the engine cupy does not run on cpu; .* give --device cuda"),
        ({"engine": "numpy", "device": "cuda"}, "numpy does not run on cuda; .* --device cpu"),
        ({"tf32": True}, "tf32 is for GPUs; add --device cuda"),
        ({"optimiser": "adam"}, "optimiser must be own or scipy, not 'adam'"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_remedy(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        Options(**given)


def test_what_is_not_given_follows_from_the_device() -> None:
    cpu, gpu = Options(), Options(device="cuda")
    assert (cpu.runs_on, cpu.minimises_by) == ("winograd", "own")
    assert (gpu.runs_on, gpu.minimises_by) == ("cupy", "own")
    assert Options(engine="numpy", optimiser="own").minimises_by == "own"


def test_all_engines_agree_at_the_start(images: tuple[Array, Array], tiny_model_path: Path) -> None:
    found = {}
    for name in ON_CPU:
        options = Options(size=24, engine=name, init="noise", threads=2)
        with prepare(*images, options, model=tiny_model_path) as prepared:
            assert prepared.settings.to_json()["engine"] == name
            found[name] = prepared.loss_and_gradient(prepared.start)
    truth = found["numpy"]
    for name, evaluation in found.items():
        # float32 sums in another order, and 1e-6 for Winograd's transforms.
        assert evaluation.loss == pytest.approx(truth.loss, rel=1e-5), name
        apart = np.linalg.norm(evaluation.gradient - truth.gradient)
        assert apart < 1e-5 * np.linalg.norm(truth.gradient), name


@pytest.mark.parametrize("engine", ON_CPU)
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_every_engine_goes_with_every_optimiser(
    engine: Any, optimiser: Any, images: tuple[Array, Array], tiny_model_path: Path
) -> None:
    options = Options(size=24, engine=engine, optimiser=optimiser, iterations=8)
    image, record = transfer(*images, options, model=tiny_model_path)
    assert image.size == (20, 24)
    assert record.settings.to_json()["optimiser"] == optimiser
    losses = [each.loss for each in record.losses]
    assert losses[-1] < 0.9 * losses[0]
    assert losses == sorted(losses, reverse=True)


def test_the_command_takes_them_and_the_image_says_so(
    images: tuple[Array, Array], tiny_model_path: Path, tmp_path: Path
) -> None:
    for name, pixels in zip(("photo.png", "painting.png"), images, strict=True):
        PIL.Image.fromarray((pixels * 255).astype(np.uint8)).save(tmp_path / name)
    code = main([
        "transfer", str(tmp_path / "photo.png"), str(tmp_path / "painting.png"),
        "-o", str(tmp_path / "out.png"), "--model", str(tiny_model_path), "--size", "24",
        "--iterations", "2", "--engine", "onnx", "--optimiser", "own", "--quiet",
    ])  # fmt: skip
    assert code == 0
    with PIL.Image.open(tmp_path / "out.png") as image:
        settings = json.loads(image.info["gramstyle"])
    assert (settings["engine"], settings["optimiser"]) == ("onnx", "own")
    assert settings["device"] == "cpu"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """CuPy and ONNX Runtime for CUDA as stand-ins that compute in NumPy."""
    cupy = fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    runtime = FakeRuntime()
    for module in (session, cuda_session):
        monkeypatch.setattr(module, "load_runtime", lambda: runtime)
    return cupy


@pytest.mark.parametrize("engine", ["cupy", "cupy-onnx"])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_run_on_a_gpu_goes_from_images_to_an_image(
    optimiser: Any,
    engine: str,
    gpu: Any,
    images: tuple[Array, Array],
    tiny_model: Model,
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = tiny_model.network.until(["conv5_1"]).pooled_by("avg").padded_by("replicate")

    def forward(_self: CudaSession, v: Array) -> dict[str, Array]:
        """What the graph would give, by the readable network, where it would lie."""
        v = np.array(v, np.float32, subok=False)
        return {name: gpu.asarray(F) for name, F in network.forward(v).items()}

    monkeypatch.setattr(CudaSession, "__call__", forward)
    options = Options(
        size=24, device="cuda", engine=engine, tf32=True, optimiser=optimiser, iterations=5
    )
    with prepare(*images, options, model=tiny_model_path) as prepared:
        assert isinstance(prepared.objective.kernels, DeviceKernels)
        assert isinstance(prepared.start, gpu.ndarray) == (optimiser == "own")
        assert ("compute type", "float32", 7) in gpu.events  # TF32
    told: list[type] = []
    plan = plan_run(*images, options, model=tiny_model_path)
    found = execute(plan, callback=lambda progress: told.append(type(progress.x)))
    assert set(told) == {np.ndarray}  # callbacks get NumPy arrays
    assert found.image.size == (20, 24)
    # The same on the CPU, in an engine that has nothing in common with it but the formulas.
    options = Options(size=24, engine="winograd", optimiser=optimiser, iterations=5)
    expected = transfer(*images, options, model=tiny_model_path)
    losses = [[each.loss for each in record.losses] for record in (found.record, expected.record)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)  # five steps of float32 noise


def test_the_default_engine_of_a_gpu_needs_no_onnx_runtime(
    gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise RuntimeMissingError("there is no ONNX Runtime with CUDA")

    monkeypatch.setattr(registry, "check_runtime", missing)
    check_packages(default_engine("cuda"), "cuda")
    for engine in ("cupy-onnx", "onnx"):
        with pytest.raises(RuntimeMissingError, match="no ONNX Runtime with CUDA"):
            check_packages(engine, "cuda")


def test_without_cupy_a_gpu_is_refused_in_one_line(
    images: tuple[Array, Array], tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with (
        pytest.raises(
            RuntimeMissingError, match=r'CuPy cannot be loaded .* "cupy-cuda13x\[ctk\]>='
        ),
        prepare(*images, Options(size=24, device="cuda"), model=tiny_model_path),
    ):
        pass
