"""Let the disk be full at each page of memory and at each file that a command writes."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .commands import Ended, run
from .scene import Scene
from .writers import Writer, snapshot

MOUNT, UNMOUNT = "/bin/mount", "/bin/umount"
PAGE = 4096
# A disk of so many pages has room for everything that the commands write.
ROOM = 1024
NEW_NAMESPACE_OF_MOUNTS = 0x20000  # CLONE_NEWNS


@dataclass
class DiskResult:
    """What became of one command on disks of growing sizes.

    Attributes
    ----------
    disks
        How many disks there were, from none to enough room.
    full
        On how many of them the command failed.
    findings
        What broke a promise, with the size of the disk.
    """

    name: str
    disks: int = 0
    full: int = 0
    findings: list[str] = field(default_factory=list)


def reason_to_skip() -> str:
    """Return why this campaign cannot run here, or nothing; makes mounts private."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "only root may mount a file system"
    if not (Path(MOUNT).exists() and Path(UNMOUNT).exists()):
        return "there is no program mount"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NAMESPACE_OF_MOUNTS) != 0:
        return f"no mounts of one's own: {os.strerror(ctypes.get_errno())}"
    private = subprocess.run([MOUNT, "--make-rprivate", "/"], check=False, capture_output=True)
    return "" if private.returncode == 0 else "mounts cannot be made private"


def fill_disks(
    scene: Scene,
    writers: Sequence[Writer],
    folder: Path,
    *,
    step: int,
    tell: Callable[[str], None],
) -> Iterator[DiskResult]:
    """Run each command on disks of growing sizes until it has room; `step` is in pages."""
    disk, room = folder / "disk", folder / "room"
    disk.mkdir()
    for writer in writers:
        result = _Disks(scene, writer, disk, room).result(step)
        tell(f"{result.name}: {result.full} full disks")
        yield result


class _Disks:
    """Disks for one command."""

    def __init__(self, scene: Scene, writer: Writer, disk: Path, room: Path) -> None:
        self._scene, self._writer, self._disk, self._room = scene, writer, disk, room
        with self._mounted(pages=ROOM, files=ROOM):
            self._old = snapshot(scene, disk)
            self._used = _used(disk)
            ended = self._run()
            if ended.code or ended.errors:
                raise RuntimeError(f"{writer.name}: code {ended.code}: {ended.errors}")
            self._new = snapshot(scene, disk)

    def result(self, step: int) -> DiskResult:
        result = DiskResult(self._writer.name)
        pages, files = self._used
        for unit, first, others in (
            ("pages", pages, {"files": ROOM}),
            ("files", files, {"pages": ROOM}),
        ):
            for size in range(max(1, first), ROOM, step if unit == "pages" else 1):
                with self._mounted(**{unit: size, **others}):
                    ended = self._run()
                    result.disks += 1
                    problems = self._problems(ended)
                    result.findings += [f"{size} {unit}: {problem}" for problem in problems]
                    if not ended.code:
                        break
                    result.full += 1
        return result

    @contextmanager
    def _mounted(self, *, pages: int, files: int) -> Iterator[None]:
        """Mount a disk of this size with the old files on it."""
        options = f"size={pages * PAGE},nr_inodes={files}"
        command = [MOUNT, "-t", "tmpfs", "-o", options, "none", str(self._disk)]
        subprocess.run(command, check=True)
        self._room.mkdir()
        try:
            for name, source in self._writer.old.items():
                shutil.copyfile(source, self._disk / name)
            yield
        finally:
            subprocess.run([UNMOUNT, str(self._disk)], check=True)
            shutil.rmtree(self._room)

    def _run(self) -> Ended:
        return run(self._writer.command(self._disk, self._room), prepare=self._prepare)

    def _prepare(self) -> None:
        # A command may save an image there that does not fit where it belongs.
        os.environ["TMPDIR"] = str(self._room)
        if self._writer.prepare is not None:
            self._writer.prepare()

    def _problems(self, ended: Ended) -> Sequence[str]:
        """Return which promises the command broke."""
        problems = list(self._broken_files())
        if ended.code == 0:
            if ended.errors:
                problems.append(f"code 0, and it printed {ended.errors[:200]!r}")
            return problems
        if ended.code not in self._writer.codes:
            problems.append(f"code {ended.code}: {ended.errors[-300:]!r}")
        # A batch has a line for each job that failed as well.
        elif self._writer.codes == (2,) and len(ended.errors.splitlines()) != 1:
            problems.append(f"not one line: {ended.errors[-300:]!r}")
        return problems

    def _broken_files(self) -> Iterator[str]:
        """Yield which files are neither old nor new."""
        try:
            found = snapshot(self._scene, self._disk)
            snapshot(self._scene, self._room)
        except Exception as error:
            yield f"a file is not whole: {type(error).__name__}: {error}"
            return
        for name, content in found.items():
            if name.startswith("saved/"):
                continue  # `snapshot` has checked the folder
            if name not in self._new:
                yield f"{name} was left"
            elif content not in (self._old.get(name), self._new[name]):
                yield f"{name} is neither the old nor the new file"
        yield from (f"{name} is lost" for name in self._old if name not in found)


def _used(disk: Path) -> tuple[int, int]:
    """Return the pages and the files in use on a disk."""
    found = os.statvfs(disk)
    return found.f_blocks - found.f_bfree, found.f_files - found.f_ffree
