"""Jobs on a Dask cluster: each whole on one worker, whatever happens to the others."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from gramstyle.cluster.client import Cluster
from gramstyle.errors import GramstyleError, OptionError
from workers import by_value, until


def fail_differently(number: int) -> int:
    if number == 1:
        raise OptionError("one line")
    if number == 2:
        raise KeyError("a mistake")
    return 10 * number


def test_one_bad_job_does_not_stop_the_others(cluster: Cluster) -> None:
    results = dict(cluster.map_jobs(by_value(fail_differently), range(6)))
    assert [results[i] for i in (0, 3, 4, 5)] == [0, 30, 40, 50]
    assert type(results[1]) is OptionError
    assert str(results[1]) == "one line"
    assert type(results[2]) is GramstyleError
    assert "KeyError" in str(results[2])


def test_jobs_are_taken_a_few_at_a_time(cluster: Cluster) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5, 45):
            taken.append(number)
            yield number

    most, done = 0, 0
    for _ in cluster.map_jobs(by_value(fail_differently), items(), ahead=2):
        done += 1
        most = max(most, len(taken) - done)
    assert done == 40
    assert most <= 2 * 2


def sleep_then_pid(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def test_a_job_whose_worker_is_killed_is_done_again(cluster: Cluster) -> None:
    def victims() -> list[int]:
        return list(cluster._client.run(os.getpid, on_error="ignore").values())

    victim = victims()[0]
    with closing(cluster.map_jobs(by_value(sleep_then_pid), [0.2] * 8)) as working:
        results = dict([next(working)])
        os.kill(victim, signal.SIGKILL)  # jobs wait there, and one runs
        results |= dict(working)
    assert sorted(results) == list(range(8))
    assert all(isinstance(pid, int) for pid in results.values())
    until(lambda: victim not in victims())


def test_a_scheduler_that_stops_answering_is_given_up_in_one_line() -> None:
    class Mute:
        def nthreads(self) -> None:
            pytest.fail("would wait for ever")

        def sync(self, function: object, *, callback_timeout: float) -> None:
            assert (function, callback_timeout) == (self.nthreads, 7)
            raise TimeoutError

    cluster = Cluster(Mute(), "tcp://10.0.0.5:8786", threads=1, patience=7)
    with pytest.raises(OptionError, match=r"tcp://10\.0\.0\.5:8786 does not answer any more"):
        next(cluster.map_jobs(abs, [1]))


def test_a_client_of_another_cluster_in_the_process_does_not_disturb_the_wait(
    cluster: Cluster, trusted_address: str
) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.Client(trusted_address, set_as_default=True):  # the newest one
        placed = cluster.submit(abs, -2)
        cluster.wait(placed)
        assert cluster.fetch(placed) == 2
        (found,) = cluster.map_jobs(abs, [-3])
        assert found == (0, 3)
