"""Versions of datasets: which state the data are in, and whether they still are what was published.

Each offered dataset is looked at again and again; a state that was not seen before gets the next
number, and the evidence says that there is one. Before every use the node looks whether the columns
are still there as they were published, and where an agreement covers named states only, in which
state the data are. A source that cannot be read, or has other columns, stays published as it is:
its owner is told why, and a peer that it is not to be had at the moment.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import structlog
from sqlmodel import Session, col, select

import connectors.errors
from connectors.errors import ConnectorError
from connectors.source import Source, open_source
from contracts.evaluation import Facts
from contracts.odrl import Agreement, Offer
from contracts.planning import covered_versions, mentions
from contracts.profile import Operand
from contracts.prospect import decide_prospect
from dataspace.catalog import following_id, policy_hash
from dataspace.computing.permission import consent_of, refusal_in
from dataspace.errors import Denied, InputRejected, Unavailable
from dataspace.moments import utc_text
from dataspace.processes import FOR_EVER_S, Handler, Later, Process, schedule
from dataspace.releasing import published_columns
from dataspace.sight import VERSION_PREFIX, NotAsPublished, Sight, digests_of, repinned
from dataspace.store.tables import DatasetRow, DatasetVersionRow, ProcessRow, Setting
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.versions")

LOOK: Final = "look-at-dataset"
# The outcome in the evidence that the data are in a state that was not seen before.
NEW_VERSION: Final = "version"
DAY_S: Final = 86400.0
# By how often a dataset is said to change; one that changes on some day of a month is looked at
# every day.
EVERY_S: Final[Mapping[str, float]] = {
    "continuous": 300.0,
    "hourly": 3600.0,
    "never": 7 * DAY_S,
}
# How soon a source is looked at again that could not be read.
AGAIN_S: Final = 600.0
# More versions than an owner reads at once.
MAX_SHOWN: Final = 1000
_TROUBLE: Final = "dataset-trouble/"
_REMEDY: Final = "try again later, or tell the provider's owner"


class Versions:
    """The states of this node's datasets."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._in_trouble: set[str] = set()

    def handlers(self) -> dict[str, Handler]:
        return {LOOK: Handler(self._look)}

    def begin(self) -> None:
        """Look at every offered dataset in its time; what an earlier life planned stays planned."""
        planned = select(ProcessRow.subject).where(
            ProcessRow.kind == LOOK, ProcessRow.state == "ready"
        )
        with self._node.store.transaction() as tx:
            known = set(tx.exec(planned).all())
            offered = select(DatasetRow).where(col(DatasetRow.withdrawn_at).is_(None))
            for row in tx.exec(offered).all():
                if row.id not in known:
                    self.follow(tx, row)
        self._in_trouble = {one["dataset"] for one in self.troubles()}

    def follow(self, tx: Session, row: DatasetRow) -> None:
        """From now on look at a dataset in its time, in the caller's transaction."""
        schedule(tx, LOOK, row.id, after_s=self._every_s(row), give_up_after_s=FOR_EVER_S)

    def named(self, source: Source) -> str:
        """The name of the state a source is in: `sha256:` and 64 hex digits.

        It is keyed: the digest of a file that is public would let anybody test a guess about a row.
        Raises as `Source.version` does.
        """
        key = self._node.derived_key("content-version")
        return VERSION_PREFIX + hmac.digest(key, source.version().encode(), "sha256").hex()

    # ---- for a use --------------------------------------------------------------------------

    def look(self, policy: Offer | Agreement, row: DatasetRow) -> Sight:
        """What `policy` is told of a dataset's source before a use. Not in a transaction: it may
        read the whole source, though only where the policy asks for the version.

        Raises Unavailable while the source cannot be read, and NotAsPublished where it has other
        columns; why is kept for the owner, and no peer learns it.
        """
        with self._told_to_the_owner(row):
            source = open_source(row.source)
            verify_schema(row, source)
            version = None
            if mentions(policy, Operand.CONTENT_VERSION):
                version = self.named(source)
        if version is not None and version != row.content_version:
            with self._node.store.transaction() as tx:
                self._notice(tx, row.id, version)
        return Sight(consent_of(source), version)

    def covered(self, policy: Agreement, row: DatasetRow) -> str | None:
        """The state the data are in, where `policy` covers named ones only; else None.

        Raises Denied with the clause where it is none of them, Unavailable as `look` does.
        """
        named = covered_versions(policy)
        if named is None:
            return None
        version = self.look(policy, row).content_version
        if version in named:
            return version
        facts = Facts(datetime.now(UTC), 0, None, None, None, content_version=version)
        about = frozenset({Operand.CONTENT_VERSION})
        decision = decide_prospect(policy, policy.assignee, facts, about=about)
        raise refusal_in(decision) or Denied(
            "The data are in a state that the agreement does not cover.",
            remedy="Negotiate an agreement about the data as they are now.",
        )

    def verify_still(self, row: DatasetRow, version: str) -> None:
        """What was read is of one state: the data are in the same as when the reading began.

        Raises Unavailable where they are not; what was read must not be used.
        """
        with self._told_to_the_owner(row):
            now = self.named(open_source(row.source))
        if now != version:
            with self._node.store.transaction() as tx:
                self._notice(tx, row.id, now)
            raise Unavailable(
                "the data changed while they were read",
                remedy="ask again, for the data as they are now",
            )

    # ---- the owner's side -------------------------------------------------------------------

    def check(self, dataset: str) -> dict[str, Any]:
        """Look at a dataset now: {"dataset", "version", "number", "changed", "checked_at"}.

        Raises NotFound for one that is not offered; InputRejected or Unavailable, saying why, where
        the source cannot be read or has other columns.
        """
        with self._node.store.transaction() as tx:
            row = self._node.datasets.offered(tx, dataset)
        try:
            source = open_source(row.source)
            verify_schema(row, source)
            version = self.named(source)
        except (ConnectorError, InputRejected) as err:
            self._keep_trouble(row, err)
            raise
        self._forget_trouble(row)
        with self._node.store.transaction() as tx:
            changed = self._notice(tx, dataset, version)
            kept = self._node.datasets.get(tx, dataset)
            newest = self._newest(tx, dataset)
        return {
            "dataset": dataset,
            "version": version,
            "number": newest.number if newest else 1,
            "changed": changed,
            "checked_at": utc_text(kept.checked_at or 0.0),
        }

    def versions(self, dataset: str) -> list[dict[str, Any]]:
        """The states of a dataset that were noticed, the newest first. Raises NotFound."""
        found = (
            select(DatasetVersionRow)
            .where(DatasetVersionRow.dataset == dataset)
            .order_by(col(DatasetVersionRow.number).desc())
            .limit(MAX_SHOWN)
        )
        with self._node.store.transaction() as tx:
            self._node.datasets.get(tx, dataset)
            rows = tx.exec(found).all()
        return [
            {
                "number": row.number,
                "version": row.content_version,
                "noticed_at": utc_text(row.noticed_at),
            }
            for row in rows
        ]

    def troubles(self) -> list[dict[str, Any]]:
        """Datasets that cannot be used now: {"dataset", "since", "sentence", "remedy"}."""
        with self._node.store.transaction() as tx:
            kept = tx.exec(
                select(Setting).where(col(Setting.name).startswith(_TROUBLE, autoescape=True))
            ).all()
        return [
            {"dataset": one.name.removeprefix(_TROUBLE), **json.loads(one.value)} for one in kept
        ]

    # ---- small parts ------------------------------------------------------------------------

    def _look(self, process: Process) -> Later | None:
        """Look at a dataset in its time, for as long as it is offered."""
        with self._node.store.transaction() as tx:
            row = tx.get(DatasetRow, process.subject)
        if row is None or row.withdrawn_at is not None:
            return None
        try:
            self.check(row.id)
        except (ConnectorError, InputRejected):
            return Later(min(AGAIN_S, self._every_s(row)))
        return Later(self._every_s(row))

    def _every_s(self, row: DatasetRow) -> float:
        set_s = self._node.home.settings.version_check_s
        return set_s if set_s is not None else EVERY_S.get(row.frequency or "", DAY_S)

    def _notice(self, tx: Session, dataset: str, version: str) -> bool:
        """Keep that a dataset was looked at and in which state it was; whether that is new."""
        row, now = tx.get_one(DatasetRow, dataset, with_for_update=True), time.time()
        newest = self._newest(tx, dataset)
        row.checked_at = now
        tx.add(row)
        if newest is not None and version == newest.content_version:
            return False
        before, row.content_version = row.content_version, version
        number = 1 if newest is None else newest.number + 1
        tx.add(
            DatasetVersionRow(
                dataset=dataset, number=number, content_version=version, noticed_at=now
            )
        )
        if newest is None:
            # Published before versions were kept: this is the first that is known.
            return False
        offer = Offer.model_validate(row.offer)
        following = repinned(offer, before, version)
        if following != offer:
            following = following.model_copy(update={"id": following_id(offer.id, dataset)})
            row.offer = following.to_json()
        self._node.evidence.record(
            tx,
            EntryType.PUBLISHED,
            policy_h=policy_hash(following),
            outcome=NEW_VERSION,
            inputs_c=digests_of(version),
        )
        log.info("a dataset has changed", dataset=dataset, number=number)
        return True

    def _newest(self, tx: Session, dataset: str) -> DatasetVersionRow | None:
        found = (
            select(DatasetVersionRow)
            .where(DatasetVersionRow.dataset == dataset)
            .order_by(col(DatasetVersionRow.number).desc())
            .limit(1)
        )
        return tx.exec(found).first()

    @contextmanager
    def _told_to_the_owner(self, row: DatasetRow) -> Iterator[None]:
        """What is wrong with a source is for its owner: it names files and columns of this
        machine. A peer learns that the dataset is not to be had now."""
        try:
            yield
        except (ConnectorError, InputRejected) as err:
            self._keep_trouble(row, err)
            if isinstance(err, InputRejected):
                raise NotAsPublished(
                    "the dataset is at the moment not what was published", remedy=_REMEDY
                ) from err
            raise Unavailable("the dataset cannot be read at the moment", remedy=_REMEDY) from err
        self._forget_trouble(row)

    def _keep_trouble(self, row: DatasetRow, err: ConnectorError | InputRejected) -> None:
        log.error("a dataset cannot be used", dataset=row.id, error=str(err)[:300])
        remedy = getattr(err, "remedy", None)
        if remedy is None and isinstance(err, connectors.errors.Unavailable):
            remedy = "nothing, if it comes back; the node tries again by itself"
        with self._node.store.transaction() as tx:
            kept = tx.get(Setting, _TROUBLE + row.id)
            since = utc_text(time.time()) if kept is None else json.loads(kept.value)["since"]
            told = {"since": since, "sentence": str(err), "remedy": remedy}
            tx.merge(Setting(name=_TROUBLE + row.id, value=json.dumps(told)))
        self._in_trouble.add(row.id)

    def _forget_trouble(self, row: DatasetRow) -> None:
        if row.id not in self._in_trouble:
            return
        with self._node.store.transaction() as tx:
            kept = tx.get(Setting, _TROUBLE + row.id)
            if kept is not None:
                tx.delete(kept)
        self._in_trouble.discard(row.id)


def verify_schema(row: DatasetRow, source: Source) -> None:
    """The columns that a dataset needs are there as they were when it was published.

    Raises InputRejected naming the first that is not, for the owner; and as `Source.schema` does.
    """
    present = {field.name: str(field.type) for field in source.schema()}
    published = {name: of_type for name, of_type in row.source_schema}  # noqa: C416 (typed so)
    needed = [*published_columns(row), *((row.blocks or {}).values())]
    needed += [str(one["column"]) for one in row.conditions]
    for name in dict.fromkeys(needed):
        # Datasets that were published before schemas were kept have none.
        was, now = published.get(name), present.get(name)
        if was is None or was == now:
            continue
        what = "is no longer there" if now is None else f"holds {now} now and held {was}"
        seen = utc_text(row.checked_at or row.created_at)
        raise InputRejected(
            f"dataset {row.id}: column {name!r} of {source.name} {what}; it was as published at "
            f"{seen}, when it was last looked at",
            remedy="put the column back as it was, or withdraw the dataset and publish it again",
        )
