"""Which of the waiting computations begin next: a fair queue, as a function of values.

Consumers take turns: whoever has the fewest computations running is next, so that one who ordered
a hundred delays nobody who ordered one. Between equals, and among the orders of one consumer, who
came first goes first.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """A computation that has not begun; `since` in seconds, by one clock for all."""

    id: str
    consumer: str
    since: float


def has_room(waiting: Sequence[str], consumer: str, *, most: int, most_a_consumer: int) -> bool:
    """Whether one more order of `consumer` may wait; `waiting` names the consumers of those that
    do.

    A queue that others have filled is closed to who waits in it already, never to who does not: so
    nobody is kept out by another's flood, and no more than `most`, and one for each further
    consumer, wait.
    """
    own = waiting.count(consumer)
    return own < most_a_consumer and (own == 0 or len(waiting) < most)


def choose_next(
    waiting: Sequence[Waiting], running: Sequence[str], *, most: int, most_a_consumer: int
) -> tuple[str, ...]:
    """Return the ids to begin now, in that order.

    `running` names the consumer of each computation that runs. With those chosen, at most `most`
    run, and of one consumer at most `most_a_consumer`. Nothing that could begin is left waiting.
    """
    now_running = Counter(running)
    queues: dict[str, deque[Waiting]] = {}
    for one in sorted(waiting, key=lambda each: (each.since, each.id)):
        queues.setdefault(one.consumer, deque()).append(one)
    chosen: list[str] = []
    while queues and len(running) + len(chosen) < most:
        consumer = min(
            queues, key=lambda each: (now_running[each], queues[each][0].since, queues[each][0].id)
        )
        if now_running[consumer] >= most_a_consumer:
            # It has the fewest running, so every other one is at its bound too.
            break
        chosen.append(queues[consumer].popleft().id)
        now_running[consumer] += 1
        if not queues[consumer]:
            del queues[consumer]
    return tuple(chosen)
