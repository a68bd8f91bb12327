"""examples/deploy/Dockerfile: its steps in a folder, its server, its check of health, its end."""

import os
import signal
from pathlib import Path

import pytest

from documented import text_of
from release.dockerfile import Folder, steps_of
from serve.process import TOKEN, started
from workers import until

# These tests have limits of their own.
pytestmark = [pytest.mark.release, pytest.mark.timeout(0)]

STEPS = steps_of(text_of("examples/deploy/Dockerfile"))


def compiled_in(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.nb?")}


def test_the_steps_of_the_dockerfile_make_a_server_that_starts_without_compiling(
    tmp_path: Path,
) -> None:
    image = Folder(tmp_path)
    image.follow(STEPS)
    by_word = {step.word: step for step in STEPS}
    installed = next((tmp_path / "opt/gramstyle/lib").glob("python*/site-packages/gramstyle"))
    for path in installed.rglob("*.py"):  # as a layer stores it
        times = path.stat()
        os.utime(path, (int(times.st_atime), int(times.st_mtime)))
    cache = tmp_path / "var/cache/gramstyle"
    before = compiled_in(cache)
    assert before

    secrets = tmp_path / "run/secrets"
    secrets.mkdir(parents=True)
    (secrets / "gramstyle-token").write_text(TOKEN)
    program, *words = (image.placed(word) for word in by_word["CMD"].words)
    command = [str(tmp_path / "opt/gramstyle/bin" / program), *words, "--port", "0"]
    with started(command, environment=image.environment, cwd=tmp_path) as server:
        check = [word.replace("8000", str(server.port)) for word in by_word["HEALTHCHECK"].words]
        assert image.run(check).returncode == 0
        until(lambda: server.ask("GET", "/readyz").status_code == 200)
        job = server.submit(size=64, iterations=3)
        assert server.until_ended(job)["state"] == "finished"
        assert server.ask("GET", f"{job}/image").content.startswith(b"\x89PNG")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(300) == 0
    assert image.run(check).returncode != 0
    assert compiled_in(cache) == before
    assert (tmp_path / "var/lib/gramstyle/service/service.sqlite3").is_file()
