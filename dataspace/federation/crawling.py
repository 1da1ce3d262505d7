"""Reading the catalogues of all participants now and then, and keeping what they showed.

Each node reads for itself. A catalogue shows every reader what that reader could be agreed with, so
a copy that one node made for others would tell some of them what they are not to know, and hide
from others what they could have.

One process asks the operator who there is and gives every participant a process of its own, which
reads its catalogue and puts it in the place of what it showed before. A participant that cannot be
read keeps what it showed last, for a week, and is said to be stale.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import structlog
from sqlmodel import Session, col, delete, select

from contracts.comparison import region_code
from contracts.described import names_in
from contracts.errors import ContractError
from contracts.filters import searched_text
from contracts.messages import Dataset
from dataspace.errors import NodeError
from dataspace.evidence import read_space
from dataspace.federation.participants import Participant, participants_of_space
from dataspace.federation.searching import Search, among, candidates, listed
from dataspace.outbound import within
from dataspace.processes import (
    FOR_EVER_S,
    Handler,
    Later,
    Pool,
    Process,
    is_kept,
    is_scheduled,
    schedule,
)
from dataspace.protocol.catalogues import datasets_of, fetch_catalog
from dataspace.store.tables import FederatedDatasetRow, FederatedNodeRow, Setting

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.federation")

CENSUS: Final = "list-participants"
CENSUS_NOW: Final = "list-participants-now"
CRAWL: Final = "read-catalogue"
LISTED_AT: Final = "federation.listed_at"
# A node that has just begun has other things to do, and so have those it would ask.
FIRST_CENSUS_S: Final = 30.0
RETRY_S: Final = 30.0
# Below the lease of a process, so that no catalogue is read twice at once.
CRAWL_S: Final = 60.0
FORGET_AFTER_S: Final = 7 * 86400.0
# One description; a provider of ours publishes none larger.
MAX_DOCUMENT_BYTES: Final = 512 * 1024
# Rows written in one transaction, so that a large catalogue holds up no other writer for long.
BATCH_ROWS: Final = 200


class Federation:
    """The node's copy of what the space's catalogues show it."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def handlers(self) -> dict[str, Handler]:
        return {
            CENSUS: Handler(self._census, pool=Pool.PEERS),
            CENSUS_NOW: Handler(self._census_now, pool=Pool.PEERS),
            CRAWL: Handler(self._crawl, pool=Pool.PEERS),
        }

    def begin(self) -> None:
        """Read the catalogues from now on, every `crawl_interval_s`."""
        with self._node.store.transaction() as tx:
            # One that was under way when an earlier life ended is taken up again by the engine.
            if not is_kept(tx, CENSUS, self._node.did):
                after_s = min(FIRST_CENSUS_S, self._node.home.settings.crawl_interval_s)
                schedule(tx, CENSUS, self._node.did, after_s=after_s, give_up_after_s=FOR_EVER_S)

    def refresh(self) -> float:
        """Have every catalogue read now; the moment (UNIX seconds) since which what is read counts
        as asked for by this."""
        now = time.time()
        with self._node.store.transaction() as tx:
            if not is_scheduled(tx, CENSUS_NOW, self._node.did):
                schedule(tx, CENSUS_NOW, self._node.did)
        return now

    def search(self, asked: Search) -> dict[str, Any]:
        """What fits of all that was read. Raises ProtocolViolation for a filter that is none."""
        with self._node.store.transaction() as tx:
            rows = candidates(tx, asked)
        # Outside the transaction: looking at thousands takes a second, and others want to write.
        found = among(rows, asked)
        return {
            "total": found.total,
            "complete": found.complete,
            "facets": found.facets,
            "hits": [
                {**hit.to_json(), "url": self._node.peers.url_of(hit.row.provider)}
                for hit in found.hits
            ],
        }

    def nodes(self) -> dict[str, Any]:
        """The participants whose catalogues are read and how that went the last time, and when the
        operator was last asked who they are (UNIX seconds, None: never yet)."""
        with self._node.store.transaction() as tx:
            rows = tx.exec(select(FederatedNodeRow).order_by(col(FederatedNodeRow.name))).all()
            listed_at = tx.get(Setting, LISTED_AT)
        nodes = [
            {
                "did": row.did,
                "kind": row.kind,
                "name": row.name,
                "url": self._node.peers.url_of(row.did),
                "datasets": row.datasets,
                "tried_at": row.tried_at,
                "read_at": row.read_at,
                "error": row.error,
            }
            for row in rows
        ]
        return {"listed_at": None if listed_at is None else float(listed_at.value), "nodes": nodes}

    # ---- who there is ---------------------------------------------------------------------------

    def _census(self, _: Process) -> Later:
        interval_s = self._node.home.settings.crawl_interval_s
        with self._node.store.transaction() as tx:
            space = read_space(tx)
        if space is None:
            return Later(min(RETRY_S, interval_s))
        try:
            self.take_over(participants_of_space(self._node, space.operator))
        except NodeError as err:
            # What is known of the space still holds; a list that cannot be had changes nothing.
            log.warning("the participants could not be listed", error=str(err))
            return Later(min(RETRY_S, interval_s))
        return Later(interval_s)

    def _census_now(self, _: Process) -> None:
        with self._node.store.transaction() as tx:
            space = read_space(tx)
        if space is not None:
            self.take_over(participants_of_space(self._node, space.operator))

    def take_over(self, found: Sequence[Participant]) -> None:
        """Know these participants from now on and no others, and have each catalogue read."""
        now = time.time()
        with self._node.store.transaction() as tx:
            known = {row.did: row for row in tx.exec(select(FederatedNodeRow)).all()}
            for gone in known.keys() - {one.did for one in found}:
                _forget(tx, gone)
            for one in found:
                _note(tx, known.get(one.did), one)
                if not is_scheduled(tx, CRAWL, one.did):
                    schedule(tx, CRAWL, one.did, target=one.did)
            tx.merge(Setting(name=LISTED_AT, value=str(now)))

    # ---- what they show -------------------------------------------------------------------------

    def _crawl(self, process: Process) -> None:
        did, now = process.subject, time.time()
        try:
            with within(CRAWL_S):
                catalog = fetch_catalog(self._node.peers, self._node.peers.url_of(did))
            self.keep(did, datasets_of(catalog), now)
        except (NodeError, ContractError) as err:
            log.info("a catalogue could not be read", peer=did, error=str(err)[:300])
            self.failed(did, str(err)[:500], now)

    def keep(self, did: str, datasets: Sequence[Dataset], now: float) -> None:
        """Put what `did` showed at `now` (UNIX seconds) in the place of what it showed before."""
        kept = 0
        for batch in _batches(datasets, BATCH_ROWS):
            with self._node.store.transaction() as tx:
                kept += sum(_put(tx, did, dataset, now) for dataset in batch)
        with self._node.store.transaction() as tx:
            tx.exec(
                delete(FederatedDatasetRow).where(
                    col(FederatedDatasetRow.provider) == did,
                    col(FederatedDatasetRow.seen_at) < now,
                )
            )
            row = tx.get(FederatedNodeRow, did)
            if row is None:
                # It left the space while it was read.
                _forget(tx, did)
                return
            row.datasets, row.tried_at, row.read_at, row.error = kept, now, now, None
            tx.add(row)

    def failed(self, did: str, error: str, now: float) -> None:
        """Note that the catalogue of `did` could not be read; what it showed last is kept for a
        week."""
        with self._node.store.transaction() as tx:
            row = tx.get(FederatedNodeRow, did)
            if row is None:
                return
            row.tried_at, row.error = now, error
            if row.read_at is not None and row.read_at < now - FORGET_AFTER_S:
                row.datasets = 0
                tx.exec(delete(FederatedDatasetRow).where(col(FederatedDatasetRow.provider) == did))
            tx.add(row)


def _note(tx: Session, row: FederatedNodeRow | None, one: Participant) -> None:
    if row is None:
        row = FederatedNodeRow(did=one.did, kind=one.kind, name=one.name)
    row.kind, row.name = one.kind, one.name
    tx.add(row)


def _forget(tx: Session, did: str) -> None:
    tx.exec(delete(FederatedDatasetRow).where(col(FederatedDatasetRow.provider) == did))
    tx.exec(delete(FederatedNodeRow).where(col(FederatedNodeRow.did) == did))


def _put(tx: Session, did: str, dataset: Dataset, now: float) -> bool:
    """Keep a dataset as it is shown now; whether it is small enough to be kept."""
    document = dataset.to_bytes()
    if len(document) > MAX_DOCUMENT_BYTES:
        log.warning("a description is too large to be kept", peer=did, size_bytes=len(document))
        return False
    digest = hashlib.sha256(document).hexdigest()
    before = tx.get(FederatedDatasetRow, (did, dataset.id))
    if before is not None and before.digest == digest:
        before.seen_at = now
        tx.add(before)
        return True
    tx.merge(
        FederatedDatasetRow(
            provider=did,
            id=dataset.id,
            document=document.decode(),
            digest=digest,
            text=searched_text(dataset),
            themes=listed(names_in(dataset.theme)),
            divisions=listed([region_code(one) or one for one in names_in(dataset.spatial)]),
            grade=dataset.grade or "",
            first_seen_at=now if before is None else before.first_seen_at,
            changed_at=now,
            seen_at=now,
        )
    )
    return True


def _batches(datasets: Sequence[Dataset], size: int) -> Iterator[tuple[Dataset, ...]]:
    remaining = iter(datasets)
    while batch := tuple(islice(remaining, size)):
        yield batch
