"""Malformed requests, and clients without the right; docs/reliability.md has more of them."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from serve.campaigns import campaign

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")


def test_malformed_requests_are_refused_without_errors_hangs_or_names_of_files(
    tmp_path: Path,
) -> None:
    found = campaign(tmp_path, "--only", "malformed", "--requests", 1000)["malformed"]
    assert found["requests"] == 1000
    assert {"0", "200", "400", "404", "405", "421"} <= set(found["statuses"])


@pytest.mark.skipif(find_spec("schemathesis") is None, reason="schemathesis is not installed")
def test_the_answers_are_those_that_the_description_promises(tmp_path: Path) -> None:
    found = campaign(tmp_path, "--only", "openapi", "--examples", 1)["openapi"]
    assert found["operations"] > 12


def test_nothing_is_open_to_clients_without_the_token_or_from_another_site(
    tmp_path: Path,
) -> None:
    assert campaign(tmp_path, "--only", "access")["access"]["requests"] > 200
