"""uvicorn with what the service needs: one-line errors for the address, and an orderly end."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from gramstyle.errors import GramstyleError
from gramstyle.serve.http.connections import HEAD_SECONDS, Connection
from gramstyle.serve.http.guard import App

# How long open requests may take when the server stops, in seconds.
_LAST_REQUESTS = 5
# More connections than this are refused with 503. With the connections that are being accepted they
# must be fewer than the files that a process may usually open, which are 1024.
_CONNECTIONS, _ACCEPTED_AT_ONCE = 800, 100


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
                http=Connection,
                lifespan="off",
                ws="none",
                log_config=None,
                log_level=logging.ERROR,  # else each malformed request would be a line
                access_log=False,
                server_header=False,
                limit_concurrency=_CONNECTIONS,
                backlog=_ACCEPTED_AT_ONCE,
                timeout_keep_alive=int(HEAD_SECONDS),
                timeout_graceful_shutdown=_LAST_REQUESTS,
            )
        )
        self._stopping = stopping

    async def on_tick(self, counter: int) -> bool:
        """End connections that do not move, each second."""
        if counter % 10 == 0:
            for each in list(self.server_state.connections):
                if isinstance(each, Connection):
                    each.check()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams of events, which would last, and then the server."""
        self._stopping()
        loop = asyncio.get_running_loop()
        # A request whose connection has ended ends by itself; uvicorn would cancel it with a
        # traceback in the log.
        end = loop.call_later(_LAST_REQUESTS - 1, self._end_connections)
        await super().shutdown(sockets)
        end.cancel()

    def _end_connections(self) -> None:
        for each in list(self.server_state.connections):
            if isinstance(each, Connection):
                each.transport.abort()


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
