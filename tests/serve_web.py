"""Helpers for the tests over HTTP: a server, the service behind it, and a client."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from serve_parts import Parts, encoded
from workers import until

TOKEN = "a-token-of-the-tests"  # noqa: S105


@dataclass
class Web:
    """A server, the service behind it, and a client."""

    parts: Parts
    client: httpx.Client

    def upload(self, name: str = "photo.png") -> str:
        answer = self.client.post("/uploads", params={"name": name}, content=encoded())
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def submit(self, **options: Any) -> dict[str, Any]:
        body = {"content": self.upload(), "styles": [self.upload()], "options": options}
        answer = self.client.post("/jobs", json=body)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def ended(self, id_: str) -> dict[str, Any]:
        until(lambda: self.job(id_)["state"] not in ("waiting", "running"))
        return self.job(id_)

    def job(self, id_: str) -> dict[str, Any]:
        return dict(self.client.get(f"/jobs/{id_}").json())


Serve = Callable[..., Web]
