"""The order of waiting jobs."""

from hypothesis import given
from hypothesis import strategies as st

from gramstyle.serve.turns import Served, Waiting, in_turn

CLIENTS = st.sampled_from("abcd")


def waiting(clients: str) -> list[Waiting]:
    return [Waiting(f"{client}{n}", client) for n, client in enumerate(clients)]


def test_clients_take_turns_however_many_jobs_one_of_them_has() -> None:
    order = in_turn(waiting("aaaaabbc"), {})
    assert [each[0] for each in order] == list("abcabaaa")


def test_the_client_whose_last_job_started_the_longest_ago_is_next() -> None:
    served = {"a": Served(0, 9), "b": Served(0, 3), "c": Served(0, 5)}
    assert [each[0] for each in in_turn(waiting("abc"), served)] == ["b", "c", "a"]


def test_a_client_with_a_running_job_waits_for_those_without() -> None:
    served = {"a": Served(1, 1), "b": Served(0, 9)}
    assert [each[0] for each in in_turn(waiting("ab"), served)] == ["b", "a"]


def test_an_interrupted_job_continues_first() -> None:
    jobs = [*waiting("ab"), Waiting("late", "a", interrupted=True)]
    assert in_turn(jobs, {})[0] == "late"


@given(st.lists(CLIENTS, max_size=30), st.dictionaries(CLIENTS, st.integers(0, 9)))
def test_every_job_has_one_place_and_jobs_of_a_client_keep_their_order(
    clients: list[str], turns: dict[str, int]
) -> None:
    jobs = waiting("".join(clients))
    order = in_turn(jobs, {client: Served(0, turn) for client, turn in turns.items()})
    assert sorted(order) == sorted(job.id for job in jobs)
    for client in set(clients):
        own = [id_ for id_ in order if id_[0] == client]
        assert own == [job.id for job in jobs if job.client == client]
