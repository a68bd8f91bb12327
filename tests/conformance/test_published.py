"""The published set of cases: built here to the last bit, and read by other programs."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from conformance_cases import CASES, apart
from conformance_sets import contents, manifest
from gramstyle.conformance import Case
from gramstyle.conformance.cases import answer
from gramstyle.conformance.comparing import TOLERANCES
from gramstyle.conformance.files import PUBLISHED, VERSION, read_published, write_cases
from gramstyle.conformance.files.manifest import ARRAYS
from gramstyle.conformance.files.schema import check
from gramstyle.core.arrays import Array

# Float32 through 17 layers, and a loss of differences between nearly equal Gram matrices.
# Measured: 7e-7 for responses, 5e-6 for losses.
FLOAT32 = 2e-5

# Another order of summation in float64.
ORDER = 1e-12

REBUILD = "gramstyle conformance build engine/gramstyle/conformance/published"


@pytest.fixture(scope="module")
def published() -> tuple[Case, ...]:
    return read_published()


def test_the_published_files_equal_those_built_here_to_the_last_bit(tmp_path: Path) -> None:
    write_cases(tmp_path / "set", list(CASES.values()))
    built, there = contents(tmp_path / "set"), contents(PUBLISHED)
    assert sorted(built) == sorted(there), REBUILD
    assert [name for name in built if built[name] != there[name]] == [], REBUILD
    assert sum(map(len, there.values())) < 5_000_000


def test_a_set_that_is_read_and_written_again_has_the_same_bytes(
    published: tuple[Case, ...], tmp_path: Path
) -> None:
    write_cases(tmp_path / "again", published)
    assert contents(tmp_path / "again") == contents(PUBLISHED)


def test_a_published_case_equals_the_original(published: tuple[Case, ...]) -> None:
    assert [case.name for case in published] == list(CASES)
    for case in published:
        original = CASES[case.name]
        assert case.pins == original.pins
        assert case.objective.weights == original.objective.weights
        assert case.objective.terms == original.objective.terms
        assert case.objective.preprocessing == original.objective.preprocessing
        np.testing.assert_array_equal(case.x, original.x)
        np.testing.assert_array_equal(case.truth.gradient, original.truth.gradient)
        assert list(case.truth.dF) == list(original.truth.dF)
        assert list(case.responses) == list(original.responses)
        np.testing.assert_array_equal(case.direction, original.direction)
        found, there = (each.derivatives.quantities() for each in (case, original))
        assert list(found) == list(there)


def test_a_published_case_computes_its_own_truth(
    published: tuple[Case, ...],
) -> None:
    for case in published:
        found = answer(case.objective, case.x)
        assert found.loss == pytest.approx(case.truth.loss, rel=ORDER)
        assert apart(found.gradient, case.truth.gradient) <= ORDER


# Readers in other languages: NumPy without pickles, ONNX runtimes, a reader of the manifest


def test_numpy_reads_all_arrays_by_the_names_of_the_manifest() -> None:
    named = manifest(PUBLISHED)["arrays"]
    assert named == ARRAYS
    for entry in manifest(PUBLISHED)["cases"]:
        layers = [layer["name"] for layer in entry["layers"]]
        with np.load(PUBLISHED / f"{entry['name']}.npz", allow_pickle=False) as arrays:
            for name in arrays:
                layer, _, letter = name.rpartition(".")
                assert (f"LAYER.{letter}" if layer else letter) in named
                assert layer in ("", *layers)
                assert arrays[name].dtype == np.dtype("<f8")
                assert arrays[name].flags.c_contiguous
            wanted = {"x", "loss", "gradient", "tx", "jvp", "hvp"} | {
                f"{n}.{f}" for n in layers for f in ("F", "dF")
            }
            assert wanted <= set(arrays)


def read_proto(path: Path) -> tuple[str, Array]:
    tensor = onnx.TensorProto.FromString(path.read_bytes())
    return tensor.name, numpy_helper.to_array(tensor)


@pytest.mark.parametrize("name", CASES)
def test_a_model_is_standard_onnx_and_its_data_are_the_arrays_in_float32(name: str) -> None:
    model = onnx.load(PUBLISHED / name / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 10
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 17)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    data = PUBLISHED / name / "test_data_set_0"
    outputs = [output.name for output in model.graph.output]
    with np.load(PUBLISHED / f"{name}.npz", allow_pickle=False) as arrays:
        key, x = read_proto(data / "input_0.pb")
        assert [key] == [each.name for each in model.graph.input]
        np.testing.assert_array_equal(x, arrays["x"][None])
        for number, output in enumerate(outputs):
            key, value = read_proto(data / f"output_{number}.pb")
            assert key == output
            truth = arrays["loss"] if number == 0 else arrays[f"{output}.F"][None]
            np.testing.assert_array_equal(value, truth.astype(np.float32))
    assert len(list(data.iterdir())) == 1 + len(outputs)


def by_onnxruntime(path: Path, x: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x}))


def by_reference(path: Path, x: Array) -> list[Array]:
    return list(ReferenceEvaluator(str(path)).run(None, {"x": x}))


@pytest.mark.parametrize("run", [by_onnxruntime, by_reference])
@pytest.mark.parametrize("name", CASES)
def test_a_runtime_computes_the_loss_and_the_responses(
    name: str, run: Callable[[Path, Array], list[Array]]
) -> None:
    data = PUBLISHED / name / "test_data_set_0"
    found = run(PUBLISHED / name / "model.onnx", read_proto(data / "input_0.pb")[1])
    for number, value in enumerate(found):
        _, truth = read_proto(data / f"output_{number}.pb")
        assert value.shape == truth.shape
        assert apart(np.float64(value), np.float64(truth)) <= FLOAT32


def loss_by_the_manifest(entry: Mapping[str, Any], arrays: Mapping[str, Array]) -> float:
    """The loss from the responses, with only the formulas and numbers of the manifest."""
    loss = 0.0
    if entry["content"] is not None:
        name = entry["content"]["layer"]
        squares = np.sum((arrays[f"{name}.F"] - arrays[f"{name}.P"]) ** 2)
        loss += entry["alpha"] * entry["content"]["factor"] / 2 * squares
    for term in entry["style"]:
        F, A = arrays[f"{term['layer']}.F"], arrays[f"{term['layer']}.A"]
        if term["statistic"] == "gram":
            G = np.einsum("ixy,jxy->ij", F, F)
            squares = np.sum((G - A * term["M"] / term["M_artwork"]) ** 2)
            E = term["factor"] / (4 * term["N"] ** 2 * term["M"] ** 2) * squares
        elif term["statistic"] == "mean-std":
            S = np.stack([F.mean(axis=(1, 2)), np.sqrt(F.var(axis=(1, 2)) + 1e-5)])
            E = term["factor"] / term["N"] * np.sum((S - A) ** 2)
        else:
            S = np.cov(F.reshape(len(F), -1), bias=True)
            E = term["factor"] / (4 * term["N"] ** 2) * np.sum((S - A) ** 2)
        loss += entry["beta"] * term["w"] * E
    for term in entry["regions"]:
        name, N, M = term["layer"], term["N"], term["M"]
        F, A = arrays[f"{name}.F"], arrays[f"{name}.A_regions"]
        for r, T in enumerate(arrays[f"{name}.T"]):
            X, m = (T * F).reshape(N, M), np.sum(T**2)
            assert m == term["m"][r]
            assert np.sum(arrays[f"{name}.T_artwork"][r] ** 2) == term["m_artwork"][r]
            squares = np.sum((X @ X.T - A[r] * m / term["m_artwork"][r]) ** 2)
            E = term["shares"][r] * m / M * term["factor"] / (4 * N**2 * m**2) * squares
            loss += entry["beta"] * term["w"] * E
    squares = sum(np.sum(np.diff(arrays["x"], axis=axis) ** 2) for axis in (1, 2))
    loss += entry["tv"] * squares / np.prod(entry["image"])
    return float(loss)


def test_the_manifest_and_the_arrays_are_enough_to_compute_the_loss() -> None:
    for entry in manifest(PUBLISHED)["cases"]:
        with np.load(PUBLISHED / f"{entry['name']}.npz", allow_pickle=False) as arrays:
            found = loss_by_the_manifest(entry, arrays)
            assert found == pytest.approx(float(arrays["loss"]), rel=ORDER), entry["name"]


def test_the_manifest_contains_the_version_the_tolerances_and_the_hash_of_every_file() -> None:
    document = manifest(PUBLISHED)
    assert document["version"] == VERSION
    assert {k: v for k, v in document["tolerances"].items() if k != "measure"} == TOLERANCES
    named = {k: v for entry in document["cases"] for k, v in entry["files"].items()}
    files = contents(PUBLISHED)
    assert set(named) == set(files) - {"manifest.json", "manifest.schema.json"}
    for name, file in named.items():
        assert file["bytes"] == len(files[name])
        assert file["sha256"] == hashlib.sha256(files[name]).hexdigest()


def test_the_manifest_names_every_truth_that_float16_cannot_represent(
    published: tuple[Case, ...],
) -> None:
    named = {entry["name"]: entry["beyond_float16"] for entry in manifest(PUBLISHED)["cases"]}
    for case in published:
        truth = {"loss": np.asarray(case.truth.loss), "gradient": case.truth.gradient}
        truth |= {f"dF of {layer}": dF for layer, dF in case.truth.dF.items()}
        truth |= case.derivatives.quantities()
        with np.errstate(over="ignore"):
            lost = [name for name, t in truth.items() if np.isinf(t.astype(np.float16)).any()]
        assert named[case.name] == lost
    assert "loss" in named["objective-author"]
    assert named["relu"] == []


def test_the_published_manifest_follows_the_published_schema() -> None:
    schema = json.loads((PUBLISHED / "manifest.schema.json").read_text("utf-8"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    check(manifest(PUBLISHED), schema)
