"""The names that public files give to VGG-19's tensors, and what is refused of them."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model import vgg19
from gramstyle.model.naming import find_convolutions
from gramstyle.model.sources.tensors import StoredTensor

LAYERS = [f"conv{b}_{k}" for b, n in enumerate((2, 2, 4, 4, 4), 1) for k in range(1, n + 1)]
# Where torchvision's VGG-19 has its convolutions, from its documentation.
TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
WIDTHS = (2, 2, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6)

Names = list[str]


def torchvision(prefix: str = "") -> Names:
    return [f"{prefix}features.{index}" for index in TORCHVISION]


def keras() -> Names:
    return [layer.replace("conv", "block").replace("_", "_conv") for layer in LAYERS]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG-19 with a few filters a layer."""
    monkeypatch.setattr(vgg19, "BLOCKS", ((2,) * 2, (3,) * 2, (4,) * 4, (5,) * 4, (6,) * 4))


def arrays(names: Names) -> dict[str, Array]:
    rng = np.random.default_rng(3)
    tensors, channels = {}, 3
    for name, N in zip(names, WIDTHS, strict=True):
        tensors[f"{name}.weight"] = rng.standard_normal((N, channels, 3, 3)).astype(np.float32)
        tensors[f"{name}.bias"] = rng.standard_normal(N).astype(np.float32)
        channels = N
    return tensors


def stored(held: dict[str, Array]) -> dict[str, StoredTensor]:
    return {k: StoredTensor(v.shape, v.dtype, lambda v=v: v) for k, v in held.items()}


def refusal(held: dict[str, Array]) -> str:
    def unread() -> Array:
        raise AssertionError("a tensor was read before all were judged")

    tensors = {k: StoredTensor(v.shape, v.dtype, unread) for k, v in held.items()}
    with pytest.raises(ModelError) as caught:
        find_convolutions(tensors)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        torchvision(),
        torchvision("module."),
        torchvision("state_dict.model.vgg."),
        [str(index) for index in TORCHVISION],
        [f"chain.{layer}" for layer in LAYERS],
        LAYERS,
        [f"net.{layer}" for layer in LAYERS],
        keras(),
    ],
)
def test_every_family_of_names_gives_the_sixteen_layers(names: Names) -> None:
    held = arrays(names)
    extra = {"classifier.0.weight": np.zeros((9, 9)), "fc6.bias": np.zeros(4)}
    found = find_convolutions(stored(held | extra))
    assert [c.name for c in found] == LAYERS
    for convolution, name in zip(found, names, strict=True):
        np.testing.assert_array_equal(convolution.W, held[f"{name}.weight"])
        np.testing.assert_array_equal(convolution.b, held[f"{name}.bias"])


@pytest.mark.parametrize("dtype", ["<f2", "<f8", ">f4"])
def test_other_floats_become_float32(dtype: str) -> None:
    held = {name: array.astype(dtype) for name, array in arrays(LAYERS).items()}
    for convolution in find_convolutions(stored(held)):
        assert (convolution.W.dtype, convolution.b.dtype) == (np.float32, np.float32)
        expected = held[f"{convolution.name}.weight"].astype(np.float32)
        np.testing.assert_array_equal(convolution.W, expected)


def without(*keys: str) -> Callable[[dict[str, Array]], dict[str, Array]]:
    return lambda held: {k: v for k, v in held.items() if k not in keys}


def holding(key: str, array: Array) -> Callable[[dict[str, Array]], dict[str, Array]]:
    return lambda held: held | {key: array}


def glued(held: dict[str, Array]) -> dict[str, Array]:
    return {f"my{name}": array for name, array in arrays(LAYERS).items()}


def vgg16(held: dict[str, Array]) -> dict[str, Array]:
    """Three convolutions in the later blocks: torch's places shift."""
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    return {f"features.{place}.weight": np.zeros((4, 4, 3, 3), np.float32) for place in places}


def batch_normalised(held: dict[str, Array]) -> dict[str, Array]:
    return held | {"features.1.running_mean": np.zeros(2, np.float32)}


def two_networks(held: dict[str, Array]) -> dict[str, Array]:
    return {f"{side}.{k}": v for side in ("teacher", "student") for k, v in held.items()}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda _: {}, ["'features.0.weight'", "found no tensor at all"]),
        (lambda _: {"fc.weight": np.zeros(3)}, ["'conv1_1.weight'", "found 'fc.weight'"]),
        (
            without("features.34.weight"),
            ["sixteen", "31 of their 32 tensors", "no 'features.34.weight'"],
        ),
        (without("features.0.bias"), ["31 of their 32 tensors", "no 'features.0.bias'"]),
        (glued, ["'features.0.weight'", "found 'myconv1_1.weight'"]),
        (vgg16, ["sixteen", "found 10 of their 32", "another network"]),
        (batch_normalised, ["plain VGG-19", "batch normalisation"]),
        (two_networks, ["one VGG-19, found 2", "'student.'", "'teacher.'"]),
        (
            holding("features.2.weight", np.zeros((3, 2, 3, 3), np.float32)),
            ["(2, 2, 3, 3) for conv1_2", "found float32 of shape (3, 2, 3, 3)"],
        ),
        (
            holding("features.2.weight", np.zeros((2, 2, 3, 3), np.int64)),
            ["floats", "found int64"],
        ),
        (
            holding("features.2.bias", np.zeros((2, 1), np.float32)),
            ["(2,) for conv1_2", "(2, 1)"],
        ),
    ],
)
def test_what_is_not_vgg19_is_refused_with_what_was_expected_and_found_unread(
    edit: Callable[[dict[str, Array]], dict[str, Array]], words: list[str]
) -> None:
    message = refusal(edit(arrays(torchvision())))
    for word in words:
        assert word in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key", ["conv3_2.weight", "conv3_2.bias"])
def test_values_that_are_no_numbers_are_refused(key: str, value: float) -> None:
    held = arrays(LAYERS)
    held[key].flat[1] = value
    with pytest.raises(ModelError, match=r"expected numbers in conv3_2, found NaN"):
        find_convolutions(stored(held))


def test_a_double_beyond_float32_is_refused() -> None:
    held = arrays(LAYERS)
    held["conv1_1.weight"] = held["conv1_1.weight"].astype(np.float64) * 1e300
    with pytest.raises(ModelError, match=r"expected numbers in conv1_1"):
        find_convolutions(stored(held))


def test_an_absurd_shape_is_refused_before_memory_is_taken() -> None:
    tensors = stored(arrays(LAYERS))
    tensors["conv1_1.weight"] = StoredTensor(
        (2**40, 3, 3, 3), np.dtype("f4"), lambda: pytest.fail("it was read")
    )
    with pytest.raises(ModelError, match=r"found float32 of shape \(1099511627776, 3, 3, 3\)"):
        find_convolutions(tensors)


def test_a_tensor_that_loads_in_another_shape_is_refused() -> None:
    tensors = stored(arrays(LAYERS))
    whole = tensors["conv1_1.bias"]
    tensors["conv1_1.bias"] = StoredTensor(whole.shape, whole.dtype, lambda: whole.load()[:1])
    with pytest.raises(ModelError, match=r"expected conv1_1's \(2,\) values, found \(1,\)"):
        find_convolutions(tensors)


def test_vgg19s_own_shapes_are_those_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    shapes: Iterator[tuple[int, ...]] = (shape for *_, shape in vgg19.convolution_shapes())
    assert sum(int(np.prod(shape)) for shape in shapes) == 20_018_880
