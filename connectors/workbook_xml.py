"""What a reader of spreadsheets does not tell: how far a sheet reaches, and where formulas failed.

An .xlsx or .ods file is a zip archive of XML. Only as much of it is looked at as is needed, in
pieces, before the sheet is loaded whole: a single cell in the far corner of a sheet would take more
memory than there is, and a failed formula would read as an empty cell.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from connectors.errors import InputRejected

# As many rows as a sheet has and the columns of one letter; loaded, a cell takes about 50 bytes.
MAX_CELLS: Final = 1_048_576 * 26
# What the archive unpacks to, by its own account.
MAX_UNPACKED_BYTES: Final = 2 * 1024**3
# The parts that list sheets are a few kilobytes.
_MAX_PART_BYTES: Final = 4 * 1024 * 1024
_PIECE_BYTES: Final = 1 << 20
# A cell holds 32,767 characters; a longer text without a tag is no sheet.
_MAX_CELL_BYTES: Final = 4 * 1024 * 1024

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_CELL = re.compile(rb'<(?:\w+:)?c\b[^>]*?\br="[A-Z]')
_WIDE = re.compile(rb' r="([A-Z]{2,3})[0-9]')
_ROW = re.compile(rb'row [^>]*?\br="([0-9]{1,7})"')
_FAILED = re.compile(rb'<(?:\w+:)?c\b(?=[^>]*\bt="e")[^>]*?\br="([A-Z]{1,3})([0-9]{1,7})"')


@dataclass
class Extent:
    """How far a sheet reaches, at most, and by column the row of its first failed formula, both
    from 0. Columns are exact beyond 26 only."""

    rows: int = 0
    columns: int = 0
    failed: dict[int, int] = field(default_factory=dict)


def verify_archive(path: Path) -> None:
    """Raises InputRejected for what unpacks to more than two gigabytes or is no archive."""
    with _archive(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > MAX_UNPACKED_BYTES:
        raise InputRejected(
            f"{path.name} unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB; save it as CSV "
            "UTF-8 or Parquet"
        )


def sheet_extent(path: Path, sheet: str) -> Extent | None:
    """Look through one sheet of an .xlsx or .xlsm file; None where it is not found by its name.

    Raises InputRejected for a damaged file.
    """
    with _archive(path) as archive:
        part = _part_of(archive, sheet)
        return None if part is None else _extent(archive, part)


def failed_formulas_of_ods(path: Path) -> int:
    """How many cells of an .ods file hold the error of a formula."""
    count, rest, mark = 0, b"", b'calcext:value-type="error"'
    with _archive(path) as archive, archive.open("content.xml") as content:
        while piece := content.read(_PIECE_BYTES):
            piece = rest + piece
            count += piece.count(mark)
            rest = piece[-len(mark) + 1 :]
    return count


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    # What the standard library raises for archives and XML that are none.
    except (
        zipfile.BadZipFile,
        zlib.error,
        ElementTree.ParseError,
        EOFError,
        LookupError,
        ValueError,
        RuntimeError,
    ):
        raise damaged(path) from None


def damaged(path: Path) -> InputRejected:
    return InputRejected(
        f"{path.name} is no readable spreadsheet, or a damaged one; open it, save it again, or "
        "name the file by what it is (.csv)"
    )


def column_letters(index: int) -> str:
    """What a spreadsheet calls column `index`, from 0: A to Z, AA…"""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _column_index(letters: bytes) -> int:
    index = 0
    for letter in letters:
        index = index * 26 + letter - ord("A") + 1
    return index - 1


def _part_of(archive: zipfile.ZipFile, sheet: str) -> str | None:
    relation = None
    for one in _tree(archive, "xl/workbook.xml").iter(f"{_MAIN}sheet"):
        if one.get("name") == sheet:
            relation = one.get(_RELATION)
    for one in _tree(archive, "xl/_rels/workbook.xml.rels"):
        if relation is not None and one.get("Id") == relation:
            return posixpath.normpath(posixpath.join("xl", one.get("Target", ""))).lstrip("/")
    return None


def _tree(archive: zipfile.ZipFile, part: str) -> ElementTree.Element:
    with archive.open(part) as file:
        content = file.read(_MAX_PART_BYTES + 1)
    # Neither belongs into a workbook; a declaration could define entities that grow without end.
    if len(content) > _MAX_PART_BYTES or b"<!DOCTYPE" in content:
        raise zipfile.BadZipFile
    return ElementTree.fromstring(content)  # noqa: S314 - no declarations, bounded


def _extent(archive: zipfile.ZipFile, part: str) -> Extent:
    extent = Extent()
    for tags in _tags(archive, part):
        last_row = max(tags.rfind(b"<row "), tags.rfind(b":row "))
        if last_row >= 0 and (row := _ROW.search(tags, last_row)):
            extent.rows = max(extent.rows, int(row[1]))
        # Looking for long names alone costs little; all others are of the first 26 columns.
        wide = set(_WIDE.findall(tags))
        extent.columns = max([extent.columns, *(_column_index(letters) + 1 for letters in wide)])
        if not extent.columns and _CELL.search(tags):
            extent.columns = 26
        if b't="e"' in tags:
            for cell in _FAILED.finditer(tags):
                extent.failed.setdefault(_column_index(cell[1]), int(cell[2]) - 1)
    return extent


def _tags(archive: zipfile.ZipFile, part: str) -> Iterator[bytes]:
    """The part in pieces that end between tags."""
    rest = b""
    with archive.open(part) as file:
        while piece := file.read(_PIECE_BYTES):
            piece = rest + piece
            end = piece.rfind(b"<")
            yield piece[:end]
            rest = piece[end:]
            if len(rest) > _MAX_CELL_BYTES:
                raise zipfile.BadZipFile
    yield rest
