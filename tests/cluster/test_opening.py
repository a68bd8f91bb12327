"""Which clusters are joined: their addresses, certificates, answers and versions."""

import os
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramstyle.cluster.client import Cluster
from gramstyle.cluster.opening import open_cluster
from gramstyle.cluster.remote import exposure
from gramstyle.errors import OptionError, RuntimeMissingError
from gramstyle.run.options import Options
from gramstyle.run.plan import plan_run
from workers import certificates, free_port, listening, mute_server

dask: Any = pytest.importorskip("dask")
distributed: Any = pytest.importorskip("distributed")


@contextmanager
def refused(words: str) -> Iterator[pytest.ExceptionInfo[OptionError]]:
    """The block raises an OptionError of one line with these words."""
    with pytest.raises(OptionError, match=words) as raised:
        yield raised
    assert "\n" not in str(raised.value)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gramstyle.cluster.remote.ANSWER", 1.0)


# Who is there


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:{port}", "nowhere", "http://a:1", ""])
def test_a_scheduler_that_is_not_there_is_one_line(
    address: str, impatient: None, capfd: pytest.CaptureFixture[str]
) -> None:
    said = "no Dask scheduler at" if "{port}" in address else "not the address of a Dask scheduler"
    address = address.format(port=free_port())
    with refused(said) as raised, open_cluster(scheduler=address):
        pass
    assert address in str(raised.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("protocol", ["tcp", "tls"])
def test_a_scheduler_that_accepts_and_never_answers_is_one_line(
    protocol: str, trusted_address: str, impatient: None, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        mute_server() as port,
        refused(f"no Dask scheduler at {protocol}://127.0.0.1:{port} "),
        open_cluster(scheduler=f"{protocol}://127.0.0.1:{port}"),
    ):
        pass
    assert capfd.readouterr() == ("", "")


def test_a_scheduler_without_workers_is_one_line(impatient: None) -> None:
    with (
        distributed.LocalCluster(
            n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50
        ) as there,
        refused(r"has no workers; start some: dask worker tcp://"),
        open_cluster(scheduler=there.scheduler_address),
    ):
        pass


def test_another_version_at_the_scheduler_is_one_line(
    trusted_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gramstyle.cluster.remote.installed_version", lambda: "9.9")
    with (
        refused(r"the scheduler of .* and this is 9\.9; install the same"),
        open_cluster(scheduler=trusted_address),
    ):
        pass


# Who can connect


TLS_ALERT = b"\x15"  # the first byte of a refusal


def answers(connection: socket.socket) -> bool:
    """Whether a port answers to something that is no handshake; a Dask server greets first."""
    connection.sendall(bytes(100))
    return connection.recv(1) not in (b"", TLS_ALERT)


def lets_in(port: int) -> bool:
    """Whether a port talks to somebody without the cluster's certificate, plainly or by TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for wrap in (lambda plain: plain, context.wrap_socket):
        # A refusal may come as an error of TLS or as a closed connection.
        with (
            suppress(ssl.SSLError, ConnectionError),
            socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
            wrap(plain) as connection,
        ):
            if answers(connection):
                return True
    return False


def test_no_port_of_a_local_cluster_lets_in_a_stranger(cluster: Cluster) -> None:
    def pages(dask_worker: Any) -> int:
        return int(dask_worker.http_server.port)

    local = cluster._client.cluster
    web = {local.scheduler.http_server.port, *cluster._client.run(pages).values()}
    ports = {address.rpartition(":")[2] for address in cluster._client.nthreads()}
    ports |= {server.port for server in (local.scheduler, *local.workers.values())}
    # Nothing else is open in the workers; this process may have ports of other tests.
    pids = cluster._client.run(os.getpid).values()
    assert set().union(*map(listening, pids)) <= web | set(map(int, ports))
    assert len(web) == 3
    assert len(ports) == 2 + 3
    assert not any(lets_in(int(port)) for port in ports)
    for port in web:
        for page in ("", "metrics", "info/main/workers.html", "json/counts.json", "health"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=60)


def test_the_owner_of_the_certificates_is_let_in(cluster: Cluster, trusted_address: str) -> None:
    assert trusted_address.startswith("tls://")
    assert lets_in(int(trusted_address.rpartition(":")[2])) is False
    with open_cluster(scheduler=trusted_address) as joined:
        assert joined.worker_count() == cluster.worker_count()


def test_tls_without_certificates_names_the_settings_that_are_missing() -> None:
    with (
        refused(r"^tls://a:1 needs certificates; set ca-file, client\.cert and client\.key"),
        open_cluster(scheduler="tls://a:1"),
    ):
        pass


def test_a_certificate_that_cannot_be_read_is_one_line(
    trusted_address: str, tmp_path: Path
) -> None:
    (tmp_path / "client.key.pem").write_text("nonsense")
    with (
        refused(r"the certificates for tls://.* cannot be used \(.*\); check distributed\.comm"),
        open_cluster(scheduler=trusted_address),
    ):
        pass


def test_certificates_of_another_cluster_are_refused_in_one_line(
    trusted_address: str, impatient: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = certificates(distributed.Security.temporary(), tmp_path)
    with (
        dask.config.set(other),
        refused("there is no Dask scheduler at tls://"),
        open_cluster(scheduler=trusted_address),
    ):
        pass
    assert capfd.readouterr() == ("", "")


def test_without_the_maker_of_certificates_workers_are_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with (
        pytest.raises(RuntimeMissingError, match="which cryptography makes; install it with: "),
        open_cluster(workers=1),
    ):
        pass


# The warning


@pytest.mark.parametrize(
    "address", ["10.0.0.5:8786", "tcp://10.0.0.5:8786", "tcp://[fe80::1]:8786", "ws://host:1"]
)
def test_a_plain_connection_to_another_host_is_worth_a_warning(address: str) -> None:
    warning = exposure(address)
    assert warning is not None
    assert f"the connection to {address} is neither encrypted nor authenticated" in warning
    assert "\n" not in warning


@pytest.mark.parametrize(
    "address",
    ["tls://10.0.0.5:8786", "wss://host:1", "tcp://127.0.0.1:1", "localhost:1", "tcp://[::1]:1"],
)
def test_an_encrypted_or_a_local_connection_is_not(address: str) -> None:
    assert exposure(address) is None


def test_a_run_gives_the_warning_once(tiny_model_path: Path) -> None:
    image, said = np.zeros((48, 64, 3), np.uint8), list[str]()
    options = Options(size=64, scales=2, scheduler="10.0.0.5:8786")
    plan_run(image, image, options, model=tiny_model_path, notify=said.append)
    assert said == [exposure("10.0.0.5:8786")]


def test_more_workers_than_the_memory_holds_are_refused_before_any_starts() -> None:
    words = r"10000 workers take about 6000 GB .* choose --workers \d+"
    with refused(words), open_cluster(workers=10_000):
        pass


def test_a_broken_configuration_of_dask_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "dask.yaml").write_text(": [ }")
    program = "from gramstyle.cluster.dask import load_distributed; load_distributed()"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True,
        env={**os.environ, "DASK_CONFIG": str(tmp_path)},
    )  # fmt: skip
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("gramstyle.errors.OptionError: Dask cannot read its configuration")
    assert line.endswith("correct the file or DASK_CONFIG")
