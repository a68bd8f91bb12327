"""`--live`: a page in the browser that shows a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from gramstyle.cli.browser import open_page
from gramstyle.cli.speaking import Speaker
from gramstyle.errors import RuntimeMissingError
from gramstyle.run.plan import RunPlan
from gramstyle.run.progress import Progress, Result
from gramstyle.system.installing import remedy

HOST = "127.0.0.1"


class Watched(Protocol):
    """A run that somebody may watch."""

    def after_iteration(self, progress: Progress, /) -> bool:
        """Show an iteration; return whether the run shall end."""

    def finish(self, result: Result, /) -> None:
        """Show the result."""


class Unwatched:
    """A run without a page."""

    def after_iteration(self, _progress: Progress, /) -> bool:
        """Go on."""
        return False

    def finish(self, _result: Result, /) -> None:
        """Do nothing."""


@contextmanager
def watched(plan: RunPlan, say: Speaker, *, live: bool) -> Iterator[Watched]:
    """Show a run in a page during the block, if that is asked for."""
    if not live:
        yield Unwatched()
        return
    try:
        from gramstyle.serve.http.app import make_app
        from gramstyle.serve.http.guard import Access
        from gramstyle.serve.http.server import Server, in_thread, listen
    except ImportError as error:
        raise RuntimeMissingError(
            f"--live needs FastAPI and uvicorn ({error}); {remedy('serve', error)}"
        ) from None
    from gramstyle.serve.live import live_run

    with (
        listen(HOST, 0) as listening,
        live_run(plan.content, plan.styles, plan.settings.given) as (service, run),
    ):
        access = Access(token=None, upload_bytes=0, form_bytes=0)
        server = Server(make_app(service, access), service.feed.close)
        with in_thread(server, listening):
            address = f"http://{HOST}:{listening.getsockname()[1]}/#job={run.id}"
            say.tell(f"watch the run at {address}")
            open_page(address)
            try:
                yield run
            except BaseException:
                run.fail()
                raise
