"""Join an existing cluster: check its address, its certificates and its versions."""

import asyncio
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

from gramstyle.cluster.dask import load_distributed
from gramstyle.cluster.loop import EventLoop
from gramstyle.cluster.worker import installed_version
from gramstyle.errors import OptionError

# How long to wait for a scheduler to answer, and for its first worker, in seconds.
ANSWER = 10.0

# The addresses that Dask accepts. With others Dask may wait forever, so they are refused first.
ADDRESS = re.compile(
    r"((tcp|tls|wss?|ucx)://)?[^\s/:@]+:\d{1,5}|((tcp|tls)://)?\[[0-9a-fA-F:.]+\]:\d{1,5}"
)
_ENCRYPTED = ("tls://", "wss://")


def exposure(address: str) -> str | None:
    """Return a warning if others on the network could take over this cluster; else None."""
    host = address.rpartition("://")[2].rpartition(":")[0].strip("[]")
    if address.startswith(_ENCRYPTED) or not ADDRESS.fullmatch(address) or _is_here(host):
        return None
    return (
        f"warning: the connection to {address} is neither encrypted nor authenticated, and a Dask "
        "cluster executes code that is sent to it; on a network that you do not trust, use TLS "
        "(docs/scaling.md)"
    )


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def joined_cluster(loop: EventLoop, address: str) -> Iterator[Any]:
    """Connect to a scheduler whose workers have the versions of this program; yield the client.

    Raises
    ------
    OptionError
        If the address is invalid, or its certificates cannot be used; if the scheduler does not
        answer in time, or has no workers; if the scheduler or a worker has another version.
    """
    if not ADDRESS.fullmatch(address):
        raise OptionError(
            f"{address!r} is not the address of a Dask scheduler, such as tcp://10.0.0.5:8786; "
            "give the one that dask scheduler has printed"
        )
    _check_certificates(address)
    loop.run(_check(address))
    with warnings.catch_warnings():
        _accept_other_versions()
        client = load_distributed().Client(address, timeout=ANSWER, direct_to_workers=True)
    with client:
        yield client


def _check_certificates(address: str) -> None:
    """Refuse an address with TLS if Dask's configuration has no usable certificates for it."""
    if not address.startswith(_ENCRYPTED):
        return
    security = load_distributed().Security()
    if not (security.tls_ca_file and security.tls_client_cert):
        raise OptionError(
            f"{address} needs certificates; set ca-file, client.cert and client.key of "
            "distributed.comm.tls in Dask's configuration (docs/scaling.md)"
        )
    try:
        security.get_connection_args("client")
    except OSError as error:
        raise OptionError(
            f"the certificates for {address} cannot be used ({_one_line(error)}); check "
            "distributed.comm.tls in Dask's configuration (docs/scaling.md)"
        ) from None


async def _check(address: str) -> None:
    """Refuse a scheduler that does not answer, or whose cluster does not fit this program.

    Dask waits without a limit for some answers. A coroutine can be given one.
    """
    with warnings.catch_warnings():
        _accept_other_versions()
        client = load_distributed().Client(
            address, timeout=ANSWER, asynchronous=True, set_as_default=False
        )
        try:
            await _connect(client, address)
            await _check_workers(client, address)
            await asyncio.wait_for(_check_versions(client, address), ANSWER)
        except TimeoutError:
            raise OptionError(
                f"the cluster at {address} does not answer; restart its scheduler and workers"
            ) from None
        finally:
            await client.close()


async def _connect(client: Any, address: str) -> None:
    try:
        await asyncio.wait_for(client, ANSWER)
    except Exception as error:  # a server other than Dask may send any answer
        what = "it does not answer" if isinstance(error, TimeoutError) else _one_line(error)
        raise OptionError(
            f"there is no Dask scheduler at {address} ({what}); check the address, or start "
            "one: dask scheduler"
        ) from None


def _accept_other_versions() -> None:
    """Silence Dask's warning: `_check_versions` refuses other versions."""
    warnings.simplefilter("ignore", load_distributed().versions.VersionMismatchWarning)


async def _check_workers(client: Any, address: str) -> None:
    try:
        await client.wait_for_workers(1, timeout=ANSWER)
    except TimeoutError:
        raise OptionError(
            f"the scheduler at {address} has no workers; start some: dask worker {address}"
        ) from None


async def _check_versions(client: Any, address: str) -> None:
    def version() -> str:  # is sent as code: gramstyle may not be installed there
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("gramstyle")
        except PackageNotFoundError:
            return "(not installed)"

    dask = await client.get_versions()
    theirs = {"the scheduler": dask["scheduler"]["packages"]["distributed"]}
    for name, found in dask["workers"].items():
        theirs[f"worker {name}"] = found["packages"]["distributed"]
    _refuse_others(theirs, load_distributed().__version__, "distributed", address)
    gramstyle = {"the scheduler": await client.run_on_scheduler(version)}
    for name, found in (await client.run(version)).items():
        gramstyle[f"worker {name}"] = found
    _refuse_others(gramstyle, installed_version(), "gramstyle", address)


def _refuse_others(theirs: dict[str, str], wanted: str, package: str, address: str) -> None:
    for who, found in theirs.items():
        if found != wanted:
            raise OptionError(
                f"{who} of {address} has {package} {found} and this is {wanted}; install the same "
                "on all"
            )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
