"""The plain truth beside every private result: computed from the files, in the clear, with dicts.

Nothing here touches the privacy protocols. Canonical forms and consents come from `connectors`,
because they say what the files mean, not how parties compute.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as parquet

from connectors.identifiers import InvalidIdentifier, canonicalise
from connectors.personal import ConsentBook

Row = dict[str, str]


def rows(path: Path) -> list[Row]:
    """All rows of a CSV (UTF-8 or GBK) or Parquet file as text."""
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
        return [
            {name: "" if value is None else str(value) for name, value in row.items()}
            for row in table.to_pylist()
        ]
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("gb18030")
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t|", key=header.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    return [
        {(key or "").strip(): (value or "").strip() for key, value in row.items()} for row in reader
    ]


def identified(found: list[Row], column: str, canonicaliser: str) -> Iterator[tuple[str, Row]]:
    """Rows with a usable identifier, under its canonical form."""
    for row in found:
        try:
            yield canonicalise(canonicaliser, row[column]), row
        except InvalidIdentifier:
            continue


def people(found: list[Row], column: str, canonicaliser: str) -> set[str]:
    return {person for person, _ in identified(found, column, canonicaliser)}


def consented(
    found: list[Row],
    book: ConsentBook,
    *,
    subject: str,
    columns: tuple[str, ...],
    purpose: str,
    recipient: str,
    at: datetime,
) -> list[Row]:
    """Rows of the people whose consent covers this use of these columns."""
    return [
        row
        for person, row in identified(found, subject, "resident-id/1")
        if book.covers(person, columns, purpose, recipient, at)
    ]


def joined_sum(
    left: set[str],
    right: list[Row],
    *,
    column: str,
    canonicaliser: str,
    value: Callable[[Row], Decimal | int],
    decimals: int = 0,
) -> dict[str, int | str]:
    """Number of the people of `right` who are in `left`, and the sum of what is theirs, as text
    with so many decimals: a plain join."""
    totals: dict[str, Decimal | int] = defaultdict(int)
    for person, row in identified(right, column, canonicaliser):
        if person in left:
            totals[person] += value(row)
    return {"count": len(totals), "sum": f"{Decimal(sum(totals.values())):.{decimals}f}"}


def grouped(
    parts: list[tuple[list[Row], str, str]], *, groups: list[str], min_cohort: int
) -> dict[str, object]:
    """Totals by group over several providers' rows, with the groups that fall under the cohort.

    `parts` are (rows, group column, value column). A group in which a provider has some rows but
    fewer than `min_cohort` is withheld.
    """
    totals = {group: {"sum": 0, "count": 0} for group in groups}
    withheld: set[str] = set()
    for found, group_column, value_column in parts:
        counts: dict[str, int] = defaultdict(int)
        for row in found:
            group = row[group_column]
            totals[group]["sum"] += int(row[value_column])
            totals[group]["count"] += 1
            counts[group] += 1
        withheld |= {group for group, count in counts.items() if 0 < count < min_cohort}
    return {
        "groups": {group: total for group, total in totals.items() if group not in withheld},
        "withheld": sorted(withheld),
    }
