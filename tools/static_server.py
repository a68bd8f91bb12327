"""Serve a folder on this machine, as any static host does."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *given: Any, headers: dict[str, str], **named: Any) -> None:
        self.extra = headers
        super().__init__(*given, **named)

    def end_headers(self) -> None:
        for name, value in self.extra.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *values: object) -> None:  # noqa: A002
        """Print nothing."""


@contextmanager
def served(folder: Path, *, isolated: bool) -> Iterator[str]:
    """Serve a folder, with or without the headers that allow threads; give its address."""
    handler = partial(_Handler, headers=ISOLATION if isolated else {}, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
