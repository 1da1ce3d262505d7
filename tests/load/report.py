"""What a run found, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from tests.load import bare, fairness, stages
from tests.load.figures import Latency
from tests.load.plan import NODES, Work
from tests.load.verdict import Measured


@dataclass(frozen=True)
class Told:
    """A whole run."""

    seed: int
    command: str
    options: Mapping[str, Any]
    idle: stages.Idle
    alone: Mapping[str, stages.Alone]
    mixed: stages.Mixed
    computations: fairness.Computations | None
    catalogues: fairness.Catalogues | None
    bare: bare.Bare
    node_requests: float
    measured: Measured
    findings: list[str]
    seconds: float


def as_json(told: Told) -> dict[str, Any]:
    """Everything, with percentiles in place of every single measurement."""
    mixed, elapsed_s = told.mixed, told.mixed.done.elapsed_s
    return {
        "seed": told.seed,
        "command": told.command,
        "options": dict(told.options),
        "seconds": round(told.seconds, 1),
        "idle": asdict(told.idle),
        "alone": {work: asdict(one) for work, one in told.alone.items()},
        "mixed": {
            "seconds": round(elapsed_s, 1),
            "operations": {
                work.value: {
                    **asdict(Latency.of(seconds)),
                    "a_second": round(len(seconds) / elapsed_s, 3),
                    "errors": mixed.done.errors[work],
                }
                for work, seconds in mixed.done.seconds.items()
            },
            "asked_to_wait": mixed.done.waits,
            "cpu_s": dict(mixed.cpu_s),
            "client_cpu_s": round(mixed.client_cpu_s, 2),
            "transactions": dict(mixed.transactions),
            "database_bytes": mixed.database_bytes,
            "looks": {name: [asdict(look) for look in mixed.watched.looks[name]] for name in NODES},
        },
        "computations": asdict(told.computations) if told.computations else None,
        "catalogues": asdict(told.catalogues) if told.catalogues else None,
        "bare": asdict(told.bare),
        "node_requests": round(told.node_requests, 1),
        "measured": {
            key: value
            for key, value in asdict(told.measured).items()
            if key not in ("computations", "catalogues")
        },
        "findings": told.findings,
    }


def as_text(told: Told) -> str:
    """What a person reads at the end."""
    parts = (_costs, _latencies, _nodes, _computations, _catalogues, _limits, _end)
    return "\n".join(line for part in parts for line in part(told))


def _costs(told: Told) -> Iterator[str]:
    yield ""
    yield f"{'one alone':<14} {'ms':>8} {'CPU ms':>8} {'transactions':>13} {'database kB':>12}"
    for work, one in told.alone.items():
        yield (
            f"{work:<14} {one.ms:8.1f} {one.cpu_ms:8.1f} {one.transactions:13.1f} "
            f"{one.database_bytes / 1000:12.1f}"
        )


def _latencies(told: Told) -> Iterator[str]:
    done = told.mixed.done
    yield ""
    yield (
        f"{'mixed':<14} {'count':>7} {'1/s':>7} {'p50':>8} {'p90':>8} {'p99':>8} {'max ms':>8} "
        "errors"
    )
    for work in Work:
        one = Latency.of(done.seconds[work])
        yield (
            f"{work.value:<14} {one.count:7d} {one.count / done.elapsed_s:7.2f} {one.p50_ms:8.1f} "
            f"{one.p90_ms:8.1f} {one.p99_ms:8.1f} {one.max_ms:8.1f} {done.errors[work]:6d}"
        )
    used = sum(told.mixed.cpu_s.values())
    yield (
        f"{done.count} in {done.elapsed_s:.0f} s, {done.count / done.elapsed_s:.1f}/s; "
        f"asked to wait {done.waits} times; nodes {1000 * used / max(1, done.count):.1f} ms CPU "
        f"an operation, clients {told.mixed.client_cpu_s:.0f} s of "
        f"{used + told.mixed.client_cpu_s:.0f} s; "
        f"database {told.mixed.database_bytes / max(1, done.count) / 1000:.1f} kB an operation"
    )


def _nodes(told: Told) -> Iterator[str]:
    measured, idle = told.measured, told.idle
    yield ""
    yield (
        f"{'node':<14} {'CPU s/min':>9} {'idle':>6} {'RSS MB':>8} {'gained':>7} {'MB/min':>7} "
        f"{'threads':>8} {'files':>6} {'WAL MB':>7} {'transactions/s':>15}"
    )
    minutes = told.mixed.done.elapsed_s / 60
    for name in NODES:
        memory = measured.memory[name]
        yield (
            f"{name:<14} {told.mixed.cpu_s[name] / minutes:9.1f} "
            f"{idle.cpu_s_a_minute[name]:6.2f} {memory.last:8.1f} {memory.gained:+7.1f} "
            f"{memory.a_minute:+7.2f} {measured.threads[name].last:8.0f} "
            f"{measured.files[name].last:6.0f} {measured.wal_mb[name]:7.1f} "
            f"{told.mixed.transactions[name] / minutes / 60:15.1f}"
        )
    ended = measured.ended
    yield (
        f"outboxes {sum(ended.outbox.values())}, entries not anchored "
        f"{sum(ended.unanchored.values())}, failed processes {sum(ended.failed.values())}, "
        f"{ended.settled_s:.1f} s after the last operation"
    )


def _computations(told: Told) -> Iterator[str]:
    one = told.computations
    if one is None:
        return
    yield ""
    yield (
        f"{one.orders} computations ordered at once: one ran {one.round_s:.2f} s (median), the "
        f"last waited {max(one.flood_waits_s):.2f} s; {len(one.other_waits_s)} of another "
        f"consumer waited {median(one.other_waits_s):.2f} s (median), "
        f"{max(one.other_waits_s):.2f} s at most"
    )
    yield (
        f"that is {one.rounds_waited:.2f} rounds; its slowest took {one.rounds_delayed:.2f} rounds "
        f"more than one alone, and the flood {one.flood_s / one.round_s:.1f} rounds; one took "
        f"{median(one.alone_s):.2f} s alone and {median(one.among_s):.2f} s beside the flood"
    )
    counted = one.concurrency
    yield (
        f"at most {counted.running} ran at once, {counted.of_one} of one consumer, in "
        f"{counted.workers} worker processes"
    )


def _catalogues(told: Told) -> Iterator[str]:
    one = told.catalogues
    if one is None:
        return
    yield (
        f"a flood of {one.requests} catalogue requests (asked to wait {one.waits} times): another "
        f"member's negotiation took {median(one.alone_s):.2f} s alone and "
        f"{median(one.among_s):.2f} s beside it: {one.ratio:.1f} times as long"
    )


def _limits(told: Told) -> Iterator[str]:
    floor, busiest = told.bare, max(told.mixed.transactions.values())
    a_second = busiest / told.mixed.done.elapsed_s
    negotiation = told.alone[Work.NEGOTIATION.value]
    yield ""
    yield (
        f"bare here: {floor.requests:.0f} requests/s, {floor.transactions:.0f} transactions/s, "
        f"{floor.megabytes:.0f} MB/s in chunks"
    )
    yield (
        f"a node: {told.node_requests:.0f} small requests/s, "
        f"{told.node_requests / floor.requests:.0%} of bare"
    )
    yield (
        f"the busiest node used {a_second:.0f} transactions/s, {a_second / floor.transactions:.1%} "
        f"of bare; a negotiation takes {negotiation.transactions:.0f} of both nodes together, so "
        f"that the database would do {2 * floor.transactions / negotiation.transactions:.0f} a "
        f"second and two processors {2000 / negotiation.cpu_ms:.0f}"
    )


def _end(told: Told) -> Iterator[str]:
    yield ""
    yield from (f"  {one}" for one in told.measured.told)
    if told.findings:
        yield f"{len(told.findings)} things are not as they must be:"
        yield from (f"  {one}" for one in told.findings)
        yield f"again: {told.command}"
    else:
        yield f"everything is as it must be, after {told.seconds:.0f} s"
