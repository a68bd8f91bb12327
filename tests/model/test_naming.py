"""The naming schemes of published files, and the errors for other names."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.architecture import VGGS, Architecture
from gramstyle.model.convolutions import find_network
from gramstyle.model.sources.tensors import StoredTensor

LAYERS = [f"conv{b}_{k}" for b, n in enumerate((2, 2, 4, 4, 4), 1) for k in range(1, n + 1)]
# The indices of the convolutions in torchvision's VGG-19, from its documentation.
TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
WIDTHS = (2, 2, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6)

Names = list[str]


def torchvision(prefix: str = "") -> Names:
    return [f"{prefix}features.{index}" for index in TORCHVISION]


def keras() -> Names:
    return [layer.replace("conv", "block").replace("_", "_conv") for layer in LAYERS]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make VGG-19 narrow."""
    blocks = ((2,) * 2, (3,) * 2, (4,) * 4, (5,) * 4, (6,) * 4)
    monkeypatch.setitem(VGGS, "VGG-19", Architecture(blocks))


def arrays(names: Names) -> dict[str, Array]:
    rng = np.random.default_rng(3)
    tensors, channels = {}, 3
    for name, N in zip(names, WIDTHS, strict=True):
        tensors[f"{name}.weight"] = rng.standard_normal((N, channels, 3, 3)).astype(np.float32)
        tensors[f"{name}.bias"] = rng.standard_normal(N).astype(np.float32)
        channels = N
    return tensors


def stored(tensors: dict[str, Array]) -> dict[str, StoredTensor]:
    return {k: StoredTensor(v.shape, v.dtype, lambda v=v: v) for k, v in tensors.items()}


def refusal(tensors: dict[str, Array]) -> str:
    def unread() -> Array:
        raise AssertionError("a tensor was read before all were judged")

    tensors = {k: StoredTensor(v.shape, v.dtype, unread) for k, v in tensors.items()}
    with pytest.raises(ModelError) as caught:
        find_network(tensors)
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
def test_every_naming_scheme_gives_the_sixteen_layers(names: Names) -> None:
    tensors = arrays(names)
    extra = {"classifier.0.weight": np.zeros((9, 9)), "fc6.bias": np.zeros(4)}
    found = find_network(stored(tensors | extra)).convolutions
    assert [c.name for c in found] == LAYERS
    for convolution, name in zip(found, names, strict=True):
        np.testing.assert_array_equal(convolution.W, tensors[f"{name}.weight"])
        np.testing.assert_array_equal(convolution.b, tensors[f"{name}.bias"])


@pytest.mark.parametrize("dtype", ["<f2", "<f8", ">f4"])
def test_other_floats_become_float32(dtype: str) -> None:
    tensors = {name: array.astype(dtype) for name, array in arrays(LAYERS).items()}
    for convolution in find_network(stored(tensors)).convolutions:
        assert (convolution.W.dtype, convolution.b.dtype) == (np.float32, np.float32)
        expected = tensors[f"{convolution.name}.weight"].astype(np.float32)
        np.testing.assert_array_equal(convolution.W, expected)


def without(*keys: str) -> Callable[[dict[str, Array]], dict[str, Array]]:
    return lambda tensors: {k: v for k, v in tensors.items() if k not in keys}


def holding(key: str, array: Array) -> Callable[[dict[str, Array]], dict[str, Array]]:
    return lambda tensors: tensors | {key: array}


def glued(tensors: dict[str, Array]) -> dict[str, Array]:
    return {f"my{name}": array for name, array in arrays(LAYERS).items()}


def vgg16(tensors: dict[str, Array]) -> dict[str, Array]:
    """VGG-16 has three convolutions in the later blocks, so the indices in torch differ."""
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    return {f"features.{place}.weight": np.zeros((4, 4, 3, 3), np.float32) for place in places}


def batch_normalised(tensors: dict[str, Array]) -> dict[str, Array]:
    return tensors | {"features.1.running_mean": np.zeros(2, np.float32)}


def two_networks(tensors: dict[str, Array]) -> dict[str, Array]:
    return {f"{side}.{k}": v for side in ("teacher", "student") for k, v in tensors.items()}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda _: {}, ["'features.0.weight'", "found no tensor at all"]),
        (lambda _: {"fc.weight": np.zeros(3)}, ["'conv1_1.weight'", "found 'fc.weight'"]),
        (
            without("features.34.weight"),
            ["the 16 convolutions of VGG-19, found 15", "none for conv5_4 ('features.34.weight')"],
        ),
        (without("features.0.bias"), ["expected the biases 'features.0.bias', found none"]),
        (glued, ["'features.0.weight'", "found 'myconv1_1.weight'"]),
        (vgg16, ["(64, 3, 3, 3) for conv1_1 of VGG-16", "another network"]),
        (batch_normalised, ["'features.3.weight'", "found 'features.2.weight' in its place"]),
        (two_networks, ["one network, found 2", "'student.'", "'teacher.'"]),
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
def test_another_network_is_refused_before_its_tensors_are_read(
    edit: Callable[[dict[str, Array]], dict[str, Array]], words: list[str]
) -> None:
    message = refusal(edit(arrays(torchvision())))
    for word in words:
        assert word in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key", ["conv3_2.weight", "conv3_2.bias"])
def test_values_that_are_not_finite_are_refused(key: str, value: float) -> None:
    tensors = arrays(LAYERS)
    tensors[key].flat[1] = value
    with pytest.raises(ModelError, match=r"expected finite numbers in conv3_2, found NaN"):
        find_network(stored(tensors))


def test_a_double_beyond_float32_is_refused() -> None:
    tensors = arrays(LAYERS)
    tensors["conv1_1.weight"] = tensors["conv1_1.weight"].astype(np.float64) * 1e300
    with pytest.raises(ModelError, match=r"expected finite numbers in conv1_1"):
        find_network(stored(tensors))


def test_a_huge_shape_is_refused_before_memory_is_allocated() -> None:
    tensors = stored(arrays(LAYERS))
    tensors["conv1_1.weight"] = StoredTensor(
        (2**40, 3, 3, 3), np.dtype("f4"), lambda: pytest.fail("it was read")
    )
    with pytest.raises(ModelError, match=r"found float32 of shape \(1099511627776, 3, 3, 3\)"):
        find_network(tensors)


def test_a_tensor_that_loads_with_another_shape_is_refused() -> None:
    tensors = stored(arrays(LAYERS))
    whole = tensors["conv1_1.bias"]
    tensors["conv1_1.bias"] = StoredTensor(whole.shape, whole.dtype, lambda: whole.load()[:1])
    with pytest.raises(ModelError, match=r"expected \(2,\) values in conv1_1, found \(1,\)"):
        find_network(tensors)


def test_the_shapes_of_vgg19_are_those_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    shapes: Iterator[tuple[int, ...]] = (shape for *_, shape in VGGS["VGG-19"].convolutions())
    assert sum(int(np.prod(shape)) for shape in shapes) == 20_018_880
