"""The classes of a dataset's columns: what was proposed and why, what is said, who confirmed it.

They stand in the dataset's row beside each column. Who confirmed is for the owner alone: evidence
and catalogue name organisations, never people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from connectors.classification import (
    CLASS_ORDER,
    ClassProposal,
    ColumnClass,
    Grade,
    propose_classes,
)
from contracts.vocabulary import CONFIRMED
from dataspace.bounds import Bounded, verify_basis_known
from dataspace.errors import InputRejected
from dataspace.publication import ColumnSpec
from dataspace.releasing import block_columns
from dataspace.store.tables import DatasetRow


class Confirmation(BaseModel):
    """A person has looked at the classes; `classes` are those that the person says are others.

    `by` is the person's name. `legal_basis`, where given, is the dataset's from now on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: dict[str, ColumnClass] = Field(default_factory=dict, max_length=100)
    by: str = Field(min_length=1, max_length=200)
    legal_basis: str | None = None


def classed(column: ColumnSpec, proposal: ClassProposal) -> dict[str, Any]:
    """A column as it is kept, of the class its owner says or else of the proposed one."""
    return {
        **column.model_dump(mode="json", by_alias=True),
        "class": (column.column_class or proposal.column_class).value,
        "proposed": proposal.to_json(),
    }


def reclassed(columns: Sequence[Mapping[str, Any]], asked: Confirmation) -> list[dict[str, Any]]:
    """The kept columns as a person has confirmed them. Raises InputRejected for a class of no
    column, and for a legal basis there is not."""
    verify_basis_known(asked.legal_basis)
    names = [column["name"] for column in columns]
    for name in asked.classes:
        if name not in names:
            raise InputRejected(
                f"the dataset has no column {name!r}",
                remedy=f"its columns are: {', '.join(names)}",
            )
    return [
        {
            **column,
            "class": asked.classes.get(column["name"], _class_of(column)).value,
            "confirmed_by": asked.by,
        }
        for column in columns
    ]


def classes_of(row: DatasetRow) -> dict[str, ColumnClass]:
    """The class of every column; by its name for one that was published before there were any."""
    found: dict[str, ColumnClass] = {}
    for column in row.columns:
        # One that is published in two roles is of the more delicate class.
        both = (_class_of(column), found.get(column["name"], ColumnClass.OPEN))
        found[column["name"]] = max(both, key=CLASS_ORDER.index)
    return found


def proposals_of(row: DatasetRow) -> dict[str, ClassProposal]:
    """What was proposed for the columns."""
    return {
        column["name"]: ClassProposal(ColumnClass(one["class"]), one["reason"], one["reason_zh"])
        for column in row.columns
        if (one := column.get("proposed")) is not None
    }


def bounded_by(row: DatasetRow, *, personal: bool) -> Bounded:
    """What bounds the offers of a dataset; `personal` says that its source keeps consents."""
    return Bounded(
        grade=Grade(row.grade),
        classes=classes_of(row),
        confirmed=row.classification == CONFIRMED,
        legal_basis=row.legal_basis,
        personal=personal,
        filterable=tuple(block_columns(row)),
    )


def told_classes(row: DatasetRow) -> list[dict[str, Any]]:
    """The columns' classes as the owner sees them, with what was proposed and why, and by whom they
    were confirmed."""
    told = []
    for column in row.columns:
        one, proposed = _class_of(column), column.get("proposed")
        lowered = proposed is not None and CLASS_ORDER.index(one) < CLASS_ORDER.index(
            ColumnClass(proposed["class"])
        )
        told.append(
            {
                "column": column["name"],
                "class": one.value,
                "proposed": proposed,
                "lowered": lowered,
                "confirmed_by": column.get("confirmed_by"),
            }
        )
    return told


def _class_of(column: Mapping[str, Any]) -> ColumnClass:
    kept = column.get("class")
    if kept is not None:
        return ColumnClass(kept)
    schema = pa.schema([(column["name"], pa.string())])
    return propose_classes(schema, schema.empty_table())[column["name"]].column_class
