"""A real server in a thread, and a client."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from gramstyle.serve.http.app import make_app
from gramstyle.serve.http.guard import Access
from gramstyle.serve.http.server import Server, in_thread, listen
from serve_parts import Start
from serve_web import Serve, Web


@pytest.fixture
def serve(start: Start) -> Iterator[Serve]:
    """Start a server; options as those of `start`, and a token."""
    with ExitStack() as stack:

        def call(*arguments: Any, token: str | None = None, **options: Any) -> Web:
            parts = start(*arguments, **options)
            limits = parts.running.service.limits
            access = Access(
                token=token,
                upload_bytes=limits.upload_bytes,
                form_bytes=limits.upload_bytes * (1 + limits.styles),
            )
            service = parts.running.service
            listening = stack.enter_context(listen("127.0.0.1", 0))
            server = Server(make_app(service, access), service.feed.close)
            stack.enter_context(in_thread(server, listening))
            address = f"http://127.0.0.1:{listening.getsockname()[1]}"
            client = stack.enter_context(httpx.Client(base_url=address, timeout=300))
            return Web(parts, client)

        yield call
