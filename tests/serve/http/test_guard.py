"""Who may use the server: token, session, host, origin; and the headers of every answer."""

import re

import pytest

from serve_parts import encoded
from serve_web import TOKEN, Serve, Web

OPEN = {"/about", "/session", "/healthz", "/readyz"}


def routes(web: Web, **headers: str) -> list[tuple[str, str]]:
    """Every method and path of the description, with an id in place of its parameter."""
    paths = web.client.get("/openapi.json", headers=headers).json()["paths"]
    return [
        (method.upper(), re.sub(r"\{kind\}", "png", path.replace("{id}", "A" * 22)))
        for path, methods in paths.items()
        for method in methods
    ]


def test_every_route_but_the_open_ones_needs_the_token(serve: Serve) -> None:
    web = serve(token=TOKEN)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    found = routes(web, **bearer)
    assert len(found) > 12
    for method, path in [*found, ("GET", "/openapi.json"), ("GET", "/docs")]:
        if path in OPEN:
            continue
        assert web.client.request(method, path).status_code == 401, (method, path)
        assert web.client.request(method, path, headers=bearer).status_code != 401, (method, path)


@pytest.mark.parametrize(
    "header", ["Bearer wrong", f"Basic {TOKEN}", "Bearer", f"bearer  {TOKEN}x"]
)
def test_a_wrong_token_is_refused(serve: Serve, header: str) -> None:
    answer = serve(token=TOKEN).client.get("/metrics", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_browser_gets_a_cookie_for_the_token_and_loses_it(serve: Serve) -> None:
    web = serve(token=TOKEN)
    assert web.client.get("/about").json()["locked"]
    assert web.client.post("/session", json={"token": "wrong"}).status_code == 401
    answer = web.client.post("/session", json={"token": TOKEN})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.casefold()
    assert TOKEN not in cookie
    assert web.client.get("/metrics").status_code == 200
    assert not web.client.get("/about").json()["locked"]
    web.client.delete("/session")
    assert web.client.get("/metrics").status_code == 401


def test_without_a_token_only_names_of_this_machine_are_answered(serve: Serve) -> None:
    web = serve()
    port = web.client.base_url.port
    for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert web.client.get("/about", headers={"host": host}).status_code == 200
    for host in ("evil.example", "localhost.evil.example", f"evil.example:{port}", "a]b", ""):
        assert web.client.get("/about", headers={"host": host}).status_code in (400, 421)


def test_a_page_of_another_site_cannot_change_anything(serve: Serve) -> None:
    web = serve()
    own = f"http://127.0.0.1:{web.client.base_url.port}"
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        answer = web.client.post("/uploads", content=encoded(), headers=headers)
        assert answer.status_code == 403, headers
    headers = {"origin": own, "sec-fetch-site": "same-origin"}
    assert web.client.post("/uploads", content=encoded(), headers=headers).status_code == 201


@pytest.mark.parametrize("path", ["/", "/about", "/static/docs.js", "/jobs/nothing", "/nowhere"])
def test_every_answer_has_the_headers_of_security(serve: Serve, path: str) -> None:
    headers = serve().client.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "'unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers


@pytest.mark.parametrize(
    "path", ["/static/../store.py", "/static/%2e%2e/store.py", "/static/..%2f..%2fjob.py",
             "/static//etc/passwd", "/static/%00", "/static/samples"]
)  # fmt: skip
def test_no_file_outside_of_the_page_is_sent(serve: Serve, path: str) -> None:
    answer = serve().client.get(path)
    assert answer.status_code in (400, 404)
    assert "gramstyle/serve" not in answer.text
