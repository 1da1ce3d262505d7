"""What of one's own table could match another's at all, found out without asking anybody.

Only the consumer's own rows are read, on the consumer's own machine. Of the other side nothing is
used but what it has published to everybody: its canonicaliser and how many it says there are.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from connectors.identifiers import ColumnReader, QualityReport, parts_of
from connectors.identifiers.registry import SEPARATOR
from connectors.identifiers.spelling import DIRT
from connectors.names import verify_columns
from connectors.source import Source
from connectors.table import batches, key_columns
from connectors.use import Use
from connectors.values import texts

AS_IT_SHOULD_BE: Final = "as it should be"
# Below this share of usable rows, the column or its canonicaliser is probably not the right one.
_FEW: Final = 0.5


@dataclass(frozen=True)
class Published:
    """What the other side says about its dataset in the catalogue; None where it does not."""

    canonicaliser: str | None = None
    identifiers: int | None = None


@dataclass(frozen=True)
class MatchPreview:
    """`identifiers` different ones are usable; of them at most `at_most` can match.

    `forms` are the spellings that were met and how many cells had each, the most frequent first.
    `warnings` are sentences about what will keep people from matching.
    """

    quality: QualityReport
    identifiers: int
    at_most: int
    forms: dict[str, int]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return {
            "quality": self.quality.to_json(),
            "identifiers": self.identifiers,
            "at_most": self.at_most,
            "forms": dict(self.forms),
            "warnings": list(self.warnings),
        }


def preview(
    source: Source,
    column: str,
    canonicaliser: str,
    published: Published = Published(),
    *,
    use: Use,
    progress: Callable[[int], None] | None = None,
) -> MatchPreview:
    """Read one's own identifier column, or a key such as `name+born`, and say what can match.

    Raises InputRejected for an unknown column or canonicaliser, and for an unreadable source.
    """
    key = key_columns(source, column)
    verify_columns(key, source.schema().names, source=source.name)
    reader = ColumnReader(canonicaliser, column=column)
    parts, forms, rows = parts_of(canonicaliser), Counter[str](), 0
    for batch in batches(source, list(dict.fromkeys(key)), use):
        cells = [batch.column(name) for name in key]
        canonical = reader.feed(*cells)
        for place, part in enumerate(parts):
            found = _forms(part, cells[place], canonical, place)
            head = f"{key[place]}: " if len(parts) > 1 else ""
            forms.update({f"{head}{form}": count for form, count in found.items()})
        rows += batch.num_rows
        if progress is not None:
            progress(rows)
    quality = reader.report()
    identifiers = quality.valid - quality.duplicates
    theirs = identifiers if published.identifiers is None else published.identifiers
    return MatchPreview(
        quality,
        identifiers,
        min(identifiers, theirs),
        dict(forms.most_common()),
        tuple(_warnings(quality, published)),
    )


def _forms(
    canonicaliser: str, cells: pa.Array, canonical: Sequence[str | None], place: int
) -> Counter[str]:
    """The spellings of the usable cells of one part of a key."""
    found: Counter[str] = Counter()
    for cell, key in zip(texts(cells), canonical, strict=True):
        if key is not None and cell is not None:
            part = key.split(SEPARATOR)[place]
            found[AS_IT_SHOULD_BE if cell == part else _form(canonicaliser, cell, part)] += 1
    return found


def _form(canonicaliser: str, cell: str, canonical: str) -> str:
    kind = canonicaliser.partition("/")[0]
    if unicodedata.normalize("NFKC", cell) != cell:
        return "full-width or otherwise compatible characters"
    stripped = DIRT.sub("", cell)
    if kind == "resident-id" and len(stripped) == 15:
        return "15 digits, upgraded to 18"
    if kind == "mobile" and stripped == canonical.removeprefix("+86"):
        return "without country code, taken for Chinese"
    if kind == "date" and stripped != DIRT.sub("", canonical):
        return "another way to write a day"
    if stripped == DIRT.sub("", canonical):
        return "spaces, dashes, quotation marks or invisible characters"
    if stripped.casefold() == DIRT.sub("", canonical).casefold():
        return "other case of letters"
    return "another spelling"


def _warnings(quality: QualityReport, published: Published) -> list[str]:
    warnings: list[str] = []
    theirs = published.canonicaliser
    if theirs is not None and theirs != quality.canonicaliser:
        warnings.append(
            f"the dataset is published by {theirs} and this column was read by "
            f"{quality.canonicaliser}: an order is refused unless both name the same; read it by "
            f"{theirs}"
        )
    if quality.valid < _FEW * quality.rows:
        warnings.append(
            f"only {quality.valid} of {quality.rows} rows have a usable identifier; check that "
            f"column {quality.column} holds {quality.canonicaliser} identifiers"
        )
    lost = quality.invalid.get("scientific-notation", 0)
    if lost:
        warnings.append(
            f"{lost} rows hold what a spreadsheet left of a long number; their last digits are "
            "lost, export the column again as text"
        )
    if quality.duplicates:
        warnings.append(
            f"{quality.duplicates} rows repeat the identifier of an earlier row; an intersection "
            "counts each identifier once"
        )
    return warnings
