"""ONNX Runtime's responses against the plain network in float64, and what a session promises."""

import sys
from collections.abc import Mapping

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Pooling
from gramstyle.engines import onnx_session as session_module
from gramstyle.engines.onnx_session import Session, load_runtime
from gramstyle.errors import ModelError, RuntimeMissingError
from gramstyle.model.onnx_file import Model

# Relative to a layer's norm. float32 rounds at 6e-8, and each of up to sixteen layers adds a
# few roundings of sums of up to 4608 products: 4e-7 was seen on the real network.
FLOAT32 = 1e-5


def session_of(
    model: Model, deepest: str, pooling: Pooling = "max", *, threads: int = 1
) -> Session:
    return Session(
        model.runnable([deepest], pooling), model.network.until([deepest]).shapes, threads=threads
    )


def image(rng: np.random.Generator, height: int, width: int) -> Array:
    """A network input: an image's values with the mean subtracted."""
    return rng.uniform(-124, 151, (3, height, width)).astype(np.float32)


def worst_error(responses: Mapping[str, Array], model: Model, v: Array, pooling: Pooling) -> float:
    """The largest error of a layer, relative to its norm, against the pass in float64."""
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
def test_the_responses_are_those_of_the_plain_network(
    size: tuple[int, int], pooling: Pooling, tiny_model: Model, rng: np.random.Generator
) -> None:
    v = image(rng, *size)
    responses = session_of(tiny_model, "pool5", pooling)(v)
    assert len(responses) == 21
    assert worst_error(responses, tiny_model, v, pooling) < FLOAT32


@pytest.mark.real_model
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_real_responses_are_those_of_the_plain_network(
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


def test_an_input_of_another_type_or_layout_is_the_same_image(
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


def test_images_of_one_size_share_their_arrays(tiny_model: Model, rng: np.random.Generator) -> None:
    session = session_of(tiny_model, "conv2_1")
    first = session(image(rng, 20, 24))
    before, copy = addresses(first), first["conv2_1"].copy()
    v = image(rng, 20, 24)
    second = session(v)
    assert addresses(second) == before
    assert not np.array_equal(first["conv2_1"], copy)  # overwritten, as the session says
    assert worst_error(second, tiny_model, v, "max") < FLOAT32


def test_an_image_of_another_size_takes_the_memory_of_the_one_before_and_no_more(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    session = session_of(tiny_model, "conv2_1")
    for size in ((20, 24), (24, 20), (16, 16), (40, 30), (20, 24)):  # tiles differ in size
        v = image(rng, *size)
        before = {id(F.base) for F in session._responses.values()}
        responses = session(v)
        assert responses["conv1_1"].shape == (4, *size)
        assert worst_error(responses, tiny_model, v, "max") < FLOAT32
        if before and size != (40, 30):  # the one that is larger than all before
            assert {id(F.base) for F in responses.values()} == before


# Without a runtime, or without a model


def test_a_missing_runtime_is_one_line_with_the_extra_to_install(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # an import then fails
    with pytest.raises(RuntimeMissingError) as caught:
        session_of(tiny_model, "conv1_1")
    assert 'pip install "gramstyle[cpu]"' in str(caught.value)
    assert str(caught.value).isprintable()


def test_two_runtimes_are_one_line_with_both_names_and_the_remedy(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_is_installed", lambda _: True)
    with pytest.raises(RuntimeMissingError) as caught:
        session_of(tiny_model, "conv1_1")
    message = str(caught.value)
    assert "onnxruntime and onnxruntime-gpu are both installed" in message
    assert 'pip install "gramstyle[cpu]"' in message
    assert message.isprintable()


@pytest.mark.parametrize("installed", [{"onnxruntime"}, {"onnxruntime-gpu"}, set()])
def test_one_runtime_of_any_name_is_used(
    installed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # None by name: a build of one's own, whose distribution is called something else.
    monkeypatch.setattr(session_module, "_is_installed", lambda name: name in installed)
    assert load_runtime().__name__ == "onnxruntime"


def test_what_is_installed_is_known_by_the_distributions_name() -> None:
    assert session_module._is_installed("numpy")
    assert not session_module._is_installed("gramstyle-has-no-such-neighbour")


@pytest.mark.parametrize("data", [b"", b"not a model", bytes(range(256)) * 8])
def test_bytes_that_are_no_model_are_one_line(data: bytes, tiny_model: Model) -> None:
    with pytest.raises(ModelError) as caught:
        Session(data, tiny_model.network.shapes, threads=1)
    assert str(caught.value).startswith("ONNX Runtime does not accept the model")
    assert str(caught.value).isprintable()


def test_a_run_that_fails_is_one_line_that_names_the_size(
    tiny_model: Model, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Exhausted:
        """ONNX Runtime without the memory for an image."""

        def io_binding(self) -> "Exhausted":
            return self

        def bind_input(self, *_: object) -> None:
            pass

        bind_output = bind_input

        def run_with_iobinding(self, _: object) -> None:
            raise RuntimeError("failed to allocate memory")

    run = session_of(tiny_model, "conv1_1")
    monkeypatch.setattr(run, "_session", Exhausted())
    with pytest.raises(ModelError, match=r"40×32 pixels \(failed to allocate memory\).*--size$"):
        run(image(rng, 32, 40))
