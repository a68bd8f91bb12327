"""Golden vectors: the same bytes everywhere, read by others without this program, and by ours."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from gramstyle.cli.conformance_build import add_build
from gramstyle.cli.parsing import Parser
from gramstyle.conformance import Case, cases
from gramstyle.conformance.cases import answer
from gramstyle.conformance.comparing import TOLERANCES
from gramstyle.conformance.files import (
    PUBLISHED,
    VERSION,
    read_cases,
    read_published,
    write_cases,
)
from gramstyle.conformance.files.archive import pack
from gramstyle.conformance.files.manifest import ARRAYS
from gramstyle.conformance.files.reading import MAX_MANIFEST
from gramstyle.conformance.files.schema import check, read_json
from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError, OptionError

CASES: Mapping[str, Case] = {case.name: case for case in cases()}
# One with a photograph, one with an artwork, a pooling and two layers to look at.
SMALL = [CASES["relu"], CASES["style-of-another-size"]]

# Float32 through 17 layers, and a loss of differences between nearly equal Gram matrices.
# Measured: 7e-7 for responses, 5e-6 for losses.
FLOAT32 = 2e-5

# The same sums in another order, in float64.
ORDER = 1e-12

REBUILD = "gramstyle conformance build engine/gramstyle/conformance/published"


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def manifest(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    return document


def apart(found: Array, truth: Array) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


@pytest.fixture(scope="module")
def published() -> tuple[Case, ...]:
    return read_published()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set."""
    folder = tmp_path_factory.mktemp("small") / "set"
    write_cases(folder, SMALL)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """The same, to be broken."""
    return Path(shutil.copytree(whole, tmp_path / "set"))


# What is published.


def test_what_is_published_is_what_is_built_here_to_the_last_bit(tmp_path: Path) -> None:
    write_cases(tmp_path / "set", list(CASES.values()))
    built, there = contents(tmp_path / "set"), contents(PUBLISHED)
    assert sorted(built) == sorted(there), REBUILD
    assert [name for name in built if built[name] != there[name]] == [], REBUILD


def test_what_is_published_is_small() -> None:
    assert sum(map(len, contents(PUBLISHED).values())) < 5_000_000


def test_read_back_and_written_again_it_is_the_same_bytes(
    published: tuple[Case, ...], tmp_path: Path
) -> None:
    write_cases(tmp_path / "again", published)
    assert contents(tmp_path / "again") == contents(PUBLISHED)


def test_read_back_a_case_says_what_it_said(published: tuple[Case, ...]) -> None:
    assert [case.name for case in published] == list(CASES)
    for case in published:
        original = CASES[case.name]
        assert case.pins == original.pins
        assert case.objective.weights == original.objective.weights
        assert case.objective.convention == original.objective.convention
        assert case.objective.preprocessing == original.objective.preprocessing
        np.testing.assert_array_equal(case.x, original.x)
        np.testing.assert_array_equal(case.truth.gradient, original.truth.gradient)
        assert list(case.truth.dF) == list(original.truth.dF)
        assert list(case.responses) == list(original.responses)


def test_read_back_a_case_computes_its_own_truth(published: tuple[Case, ...]) -> None:
    for case in published:
        found = answer(case.objective, case.x)
        assert found.loss == pytest.approx(case.truth.loss, rel=ORDER)
        assert apart(found.gradient, case.truth.gradient) <= ORDER


# Others read it: NumPy without pickles, ONNX runtimes, whoever has only the manifest.


def test_numpy_reads_all_arrays_under_the_names_that_the_manifest_tells() -> None:
    told = manifest(PUBLISHED)["arrays"]
    assert told == ARRAYS
    for entry in manifest(PUBLISHED)["cases"]:
        layers = [layer["name"] for layer in entry["layers"]]
        with np.load(PUBLISHED / f"{entry['name']}.npz", allow_pickle=False) as arrays:
            for name in arrays:
                layer, _, letter = name.rpartition(".")
                assert (f"LAYER.{letter}" if layer else letter) in told
                assert layer in ("", *layers)
                assert arrays[name].dtype == np.dtype("<f8")
                assert arrays[name].flags.c_contiguous
            wanted = {"x", "loss", "gradient"} | {f"{n}.{f}" for n in layers for f in ("F", "dF")}
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
def test_a_runtime_finds_the_loss_and_the_responses(
    name: str, run: Callable[[Path, Array], list[Array]]
) -> None:
    data = PUBLISHED / name / "test_data_set_0"
    found = run(PUBLISHED / name / "model.onnx", read_proto(data / "input_0.pb")[1])
    for number, value in enumerate(found):
        _, truth = read_proto(data / f"output_{number}.pb")
        assert value.shape == truth.shape
        assert apart(np.float64(value), np.float64(truth)) <= FLOAT32


def loss_by_the_manifest(entry: Mapping[str, Any], arrays: Mapping[str, Array]) -> float:
    """The loss from the responses, with the manifest's formulas and numbers alone."""
    loss = 0.0
    if entry["content"] is not None:
        name = entry["content"]["layer"]
        squares = np.sum((arrays[f"{name}.F"] - arrays[f"{name}.P"]) ** 2)
        loss += entry["alpha"] * entry["content"]["factor"] / 2 * squares
    for term in entry["style"]:
        F, A = arrays[f"{term['layer']}.F"], arrays[f"{term['layer']}.A"]
        G = np.einsum("ixy,jxy->ij", F, F)
        squares = np.sum((G - A * term["M"] / term["M_artwork"]) ** 2)
        E = term["factor"] / (4 * term["N"] ** 2 * term["M"] ** 2) * squares
        loss += entry["beta"] * term["w"] * E
    return float(loss)


def test_the_manifest_and_the_arrays_are_enough_to_compute_the_loss() -> None:
    for entry in manifest(PUBLISHED)["cases"]:
        with np.load(PUBLISHED / f"{entry['name']}.npz", allow_pickle=False) as arrays:
            found = loss_by_the_manifest(entry, arrays)
            assert found == pytest.approx(float(arrays["loss"]), rel=ORDER), entry["name"]


def test_the_manifest_tells_versions_tolerances_and_every_file_s_hash() -> None:
    document = manifest(PUBLISHED)
    assert document["version"] == VERSION
    assert {k: v for k, v in document["tolerances"].items() if k != "measure"} == TOLERANCES
    told = {k: v for entry in document["cases"] for k, v in entry["files"].items()}
    files = contents(PUBLISHED)
    assert set(told) == set(files) - {"manifest.json", "manifest.schema.json"}
    for name, file in told.items():
        assert file["bytes"] == len(files[name])
        assert file["sha256"] == hashlib.sha256(files[name]).hexdigest()


def test_the_manifest_names_every_truth_that_float16_cannot_hold(
    published: tuple[Case, ...],
) -> None:
    named = {entry["name"]: entry["beyond_float16"] for entry in manifest(PUBLISHED)["cases"]}
    for case in published:
        truth = {"loss": np.asarray(case.truth.loss), "gradient": case.truth.gradient}
        truth |= {f"dF of {layer}": dF for layer, dF in case.truth.dF.items()}
        with np.errstate(over="ignore"):
            lost = [name for name, t in truth.items() if np.isinf(t.astype(np.float16)).any()]
        assert named[case.name] == lost
    assert "loss" in named["objective-author"]
    assert named["relu"] == []


# The schema.


def test_the_schema_is_published_beside_the_manifest_and_holds_for_it() -> None:
    schema = json.loads((PUBLISHED / "manifest.schema.json").read_text("utf-8"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    check(manifest(PUBLISHED), schema)


def change(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    """Set one place of a document; ``...`` takes it out."""

    def changed(document: Any) -> None:
        *way, last = path
        for step in way:
            document = document[step]
        if to is ...:
            del document[last]
        else:
            document[last] = to

    return changed


FIRST = ("cases", 0)
STYLED = ("cases", 1)

BAD_ENTRIES: Mapping[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "another format": (change("format", to="gramstyle-conformance/2"), "gramstyle-conformance/1"),
    "no version": (change("version", to=...), "version"),
    "a version that is text": (change("version", to="1"), "JSON type integer"),
    "a version that is true": (change("version", to=True), "JSON type integer"),
    "something unknown": (change("extra", to=1), "'extra'"),
    "no cases": (change("cases", to=[]), "1 to 1000 entries"),
    "cases in an object": (change("cases", to={}), "JSON type array"),
    "a case that is a number": (change(*FIRST, to=7), "JSON type object"),
    "a path for a name": (change(*FIRST, "name", to="../relu"), "'../relu'"),
    "an absolute name": (change(*FIRST, "name", to="/etc"), "'/etc'"),
    "a name with a line break": (change(*FIRST, "name", to="relu\n"), r"'relu\n'"),
    "a name in capitals": (change(*FIRST, "name", to="Relu"), "'Relu'"),
    "another case's name": (change(*FIRST, "name", to="style-of-another-size"), "once"),
    "a name without its files": (change(*FIRST, "name", to="other"), "under its name"),
    "control codes": (change(*FIRST, "pins", to="\x1b[2J"), "printable"),
    "half a surrogate": (change(*FIRST, "pins", to="\ud800"), "printable"),
    "a sentence without end": (change(*FIRST, "pins", to="a" * 1001), "1000 characters"),
    "an image without height": (change(*FIRST, "image", to=[0, 7]), "from 1 to 4096"),
    "an image too large": (change(*FIRST, "image", to=[6, 10**9]), "from 1 to 4096"),
    "an image of three edges": (change(*FIRST, "image", to=[6, 7, 3]), "2 to 2 entries"),
    "another image": (change(*FIRST, "image", to=[7, 6]), "stored as gramstyle"),
    "a larger image": (change(*FIRST, "image", to=[4096, 4096]), "bytes of arrays"),
    "many filters": (change(*FIRST, "layers", 0, "filters", to=4096), "bytes of arrays"),
    "no filters": (change(*FIRST, "layers", 0, "filters", to=...), "filters of conv1_1"),
    "a pooling first": (change(*FIRST, "layers", 0, "kind", to="max"), "first layer"),
    "an unknown layer": (change(*FIRST, "layers", 0, "kind", to="relu"), "convolution, max, avg"),
    "a layer with a path": (change(*FIRST, "layers", 0, "name", to="../conv1_1"), "conv|pool"),
    "a layer of that name again": (change(*STYLED, "layers", 2, "name", to="conv1_1"), "once"),
    "a layer without a loss": (change(*STYLED, "style", 1, to=...), "last layer"),
    "a style layer that is none": (change(*STYLED, "style", 1, "layer", to="conv9_1"), "conv9_1"),
    "a style layer again": (change(*STYLED, "style", 0, "layer", to="conv2_1"), "once"),
    "no artwork": (change(*STYLED, "artwork", to=None), "artwork"),
    "an artwork for nothing": (change(*FIRST, "artwork", to=[6, 7]), "artwork"),
    "an image too small": (change(*STYLED, "image", to=[1, 9]), "as large as"),
    "an artwork too small": (change(*STYLED, "artwork", to=[1, 1]), "as large as"),
    "another artwork": (change(*STYLED, "artwork", to=[10, 12]), "stored as gramstyle"),
    "an artwork of as many": (change(*STYLED, "style", 0, "M_artwork", to=121), "follows from"),
    "another M": (change(*STYLED, "style", 0, "M", to=81), "follows from"),
    "another N": (change(*STYLED, "style", 0, "N", to=5), "follows from"),
    "another factor": (change(*STYLED, "style", 0, "factor", to=4.0), "follows from"),
    "another convention": (change(*FIRST, "convention", to="author"), "follows from"),
    "a convention of its own": (change(*FIRST, "convention", to="mine"), "paper, author"),
    "an infinite weight": (change(*FIRST, "alpha", to=10**400), "from -1e+30"),
    "a weight that is text": (change(*FIRST, "alpha", to="0.5"), "JSON type number"),
    "a weight that is true": (change(*FIRST, "alpha", to=True), "JSON type number"),
    "other channels": (change(*FIRST, "preprocessing", "channels", to="GBR"), "RGB, BGR"),
    "four means": (change(*FIRST, "preprocessing", "mean", to=[0, 0, 0, 0]), "3 to 3 entries"),
    "a pooling with filters": (change(*STYLED, "layers", 1, "filters", to=4), "follows from"),
    "something beyond float16": (change(*FIRST, "beyond_float16", to=["loss"]), "follows from"),
    "a file less": (change(*FIRST, "files", "relu.npz", to=...), "under its name"),
    "a file elsewhere": (
        change(*FIRST, "files", "../relu.npz", to={"bytes": 1, "sha256": "0" * 64}),
        "under its name",
    ),
    "another length": (change(*FIRST, "files", "relu/model.onnx", "bytes", to=1), "model.onnx"),
    "a length too large": (
        change(*FIRST, "files", "relu/model.onnx", "bytes", to=10_000),
        "expected relu/model.onnx",
    ),
    "a huge length": (
        change(*FIRST, "files", "relu/model.onnx", "bytes", to=2**40),
        "from 1 to 67108864",
    ),
    "a hash that is none": (
        change(*FIRST, "files", "relu/model.onnx", "sha256", to="0" * 63),
        "[0-9a-f]{64}",
    ),
    "another hash": (
        change(*FIRST, "files", "relu/model.onnx", "sha256", to="0" * 64),
        "expected relu/model.onnx",
    ),
}


def refused(folder: Path, why: str) -> None:
    """The set is refused in one printable line that says why."""
    with pytest.raises(ModelError) as caught:
        read_cases(folder)
    line = str(caught.value)
    assert line.startswith(f"the cases in {folder} are refused: ")
    assert line.isprintable()
    assert len(line) < 600
    assert why in line.removeprefix(f"the cases in {folder}")


def rewrite(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    document = manifest(folder)
    edit(document)
    (folder / "manifest.json").write_text(json.dumps(document), "utf-8")


def seal(folder: Path) -> None:
    """Let the manifest know the files as they are now."""

    def edit(document: dict[str, Any]) -> None:
        for entry in document["cases"]:
            for name, file in entry["files"].items():
                data = (folder / name).read_bytes()
                file.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    rewrite(folder, edit)


@pytest.mark.parametrize("name", BAD_ENTRIES)
def test_a_manifest_is_refused_with(name: str, folder: Path) -> None:
    edit, why = BAD_ENTRIES[name]
    rewrite(folder, edit)
    refused(folder, why)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "expected JSON"),
        (b"\xff\xfe", "expected JSON"),
        (b"{'format': 1}", "expected JSON"),
        (b'{"version": NaN}', "constant NaN"),
        (b'{"version": 1, "version": 1}', "there twice"),
        (b'{"version": ' + b"9" * 5000 + b"}", "expected JSON"),
        (b'{"version": 1e999}', "expected"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[]", "JSON type object"),
        (b"null", "JSON type object"),
        (b" " * (MAX_MANIFEST + 1), "at most"),
    ],
    ids=lambda value: ascii(value[:16]) if isinstance(value, bytes) else "",
)
def test_a_manifest_is_refused_that_says(text: bytes, why: str, folder: Path) -> None:
    (folder / "manifest.json").write_bytes(text)
    refused(folder, why)


def test_json_is_read_as_it_is_written() -> None:
    assert read_json('{"a": [1, 2.5, null, "é"]}'.encode()) == {"a": [1, 2.5, None, "é"]}


# Hostile files.


@pytest.mark.parametrize(
    "name", ["relu.npz", "relu/model.onnx", "relu/test_data_set_0/output_1.pb"]
)
def test_a_file_with_one_bit_changed_is_refused(name: str, folder: Path) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    refused(folder, f"expected {name}")


@pytest.mark.parametrize("name", ["relu.npz", "relu/model.onnx", "manifest.json"])
def test_a_file_that_is_missing_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    refused(folder, Path(name).name)


def test_a_file_longer_than_the_manifest_knows_is_not_read_to_its_end(folder: Path) -> None:
    with (folder / "relu" / "model.onnx").open("ab") as stream:
        stream.truncate(2**42)
    refused(folder, "in model.onnx, found more")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(folder: Path) -> None:
    (folder / "relu.npz").unlink()
    os.mkfifo(folder / "relu.npz")
    refused(folder, "expected a file relu.npz")


def arrays_of(folder: Path, name: str) -> dict[str, Array]:
    with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def test_pickles_are_never_read(folder: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (pytest.fail, ("it was unpickled",))

    arrays = arrays_of(folder, "relu")
    bomb = np.empty((), object)
    bomb[()] = Bomb()
    with (folder / "relu.npz").open("wb") as stream:
        np.savez(stream, **{**arrays, "loss": bomb})
    seal(folder)
    refused(folder, "bytes of arrays")


def replace_bytes(folder: Path, old: bytes, new: bytes) -> None:
    """Change bytes of relu.npz, its length as before, and let the manifest know."""
    path = folder / "relu.npz"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    seal(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(3, 6, 7)", b"(3, 7, 6)"),
        (b"(3, 6, 7)", b"(9, 9, 9)"),
        (b"'<f8'", b"'|O8'"),
        (b"'fortran_order': False", b"'fortran_order': True "),
        (b"gradient.npy", b"../etc/x.npy"),
        (b"conv1_1.F.npy", b"conv1_1.W.npy"),
        (b"PK\x05\x06\x00\x00", b"PK\x05\x06\x01\x00"),
        (b"PK\x03\x04\x14\x00\x00\x00\x00\x00", b"PK\x03\x04\x14\x00\x00\x00\x08\x00"),
    ],
    ids=lambda value: ascii(value)[2:-1],
)
def test_arrays_are_refused_that_are_not_stored_as_we_store_them(
    old: bytes, new: bytes, folder: Path
) -> None:
    replace_bytes(folder, old, new)
    refused(folder, "stored as gramstyle stores them")


def store(folder: Path, name: str, arrays: Mapping[str, Array]) -> None:
    """Put arrays into a .npz of ours as they are, and let the manifest know."""
    (folder / f"{name}.npz").write_bytes(pack(arrays))
    seal(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("array", ["x", "conv1_1.W", "loss", "conv1_1.dF"])
def test_numbers_that_are_none_are_refused(array: str, value: float, folder: Path) -> None:
    arrays = arrays_of(folder, "relu")
    arrays[array].reshape(-1)[-1] = value
    store(folder, "relu", arrays)
    refused(folder, f"expected numbers in {array}")


@pytest.mark.parametrize("M", [80.0, 119.5, 0.0])
def test_another_m_than_the_artwork_s_is_refused(M: float, folder: Path) -> None:
    arrays = arrays_of(folder, "style-of-another-size")
    arrays["conv1_1.M"] = np.asarray(M)
    store(folder, "style-of-another-size", arrays)
    refused(folder, "expected M = 120 at conv1_1")


@pytest.mark.parametrize("value", [-65536.0, 65536.0])
def test_a_truth_beyond_float16_has_to_be_named(value: float, folder: Path) -> None:
    arrays = arrays_of(folder, "relu")
    arrays["gradient"][0, 0, 0] = value
    store(folder, "relu", arrays)
    refused(folder, "follows from")
    rewrite(folder, change(*FIRST, "beyond_float16", to=["gradient"]))
    assert read_cases(folder)[0].truth.gradient[0, 0, 0] == value


def test_the_truth_is_the_file_s_and_that_of_a_changed_case_its_own(folder: Path) -> None:
    arrays = arrays_of(folder, "relu")
    loss = float(arrays["loss"])
    store(
        folder, "relu", {**arrays, "loss": np.asarray(1.25), "conv1_1.F": arrays["conv1_1.F"] * 2}
    )
    case = read_cases(folder)[0]
    assert case.truth.loss == 1.25
    np.testing.assert_array_equal(case.responses["conv1_1"], arrays["conv1_1.F"] * 2)
    assert replace(case, pins="something else").truth.loss == pytest.approx(loss, rel=ORDER)


def test_arrays_are_ours_to_change_and_not_the_file_s(folder: Path) -> None:
    case = read_cases(folder)[0]
    case.x[:] = 0
    assert np.any(read_cases(folder)[0].x)


# Writing.


def test_a_new_folder_appears_with_nothing_beside_it(tmp_path: Path) -> None:
    written = write_cases(tmp_path / "new", SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    files = contents(tmp_path / "new")
    assert (written.cases, written.version) == (2, VERSION)
    assert written.bytes == sum(map(len, files.values()))


def test_an_older_set_is_replaced_and_an_empty_folder_is_filled(folder: Path) -> None:
    write_cases(folder, SMALL[:1])
    assert [case.name for case in read_cases(folder)] == ["relu"]
    assert not (folder / "style-of-another-size").exists()
    shutil.rmtree(folder)
    folder.mkdir()
    write_cases(folder, SMALL[:1])
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


@pytest.mark.parametrize("where", ["notes.txt", "relu/notes.txt", "relu/test_data_set_0/a.pb"])
def test_a_set_with_something_of_somebody_else_s_is_left_alone(where: str, folder: Path) -> None:
    (folder / where).write_text("mine")
    before = contents(folder)
    with pytest.raises(OptionError, match="holds other things"):
        write_cases(folder, SMALL)
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["manifest.json", "photo.jpg", "relu.npz"])
def test_a_folder_with_other_things_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("{}")
    with pytest.raises(OptionError, match=f"{name} for one"):
        write_cases(tmp_path / "mine", SMALL)
    assert contents(tmp_path / "mine") == {name: b"{}"}
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_empty_folder_inside_is_another_thing_too(folder: Path) -> None:
    (folder / "drafts").mkdir()
    with pytest.raises(OptionError, match="drafts for one"):
        write_cases(folder, SMALL)


def test_a_file_and_a_folder_without_parent_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="is not a folder"):
        write_cases(tmp_path / "file", SMALL)
    with pytest.raises(OptionError, match="make it first"):
        write_cases(tmp_path / "a" / "b", SMALL)
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OptionError, match=r"leads nowhere|is not a folder"):
        write_cases(tmp_path / "circle", SMALL)


def test_through_a_link_the_folder_that_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_cases(tmp_path / "link", SMALL[:1])
    assert (tmp_path / "link").is_symlink()
    assert len(read_cases(tmp_path / "real")) == 1


@pytest.mark.parametrize("fails_at", ["write_bytes", "rename"])
def test_what_fails_half_way_leaves_the_old_set_and_nothing_else(
    fails_at: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real, calls = contents(folder), getattr(Path, fails_at), []

    def failing(self: Path, argument: Any) -> Any:
        calls.append(self)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(self, argument)

    monkeypatch.setattr(Path, fails_at, failing)
    with pytest.raises(ModelError, match="No space left on device; nothing was written"):
        write_cases(folder, SMALL[:1])
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


@pytest.mark.parametrize("name", ["../relu", "ReLU", "", "a" * 65, "relu\n"])
def test_a_case_whose_name_is_no_name_is_not_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected"):
        write_cases(tmp_path / "set", [replace(CASES["relu"], name=name)])
    assert not list(tmp_path.iterdir())


def test_cases_of_one_name_and_conventions_without_one_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="once"):
        write_cases(tmp_path / "set", [CASES["relu"], CASES["relu"]])
    objective = CASES["relu"].objective
    own = replace(objective.convention, style_factor=2.0)
    with pytest.raises(ModelError, match="a convention with a name in the case relu"):
        write_cases(
            tmp_path / "set",
            [replace(CASES["relu"], objective=replace(objective, convention=own))],
        )
    assert not list(tmp_path.iterdir())


def test_build_prints_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gramstyle.cli.conformance_build.cases", lambda: tuple(SMALL))
    parser = Parser()
    add_build(parser.add_subparsers())
    arguments = parser.parse_args(["build", str(tmp_path / "vectors")])
    arguments.run(arguments)
    size = sum(map(len, contents(tmp_path / "vectors").values()))
    line = f"wrote {tmp_path / 'vectors'} ({len(SMALL)} cases, {size} bytes, version {VERSION})\n"
    assert capsys.readouterr().out == line
