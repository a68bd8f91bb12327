"""Kills of the server and of its workers while there are jobs; docs/reliability.md has more."""

from pathlib import Path

import pytest

from serve.campaigns import campaign

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")


def test_jobs_survive_kills_of_the_server_and_of_a_worker_with_the_same_bits(
    tmp_path: Path,
) -> None:
    found = campaign(tmp_path, "--only", "kills", "--kills", 3, "--jobs", 6, "--seed", 8)["kills"]
    assert found["kills"] == 3
    assert found["jobs"] == found["finished"] == found["identical"] >= 6


def test_a_server_whose_workers_cannot_start_keeps_its_jobs_and_ends_when_it_is_told(
    tmp_path: Path,
) -> None:
    troubles = ("no model for a new worker", "SIGTERM at the start")
    found = campaign(tmp_path, "--only", "troubles", "--troubles", *troubles)["troubles"]
    assert found["troubles"] == len(troubles)
