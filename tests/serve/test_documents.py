"""docs/serve.md: its commands and its program against a server, its tables against the code."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest

from documented import text_of
from gramstyle.cli.commands.serve.defaults import LIMITS
from gramstyle.serve.limits import Limits
from serve.process import SAMPLES, Server, started

PAGE = text_of("docs/serve.md")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return [block.replace("512", "64") for block in found]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model_path: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    words = [
        sys.executable,
        "-m",
        "gramstyle",
        "serve",
        "--port",
        "0",
        "--data",
        str(folder / "data"),
    ]
    environment = {**os.environ, "GRAMSTYLE_MODEL": str(tiny_model_path)}
    environment.pop("GRAMSTYLE_TOKEN", None)
    with started(words, environment=environment, cwd=folder) as server:
        yield server


@pytest.fixture
def images(tmp_path: Path) -> Path:
    shutil.copy(SAMPLES / "chelsea.jpg", tmp_path / "photo.jpg")
    shutil.copy(SAMPLES / "meadow.jpg", tmp_path / "painting.jpg")
    return tmp_path


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_render_an_image_and_remove_the_job(server: Server, images: Path) -> None:
    script = "\n".join(block for block in blocks("sh") if "curl" in block)
    script = script.replace(":8000", f":{server.port}").replace("curl ", "curl --noproxy '*' ")
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script + '\necho && echo "/jobs/$job"'],  # noqa: S607
        cwd=images,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert '"state":"finished"' in done.stdout
    with PIL.Image.open(images / "result.png") as image:
        assert (image.format, image.width) == ("PNG", 64)
    assert b"gramstyle 0" in (images / "result.jpg").read_bytes()
    assert tomllib.loads((images / "result.toml").read_text())["size"] == 64
    cancelled = done.stdout.splitlines()[-1]
    assert server.until_ended(cancelled)["state"] in ("cancelled", "finished")  # it is fast


def test_the_program_renders_an_image(server: Server, images: Path) -> None:
    (program,) = blocks("python")
    program = program.replace(":8000", f":{server.port}")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=images, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with PIL.Image.open(images / "result.png") as image:
        assert image.width == 64


def test_the_table_of_limits_has_all_of_them_with_their_defaults() -> None:
    table = dict(re.findall(r"^\| `--([\w-]+)` \|.*\| ([\d,]+(?: [MG]B)?) \|$", PAGE, re.MULTILINE))
    units = {"MB": 10**6, "GB": 10**9}
    found = {}
    for name, shown in table.items():
        number, _, unit = shown.replace(",", "").partition(" ")
        found[name.replace("-", "_")] = int(number) * units.get(unit, 1)
    assert found == {name: getattr(Limits(), field) for name, (field, _, _) in LIMITS.items()}


def test_all_addresses_and_all_statuses_of_the_server_are_on_the_page(server: Server) -> None:
    paths = server.ask("GET", "/openapi.json").json()["paths"]
    assert len(paths) > 10
    for path in paths:
        assert f"{path.format(id='ID', kind='png')}`" in PAGE.replace(" with", "`"), path
    answers = [each["responses"] for path in paths.values() for each in path.values()]
    statuses = {status for each in answers for status in each if status >= "400"}
    table = re.findall(r"^\| (\d{3}(?:, \d{3})*) \|", PAGE, re.MULTILINE)
    assert statuses <= {status for row in table for status in row.split(", ")}
