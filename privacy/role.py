"""Roles: one party's side of a protocol, as a generator that does no input or output itself.

A role yields `Send` (and is resumed with None once the frame is on its way), `Receive` (and is
resumed with the payload) or `Progress` (and is resumed with None). It returns its `Outcome` or
raises a `PrivacyError`. The same role runs in memory, over HTTP or in a test that alters frames,
because whoever drives it owns the transport.

A driver must end a role it no longer drives with `close()`, hand it the payload of exactly the
frame it asked for, and treat a frame above `limit_bytes` as a `ProtocolViolation`.
"""

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from privacy.errors import InputRejected, ProtocolViolation

JsonValue: TypeAlias = (
    "Mapping[str, JsonValue] | Sequence[JsonValue] | str | int | float | bool | None"
)


@dataclass(frozen=True, slots=True)
class Send:
    """Hand `payload` to the party `to` as the next frame, called `name`."""

    to: str
    name: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for the next frame of `sender`, which must be called `name` and fit `limit_bytes`."""

    sender: str
    name: str
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` more units of work are behind this party; of `total`, where that has become known.

    A unit is one element masked, raised, encrypted or added. A driver may end the role here: it is
    where a cancelled run stops between two pieces of work.
    """

    done: int = 0
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the computation gave this party: a JSON-able value, or None if it was only helping.

    The shape of `value` is documented by each kind. Integers are exact and may exceed 53 bits.
    `report` tells a party about its own input, such as how many rows it gave twice; nobody else
    sees it. `attachment` names the file of its spool that holds what is too long for a value.
    `parties` are those who took part, where not all of the order did.
    """

    value: JsonValue
    report: Mapping[str, int] = field(default_factory=dict, hash=False)
    attachment: str | None = None
    parties: tuple[str, ...] | None = None


Step: TypeAlias = Send | Receive | Progress
Result = TypeVar("Result")
# A part of a role that gives something else than an outcome, used with `yield from`.
Steps: TypeAlias = Generator[Step, bytes | None, Result]
Role: TypeAlias = Generator[Step, bytes | None, Outcome]


def send(to: str, name: str, payload: bytes) -> Steps[None]:
    """Send one frame."""
    yield Send(to, name, payload)


def receive(sender: str, name: str, limit_bytes: int) -> Steps[bytes]:
    """Return the payload of one frame; ProtocolViolation if it is longer than `limit_bytes`."""
    payload = yield Receive(sender, name, limit_bytes)
    if payload is None:
        raise InputRejected(f"the driver resumed the frame {name!r} of {sender} without a payload")
    if len(payload) > limit_bytes:
        raise ProtocolViolation(
            f"frame {name!r} of {sender}: at most {limit_bytes} bytes expected, got {len(payload)}"
        )
    return payload


def run_in_memory(roles: Mapping[str, Steps[Result]]) -> dict[str, Result]:
    """Drive all `roles` (party name to role) by passing their frames; return what each returned.

    Raises whatever a role raises, and ProtocolViolation when no role can go on, when a frame goes
    to a party that is not there, is not the one awaited, is over the limit or is never read.
    Whatever happens, every role is closed when this returns.
    """
    exchange = _Exchange(roles)
    try:
        return exchange.run()
    finally:
        for role in roles.values():
            role.close()


class _Exchange(Generic[Result]):
    """The frames under way and what each unfinished role waits for."""

    def __init__(self, roles: Mapping[str, Steps[Result]]) -> None:
        self.roles = roles
        self.queues: dict[tuple[str, str], deque[Send]] = {}
        self.waiting: dict[str, Receive] = {}
        self.results: dict[str, Result] = {}

    def run(self) -> dict[str, Result]:
        for party in self.roles:
            self.advance(party, None)
        while self.waiting:
            ready = [p for p, step in self.waiting.items() if self.queues.get((step.sender, p))]
            if not ready:
                raise ProtocolViolation(f"nobody can go on: {self.describe_waiting()}")
            for party in ready:
                self.advance(party, self.take(party, self.waiting.pop(party)))
        for (sender, receiver), frames in self.queues.items():
            if frames:
                raise ProtocolViolation(
                    f"{receiver} ended without reading frame {frames[0].name!r} of {sender}"
                )
        return self.results

    def advance(self, party: str, payload: bytes | None) -> None:
        """Resume one role until it waits for a frame or ends."""
        try:
            step = self.roles[party].send(payload)
            while not isinstance(step, Receive):
                if isinstance(step, Progress):
                    step = self.roles[party].send(None)
                    continue
                if step.to not in self.roles or step.to == party:
                    raise ProtocolViolation(
                        f"{party} sent frame {step.name!r} to {step.to!r}, who takes no part"
                    )
                self.queues.setdefault((party, step.to), deque()).append(step)
                step = self.roles[party].send(None)
        except StopIteration as ended:
            self.results[party] = ended.value
        else:
            self.waiting[party] = step

    def take(self, party: str, wanted: Receive) -> bytes:
        frame = self.queues[(wanted.sender, party)].popleft()
        if frame.name != wanted.name:
            raise ProtocolViolation(
                f"{party} expected frame {wanted.name!r} of {wanted.sender}, got {frame.name!r}"
            )
        if len(frame.payload) > wanted.limit_bytes:
            raise ProtocolViolation(
                f"frame {frame.name!r} of {wanted.sender} to {party}: at most "
                f"{wanted.limit_bytes} bytes expected, got {len(frame.payload)}"
            )
        return frame.payload

    def describe_waiting(self) -> str:
        return "; ".join(
            f"{party} waits for frame {step.name!r} of {step.sender}"
            for party, step in sorted(self.waiting.items())
        )
