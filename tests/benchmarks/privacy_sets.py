"""Figures of set intersection: against openmined-psi called directly, through nodes, and memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import private_set_intersection.python as psi
from ledger_figures import Figure, figure

from dataspace.client import Client
from dataspace.computing.backend import LocalPool
from dataspace.demo.space import LocalSpace, RunningNode
from dataspace.settings import ParticipantKind
from privacy.kinds import CONSUMER, KINDS, Inputs, Parameters
from privacy.role import run_in_memory

PURPOSE = "research"
END_S = 7200.0
LARGE = 131_072
FAR = 10_000_000


def identifiers(count: int, first: int = 0) -> tuple[str, ...]:
    return tuple(f"person-{number}" for number in range(first, first + count))


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


# In memory


def directly(count: int) -> None:
    """Both parties of openmined-psi, one call after the other in one thread."""
    client = psi.client.CreateWithNewKey(True)
    server = psi.server.CreateWithNewKey(True)
    theirs = list(identifiers(count, count // 2))
    setup = server.CreateSetupMessage(1e-9, count, theirs, psi.DataStructure.RAW)
    response = server.ProcessRequest(client.CreateRequest(list(identifiers(count))))
    assert len(client.GetIntersection(setup, response)) == count - count // 2


def by_roles(count: int, pool: LocalPool) -> None:
    """Both roles of psi/2 in this process, their arithmetic in the pool."""
    inputs = {
        "sender": Inputs(identifiers(count, count // 2)),
        CONSUMER: Inputs(identifiers(count)),
    }
    roles = {
        party: KINDS["psi/2"].start(
            party, ("sender", CONSUMER), rows, Parameters(20), None, workers=pool
        )
        for party, rows in inputs.items()
    }
    value: Any = run_in_memory(roles)[CONSUMER].value
    assert value["count"] == count - count // 2


# Between nodes


@contextmanager
def two_nodes(directory: Path, **changes: Any) -> Iterator[tuple[RunningNode, RunningNode]]:
    """A provider and a consumer as processes of their own, with these settings."""
    settings = {"anchor_interval_s": 3600.0, **changes}
    with LocalSpace(directory, settings=settings) as space:
        space.found({"provider": ParticipantKind.ENTERPRISE, "consumer": ParticipantKind.CONSUMER})
        provider, consumer = space.nodes["provider"], space.nodes["consumer"]
        consumer.client.wait_until(lambda status: bool(status["joined"]))
        yield provider, consumer


def publish(node: Client, name: str, file: Path) -> None:
    columns = [{"name": "person", "role": "identifier", "canonicaliser": "text/1"}]
    terms = {
        "computations": list(KINDS),
        "purposes": [PURPOSE],
        "min_cohort": 20,
        "not_after": (datetime.now(UTC) + timedelta(days=30)).isoformat(timespec="seconds"),
    }
    node.publish(name, file, columns, terms=terms)


def write_people(path: Path, count: int, first: int = 0) -> Path:
    path.write_text("\n".join(("person", *identifiers(count, first), "")), encoding="utf-8")
    return path


class Between:
    """psi/2 over one pair of files between two running nodes."""

    def __init__(
        self, provider: RunningNode, consumer: RunningNode, directory: Path, count: int
    ) -> None:
        self.provider, self.consumer, self.count = provider, consumer, count
        self.own = write_people(directory / f"own-{count}.csv", count)
        theirs = write_people(directory / f"theirs-{count}.csv", count, count // 2)
        publish(provider.client, f"people-{count}", theirs)
        self.agreement = consumer.client.negotiate(provider.url, f"people-{count}")

    def run(self, **parameters: int) -> None:
        found = self.consumer.client.compute(
            "psi/2",
            [self.agreement],
            purpose=PURPOSE,
            own=(self.own, "person"),
            parameters=parameters,
            deadline_s=END_S,
            timeout_s=END_S,
        )
        assert found.value["count"] == self.count - self.count // 2


def bench_time(directory: Path, count: int, rounds: int) -> list[Figure]:
    """One thread of openmined-psi, our roles, and two nodes, one after the other `rounds` times."""
    pool = LocalPool()
    by_roles(2 * 1024, pool)
    ratios, overheads, bests = [], [], []
    with two_nodes(directory / "time") as (provider, consumer):
        Between(provider, consumer, directory, 4096).run()
        between = Between(provider, consumer, directory, count)
        for _ in range(rounds):
            alone = seconds(lambda: directly(count))
            ours = seconds(lambda: by_roles(count, pool))
            nodes = seconds(between.run)
            ratios.append(alone / ours)
            overheads.append(nodes / ours)
            bests.append(ours)
    pool.close()
    return [
        figure(f"psi/2 {count:,} × {count:,}, both roles on this machine", min(bests), "s"),
        figure("  × faster than openmined-psi in one thread", max(ratios), "", least=1.8),
        figure("  through two nodes against in memory", min(overheads), "", most=1.15),
    ]


# Memory


def peak_bytes(pid: int) -> int:
    """The most memory a process and its descendants have had, each at its own peak."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    own = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    threads = Path(f"/proc/{pid}/task").iterdir()
    born = {c for t in threads for c in (t / "children").read_text("ascii").split()} | set(children)
    return int(own.split()[1]) * 1024 + sum(peak_bytes(int(child)) for child in born)


def peaks_gb(directory: Path, count: int, bucket_elements: int) -> tuple[list[float], float]:
    """Peak memory of provider and consumer in one run, workers included; and its seconds."""
    with two_nodes(directory / f"memory-{count}-{bucket_elements}") as nodes:
        between = Between(*nodes, directory, count)
        took = seconds(lambda: between.run(bucketElements=bucket_elements))
        processes = [node.process for node in nodes]
        return [peak_bytes(process.pid) / 1e9 for process in processes if process], took


def bench_memory(directory: Path, count: int) -> list[Figure]:
    """Peaks at a quarter of `count`, at `count`, and there with four times as many buckets."""
    least, _ = peaks_gb(directory, count // 4, LARGE)
    most, took = peaks_gb(directory, count, LARGE)
    many, _ = peaks_gb(directory, count, LARGE // 4)
    grown = [(last - first) / (count - count // 4) for first, last in zip(least, most, strict=True)]
    far = [last + slope * (FAR - count) for last, slope in zip(most, grown, strict=True)]
    what = f"psi/2 {count:,} × {count:,}"
    return [
        figure(f"{what} through two nodes", took, "s"),
        figure("  peak memory of the provider", most[0], "GB", most=1.5),
        figure("  peak memory of the consumer", most[1], "GB", most=1.5),
        figure("  four times as many buckets / as many, greater of both", _growth(most, many), ""),
        figure(f"  extrapolated to {FAR:,}, greater of both", max(far), "GB"),
    ]


def _growth(before: list[float], after: list[float]) -> float:
    return max(b / a for a, b in zip(before, after, strict=True))
