"""A node's metrics, in Prometheus' text format or as OpenMetrics.

Whoever scrapes learns how much happens and how well, not with whom, about what or whom: labels are
route templates, kinds, states, operands and outcomes. A peer is a short keyed hash of its DID,
which `dataspace status --json` resolves for those who may know. There are no numbers of rows,
datasets' or participants' names.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from dataspace import __version__
from dataspace.errors import Unavailable
from dataspace.operations.condition import free_disk_bytes
from dataspace.operations.figures import Histogram, Labels
from dataspace.operations.standing import OTHERS, Standing, read_standing
from dataspace.processes import WORKERS

if TYPE_CHECKING:
    from dataspace.node import Node

# Several scrapers, or an eager one, get one reading of the database.
FRESH_S: Final = 5.0
PREFIX: Final = "dataspace_"
DAY_S: Final = 86400.0


def peer_label(node: Node, did: str) -> str:
    """What a peer is called in metrics: the same as long as the node keeps its key, and nothing
    that could be guessed from the DIDs of a space."""
    if not did or did == OTHERS:
        return did or "none"
    return hmac.digest(node.derived_key("metrics"), did.encode(), "sha256").hex()[:12]


class Metrics:
    """One node's registry, whatever else this process has."""

    def __init__(self, node: Node) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(_NodeCollector(node))

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the form that this Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class _NodeCollector(Collector):
    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._read: tuple[Standing | None, float] = (None, float("-inf"))

    def describe(self) -> Iterable[Metric]:
        # Known only by reading the database, which a registration should not do.
        return ()

    def collect(self) -> Iterable[Metric]:
        yield from self._counted()
        standing, took_s = self._standing()
        yield _gauge("database_up", "Whether the node's database answers.", standing is not None)
        if standing is not None:
            yield _gauge("database_read_seconds", "How long reading these metrics took.", took_s)
            yield from _work(standing, self._node)
            yield from _evidence(standing)
        yield from self._condition()

    def _standing(self) -> tuple[Standing | None, float]:
        with self._lock:
            known, read_at = self._read
            began = time.monotonic()
            if known is not None and began - read_at < FRESH_S:
                return known, 0.0
            try:
                with self._node.store.look() as tx:
                    known = read_standing(tx)
            except Unavailable:
                return None, 0.0
            now = time.monotonic()
            self._read = known, now
            return known, now - began

    def _counted(self) -> Iterable[Metric]:
        figures = self._node.figures
        yield _counter(
            "http_requests",
            "Requests answered.",
            ("method", "route", "status"),
            figures.requests.counts(),
        )
        yield _histogram(
            "http_request_seconds",
            "From a request's head to the end of its answer.",
            ("route",),
            figures.request_s,
        )
        yield _counter(
            "http_bytes",
            "Bytes of bodies, by face of the node.",
            ("face", "direction"),
            figures.carried_bytes.counts(),
        )
        yield _counter(
            "peer_requests",
            "Our requests to peers, by the answer's status.",
            ("status",),
            figures.outgoing.counts(),
        )
        yield _counter(
            "process_attempts",
            "Attempts at durable processes, by what came of them.",
            ("kind", "outcome"),
            figures.attempts.counts(),
        )
        yield _histogram(
            "computation_seconds",
            "From the start of a computation's role to its end.",
            ("kind", "outcome"),
            figures.computation_s,
        )
        yield _histogram(
            "database_transaction_seconds",
            "A transaction with its wait for a turn.",
            (),
            figures.transaction_s,
        )

    def _condition(self) -> Iterable[Metric]:
        node, watch = self._node, self._node.condition
        info = InfoMetricFamily(f"{PREFIX}build", "What runs here.")
        kind = node.home.settings.kind.value
        info.add_metric((), {"version": __version__, "kind": kind})
        yield info
        workers = GaugeMetricFamily(
            f"{PREFIX}workers", "Threads that do durable processes.", labels=("pool", "state")
        )
        for pool, busy in node.engine.busy().items():
            workers.add_metric((pool.value, "busy"), busy)
            workers.add_metric((pool.value, "free"), WORKERS[pool] - busy)
        yield workers
        yield _gauge("engine_healthy", "Whether all those threads live.", node.engine.healthy())
        yield _gauge("sessions_open", "Computations that run now.", node.sessions.open_count())
        yield _gauge("compute_workers", "Processes that may compute.", node.workers.count)
        free = free_disk_bytes(node.home.path)
        if free is not None:
            yield _gauge("disk_free_bytes", "Free disk where the home is.", free)
        if watch.chain.reachable is not None:
            yield _gauge(
                "chain_reachable", "Whether the chain answered last.", watch.chain.reachable
            )
        ages = node.zones.ages_s()
        if ages:
            yield _gauge("zone_list_age_seconds", "Age of the oldest zone list.", max(ages))


def _work(standing: Standing, node: Node) -> Iterable[Metric]:
    number = GaugeMetricFamily(
        f"{PREFIX}processes", "Durable processes that wait or failed.", labels=("kind", "state")
    )
    overdue = GaugeMetricFamily(
        f"{PREFIX}process_overdue_seconds", "How long the first has been due.", labels=("kind",)
    )
    for one in standing.processes:
        kind = one.kind if one.kind in node.engine.kinds() else "unknown"
        number.add_metric((kind, one.state), one.count)
        if one.state == "ready":
            overdue.add_metric((kind,), max(0.0, standing.at - one.due_at))
    yield from (number, overdue)
    depth = GaugeMetricFamily(
        f"{PREFIX}outbox_messages", "Messages that wait for a peer.", labels=("peer",)
    )
    age = GaugeMetricFamily(
        f"{PREFIX}outbox_age_seconds", "How long the oldest has waited.", labels=("peer",)
    )
    for waiting in standing.outbox:
        label = (peer_label(node, waiting.peer),)
        depth.add_metric(label, waiting.count)
        age.add_metric(label, max(0.0, standing.at - waiting.since))
    yield from (depth, age)
    for name, about, labels, counts in (
        ("negotiations", "Negotiations.", ("role", "state"), standing.negotiations),
        ("transfers", "Transfers.", ("role", "format", "state"), standing.transfers),
        ("computations", "Computations.", ("kind", "status"), standing.computations),
        ("refusals", "What a clause refused, here or at a peer.", ("of", "by"), standing.refusals),
    ):
        family = GaugeMetricFamily(f"{PREFIX}{name}", about, labels=labels)
        for values, count in counts.items():
            family.add_metric(values, count)
        yield family
    waiting_for = "Negotiations that wait for a person of ours."
    yield _gauge("negotiations_waiting_for_person", waiting_for, standing.waiting_for_person)
    yield _gauge("agreements_in_force", "Agreements nobody has ended.", standing.agreements)


def _evidence(standing: Standing) -> Iterable[Metric]:
    yield _gauge("evidence_entries", "Entries of the evidence log.", standing.entries)
    behind = standing.entries - standing.anchored
    yield _gauge("evidence_unanchored_entries", "Entries no anchor covers.", behind)
    since = standing.unanchored_since
    late = 0.0 if since is None else standing.at - since
    yield _gauge("evidence_unanchored_seconds", "For how long, at most.", max(0.0, late))
    yield _gauge("witnesses", "Logs of counterparties that cosign ours.", standing.witnesses)
    yield _gauge(
        "cosignatures_missing",
        "Witnesses that have not cosigned the newest checkpoint.",
        standing.cosignatures_missing,
    )
    if standing.members is not None:
        yield _gauge("members", "Members of the space, at its operator.", standing.members)
    if standing.credential_ends_at is not None:
        days = (standing.credential_ends_at - standing.at) / DAY_S
        yield _gauge("credential_days_left", "Until the membership credential ends.", days)


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", about, value=float(value))


def _counter(
    name: str, about: str, labels: tuple[str, ...], counts: Mapping[Labels, int]
) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}{name}", about, labels=labels)
    for values, count in sorted(counts.items()):
        family.add_metric(values, count)
    return family


def _histogram(name: str, about: str, labels: tuple[str, ...], figures: Histogram) -> Metric:
    family = HistogramMetricFamily(f"{PREFIX}{name}", about, labels=labels)
    for values, series in sorted(figures.series().items()):
        buckets, total = [], 0
        for bound, count in zip((*figures.bounds, float("inf")), series.counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
        family.add_metric(values, buckets, series.total)
    return family
