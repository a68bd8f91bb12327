"""The files in examples/deploy: their commands are those of this version, and work together."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from documented import ROOT, text_of
from gramstyle.cli.program import command_parser
from release.dockerfile import Step, steps_of
from serve.process import TOKEN, started
from workers import PATIENCE, free_port, until

yaml: Any = pytest.importorskip("yaml", reason="the extra distributed installs it")

DEPLOY = "examples/deploy"
STEPS = steps_of(text_of(f"{DEPLOY}/Dockerfile"))
COMPOSE = yaml.safe_load(text_of(f"{DEPLOY}/compose.yaml"))
UNIT = text_of(f"{DEPLOY}/gramstyle.service")
SERVICES = COMPOSE["services"]


def arguments(words: list[str]) -> Any:
    """What the program's own parser makes of a command."""
    program, *rest = words
    assert Path(program).name == "gramstyle"
    return command_parser().parse_args(rest)


def copied(steps: list[Step]) -> Iterator[str]:
    for step in steps:
        if step.word == "COPY" and not step.text.startswith("--from"):
            yield from step.words[:-1]


def test_the_dockerfile_copies_files_that_exist_and_that_its_ignore_file_lets_in() -> None:
    ignored = text_of(f"{DEPLOY}/Dockerfile.dockerignore").splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    sources = set(copied(STEPS))
    assert all((ROOT / source).exists() for source in sources)
    assert sources == let_in


def test_all_commands_name_options_and_files_that_fit_together() -> None:
    image = arguments(next(step.words for step in STEPS if step.word == "CMD"))
    compose = arguments(SERVICES["server"]["command"])
    unit = arguments(shlex.split(re.findall(r"^ExecStart=(.+)$", UNIT, re.MULTILINE)[0]))
    assert (image.host, compose.host, unit.host) == ("0.0.0.0", "0.0.0.0", "127.0.0.1")  # noqa: S104
    assert image.data == compose.data
    assert str(image.data).startswith("/var/lib/gramstyle/")
    assert image.token_file == compose.token_file == Path("/run/secrets/gramstyle-token")
    assert SERVICES["server"]["secrets"] == list(COMPOSE["secrets"]) == [image.token_file.name]
    assert unit.token_file == Path("${CREDENTIALS_DIRECTORY}/token")
    assert "LoadCredential=token:" in UNIT
    assert compose.workers == SERVICES["worker"]["deploy"]["replicas"]
    nginx = text_of(f"{DEPLOY}/nginx.conf")
    limits = 9 * 32_000_000  # a content image and eight style images
    assert int(re.findall(r"client_max_body_size (\d+)m", nginx)[0]) * 1_000_000 == limits


def test_only_the_server_can_be_reached_and_the_cluster_has_a_network_of_its_own() -> None:
    ports = {name: each.get("ports", []) for name, each in SERVICES.items()}
    assert ports == {"server": ["127.0.0.1:8000:8000"], "scheduler": [], "worker": []}
    assert COMPOSE["networks"]["cluster"]["internal"] is True
    assert {name for name, each in SERVICES.items() if "front" in each["networks"]} == {"server"}
    for each in SERVICES.values():
        assert each["read_only"] is True
        assert each["cap_drop"] == ["ALL"]
        assert each["mem_limit"]


def test_the_commands_of_the_compose_file_make_a_service_that_runs_jobs_and_ends(
    tmp_path: Path, tiny_model_path: Path
) -> None:
    port = free_port()
    (tmp_path / "token").write_text(TOKEN)
    environment = {
        **os.environ,
        "GRAMSTYLE_MODEL": str(tiny_model_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }

    def command(service: str) -> list[str]:
        text = json.dumps(SERVICES[service]["command"])
        for there, here in (
            ("scheduler:8786", f"127.0.0.1:{port}"),
            ('"8786"', f'"{port}", "--host", "127.0.0.1"'),
            ("0.0.0.0", "127.0.0.1"),  # noqa: S104
            ("/run/secrets/gramstyle-token", str(tmp_path / "token")),
            ("/var/lib/gramstyle", str(tmp_path)),
            ('"/tmp"', json.dumps(str(tmp_path))),
        ):
            text = text.replace(there, here)
        program, *words = json.loads(text)
        return [sys.executable, "-m", program, *words]

    with ExitStack() as stack:
        log = stack.enter_context((tmp_path / "dask.txt").open("w"))
        for service in ("scheduler", "worker"):
            process = subprocess.Popen(
                command(service), env=environment, cwd=tmp_path, stdout=log, stderr=log
            )
            stack.callback(process.wait, PATIENCE)
            stack.callback(process.terminate)
            if service == "scheduler":
                kind, *check = SERVICES[service]["healthcheck"]["test"]
                assert (kind, check[0]) == ("CMD", "python")
                check = [sys.executable, *(word.replace("8786", str(port)) for word in check[1:])]
                until(lambda: subprocess.run(check, stderr=subprocess.DEVNULL).returncode == 0)  # noqa: B023
        words = [*command("server"), "--port", "0"]
        server = stack.enter_context(started(words, environment=environment, cwd=tmp_path))
        job = server.until_ended(server.submit(size=64, iterations=3))
        assert (job["state"], job["problem"]) == ("finished", None)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(300) == 0, server.said()
