"""The adapters of the conformance kit: gramstyle's engines, and the installed frameworks."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from conformance_cases import CASES
from fake_cuda import fake_cupy
from gramstyle.conformance import Case
from gramstyle.conformance.adapters import NAMES, dtypes_of, load
from gramstyle.conformance.adapters.statement import state
from gramstyle.conformance.comparing import Adapter
from gramstyle.conformance.real_network import real_case
from gramstyle.conformance.running import check, run
from gramstyle.errors import OptionError
from gramstyle.model import Model
from gramstyle.system.installing import install_command

# A framework compiles each shape separately, which takes seconds: these cover every operation.
FEW = (
    "relu-at-zero",
    "avg-pooling-odd",
    "max-pooling-odd",
    "max-pooling-ties",
    "preprocessing-caffe",
    "style-of-another-size",
    "author-content",
    "content-behind-the-relu",
)
FRAMEWORKS = {
    "torch": tuple(CASES),
    "torch_func": FEW,
    "torch_compile": ("author-content",),  # a minute for each case with every layer
    "tensorflow": FEW,
    "autograd": tuple(CASES),
    "jax": FEW,
    "tinygrad": FEW,
}
# Where frameworks choose other subgradients: autograd's maximum of Z and 0 passes half of the
# gradient at Z = 0, and its maximum of equal values shares the gradient.
KINK = "dF of conv1_1 is correct; the pass goes wrong between there and the pixels"
TIES = "the backward pass deviates first at dF of conv1_1"
DIFFERING = {
    "autograd": {"relu-at-zero": KINK, "max-pooling-ties": TIES},
    "tinygrad": {"max-pooling-ties": TIES},
}


def framework(name: str) -> Adapter:
    package = name.split("_")[0]
    pytest.importorskip(package, reason=f"{package} is not installed: make test-frameworks")
    try:
        return load(name)
    except OptionError as error:
        pytest.skip(str(error))  # tinygrad without a compiler


# Loading


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, included in NAMES.items()
        if included.package and name not in ("numpy_winograd", "cupy_engine")
    ],
)
def test_a_missing_framework_is_one_line_with_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    included = NAMES[name]
    module = included.place[0] or name
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"gramstyle.conformance.adapters.{module}", raising=False)
    with pytest.raises(OptionError) as caught:
        load(name, device="cuda" if name == "cupy" else "cpu")
    assert str(caught.value).startswith(f"{name} needs {included.package} (")
    assert str(caught.value).endswith(f"install it with: {install_command(included.extra)}")
    assert "\n" not in str(caught.value)


def test_no_framework_is_imported_before_it_is_used() -> None:
    program = (
        "import sys, gramstyle.cli.commands.conformance\n"
        "import gramstyle.conformance.adapters.numpy_plain\n"
        f"print(*sorted({set(NAMES) | {'pytest'}} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("name", "device", "words"),
    [
        ("numpy_plain", "tpu", "cpu or cuda, not 'tpu'"),
        ("numpy_plain", "cuda", "numpy_plain computes on the CPU"),
        ("numpy_strips", "cuda", "numpy_strips computes on the CPU"),
        ("onnxruntime", "cuda", "onnxruntime computes on the CPU"),
        ("os:getcwd", "cuda", "os:getcwd chooses its device itself"),
        ("nothing", "cpu", "there is no adapter 'nothing'"),
        ("os:sep", "cpu", "the module 'os' has no function 'sep'"),
        (":f", "cpu", "the module '' cannot be imported: ValueError"),
        ("raises_something:f", "cpu", "cannot be imported: ZeroDivisionError"),
    ],
)
def test_an_adapter_that_cannot_be_loaded_is_an_error_that_says_why(
    name: str, device: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raises_something.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(OptionError, match=words):
        load(name, device=device)


# gramstyle's own engines


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("name", ["numpy_strips", "onnxruntime"])
def test_the_fast_engines_pass_every_case_in_float32(name: str, case: Case) -> None:
    assert dtypes_of(name) == ("float32",)
    result = check(load(name), case, dtype="float32")
    assert result.passed, result


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_engine_of_a_gpu_passes_every_case(
    case: Case, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With NumPy in CuPy's place, and the CUDA kernels compiled for the processor."""
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy())
    assert dtype in dtypes_of("cupy_engine")
    result = check(load("cupy_engine", device="cuda"), case, dtype=dtype)
    assert result.passed, result


def test_the_engine_of_a_gpu_refuses_a_cpu_and_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy())
    with pytest.raises(OptionError, match="--device cuda"):
        load("cupy_engine")
    result = check(load("cupy_engine", device="cuda"), CASES["relu"], dtype="float16")
    assert "float32 or float64, not float16" in result.problem


def test_strips_refuse_any_other_float_type() -> None:
    result = check(load("numpy_strips"), CASES["relu"], dtype="float64")
    assert result.problem == "raised OptionError: strips compute in float32, not float64"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_readable_engine_keeps_the_float_type(dtype: str) -> None:
    case = CASES["content-behind-the-relu"]
    _, gradient, dF, *more = load("numpy_plain")(case.x.astype(dtype), case)
    further = [array for each in more for array in (each["hvp"], *each["dW"].values())]
    assert {array.dtype.name for array in (gradient, *dF.values(), *further)} == {dtype}


def test_the_readable_engine_computes_a_whole_objective_in_float16() -> None:
    result = check(load("numpy_plain"), CASES["objective"], dtype="float16")
    assert result.passed, result


def test_the_readable_engine_runs_on_cupy_arrays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a fake CuPy: NumPy with an array type that refuses NumPy's arrays, as CuPy's does."""

    class DeviceArray(np.ndarray):
        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
            assert not any(type(each) is np.ndarray for each in inputs)
            out = options.pop("out", None)
            result = getattr(ufunc, method)(*map(plain, inputs), **options)
            if out is None:
                return device(result)
            out[0][...] = device(result)
            return out[0]

    def plain(value: Any) -> Any:
        return value.view(np.ndarray) if isinstance(value, DeviceArray) else value

    def device(value: Any) -> Any:
        return value.view(DeviceArray) if type(value) is np.ndarray else value

    def on_device(function: Any) -> Any:
        return lambda *arguments, **options: device(function(*arguments, **options))

    def asnumpy(array: Any) -> Any:
        assert isinstance(array, DeviceArray)
        moved.append(array.shape)
        return plain(array)

    moved: list[tuple[int, ...]] = []
    fake = ModuleType("cupy")
    creating = ("asarray", "pad", "tensordot", "where", "zeros")
    fake.__dict__.update(vars(np) | {name: on_device(getattr(np, name)) for name in creating})
    fake.__dict__.update(ndarray=DeviceArray, asnumpy=asnumpy)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.delitem(sys.modules, "gramstyle.conformance.adapters.cupy", raising=False)
    case = CASES["content-behind-the-relu"]
    result = check(load("cupy", device="cuda"), case, dtype="float64")
    assert result.passed, result.problem
    assert len(moved) == len(result.comparisons) - 2  # the loss and jvp are numbers
    with pytest.raises(OptionError, match="--device cuda"):
        load("cupy")


# The numbers for the frameworks


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_frameworks_get_the_preprocessing_and_the_terms_of_the_case(case: Case) -> None:
    said = state(case, np.float64)
    v = (case.x[said.order] - said.mean) * said.scale
    assert np.array_equal(v, case.preprocessing.forward(case.x))
    assert list(said.content) == ([case.content.layer] if case.content else [])
    factors = {name: term.factor for name, term in case.style.items()}
    assert {name: term.factor for name, term in said.style.items()} == factors
    for name, regions in case.regions.items():
        for term, region in zip(said.regions[name], regions, strict=True):
            assert term.factor == region.factor
            assert term.m == sum(t * t for t in region.T.flat)
            np.testing.assert_array_equal(term.T, region.T.ravel())
            np.testing.assert_array_equal(term.target, region.A)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_a_statement_has_the_requested_float_type_and_terms_in_float32_or_wider(
    dtype: str,
) -> None:
    said = state(CASES["objective"], np.dtype(dtype))
    assert said.wide == {"float16": "float32"}.get(dtype, dtype)
    assert {said.mean.dtype.name, said.scale.dtype.name, said.layers[0].W.dtype.name} == {dtype}  # type: ignore[union-attr]
    targets = [term.target for term in (*said.content.values(), *said.style.values())]
    assert {target.dtype.name for target in targets} == {said.wide}


# The frameworks


@pytest.mark.frameworks
def test_the_graphs_that_onnx_ad_differentiates_are_right_where_it_can() -> None:
    pytest.importorskip("onnx_ad", reason="onnx-ad is not installed: make test-frameworks")
    report = run(load("onnx_ad"), CASES.values(), dtype="float32")
    refused = {"padding-replicate": "UnsupportedOperator", "padding-reflect": "UnsupportedOperator"}
    assert {result.case for result in report.failed} == set(refused)
    for result in report.failed:
        assert refused[result.case] in result.problem


@pytest.mark.frameworks
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_gradients_of_a_framework_are_the_truth_except_at_ties_and_kinks(name: str) -> None:
    report = run(framework(name), [CASES[each] for each in FRAMEWORKS[name]], dtype="float64")
    assert {result.case: result.where for result in report.failed} == DIFFERING.get(name, {})
    for result in report.failed:
        if result.where == TIES:
            assert "shared by equal values" in result.explanation


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["torch", "torch_func", "tensorflow", "jax"])
def test_most_frameworks_have_every_further_derivative(name: str) -> None:
    case = CASES["max-pooling-odd"]
    result = check(framework(name), case, dtype="float64")
    assert result.passed
    named = {each.quantity for each in result.comparisons}
    assert set(case.derivatives.quantities()) <= named


@pytest.mark.frameworks
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework_computes_in_the_image_s_float_type(name: str, dtype: str) -> None:
    case = CASES["content-behind-the-relu"]
    adapter = framework(name)
    _, gradient, dF, *_ = adapter(case.x.astype(dtype), case)
    assert {np.asarray(array).dtype.name for array in (gradient, *dF.values())} == {dtype}
    result = check(adapter, case, dtype=dtype)
    assert result.passed, result


@pytest.mark.frameworks
def test_the_moments_of_tensorflow_have_a_wrong_second_derivative() -> None:
    """Its variance stops the gradient by the mean: nothing in the first derivative, but there."""
    case = CASES["style-mean-std"]
    result = check(framework("tensorflow"), case, dtype="float64")
    assert result.where == "loss and gradient are correct; hvp deviates"


@pytest.mark.frameworks
@pytest.mark.real_model
@pytest.mark.parametrize("name", ["torch", "autograd", "jax"])
def test_the_gradient_of_the_real_network_by_a_framework_equals_the_engine_s(
    name: str, real_model: Model
) -> None:
    result = check(framework(name), real_case(real_model, 64), dtype="float64")
    assert result.passed, result
