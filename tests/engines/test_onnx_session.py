"""ONNX Runtime's responses against the plain network in float64, and the session's guarantees."""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Pooling
from gramstyle.core.layers import Padding
from gramstyle.engines.onnx_session import TELEMETRY, Session, load_runtime
from gramstyle.errors import ModelError, RuntimeMissingError
from gramstyle.model.onnx_file import Model

# Relative to a layer's norm. float32 rounds at 6e-8, and each of up to sixteen layers adds a few
# roundings of sums of up to 4608 products. The real network gave 4e-7.
FLOAT32 = 1e-5


def session_of(
    model: Model, deepest: str, pooling: Pooling = "max", *, threads: int = 1
) -> Session:
    return Session(
        model.runnable([deepest], pooling), model.network.until([deepest]).shapes, threads=threads
    )


def image(rng: np.random.Generator, height: int, width: int) -> Array:
    """Return a network input: the values of an image with the mean subtracted."""
    return rng.uniform(-124, 151, (3, height, width)).astype(np.float32)


def worst_error(responses: Mapping[str, Array], model: Model, v: Array, pooling: Pooling) -> float:
    """Return the largest error of a layer against float64, relative to the layer's norm."""
    network = model.network.until(responses).pooled_by(pooling).astype(np.float64)
    expected = network.forward(v.astype(np.float64))
    assert list(responses) == list(expected)
    assert all(F.dtype == np.float32 for F in responses.values())
    return max(
        float(np.linalg.norm(responses[name] - F) / np.linalg.norm(F))
        for name, F in expected.items()
    )


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("size", [(32, 32), (37, 53), (63, 34), (32, 95)])
def test_the_responses_equal_those_of_the_plain_network(
    size: tuple[int, int], pooling: Pooling, tiny_model: Model, rng: np.random.Generator
) -> None:
    v = image(rng, *size)
    responses = session_of(tiny_model, "pool5", pooling)(v)
    assert len(responses) == 21
    assert worst_error(responses, tiny_model, v, pooling) < FLOAT32


@pytest.mark.parametrize("padding", ["replicate", "reflect", "circular"])
@pytest.mark.parametrize("size", [(32, 32), (37, 53)])
def test_the_responses_equal_those_of_the_plain_network_with_each_padding(
    size: tuple[int, int], padding: Padding, tiny_model: Model, rng: np.random.Generator
) -> None:
    v = image(rng, *size)
    network = tiny_model.network.until(["conv5_1"]).pooled_by("avg").padded_by(padding)
    graph = tiny_model.runnable(["conv5_1"], "avg", padding)
    found = Session(graph, network.shapes, threads=1)(v)
    expected = network.astype(np.float64).forward(v.astype(np.float64))
    assert list(found) == list(expected)
    for name, F in expected.items():
        assert np.linalg.norm(found[name] - F) < FLOAT32 * np.linalg.norm(F)


@pytest.mark.real_model
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_real_responses_equal_those_of_the_plain_network(
    pooling: Pooling, real_model: Model, rng: np.random.Generator
) -> None:
    v = image(rng, 48, 64)
    responses = session_of(real_model, "conv5_1", pooling, threads=2)(v)
    assert worst_error(responses, real_model, v, pooling) < FLOAT32


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same_responses(
    threads: int, tiny_model: Model, rng: np.random.Generator
) -> None:
    v = image(rng, 40, 45)
    responses = session_of(tiny_model, "conv3_1", threads=threads)(v)
    assert worst_error(responses, tiny_model, v, "max") < FLOAT32


def test_the_type_and_layout_of_the_input_do_not_matter(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    session = session_of(tiny_model, "conv2_1")
    v = image(rng, 20, 24)
    expected = {name: F.copy() for name, F in session(v).items()}
    reversed_twice = np.ascontiguousarray(v[::-1, :, ::-1])[::-1, :, ::-1]
    for same in (v.astype(np.float64), np.asfortranarray(v), reversed_twice):
        for name, F in session(same).items():
            np.testing.assert_array_equal(F, expected[name])


def addresses(responses: Mapping[str, Array]) -> dict[str, int]:
    return {name: F.ctypes.data for name, F in responses.items()}


def test_images_of_one_size_share_the_returned_arrays(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    session = session_of(tiny_model, "conv2_1")
    first = session(image(rng, 20, 24))
    before, copy = addresses(first), first["conv2_1"].copy()
    v = image(rng, 20, 24)
    second = session(v)
    assert addresses(second) == before
    assert not np.array_equal(first["conv2_1"], copy)  # overwritten, as documented
    assert worst_error(second, tiny_model, v, "max") < FLOAT32


def test_an_image_that_is_not_larger_uses_the_same_memory(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    session = session_of(tiny_model, "conv2_1")
    before = None
    for size in ((20, 24), (24, 20), (16, 16), (40, 30), (20, 24)):  # tiles differ in size
        v = image(rng, *size)
        responses = session(v)
        assert responses["conv1_1"].shape == (4, *size)
        assert worst_error(responses, tiny_model, v, "max") < FLOAT32
        memory = {id(F.base) for F in responses.values()}
        if before and size != (40, 30):  # the only size that is larger than all before it
            assert memory == before
        before = memory


# Without a runtime, or without a model


def test_a_missing_runtime_is_reported_in_one_line_with_the_package_to_install(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # an import then fails
    with pytest.raises(RuntimeMissingError) as caught:
        session_of(tiny_model, "conv1_1")
    assert 'pip install "onnxruntime>=' in str(caught.value)
    assert str(caught.value).isprintable()


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make the package metadata say that these distributions of ONNX Runtime are installed."""
    real = Distribution.from_name

    def from_name(name: str) -> Distribution | None:
        if not name.startswith("onnxruntime"):
            return real(name)
        if name not in names:
            raise PackageNotFoundError(name)
        return None

    monkeypatch.setattr(Distribution, "from_name", from_name)


def test_two_installed_runtimes_are_reported_in_one_line_with_the_remedy(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    with pytest.raises(RuntimeMissingError) as caught:
        session_of(tiny_model, "conv1_1")
    message = str(caught.value)
    assert "onnxruntime and onnxruntime-gpu are both installed" in message
    assert 'pip install "onnxruntime>=' in message
    assert message.isprintable()


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-gpu", "a-build-of-your-own"])
def test_a_single_runtime_is_used_whatever_its_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, name)
    assert load_runtime().__name__ == "onnxruntime"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="HOME is the home directory on Unix only")
@pytest.mark.parametrize("chosen", [None, "1", "0"])
def test_onnx_runtime_records_nothing_about_the_user_unless_the_user_says_so(
    chosen: str | None, tmp_path: Path
) -> None:
    environment = {name: v for name, v in os.environ.items() if name not in ("CI", TELEMETRY)}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment |= {} if chosen is None else {TELEMETRY: chosen}
    code = (
        "import os\nfrom gramstyle.engines.onnx_session import load_runtime\n"
        f"load_runtime().SessionOptions()\nprint(os.environ[{TELEMETRY!r}])"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, check=True, text=True, env=environment)
    assert found.stdout.strip() == (chosen or "1")
    if chosen != "0":
        assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("data", [b"", b"not a model", bytes(range(256)) * 8])
def test_bytes_that_are_not_a_model_are_reported_in_one_line(
    data: bytes, tiny_model: Model
) -> None:
    with pytest.raises(ModelError) as caught:
        Session(data, tiny_model.network.shapes, threads=1)
    assert str(caught.value).startswith("ONNX Runtime does not accept the model")
    assert str(caught.value).isprintable()


def test_the_error_of_a_failed_run_names_the_image_size_and_the_remedy(
    tiny_model: Model, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("failed to allocate memory")

    run = session_of(tiny_model, "conv1_1")
    monkeypatch.setattr(load_runtime().InferenceSession, "run_with_iobinding", fail)
    with pytest.raises(ModelError, match=r"40×32 pixels \(failed to allocate memory\).*--size$"):
        run(image(rng, 32, 40))
