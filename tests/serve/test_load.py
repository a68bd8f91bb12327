"""Many jobs at once, and many clients that come and go; docs/reliability.md has large ones."""

from pathlib import Path

import pytest

from serve.campaigns import campaign

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")


def test_each_of_many_jobs_from_many_connections_finishes_once(tmp_path: Path) -> None:
    found = campaign(tmp_path, "--only", "load", "--jobs", 24, "--connections", 6)["load"]
    assert (found["jobs"], found["finished"]) == (24, 24)


def test_clients_that_come_and_go_leave_nothing_in_the_server(tmp_path: Path) -> None:
    found = campaign(tmp_path, "--only", "growth", "--rounds", 2, "--clients", 12)["growth"]
    assert (found["watchers"], found["uploads"]) == (24, 24)
