"""Runs on networks other than VGG-19: the layers that are compared, every engine, tiles, a cluster.

The oracle is a naive loss in float64, and the slope of that loss along random directions.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from scipy.signal import correlate2d

from gramstyle.analysis.figures import reconstructions
from gramstyle.cli import main
from gramstyle.conformance.real_network import real_case
from gramstyle.core.arrays import Array
from gramstyle.core.layer_names import DefaultLayers, default_layers, poolings_until
from gramstyle.core.network import Convolution, Network, Pool
from gramstyle.engines.registry import ENGINES
from gramstyle.errors import OptionError
from gramstyle.model.architecture import VGGS, Architecture
from gramstyle.model.onnx_file import Model, read_model, write_model
from gramstyle.model.preprocessings import CAFFE
from gramstyle.run.options import Options
from gramstyle.run.plan import plan_run
from gramstyle.run.prepare import Prepared, prepare
from gramstyle.run.reconstruct import reconstruct_content, reconstruct_style
from gramstyle.run.texture import texture
from gramstyle.run.transfer import transfer
from gramstyle.tiling.budget import bytes_per_pixel, whole

Paths = dict[str, Path]

FILTERS = (4, 5, 6, 7, 8)
NETWORKS = {
    **{
        name: tuple((N,) * len(block) for N, block in zip(FILTERS, known.blocks, strict=True))
        for name, known in VGGS.items()
        if name != "VGG-19"
    },
    "two blocks": ((5, 4), (6,)),
    "one layer": ((6,),),
    "six blocks": ((4,), (5,), (4,), (6,), (5, 5), (7, 4)),
}
LAYERS = {
    "two blocks": (("conv1_2",), ("conv1_1", "conv2_1")),
    "one layer": (("conv1_1",), ("conv1_1",)),
    "six blocks": (("conv4_1",), ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")),
}
VGG_LAYERS = (("conv4_2",), ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"))

# The order of sums in float32, where some ReLUs flip.
FLOAT32 = 2e-3


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """Random networks whose signals neither die nor grow."""
    folder, rng = tmp_path_factory.mktemp("networks"), np.random.default_rng(7)
    for name, blocks in NETWORKS.items():
        convolutions = [
            Convolution(
                f"conv{block}_{number}",
                (rng.standard_normal(shape) * np.sqrt(2 / (9 * shape[1]))).astype(np.float32),
                rng.standard_normal(shape[0]).astype(np.float32),
            )
            for block, number, shape in Architecture(blocks).convolutions()
        ]
        write_model(folder / f"{name}.onnx", convolutions, CAFFE, precision="float32",
                    metadata={"network": name})  # fmt: skip
    return {name: folder / f"{name}.onnx" for name in NETWORKS}


@pytest.fixture
def photo(rng: np.random.Generator) -> Array:
    return rng.integers(0, 256, (40, 64, 3)).astype(np.uint8)


@pytest.fixture
def painting(rng: np.random.Generator) -> Array:
    return rng.integers(0, 256, (64, 48, 3)).astype(np.uint8)


def naive_responses(model: Model, image: Array) -> dict[str, Array]:
    """Return the responses to an image (3, H, V), 0..255, with average pooling and zeros around."""
    F = (image[::-1] - np.array(CAFFE.mean).reshape(3, 1, 1)).astype(np.float64)
    responses = {}
    for layer in model.network.layers:
        if isinstance(layer, Convolution):
            kernels = layer.W.astype(np.float64)
            Z = [
                sum(correlate2d(F[c], kernel[c], "same") for c in range(len(F))) + bias
                for kernel, bias in zip(kernels, layer.b, strict=True)
            ]
            F = np.maximum(np.stack(Z), 0)
        else:
            C, H, V = F.shape
            cut = F[:, : H // 2 * 2, : V // 2 * 2].reshape(C, H // 2, 2, V // 2, 2)
            F = cut.mean(axis=(2, 4))
        responses[layer.name] = F
        if F.shape[1] < 2 or F.shape[2] < 2:
            break
    return responses


def naive_loss(
    model: Model, layers: tuple[tuple[str, ...], tuple[str, ...]], p: Array, a: Array, x: Array
) -> float:
    """Return α L_content + β L_style by equations 1, 3, 4, 5 and 7."""
    seen, P, A = (naive_responses(model, each) for each in (x, p, a))
    content, style = layers
    loss = sum(0.5 * ((seen[name] - P[name]) ** 2).sum() for name in content) * 24 / x[0].size
    for name in style:
        F, S = (each[name].reshape(len(each[name]), -1) for each in (seen, A))
        G, T = F @ F.T / F.shape[1], S @ S.T / S.shape[1]
        loss += ((G - T) ** 2).sum() / (4 * len(F) ** 2 * len(style))
    return float(loss)


@pytest.fixture
def ready(photo: Array, painting: Array, models: Paths) -> Iterator[Callable[..., Prepared]]:
    with ExitStack() as stack:

        def make(name: str, **given: Any) -> Prepared:
            options = Options(size=64, scales=1, padding="zeros", **given)
            return stack.enter_context(prepare(photo, painting, options, model=models[name]))

        yield make


@pytest.mark.parametrize("name", NETWORKS)
def test_the_default_layers_are_those_that_the_network_has(name: str, models: Paths) -> None:
    names = read_model(models[name]).network.names
    expected = DefaultLayers(*LAYERS.get(name, VGG_LAYERS))
    assert default_layers(names) == expected
    assert {*expected.content, *expected.style} <= set(names)


def test_the_default_layers_of_the_real_vggs_are_the_papers() -> None:
    for network in VGGS.values():
        assert default_layers(network.layers) == DefaultLayers(*VGG_LAYERS)


ENGINES_HERE = [name for name, engine in ENGINES.items() if "cpu" in engine.devices]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("engine", [*ENGINES_HERE, "in tiles", "winograd in tiles"])
def test_every_engine_computes_the_naive_loss_and_its_slope(
    engine: str, name: str, models: Paths, photo: Array, painting: Array,
    ready: Callable[..., Prepared],
) -> None:  # fmt: skip
    if engine.startswith(("winograd", "hybrid")):
        pytest.importorskip("numba")
    how: dict[str, Any] = {"engine": engine}
    if engine.endswith("in tiles"):
        how = {"engine": "winograd" if engine.startswith("winograd") else "numpy", "tile": 32}
    prepared = ready(name, **how)
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 255, (3, 40, 64))
    found = prepared.loss_and_gradient(x.astype(prepared.start.dtype))
    gradient = np.asarray(found.gradient, np.float64)

    model = read_model(models[name])
    p, a = (np.moveaxis(each, 2, 0).astype(np.float64) for each in (photo, painting))
    loss = partial(naive_loss, model, LAYERS.get(name, VGG_LAYERS), p, a)
    assert found.loss == pytest.approx(loss(x), rel=FLOAT32)
    d = gradient / np.linalg.norm(gradient)
    slope = (loss(x + 1e-3 * d) - loss(x - 1e-3 * d)) / 2e-3
    assert slope == pytest.approx(np.linalg.norm(gradient), rel=FLOAT32)


@pytest.mark.parametrize("name", ["VGG-16", "two blocks"])
def test_a_cluster_computes_the_same_bits_as_tiles(
    name: str, ready: Callable[..., Prepared]
) -> None:
    pytest.importorskip("distributed")
    x = np.random.default_rng(3).uniform(0, 255, (3, 40, 64)).astype(np.float32)
    tiled = ready(name, engine="numpy", tile=32)
    here = tiled.loss_and_gradient(x.astype(tiled.start.dtype))
    gradient = np.array(here.gradient)
    cluster = ready(name, engine="numpy", tile=32, workers=1)
    there = cluster.loss_and_gradient(x.astype(cluster.start.dtype))
    assert there.loss == here.loss
    np.testing.assert_array_equal(there.gradient, gradient)


def test_the_record_names_the_layers_and_a_recipe_leaves_them_to_the_network(
    photo: Array, painting: Array, models: Paths
) -> None:
    options = Options(size=32, iterations=1, scales=1, engine="numpy")
    result = transfer(photo, painting, options, model=models["two blocks"])
    settings = result.record.settings.to_json()
    assert list(settings["content_layers"]) == ["conv1_2"]
    assert list(settings["style_layers"]) == ["conv1_1", "conv2_1"]
    assert settings["style_weights"] == [0.5, 0.5]
    assert "content_layers" not in settings["given"]
    assert "style_layers" not in settings["given"]


def test_reconstructions_and_textures_use_the_layers_of_the_network(
    photo: Array, models: Paths
) -> None:
    how: Any = {"options": Options(size=32, iterations=1, engine="numpy")}
    model = models["two blocks"]
    _, record = reconstruct_content(photo, model=model, **how)
    assert list(record.losses[-1].layers["content"]) == ["conv1_2"]
    _, record = reconstruct_style(photo, model=model, **how)
    assert list(record.losses[-1].layers["style"]) == ["conv1_1", "conv2_1"]
    _, record = texture(photo, (32, 16), tileable=True, model=model, **how)
    assert list(record.losses[-1].layers["style"]) == ["conv1_1", "conv2_1"]


def test_a_layer_that_the_network_lacks_is_refused_when_the_run_is_planned(
    photo: Array, painting: Array, models: Paths
) -> None:
    with pytest.raises(OptionError) as caught:
        plan_run(photo, painting, Options(content_layer="conv3_4"), model=models["VGG-16"])
    assert "unknown layer 'conv3_4'; did you mean conv3_3? The network's layers are conv1_1, " in (
        str(caught.value)
    )
    with pytest.raises(OptionError, match="there are 5 style_weights for 2 style_layers"):
        plan_run(photo, painting, Options(style_weights=(1,) * 5), model=models["two blocks"])


@pytest.mark.parametrize("name", ["VGG-11", "two blocks", "six blocks"])
def test_the_real_case_of_the_conformance_kit_is_the_networks(name: str, models: Paths) -> None:
    model = read_model(models[name])
    case = real_case(model, 32)
    content, style = LAYERS.get(name, VGG_LAYERS)
    assert list(case.style) == list(style)
    assert case.objective.network.names[-1] == max(
        (*content, *style), key=model.network.names.index
    )


def test_figures_have_the_layers_of_the_network(
    models: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Array
) -> None:
    import PIL.Image

    PIL.Image.fromarray(photo).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    cells = reconstructions(Path("a.png"), Path("a.png"), Options(), ("conv1_1", "conv2_1")).cells
    names = ["style-conv1_1", "style-conv2_1", "content-conv1_1", "content-conv2_1"]
    assert [cell.label for cell in cells] == names
    command = ["figure", "reconstructions", "a.png", "a.png", "-o", "f.png", "--size", "16"]
    how = ["--iterations", "1", "--engine", "numpy", "--model", str(models["two blocks"])]
    assert main([*command, *how]) == 0
    assert sorted(each.stem for each in (tmp_path / "f-cells").glob("*.png")) == sorted(names)


def test_an_exported_graph_has_the_layers_of_the_network(
    models: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["objective", "export", "--targets", "inputs", "--size", "32x32", "-o", "o.onnx"]
    assert main([*command, "--model", str(models["two blocks"])]) == 0
    graph = onnx.load("o.onnx").graph
    assert {"loss", "gradient", "conv1_1.E", "conv2_1.E"} <= {out.name for out in graph.output}
    assert "conv1_2.P" in {each.name for each in graph.input}


# Memory


def test_a_network_with_more_responses_takes_more_memory() -> None:
    def network(*blocks: tuple[int, ...]) -> Network:
        layers: list[Convolution | Pool] = []
        for block, number, (N, C, *_) in Architecture(blocks).convolutions():
            W = np.broadcast_to(np.float32(0), (N, C, 3, 3))
            layers.append(Convolution(f"conv{block}_{number}", W, np.zeros(N, np.float32)))
            if number == len(blocks[block - 1]):
                layers.append(Pool(f"pool{block}", "avg"))
        return Network(tuple(layers))

    measured = ENGINES["numpy"].bytes_per_pixel
    for known in VGGS.values():
        assert bytes_per_pixel("numpy", network(*known.blocks)) == measured
    more = network(*VGGS["VGG-19"].blocks, (512,))
    assert measured < bytes_per_pixel("numpy", more) < 1.01 * measured
    # VGG-19 has 128 + 16, a quarter of 256 + 32 and so on for each pixel: half of 400 + 203 + 51.
    wide = network((400, 203))
    assert 2 * measured <= bytes_per_pixel("numpy", wide) < 2.01 * measured
    assert whole("numpy", 10**6, 10, network=wide) > whole("numpy", 10**6, 10)


@pytest.mark.parametrize(
    ("layer", "poolings"),
    [
        ("conv1_1", 0), ("pool1", 1), ("conv5_4", 4), ("pool5", 5), ("conv7_3", 6), ("pool12", 12),
        ("relu3_1", 0), ("conv0_1", 0), ("conv999_1", 0), ("", 0),
    ],
)  # fmt: skip
def test_names_state_the_number_of_poolings(layer: str, poolings: int) -> None:
    assert poolings_until(layer) == poolings
