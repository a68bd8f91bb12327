"""Downloads: files, locks, interruptions."""

import contextlib
import dataclasses
import errno
import hashlib
import io
import os
import random
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from download_server import (
    DATA,
    HALF,
    OTHER,
    Answer,
    Server,
    answer_with,
    assert_fetched,
    chunked,
    names,
    part_of,
    raw,
    refusal,
    sized,
    stalling,
    whole,
)
from gramstyle.errors import ModelError
from gramstyle.model.fetch import DownloadProgress, fetch
from gramstyle.model.published import PublicFile
from gramstyle.system import lock as lock_module
from workers import program

# Success


def test_a_file_is_downloaded_and_no_other_file_is_left(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(whole())
    assert fetch(file, target) == target
    assert_fetched(target)
    (request,) = server.requests
    assert request.range is None
    assert request.headers["User-Agent"] == "gramstyle/0.1.0"
    assert request.headers["Accept-Encoding"] == "identity"


def test_the_callback_receives_increasing_sizes(
    server: Server, file: PublicFile, target: Path
) -> None:
    reports: list[DownloadProgress] = []
    server.will_answer(whole())
    fetch(file, target, callback=reports.append)
    done = [received.done for received in reports]
    assert done == sorted(set(done))
    assert reports[-1] == DownloadProgress(len(DATA), len(DATA), None)
    assert {received.total for received in reports} == {len(DATA)}


@pytest.mark.parametrize("is_sized", [True, False])
@pytest.mark.parametrize("answer", [whole(), chunked(DATA), answer_with(200, DATA)])
def test_the_length_may_be_unannounced_and_unknown(
    answer: Answer, is_sized: bool, server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(answer)
    fetch(file if is_sized else dataclasses.replace(file, size=None), target)
    assert_fetched(target)


@pytest.mark.parametrize("digits", [None, 8])
@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_every_published_digest_is_checked(
    algorithm: Any, digits: int | None, server: Server, file: PublicFile, target: Path
) -> None:
    digest = hashlib.new(algorithm, DATA).hexdigest()[:digits]
    known = dataclasses.replace(file, algorithm=algorithm, digest=digest)
    server.will_answer(whole())
    fetch(known, target)
    assert_fetched(target)

    target.unlink()
    server.will_answer(whole(OTHER))
    found = hashlib.new(algorithm, OTHER).hexdigest()
    expected = f"expected {algorithm} {digest}{'…' if digits else ''}, found {found}"
    assert expected in refusal(known, target)
    assert names(target) == set()


# Existing files


def test_an_existing_download_is_not_repeated(
    server: Server, file: PublicFile, target: Path
) -> None:
    target.write_bytes(DATA)
    assert fetch(file, target) == target
    assert_fetched(target)
    assert server.requests == []


def test_an_existing_download_needs_no_write_permission(file: PublicFile, target: Path) -> None:
    target.write_bytes(DATA)
    target.with_name("weights.bin.lock").mkdir()  # prevents every lock
    assert fetch(file, target) == target


def test_another_file_at_the_target_is_not_overwritten(
    server: Server, file: PublicFile, target: Path
) -> None:
    target.write_bytes(OTHER)
    message = refusal(file, target)
    assert str(target) in message
    assert file.digest in message
    assert hashlib.sha256(OTHER).hexdigest() in message
    assert "move it away" in message
    assert server.requests == []


@pytest.mark.parametrize("suffix", ["", ".part", ".lock"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "link to nothing"])
def test_links_pipes_and_folders_are_refused(
    kind: str, suffix: str, server: Server, file: PublicFile, target: Path, tmp_path: Path
) -> None:
    place = target.with_name(target.name + suffix)
    precious = tmp_path / "precious"
    precious.write_bytes(OTHER)
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(precious if kind == "link" else tmp_path / "nothing")
    with pytest.raises(ModelError, match="move it away") as caught:
        fetch(file, target)
    assert str(place) in str(caught.value)
    assert precious.read_bytes() == OTHER
    assert not (tmp_path / "nothing").exists()
    assert server.requests == []


@pytest.mark.parametrize("name", ["x" * 255, f"{'x' * 300}/weights.bin"])
def test_a_name_that_is_too_long_gives_one_line(
    name: str, server: Server, file: PublicFile, target: Path
) -> None:
    with pytest.raises(ModelError, match=os.strerror(errno.ENAMETOOLONG)):
        fetch(file, target.parent / name)
    assert names(target) == set()
    assert server.requests == []


def test_a_missing_folder_is_refused_before_the_first_request(
    server: Server, file: PublicFile, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="make it first") as caught:
        fetch(file, tmp_path / "missing" / "weights.bin")
    assert str(tmp_path / "missing") in str(caught.value)
    assert server.requests == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_gives_one_line(file: PublicFile, target: Path) -> None:
    target.parent.chmod(0o500)
    assert os.strerror(errno.EACCES) in refusal(file, target)


def test_a_file_that_appears_during_the_download_is_not_overwritten(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(whole())
    with pytest.raises(ModelError, match="not the published file"):
        fetch(file, target, callback=lambda _: target.write_bytes(OTHER))
    assert target.read_bytes() == OTHER


# Interruptions and disk errors


def test_ctrl_c_saves_the_received_bytes(server: Server, file: PublicFile, target: Path) -> None:
    def interrupt(received: DownloadProgress) -> None:
        if received.done >= HALF:
            raise KeyboardInterrupt

    server.will_answer(stalling(server), whole())
    with pytest.raises(KeyboardInterrupt):
        fetch(file, target, callback=interrupt)
    assert part_of(target).read_bytes() == DATA[:HALF]
    assert names(target) == {"weights.bin.part"}
    fetch(file, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={HALF}-"]


class FullDisk(io.FileIO):
    """A file on a disk with room for half of the data."""

    def write(self, data: Any) -> int:
        room = HALF - self.tell()
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data[:room])


def test_a_full_disk_gives_one_line_and_saves_the_received_bytes(
    server: Server, file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        is_part = path.suffix == ".part"
        return FullDisk(path, "a+b") if is_part else real(path, mode, **options)

    server.will_answer(whole())
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        message = refusal(file, target)
    assert f"cannot write {part_of(target)}: {os.strerror(errno.ENOSPC)}; " in message
    assert "are saved" in message
    assert "run the same command again to resume" in message
    assert part_of(target).read_bytes() == DATA[:HALF]
    fetch(file, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_partial_writes_lose_nothing(
    server: Server, file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(data[:1000])

    real = Path.open

    def slow(path: Path, mode: str = "r", **options: Any) -> Any:
        return Slow(path, "a+b") if path.suffix == ".part" else real(path, mode, **options)

    monkeypatch.setattr(Path, "open", slow)
    server.will_answer(whole())
    fetch(file, target)
    assert_fetched(target)


@pytest.mark.parametrize(("owner", "step"), [(os, "fsync"), (Path, "replace")])
def test_a_disk_error_at_the_end_loses_nothing(
    owner: object,
    step: str,
    server: Server,
    file: PublicFile,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    server.will_answer(whole())
    with monkeypatch.context() as patched:
        patched.setattr(owner, step, failing)
        assert os.strerror(errno.EIO) in refusal(file, target)
    assert part_of(target).read_bytes() == DATA
    fetch(file, target)
    assert_fetched(target)
    assert len(server.requests) == 1


def test_the_file_is_flushed_before_it_is_renamed(
    server: Server, file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bytes, bool]] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        seen.append((part_of(target).read_bytes(), target.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    server.will_answer(whole())
    fetch(file, target)
    assert seen == [(DATA, False)]


# Simultaneous downloads


def test_a_second_simultaneous_download_is_refused(
    server: Server, file: PublicFile, target: Path
) -> None:
    messages: list[str] = []

    def second(_: DownloadProgress) -> None:
        if not messages:
            with pytest.raises(ModelError) as caught:
                fetch(file, target)
            messages.append(str(caught.value))

    target.with_name("weights.bin.lock").write_text("1234567")  # of a process that was killed
    server.will_answer(whole())
    fetch(file, target, callback=second)
    assert_fetched(target)
    (message,) = messages
    assert f"another process (process id {os.getpid()}) is downloading {target}" in message
    assert len(server.requests) == 1


def test_simultaneous_downloads_produce_one_file(
    server: Server, file: PublicFile, target: Path
) -> None:
    problems: list[str] = []

    def one() -> None:
        try:
            fetch(file, target)
        except ModelError as error:
            problems.append(str(error))

    server.will_answer(whole())
    for _ in range(5):
        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert_fetched(target)
        target.unlink()
    assert len(server.requests) == 5
    assert {"is downloading" in problem for problem in problems} <= {True}


def test_a_file_that_another_process_just_completed_is_not_downloaded_again(
    server: Server, file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_module.try_lock

    def last_moment(stream: io.FileIO) -> None:
        target.write_bytes(DATA)
        lock(stream)

    monkeypatch.setattr(lock_module, "try_lock", last_moment)
    fetch(file, target)
    assert_fetched(target)
    assert server.requests == []


def test_a_removed_lock_file_does_not_count_as_held(
    file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_module.try_lock

    def last_moment(stream: io.FileIO) -> None:
        Path(str(stream.name)).unlink()
        lock(stream)

    monkeypatch.setattr(lock_module, "try_lock", last_moment)
    assert "another process is downloading" in refusal(file, target)


DOWNLOADER = """
    import pathlib, sys
    from gramstyle.model.fetch import fetch
    from gramstyle.model.published import PUBLIC_FILES
    import dataclasses

    url, digest, target, beginning = sys.argv[1:]
    file = dataclasses.replace(
        PUBLIC_FILES["keras"], urls=(url,), size=None, algorithm="sha256", digest=digest
    )
    def tell(received):
        if received.done >= int(beginning):
            print("started", flush=True)
    fetch(file, pathlib.Path(target), callback=tell)
"""


def test_a_killed_download_releases_the_lock_and_is_resumed(
    server: Server, file: PublicFile, target: Path
) -> None:
    beginning = 1000  # less than any buffer
    server.will_answer(stalling(server, at=beginning), whole())
    code = textwrap.dedent(DOWNLOADER)
    command = [sys.executable, "-c", code, server.url, file.digest, str(target), str(beginning)]
    path = str(Path(lock_module.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": path}
    with program(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout.readline() == b"started\n"
        with pytest.raises(ModelError, match=f"process id {child.pid}"):
            fetch(file, target)
        child.kill()
    assert names(target) == {"weights.bin.part", "weights.bin.lock"}
    assert part_of(target).read_bytes() == DATA[:beginning]
    fetch(file, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={beginning}-"]


# Random servers


ANSWERS: list[Answer] = [
    *(whole(until=until) for until in (0, 1, HALF, len(DATA) - 1)),
    whole(OTHER, until=HALF),
    whole(OTHER),
    whole(DATA[:-1]),
    sized(DATA[:HALF], len(DATA)),
    sized(DATA, len(DATA) + 1),
    sized(DATA, len(DATA) - 1),
    chunked(DATA),
    chunked(DATA[:HALF], ends=False),
    answer_with(200, DATA),
    answer_with(200, DATA[:HALF]),
    answer_with(206, DATA, Content_Range=f"bytes 0-{len(DATA) - 1}/*"),
    answer_with(206, DATA[1:], Content_Range="bytes 1-9/*"),
    answer_with(416),
    answer_with(404),
    answer_with(503),
    raw(b""),
    raw(b"HTTP/1.1 200 OK\r\n\r\nHello"),
]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("knows_size", [True, False])
def test_with_any_server_behaviour_the_file_is_right_or_refused(
    knows_size: bool, seed: int, server: Server, file: PublicFile, target: Path
) -> None:
    chance = random.Random(seed)  # noqa: S311
    known = dataclasses.replace(
        file, urls=(server.url,) * 2, size=file.size if knows_size else None
    )
    for _ in range(3):
        server.will_answer(
            *chance.choices(ANSWERS, k=6), chance.choice([whole(), answer_with(404)])
        )
        server.requests.clear()
        with contextlib.suppress(ModelError):
            fetch(known, target, attempts=2)
        # Two addresses with one restart each, and six answers that may each make progress.
        assert len(server.requests) <= 20
        if target.exists():
            assert_fetched(target)
            break
        assert names(target) <= {"weights.bin.part"}
