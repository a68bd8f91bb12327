"""Connections that end when their client sends or takes nothing for too long."""

from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gramstyle.serve.http.problems import problem

# How long the head of a request may take from the opening of a connection, or from the response
# before it, in seconds.
HEAD_SECONDS = 15.0
# How long a client may take nothing of a response that is ready, in seconds.
STUCK_SECONDS = 60.0
# How many more connections are open at once than those that are served.
_MORE = 24


class Connection(H11Protocol):
    """A connection of a client. `check` is called now and then; it ends those that do not move."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._waits_since = self._moved = self.loop.time()
        self._unsent = 0

    def connection_made(self, transport: Any) -> None:
        """Refuse a connection when there are too many: each takes a file descriptor."""
        super().connection_made(transport)
        if len(self.connections) > (self.limit_concurrency or 0) + _MORE:
            transport.abort()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._waits_since = self.loop.time()
        super().on_response_complete()

    def resume_writing(self) -> None:
        """Note that the client takes data."""
        self._moved = self.loop.time()
        super().resume_writing()

    def check(self) -> None:
        """End the connection if its client has not sent a request, or takes nothing."""
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent:
            self._moved = now
        self._unsent = unsent
        waits = self.cycle is None or self.cycle.response_complete
        late = waits and not unsent and now - self._waits_since > HEAD_SECONDS
        if late or now - self._moved > STUCK_SECONDS:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours is a problem
        """Answer what is not HTTP with a problem, if no response has begun."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:  # the body of a request is malformed
            cycle.disconnected = True  # the application must not answer, too
            cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE) or (
            cycle is not None and cycle.response_started and not cycle.response_complete
        ):
            self.transport.abort()
            return
        answer = problem(400, "this is not a valid HTTP request", {"Connection": "close"})
        head = h11.Response(status_code=400, headers=answer.raw_headers, reason=b"Bad Request")
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
