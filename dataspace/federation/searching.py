"""Searching the federated catalogue: a filter of `contracts.filters` over what is kept.

The database narrows the datasets down by the conditions it can look up; the filter itself then
decides about each of them, so that a search here and a search at the provider find the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pydantic import JsonValue
from sqlalchemy import ColumnElement, false, or_
from sqlmodel import Session, col, select

from contracts.comparison import region_code
from contracts.described import all_texts
from contracts.filters import Condition, FilterField, normal_words, normalised, parse_filter
from contracts.messages import Dataset, parse
from contracts.odrl import Operator
from contracts.profile import GRADE_ORDER
from dataspace.store.tables import FederatedDatasetRow, FederatedNodeRow

MAX_SHOWN: Final = 100
# Datasets the filter looks at for one search: some two seconds' work.
MAX_LOOKED_AT: Final = 4000
MAX_FACETS: Final = 50
# A division's facet is its city: the first four digits of its code.
CITY_DIGITS: Final = 4


@dataclass(frozen=True)
class Search:
    """What is looked for: a filter, and of which participants (kinds, DIDs; empty: of all)."""

    filter: tuple[JsonValue, ...] = ()
    kinds: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    offset: int = 0
    limit: int = 20


@dataclass(frozen=True)
class Hit:
    """A dataset that fits, as its provider showed it; `in_title`: all words are in its title."""

    row: FederatedDatasetRow
    node: FederatedNodeRow
    in_title: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "provider": self.row.provider,
            "provider_name": self.node.name,
            "provider_kind": self.node.kind,
            "dataset": json.loads(self.row.document),
            "first_seen_at": self.row.first_seen_at,
            "changed_at": self.row.changed_at,
            "seen_at": self.row.seen_at,
            # What went wrong when its catalogue was read last, so that it may have changed since.
            "error": self.node.error,
        }


@dataclass(frozen=True)
class Found:
    """A page of what fits, and how much fits in all: also by theme, city, grade, kind of
    participant and provider.

    `complete` is false where more than `MAX_LOOKED_AT` datasets would have had to be looked at: the
    others were not.
    """

    hits: tuple[Hit, ...]
    total: int
    complete: bool
    facets: Mapping[str, Mapping[str, int]]


Candidates: TypeAlias = Sequence[tuple[FederatedDatasetRow, FederatedNodeRow]]


def among(candidates: Candidates, asked: Search) -> Found:
    """Those that fit, best first: with all words of a `ds:text` condition in the title, then by
    when they changed last. Raises ProtocolViolation for a filter that is none."""
    wanted = parse_filter(asked.filter)
    words = [
        word
        for condition in wanted.conditions
        if condition.left_operand is FilterField.TEXT
        for word in normal_words(condition.values[0])
    ]
    hits = []
    for row, node in candidates[:MAX_LOOKED_AT]:
        dataset = parse(Dataset, row.document.encode())
        if wanted.matches(dataset):
            title = normalised("\n".join(all_texts(dataset.title)))
            hits.append(Hit(row, node, all(word in title for word in words)))
    hits.sort(key=lambda hit: (not hit.in_title, -hit.row.changed_at, hit.row.provider, hit.row.id))
    return Found(
        hits=tuple(hits[asked.offset : asked.offset + asked.limit]),
        total=len(hits),
        complete=len(candidates) <= MAX_LOOKED_AT,
        facets=_facets(hits),
    )


def candidates(tx: Session, asked: Search) -> Candidates:
    """At least every dataset that fits, those that changed last first; one more than are looked at
    where there are more. Raises as `among`."""
    conditions = parse_filter(asked.filter).conditions
    query = select(FederatedDatasetRow, FederatedNodeRow).where(
        col(FederatedDatasetRow.provider) == col(FederatedNodeRow.did)
    )
    for condition in conditions:
        for clause in _clauses(condition):
            query = query.where(clause)
    if asked.kinds:
        query = query.where(col(FederatedNodeRow.kind).in_(asked.kinds))
    if asked.providers:
        query = query.where(col(FederatedDatasetRow.provider).in_(asked.providers))
    newest = (
        col(FederatedDatasetRow.changed_at).desc(),
        col(FederatedDatasetRow.provider),
        col(FederatedDatasetRow.id),
    )
    return tx.exec(query.order_by(*newest).limit(MAX_LOOKED_AT + 1)).all()


def _clauses(condition: Condition) -> Iterator[ColumnElement[bool]]:
    """What the database can say of a condition; nothing for those it knows nothing about."""
    field, operator, values = condition.left_operand, condition.operator, condition.values
    if field is FilterField.TEXT:
        for word in normal_words(values[0]):
            yield col(FederatedDatasetRow.text).contains(word, autoescape=True)
    elif field is FilterField.THEME and operator in (Operator.EQ, Operator.IS_ANY_OF):
        yield _any_listed(col(FederatedDatasetRow.themes), [listed([one]) for one in values])
    elif field is FilterField.DIVISION and operator is Operator.IS_PART_OF:
        code = region_code(values[0]) or values[0]
        yield _any_listed(col(FederatedDatasetRow.divisions), [f"|{code}"])
    elif field is FilterField.GRADE and operator is Operator.LTEQ:
        grades = [grade.value for grade in GRADE_ORDER]
        yield col(FederatedDatasetRow.grade).in_(grades[: grades.index(values[0]) + 1])


def listed(names: Sequence[str]) -> str:
    """Several names in one column, each between bars, so that one of them is found by LIKE."""
    return "".join(f"|{name.replace('|', ' ')}" for name in names) + "|" if names else ""


def _any_listed(column: Any, parts: Sequence[str]) -> ColumnElement[bool]:
    return or_(false(), *(column.contains(part, autoescape=True) for part in parts))


def _facets(hits: Sequence[Hit]) -> dict[str, Mapping[str, int]]:
    """How many of the hits there are of each sort, the most frequent first."""

    def count(names: Iterator[str]) -> dict[str, int]:
        return dict(Counter(names).most_common(MAX_FACETS))

    return {
        "theme": count(one for hit in hits for one in _names(hit.row.themes)),
        "city": count(
            one
            for hit in hits
            for one in {name[:CITY_DIGITS] for name in _names(hit.row.divisions)}
        ),
        "grade": count(hit.row.grade for hit in hits if hit.row.grade),
        "kind": count(hit.node.kind for hit in hits),
        "provider": count(hit.row.provider for hit in hits),
    }


def _names(listed: str) -> list[str]:
    return [name for name in listed.split("|") if name]
