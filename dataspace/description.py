"""A dataset as the protocol describes it: never where its rows lie."""

from __future__ import annotations

from typing import Any

from contracts import messages as dsp
from contracts.evaluation import permitted_computations
from contracts.odrl import Agreement, Offer
from dataspace.store.tables import AgreementRow, DatasetRow
from privacy.kinds import KINDS

_OF_AGREEMENTS = ("target", "assigner", "assignee", "timestamp")


def describe(row: DatasetRow, offer: Offer, service: dsp.DataService) -> dsp.Dataset:
    """The dataset under `offer`, with a distribution for everything that may be done with it."""
    permitted = permitted_computations(offer)
    names = [name for name in (*KINDS, *row.formats) if permitted is None or name in permitted]
    return dsp.Dataset(
        id=row.id,
        title=row.title,
        description=row.description or None,
        grade=row.grade,
        columns=tuple(_column(column) for column in row.columns),
        has_policy=(offer.for_catalog(),),
        distribution=tuple(
            dsp.Distribution(access_service=service, format=name)
            # A dataset must have a distribution, also where its policy names what we do not have.
            for name in names or KINDS
        ),
    )


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
        canonicaliser=column["canonicaliser"],
        scale=column["scale"] or None,
        values=tuple(column["values"]),
    )
