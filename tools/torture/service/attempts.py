"""Malformed requests as bytes: each follows from its number."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.torture.from_tests import IMAGE_FORMATS, image_file
from tools.torture.mutations import VALUES, mutated

from . import hostile


@dataclass(frozen=True)
class Attempt:
    """What a client sends on one connection.

    Attributes
    ----------
    kind
        The kind of fault.
    data
        The bytes.
    whole
        Whether the server must answer, or close the connection, without waiting for more.
    """

    kind: str
    data: bytes
    whole: bool = True


@dataclass(frozen=True)
class Target:
    """What the requests name.

    Attributes
    ----------
    upload, job
        The ids of an upload and of a finished job.
    options
        The names of the options of a job.
    """

    upload: str
    job: str
    options: Sequence[str]
    token: str = ""

    @property
    def paths(self) -> Sequence[str]:
        """The paths of the interface."""
        of_job = ("", "/image", "/image.png", "/image.jpg", "/image.webp", "/recipe", "/cancel")
        return (
            *("/", "/about", "/session", "/uploads", "/jobs", "/healthz", "/readyz", "/metrics"),
            *("/openapi.json", "/docs", "/static/page.css", "/static/samples", "/static/"),
            f"/uploads/{self.upload}/thumbnail",
            *(f"/jobs/{self.job}{each}" for each in of_job),
        )


def attempt(number: int, target: Target) -> Attempt:
    """Return a malformed request; equal arguments give the same."""
    rng = random.Random(number)  # noqa: S311 - not for secrets
    return rng.choice(KINDS)(rng, target)


def request(
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    *,
    host: str | None = "127.0.0.1",
    length: bool = True,
) -> bytes:
    """Return the bytes of a request; a correct one, unless the arguments are hostile."""
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"Host: {host}"] if host is not None else []
    lines += [f"{name}: {value}" for name, value in pairs]
    if length and (body or method in ("POST", "PUT", "PATCH")):
        lines.append(f"Content-Length: {len(body)}")
    lines += ["Connection: close", "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogatepass") + body


def _method(rng: random.Random, target: Target) -> Attempt:
    method = rng.choice(hostile.METHODS)
    return Attempt("method", request(method, rng.choice(target.paths)))


def _path(rng: random.Random, target: Target) -> Attempt:
    """Change the path: other folders, encoded characters, ids that are none, long ones."""
    path = rng.choice(target.paths)
    change = rng.randrange(5)
    if change == 0:
        path = rng.choice(hostile.PATHS)
    elif change == 1:
        path = path.rstrip("/") + rng.choice(hostile.PATHS)
    elif change == 2:
        at = rng.randrange(len(path))
        path = path[:at] + rng.choice(hostile.IN_PATHS) + path[at:]
    elif change == 3:
        first, rest = rng.choice(("jobs", "uploads")), rng.choice(("", "/image", "/thumbnail"))
        path = f"/{first}/{rng.choice(hostile.IDS)}{rest}"
    else:
        path += rng.choice(hostile.QUERIES)
    return Attempt("path", request(rng.choice(("GET", "POST", "DELETE")), path))


def _header(rng: random.Random, target: Target) -> Attempt:
    name, value = rng.choice(hostile.HEADERS)
    count = rng.choice((1, 1, 1, 2, 20))
    method = rng.choice(("GET", "GET", "GET", "POST", "DELETE", "HEAD"))
    path = rng.choice(target.paths)
    return Attempt("header", request(method, path, headers=[(name, value)] * count))


def _host(rng: random.Random, target: Target) -> Attempt:
    return Attempt("host", request("GET", rng.choice(target.paths), host=rng.choice(hostile.HOSTS)))


def _line(rng: random.Random, _: Target) -> Attempt:
    return Attempt("request line", rng.choice(hostile.LINES), whole=False)


def _json(rng: random.Random, target: Target) -> Attempt:
    """Send JSON that is wrong in a field, in its syntax or in its encoding."""
    good = {"content": target.upload, "styles": [target.upload], "options": {"size": 64}}
    change = rng.randrange(4)
    if change == 0:
        body = rng.choice(hostile.DOCUMENTS)
    elif change == 1:
        body = mutated(rng, json.dumps(good).encode(), [json.dumps(good).encode()])
    else:
        body = _with_value(rng, target, good)
    kinds = ("application/json", "text/plain", "application/json; charset=utf-16", "x", "")
    kind = rng.choice((kinds[0], kinds[0], rng.choice(kinds)))
    path = rng.choice(("/jobs", "/jobs", "/jobs", "/session"))
    return Attempt("JSON", request("POST", path, body, {"Content-Type": kind}))


def _with_value(rng: random.Random, target: Target, good: Mapping[str, Any]) -> bytes:
    """Return the request of a job in which a value is hostile."""
    marker = "\x00here\x00"
    name = rng.choice(("content", "styles", "preset", "options", "else", *(("option",) * 8)))
    if name == "option":
        options = {"size": 64, "iterations": 1, rng.choice(target.options): marker}
        wanted = {**good, "options": options}
    else:
        wanted = {**good, name: rng.choice((marker, [marker], {marker: 1}))}
    value = rng.choice((*VALUES, *hostile.MORE_VALUES))
    return json.dumps(wanted).encode().replace(json.dumps(marker).encode(), value)


def _form(rng: random.Random, _: Target) -> Attempt:
    """Send a form whose boundary, parts or lengths are wrong."""
    image = rng.choice((image_file("png"), b"", b"GIF89a", b"x" * 5000))
    parts = [
        ('name="content"; filename="a.png"', image),
        ('name="style"; filename="b.png"', image),
        ('name="job"', b'{"options": {"size": 64, "iterations": 1}}'),
    ]
    for _change in range(rng.choice((0, 1, 2))):
        at = rng.randrange(len(parts))
        disposition = rng.choice(hostile.DISPOSITIONS)
        parts[at] = (disposition, rng.choice((parts[at][1], b"", *hostile.DOCUMENTS)))
    parts *= rng.choice((1, 1, 1, 40))
    boundary = rng.choice(("b", "b", "b", *hostile.BOUNDARIES))
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n"
        for head, data in parts
    )
    body += f"--{boundary}--\r\n".encode() if rng.random() < 0.7 else b""
    if rng.random() < 0.4:
        body = mutated(rng, body, [body])
    said = rng.choice((f"multipart/form-data; boundary={boundary}", *hostile.FORM_TYPES))
    return Attempt("form", request("POST", "/jobs", body, {"Content-Type": said}))


def _image(rng: random.Random, _: Target) -> Attempt:
    """Upload an image that is damaged, or states sizes and lengths that it does not have."""
    if rng.random() < 0.2:
        body = rng.choice(hostile.images())
    else:
        samples = [image_file(kind) for kind in IMAGE_FORMATS]
        body = mutated(rng, rng.choice(samples), samples)
    name = rng.choice(("", "", "?name=x.png", *hostile.QUERIES))
    return Attempt("image", request("POST", f"/uploads{name}", body))


def _chunks(rng: random.Random, _: Target) -> Attempt:
    headers = [("Transfer-Encoding", rng.choice(("chunked", *hostile.ENCODINGS)))]
    if rng.random() < 0.3:
        headers.append(("Content-Length", rng.choice(hostile.LENGTHS)))
    body = rng.choice(hostile.CHUNKS)
    path = rng.choice(("/uploads", "/jobs", "/session"))
    return Attempt("chunks", request("POST", path, body, headers, length=False), whole=False)


def _length(rng: random.Random, _: Target) -> Attempt:
    body = rng.choice((b"", b"{}", b"x" * 100))
    headers = [("Content-Length", rng.choice(hostile.LENGTHS))]
    path = rng.choice(("/uploads", "/jobs", "/session"))
    return Attempt("length", request("POST", path, body, headers, length=False), whole=False)


def _pipeline(rng: random.Random, target: Target) -> Attempt:
    """Send several requests at once, some of them malformed."""
    several = [rng.choice(KINDS[:-1])(rng, target) for _ in range(rng.randrange(2, 8))]
    keep = b"".join(each.data.replace(b"Connection: close\r\n", b"") for each in several)
    return Attempt("pipeline", keep + request("GET", "/healthz"), whole=False)


def _mutant(rng: random.Random, target: Target) -> Attempt:
    """Send a correct request with other bytes here and there."""
    good = request(
        rng.choice(("GET", "POST", "DELETE")),
        rng.choice(target.paths),
        rng.choice((b"", b'{"token": "x"}')),
        {"Accept": "image/png, */*;q=0.5", "Cookie": "gramstyle-session=abc", "Range": "bytes=0-9"},
    )
    return Attempt("bytes", mutated(rng, good, [good, *hostile.LINES]), whole=False)


def _noise(rng: random.Random, _: Target) -> Attempt:
    return Attempt("noise", rng.randbytes(rng.choice((1, 16, 300, 5000))), whole=False)


Kind = Callable[[random.Random, Target], Attempt]
# Those that are chosen more often have more to get wrong.
KINDS: Sequence[Kind] = (
    _method, _path, _path, _header, _header, _host, _line, _json, _json, _json, _json, _form,
    _form, _image, _image, _chunks, _length, _mutant, _mutant, _noise, _pipeline,
)  # fmt: skip
