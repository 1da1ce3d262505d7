"""What the proxy does to a request: a choice that follows from the seed and the request's name."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum


class Mishap(StrEnum):
    """What can happen to one request and its answer on the way."""

    NONE = "none"
    DELAYED = "delayed"
    # Waits until a later request to the same node has passed.
    OVERTAKEN = "overtaken"
    # Never arrives; the line is closed.
    DROPPED = "request dropped"
    # Arrives in part; the line is reset.
    CUT = "request cut"
    # Takes effect, and the line is closed without an answer.
    ANSWER_LOST = "answer lost"
    ANSWER_TRUNCATED = "answer truncated"
    # Arrives twice; the first answer is given, or the second.
    TWICE = "twice"
    TWICE_SECOND = "twice, second answer"
    # Comes again seconds after it was answered.
    AGAIN_LATER = "again later"
    # A gateway answers in place of the node.
    BAD_GATEWAY = "502"
    UNAVAILABLE = "503"
    # Takes effect, and a gateway answers.
    UNAVAILABLE_AFTER = "503 after the effect"


_WEIGHTS: dict[Mishap, int] = {
    Mishap.NONE: 70,
    Mishap.DELAYED: 8,
    Mishap.OVERTAKEN: 3,
    Mishap.DROPPED: 2,
    Mishap.CUT: 2,
    Mishap.ANSWER_LOST: 3,
    Mishap.ANSWER_TRUNCATED: 2,
    Mishap.TWICE: 2,
    Mishap.TWICE_SECOND: 2,
    Mishap.AGAIN_LATER: 2,
    Mishap.BAD_GATEWAY: 1,
    Mishap.UNAVAILABLE: 1,
    Mishap.UNAVAILABLE_AFTER: 2,
}
# Whatever stands in a path for one process or one thing in particular.
_NAMED = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|urn:[^/]+|[0-9a-f]{32,}|\d+")


@dataclass(frozen=True)
class Fate:
    """What happens to a request, and for how long where it takes time."""

    mishap: Mishap
    seconds: float = 0.0


def named(method: str, target: str) -> str:
    """A request's name without what differs from run to run: `POST /dsp/…/transfers/*/start`."""
    path = target.partition("?")[0]
    return f"{method} {_NAMED.sub('*', path)}"


class Fates:
    """Draws what happens: the n-th request of a name to a node meets the same in every run."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._seen: Counter[tuple[str, str]] = Counter()

    def draw(self, node: str, method: str, target: str) -> Fate:
        key = (node, named(method, target))
        self._seen[key] += 1
        return fate(self._seed, *key, self._seen[key])


def fate(seed: int, node: str, name: str, nth: int) -> Fate:
    text = f"{seed} {node} {name} {nth}".encode()
    rng = random.Random(hashlib.sha256(text).digest())
    mishap = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    if mishap is Mishap.DELAYED:
        return Fate(mishap, rng.uniform(0.02, 1.5))
    if mishap is Mishap.AGAIN_LATER:
        return Fate(mishap, rng.uniform(0.5, 6.0))
    if mishap is Mishap.OVERTAKEN:
        return Fate(mishap, 1.0)
    return Fate(mishap)
