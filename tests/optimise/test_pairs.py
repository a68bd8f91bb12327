"""The history of L-BFGS-B, in memory and on disk: saving, restoring, memory, failures."""

import errno
import os
import resource
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.errors import GramstyleError
from gramstyle.optimise.lbfgsb import (
    Pairs,
    PairsInMemory,
    PairsOnDisk,
    State,
    begin,
    blocks,
    disk,
    pairs_within,
    step,
)
from optimise.objectives import At

KINDS = ("memory", "disk")


def valley(x: Array) -> At:
    """A curved valley over 500 entries whose minimum is partly outside the bounds."""
    u = np.asarray(x, np.float64) - np.linspace(-80, 330, x.size)
    g = np.linspace(1, 900, u.size) * u
    g[1:] += 0.01 * u[:-1] ** 2
    loss = 0.5 * np.linspace(1, 900, u.size) @ u**2 + 0.01 * u[:-1] ** 2 @ u[1:]
    g[:-1] += 0.02 * u[:-1] * u[1:]
    return At(float(loss), g)


START = np.full(500, 128.0)


def empty_pairs(kind: str, history: int, folder: Path, dtype: str = "float32") -> Pairs:
    if kind == "memory":
        return PairsInMemory(history, dtype=dtype)
    return PairsOnDisk(history, folder=folder, dtype=dtype)


def append(pairs: Pairs, s: Array, y: Array, *, length: int | None = None) -> None:
    n = s.size
    length = n if length is None else length
    parts = [slice(b, min(b + length, n)) for b in range(0, n, length)]
    pairs.append(n, ((part, s[part], y[part]) for part in parts))


def after_steps(state: State[At], iterations: int) -> State[At]:
    for _ in range(iterations):
        following = step(valley, state)
        assert following is not None
        state = following
    return state


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit the size of all files of this process, in bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_history_drops_the_oldest_pair_and_a_block_lists_y_before_s(
    kind: str, tmp_path: Path
) -> None:
    pairs = empty_pairs(kind, 2, tmp_path)
    for i in range(3):
        append(pairs, np.full(4, 10.0 + i), np.full(4, float(i)), length=3)
    assert len(pairs) == 2
    np.testing.assert_array_equal(pairs.block(slice(1, 3)), [[1, 1], [2, 2], [11, 11], [12, 12]])
    assert pairs.block(slice(0, 4)).dtype == np.float64
    assert [s[0] for s, _ in pairs.saved()] == [11, 12]
    assert {row.dtype for pair in pairs.saved() for row in pair} == {np.dtype("float32")}
    pairs.clear()
    assert not len(pairs)
    append(pairs, np.full(4, 7.0), np.full(4, 8.0))
    np.testing.assert_array_equal(pairs.block(slice(3, 4)), [[8], [7]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_run_with_pairs_on_disk_is_bit_identical_to_one_in_memory(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 70)
    monkeypatch.setattr(disk, "READ", 160)  # some blocks cross the end of a read
    ends = [
        after_steps(begin(valley, START, pairs=empty_pairs(kind, 4, tmp_path, dtype)), 30)
        for kind in KINDS
    ]
    np.testing.assert_array_equal(ends[0].x, ends[1].x)
    np.testing.assert_array_equal(ends[0].products, ends[1].products)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [2, 7])
def test_a_run_resumed_with_restored_pairs_is_bit_identical(
    kind: str, after: int, tmp_path: Path
) -> None:
    halfway = after_steps(begin(valley, START, pairs=empty_pairs(kind, 5, tmp_path)), after)
    rows = [(s.copy(), y.copy()) for s, y in halfway.pairs.saved()]
    assert len(rows) == min(after, 5)
    products = halfway.products.copy()
    through = after_steps(halfway, 20)
    for other in KINDS:
        pairs = empty_pairs(other, 5, tmp_path)
        append(pairs, START, START)  # restore() replaces it
        pairs.restore(rows)
        resumed = after_steps(replace(halfway, pairs=pairs, products=products), 20)
        np.testing.assert_array_equal(resumed.x, through.x)
        assert resumed.losses == through.losses


def test_a_history_on_disk_needs_the_same_memory_at_any_length(tmp_path: Path) -> None:
    """Five pairs take 80 MB; one read takes 10 MB, and a block is float64."""
    n = 2_000_000
    s = np.ones(n, np.float32)
    pairs = PairsOnDisk(5, folder=tmp_path)
    tracemalloc.start()
    try:
        for _ in range(6):
            append(pairs, s, s, length=blocks.BLOCK)
        for b in blocks.blocks(s):
            pairs.block(b)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * disk.READ * 4 + 2 * 10 * blocks.BLOCK * 8


def test_the_history_file_has_no_name_even_while_it_is_in_use(tmp_path: Path) -> None:
    pairs = PairsOnDisk(2, folder=tmp_path)
    append(pairs, START, START)
    assert list(tmp_path.iterdir()) == []  # so a killed process leaves none behind (POSIX)


def test_the_space_is_reserved_with_the_first_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    real = os.posix_fallocate

    def reserve(file: int, offset: int, size: int) -> None:
        asked.append((offset, size))
        real(file, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", reserve)
    pairs = PairsOnDisk(3, folder=tmp_path)
    for _ in range(5):
        append(pairs, START, START)
    assert asked == [(0, 2 * 3 * 500 * 4)]


@pytest.mark.parametrize("how", ["none", "refuses"])
def test_where_space_cannot_be_reserved_the_file_grows_as_it_is_written(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "none":
        monkeypatch.delattr(os, "posix_fallocate")
    else:

        def refuse(file: int, offset: int, size: int) -> None:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")

        monkeypatch.setattr(os, "posix_fallocate", refuse)
    pairs = PairsOnDisk(2, folder=tmp_path)
    append(pairs, START, 2 * START)
    np.testing.assert_array_equal(pairs.block(slice(0, 1)), [[256], [128]])


def test_a_full_disk_raises_one_line_that_names_the_folder(tmp_path: Path) -> None:
    def fails_in_one_line(work: Callable[[], None], folder: Path = tmp_path) -> None:
        with pytest.raises(GramstyleError, match=r"^cannot store .*TMPDIR.*$") as caught:
            work()
        assert str(folder) in str(caught.value)

    fresh, used = PairsOnDisk(3, folder=tmp_path), PairsOnDisk(3, folder=tmp_path)
    append(used, START, START)
    with largest_file(5000):  # one pair takes 4,000 bytes
        fails_in_one_line(lambda: append(fresh, START, START))
        fails_in_one_line(lambda: append(used, START, START))
    assert len(used) == 1  # the earlier pair is still there
    np.testing.assert_array_equal(used.block(slice(0, 1)), [[128], [128]])
    nowhere = tmp_path / "nowhere"
    fails_in_one_line(lambda: append(PairsOnDisk(3, folder=nowhere), START, START), nowhere)


@pytest.mark.parametrize(
    ("budget", "options", "expected"),
    [
        (79_999, {}, 9),
        (80_000, {}, 10),
        (10**9, {}, 10),
        (10**9, {"wanted": 20}, 20),
        (80_000, {"itemsize": 8}, 5),
        (7_999, {}, 0),
        (-1, {}, 0),
    ],
)
def test_the_number_of_pairs_follows_the_memory_budget(budget: int, options, expected: int) -> None:
    assert pairs_within(1000, budget, **options) == expected
