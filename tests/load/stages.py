"""The stages of a run, one after the other over one space: idle, each work alone, all mixed,
floods, and the end."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from dataspace.store.tables import CheckpointRow, LogStateRow, ProcessRow
from dataspace.web.management import PLANNED as BACKGROUND
from tests.faults.plan import PROVIDERS
from tests.load.clients import Crew, Done
from tests.load.plan import CONSUMERS, NODES, Asked, Work, plan
from tests.load.space import LoadedSpace
from tests.load.verdict import Ended
from tests.load.watching import Watch, Watched, cpu_s, own_cpu_s

SETTLE_S = 60.0
LOOK_S = 0.25
# How often each work is done alone, after having been done once. Computations take longest.
TIMES_ALONE = 8
ALONE_S = 300.0
# Processes that wait for their time although nothing is under way.
PLANNED = (*BACKGROUND, "expire-negotiation", "expire-computation", "gather-providers")

PROCESS: Any = ProcessRow.__table__  # type: ignore[attr-defined]
STATE: Any = LogStateRow.__table__  # type: ignore[attr-defined]
CHECKPOINT: Any = CheckpointRow.__table__  # type: ignore[attr-defined]
_TRANSACTIONS = re.compile(r"^dataspace_database_transaction_seconds_count (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Idle:
    """Processor seconds that each node takes in a minute in which nobody asks for anything."""

    cpu_s_a_minute: Mapping[str, float]
    transactions_a_minute: Mapping[str, float]


@dataclass(frozen=True)
class Alone:
    """What one piece of this work costs all nodes together, done by one client and nothing else."""

    ms: float
    cpu_ms: float
    transactions: float
    database_bytes: float


@dataclass(frozen=True)
class Mixed:
    """The long stage: what was done, what it took, and how the nodes looked meanwhile."""

    done: Done
    watched: Watched
    cpu_s: Mapping[str, float]
    client_cpu_s: float
    transactions: Mapping[str, float]
    database_bytes: int


def idle(space: LoadedSpace, seconds: float) -> Idle:
    """Do nothing for so long; what the nodes did meanwhile."""
    cpu, transactions, begun = cpu_s(space), _transactions(space), time.monotonic()
    time.sleep(seconds)
    minutes = (time.monotonic() - begun) / 60
    return Idle(
        {name: (now - cpu[name]) / minutes for name, now in cpu_s(space).items()},
        {name: (now - transactions[name]) / minutes for name, now in _transactions(space).items()},
    )


def alone(space: LoadedSpace, quiet: Idle, times: int = TIMES_ALONE) -> dict[Work, Alone]:
    """Each work some times by one client; what the nodes take idle is subtracted."""
    for work in Work:
        _repeat(space, work, 1)
    settle(space)
    found = {}
    for work in Work:
        cpu, transactions, begun = cpu_s(space), _transactions(space), time.monotonic()
        size = _database_bytes(space)
        took = _repeat(space, work, times)
        settle(space)
        minutes = (time.monotonic() - begun) / 60
        used = sum(cpu_s(space).values()) - sum(cpu.values())
        used -= minutes * sum(quiet.cpu_s_a_minute.values())
        made = sum(_transactions(space).values()) - sum(transactions.values())
        made -= minutes * sum(quiet.transactions_a_minute.values())
        found[work] = Alone(
            ms=1000 * took / times,
            cpu_ms=1000 * used / times,
            transactions=made / times,
            database_bytes=(_database_bytes(space) - size) / times,
        )
    return found


def _repeat(space: LoadedSpace, work: Work, times: int) -> float:
    asked = (
        Asked(work, CONSUMERS[0], PROVIDERS[number % len(PROVIDERS)], number)
        for number in range(times)
    )
    begun = time.monotonic()
    done = Crew(space).run([asked], ALONE_S)
    if done.errors.total():
        raise ValueError(f"{work} alone had an unexpected answer: {done.told[0]}")
    return time.monotonic() - begun


def mixed(space: LoadedSpace, *, seed: int, clients: int, seconds: float) -> Mixed:
    """All work at once, in closed loops, for so long."""
    cpu, own, transactions = cpu_s(space), own_cpu_s(), _transactions(space)
    size = _database_bytes(space)
    with Watch(space) as watched:
        done = Crew(space).run([plan(seed, client) for client in range(clients)], seconds)
    return Mixed(
        done=done,
        watched=watched,
        cpu_s={name: now - cpu[name] for name, now in cpu_s(space).items()},
        client_cpu_s=own_cpu_s() - own,
        transactions={name: now - transactions[name] for name, now in _transactions(space).items()},
        database_bytes=_database_bytes(space) - size,
    )


def settle(space: LoadedSpace) -> Ended:
    """Wait until nothing is under way, for a while; how the nodes stand then."""
    begun = time.monotonic()
    while True:
        ended = _standing(space, time.monotonic() - begun)
        if not (any(ended.outbox.values()) or any(ended.unanchored.values())):
            return ended
        if time.monotonic() - begun > SETTLE_S:
            return ended
        time.sleep(LOOK_S)


def _standing(space: LoadedSpace, after_s: float) -> Ended:
    outbox, unanchored, failed = {}, {}, {}
    for name in NODES:
        with space.database(name).connect() as connection:
            kinds = connection.execute(
                select(PROCESS.c.kind, PROCESS.c.state, func.count())
                .where(PROCESS.c.state.in_(("ready", "failed")), PROCESS.c.kind.not_in(PLANNED))
                .group_by(PROCESS.c.kind, PROCESS.c.state)
            ).all()
            size = connection.execute(select(STATE.c.size)).scalar() or 0
            anchored = connection.execute(
                select(func.max(CHECKPOINT.c.size)).where(CHECKPOINT.c.block.is_not(None))
            ).scalar()
        states: Counter[str] = Counter()
        for _, state, count in kinds:
            states[state] += count
        outbox[name], failed[name] = states["ready"], states["failed"]
        unanchored[name] = size - (anchored or 0)
    return Ended(outbox, unanchored, failed, after_s)


def _transactions(space: LoadedSpace) -> dict[str, float]:
    """How many transactions each node has made since it began."""
    found = {}
    for name in NODES:
        text = space.metrics(name)
        match = _TRANSACTIONS.search(text)
        if match is None:
            raise ValueError(f"{name} does not tell its transactions")
        found[name] = float(match[1])
    return found


def _database_bytes(space: LoadedSpace) -> int:
    return sum(space.database_bytes(name) for name in NODES)
