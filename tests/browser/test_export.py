"""`gramstyle objective export --web`: a complete folder, or one line and nothing."""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from gramstyle.browser import RUNTIME_FILES, runtime
from gramstyle.cli import main
from gramstyle.engines.onnx_session import open_session
from gramstyle.run.options import Options
from gramstyle.run.prepare import prepare

Export = Callable[..., int]


@pytest.fixture
def package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package with the names of ONNX Runtime's, in its place."""
    path = tmp_path_factory.mktemp("package") / "runtime.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("package.json", *(f"dist/{name}" for name in (*RUNTIME_FILES, "ort.js"))):
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    digest = hashlib.sha512(path.read_bytes()).hexdigest()
    monkeypatch.setattr(runtime, "TARBALL_SHA512", digest)
    return path


@pytest.fixture
def export(package: Path, tiny_model_path: Path) -> Export:
    """Run `gramstyle objective export --web` with a tiny model."""

    def call(folder: Path, *arguments: str | Path, runtime: Path = package) -> int:
        given = ("--web", folder, "--runtime", runtime, "--model", tiny_model_path, *arguments)
        return main(["objective", "export", *map(str, given)])

    return call


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("gramstyle: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def settings(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "settings.json").read_text("utf-8"))
    return found


def test_the_folder_contains_all_that_its_files_name(
    export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web = tmp_path / "web"
    assert export(web) == 0
    assert re.fullmatch(rf"wrote {web} \(\d+ files, \d+\.\d MB\)\n", capsys.readouterr().out)
    found = names(web)
    assert found == set(settings(web)["files"])
    assert {path.name for path in tmp_path.iterdir()} == {"web"}
    page = (web / "index.html").read_text("utf-8")
    for name in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert name in found
    for path in web.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', path.read_text("utf-8")):
            assert name in found
    assert {"objective.onnx", "targets.onnx", "onnxruntime/LICENSE", "_headers"} <= found
    assert (web / "onnxruntime/ort.wasm.min.js").read_text() == "dist/ort.wasm.min.mjs"
    assert not [name for name in found if name.endswith(".mjs")]  # servers may not know them
    assert "Copyright (c) Microsoft Corporation" in (web / "onnxruntime/LICENSE").read_text()


def test_the_page_and_its_modules_name_no_other_host(export: Export, tmp_path: Path) -> None:
    web = tmp_path / "web"
    assert export(web) == 0
    for path in (*web.glob("*.js"), *web.glob("*.html"), *web.glob("*.css")):
        hosts = re.findall(r"https?://([^/\s\"'<]+)", path.read_text("utf-8"))
        assert set(hosts) <= {"localhost:8000"}, path.name


def test_the_graph_takes_the_weights_and_any_size_and_has_no_defaults(
    export: Export,
    tmp_path: Path,
    tiny_model_path: Path,
    rng: np.random.Generator,
) -> None:
    web = tmp_path / "web"
    assert export(web, "--tv", "0.5", "--style-layers", "conv1_1,conv2_1") == 0
    objective = onnx.load(web / "objective.onnx")
    inputs = {each.name for each in objective.graph.input}
    assert not inputs & {each.name for each in objective.graph.initializer}
    session = open_session((web / "objective.onnx").read_bytes(), threads=1)
    targets = open_session((web / "targets.onnx").read_bytes(), threads=1)
    weights = settings(web)["weights"]
    assert weights == {"alpha": None, "beta": 1.0, "tv.weight": 0.5}
    for height, width in ((32, 48), (40, 33)):
        content, style, x = rng.integers(0, 256, (3, 3, height, width)).astype(np.float32)
        feeds = {"x": x[None], "beta": np.float32(1), "tv.weight": np.float32(0.5)}
        feeds["alpha"] = np.float32(settings(web)["alphaPixels"] / (width * height))
        for image, is_content in ((content, True), (style, False)):
            outputs = [each.name for each in targets.get_outputs()]
            values = dict(zip(outputs, targets.run(None, {"x": image[None]}), strict=True))
            feeds |= {key: value for key, value in values.items()
                      if key.endswith(".P") == is_content}  # fmt: skip
        assert set(feeds) == inputs
        (found,) = session.run(["loss"], {k: np.asarray(v) for k, v in feeds.items()})
        options = Options(size=max(height, width), scales=1, tv=0.5, engine="numpy",
                          style_layers=("conv1_1", "conv2_1"))  # fmt: skip
        images = (each.transpose(1, 2, 0) / 255 for each in (content, style))
        with prepare(*images, options, model=tiny_model_path) as prepared:
            truth = prepared.objective.loss_and_gradient(x.astype(np.float64)).loss
        assert float(found) == pytest.approx(truth, rel=1e-4)  # float32 through 13 layers


@pytest.mark.parametrize(
    ("options", "alpha", "pixels"),
    [
        ((), None, 24),
        (("--content-strength", "2"), None, 48),
        (("--alpha", "0.25"), 0.25, 0),
        (("--convention", "paper"), None, 50),
        (("--convention", "author"), 1, 0),
    ],
)
def test_the_settings_have_the_default_of_alpha_at_any_size(
    export: Export, tmp_path: Path, options: tuple[str, ...], alpha: float | None, pixels: float
) -> None:
    assert export(tmp_path / "web", *options) == 0
    found = settings(tmp_path / "web")
    assert found["weights"]["alpha"] == alpha
    assert found["alphaPixels"] == pytest.approx(pixels)
    assert found["firstScale"] == (512 if "--convention" in options else 160)


def test_another_export_replaces_the_folder(export: Export, tmp_path: Path) -> None:
    web = tmp_path / "web"
    assert export(web) == 0
    first = (web / "objective.onnx").read_bytes()
    assert export(web, "--pooling", "max") == 0
    assert (web / "objective.onnx").read_bytes() != first
    assert {path.name for path in tmp_path.iterdir()} == {"web"}
    assert names(web) == set(settings(web)["files"])


def test_an_empty_folder_is_filled(export: Export, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    assert export(tmp_path / "web") == 0
    assert "index.html" in names(tmp_path / "web")


def test_a_link_to_a_folder_stays_a_link(export: Export, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "web").symlink_to(tmp_path / "real")
    assert export(tmp_path / "web") == 0
    assert (tmp_path / "web").is_symlink()
    assert "index.html" in names(tmp_path / "real")


@pytest.mark.parametrize(
    "content",
    [
        "mine",
        '{"files": 3}',
        '{"files": ["settings.json"]}',
        '{"files": [["settings.json"]]}',
        "[]",
    ],
)
def test_a_folder_with_files_of_others_is_left_as_it_is(
    export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    web = tmp_path / "web"
    web.mkdir()
    (web / "settings.json").write_text(content)
    (web / "thesis.txt").write_text("mine")
    assert export(web) == 2
    said = refusal(capsys)
    assert "which this command has not written" in said
    assert "name an empty or new folder" in said
    assert (web / "thesis.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"web"}


def test_a_file_added_to_the_folder_is_not_lost(
    export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web = tmp_path / "web"
    assert export(web) == 0
    capsys.readouterr()
    (web / "samples" / "mine.jpg").write_bytes(b"mine")
    before = names(web)
    assert export(web) == 2
    assert "contains samples/mine.jpg" in refusal(capsys)
    assert names(web) == before


def test_a_file_a_missing_parent_and_the_current_folder_are_refused(
    export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "file").write_text("mine")
    assert export(tmp_path / "file") == 2
    assert "is a file" in refusal(capsys)
    assert export(tmp_path / "no" / "web") == 2
    assert f"there is no folder {tmp_path / 'no'}; make it first" in refusal(capsys)
    (tmp_path / "web").mkdir()
    monkeypatch.chdir(tmp_path / "web")
    assert export(Path()) == 2
    assert "is the current folder" in refusal(capsys)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--size", "64x64"), "--web excludes --size"),
        (("--content", "photo.png"), "--web excludes --content"),
        (("--style", "painting.png"), "--web excludes --style"),
        (("--targets", "stored"), "--web excludes --targets stored"),
        (("--targets-model", "targets.onnx"), "--web excludes --targets-model"),
        (("--padding", "circular"), "--web excludes --padding circular"),
        (("--style-blend", "1,2"), "--style-blend is for --targets stored"),
        (("--style-regions", "a.png"), "--style-regions is for --targets stored"),
        (("--alpha", "-1"), "alpha must be a number from 0 upwards"),
    ],
)
def test_options_that_contradict_the_folder_are_one_line(
    export: Export,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    given: tuple[str, ...],
    said: str,
) -> None:
    assert export(tmp_path / "web", *given) == 2
    assert said in refusal(capsys)
    assert list(tmp_path.iterdir()) == []


def test_runtime_without_web_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("-o", tmp_path / "out.onnx", "--runtime", tmp_path / "runtime.tgz")
    assert main(["objective", "export", *map(str, given)]) == 2
    assert "--runtime is for --web" in refusal(capsys)


@pytest.mark.parametrize("change", ["flipped", "cut", "longer", "empty"])
def test_another_package_than_the_recorded_one_is_refused(
    export: Export,
    package: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: str,
) -> None:
    data = bytearray(package.read_bytes())
    data[len(data) // 2] ^= change == "flipped"
    changed = {"cut": data[:100], "longer": data + b"\0", "empty": b""}.get(change, data)
    other = tmp_path / "other.tgz"
    other.write_bytes(changed)
    assert export(tmp_path / "web", runtime=other) == 2
    said = refusal(capsys)
    assert "is not onnxruntime-web 1.30.0: its sha512 is" in said
    assert "--runtime TGZ" in said
    assert {path.name for path in tmp_path.iterdir()} == {"other.tgz"}


def test_a_package_that_cannot_be_read_is_one_line(
    export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(tmp_path / "web", runtime=tmp_path / "missing.tgz") == 2
    assert "No such file" in refusal(capsys)
    assert export(tmp_path / "web", runtime=tmp_path) == 2
    assert "Is a directory" in refusal(capsys)


def test_a_failure_while_writing_keeps_the_old_folder(
    export: Export,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    web = tmp_path / "web"
    assert export(web) == 0
    before = {name: (web / name).read_bytes() for name in names(web)}
    capsys.readouterr()
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "worker.js":
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert export(web, "--pooling", "max") == 2
    assert "No space left on device; nothing was written" in refusal(capsys)
    assert {name: (web / name).read_bytes() for name in names(web)} == before
    assert {path.name for path in tmp_path.iterdir()} == {"web"}
