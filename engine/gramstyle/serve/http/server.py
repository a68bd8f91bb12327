"""uvicorn with what the service needs: one-line errors for the address, and an orderly end."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from gramstyle.errors import GramstyleError
from gramstyle.serve.http.guard import App

# How long open requests may take when the server stops, in seconds.
_LAST_REQUESTS = 5
# More connections than this are refused with 503.
_CONNECTIONS = 1000
# How long an idle connection is kept open, in seconds.
_IDLE = 15


class AddressError(GramstyleError):
    """The server cannot listen at this address."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; port 0 is any free one.

    Raises
    ------
    AddressError
        If the address does not exist here or is in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(1024)
        except BaseException:
            listening.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no host name"
        raise AddressError(
            f"cannot listen on {host}, port {port}: {reason}; choose another --port or --host"
        ) from None
    return listening


class Server(uvicorn.Server):
    """The server of an application; `stopping` is called when it begins to stop."""

    def __init__(self, app: App, stopping: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=_CONNECTIONS,
                timeout_keep_alive=_IDLE,
                timeout_graceful_shutdown=_LAST_REQUESTS,
            )
        )
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams of events, which would last, and then the server."""
        self._stopping()
        await super().shutdown(sockets)


@contextmanager
def in_thread(server: Server, listening: socket.socket) -> Iterator[None]:
    """Run a server in a thread during the block."""
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
