"""Delimited text: which encoding, which delimiter, which columns; then its rows as batches.

The dialect is RFC 4180 with any of four delimiters. UTF-8 (with or without a byte order mark) and
GBK (read as its superset GB 18030) are told apart by reading the file once: a long file may well
show its first Chinese character in the last row. UTF-16 tells by its byte order mark.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from connectors.errors import InputRejected
from connectors.local_file import GZIP, open_bytes, open_text
from connectors.names import verify_distinct

# A row must fit into one block, so this also bounds what an unclosed quote can swallow. Arrow reads
# some thirty blocks ahead.
BLOCK_BYTES = 1024 * 1024
_RAGGED = re.compile(r"Expected \d+ columns, got (\d+)")
# The order in which they are tried matters: GB 18030 reads most UTF-8 too, as other characters.
_UTF_8, _GB_18030 = "utf-8-sig", "gb18030"
DELIMITERS = (",", "\t", ";", "|")
MAX_COLUMNS = 2_000
_READ_BYTES = 1 << 20
_UTF_16 = "utf-16"
# Everything below the space but tab, line feed, vertical tab, form feed and carriage return.
_BINARY = re.compile("[\\x00-\\x08\\x0e-\\x1f]")
_BINARY_BYTES = re.compile(rb"[\x00-\x08\x0e-\x1f]")
# Eleven digits in a row are a telephone or identity number: a first row, not a column's name.
LOOKS_LIKE_DATA = re.compile(r"[0-9]{11}")
_SIGNATURES = (
    (b"PK\x03\x04", "a spreadsheet or an archive", "name a spreadsheet to end in .xlsx"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet", "name it to end in .xls"),
    (b"PAR1", "a Parquet file", "rename it to end in .parquet"),
    (b"\x1f\x8b", "compressed", "unpack it, or name it to end in .csv.gz"),
    (codecs.BOM_UTF32_LE, "UTF-32 text", "save it as CSV UTF-8"),
    (codecs.BOM_UTF32_BE, "UTF-32 text", "save it as CSV UTF-8"),
)


@dataclass(frozen=True)
class Layout:
    """How a delimited file is written. `encoding` is a name Python's codecs know.

    `skipped` counts the record that names the columns and the empty ones before it.
    """

    encoding: str
    delimiter: str
    columns: tuple[str, ...]
    skipped: int


def detect(path: Path) -> Layout:
    """Find encoding, delimiter and columns. Reads the file once; memory stays bounded.

    Raises InputRejected for an empty or binary file, one in neither encoding, or a header that is
    missing, blank, doubled or looks like data. May raise OSError.
    """
    encoding, odd_quotes = _encoding(path)
    delimiter, columns, skipped = _header(path, encoding)
    if odd_quotes:
        _verify_quotes_close(path, encoding, delimiter)
    if any(LOOKS_LIKE_DATA.search(column) for column in columns):
        raise InputRejected(
            f"{path.name} starts with data instead of column names; add a first line naming them"
        )
    if "" in columns:
        raise InputRejected(
            f"{path.name}: column {columns.index('') + 1} of {len(columns)} has no name; name "
            "every column in the first line"
        )
    if len(columns) > MAX_COLUMNS:
        raise InputRejected(
            f"{path.name} has {len(columns)} columns, more than {MAX_COLUMNS}; keep those needed"
        )
    verify_distinct(columns, source=path.name)
    return Layout(encoding, delimiter, columns, skipped)


def batches(path: Path, layout: Layout, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows as text columns, in the order of `columns`.

    Raises InputRejected naming the row that has too few or too many fields. May raise OSError.
    """
    if not _has_records_after_header(path, layout):
        # Without even a line end after the names, Arrow would complain about its block size.
        return
    single = len(layout.columns) == 1
    # Arrow unpacks by itself, without a Python object that its reading thread would have to free;
    # that it is no bomb was found out with the layout.
    packed = path.suffix.lower() == GZIP
    try:
        reader = pacsv.open_csv(
            pa.CompressedInputStream(pa.OSFile(str(path)), "gzip") if packed else path,
            read_options=pacsv.ReadOptions(
                # Arrow knows this one, and its byte order mark, by itself.
                encoding="utf8" if layout.encoding == _UTF_8 else layout.encoding,
                block_size=BLOCK_BYTES,
                column_names=list(layout.columns),
                skip_rows_after_names=layout.skipped,
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=layout.delimiter,
                newlines_in_values=True,
                # In a file of one column an empty line is a person without a number.
                ignore_empty_lines=not single,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types={name: pa.string() for name in layout.columns},
                include_columns=list(columns),
                strings_can_be_null=False,
            ),
        )
        yield from reader
    except pa.ArrowInvalid as err:
        # Arrow's own text shows the row, so only the number of its fields is taken from it. Its
        # handler for such rows is a Python object that a reading thread may have to free while the
        # interpreter is ending, which kills the process.
        ragged = _RAGGED.search(str(err))
        if ragged is not None:
            raise InputRejected(_ragged_message(path, layout, int(ragged[1]))) from None
        raise InputRejected(
            f"{path.name} is malformed: a row does not end within {BLOCK_BYTES >> 20} MiB; look "
            "for a quotation mark that is never closed"
        ) from None


def _has_records_after_header(path: Path, layout: Layout) -> bool:
    with open_text(path, layout.encoding) as text:
        records = csv.reader(text, delimiter=layout.delimiter)
        try:
            return next(islice(records, layout.skipped, None), None) is not None
        except csv.Error:
            return True


def _ragged_message(path: Path, layout: Layout, found: int) -> str:
    # The streaming reader does not number rows; the slow reader looks for the first odd one, and
    # stops where a field is longer than it can hold.
    wanted = len(layout.columns)
    where = "a row"
    with open_text(path, layout.encoding) as text, suppress(csv.Error):
        number = -1
        for fields in csv.reader(text, delimiter=layout.delimiter):
            number += bool(fields)
            if fields and len(fields) != wanted:
                where, found = f"row {number}", len(fields)
                break
    return (
        f"{path.name}, {where} (counted without the header): expected {wanted} fields, found "
        f"{found}; put fields that hold the delimiter into quotation marks"
    )


def _encoding(path: Path) -> tuple[str, bool]:
    """The encoding, and whether the number of quotation marks in the file is odd."""
    with open_bytes(path) as file:
        start = file.read(_READ_BYTES)
    if not start:
        raise InputRejected(
            f"{path.name} is empty; it needs a first line of column names, and rows"
        )
    _verify_text_signature(start, path.name)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _UTF_16, _odd_quotes_of_utf_16(path)
    if _BINARY_BYTES.search(start):
        raise _binary(path)
    for encoding, count_quotes in ((_UTF_8, _quotes_of_utf_8), (_GB_18030, _quotes_of_gb_18030)):
        try:
            return encoding, count_quotes(path) % 2 == 1
        except UnicodeDecodeError:
            continue
    raise InputRejected(f"{path.name} is neither UTF-8 nor GBK text; save it as CSV UTF-8")


def _quotes_of_utf_8(path: Path) -> int:
    """The number of quotation marks. Raises UnicodeDecodeError where it is not UTF-8."""
    quotes, rest = 0, b""
    for block in _blocks(path):
        quotes += _quotes(block, path)
        if not rest and block.isascii():
            continue
        # A character may begin in one block and end in the next; blocks are too long to be joined.
        start = 0
        while rest and start < len(block) and 0x80 <= block[start] < 0xC0 and len(rest) + start < 4:
            start += 1
        (rest + block[:start]).decode("utf-8")
        end = max(start, _last_whole_character(block))
        verify_utf_8(block, start, end)
        rest = block[end:]
    rest.decode("utf-8")
    return quotes


def verify_utf_8(block: bytes, start: int, end: int) -> None:
    """Raises UnicodeDecodeError unless `block[start:end]` is UTF-8."""
    # Arrow looks at the bytes where they are; decoding would make a string of them first.
    ends = pa.py_buffer(np.array([start, end], dtype=np.int32))
    try:
        pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(block)]).validate(full=True)
    except pa.ArrowInvalid:
        block[start:end].decode("utf-8")


def _last_whole_character(block: bytes) -> int:
    """Where the last character may begin that is not whole, if it is not; else the end."""
    for back in range(1, min(4, len(block)) + 1):
        if block[-back] < 0x80:
            return len(block) - back + 1
        if block[-back] >= 0xC0:
            return len(block) - back
    return len(block)


def _quotes_of_gb_18030(path: Path) -> int:
    """The number of quotation marks. Raises UnicodeDecodeError where it is not GB 18030."""
    decoder = codecs.getincrementaldecoder(_GB_18030)()
    quotes = 0
    for block in _blocks(path):
        quotes += _quotes(block, path)
        # Nothing but ASCII, and no character that began before it.
        if not block.isascii() or decoder.getstate()[0]:
            decoder.decode(block)
    decoder.decode(b"", final=True)
    return quotes


def _quotes(block: bytes, path: Path) -> int:
    # Binary data show in their first bytes, or by a byte that no text has.
    if 0 in block:
        raise _binary(path)
    return block.count(b'"') if b'"' in block else 0


def _odd_quotes_of_utf_16(path: Path) -> bool:
    quotes = 0
    try:
        with open_text(path, _UTF_16) as text:
            while block := text.read(_READ_BYTES):
                if _BINARY.search(block):
                    raise _binary(path)
                quotes += block.count('"')
    except UnicodeError:
        raise InputRejected(
            f"{path.name} is UTF-16 text that is cut off or damaged; save it as CSV UTF-8"
        ) from None
    return quotes % 2 == 1


def _binary(path: Path) -> InputRejected:
    return InputRejected(f"{path.name} holds binary data, not text; save it as CSV UTF-8")


def _blocks(path: Path) -> Iterator[bytes]:
    with open_bytes(path) as file:
        while block := file.read(_READ_BYTES):
            yield block


def _verify_quotes_close(path: Path, encoding: str, delimiter: str) -> None:
    # The fast reader takes the end of the file for the missing quotation mark, and would lose every
    # row after the open one without a word. A stray inch mark inside a field is no such case.
    started = 0
    try:
        with open_text(path, encoding) as text:
            for fields in csv.reader(text, delimiter=delimiter, strict=True):
                started += bool(fields)
    except csv.Error:
        raise InputRejected(
            f"{path.name}, row {max(started, 1)} (counted without the header) opens a quotation "
            "mark that is never closed; close it or remove it"
        ) from None


def _verify_text_signature(block: bytes, name: str) -> None:
    for signature, what, remedy in _SIGNATURES:
        if block.startswith(signature):
            raise InputRejected(f"{name} is {what}, not delimited text; {remedy}")


def _header(path: Path, encoding: str) -> tuple[str, tuple[str, ...], int]:
    """The delimiter that gives the first filled line most fields, those, and its number."""
    best: tuple[str, tuple[str, ...], int] = ("", (), 0)
    for delimiter in DELIMITERS:
        try:
            with open_text(path, encoding) as text:
                records = enumerate(csv.reader(text, delimiter=delimiter), start=1)
                number, first = next((record for record in records if record[1]), (0, []))
        except csv.Error:
            raise InputRejected(
                f"{path.name}: the line of column names cannot be read; look for a quotation mark "
                "that is never closed"
            ) from None
        if len(first) > len(best[1]):
            best = delimiter, tuple(name.strip() for name in first), number
    if not any(best[1]):
        raise InputRejected(f"{path.name} holds no column names; write them into the first line")
    return best
