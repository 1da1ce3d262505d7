"""Spreadsheets as sources: .xlsx, .xlsm, .xls and .ods, one sheet of a workbook.

Every column is text, as in delimited files: text cells as they were written, whole numbers without
a decimal point, days as YYYY-MM-DD. A sheet is loaded whole, which bounds its size.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import compress, islice
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

import numpy as np
import pyarrow as pa
import python_calamine as calamine

from connectors.conditions import Where, filtered, verify_readable
from connectors.delimited import LOOKS_LIKE_DATA, MAX_COLUMNS
from connectors.errors import InputRejected
from connectors.local_file import LocalFile, Stamp, reading
from connectors.names import verify_distinct
from connectors.workbook_xml import (
    MAX_CELLS,
    column_letters,
    damaged,
    failed_formulas_of_ods,
    sheet_extent,
    verify_archive,
)

ENDINGS: Final = (".xlsx", ".xlsm", ".xls", ".ods")
OPTIONS: Final = frozenset({"sheet", "header"})
MAX_FILE_BYTES: Final = 256 * 1024 * 1024
_BATCH_ROWS: Final = 16_384
# A workbook of more is made by a program; looking through all of them would take too long.
_MAX_SHEETS: Final = 255
# A spreadsheet keeps fifteen digits of a number. What is as large as this had more.
_LOST: Final = 1e15
_PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")

_Cell: TypeAlias = (
    "str | float | int | bool | datetime.date | datetime.datetime | datetime.time"
    " | datetime.timedelta"
)


class _LostDigitsError(Exception):
    """A number was too long for a spreadsheet to keep."""


class _Table:
    """One loaded sheet: names and where they stand, and the rows below them."""

    def __init__(self, sheet: calamine.CalamineSheet, header: int | None, where: str) -> None:
        self._where = where
        self._rows: Iterator[list[_Cell]] = sheet.iter_rows()
        self.first_column = (sheet.start or (0, 0))[1]
        self.header_row, cells = self._find_header(header)
        names = [_text(cell).strip() for cell in cells]
        while names and not names[-1]:
            names.pop()
        self.names = tuple(names)
        self._verify_names()
        self._merged = sheet.merged_cell_ranges or []

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The filled rows below the names. Raises InputRejected naming row and column."""
        places = [self.names.index(name) for name in columns]
        self._verify_not_merged(places)
        row = self.header_row + 1
        while rows := list(islice(self._rows, _BATCH_ROWS)):
            # Most rows have a cell that is neither blank nor zero, which is told fastest.
            filled = [any(cells) or any(map(_filled, cells)) for cells in rows]
            numbers = list(compress(range(row, row + len(rows)), filled))
            row += len(rows)
            if not numbers:
                continue
            kept = list(compress(rows, filled))
            self._verify_named(kept, numbers)
            by_column = list(zip(*kept, strict=True))
            arrays = [self._column(by_column[place], place, numbers) for place in places]
            yield pa.RecordBatch.from_arrays(arrays, names=list(columns))

    def _column(self, cells: Sequence[_Cell], place: int, row_numbers: Sequence[int]) -> pa.Array:
        kinds = set(map(type, cells))
        if kinds == {str}:
            return pa.array(cells, pa.string())
        if kinds == {float}:
            numbers = np.array(cells)
            if (np.abs(numbers) < _LOST).all() and (np.trunc(numbers) == numbers).all():
                return pa.array(numbers.astype(np.int64)).cast(pa.string())
        texts: list[str] = []
        for row, cell in zip(row_numbers, cells, strict=True):
            try:
                texts.append(cell if isinstance(cell, str) else _text(cell))
            except _LostDigitsError:
                self._reject(
                    row,
                    f"column {self.names[place]} holds a number of more than 15 digits, and a "
                    "spreadsheet keeps no more of a number: the others are lost. Format the column "
                    "as text where the numbers come from, and enter or export them again",
                )
        return pa.array(texts, pa.string())

    def _find_header(self, header: int | None) -> tuple[int, list[_Cell]]:
        for row, cells in enumerate(self._rows):
            if row == header or (header is None and any(map(_filled, cells))):
                return row, cells
        raise InputRejected(
            f"{self._where} has no row {header + 1} of column names; name the one that has them, "
            "as in header=2"
            if header is not None
            else f"{self._where} is empty; it needs a row of column names, and rows"
        )

    def _verify_names(self) -> None:
        if not any(self.names):
            self._reject(self.header_row, "no column names; name the row that has them, header=2")
        if "" in self.names:
            self._reject(
                self.header_row,
                f"cell {self._cell(self.names.index(''), self.header_row)} among the column names "
                "is blank or merged; name every column in a cell of its own, or name the row that "
                "does, as in header=2",
            )
        if any(LOOKS_LIKE_DATA.search(name) for name in self.names):
            self._reject(
                self.header_row,
                "data instead of column names; add a row naming the columns",
            )
        if len(self.names) > MAX_COLUMNS:
            self._reject(self.header_row, f"more than {MAX_COLUMNS} columns; keep those needed")
        verify_distinct(self.names, source=self._where)

    def _verify_named(self, rows: Sequence[list[_Cell]], numbers: Sequence[int]) -> None:
        """What stands beside the named columns would be lost without a word."""
        width = len(self.names)
        if max(map(len, rows)) <= width:
            return
        for row, cells in zip(numbers, rows, strict=True):
            if len(cells) > width and any(map(_filled, cells[width:])):
                place = next(n for n, cell in enumerate(cells) if n >= width and _filled(cell))
                self._reject(
                    row,
                    f"cell {self._cell(place, row)} is filled and its column has no name; name it "
                    f"in row {self.header_row + 1}, or, where that is a title, say which row "
                    "names the columns, as in header=2",
                )

    def _verify_not_merged(self, places: Sequence[int]) -> None:
        for (top, left), (bottom, right) in self._merged:
            touched = any(left <= self.first_column + place <= right for place in places)
            if bottom > self.header_row and touched and (bottom > top or right > left):
                first = f"{column_letters(left)}{top + 1}"
                self._reject(
                    top,
                    f"cells {first} to {column_letters(right)}{bottom + 1} are merged, so all but "
                    "the first are empty; unmerge them and fill each",
                )

    def _cell(self, place: int, row: int) -> str:
        return f"{column_letters(self.first_column + place)}{row + 1}"

    def _reject(self, row: int, what: str) -> NoReturn:
        raise InputRejected(f"{self._where}, row {row + 1} of the sheet: {what}") from None


class Spreadsheet(LocalFile):
    """One sheet of a workbook: the one named, or the only visible one that is filled.

    `header` is the row of the sheet that names the columns, from 1; the first filled one if None.
    """

    def __init__(self, path: Path, *, sheet: str | None = None, header: int | None = None) -> None:
        super().__init__(path)
        self._sheet, self._header = sheet, header
        self._known: tuple[Stamp, str, tuple[str, ...]] | None = None

    def schema(self) -> pa.Schema:
        stamp = self.stamp()
        if self._known is None or self._known[0] != stamp:
            self._load(stamp)
        assert self._known is not None
        return pa.schema([(name, pa.string()) for name in self._known[2]])

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        stamp = self.stamp()
        table, extent_failed = self._load(stamp)
        verify_readable(columns, where, table.names, source=self.name)

        def batches(names: list[str]) -> Iterator[pa.RecordBatch]:
            self._verify_no_failures(table, extent_failed, names)
            yield from self.whole(table.batches(names), stamp)

        return filtered(batches, columns, where)

    def description(self) -> Mapping[str, str]:
        self.schema()
        assert self._known is not None
        kind = "OpenDocument spreadsheet" if self._ending() == ".ods" else "Excel"
        return {"format": kind, "sheet": self._known[1]}

    def _ending(self) -> str:
        return self.path.suffix.lower()

    def _load(self, stamp: Stamp) -> tuple[_Table, dict[int, int]]:
        if stamp.size > MAX_FILE_BYTES:
            raise InputRejected(
                f"{self.name} is larger than {MAX_FILE_BYTES >> 20} MiB; a spreadsheet is loaded "
                "whole: save it as CSV UTF-8 or Parquet"
            )
        with reading(self.path):
            if self._ending() != ".xls":
                verify_archive(self.path)
            if self._ending() == ".ods" and (count := failed_formulas_of_ods(self.path)):
                raise InputRejected(
                    f"{self.name} has {count} cell(s) whose formula failed (#N/A, #REF!…); repair "
                    "them, or enter values instead"
                )
            failed: dict[int, int] = {}
            try:
                with calamine.CalamineWorkbook.from_path(str(self.path)) as workbook:
                    name = self._choose(workbook)
                    if self._ending() in (".xlsx", ".xlsm"):
                        failed = self._verified_extent(name)
                    sheet = workbook.get_sheet_by_name(name)
                    table = _Table(sheet, self._header_index(), f"{self.name}, sheet {name}")
            except calamine.PasswordError:
                raise InputRejected(
                    f"{self.name} is protected by a password; save it without one"
                ) from None
            except calamine.CalamineError:
                raise damaged(self.path) from None
            except BaseException as err:
                # What the reader's own language calls a panic comes as no Exception.
                if type(err).__name__ != "PanicException":
                    raise
                raise damaged(self.path) from None
        self._known = stamp, name, table.names
        return table, failed

    def _header_index(self) -> int | None:
        return None if self._header is None else self._header - 1

    def _verified_extent(self, sheet: str) -> dict[int, int]:
        extent = sheet_extent(self.path, sheet)
        if extent is None:
            return {}
        if extent.rows * extent.columns > MAX_CELLS:
            raise InputRejected(
                f"{self.name}, sheet {sheet} reaches to cell "
                f"{column_letters(extent.columns - 1)}{extent.rows}, more than can be loaded; "
                "delete what lies beyond the table, or save it as CSV UTF-8 or Parquet"
            )
        return extent.failed

    def _choose(self, workbook: calamine.CalamineWorkbook) -> str:
        sheets = [one for one in workbook.sheets_metadata if "WorkSheet" in str(one.typ)]
        names = [one.name for one in sheets][:_MAX_SHEETS]
        if self._sheet is not None:
            if self._sheet in names:
                return self._sheet
            raise InputRejected(
                f"{self.name} has no sheet {self._sheet[:100]}; it has {', '.join(names)}"
            )
        visible = [one.name for one in sheets if str(one.visible).endswith(".Visible")]
        if len(visible) > 1:
            visible = [name for name in visible[:_MAX_SHEETS] if self._is_filled(workbook, name)]
        if len(visible) == 1:
            return visible[0]
        what = "several filled sheets" if visible else "no visible sheet that is filled"
        raise InputRejected(
            f"{self.name} has {what}; name one of {', '.join(names)}, as in "
            f"file:{self.path}?sheet={(visible or names or [''])[0]}"
        )

    def _is_filled(self, workbook: calamine.CalamineWorkbook, name: str) -> bool:
        if self._ending() in (".xlsx", ".xlsm"):
            extent = sheet_extent(self.path, name)
            return extent is None or extent.rows > 0
        return workbook.get_sheet_by_name(name).start is not None

    def _verify_no_failures(
        self, table: _Table, failed: Mapping[int, int], columns: Sequence[str]
    ) -> None:
        for name in columns:
            place = table.first_column + table.names.index(name)
            row = failed.get(place)
            if row is not None and row > table.header_row:
                raise InputRejected(
                    f"{self.name}, row {row + 1} of the sheet: the formula in column {name} failed "
                    "(#N/A, #REF!…); repair it, or enter a value instead"
                )


def open_spreadsheet(path: Path, options: Mapping[str, str]) -> Spreadsheet:
    """The sheet that the options `sheet` and `header` name. Raises InputRejected for others."""
    header = options.get("header")
    if header is not None and not re.fullmatch(r"[1-9][0-9]{0,6}", header):
        raise InputRejected(
            f"{path.name}: header= is the row that names the columns, from 1; for example header=2"
        )
    return Spreadsheet(
        path, sheet=options.get("sheet"), header=None if header is None else int(header)
    )


def _filled(cell: _Cell) -> bool:
    return cell != "" and not (isinstance(cell, str) and cell.isspace())


def _text(cell: _Cell) -> str:
    """A cell as people read it. Raises where its last digits are gone."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float | int):
        return _number(float(cell))
    if isinstance(cell, datetime.datetime):
        midnight = cell.time() == datetime.time()
        return cell.date().isoformat() if midnight else cell.isoformat(" ", "seconds")
    return cell.isoformat() if isinstance(cell, datetime.date | datetime.time) else str(cell)


def _number(cell: float) -> str:
    if abs(cell) >= _LOST:
        raise _LostDigitsError
    if cell.is_integer():
        return str(int(cell))
    # Fifteen digits are what a spreadsheet shows and keeps: 0.1 + 0.2 is 0.3 there.
    text = f"{cell:.15g}"
    return text if _PLAIN_NUMBER.fullmatch(text) else format(Decimal(text), "f")
