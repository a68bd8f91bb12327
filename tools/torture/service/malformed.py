"""Send malformed requests over raw sockets, and judge what the server answers."""

import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tools.torture.from_tests import ROOT, image_file

from .attempts import Attempt, Target, attempt
from .load import measuring
from .server import Server, started, tracebacks, wait_for

# An answer that takes longer is a hang; decoding an image of 50 million pixels takes seconds.
HANG = 60.0
# How long to wait for an answer to a request that may not be complete, in seconds.
MOMENT = 0.03
CLIENTS = 6
# The server that is attacked: valid jobs that get through are soon done.
ARGUMENTS = (
    *("--workers", "1", "--max-size", "96", "--max-iterations", "5", "--keep", "50"),
    *("--max-pixels", "40000000", "--max-upload", "2MB", "--keep-uploads", "20MB"),
)
STATUS = re.compile(rb"^HTTP/1\.1 (\d{3}) ", re.MULTILINE)
# What no answer may have: names of folders and files of the server, and traces of its code.
LEAKS: Sequence[bytes] = (
    b"Traceback", b'.py"', b".py:", b"site-packages", b"/usr/", b"/home/", b"sqlite", b"/etc/",
    b"starlette", b"pydantic", b"uvicorn", b"Errno", b"0x7f",
)  # fmt: skip
# What only a client has said may be in an answer that repeats it.
REPEATED = (b"/etc/", b"/usr/", b"sqlite")


@dataclass
class MalformedResult:
    """What the server answered to malformed requests.

    Attributes
    ----------
    requests
        How many were sent.
    statuses
        How many answers had each status; 0 counts connections that were closed without an answer.
    latencies
        The seconds of each `GET /healthz` meanwhile.
    memory
        The bytes of the server process over time.
    """

    name: str = "raw sockets"
    requests: int = 0
    seconds: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def attack(
    server: Server,
    requests: range,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> MalformedResult:
    """Send these malformed requests to a server that is started for them."""
    server.arguments = (*ARGUMENTS, *server.arguments)
    result, lock = MalformedResult(), threading.Lock()
    began = time.monotonic()
    with started(server, 1):
        target = make_target(server)
        secrets = (
            *LEAKS,
            str(server.data).encode(),
            str(ROOT).encode(),
            str(server.model).encode(),
        )

        def one(number: int) -> None:
            sent = attempt(number, target)
            statuses, problem = judged(server.port, sent, secrets)
            with lock:
                result.requests += 1
                for each in statuses or [0]:
                    result.statuses[each] = result.statuses.get(each, 0) + 1
                if problem:
                    result.findings.append(f"request {number} ({sent.kind}): {problem}")
                if result.requests % 5000 == 0:
                    tell(f"{result.requests} requests, {len(result.findings)} findings")

        with measuring(server, "/healthz", result), ThreadPoolExecutor(CLIENTS) as pool:
            for _ in pool.map(one, requests):
                pass
        if server.client().get("/healthz").status != 200:
            result.findings.append("the server does not answer any more")
    result.seconds = time.monotonic() - began
    result.findings += [f"the server wrote: {each}" for each in tracebacks(server.written)]
    return result


def make_target(server: Server) -> Target:
    """Upload an image and let a job finish, for requests that name them."""
    client = server.client()
    upload = client.upload(image_file("png"))
    job = client.submit(upload, upload, {"size": 64, "iterations": 2})
    wait_for(lambda: client.job(job)["state"] == "finished", "first job", server)
    options = [each["name"] for each in client.get("/about").json()["options"]]
    client.close()
    return Target(upload, job, [*options, "model", "engine", "memory", "device"])


def judged(port: int, sent: Attempt, secrets: Sequence[bytes]) -> tuple[list[int], str]:
    """Send a request; return the statuses of the answers, and what is wrong with them."""
    try:
        answer, hangs = _exchange(port, sent)
    except OSError as error:
        return [], f"no connection: {error}"
    statuses = [int(each) for each in STATUS.findall(answer)]
    if hangs:
        return statuses, f"no answer in {HANG:.0f} s"
    if answer and not statuses:
        return statuses, f"an answer that is not HTTP: {answer[:100]!r}"
    wrong = [each for each in statuses if each >= 500]
    if wrong:
        return statuses, f"status {wrong[0]}: {sent.data[:200]!r}"
    return statuses, leak(answer, secrets, sent.data)


def leak(answer: bytes, secrets: Sequence[bytes], sent: bytes = b"") -> str:
    """Return what an answer says that it must not, or nothing."""
    for each in (*LEAKS, *secrets):
        if each in answer and not (each in REPEATED and each in sent):
            at = answer.index(each)
            return f"an answer says {answer[max(0, at - 60) : at + 60]!r}"
    return ""


def _exchange(port: int, sent: Attempt) -> tuple[bytes, bool]:
    """Send bytes, and read until the server closes or nothing comes; return also if it hangs."""
    answer = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=HANG) as connection:
        try:
            connection.sendall(sent.data)
            connection.settimeout(HANG if sent.whole else MOMENT)
            while data := connection.recv(65_536):
                answer += data
        except TimeoutError:
            return bytes(answer), sent.whole
        except (ConnectionResetError, BrokenPipeError):
            pass  # the server closes while the client still sends
    return bytes(answer), False
