"""Datasets this node offers: published with an offer, shown to peers, read for computations."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import JsonValue
from sqlmodel import Session, col, select

from connectors.classification import Grade, propose_grade
from connectors.conditions import Comparison, Condition, Where
from connectors.source import ConsentedSource, open_source
from connectors.table import Reading
from connectors.use import Use
from contracts import messages as dsp
from contracts.decision import Decision
from contracts.filters import parse_filter
from contracts.odrl import Offer
from contracts.party import Party
from contracts.vocabulary import CONFIRMED
from dataspace.bounds import (
    remarks_on_classes,
    remarks_on_grade,
    verify_bounds,
    verify_words,
)
from dataspace.canonical import canonical_hash
from dataspace.catalog_pages import Cursor, CursorSeal, Place, read_page
from dataspace.classes import (
    Confirmation,
    bounded_by,
    proposals_of,
    reclassed,
    told_classes,
)
from dataspace.description import agreed_terms, describe
from dataspace.errors import InputRejected, NotFound, ProtocolViolation
from dataspace.identity.tokens import Member
from dataspace.inspection import inspect
from dataspace.kinds import Right, verify_right
from dataspace.protocol import BASE
from dataspace.publication import (
    PolicyChange,
    Publication,
    checked_column,
    grade_named,
    make_offer,
    remarks_json,
    review,
    verify_formats,
    where_of,
)
from dataspace.publishing import first_version, make_row
from dataspace.releasing import verify_release
from dataspace.settings import ParticipantKind
from dataspace.sight import pinned
from dataspace.store.tables import AgreementRow, DatasetRow
from dataspace.vaults import is_vault
from dataspace.visibility import decide_visibility
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node

DATASET_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# A page of the catalogue holds at least one dataset, and readers take in four megabytes.
MAX_DESCRIPTION_BYTES = 512 * 1024
# The outcomes in the evidence that a dataset is no longer offered, and that a person has confirmed
# its classes; a grade says that it is offered.
WITHDRAWN: Final = "withdrawn"
CLASSIFIED: Final = "classified"


@dataclass(frozen=True)
class CatalogPage:
    """A page of the catalogue, and the cursors of the pages beside it where there are such."""

    catalog: dsp.Catalog
    next: str | None
    previous: str | None


class Datasets:
    """The node's catalogue."""

    def __init__(self, node: Node) -> None:
        self._node = node
        # Random, kept in the home, and known to no peer.
        self._seal = CursorSeal(node.api_key)

    # ---- the owner's side -------------------------------------------------------------------

    def publish(self, asked: Publication) -> dict[str, Any]:
        """Check data and policy, make the offer, and put the dataset into the catalogue.

        Raises InputRejected where the source, a column, a value, the policy or a format is not
        usable; nothing is published then. Returns the dataset with its quality report and with
        remarks on its policy. Raises Denied for a node whose kind offers no data, or no vaults.
        """
        verify_right(self._node.home.settings.kind, Right.OFFER)
        if not DATASET_ID.fullmatch(asked.id):
            raise InputRejected(
                f"the dataset id {asked.id!r} is not usable",
                remedy="use lower-case letters, digits, dots, dashes: for example residents-2026",
            )
        asked, followed = self._node.sharing.resolved(asked)
        verify_words(asked)
        grade, where = grade_named(asked.grade), where_of(asked)
        columns = tuple(checked_column(column) for column in asked.columns)
        location = _absolute(asked.source)
        if is_vault(location):
            verify_right(self._node.home.settings.kind, Right.HOLD_VAULTS)
        source = open_source(location)
        personal = isinstance(source, ConsentedSource)
        offer = make_offer(asked, offer_id=f"offer:{asked.id}", personal=personal, grade=grade)
        # Before the rows are read: what changes meanwhile is a change of this version.
        content_version = self._node.versions.named(source)
        if asked.pin_version:
            offer = pinned(offer, content_version)
        now = datetime.now(UTC)
        remarks = review(offer, asked.formats, personal=personal, grade=grade, now=now)
        verify_formats(offer, asked.formats, grade)
        self._node.zones.heed(offer)
        found = inspect(
            source,
            columns,
            where=where,
            blocks=asked.blocks,
            max_rows=self._node.home.settings.max_rows,
            reader=self._node.did,
        )
        row = make_row(
            asked,
            offer,
            found,
            source=source,
            location=location,
            content_version=content_version,
        )
        bounded = bounded_by(row, personal=personal)
        verify_bounds(bounded, offer, asked.formats)
        verify_release(offer, asked.formats, row, source)
        graded = propose_grade(found.proposals, rows=found.rows)
        remarks += remarks_on_classes(bounded.classes, found.proposals)
        remarks += remarks_on_grade(grade, graded)
        described, classes = self.describe(row), told_classes(row)
        _verify_size(described)
        with self._node.store.transaction() as tx:
            existing = tx.get(DatasetRow, asked.id)
            if existing is not None:
                how = "already published" if existing.withdrawn_at is None else "already withdrawn"
                raise InputRejected(f"a dataset {asked.id!r} is {how}", remedy="choose another id")
            tx.add(row)
            tx.add(first_version(row))
            self._node.versions.follow(tx, row)
            self._node.sharing.follow(tx, row.id, followed)
            self._record(tx, row)
        return {
            "dataset": described.to_json(),
            "quality": None if personal else list(found.reports),
            "remarks": remarks_json(remarks),
            "classes": classes,
            "proposed_grade": graded.to_json(),
        }

    def confirm(self, dataset: str, asked: Confirmation) -> dict[str, Any]:
        """Record that a person has looked at the classes of a dataset's columns, and which other
        ones the person says they are of.

        The catalogue says from then on that they are confirmed. Raises InputRejected for a class of
        no column, and where the offer allows more than the classes do; NotFound as `get` does.
        """
        with self._node.store.transaction() as tx:
            location = self.offered(tx, dataset).source
        personal = isinstance(open_source(location), ConsentedSource)
        with self._node.store.transaction() as tx:
            row = self._locked(tx, dataset)
            row.columns = reclassed(row.columns, asked)
            row.legal_basis = asked.legal_basis or row.legal_basis
            row.classification = CONFIRMED
            bounded = bounded_by(row, personal=personal)
            verify_bounds(bounded, Offer.model_validate(row.offer), row.formats)
            remarks = remarks_on_classes(bounded.classes, proposals_of(row))
            described = self.describe(row)
            _verify_size(described)
            tx.add(row)
            self._record(tx, row, outcome=CLASSIFIED)
            classes = told_classes(row)
        return {
            "dataset": described.to_json(),
            "remarks": remarks_json(remarks),
            "classes": classes,
        }

    def change_policy(self, dataset: str, change: PolicyChange) -> dict[str, Any]:
        """Offer a dataset under another policy from now on; agreements keep their own text.

        The offer gets a new id, so that a request that names the old one is refused. Raises
        InputRejected as `publish` does, and for a dataset that was withdrawn.
        """
        change, followed = self._node.sharing.resolved(change)
        with self._node.store.transaction() as tx:
            before = self.offered(tx, dataset)
        source = open_source(before.source)
        personal = isinstance(source, ConsentedSource)
        grade, now = Grade(before.grade), datetime.now(UTC)
        draft = make_offer(change, offer_id=f"offer:{dataset}", personal=personal, grade=grade)
        if change.pin_version:
            draft = pinned(draft, self._node.versions.named(source))
        self._node.zones.heed(draft)
        with self._node.store.transaction() as tx:
            row = self._locked(tx, dataset)
            offer_id = following_id(Offer.model_validate(row.offer).id, dataset)
            offer = draft.model_copy(update={"id": offer_id})
            formats = row.formats if change.formats is None else change.formats
            remarks = review(offer, formats, personal=personal, grade=grade, now=now)
            verify_formats(offer, formats, grade)
            verify_release(offer, formats, row, source)
            verify_bounds(bounded_by(row, personal=personal), offer, formats)
            row.offer, row.formats = offer.to_json(), list(formats)
            described = self.describe(row)
            _verify_size(described)
            tx.add(row)
            self._node.sharing.follow(tx, row.id, followed)
            self._record(tx, row)
        return {"dataset": described.to_json(), "remarks": remarks_json(remarks)}

    def withdraw(self, dataset: str) -> None:
        """Offer a dataset no longer: it leaves the catalogue, and what is being negotiated about it
        ends at the next move.

        Agreements about it go on; whoever holds one still finds its description. Raises NotFound
        for an unknown dataset, and for one that was withdrawn before.
        """
        with self._node.store.transaction() as tx:
            row = self._locked(tx, dataset)
            row.withdrawn_at = time.time()
            tx.add(row)
            self._record(tx, row, outcome=WITHDRAWN)

    def all(self) -> list[DatasetRow]:
        """Every dataset, those no longer offered among them, in the order of publication."""
        order = (col(DatasetRow.created_at), col(DatasetRow.id))
        with self._node.store.transaction() as tx:
            return list(tx.exec(select(DatasetRow).order_by(*order)).all())

    def get(self, tx: Session, dataset: str) -> DatasetRow:
        """The dataset by its id, offered or not. Raises NotFound naming the remedy."""
        row = tx.get(DatasetRow, dataset)
        if row is None:
            raise _unknown(dataset)
        return row

    def offered(self, tx: Session, dataset: str) -> DatasetRow:
        """The dataset by its id, if it is offered now. Raises NotFound naming the remedy."""
        row = self.get(tx, dataset)
        if row.withdrawn_at is not None:
            raise NotFound(
                f"dataset {dataset[:80]!r} is no longer offered",
                remedy="publish it again under another id",
            )
        return row

    def overview(self, row: DatasetRow) -> dict[str, Any]:
        """A dataset as its owner sees it: as peers would, and from which kinds of them it is
        hidden at this moment, each with the sentence, clause and remedy that says why."""
        hidden: dict[str, Any] = {}
        for kind in ParticipantKind:
            refusal = self.visibility(row, Member(did="", kind=kind, name="")).refusal
            if refusal is not None:
                hidden[kind.value] = {
                    "reason": refusal.sentence,
                    "clause": refusal.path,
                    "remedy": refusal.remedy,
                }
        return {
            **self.describe(row).to_json(),
            "classes": told_classes(row),
            "quality": row.quality,
            "withdrawn_at": row.withdrawn_at,
            "hidden_from": hidden,
        }

    # ---- what a peer sees -------------------------------------------------------------------

    def catalog(
        self, peer: Member, written: tuple[JsonValue, ...] = (), cursor: str | None = None
    ) -> CatalogPage:
        """A page of the DCAT catalogue as `peer` sees it: the first, or the one of `cursor`.

        `written` is a filter (`contracts.filters`); a cursor keeps the one it was made for, and may
        come with the same again. Raises ProtocolViolation for a filter or cursor that is none.
        """
        at = None if cursor is None else self._seal.open(cursor, reader=peer.did)
        if at is not None and written and written != at.filter:
            raise ProtocolViolation(
                "filter: it is not the one this continuationToken was given for",
                remedy="leave it out, or ask for the catalogue from its beginning",
            )
        written = written if at is None else at.filter
        wanted = parse_filter(written)
        now, service = datetime.now(UTC), self._service()

        def show(row: DatasetRow) -> dsp.Dataset | None:
            offer = Offer.model_validate(row.offer)
            zones = self._node.zones.zones_of(peer.did, offer, now)
            if not decide_visibility(offer, row.grade, peer, now, zones=zones).allowed:
                return None
            dataset = describe(row, offer, service)
            return dataset if wanted.matches(dataset) else None

        page = read_page(
            self._node.store,
            show,
            place=None if at is None else at.place,
            backwards=at is not None and at.backwards,
        )

        def cursor_of(place: Place | None, *, backwards: bool) -> str | None:
            if place is None:
                return None
            return self._seal.seal(Cursor(place, backwards, written), reader=peer.did)

        return CatalogPage(
            dsp.Catalog(
                id=f"{self._node.did}#catalog",
                participant_id=self._node.did,
                dataset=page.datasets,
                service=(service,),
            ),
            next=cursor_of(page.next, backwards=False),
            previous=cursor_of(page.previous, backwards=True),
        )

    def shown(self, peer: Member, dataset: str) -> dsp.Dataset:
        """One dataset as a peer sees it that knows its name, whether the catalogue lists it or not:
        so it can negotiate, and learn which clause is in its way.

        Raises NotFound, in the same words, for an unknown one, for an offer to somebody else, and
        for a withdrawn one. Whoever holds an agreement about it, in force or not, sees it under
        that agreement's terms even then: orders need the columns, and are to be refused by a
        clause and not by silence.
        """
        with self._node.store.transaction() as tx:
            row = tx.get(DatasetRow, dataset)
            if row is None:
                raise _unknown(dataset)
            held = tx.exec(
                select(AgreementRow)
                .where(
                    AgreementRow.role == Party.PROVIDER.value,
                    AgreementRow.consumer == peer.did,
                    AgreementRow.dataset == dataset,
                )
                .order_by(col(AgreementRow.finalized_at).desc())
                .limit(1)
            ).first()
        offer = Offer.model_validate(row.offer)
        if row.withdrawn_at is None and offer.assignee in (None, peer.did):
            return describe(row, offer, self._service())
        if held is None:
            raise _unknown(dataset)
        return describe(row, agreed_terms(held), self._service())

    def visibility(self, row: DatasetRow, member: Member) -> Decision:
        """Whether `member` could be agreed with about this dataset now, so that the catalogue lists
        it for that member, and why."""
        offer, now = Offer.model_validate(row.offer), datetime.now(UTC)
        zones = self._node.zones.zones_of(member.did, offer, now)
        return decide_visibility(offer, row.grade, member, now, zones=zones)

    def describe(self, row: DatasetRow) -> dsp.Dataset:
        """One dataset as a peer that may see it sees it: never where its rows lie."""
        return describe(row, Offer.model_validate(row.offer), self._service())

    # ---- reading ----------------------------------------------------------------------------

    def read(
        self,
        row: DatasetRow,
        columns: Mapping[str, str],
        *,
        use: Use,
    ) -> Reading:
        """The rows of a dataset that may be used so, in canonical form; `columns` names those to
        read by what they are: identifier, value, group, across."""
        specs = {column["name"]: column for column in row.columns}
        identifier, value = columns.get("identifier"), columns.get("value")
        return Reading(
            open_source(row.source),
            identifier=identifier,
            value=value,
            group=columns.get("group"),
            across=columns.get("across"),
            canonicaliser=specs[identifier]["canonicaliser"] if identifier else None,
            use=use,
            where=conditions_of(row),
            scale=int(specs[value]["scale"]) if value else 0,
            max_rows=self._node.home.settings.max_rows,
        )

    def read_own(
        self, location: str, columns: Mapping[str, str], *, canonicaliser: str, scale: int
    ) -> Reading:
        """Columns of the node owner's own file, for a computation it takes part in."""
        return Reading(
            open_source(_absolute(location)),
            identifier=columns.get("identifier"),
            value=columns.get("value"),
            group=columns.get("group"),
            canonicaliser=canonicaliser,
            use=Use(purpose="own", recipient=self._node.did, at=datetime.now(UTC)),
            scale=scale,
            max_rows=self._node.home.settings.max_rows,
        )

    def _locked(self, tx: Session, dataset: str) -> DatasetRow:
        """A dataset that is offered, kept from other writers until the transaction ends."""
        tx.get(DatasetRow, dataset, with_for_update=True)
        return self.offered(tx, dataset)

    def _record(self, tx: Session, row: DatasetRow, *, outcome: str | None = None) -> None:
        self._node.evidence.record(
            tx,
            EntryType.PUBLISHED,
            policy_h=policy_hash(Offer.model_validate(row.offer)),
            outcome=outcome or row.grade,
        )

    def _service(self) -> dsp.DataService:
        return dsp.DataService(
            id=f"{self._node.did}#dsp", endpoint_url=f"{self._node.home.url}{BASE}"
        )


def policy_hash(policy: Offer) -> str:
    """Hex SHA-256 of a policy's canonical JSON, the name evidence gives it."""
    return canonical_hash(policy.to_json())


def conditions_of(row: DatasetRow) -> Where:
    """Which rows of its source a dataset has."""
    return tuple(
        Condition(one["column"], Comparison(one["comparison"]), tuple(one["values"]))
        for one in row.conditions
    )


def _unknown(dataset: str) -> NotFound:
    return NotFound(
        f"there is no dataset {dataset[:80]!r} here",
        remedy="look at the catalogue: dataspace catalog URL",
    )


def following_id(offer_id: str, dataset: str) -> str:
    """The id of the offer that replaces `offer_id`: offer:residents, then offer:residents:2, …"""
    number = offer_id.removeprefix(f"offer:{dataset}:")
    return f"offer:{dataset}:{int(number) + 1 if number.isdecimal() else 2}"


def _verify_size(described: dsp.Dataset) -> None:
    size = len(described.to_bytes())
    if size > MAX_DESCRIPTION_BYTES:
        raise InputRejected(
            f"the dataset's description has {size} bytes, more than {MAX_DESCRIPTION_BYTES}",
            remedy="publish fewer columns, coarser groups, or a shorter policy",
        )


def _absolute(source: str) -> str:
    """A plain path becomes absolute, as the node may be started elsewhere next time."""
    return source if ":" in source.split("/", 1)[0] else str(Path(source).expanduser().resolve())
