"""How a node stands, in one answer for its owner."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from sqlmodel import Session, col, select

from dataspace import __version__
from dataspace.computing.running import MAX_RUNNING, RUN, RUNNING
from dataspace.moments import time_or_none, zulu_at
from dataspace.operations.condition import free_disk_bytes
from dataspace.operations.explaining import explain_work
from dataspace.operations.metrics import peer_label
from dataspace.operations.standing import credential_end, read_outbox
from dataspace.operations.why import work_of
from dataspace.processes import WORKERS
from dataspace.store.tables import ComputationRow, ProcessRow
from dataspace.store.upgrading import newest_revision

if TYPE_CHECKING:
    from dataspace.node import Node

# Of what waits and of what failed, the newest; the rest is counted in the metrics.
MAX_SHOWN: Final = 50
# Before it is due again, what waits for its time is nothing an owner has to know of.
SOON_S: Final = 1.0


def condition_of(node: Node) -> dict[str, Any]:
    """Whether it is ready, what waits and on whom, what failed, whom it cannot reach, what ends
    when, and what room it has."""
    now = time.time()
    reasons = node.condition.unready()
    with node.store.look() as tx:
        outbox = read_outbox(tx)
        waiting = _explained(tx, "ready", now)
        failed = _explained(tx, "failed", now)
        running = _count(tx, col(ComputationRow.status) == RUNNING)
        queued = len(
            tx.exec(
                select(ProcessRow.id).where(ProcessRow.kind == RUN, ProcessRow.state == "ready")
            ).all()
        )
        ends = credential_end(tx)
    busy = node.engine.busy()
    return {
        "ready": not reasons,
        "unready": [
            {"part": one.part, "sentence": one.sentence, "remedy": one.remedy} for one in reasons
        ],
        "waiting": waiting,
        "failed": failed,
        "outboxes": [
            {
                "peer": one.peer,
                "metric_label": peer_label(node, one.peer),
                "messages": one.count,
                "since": zulu_at(one.since),
                "last_error": one.last_error,
            }
            for one in outbox
        ],
        "chain_reachable": node.condition.chain.reachable,
        "versions": {
            "dataspace": __version__,
            "python": ".".join(str(part) for part in sys.version_info[:3]),
            "schema": newest_revision(),
        },
        "ends": {
            "credential": time_or_none(ends),
            "certificate": time_or_none(certificate_end(node)),
        },
        "capacity": {
            "disk_free_bytes": free_disk_bytes(node.home.path),
            "computations_running": running,
            "computations_queued": queued,
            "computations_at_most": MAX_RUNNING,
            "compute_workers": node.workers.count,
            "threads_busy": {pool.value: count for pool, count in busy.items()},
            "threads": {pool.value: count for pool, count in WORKERS.items()},
        },
    }


def certificate_end(node: Node) -> float | None:
    """When the TLS certificate ends with which this node speaks; None where a proxy does that."""
    path = node.home.settings.tls_certificate
    if path is None:
        return None
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return None
    return min(one.not_valid_after_utc for one in found).timestamp() if found else None


def _explained(tx: Session, state: str, now: float) -> list[dict[str, Any]]:
    """The newest processes of this state, in plain words; not what only waits for its time."""
    wanted = (
        select(ProcessRow)
        .where(ProcessRow.state == state)
        .order_by(col(ProcessRow.id).desc())
        .limit(MAX_SHOWN)
    )
    if state == "ready":
        wanted = wanted.where(
            (col(ProcessRow.last_error).is_not(None)) | (col(ProcessRow.due_at) <= now - SOON_S)
        )
    return [
        {**explain_work(work_of(row), now).to_json(), "kind": row.kind, "subject": row.subject}
        for row in tx.exec(wanted).all()
    ]


def _count(tx: Session, condition: Any) -> int:
    return len(tx.exec(select(ComputationRow.id).where(condition)).all())
