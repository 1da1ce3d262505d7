"""Datasets this node offers: published with an offer, described to peers, read for computations."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from connectors.classification import Grade, offerable
from connectors.identifiers import canonicalisers
from connectors.personal import ConsentedSource
from connectors.source import open_source
from connectors.table import Use, extract
from contracts import messages as dsp
from contracts.evaluation import permitted_computations
from contracts.odrl import Offer
from contracts.templates import compute_only, personal_with_consent
from dataspace.canonical import canonical_hash
from dataspace.errors import InputRejected, NotFound
from dataspace.protocol import BASE
from dataspace.store.tables import DatasetRow
from ledger.entry import EntryType
from privacy.kinds import KINDS

if TYPE_CHECKING:
    from dataspace.node import Node

DATASET_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# A group column is a public key such as a district: few values, known to everybody.
MAX_GROUPS = 256


class ColumnSpec(BaseModel):
    """One published column. `scale` is how many decimal digits a value keeps (2: 12.50 → 1250)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    role: str = Field(pattern="^(identifier|value|group)$")
    canonicaliser: str | None = None
    scale: int = Field(default=0, ge=0, le=9)
    values: tuple[str, ...] = ()


class Terms(BaseModel):
    """What an offer allows, in the words of the ready policies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    computations: tuple[str, ...] = Field(min_length=1)
    purposes: tuple[str, ...] = Field(min_length=1)
    min_cohort: int = Field(default=20, ge=1, le=1_000_000)
    not_after: datetime
    max_uses: int | None = Field(default=None, ge=1)
    recipient_kinds: tuple[str, ...] = ()


class Publication(BaseModel):
    """Everything needed to publish a dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    title: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    source: str = Field(min_length=1, max_length=2000)
    columns: tuple[ColumnSpec, ...] = Field(min_length=1, max_length=100)
    grade: str = "general"
    terms: Terms | None = None
    policy: dict[str, Any] | None = None


@dataclass(frozen=True)
class Rows:
    """What a computation reads of a dataset: equal-length columns, and how many rows fell out."""

    identifiers: tuple[str, ...]
    values: tuple[int, ...]
    groups: tuple[str, ...]
    rows: int
    excluded: int


class Datasets:
    """The node's catalogue."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def publish(self, asked: Publication) -> dict[str, Any]:
        """Check the data, make the offer, and put the dataset into the catalogue.

        Raises InputRejected where the source, a column, a value or the terms are not usable;
        nothing is published then. Returns the dataset with its quality report.
        """
        if not DATASET_ID.fullmatch(asked.id):
            raise InputRejected(
                f"the dataset id {asked.id!r} is not usable",
                remedy="use lower-case letters, digits, dots, dashes: for example residents-2026",
            )
        grade = _grade(asked.grade)
        columns = tuple(_checked_column(column) for column in asked.columns)
        location = _absolute(asked.source)
        source = open_source(location)
        report = None
        if not isinstance(source, ConsentedSource):
            columns, report = self._inspect(location, columns)
        else:
            _verify_columns_exist(columns, source.schema().names)
        offer = _offer(asked, personal=isinstance(source, ConsentedSource))
        row = DatasetRow(
            id=asked.id,
            title=asked.title,
            description=asked.description,
            source=location,
            columns=[column.model_dump(mode="json") for column in columns],
            grade=grade.value,
            offer=offer.to_json(),
            content_version=source.version(),
            created_at=time.time(),
        )
        with self._node.store.transaction() as tx:
            if tx.get(DatasetRow, asked.id) is not None:
                raise InputRejected(
                    f"a dataset {asked.id!r} is already published", remedy="choose another id"
                )
            tx.add(row)
            self._node.evidence.record(
                tx, EntryType.PUBLISHED, policy_h=policy_hash(offer), outcome=grade.value
            )
        return {"dataset": self.describe(row).to_json(), "quality": report}

    def all(self) -> list[DatasetRow]:
        with self._node.store.transaction() as tx:
            return list(tx.exec(select(DatasetRow).order_by(col(DatasetRow.created_at))).all())

    def get(self, tx: Session, dataset: str) -> DatasetRow:
        """The dataset by its id. Raises NotFound naming the remedy."""
        row = tx.get(DatasetRow, dataset)
        if row is None:
            raise NotFound(
                f"there is no dataset {dataset[:80]!r} here",
                remedy="look at the catalogue: dataspace catalog URL",
            )
        return row

    def catalog(self) -> dsp.Catalog:
        """The DCAT catalogue a peer sees."""
        datasets = tuple(self.describe(row) for row in self.all())
        return dsp.Catalog(
            id=f"{self._node.did}#catalog",
            participant_id=self._node.did,
            dataset=datasets,
            service=(self._service(),),
        )

    def describe(self, row: DatasetRow) -> dsp.Dataset:
        """One dataset as a peer sees it: never where its rows lie."""
        offer = Offer.model_validate(row.offer)
        formats = [name for name in KINDS if name in _offered_kinds(offer)]
        return dsp.Dataset(
            id=row.id,
            title=row.title,
            description=row.description or None,
            columns=tuple(_published(column) for column in row.columns),
            has_policy=(offer.for_catalog(),),
            distribution=tuple(
                dsp.Distribution(access_service=self._service(), format=name)
                for name in formats or list(KINDS)
            ),
        )

    def read(
        self,
        row: DatasetRow,
        *,
        identifier: str | None,
        value: str | None,
        group: str | None,
        use: Use,
    ) -> Rows:
        """The rows of a dataset that may be used so, in canonical form."""
        specs = {column["name"]: column for column in row.columns}
        got = extract(
            open_source(row.source),
            identifier=identifier,
            value=value,
            group=group,
            canonicaliser=specs[identifier]["canonicaliser"] if identifier else None,
            use=use,
            scale=int(specs[value]["scale"]) if value else 0,
            max_rows=self._node.home.settings.max_rows,
        )
        return Rows(
            tuple(got.identifiers), tuple(got.values), tuple(got.groups), got.rows, got.excluded
        )

    def read_own(self, location: str, *, identifier: str, canonicaliser: str) -> Rows:
        """Identifiers of the node owner's own file, for a computation it takes part in."""
        got = extract(
            open_source(_absolute(location)),
            identifier=identifier,
            value=None,
            group=None,
            canonicaliser=canonicaliser,
            use=Use(purpose="own", recipient=self._node.did, at=datetime.now(UTC)),
            max_rows=self._node.home.settings.max_rows,
        )
        return Rows(tuple(got.identifiers), (), (), got.rows, got.excluded)

    def _inspect(
        self, location: str, columns: tuple[ColumnSpec, ...]
    ) -> tuple[tuple[ColumnSpec, ...], list[dict[str, Any]]]:
        """Read every published column once: its quality, and the values of group columns."""
        use = Use(purpose="inspection", recipient=self._node.did, at=datetime.now(UTC))
        most = self._node.home.settings.max_rows
        source = open_source(location)
        checked: list[ColumnSpec] = []
        reports: list[dict[str, Any]] = []
        for column in columns:
            got = extract(
                source,
                identifier=column.name if column.role == "identifier" else None,
                value=column.name if column.role == "value" else None,
                group=column.name if column.role == "group" else None,
                canonicaliser=column.canonicaliser,
                use=use,
                scale=column.scale,
                max_rows=most,
            )
            if got.report is not None:
                reports.append(got.report.to_json())
            if column.role == "group":
                values = tuple(sorted(set(got.groups)))
                if len(values) > MAX_GROUPS:
                    raise InputRejected(
                        f"column {column.name} has {len(values)} different values, more than "
                        f"{MAX_GROUPS}: it is no public group",
                        remedy="publish a coarser column, such as a district or an age band",
                    )
                checked.append(column.model_copy(update={"values": values}))
            else:
                checked.append(column)
        return tuple(checked), reports

    def _service(self) -> dsp.DataService:
        return dsp.DataService(
            id=f"{self._node.did}#dsp", endpoint_url=f"{self._node.home.url}{BASE}"
        )


def policy_hash(policy: Offer) -> str:
    """Hex SHA-256 of a policy's canonical JSON, the name evidence gives it."""
    return canonical_hash(policy.to_json())


def _published(column: dict[str, Any]) -> dsp.Column:
    return dsp.Column(
        name=column["name"],
        role=column["role"],
        canonicaliser=column["canonicaliser"],
        scale=column["scale"] or None,
        values=tuple(column["values"]),
    )


def _offered_kinds(offer: Offer) -> Sequence[str]:
    return permitted_computations(offer) or tuple(KINDS)


def _offer(asked: Publication, *, personal: bool) -> Offer:
    offer_id = f"offer:{asked.id}"
    if asked.policy is not None:
        return Offer.model_validate({**asked.policy, "@id": offer_id, "@type": "Offer"})
    if asked.terms is None:
        raise InputRejected(
            "a dataset is published with terms or with a policy", remedy="say what is allowed"
        )
    terms = asked.terms
    for name in terms.computations:
        if name not in KINDS:
            raise InputRejected(
                f"there is no computation {name!r}", remedy=f"choose from: {', '.join(KINDS)}"
            )
    template = personal_with_consent if personal else compute_only
    return template(
        offer_id=offer_id,
        computations=terms.computations,
        purposes=terms.purposes,
        min_cohort=terms.min_cohort,
        not_after=terms.not_after,
        max_uses=terms.max_uses,
        recipient_roles=terms.recipient_kinds or None,
    )


def _grade(name: str) -> Grade:
    try:
        grade = Grade(name)
    except ValueError as err:
        raise InputRejected(
            f"there is no grade {name!r}",
            remedy=f"choose from: {', '.join(grade.value for grade in Grade)}",
        ) from err
    offerable(grade)
    return grade


def _checked_column(column: ColumnSpec) -> ColumnSpec:
    if column.role != "identifier":
        return column
    name = column.canonicaliser or "text/1"
    if name not in canonicalisers():
        raise InputRejected(
            f"column {column.name}: there is no canonicaliser {name!r}",
            remedy=f"choose from: {', '.join(canonicalisers())}",
        )
    return column.model_copy(update={"canonicaliser": name})


def _verify_columns_exist(columns: Sequence[ColumnSpec], present: Sequence[str]) -> None:
    for column in columns:
        if column.name not in present:
            raise InputRejected(
                f"there is no column {column.name!r}",
                remedy=f"the columns are: {', '.join(present)}",
            )


def _absolute(source: str) -> str:
    """A plain path becomes absolute, as the node may be started elsewhere next time."""
    return source if ":" in source.split("/", 1)[0] else str(Path(source).expanduser().resolve())
