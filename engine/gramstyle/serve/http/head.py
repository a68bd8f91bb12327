"""Answer HEAD with what GET would answer, without the body."""

from collections.abc import MutableMapping
from typing import Any

from gramstyle.serve.http.guard import App, Receive, Scope, Send


def with_head(app: App) -> App:
    """Return an application that also takes HEAD where it takes GET.

    The response is complete after its headers, so that the events of a job do not last.
    """

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})

        if scope["type"] == "http" and scope["method"] == "HEAD":
            await app({**scope, "method": "GET"}, receive, sending)
        else:
            await app(scope, receive, send)

    return answering
