"""Classes of columns and grades of datasets, after GB/T 43697-2024.

A grade says how much harm a leak does: general 一般, important 重要, core 核心. A class says what a
column holds. Rules propose both, each with its reason; a person confirms them.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import pyarrow as pa

from connectors.errors import InputRejected
from connectors.telling import Holds, Sign, sign_of_cells, sign_of_minors, sign_of_name

# Cells looked at per column.
SAMPLE_ROWS = 200
# From so many people on, or so many whose sensitive data they are, data do not leave the country
# without a security assessment (促进和规范数据跨境流动规定, 2024, article 7).
MANY_PEOPLE: Final = 1_000_000
MANY_SENSITIVE: Final = 10_000


class Grade(StrEnum):
    """数据分级."""

    GENERAL = "general"
    IMPORTANT = "important"
    CORE = "core"

    @property
    def chinese(self) -> str:
        return {"general": "一般", "important": "重要", "core": "核心"}[self.value]


class ColumnClass(StrEnum):
    """数据分类, as far as sharing cares."""

    IDENTIFIER = "identifier"
    QUASI_IDENTIFIER = "quasi-identifier"
    SENSITIVE_PERSONAL = "sensitive-personal"
    BUSINESS = "business"
    OPEN = "open"


# From what anybody may see to what harms most; a class further on protects more.
CLASS_ORDER: Final = (
    ColumnClass.OPEN,
    ColumnClass.BUSINESS,
    ColumnClass.QUASI_IDENTIFIER,
    ColumnClass.IDENTIFIER,
    ColumnClass.SENSITIVE_PERSONAL,
)


class Handling(StrEnum):
    """What may happen with an offered dataset."""

    COMPUTE = "compute"
    DOWNLOAD = "download"


_OFFERABLE: Mapping[Grade, frozenset[Handling]] = {
    Grade.GENERAL: frozenset({Handling.COMPUTE, Handling.DOWNLOAD}),
    Grade.IMPORTANT: frozenset({Handling.COMPUTE}),
}


def offerable(grade: Grade) -> frozenset[Handling]:
    """How a dataset of `grade` may be offered: important data are computed on, never downloaded.

    Raises InputRejected for core data, which are never offered.
    """
    allowed = _OFFERABLE.get(grade)
    if allowed is None:
        raise InputRejected(
            f"data graded {grade} ({grade.chinese}) are never offered to others; keep them out of "
            "the catalogue, or offer a dataset without the core columns"
        )
    return allowed


@dataclass(frozen=True)
class ClassProposal:
    """The class that the rules propose for a column, and what they saw."""

    column_class: ColumnClass
    reason: str
    reason_zh: str

    def to_json(self) -> dict[str, str]:
        return {
            "class": self.column_class.value,
            "reason": self.reason,
            "reason_zh": self.reason_zh,
        }


@dataclass(frozen=True)
class GradeProposal:
    """The grade that the rules propose for a dataset, and why. Core is for a person to say."""

    grade: Grade
    reason: str
    reason_zh: str

    def to_json(self) -> dict[str, str]:
        return {"grade": self.grade.value, "reason": self.reason, "reason_zh": self.reason_zh}


_CLASSES: Mapping[Holds, ColumnClass] = {
    Holds.IDENTIFIER: ColumnClass.IDENTIFIER,
    Holds.QUASI_IDENTIFIER: ColumnClass.QUASI_IDENTIFIER,
    Holds.SENSITIVE_PERSONAL: ColumnClass.SENSITIVE_PERSONAL,
    Holds.PLACE: ColumnClass.QUASI_IDENTIFIER,
    Holds.OPEN: ColumnClass.OPEN,
}
_NOTHING: Final = ClassProposal(
    ColumnClass.BUSINESS, "neither its name nor its cells tell of people", "列名和内容均未涉及个人"
)
_DELICATE: Final = (Holds.IDENTIFIER, Holds.SENSITIVE_PERSONAL)


def propose_classes(
    schema: pa.Schema, sample: pa.RecordBatch | pa.Table, *, today: datetime.date | None = None
) -> dict[str, ClassProposal]:
    """A class for every column of `schema`, from its name and from up to `SAMPLE_ROWS` cells.

    `sample` may lack columns. A column that tells nothing is business data: shared under contract.
    Given `today`, ages and dates of birth tell of minors. Coordinates beside an identifier are
    where a person was, which is sensitive.
    """
    present = set(sample.schema.names)
    signs: dict[str, Sign | None] = {}
    for name in schema.names:
        cells = sample.column(name).slice(0, SAMPLE_ROWS).to_pylist() if name in present else []
        filled = [str(cell) for cell in cells if cell not in (None, "")]
        signs[name] = _sign(name, filled, today)
    of_people = any(sign is not None and sign.holds is Holds.IDENTIFIER for sign in signs.values())
    return {name: _proposal(sign, of_people=of_people) for name, sign in signs.items()}


def propose_grade(
    classes: Mapping[str, ClassProposal], *, rows: int | None = None
) -> GradeProposal:
    """A grade for a dataset whose columns are of these classes; `rows` None where nobody counted.

    General or important: what is core for a state no rule can see.
    """
    held = {one.column_class for one in classes.values()}
    people = ColumnClass.IDENTIFIER in held
    sensitive = ColumnClass.SENSITIVE_PERSONAL in held
    if rows is not None and people and sensitive and rows >= MANY_SENSITIVE:
        return GradeProposal(
            Grade.IMPORTANT,
            f"sensitive data about {MANY_SENSITIVE:,} people or more",
            f"涉及{MANY_SENSITIVE // 10_000}万人以上的敏感个人信息",
        )
    if rows is not None and people and rows >= MANY_PEOPLE:
        return GradeProposal(
            Grade.IMPORTANT,
            f"data about {MANY_PEOPLE:,} people or more",
            f"涉及{MANY_PEOPLE // 10_000}万人以上的个人信息",
        )
    if people or sensitive:
        return GradeProposal(
            Grade.GENERAL,
            "data about people, fewer than make them important by number alone",
            "涉及个人信息，数量未达到重要数据的门槛",
        )
    return GradeProposal(Grade.GENERAL, "no column tells of people", "各列均未涉及个人")


def _sign(name: str, cells: list[str], today: datetime.date | None) -> Sign | None:
    told_by_cells, told_by_name = sign_of_cells(cells), sign_of_name(name)
    if cells and today is not None:
        minors = sign_of_minors(name, cells, today)
        if minors is not None:
            return minors
    for sign in (told_by_cells, told_by_name):
        if sign is not None and sign.holds in _DELICATE:
            return sign
    return told_by_cells or told_by_name


def _proposal(sign: Sign | None, *, of_people: bool) -> ClassProposal:
    if sign is None:
        return _NOTHING
    if sign.holds is Holds.PLACE and of_people:
        return ClassProposal(
            ColumnClass.SENSITIVE_PERSONAL,
            f"{sign.reason}, and beside an identifier that is where a person was",
            f"{sign.reason_zh}，与标识列结合可反映个人行踪",
        )
    return ClassProposal(_CLASSES[sign.holds], sign.reason, sign.reason_zh)
