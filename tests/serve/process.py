"""`gramstyle serve` as a process, and requests to it."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from documented import ROOT
from workers import until

TOKEN = "a token of twenty or more characters"  # noqa: S105 - of tests
SAMPLES = ROOT / "docs" / "samples"


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int
    stderr: Path

    def said(self) -> str:
        """Return what it has written to stderr."""
        return self.stderr.read_text()

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        return httpx.request(
            method,
            f"http://127.0.0.1:{self.port}{path}",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=300,
            trust_env=False,
            **more,
        )

    def submit(self, **options: Any) -> str:
        """Submit a job of two sample images; return its path."""
        names = {"content": "chelsea.jpg", "style": "meadow.jpg"}
        files = {key: (SAMPLES / name).read_bytes() for key, name in names.items()}
        fields = {"job": json.dumps({"options": options})}
        answer = self.ask("POST", "/jobs", files=files, data=fields)
        assert answer.status_code == 202, answer.text
        return str(answer.headers["Location"])

    def until_ended(self, job: str) -> dict[str, Any]:
        states = ("waiting", "running")
        return until(lambda: (j := self.ask("GET", job).json())["state"] not in states and j)


@contextmanager
def started(
    command: Sequence[str], *, environment: Mapping[str, str], cwd: Path
) -> Iterator[Server]:
    """Start a server in a process group of its own, and wait for its address."""
    said = cwd / "stderr.txt"
    with said.open("w") as stderr:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=stderr, stderr=stderr, start_new_session=True
        )
    try:
        until(lambda: "serving on" in said.read_text() or process.poll() is not None)
        found = re.search(r"serving on http://\S+:(\d+);", said.read_text())
        assert found, said.read_text()
        yield Server(process, int(found[1]), said)
    finally:
        process.kill()
        process.wait()
