"""The order in which waiting jobs run: the clients take turns."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """A job that waits: its id, its client, and whether it was interrupted before."""

    id: str
    client: str
    interrupted: bool = False


@dataclass(frozen=True)
class Served:
    """What a client has got so far: how many of its jobs run, and when its last one started."""

    running: int = 0
    turn: int = 0


def in_turn(waiting: Iterable[Waiting], served: Mapping[str, Served]) -> list[str]:
    """Return the ids of waiting jobs in the order in which they start.

    An interrupted job continues first. Then the client with the fewest running jobs is next; among
    those, the one whose last job started the longest ago.

    Parameters
    ----------
    waiting
        The jobs, the oldest first.
    served
        By client; a client that is missing has got nothing.

    Examples
    --------
    >>> from gramstyle.serve.turns import Waiting, in_turn
    >>> waiting = [Waiting("a1", "a"), Waiting("a2", "a"), Waiting("b1", "b")]
    >>> in_turn(waiting, {})
    ['a1', 'b1', 'a2']
    """
    first: list[str] = []
    queues: dict[str, deque[str]] = defaultdict(deque)
    for job in waiting:
        if job.interrupted:
            first.append(job.id)
        else:
            queues[job.client].append(job.id)
    state = {client: served.get(client, Served()) for client in queues}
    turn = max((each.turn for each in served.values()), default=0)
    order = list(first)
    while queues:
        client = min(queues, key=lambda each: (state[each].running, state[each].turn))
        order.append(queues[client].popleft())
        turn += 1
        state[client] = Served(state[client].running + 1, turn)
        if not queues[client]:
            del queues[client]
    return order
