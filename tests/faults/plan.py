"""What will be asked and what will break, drawn from a seed: the same seed gives the same plan.

A run is a sequence of rounds. In a round some operations begin together and some faults strike,
each a moment after the operation it belongs to began. Which instruction of a node a fault meets is
up to the machine; that it strikes this node, in this way, with this load under way, is not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

OPERATOR, CONSUMER = "operator", "institute"
PROVIDERS = ("civil-affairs", "insurer", "health-trust")
MEMBERS = (*PROVIDERS, CONSUMER)
NODES = (OPERATOR, *MEMBERS)


class Work(StrEnum):
    """One thing an owner asks for."""

    AGREE = "agree"
    COUNTER = "counter"
    REFUSED = "refused"
    APPROVE = "approve"
    DECLINE = "decline"
    OFFER = "offer"
    END_NEGOTIATION = "end negotiation"
    END_AGREEMENT = "end agreement"
    PULL = "pull"
    PUSH = "push"
    INTERSECTION = "psi/2"
    SUM = "private-sum/2"
    TOTALS = "aggregate/2"
    MANY = "psi-multi/1"
    CONSENT = "consent"
    PUBLISH = "publish"
    ROTATE = "rotate log key"


class Kind(StrEnum):
    """One way to break something; `proxy` faults are drawn for every request (`proxy`)."""

    KILL = "kill"
    # Killed when its database's log is being written to.
    KILL_COMMITTING = "kill while committing"
    # Killed a moment after an owner's request has gone to it.
    KILL_ASKED = "kill when asked"
    # Killed again while it starts.
    KILL_STARTING = "kill while starting"
    # Stopped in an orderly way for a while.
    AWAY = "away"
    # Neither dead nor answering.
    FROZEN = "frozen"
    CLOCK = "clock"
    DISK = "disk"
    PARTITION = "partition"
    DATABASE = "database"


KILLS = (Kind.KILL, Kind.KILL_COMMITTING, Kind.KILL_ASKED, Kind.KILL_STARTING)
# What `--only` may name, and what each allows besides the load.
GROUPS: dict[str, tuple[Kind, ...]] = {
    "kills": KILLS,
    "proxy": (),
    "away": (Kind.AWAY, Kind.FROZEN),
    "clock": (Kind.CLOCK,),
    "disk": (Kind.DISK,),
    "partition": (Kind.PARTITION,),
    "database": (Kind.DATABASE,),
}
_WORK_WEIGHTS: dict[Work, int] = {
    Work.AGREE: 10,
    Work.COUNTER: 3,
    Work.REFUSED: 3,
    Work.APPROVE: 4,
    Work.DECLINE: 2,
    Work.OFFER: 3,
    Work.END_NEGOTIATION: 3,
    Work.END_AGREEMENT: 3,
    Work.PULL: 6,
    Work.PUSH: 6,
    Work.INTERSECTION: 6,
    Work.SUM: 6,
    Work.TOTALS: 5,
    Work.MANY: 4,
    Work.CONSENT: 3,
    Work.PUBLISH: 3,
    Work.ROTATE: 1,
}
OPERATIONS_A_ROUND = 5
KILLS_A_ROUND = 3
# How often another kind of fault comes into a round, where it is allowed.
OTHER_FAULT_SHARE = 0.35
# Computations that the jumps of a clock should meet: around a token's 60 seconds and its 30 of
# forgiveness, and beyond what is kept for ten minutes.
CLOCK_JUMPS_S = (-7200.0, -600.0, -95.0, -45.0, 45.0, 95.0, 600.0, 7200.0)


@dataclass(frozen=True)
class Operation:
    """One request of an owner. `provider` is the other side of the consumer, or the only one."""

    number: int
    work: Work
    provider: str


@dataclass(frozen=True)
class Fault:
    """Something breaks `after_s` into its round, at `node`, for `for_s`; `clock_s` is a jump."""

    number: int
    kind: Kind
    node: str
    after_s: float
    for_s: float
    clock_s: float = 0.0


@dataclass(frozen=True)
class Round:
    number: int
    operations: tuple[Operation, ...]
    faults: tuple[Fault, ...]

    @property
    def kills(self) -> int:
        return sum(2 if one.kind is Kind.KILL_STARTING else 1 for one in self.kills_planned)

    @property
    def kills_planned(self) -> tuple[Fault, ...]:
        return tuple(one for one in self.faults if one.kind in KILLS)


@dataclass(frozen=True)
class Possible:
    """What the space allows: nodes with a clock of their own, on a disk of their own, …"""

    kinds: tuple[Kind, ...]
    clocks: tuple[str, ...] = ()
    disks: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()


def rounds(seed: int, possible: Possible) -> Iterator[Round]:
    """The plan, round after round, without end."""
    rng = random.Random(f"faults {seed}")
    number, operation, fault = 0, 0, 0
    while True:
        operations, faults = [], []
        for _ in range(OPERATIONS_A_ROUND):
            work = rng.choices(list(_WORK_WEIGHTS), list(_WORK_WEIGHTS.values()))[0]
            operations.append(Operation(operation, work, rng.choice(PROVIDERS)))
            operation += 1
        for one in _faults(rng, possible):
            faults.append(Fault(fault, *one))
            fault += 1
        yield Round(number, tuple(operations), tuple(faults))
        number += 1


def _faults(
    rng: random.Random, possible: Possible
) -> Iterator[tuple[Kind, str, float, float, float]]:
    kills = [kind for kind in possible.kinds if kind in KILLS]
    if kills:
        for node in rng.sample(NODES, KILLS_A_ROUND):
            kind = rng.choice(kills)
            yield kind, node, rng.expovariate(1.5), rng.uniform(0.0, 1.5), 0.0
    others = [kind for kind in possible.kinds if kind not in KILLS and _where(kind, possible)]
    # Where nothing else is asked for, something of it happens in every round.
    for kind in others:
        if not kills or rng.random() < OTHER_FAULT_SHARE:
            node = rng.choice(_where(kind, possible))
            jump = rng.choice(CLOCK_JUMPS_S) if kind is Kind.CLOCK else 0.0
            yield kind, node, rng.uniform(0.0, 1.5), rng.uniform(0.5, 4.0), jump


def _where(kind: Kind, possible: Possible) -> Sequence[str]:
    return {
        Kind.CLOCK: possible.clocks,
        Kind.DISK: possible.disks,
        Kind.PARTITION: possible.partitions,
        Kind.DATABASE: possible.databases,
    }.get(kind, NODES)
