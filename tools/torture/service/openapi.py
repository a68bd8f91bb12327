"""Send requests that follow the OpenAPI description, or nearly, and check what comes back."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from .malformed import ARGUMENTS, make_target
from .server import Server, started, tracebacks

# What is not checked: that all data which the description allows is accepted. It cannot say what
# an image is, nor which options exclude each other.
EXCLUDED = "positive_data_acceptance"
# How long an answer may take, in seconds.
TIMEOUT = 60


@dataclass
class OpenApiResult:
    """What schemathesis found.

    Attributes
    ----------
    requests
        How many it sent.
    operations
        How many operations it tested.
    """

    name: str = "OpenAPI"
    requests: int = 0
    operations: int = 0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)


def reason_to_skip() -> str:
    """Return why this campaign cannot run here, or nothing."""
    missing = find_spec("schemathesis") is None
    return "schemathesis is not installed: pip install 'gramstyle[torture]'" if missing else ""


def check_description(
    server: Server,
    folder: Path,
    *,
    examples: int,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> OpenApiResult:
    """Test a server that is started for it, with so many examples of each operation at most.

    A second time, the ids in paths are those of a job and an upload that exist.
    """
    server.arguments = (*ARGUMENTS, *server.arguments)
    result = OpenApiResult()
    began = time.monotonic()
    with started(server, 1):
        target = make_target(server)
        _run(server, folder / "any-ids", examples, seed, (), result)
        tell(f"{result.requests} requests that follow the description")
        ids = f"""
[[operations]]
include-path-regex = "^/jobs/"
parameters = {{ "path.id" = "{target.job}" }}
[[operations]]
include-path-regex = "^/uploads/"
parameters = {{ "path.id" = "{target.upload}" }}
"""
        paths = ("--include-path-regex", "{id}", "--exclude-method", "DELETE")
        _run(server, folder / "their-ids", examples, seed, paths, result, ids)
        if server.client().get("/healthz").status != 200:
            result.findings.append("the server does not answer any more")
    result.seconds = time.monotonic() - began
    result.findings += [f"the server wrote: {each}" for each in tracebacks(server.written)]
    return result


def _run(
    server: Server,
    folder: Path,
    examples: int,
    seed: int,
    arguments: Sequence[str],
    result: OpenApiResult,
    configuration: str = "",
) -> None:
    folder.mkdir(parents=True)
    (folder / "schemathesis.toml").write_text(configuration, encoding="utf-8")
    report = folder / "report.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml"),
            *("run", f"http://127.0.0.1:{server.port}/openapi.json", "--no-color"),
            *("--phases", "examples,coverage,fuzzing", "--exclude-checks", EXCLUDED),
            *("--max-examples", str(examples), "--seed", str(seed), "--continue-on-failure"),
            *("--request-timeout", str(TIMEOUT), "--report", "json"),
            *("--report-json-path", str(report), *arguments),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if not report.exists():
        raise RuntimeError(f"schemathesis has failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    found = json.loads(report.read_text(encoding="utf-8"))
    result.requests += found["test_cases"]["generated"]
    result.operations = max(result.operations, found["operations"]["tested"])
    result.findings += [
        f"{each['title']}: {', '.join(each['operations'])} ({each['count']} times)"
        for each in found["failures"]
    ]
    result.findings += [f"an error of schemathesis: {each}" for each in found["errors"]]
