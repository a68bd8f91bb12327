"""The command `gramstyle model`."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from cli.assertions import assert_one_line, files
from gramstyle.cli import main
from gramstyle.model.architecture import VGGS, Architecture
from gramstyle.model.known import DEFAULT, KNOWN_NETWORKS
from gramstyle.model.onnx_file import read_model
from gramstyle.model.preprocessings import TORCHVISION
from gramstyle.model.weights import read_weights
from weight_files import BLOCKS, FORMATS, chain, write_keras, write_torch_zip

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and a narrow VGG-19."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(VGGS, "VGG-19", Architecture(BLOCKS))
    monkeypatch.delenv("GRAMSTYLE_MODEL", raising=False)
    return tmp_path


@pytest.fixture
def photographs(folder: Path, rng: np.random.Generator) -> Path:
    (folder / "photographs").mkdir()
    for name in ("a.png", "b.jpg"):
        pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / "photographs" / name)
    return folder / "photographs"


def output(capsys: Capture) -> str:
    return " ".join(capsys.readouterr().out.split())


# export


def test_export_reports_the_file_and_the_network(folder: Path, capsys: Capture) -> None:
    write_keras(Path("keras.h5"), chain())
    assert main(["model", "export", "--from", "keras.h5", "--to", "model.onnx"]) == 0
    out = output(capsys)
    model = read_model(Path("model.onnx"))
    for word in ("wrote model.onnx", "MB", model.metadata["precision"], model.sha256):
        assert word in out
    assert "network: unknown VGG-19: its weights are not those of a known network" in out


def test_export_accepts_precision_and_convention(folder: Path) -> None:
    FORMATS["torch.pth"](Path("w.pth"), chain())
    arguments = ["--from", "w.pth", "--to", "m.onnx", "--preprocess", "torchvision"]
    assert main(["model", "export", *arguments, "--precision", "float16"]) == 0
    model = read_model(Path("m.onnx"))
    assert model.metadata["precision"] == "float16"
    assert model.preprocessing == TORCHVISION


def test_export_takes_a_described_network_and_info_names_it(folder: Path, capsys: Capture) -> None:
    blocks = ((2, 3), (4,))
    layers = chain(blocks=blocks)
    arrays = {f"{k}.weight": W for k, (W, _) in zip((0, 2, 5), layers, strict=True)}
    write_torch_zip(Path("small.pth"), arrays)
    arguments = ["--from", "small.pth", "--to", "m.onnx", "--preprocess", "torchvision"]
    assert main(["model", "export", *arguments, "--network", "2,3,pool,4"]) == 0
    assert "network: unknown 2,3,pool,4,pool: its weights" in output(capsys)
    assert main(["model", "info", "m.onnx"]) == 0
    assert "architecture 2,3,pool,4,pool" in output(capsys)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("vgg17", ("--network must be VGG-11", "did you mean")),
        ("2,3,pool,x", ("'x' is neither",)),
        ("VGG-16", ("small.pth", "conv1_1 of VGG-16")),
        ("2,3,pool,4,pool,5", ("small.pth", "the 4 convolutions of the network, found 3")),
    ],
)
def test_export_refuses_another_network_in_one_line(
    network: str, words: tuple[str, ...], folder: Path, capsys: Capture
) -> None:
    layers = chain(blocks=((2, 3), (4,)))
    arrays = {f"{k}.weight": W for k, (W, _) in zip((0, 2, 5), layers, strict=True)}
    write_torch_zip(Path("small.pth"), arrays)
    arguments = ["--from", "small.pth", "--to", "m.onnx", "--preprocess", "torchvision"]
    assert main(["model", "export", *arguments, "--network", network]) == 2
    assert_one_line(capsys, *words)
    assert files(folder) == {"small.pth"}


def test_export_of_another_file_gives_one_line_and_writes_nothing(
    folder: Path, capsys: Capture
) -> None:
    PIL.Image.new("RGB", (4, 4)).save("photo.png")
    assert main(["model", "export", "--from", "photo.png", "--to", "m.onnx"]) == 2
    assert_one_line(capsys, "photo.png", "expected a torch checkpoint")
    assert files(folder) == {"photo.png"}


def test_export_asks_for_the_convention_and_writes_nothing(folder: Path, capsys: Capture) -> None:
    FORMATS["torch.pth"](Path("w.pth"), chain())
    assert main(["model", "export", "--from", "w.pth", "--to", "m.onnx"]) == 2
    assert_one_line(capsys, "w.pth", "--preprocess caffe", "--preprocess torchvision")
    assert files(folder) == {"w.pth"}


def test_export_does_not_overwrite_its_source(folder: Path, capsys: Capture) -> None:
    write_keras(Path("keras.h5"), chain())
    before = Path("keras.h5").read_bytes()
    assert main(["model", "export", "--from", "keras.h5", "--to", "./keras.h5"]) == 2
    assert_one_line(capsys, "keras.h5 would overwrite one of its sources")
    assert Path("keras.h5").read_bytes() == before


def test_export_to_a_missing_folder_is_refused_before_reading(
    folder: Path, capsys: Capture
) -> None:
    assert main(["model", "export", "--from", "missing.h5", "--to", "no/m.onnx"]) == 2
    assert_one_line(capsys, "cannot write no/m.onnx: there is no folder no")


@pytest.mark.parametrize("is_default", [True, False])
def test_only_the_default_weights_are_exported_without_a_target(
    is_default: bool, folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_keras(Path("keras.h5"), chain())
    place = folder / "models" / "vgg19.onnx"
    monkeypatch.setattr("gramstyle.model.locate.checkout_model", lambda: place)
    if is_default:
        digest = read_weights(Path("keras.h5")).metadata["weights.sha256"]
        monkeypatch.setitem(KNOWN_NETWORKS, digest, DEFAULT)
    assert main(["model", "export", "--from", "keras.h5"]) == (0 if is_default else 2)
    assert place.exists() == is_default
    if not is_default:
        assert_one_line(capsys, "add --to FILE")


# info


def test_info_prints_layers_metadata_and_network(tiny_model_path: Path, capsys: Capture) -> None:
    assert main(["model", "info", str(tiny_model_path)]) == 0
    out = output(capsys)
    for word in ("conv1_1", "4×3×3×3", "4×512×512", "pool5", "sha256", "licence", "BGR", "source"):
        assert word in out
    assert "network unknown 4,4,pool,5,5,pool,6,6,6,6,pool," in out


def test_info_names_a_known_network_and_its_modifications(
    folder: Path, photographs: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_keras(Path("keras.h5"), chain())
    digest = read_weights(Path("keras.h5")).metadata["weights.sha256"]
    monkeypatch.setitem(KNOWN_NETWORKS, digest, DEFAULT)
    for precision in ("float32", "float16"):
        to = ["--to", f"{precision}.onnx", "--precision", precision]
        assert main(["model", "export", "--from", "keras.h5", *to]) == 0
    arguments = ["--model", "float32.onnx", "--to", "normalised.onnx", "--quiet"]
    assert main(["model", "normalise", str(photographs), *arguments]) == 0
    capsys.readouterr()
    for file, words in {
        "float32.onnx": "network VGG-19 of Oxford (Caffe), weights of 256 values",
        "float16.onnx": "(by its metadata), stored as float16",
        "normalised.onnx": "(by its metadata), filters rescaled on 2 images",
    }.items():
        assert main(["model", "info", file]) == 0
        out = output(capsys)
        assert words in out
        assert ("(by its metadata)" in out) == (file != "float32.onnx")


@pytest.mark.real_model
def test_info_names_the_default_network(real_model_path: Path, capsys: Capture) -> None:
    assert main(["model", "info", str(real_model_path)]) == 0
    out = output(capsys)
    assert "network VGG-19 of Oxford (Caffe), weights of 256 values a layer" in out
    assert "CC-BY-4.0" in out


# compare


def test_compare_prints_every_layer_and_a_verdict(folder: Path, capsys: Capture) -> None:
    for name, seed in (("one.h5", 0), ("two.h5", 1)):
        write_keras(Path(name), chain(seed))
        assert main(["model", "export", "--from", name, "--to", f"{name}.onnx"]) == 0
    capsys.readouterr()
    assert main(["model", "compare", "one.h5.onnx", "one.h5.onnx"]) == 0
    out = output(capsys)
    for word in ("weights", "biases", "responses", "rescaled", "conv1_1", "conv5_4"):
        assert word in out
    assert "the same network: all weights and biases are equal" in out
    assert main(["model", "compare", "one.h5.onnx", "two.h5.onnx"]) == 0
    assert "another network" in output(capsys)


def test_compare_uses_the_given_image(
    folder: Path, photographs: Path, tiny_model_path: Path, capsys: Capture
) -> None:
    tiny = str(tiny_model_path)
    assert main(["model", "compare", tiny, tiny, "--image", str(photographs / "a.png")]) == 0
    assert "the same network" in output(capsys)
    assert main(["model", "compare", tiny, tiny, "--image", "missing.png"]) == 2
    assert_one_line(capsys, "missing.png")


def test_compare_of_another_format_gives_one_line(folder: Path, capsys: Capture) -> None:
    write_keras(Path("keras.h5"), chain())
    assert main(["model", "compare", "keras.h5", "keras.h5"]) == 2
    assert_one_line(capsys, "keras.h5", "not an ONNX file", "which accepts weights of any format")
    FORMATS["zoo.onnx"](Path("zoo.onnx"), chain())
    assert main(["model", "compare", "zoo.onnx", "zoo.onnx"]) == 2
    assert_one_line(
        capsys, "zoo.onnx is another program's ONNX file", "export --from FILE --to MODEL"
    )


# normalise


def test_normalise_writes_a_network_with_metadata_of_the_images(
    photographs: Path, tiny_model_path: Path, capsys: Capture
) -> None:
    model = ["--model", str(tiny_model_path)]
    assert main(["model", "normalise", "photographs", "--to", "n.onnx", *model]) == 0
    out = output(capsys)
    assert "wrote n.onnx" in out
    assert "normalised on 2 images" in out
    metadata = read_model(Path("n.onnx")).metadata
    assert metadata["normalised.images"] == "2"
    assert metadata["source"] == "random"


def test_normalise_reports_the_images_left_out(
    photographs: Path, tiny_model_path: Path, capsys: Capture
) -> None:
    (photographs / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    model = ["--model", str(tiny_model_path)]
    assert main(["model", "normalise", "photographs", "--to", "n.onnx", *model]) == 0
    captured = capsys.readouterr()
    assert "left out: " in captured.err
    assert "damaged.png" in captured.err
    assert "normalised on 2 images; 1 left out" in captured.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing", "--to", "n.onnx"], ["no image or folder missing"]),
        (["a" * 300, "--to", "n.onnx"], ["cannot read aaa", "too long"]),
        (["photographs", "--to", "no/n.onnx"], ["no folder no"]),
        (["photographs", "--to", "photographs/a.png"], ["overwrite", "a.png"]),
        (["photographs", "--to", "n.onnx", "--size", "0"], ["size must be at least 1"]),
        (["photographs", "--to", "n.onnx", "--size", "10"], ["none of 2 images", "too small"]),
    ],
)
def test_a_failed_normalise_gives_one_line_and_writes_nothing(
    arguments: list[str],
    words: list[str],
    photographs: Path,
    tiny_model_path: Path,
    capsys: Capture,
) -> None:
    before = {path: path.read_bytes() for path in photographs.iterdir()}
    quiet = ["--model", str(tiny_model_path), "--quiet"]
    assert main(["model", "normalise", *arguments, *quiet]) == 2
    assert_one_line(capsys, *words)
    assert {path: path.read_bytes() for path in photographs.iterdir()} == before
    assert not Path("n.onnx").exists()


def test_normalise_does_not_overwrite_its_model(
    photographs: Path, tiny_model_path: Path, capsys: Capture
) -> None:
    Path("own.onnx").write_bytes(tiny_model_path.read_bytes())
    assert (
        main(["model", "normalise", "photographs", "--model", "own.onnx", "--to", "own.onnx"]) == 2
    )
    assert_one_line(capsys, "own.onnx would overwrite one of its sources")


def test_an_interrupted_normalise_writes_nothing(
    photographs: Path,
    tiny_model_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gramstyle.cli.commands.model.normalise.mean_activations", stopped)
    model = ["--model", str(tiny_model_path)]
    assert main(["model", "normalise", "photographs", "--to", "n.onnx", *model]) == 130
    assert "stopped by Ctrl-C" in capsys.readouterr().err
    assert not Path("n.onnx").exists()


# help


@pytest.mark.parametrize("action", ["export", "info", "compare", "normalise", "fetch"])
def test_every_action_has_help(action: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["model", action, "--help"])
    assert stop.value.code == 0
    assert f"usage: gramstyle model {action}" in capsys.readouterr().out
