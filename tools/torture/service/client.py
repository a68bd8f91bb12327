"""A client of the service, on one connection."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# How long an answer may take, in seconds; it is far more than any answer needs.
TIMEOUT = 60.0


@dataclass(frozen=True)
class Answer:
    """An answer of the server."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class Client:
    """A client on one connection, which it opens again when the server has closed it."""

    def __init__(self, port: int, headers: Mapping[str, str] | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        self._headers = dict(headers or {})

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request; raise OSError if there is no answer."""
        try:
            self._connection.request(method, path, body, {**self._headers, **(headers or {})})
            response = self._connection.getresponse()
            data = response.read()
        except http.client.HTTPException as error:
            self._connection.close()
            raise OSError(f"no answer: {error!r}") from None
        except OSError:
            self._connection.close()
            raise
        headers = {name.casefold(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, data)

    def begin(self, path: str) -> None:
        """Send GET and wait for the beginning of the answer only."""
        self._connection.request("GET", path, headers=self._headers)
        self._connection.getresponse()

    def get(self, path: str) -> Answer:
        """Send GET."""
        return self.send("GET", path)

    def upload(self, data: bytes) -> str:
        """Upload an image; return its id."""
        answer = self.send("POST", "/uploads", data)
        _require(answer, 201)
        return str(answer.json()["id"])

    def submit(self, content: str, style: str, options: Mapping[str, Any]) -> str:
        """Submit a job; return its id."""
        wanted = {"content": content, "styles": [style], "options": dict(options)}
        answer = self.send("POST", "/jobs", json.dumps(wanted).encode())
        _require(answer, 202)
        return str(answer.json()["id"])

    def job(self, id_: str) -> dict[str, Any]:
        """Return a job."""
        answer = self.get(f"/jobs/{id_}")
        _require(answer, 200)
        found: dict[str, Any] = answer.json()
        return found

    def image(self, id_: str) -> bytes:
        """Return the image of a job as PNG."""
        answer = self.get(f"/jobs/{id_}/image.png")
        _require(answer, 200)
        return answer.body

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class RefusedError(Exception):
    """The server has answered with a status that was not expected."""


def _require(answer: Answer, status: int) -> None:
    if answer.status != status:
        raise RefusedError(f"status {answer.status}, not {status}: {answer.body[:300]!r}")
