"""A published dataset as the node keeps it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from connectors.source import Source
from contracts.odrl import Offer
from contracts.vocabulary import CONFIRMED, PROPOSED
from dataspace.classes import classed
from dataspace.inspection import Inspected
from dataspace.publication import Publication
from dataspace.store.tables import DatasetRow, DatasetVersionRow


def make_row(
    asked: Publication,
    offer: Offer,
    found: Inspected,
    *,
    source: Source,
    location: str,
    content_version: str,
) -> DatasetRow:
    """The dataset that `asked` says, as a look through its source found it."""
    now = time.time()
    return DatasetRow(
        id=asked.id,
        title=asked.title,
        title_zh=asked.title_zh,
        description=asked.description,
        description_zh=asked.description_zh,
        theme=asked.theme,
        division=asked.division,
        frequency=asked.frequency,
        source=location,
        source_schema=[[field.name, str(field.type)] for field in source.schema()],
        columns=[classed(one, found.proposals[one.name]) for one in found.columns],
        conditions=[one.model_dump(mode="json") for one in asked.where],
        blocks=asked.blocks.model_dump(exclude_none=True) if asked.blocks is not None else None,
        quality=[_without_examples(report) for report in found.reports],
        classification=CONFIRMED if asked.confirmed else PROPOSED,
        legal_basis=asked.legal_basis,
        grade=asked.grade,
        offer=offer.to_json(),
        formats=list(asked.formats),
        content_version=content_version,
        created_at=now,
        checked_at=now,
    )


def first_version(row: DatasetRow) -> DatasetVersionRow:
    """The state in which a dataset was published."""
    return DatasetVersionRow(
        dataset=row.id,
        number=1,
        content_version=row.content_version,
        noticed_at=row.created_at,
    )


def _without_examples(report: Mapping[str, Any]) -> dict[str, Any]:
    """A quality report in figures: examples, even masked, are for the moment of publication."""
    return {name: value for name, value in report.items() if name != "examples"}
