"""What the benchmarks of the ledger share: figures, rates, records of ordinary size."""

from __future__ import annotations

import resource
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from ledger.entry import Entry, EntryType, uuid7

ORIGIN = "bench.city.example/tlog"
START = datetime(2026, 11, 25, tzinfo=UTC)


@dataclass(frozen=True)
class Figure:
    """One measurement. `aim` says what it should reach, `met` whether it did (None: no aim)."""

    name: str
    value: float
    unit: str
    aim: str = ""
    met: bool | None = None


def figure(
    name: str, value: float, unit: str, *, least: float | None = None, most: float | None = None
) -> Figure:
    if least is not None:
        return Figure(name, value, unit, f"≥ {least:,g}", value >= least)
    if most is not None:
        return Figure(name, value, unit, f"≤ {most:,g}", value <= most)
    return Figure(name, value, unit)


def rate(count: int, act: Callable[[], object]) -> float:
    """How many a second, `act` doing `count` of them."""
    start = time.perf_counter()
    act()
    return count / (time.perf_counter() - start)


def record(index: int, **fields: object) -> Entry:
    """A record of ordinary size: about 500 bytes."""
    moment = START + timedelta(milliseconds=index)
    values = {
        "log": ORIGIN,
        "id": uuid7(moment, secrets.token_bytes(10)),
        "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "type": EntryType.DECIDED,
        "actor": "did:web:bench.city.example",
        "peer": "did:web:peer.city.example",
        "corr": "urn:uuid:01938d0c-0000-7000-8000-000000000000",
        "order_h": sha256(str(index // 2).encode()).hexdigest(),
        "kind": "private-sum/1",
        "purpose": "public-health-research",
        "decision": "permit",
    }
    return Entry.model_validate(values | fields)


def peak_mb() -> float:
    """The most memory this process has had, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
