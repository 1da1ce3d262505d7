"""A publication to begin with: what a look at a source proposes, in YAML to be edited.

For `dataspace source inspect --publication FILE`, which hands over what it saw.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from connectors.classification import ClassProposal, ColumnClass, GradeProposal
from contracts.vocabulary import CONSENT, FREQUENCIES, LEGAL_BASES, THEMES
from dataspace.bounds import allowances
from dataspace.errors import InputRejected
from dataspace.inspection import MAX_GROUPS

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,15}\.([0-9]{1,9})")
# What a column of texts, each another, can at most be.
_KEY: Final = ("role: identifier", "canonicaliser: text/1")
# For so long an offer is proposed to hold.
_DAYS: Final = 365
_LOCAL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


@dataclass(frozen=True)
class Seen:
    """What a look at a source found: a few of its rows (none of one that keeps consents), and what
    is proposed: a class for every column, a grade, canonicalisers for some columns."""

    location: str
    schema: pa.Schema
    sample: pa.Table
    classes: Mapping[str, ClassProposal]
    grade: GradeProposal
    canonicalisers: Mapping[str, str]
    keeps_consents: bool


def write_draft(seen: Seen, *, now: datetime) -> str:
    """A publication of the source in YAML that `dataspace publish --file` takes once the purposes
    are filled in. A column that fits no role stands in it as a comment."""
    return "\n".join(_lines(seen, now)) + "\n"


def save_draft(path: Path, seen: Seen, *, now: datetime) -> None:
    """Write the draft where no file is yet. Raises InputRejected for one that is there."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(write_draft(seen, now=now))
    except FileExistsError as err:
        raise InputRejected(
            f"there is a file {path} already", remedy="name another one, or move it away"
        ) from err
    except OSError as err:
        raise InputRejected(f"the publication {path} cannot be written: {err.strerror}") from err


def _lines(seen: Seen, now: datetime) -> Iterator[str]:
    grade = seen.grade
    yield "# Look through it, fill in what is empty, then: dataspace publish --file THIS"
    yield f"id: {_text(_id_of(seen.location))}"
    yield f"title: {_text(_id_of(seen.location))}"
    yield 'title_zh: ""'
    yield 'description: ""'
    yield 'description_zh: ""'
    yield f"# theme: {' | '.join(THEMES)}"
    yield "# division: 440305  # GB/T 2260"
    yield f"# frequency: {' | '.join(FREQUENCIES)}"
    yield f"source: {_text(seen.location)}"
    yield "columns:"
    # A draft without any column that fits would not be read.
    yield from _columns(seen)
    yield "# where:  # only these rows"
    yield "#   - {column: COLUMN, comparison: startsWith, values: 440305}"
    yield "# blocks: {division: COLUMN, grid: COLUMN}  # the columns with a row's codes"
    yield "# A person has looked at the classes above:"
    yield "confirmed: false"
    yield from _basis(seen)
    yield f"# {grade.reason} · {grade.reason_zh}"
    yield f"grade: {grade.grade}"
    for en, zh in allowances(grade.grade, _classes(seen)):
        yield f"# {en} · {zh}"
    yield "terms:"
    yield "  computations: [psi-cardinality/2]  # see: dataspace kinds"
    yield "  purposes: []"
    yield "  min_cohort: 20"
    until = (now.astimezone(UTC) + timedelta(days=_DAYS)).isoformat(timespec="seconds")
    yield f'  not_after: "{until}"'


def _columns(seen: Seen) -> Iterator[str]:
    for name, proposal in seen.classes.items():
        role = _role(name, seen)
        fields = [f"name: {_text(name)}", *(role or _KEY)]
        fields.append(f"class: {proposal.column_class}")
        comment = "" if role is not None else "# "
        yield f"  {comment}- {{{', '.join(fields)}}}  # {proposal.reason} · {proposal.reason_zh}"


def _role(name: str, seen: Seen) -> tuple[str, ...] | None:
    """The role a column fits, with its canonicaliser or scale; None where it fits none."""
    cells = _cells(seen.sample, name)
    column_class = seen.classes[name].column_class
    if column_class is ColumnClass.IDENTIFIER:
        canonicaliser = seen.canonicalisers.get(name, "text/1")
        return "role: identifier", f"canonicaliser: {canonicaliser}"
    if cells and not _is_code(cells):
        decimals = [_decimals(cell) for cell in cells]
        if -1 not in decimals:
            most = max(decimals)
            return ("role: value", f"scale: {most}") if most else ("role: value",)
    # The same few values again and again are a group; more are no public key.
    if 0 < len(set(cells)) <= min(MAX_GROUPS, max(1, len(cells) // 2)):
        return ("role: group",)
    return None


def _decimals(cell: str) -> int:
    """How many decimals a number is written with; -1 for what is no number."""
    if _WHOLE.fullmatch(cell):
        return 0
    found = _DECIMAL.fullmatch(cell)
    return -1 if found is None else len(found[1])


def _is_code(cells: Sequence[str]) -> bool:
    """Whether whole numbers are codes: all of one length above four, as of districts."""
    whole = all(map(_WHOLE.fullmatch, cells))
    return whole and len(cells[0]) > 4 and len({len(cell) for cell in cells}) == 1


def _basis(seen: Seen) -> Iterator[str]:
    named = [name for name in LEGAL_BASES if name != CONSENT or seen.keeps_consents]
    needed = not seen.keeps_consents and ColumnClass.SENSITIVE_PERSONAL in _classes(seen)
    if needed:
        yield "# Sensitive personal data without consents need one (PIPL 13):"
    yield f"# legal_basis: {' | '.join(named)}"


def _classes(seen: Seen) -> set[ColumnClass]:
    return {one.column_class for one in seen.classes.values()}


def _cells(sample: pa.Table, name: str) -> list[str]:
    if name not in sample.schema.names:
        return []
    column = sample.column(name)
    filled = column.filter(pc.is_valid(column)).to_pylist()
    return [text for cell in filled if (text := str(cell).strip())]


def _id_of(location: str) -> str:
    """An id for the catalogue out of the last part of a source's address."""
    address = location.split("?", 1)[0].split("#", 1)[0].rstrip("/")
    last = _LOCAL.sub("", address).replace("\\", "/").rsplit("/", 1)[-1]
    stem = last.rsplit(".", 1)[0] if "." in last else last
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:64] or "dataset"


def _text(value: str) -> str:
    """A text as YAML reads it back whatever it holds; JSON's form is one of YAML's."""
    plain = re.fullmatch(r"[A-Za-z\u4e00-\u9fff][\w./-]*", value)
    words = ("true", "false", "null", "yes", "no", "on", "off")
    return value if plain and value.lower() not in words else json.dumps(value, ensure_ascii=False)
