"""The graph of loss and gradient as a file: its contents and its inputs."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from gramstyle.conformance import cases
from gramstyle.core.conventions import AUTHOR, CONVENTIONS
from gramstyle.core.kernels import Pooling
from gramstyle.core.network import Convolution, Network
from gramstyle.core.objective import Objective
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.engines.onnx_graph import objective_graph, targets_graph
from gramstyle.engines.onnx_session import load_runtime, open_session
from gramstyle.model import Model
from objectives import ContentTarget, Weights, composed, recomposed, style_targets, styles_of

CASES = {case.name: case for case in cases()}

# Sums in float32, relative to their norm; through VGG-19 3e-7 to 2e-6 were seen.
ROUNDING = 1e-5

STYLE = ("conv1_1", "conv2_1", "conv3_1")
CONTENT = "conv3_2"

Rng = np.random.Generator


def image(rng: Rng, height: int, width: int) -> np.ndarray:
    return rng.uniform(0, 255, (3, height, width)).astype(np.float32)


def objective(
    model: Model,
    p: np.ndarray,
    a: np.ndarray,
    *,
    pooling: Pooling = "max",
    content: str = CONTENT,
    style: tuple[str, ...] = STYLE,
) -> Objective:
    """The objective for a content and a style image in float64."""
    network = model.network.until([content, *style]).pooled_by(pooling).astype(np.float64)
    see = model.preprocessing.forward
    of_artwork = network.forward(see(a.astype(np.float64)))
    return composed(
        network=network,
        preprocessing=model.preprocessing,
        content=ContentTarget(content, network.forward(see(p.astype(np.float64)))[content]),
        style=style_targets(of_artwork, style),
        weights=Weights(alpha=0.02, beta=2.0, w=dict.fromkeys(style, 0.2)),
    )


def run(graph: bytes, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
    """Run a graph once, with nothing but its file."""
    session = open_session(graph, threads=1)
    names = [each.name for each in session.get_outputs()]
    feeds = {name: np.asarray(value, np.float32) for name, value in feeds.items()}
    return dict(zip(names, session.run(None, feeds), strict=True))


def relative(found: np.ndarray | float, truth: np.ndarray | float) -> float:
    return float(np.linalg.norm(np.subtract(found, truth)) / np.linalg.norm(truth))


def assert_same(found: dict[str, np.ndarray], truth: Objective, x: np.ndarray) -> None:
    expected = truth.loss_and_gradient(x.astype(np.float64))
    assert relative(found["loss"], expected.loss) < ROUNDING
    assert relative(found["gradient"][0], expected.gradient) < ROUNDING


# Contents


@pytest.mark.parametrize("name", ["objective-odd-max", "objective", "author-content"])
def test_the_file_is_onnx_of_a_version_that_every_runtime_reads(name: str) -> None:
    case = CASES[name]
    proto = onnx.load_model_from_string(objective_graph(case.objective, case.x.shape[1:]))
    onnx.checker.check_model(proto, full_check=True)
    assert proto.ir_version == 10
    assert [(each.domain, each.version) for each in proto.opset_import] == [("", 17)]
    assert {node.domain for node in proto.graph.node} == {""}
    assert not proto.functions


def test_outputs_have_the_papers_letters() -> None:
    case = CASES["objective"]
    proto = onnx.load_model_from_string(objective_graph(case.objective, case.x.shape[1:]))
    E = {f"{name}.E" for name in styles_of(case.objective)}
    assert {out.name for out in proto.graph.output} == {"loss", "gradient", "content", "style", *E}
    letters = {output for node in proto.graph.node for output in node.output}
    for name in case.network.names:
        if name.startswith("conv"):
            assert {name, f"{name}.Z", f"{name}.dZ"} <= letters


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_file_stores_the_weights_once_with_the_precision_of_the_model_file(
    pooling: Pooling, tiny_model: Model, rng: Rng
) -> None:
    truth = objective(tiny_model, image(rng, 20, 24), image(rng, 21, 17), pooling=pooling)
    data = objective_graph(truth, (20, 24), precision="codebook8")
    found = onnx.load_model_from_string(data).graph.initializer
    stored = Counter(tensor.name.partition(".")[2] for tensor in found)
    convolutions = sum(isinstance(layer, Convolution) for layer in truth.network.layers)
    assert stored["index"] == stored["table"] == stored["b"] == convolutions
    assert stored["W"] == 0
    indices = {t.name: tuple(t.dims) for t in found if t.name.endswith(".index")}
    assert indices == {
        f"{layer.name}.index": layer.W.shape
        for layer in truth.network.layers
        if isinstance(layer, Convolution)
    }
    x = image(rng, 20, 24)
    assert_same(run(data, {"x": x[None]}), truth, x)


def test_the_runtime_folds_the_rotated_kernels(tiny_model: Model, tmp_path: Path, rng: Rng) -> None:
    truth = objective(
        tiny_model, image(rng, 20, 24), image(rng, 21, 17), pooling="avg", style=STYLE[:1]
    )
    runtime = load_runtime()
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    data = objective_graph(truth, (20, 24), precision="codebook8")
    runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    before = Counter(node.op_type for node in onnx.load_model_from_string(data).graph.node)
    after = Counter(node.op_type for node in onnx.load(tmp_path / "folded.onnx").graph.node)
    assert before["Transpose"] == before["Slice"] == 6
    assert after["Transpose"] == after["Slice"] == 0
    assert after["Gather"] == 2  # of the channels, forward and backward
    assert after["Conv"] == before["Conv"] == 12


def test_equal_objectives_give_equal_bytes(tiny_model: Model, rng: Rng) -> None:
    truth = objective(tiny_model, image(rng, 20, 24), image(rng, 21, 17))
    one, other = (objective_graph(truth, (20, 24), metadata={"b": "2", "a": "é"}) for _ in range(2))
    assert one == other
    said = {p.key: p.value for p in onnx.load_model_from_string(one).metadata_props}
    assert said == {"a": "é", "b": "2"}


# Inputs


def test_loss_weights_are_inputs_with_defaults(tiny_model: Model, rng: Rng) -> None:
    x, truth = image(rng, 20, 24), objective(tiny_model, image(rng, 20, 24), image(rng, 9, 9))
    data = objective_graph(truth, (20, 24))
    w = {"conv1_1": 0.5, "conv2_1": 0.0, "conv3_1": 3.0}
    feeds = {"alpha": 0.3, "beta": 7.0, **{f"{name}.w": value for name, value in w.items()}}
    found = run(data, {"x": x[None], **feeds})
    assert_same(found, recomposed(truth, weights=Weights(alpha=0.3, beta=7.0, w=w)), x)
    assert_same(run(data, {"x": x[None]}), truth, x)


@pytest.mark.parametrize("convention", ["paper", "author"])
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_targets_and_objective_work_together_for_images_of_any_size(
    pooling: Pooling, convention: str, tiny_model: Model, rng: Rng
) -> None:
    """One graph computes the targets, the other compares with them."""
    model = tiny_model
    made = objective(model, image(rng, 16, 16), image(rng, 16, 16), pooling=pooling)
    if convention == "author":
        made = recomposed(made, convention=AUTHOR)
    targets, data = targets_graph(made), objective_graph(made, None, targets="inputs")
    for height, width in ((16, 16), (21, 27), (34, 19)):
        x, p, a = image(rng, height, width), image(rng, height, width), image(rng, 23, 18)
        of_photograph, of_artwork = (run(targets, {"x": each[None]}) for each in (p, a))
        wanted = {f"{name}.A/M": of_artwork[f"{name}.A/M"] for name in STYLE}
        wanted[f"{CONTENT}.P"] = of_photograph[f"{CONTENT}.P"]
        truth = objective(model, p, a, pooling=pooling)
        truth = recomposed(truth, convention=CONVENTIONS[convention])
        assert_same(run(data, {"x": x[None], **wanted}), truth, x)


def test_an_objective_with_stored_style_accepts_images_of_any_size(
    tiny_model: Model, rng: Rng
) -> None:
    truth = objective(tiny_model, image(rng, 16, 16), image(rng, 23, 18))
    truth = recomposed(truth, content=None)
    data = objective_graph(truth, None)
    for size in ((16, 16), (25, 31)):
        x = image(rng, *size)
        assert_same(run(data, {"x": x[None]}), truth, x)


def test_the_derivative_of_a_zero_response_is_zero() -> None:
    """Z = 0 at every position: F > 0 nowhere, though F differs from P."""
    W = np.zeros((2, 3, 3, 3))
    W[:, 0, 1, 1], W[:, 1, 1, 1] = 1.0, -1.0  # red minus green, of a grey image
    network = Network((Convolution("conv1_1", W, np.zeros(2)),))
    truth = composed(
        network=network,
        preprocessing=Preprocessing(channels="RGB", mean=(0, 0, 0), scale=(1, 1, 1)),
        content=ContentTarget("conv1_1", np.full((2, 4, 4), 5.0)),
        style={},
        weights=Weights(alpha=1.0, beta=0.0, w={}),
    )
    found = run(objective_graph(truth, (4, 4)), {"x": np.ones((1, 3, 4, 4))})
    assert found["loss"] == 400.0
    assert not found["gradient"].any()


@pytest.mark.real_model
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_real_networks_graph_agrees_with_the_objective_in_float64(
    pooling: Pooling, real_model: Model, rng: Rng
) -> None:
    x, p, a = image(rng, 33, 50), image(rng, 33, 50), image(rng, 40, 30)
    layers = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
    truth = objective(real_model, p, a, pooling=pooling, content="conv4_2", style=layers)
    found = run(objective_graph(truth, (33, 50), precision="codebook8"), {"x": x[None]})
    expected = truth.loss_and_gradient(x.astype(np.float64))
    assert relative(found["loss"], expected.loss) < ROUNDING
    # Rounding can flip a ReLU mask or a pooling choice, which changes the gradient by more.
    assert relative(found["gradient"][0], expected.gradient) < 2e-3
