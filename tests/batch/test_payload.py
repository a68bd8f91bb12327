"""Jobs as bytes: packed here, done elsewhere, and accepted with their images."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from gramstyle.batch import Job, attempt
from gramstyle.batch.payload import accept, pack, run_remote
from gramstyle.core.arrays import Array
from gramstyle.engines.winograd import blocks, kernel_panels
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.images import read_settings
from gramstyle.model.onnx_file import Model


@pytest.fixture
def has_model(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the network where gramstyle looks for it on the other machine."""
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))


def without_disk(folder: Path, payload: bytes) -> bytes:
    """Run a payload while the files of the job are not there."""
    away = folder.with_name("away")
    folder.rename(away)
    try:
        return run_remote(payload)
    finally:
        away.rename(folder)


@pytest.mark.usefixtures("has_model")
@pytest.mark.parametrize("start", ["noise", "meadow.png"])
def test_a_job_done_elsewhere_returns_the_same_file(
    jobs_with: Callable[..., tuple[Job, ...]],
    folder: Path,
    tiny_model_path: Path,
    tiny_model: Model,
    start: str,
) -> None:
    (job,) = jobs_with(f'init = "{start}"\nstyle_layers = ["conv1_1"]\n', photos="a.png")
    payload = pack(job, network=tiny_model.sha256)
    answer = without_disk(folder, payload)
    assert not job.output.exists()
    outcome = accept(job, answer)
    assert outcome.state == "done"
    with PIL.Image.open(job.output) as image:
        elsewhere = image.tobytes()
    found = read_settings(job.output)
    # It can be reused like an image that was rendered here.
    assert attempt(job, model=tiny_model_path).state == "reused"
    job.output.unlink()
    at_home = attempt(job, model=tiny_model_path)
    with PIL.Image.open(job.output) as image:
        assert image.tobytes() == elsewhere
    expected = read_settings(job.output)
    assert found is not None
    assert expected is not None
    for settings_ in (found, expected):
        settings_["result"].pop("seconds")
    assert found == expected
    assert outcome.loss == at_home.loss


@pytest.mark.usefixtures("has_model")
def test_a_worker_keeps_the_network_that_it_has_prepared_for_its_next_job(
    jobs_with: Callable[..., tuple[Job, ...]], tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    arranged: list[tuple[int, ...]] = []

    def counted(W: Array) -> Array:
        arranged.append(W.shape)
        return kernel_panels.by_taps(W)

    monkeypatch.setattr(blocks, "by_taps", counted)
    for job in jobs_with('engine = "winograd"\n', iterations=1):
        assert accept(job, run_remote(pack(job, network=tiny_model.sha256))).state == "done"
    assert len(arranged) <= 12  # none if another test was first in this process


@pytest.mark.usefixtures("has_model")
def test_an_error_elsewhere_names_the_files_as_they_are_called_here(
    job: Job, folder: Path, tiny_model: Model
) -> None:
    job.content.write_bytes(b"nonsense")
    answer = without_disk(folder, pack(job, network=tiny_model.sha256))
    outcome = accept(job, answer)
    assert outcome.state == "failed"
    assert outcome.reason.startswith("worker ")
    assert f"cannot read '{job.content}': it is not an image" in outcome.reason
    assert list((folder / "out").iterdir()) == []


@pytest.mark.usefixtures("has_model")
def test_a_machine_without_the_network_refuses_jobs(job: Job) -> None:
    answer = run_remote(pack(job, network="0" * 64))
    with pytest.raises(OptionError, match=r"worker .* does not have the model 0{12}…"):
        accept(job, answer)
    assert not job.output.exists()


def test_a_machine_with_another_version_refuses_jobs(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = pack(job, network="0" * 64)
    monkeypatch.setattr("gramstyle.cluster.worker.installed_version", lambda: "9.9")
    with pytest.raises(OptionError, match=r"worker .* has gramstyle 9\.9 and this is"):
        accept(job, run_remote(payload))


@pytest.mark.usefixtures("has_model")
def test_a_job_fails_on_a_machine_without_room_for_its_images(
    job: Job, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = pack(job, network=tiny_model.sha256)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        answer = run_remote(payload)
    outcome = accept(job, answer)
    assert outcome.state == "failed"
    assert "No space left on device" in outcome.reason
    assert "set TMPDIR there" in outcome.reason


@pytest.mark.usefixtures("has_model")
def test_a_job_fails_if_its_image_cannot_be_written_here(
    job: Job, folder: Path, tiny_model: Model
) -> None:
    answer = run_remote(pack(job, network=tiny_model.sha256))
    (folder / "out").rmdir()
    outcome = accept(job, answer)
    assert outcome.state == "failed"
    assert "cannot write" in outcome.reason


def test_packing_a_missing_image_is_an_error_in_one_line(job: Job) -> None:
    job.content.unlink()
    with pytest.raises(GramstyleError, match=r"cannot read .*a\.png: No such file"):
        pack(job, network="")


def test_a_payload_is_a_zip_archive_with_a_header(job: Job) -> None:
    with zipfile.ZipFile(io.BytesIO(pack(job, network="f00"))) as payload:
        header = json.loads(payload.read("header.json"))
        assert payload.read("content") == job.content.read_bytes()
    assert header["network"] == "f00"
    assert header["files"].keys() == {"content", "style"}


@pytest.mark.usefixtures("has_model")
def test_a_file_that_appears_meanwhile_is_not_overwritten(job: Job, tiny_model: Model) -> None:
    answer = run_remote(pack(job, network=tiny_model.sha256))
    job.output.write_bytes(b"mine")
    outcome = accept(job, answer)
    assert outcome.state == "failed"
    assert job.output.read_bytes() == b"mine"
