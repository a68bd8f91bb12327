"""The cases as graphs with loss, gradient and derivatives, as any ONNX runtime reads them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from conformance_cases import CASES, apart
from conformance_sets import contents
from gramstyle.conformance.files import write_graphs
from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError

# Float32 through 17 layers and back. Measured: 1.2e-5 of one dZ in ONNX Runtime.
FLOAT32 = 5e-5


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs") / "graphs"
    write_graphs(folder, list(CASES.values()))
    return folder


def tensors(folder: Path, kind: str) -> Iterator[tuple[str, Array]]:
    """The names and arrays of the files of a kind, as ONNX's runner of backend tests reads them."""
    for number in range(len(list(folder.glob(f"{kind}_*.pb")))):
        tensor = onnx.TensorProto.FromString((folder / f"{kind}_{number}.pb").read_bytes())
        yield tensor.name, numpy_helper.to_array(tensor)


def by_onnxruntime(path: Path, x: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x}))


def by_reference(path: Path, x: Array) -> list[Array]:
    return list(ReferenceEvaluator(str(path)).run(None, {"x": x}))


@pytest.mark.parametrize("run", [by_onnxruntime, by_reference])
@pytest.mark.parametrize("name", CASES)
def test_a_runtime_computes_the_loss_the_gradient_and_every_derivative(
    name: str, run: Callable[[Path, Array], list[Array]], graphs: Path
) -> None:
    ((_, x),) = tensors(graphs / name / "test_data_set_0", "input")
    expected = list(tensors(graphs / name / "test_data_set_0", "output"))
    found = run(graphs / name / "model.onnx", x)
    assert len(found) == len(expected) == 2 + len(CASES[name].layers)
    for (output, truth), value in zip(expected, found, strict=True):
        assert value.shape == truth.shape
        assert apart(np.float64(value), np.float64(truth)) <= FLOAT32, output


@pytest.mark.parametrize("name", CASES)
def test_the_outputs_of_a_graph_are_the_truth_of_the_case(name: str, graphs: Path) -> None:
    case, model = CASES[name], onnx.load(graphs / name / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert [each.name for each in model.graph.input] == ["x"]
    truth = dict(tensors(graphs / name / "test_data_set_0", "output"))
    assert [each.name for each in model.graph.output] == list(truth)
    assert truth.pop("loss") == np.float32(case.truth.loss)
    np.testing.assert_array_equal(truth.pop("gradient")[0], case.truth.gradient.astype("f4"))
    for output, array in truth.items():
        layer, _, letter = output.partition(".")
        dF = case.truth.dF[layer]
        if letter == "dZ":
            dF = np.where(case.responses[layer] > 0, dF, 0)
        np.testing.assert_array_equal(array[0], dF.astype("f4"))


def test_the_graphs_are_small(graphs: Path) -> None:
    assert sum(map(len, contents(graphs).values())) < 2_000_000


def test_graphs_are_replaced_but_nothing_else_is(graphs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "graphs"
    few = [CASES["relu"], CASES["convolution"]]
    written = write_graphs(folder, few)
    assert written == sum(map(len, contents(folder).values()))
    write_graphs(folder, few[:1])
    assert sorted(path.name for path in folder.iterdir()) == ["relu"]
    (folder / "relu" / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match=r"other things than graphs of cases.*relu/notes\.txt"):
        write_graphs(folder, few)
    assert [path.name for path in tmp_path.iterdir()] == ["graphs"]
