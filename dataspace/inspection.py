"""Looking through a source before it is published: its quality, and the values of its groups."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from connectors.source import Source
from connectors.table import extract
from connectors.use import Use
from dataspace.errors import InputRejected
from dataspace.publication import ColumnSpec

# A group column is a public key such as a district: few values, known to everybody.
MAX_GROUPS = 256


def inspect(
    source: Source, columns: Sequence[ColumnSpec], *, max_rows: int, reader: str
) -> tuple[tuple[ColumnSpec, ...], list[dict[str, Any]]]:
    """Read every column once: the columns with the values of groups, and a report per identifier.

    `reader` is the DID of who looks. Raises InputRejected for a group of more than 256 values, and
    whatever makes a column unusable.
    """
    use = Use(purpose="inspection", recipient=reader, at=datetime.now(UTC))
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
            max_rows=max_rows,
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
            column = column.model_copy(update={"values": values})
        checked.append(column)
    return tuple(checked), reports
