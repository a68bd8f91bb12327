"""examples/service.py over HTTP: a transfer from request to image, cancelled, and refused."""

import base64
import io
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from documented import ROOT
from service import Service

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def ask(tiny_model_path: Path) -> Iterator[Ask]:
    """A running service, as a function of method, path and JSON: its status and its answer."""
    with Service(("127.0.0.1", 0), tiny_model_path) as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()

        def ask(method: str, path: str, body: object = None) -> tuple[int, Any]:
            url = f"http://127.0.0.1:{service.server_port}{path}"
            data = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(url, data, method=method)
            try:
                with urllib.request.urlopen(request, timeout=300) as response:  # noqa: S310
                    status, answer, kind = response.status, response.read(), response.headers
            except urllib.error.HTTPError as error:
                status, answer, kind = error.code, error.read(), error.headers
            return status, answer if "image" in kind["Content-Type"] else json.loads(answer)

        yield ask
        service.shutdown()
        thread.join()


def sample(name: str) -> str:
    return base64.b64encode((ROOT / "docs" / "samples" / name).read_bytes()).decode()


def request(**numbers: int) -> dict[str, Any]:
    return {"content": sample("chelsea.jpg"), "style": sample("meadow.jpg"), **numbers}


def finished(ask: Ask, id_: str) -> dict[str, Any]:
    """The report of a transfer that is neither waiting nor running any more."""
    # The first transfer of all may compile an engine, which takes long on a busy machine.
    for _ in range(6000):
        report: dict[str, Any] = ask("GET", f"/transfers/{id_}")[1]
        if report["state"] not in ("waiting", "running"):
            return report
        time.sleep(0.05)
    raise AssertionError(report)


def test_a_transfer_is_started_watched_and_fetched(ask: Ask) -> None:
    status, answer = ask("POST", "/transfers", request(size=48, iterations=4))
    assert status == 202
    report = finished(ask, answer["id"])
    assert (report["state"], report["iteration"], report["iterations"]) == ("finished", 4, 4)
    assert report["loss"] > 0
    status, image = ask("GET", f"/transfers/{answer['id']}/image")
    assert status == 200
    assert PIL.Image.open(io.BytesIO(image)).size == (48, 32)


def test_a_cancelled_transfer_ends_early_and_leaves_its_image(ask: Ask) -> None:
    id_ = ask("POST", "/transfers", request(size=96, iterations=500))[1]["id"]
    while ask("GET", f"/transfers/{id_}")[1]["iteration"] < 1:
        time.sleep(0.01)
    assert ask("DELETE", f"/transfers/{id_}")[0] == 202
    report = finished(ask, id_)
    assert report["state"] == "cancelled"
    assert 1 <= report["iteration"] < 500
    assert ask("GET", f"/transfers/{id_}/image")[0] == 200


def test_a_transfer_that_is_cancelled_while_it_waits_never_runs(ask: Ask) -> None:
    first, second = (ask("POST", "/transfers", request(iterations=500))[1]["id"] for _ in "ab")
    ask("DELETE", f"/transfers/{second}")
    ask("DELETE", f"/transfers/{first}")
    assert finished(ask, second) == {
        "state": "cancelled", "iteration": 0, "iterations": 500, "loss": None,
    }  # fmt: skip
    assert ask("GET", f"/transfers/{second}/image") == (409, {"error": "there is no image yet"})


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"size": 100_000}, "size must be a whole number from 1 to 1024"),
        ({"iterations": "5"}, "iterations must be a whole number from 1 to 500"),
        ({"style": "?"}, "style must be a JPEG, PNG or WebP image in base64"),
        ({"content": None}, "content must be a JPEG, PNG or WebP image in base64"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    ask: Ask, change: dict[str, Any], error: str
) -> None:
    assert ask("POST", "/transfers", request() | change) == (400, {"error": error})


def test_an_image_that_cannot_be_decoded_fails_its_transfer_alone(ask: Ask) -> None:
    cut = base64.b64encode(base64.b64decode(sample("chelsea.jpg"))[:2000]).decode()
    id_ = ask("POST", "/transfers", request() | {"content": cut})[1]["id"]
    report = finished(ask, id_)
    assert report["state"] == "failed"
    assert "truncated" in report["error"]


def test_paths_that_do_not_exist_are_not_found(ask: Ask) -> None:
    for method in ("GET", "DELETE"):
        assert ask(method, "/transfers/999")[0] == 404
        assert ask(method, "/")[0] == 404
    assert ask("POST", "/", request())[0] == 400
