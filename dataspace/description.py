"""A dataset as the protocol describes it: never where its rows lie."""

from __future__ import annotations

from typing import Any

from contracts import messages as dsp
from contracts.described import in_languages, rounded_down
from contracts.evaluation import permitted_computations
from contracts.odrl import Agreement, Offer
from contracts.vocabulary import CONFIRMED
from dataspace.store.tables import AgreementRow, DatasetRow
from privacy.kinds import KINDS

_OF_AGREEMENTS = ("target", "assigner", "assignee", "timestamp")


def describe(row: DatasetRow, offer: Offer, service: dsp.DataService) -> dsp.Dataset:
    """The dataset under `offer`, with a distribution for everything that may be done with it."""
    permitted = permitted_computations(offer)
    names = [name for name in (*KINDS, *formats_of(row)) if permitted is None or name in permitted]
    return dsp.Dataset(
        id=row.id,
        title=in_languages(row.title, row.title_zh),
        description=in_languages(row.description, row.description_zh),
        theme=row.theme,
        spatial=row.division,
        frequency=row.frequency,
        # What was published before states had names of their own has a plain digest there.
        version=row.content_version if row.checked_at is not None else None,
        grade=row.grade,
        # A dataset that was published before there were classes has none to confirm.
        classification=row.classification if any("class" in one for one in row.columns) else None,
        legal_basis=row.legal_basis,
        columns=tuple(_column(column) for column in row.columns),
        blocks=None if row.blocks is None else dsp.Blocks(**row.blocks),
        quality=tuple(map(_quality, row.quality)),
        has_policy=(offer.for_catalog(),),
        distribution=tuple(
            dsp.Distribution(access_service=service, format=name)
            # A dataset must have a distribution, also where its policy names what we do not have.
            for name in names or KINDS
        ),
    )


def formats_of(row: DatasetRow) -> tuple[str, ...]:
    """The formats in which the rows may leave: none before a person has confirmed the classes."""
    return tuple(row.formats) if row.classification == CONFIRMED else ()


def agreed_terms(row: AgreementRow) -> Offer:
    """The terms of an agreement in the form of an offer, under the agreement's own id."""
    document = Agreement.model_validate(row.document).to_json()
    for name in _OF_AGREEMENTS:
        document.pop(name, None)
    return Offer.model_validate({**document, "@type": "Offer"})


def _column(column: dict[str, Any]) -> dsp.Column:
    return dsp.Column(
        name=column["name"],
        role=column["role"],
        column_class=column.get("class"),
        canonicaliser=column["canonicaliser"],
        scale=column["scale"] or None,
        values=tuple(column["values"]),
    )


def _quality(report: dict[str, Any]) -> dsp.ColumnQuality:
    return dsp.ColumnQuality(
        name=report["column"],
        rows=rounded_down(report["rows"]),
        valid=rounded_down(report["valid"]),
        blank=rounded_down(report["blank"]),
        invalid=rounded_down(sum(report["invalid"].values())),
        duplicates=rounded_down(report["duplicates"]),
    )
