"""Ask for everything without the token, from other sites, and under other names."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from http.cookies import SimpleCookie

from .client import Client
from .server import Server, started

TOKEN = "a-token-of-the-torture-tests"  # noqa: S105 - of a server that runs for a moment
# What is open to everybody, so that a browser can show the page and log in.
OPEN = frozenset(
    {
        ("GET", "/about"), ("POST", "/session"), ("DELETE", "/session"), ("GET", "/healthz"),
        ("GET", "/readyz"), ("GET", "/"),
    }
)  # fmt: skip
# Addresses that the description does not have.
UNDESCRIBED = (("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/nothing"))
ANY_ID = "0" * 22


@dataclass
class AccessResult:
    """What clients without the right to do so could do."""

    name: str = "access"
    requests: int = 0
    findings: list[str] = field(default_factory=list)


def ask_without_right(server: Server) -> AccessResult:
    """Start a server with a token, then one without, and ask them."""
    result = AccessResult()
    server.environment = {"GRAMSTYLE_TOKEN": TOKEN}
    with started(server):
        _ask_for_all(server, result)
        _log_in(server, result)
        _ask_from_other_sites(server, result, {"Authorization": f"Bearer {TOKEN}"})
    server.environment = {}
    with started(server):
        _ask_from_other_sites(server, result, {})
        _ask_by_other_names(server, result)
    return result


def _ask_for_all(server: Server, result: AccessResult) -> None:
    """Ask for each address: it is closed to all who do not show the token."""
    strangers = {
        "no token": {},
        "a wrong token": {"Authorization": f"Bearer {TOKEN[:-1]}"},
        "the token as Basic": {"Authorization": f"Basic {TOKEN}"},
        "an empty token": {"Authorization": "Bearer "},
        "a wrong cookie": {"Cookie": "gramstyle-session=" + "0" * 64},
        "the token as a cookie": {"Cookie": f"gramstyle-session={TOKEN}"},
    }
    friend = Client(server.port, {"Authorization": f"Bearer {TOKEN}"})
    operations = [*_operations(friend), *UNDESCRIBED]
    for who, headers in strangers.items():
        client = Client(server.port, headers)
        for method, path in operations:
            status = client.send(method, path, b"{}" if method == "POST" else None).status
            result.requests += 1
            expected = (200, 204, 400, 503) if (method, path) in OPEN else (401,)
            if status not in expected:
                result.findings.append(f"{method} {path} with {who}: status {status}")
    for method, path in operations:
        status = friend.send(method, path, b"{}" if method == "POST" else None).status
        result.requests += 1
        if status in (401, 403, 421) or (status >= 500 and path != "/readyz"):
            result.findings.append(f"{method} {path} with the token: status {status}")


def _operations(client: Client) -> Iterator[tuple[str, str]]:
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for method in operations:
            yield method.upper(), path.replace("{id}", ANY_ID).replace("{kind}", "png")


def _log_in(server: Server, result: AccessResult) -> None:
    """Log in as the page does."""
    client = server.client()
    answer = client.send("POST", "/session", f'{{"token": "{TOKEN}"}}'.encode())
    cookie = SimpleCookie(answer.headers.get("set-cookie", ""))
    (session,) = cookie.values() or [None]
    _check(result, answer.status == 204 and session is not None, "the token gives no session")
    if session is not None:
        _check(result, bool(session["httponly"]), "scripts can read the cookie")
        _check(result, session["samesite"] == "strict", "other sites send the cookie")
        _check(result, TOKEN not in session.value, "the cookie has the token")
        friend = Client(server.port, {"Cookie": f"{session.key}={session.value}"})
        _check(result, friend.get("/metrics").status == 200, "the cookie does not open")
    wrong = client.send("POST", "/session", b'{"token": "wrong"}')
    _check(result, wrong.status == 401 and "set-cookie" not in wrong.headers, "any token opens")


def _ask_from_other_sites(server: Server, result: AccessResult, right: dict[str, str]) -> None:
    """Send requests as a page of another site would."""
    sites = ("http://example.org", "null", "http://127.0.0.1:1", "https://localhost.example.org")
    pages = [{"Origin": site} for site in sites] + [{"Sec-Fetch-Site": "cross-site"}]
    client = Client(server.port, right)
    for headers in pages:
        for method, path in (("POST", "/jobs"), ("POST", "/uploads"), ("DELETE", "/session")):
            answer = client.send(method, path, b"{}", headers)
            _check(result, answer.status == 403, f"{method} {path} with {headers}: {answer.status}")
            shared = [name for name in answer.headers if name.startswith("access-control-")]
            _check(result, not shared, f"{method} {path} has {shared}")


def _ask_by_other_names(server: Server, result: AccessResult) -> None:
    """Ask a server without a token as a page would that points its name at this machine."""
    for host in ("example.org", "127.0.0.1.example.org", "localhost.example.org:80", ""):
        status = server.client().send("GET", "/about", headers={"Host": host}).status
        _check(result, status in (400, 421), f"with the name {host!r}: status {status}")
    for host in ("localhost", f"127.0.0.1:{server.port}", "[::1]"):
        status = server.client().send("GET", "/about", headers={"Host": host}).status
        _check(result, status == 200, f"with the name {host!r}: status {status}")


def _check(result: AccessResult, holds: bool, finding: str) -> None:
    result.requests += 1
    if not holds:
        result.findings.append(finding)
