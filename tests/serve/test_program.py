"""The program `gramstyle serve` as a process."""

import os
import signal
import sqlite3
import sys
from pathlib import Path

from documented import ROOT
from serve.process import TOKEN, started
from workers import PATIENCE, until


def command(data: Path, model: Path, *more: str) -> list[str]:
    words = ("--port", "0", "--threads", "1", "--data", str(data), "--model", str(model), *more)
    return [sys.executable, "-m", "gramstyle", "serve", *words]


def test_sigterm_for_the_whole_group_saves_the_job_which_continues_in_a_folder_that_was_moved(
    tmp_path: Path, tiny_model_path: Path
) -> None:
    endless = 1_000_000
    words = command(tmp_path / "data", tiny_model_path, "--max-iterations", str(endless))
    environment = {**os.environ, "GRAMSTYLE_TOKEN": TOKEN}
    with started(words, environment=environment, cwd=tmp_path) as server:
        job = server.submit(size=512, iterations=endless)
        until(lambda: server.ask("GET", job).json()["iteration"] > 5)
        os.killpg(server.process.pid, signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
    with sqlite3.connect(tmp_path / "data" / "service.sqlite3") as database:
        assert database.execute("SELECT state, attempts FROM jobs").fetchall() == [("waiting", 0)]
    database.close()
    (tmp_path / "data").rename(tmp_path / "moved")
    words = command(tmp_path / "moved", tiny_model_path)
    with started(words, environment=environment, cwd=tmp_path) as server:
        first = until(lambda: (found := server.ask("GET", job).json())["iteration"] and found)
        assert first["iteration"] > 5
        server.ask("POST", f"{job}/cancel")
        assert server.until_ended(job)["state"] == "cancelled"


def test_after_the_start_a_job_compiles_nothing(tmp_path: Path, tiny_model_path: Path) -> None:
    cache = tmp_path / "cache"
    environment = {**os.environ, "GRAMSTYLE_TOKEN": TOKEN, "NUMBA_CACHE_DIR": str(cache)}
    words = command(tmp_path / "data", tiny_model_path)
    with started(words, environment=environment, cwd=tmp_path) as server:
        until(lambda: server.ask("GET", "/readyz").status_code == 200)
        before = {path.name for path in cache.rglob("*.nbc")}
        assert before
        assert server.until_ended(server.submit(size=256, iterations=5))["state"] == "finished"
    assert {path.name for path in cache.rglob("*.nbc")} == before


def test_a_file_of_a_form_may_be_as_large_as_an_upload_and_not_larger(
    tmp_path: Path, tiny_model_path: Path
) -> None:
    image = (ROOT / "docs" / "samples" / "chelsea.jpg").read_bytes()
    most = len(image)
    words = command(tmp_path / "data", tiny_model_path, "--max-upload", str(most))
    environment = {**os.environ, "GRAMSTYLE_TOKEN": TOKEN}
    with started(words, environment=environment, cwd=tmp_path) as server:
        for extra, status in ((b"", 202), (b"\0", 413)):
            answer = server.ask("POST", "/jobs", files={"content": image + extra, "style": image})
            assert answer.status_code == status
        assert answer.json()["detail"] == (
            f"content has more than {most:,} bytes, the limit of this server"
        )
