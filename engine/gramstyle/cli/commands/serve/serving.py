"""Serve: check the arguments, open the parts of the service, and run it until it is stopped."""

import argparse
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import platformdirs

from gramstyle.cli.browser import open_page
from gramstyle.cli.commands.serve.defaults import (
    DEFAULTS,
    HOST,
    LIMITS,
    SHORTEST_TOKEN,
    TOKEN_VARIABLE,
)
from gramstyle.cli.commands.serve.log import service_log
from gramstyle.cli.speaking import Speaker
from gramstyle.errors import OptionError, RuntimeMissingError
from gramstyle.model import load_model
from gramstyle.run.options import Options
from gramstyle.run.plan import check_packages
from gramstyle.serve.limits import Limits
from gramstyle.serve.local_worker import LocalWorker
from gramstyle.serve.running import running
from gramstyle.serve.workers import Worker
from gramstyle.system.installing import remedy
from gramstyle.system.machine import available_threads, physical_memory

# The addresses that only this machine reaches.
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(arguments: argparse.Namespace) -> None:
    """Serve until the program is stopped."""
    try:
        from gramstyle.serve.http.app import make_app
        from gramstyle.serve.http.guard import Access
        from gramstyle.serve.http.server import Server, listen
    except ImportError as error:
        raise RuntimeMissingError(
            f"gramstyle serve needs FastAPI and uvicorn ({error}); {remedy('serve', error)}"
        ) from None
    say = Speaker(quiet=arguments.quiet)
    limits, token = _limits(arguments), _token(arguments)
    machine = _machine(arguments, limits)
    with listen(arguments.host, arguments.port) as listening:
        check = Options(**machine)
        model = load_model(
            arguments.model, notify=say.tell, check=lambda: check_packages(check)
        ).path
        workers = _workers(arguments, model, machine, say)
        with running(_data(arguments), limits, workers, machine=machine) as parts:
            access = Access(
                token=token,
                upload_bytes=limits.upload_bytes,
                form_bytes=(1 + limits.styles) * limits.upload_bytes,
            )
            server = Server(make_app(parts.service, access), parts.service.feed.close)
            host, port = listening.getsockname()[:2]
            address = f"http://{_shown(host)}:{port}"
            say.tell(f"serving on {address}; Ctrl-C stops")
            if arguments.open:
                open_page(address)
            # uvicorn raises KeyboardInterrupt again after an orderly end.
            with service_log(quiet=arguments.quiet), suppress(KeyboardInterrupt):
                server.run(sockets=[listening])
            say.tell("stopping; running jobs continue when the server starts again")


def _workers(
    arguments: argparse.Namespace, model: Path, machine: dict[str, Any], say: Speaker
) -> list[Worker]:
    """Return the workers: processes of this machine, or places on a cluster."""
    if arguments.scheduler is None:
        return [LocalWorker(model, machine) for _ in range(arguments.workers or 1)]
    from gramstyle.cluster.remote import exposure
    from gramstyle.serve.cluster_worker import ClusterWorker, SharedCluster

    warning = exposure(arguments.scheduler)
    if warning is not None:
        say.tell(warning)
    shared = SharedCluster(arguments.scheduler, model)
    at_once = arguments.workers or shared.open().worker_count()
    return [ClusterWorker(shared) for _ in range(at_once)]


def _limits(arguments: argparse.Namespace) -> Limits:
    given = {
        field: getattr(arguments, f"limit_{field}")
        for field, _, _ in LIMITS.values()
        if getattr(arguments, f"limit_{field}") is not None
    }
    for field, value in given.items():
        least = 0 if field in ("retries", "results") else 1
        if not least <= value <= 10**15:
            name = next(name for name, (each, _, _) in LIMITS.items() if each == field)
            raise OptionError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
    limits = replace(DEFAULTS, **given)
    needed = (1 + limits.styles) * limits.upload_bytes
    if limits.uploads < needed:
        raise OptionError(
            f"--keep-uploads must be at least {needed:,} bytes, the images of one job "
            "(--max-styles and one, times --max-upload)"
        )
    if limits.storage < limits.uploads + needed:  # else unused uploads could fill it for ever
        raise OptionError(
            f"--storage must be at least {limits.uploads + needed:,} bytes, --keep-uploads and the "
            "images of one job; raise it, or lower --keep-uploads"
        )
    return limits


def _token(arguments: argparse.Namespace) -> str | None:
    """Return the token; raises OptionError if there is none and the address is public."""
    token = os.environ.get(TOKEN_VARIABLE)
    source = f"the environment variable {TOKEN_VARIABLE}"
    if arguments.token is not None and arguments.token_file is not None:
        raise OptionError("give --token or --token-file, not both")
    if arguments.token is not None:
        token, source = arguments.token, "the token"
    if arguments.token_file is not None:
        source = f"the token in {arguments.token_file}"
        try:
            token = arguments.token_file.read_text().strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise OptionError(f"cannot read {arguments.token_file}: {reason}") from None
    if token is None:
        if arguments.host in _LOOPBACK:
            return None
        raise OptionError(
            f"other machines can reach {arguments.host}: give a token with --token-file or "
            f"{TOKEN_VARIABLE}, or listen on {HOST}"
        )
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise OptionError(
            f"{source} must have at least {SHORTEST_TOKEN} printable ASCII characters; make one "
            'with: python -c "import secrets; print(secrets.token_urlsafe())"'
        )
    return token


def _machine(arguments: argparse.Namespace, limits: Limits) -> dict[str, Any]:
    """Return the options of the machine for each job; raises OptionError."""
    workers = 1 if arguments.workers is None else arguments.workers
    if not 1 <= workers <= 256:
        raise OptionError(f"--workers must be from 1 to 256, not {workers}")
    if not 0 <= arguments.port <= 65535:
        raise OptionError(f"--port must be from 0 to 65535, not {arguments.port}")
    machine: dict[str, Any] = {"max_pixels": limits.pixels}
    machine["threads"] = arguments.threads or max(1, available_threads() // workers)
    memory, there = arguments.memory, physical_memory()
    if memory is None and there is not None:
        memory = there * 3 // 4 // workers
    if memory is not None:
        machine["memory"] = memory
    if arguments.device is not None:
        machine["device"] = arguments.device
    if arguments.scheduler is not None:
        for name in ("threads", "memory", "device"):
            if getattr(arguments, name) is not None:
                raise OptionError(
                    f"--{name} is for processes of this machine; leave it out, since a worker of "
                    "a cluster uses what it was started with"
                )
    return machine


def _data(arguments: argparse.Namespace) -> Path:
    data: Path | None = arguments.data
    if data is not None:
        return data
    return Path(platformdirs.user_data_dir("gramstyle", appauthor=False)) / "service"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
