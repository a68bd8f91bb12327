"""The limit on BLAS's threads, which holds for the whole process and is counted."""

import threading
from collections.abc import Iterator

import pytest
from threadpoolctl import ThreadpoolController, threadpool_info

from gramstyle.engines.threads import Workers
from gramstyle.system.blas import one_blas_thread


def blas_threads() -> set[int]:
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    """A number of threads that no default gives."""
    with ThreadpoolController().limit(limits=3, user_api="blas"):
        if blas_threads() != {3}:
            pytest.skip("this BLAS has no number of threads that can be set")
        yield


def test_the_number_of_threads_is_restored_after_the_block_and_after_an_error() -> None:
    with one_blas_thread():
        assert blas_threads() == {1}
    assert blas_threads() == {3}
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        raise ZeroDivisionError
    assert blas_threads() == {3}


def test_the_limit_lasts_until_the_last_of_two_threads_ends_in_either_order() -> None:
    for first_ends_first in (True, False):
        entered, leave = threading.Event(), threading.Event()

        def other(entered: threading.Event = entered, leave: threading.Event = leave) -> None:
            with one_blas_thread():
                entered.set()
                leave.wait(60)

        thread = threading.Thread(target=other)
        if first_ends_first:
            with one_blas_thread():
                thread.start()
                assert entered.wait(60)
            assert blas_threads() == {1}
            leave.set()
            thread.join()
        else:
            thread.start()
            assert entered.wait(60)
            with one_blas_thread():
                leave.set()
                thread.join()
                assert blas_threads() == {1}
        assert blas_threads() == {3}


def test_pools_of_two_engines_that_overlap_leave_blas_as_it_was() -> None:
    one, two = Workers(1), Workers(1)
    # The second starts within the first and ends after it, as in two threads.
    first = one.map(str, range(2))
    assert next(first) == "0"
    second = two.map(str, range(2))
    assert next(second) == "0"
    assert list(first) == ["1"]
    assert blas_threads() == {1}
    assert list(second) == ["1"]
    assert blas_threads() == {3}


def test_a_pool_whose_work_fails_leaves_blas_as_it_was() -> None:
    with pytest.raises(ZeroDivisionError):
        Workers(2).run(lambda number: 1 // number, [1, 0])  # type: ignore[arg-type, return-value]
    assert blas_threads() == {3}


def test_the_limit_holds_in_a_thread_beside_another_thread_that_has_set_its_own() -> None:
    # The fixture's limit belongs to this thread, as that of a notebook may.
    found: list[set[int]] = []

    def work() -> None:
        with one_blas_thread():
            found.append(blas_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [{1}]
    assert blas_threads() == {3}
