"""Asking nodes as their owners do: what may be repeated, and what may not.

Every request goes through the owner's API as the SDK does. A request whose answer did not come is
not repeated where a repetition would be a second one: it is noted as unknown, and may have had its
effect or not. Steps that can be repeated are, until the node says that they are done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2

from dataspace.client import ApiError
from tests.faults.space import FaultySpace

# A node that was killed is back within this; what its owner asks waits for it.
BACK_S = 120.0
LOOK_S = 0.25
DEADLINE_S = 90.0


@dataclass
class Asked:
    """One operation as its owner knows it.

    `process` is the id of what it began, None where the answer to that never came; `must` is the
    state it has to end in, with what that must give in `value`.
    """

    number: int
    work: str
    node: str
    path: str = ""
    process: str | None = None
    dataset: str = ""
    provider: str = ""
    must: tuple[str, ...] = ()
    value: Any = None
    agreement: str | None = None
    unknown: int = 0
    told: list[str] = field(default_factory=list)


class NoAnswer(Exception):
    """A request that cannot be repeated was not answered, or never will be."""


class Refused(Exception):
    """The node's answer is no."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Asking:
    """Requests to the nodes of a space; `ending` is set when nobody waits for answers any more."""

    def __init__(self, space: FaultySpace) -> None:
        self._space = space
        self._lock = threading.Lock()
        self._sent: dict[str, threading.Event] = {}
        self.ending = threading.Event()

    def next_request_to(self, node: str) -> threading.Event:
        """Set when the next request of an owner is about to go to `node`."""
        with self._lock:
            return self._sent.setdefault(node, threading.Event())

    def once(self, node: str, method: str, path: str, body: Any = None) -> Any:
        """A request that must not be repeated once it may have arrived. Raises NoAnswer, Refused.

        A node that is down has not had it, and one that says 503 has done nothing.
        """
        until = time.monotonic() + BACK_S
        while True:
            self._signal(node)
            with self._space[node].client() as client:
                try:
                    return client.call(method, path, body)
                except ApiError as err:
                    down = isinstance(err.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
                    if not down and err.status != 503:
                        if err.status == 0:
                            raise NoAnswer from err
                        raise Refused(err.status, err.sentence) from err
            if self.ending.is_set() or time.monotonic() > until:
                raise NoAnswer
            time.sleep(LOOK_S)

    def until_done(self, node: str, path: str, body: Any, *, done: Callable[[str], bool]) -> None:
        """A POST that is repeated until it was answered; `done` knows the refusal that tells that
        an earlier one had its effect."""
        until = time.monotonic() + BACK_S
        while not self.ending.is_set():
            self._signal(node)
            with self._space[node].client() as client:
                try:
                    client.call("POST", path, body)
                    return
                except ApiError as err:
                    if err.status not in (0, 503):
                        if done(err.sentence):
                            return
                        raise Refused(err.status, err.sentence) from err
            if time.monotonic() > until:
                raise NoAnswer
            time.sleep(LOOK_S)
        raise NoAnswer

    def seen(self, node: str, path: str, condition: Callable[[Any], bool]) -> Any:
        """What a GET answers once that fulfils the condition. Raises NoAnswer after a while."""
        until = time.monotonic() + BACK_S + DEADLINE_S
        while not self.ending.is_set() and time.monotonic() < until:
            with self._space[node].client() as client:
                try:
                    found = client.call("GET", path)
                    if condition(found):
                        return found
                except ApiError as err:
                    if err.status not in (0, 503):
                        raise Refused(err.status, err.sentence) from err
            time.sleep(LOOK_S)
        raise NoAnswer

    def _signal(self, node: str) -> None:
        with self._lock:
            event = self._sent.pop(node, None)
        if event is not None:
            event.set()
