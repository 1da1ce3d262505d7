"""Classes of columns and grades of datasets, after GB/T 43697-2024.

A grade says how much harm a leak does: general 一般, important 重要, core 核心. A class says what a
column holds. Both are proposals for a person to confirm; only the rule on offering is enforced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

import pyarrow as pa

from connectors.errors import InputRejected
from connectors.identifiers import InvalidIdentifier, canonicalise

# Cells looked at per column.
SAMPLE_ROWS = 200
# Of the filled cells sampled, the share that must be identifiers before a column counts as one.
_IDENTIFIER_SHARE = 0.5
_TELLING = ("resident-id/1", "uscc/1", "mobile/1")


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


# The first row that matches a column's name decides, the most delicate first. PIPL article 28
# lists what is sensitive.
_BY_NAME: tuple[tuple[re.Pattern[str], ColumnClass], ...] = (
    (
        re.compile(
            r"diagnos|disease|health|medical|icd|religi|biometr|finger|face|bank|account|income"
            r"|诊断|疾病|健康|病|宗教|指纹|人脸|账户|银行|收入"
        ),
        ColumnClass.SENSITIVE_PERSONAL,
    ),
    (
        re.compile(
            r"(^|_)(resident|citizen|identity|person|social_security)_?(id|no|number)$|(^|_)name$"
            r"|phone|mobile|email|passport|身份证|姓名|手机|电话|邮箱|护照|社保号"
        ),
        ColumnClass.IDENTIFIER,
    ),
    (
        re.compile(
            r"district|division|street|address|post|zip|(^|_)(age|sex|born)($|_)|birth|gender"
            r"|occupation|区|街道|地址|邮编|年龄|性别|出生|职业"
        ),
        ColumnClass.QUASI_IDENTIFIER,
    ),
    (re.compile(r"^(unit|currency|licen[cs]e|单位|币种)$"), ColumnClass.OPEN),
)


def propose_classes(schema: pa.Schema, sample: pa.RecordBatch | pa.Table) -> dict[str, ColumnClass]:
    """A class for every column of `schema`, from its name and from up to `SAMPLE_ROWS` cells.

    `sample` may lack columns. A column that tells nothing is business data: shared under contract.
    """
    present = set(sample.schema.names)
    proposed: dict[str, ColumnClass] = {}
    for name in schema.names:
        cells = sample.column(name).slice(0, SAMPLE_ROWS).to_pylist() if name in present else []
        proposed[name] = _class_of(name, [str(cell) for cell in cells if cell not in (None, "")])
    return proposed


def _class_of(name: str, cells: list[str]) -> ColumnClass:
    if cells and any(
        _share(cells, canonicaliser) > _IDENTIFIER_SHARE for canonicaliser in _TELLING
    ):
        return ColumnClass.IDENTIFIER
    lowered = name.strip().lower()
    for pattern, column_class in _BY_NAME:
        if pattern.search(lowered):
            return column_class
    return ColumnClass.BUSINESS


def _share(cells: list[str], canonicaliser: str) -> float:
    return sum(_is_one(canonicaliser, cell) for cell in cells) / len(cells)


def _is_one(canonicaliser: str, cell: str) -> bool:
    try:
        canonicalise(canonicaliser, cell)
    except InvalidIdentifier:
        return False
    return True
