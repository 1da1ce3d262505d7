"""JSON lines as a source: one flat JSON object on each line, its scalars as text as written.

A block of plain lines is read by Arrow, at many times the speed of Python: columns that hold only
text, or only whole numbers of 64 bits, whose digits come back as they were. Every other block is
read line by line, and so is one in which Arrow meets anything odd: what a block gives does not
depend on how it was read, and a malformed line is named by its number.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Final, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from connectors.conditions import Where, filtered, verify_readable
from connectors.delimited import verify_utf_8
from connectors.errors import InputRejected
from connectors.local_file import LocalFile, Stamp, open_bytes, reading

# The first rows tell which columns a file has, and what they hold.
SCHEMA_ROWS: Final = 1_000
# A longer line is a broken file, and would be held in memory whole.
MAX_LINE_BYTES: Final = 4 * 1024 * 1024
# What is read at once: some ten thousand rows.
_BLOCK_BYTES: Final = 2 * 1024 * 1024
# Blocks read while another one is used.
_AHEAD: Final = 2
_BOM: Final = b"\xef\xbb\xbf"

# Numbers stay as their digits: a float would lose those of an identity number.
_AS_WRITTEN: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
# The same, telling numbers and text apart.
_TELLING: Final = json.JSONDecoder(parse_int=lambda _: 0, parse_float=lambda _: 0.0)
# Half a character by escape, which no text column can hold; and the one whole number whose digits
# Arrow would not give back.
_SURROGATE: Final = re.compile(rb"\\u[dD][89abAB]")
_MINUS_ZERO: Final = re.compile(rb":\s*-0\s*[,}]")
_KINDS: Final[Mapping[type, pa.DataType]] = {str: pa.string(), int: pa.int64()}


class JsonLinesFile(LocalFile):
    """One JSON object a line. Scalars become text as written, null and absent become null."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._known: tuple[Stamp, dict[str, pa.DataType | None]] | None = None

    def schema(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self._columns(self.stamp())])

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        stamp = self.stamp()
        kinds = self._columns(stamp)
        verify_readable(columns, where, list(kinds), source=self.name)

        def read(names: list[str]) -> Iterator[pa.RecordBatch]:
            return self.whole(self._batches({name: kinds[name] for name in names}), stamp)

        return filtered(read, columns, where)

    def description(self) -> Mapping[str, str]:
        return {"format": "JSON lines", "encoding": "UTF-8"}

    def _columns(self, stamp: Stamp) -> dict[str, pa.DataType | None]:
        """The columns, and what Arrow could read each as: None where it cannot."""
        if self._known is not None and self._known[0] == stamp:
            return self._known[1]
        found: dict[str, set[type]] = {}
        with reading(self.path):
            lines = ((first + n, line) for first, block in self._blocks() for n, line in block)
            for number, line in islice(lines, SCHEMA_ROWS):
                for name in self._row(line, number):
                    found.setdefault(name, set())
                for name, value in _TELLING.decode(line.decode("utf-8")).items():
                    found[name].add(type(value))
        if not found:
            raise InputRejected(f"{self.name} has no rows; write one JSON object on each line")
        kinds = {name: _kind(types - {type(None)}) for name, types in found.items()}
        self._known = stamp, kinds
        return kinds

    def _batches(self, kinds: Mapping[str, pa.DataType | None]) -> Iterator[pa.RecordBatch]:
        schema = None
        if all(kind is not None for kind in kinds.values()):
            schema = pa.schema(list(kinds.items()))
        # Arrow reads a block on one core; the next ones are read meanwhile on the others.
        with ThreadPoolExecutor(_AHEAD) as pool:
            begun: deque[tuple[int, _Block, Future[pa.RecordBatch | None]]] = deque()
            for first, block in self._blocks():
                begun.append((first, block, pool.submit(_at_once, block, schema)))
                if len(begun) > _AHEAD:
                    yield self._ended(*begun.popleft(), list(kinds))
            while begun:
                yield self._ended(*begun.popleft(), list(kinds))

    def _ended(
        self, first: int, block: _Block, begun: Future[pa.RecordBatch | None], columns: list[str]
    ) -> pa.RecordBatch:
        batch = begun.result()
        return self._line_by_line(block, first, columns) if batch is None else batch

    def _line_by_line(self, block: _Block, first: int, columns: list[str]) -> pa.RecordBatch:
        cells: dict[str, list[str | None]] = {name: [] for name in columns}
        for place, line in block:
            row = self._row(line, first + place)
            for name in columns:
                cells[name].append(self._text(row.get(name), first + place, name))
        arrays = [pa.array(column, type=pa.string()) for column in cells.values()]
        return pa.RecordBatch.from_arrays(arrays, names=columns)

    def _blocks(self) -> Iterator[tuple[int, _Block]]:
        """Whole lines in blocks, each with the number of its first row."""
        number, rest, started = 1, b"", False
        with open_bytes(self.path) as file:
            while content := file.read(_BLOCK_BYTES):
                if not started:
                    content, started = content.removeprefix(_BOM), True
                head, newline, tail = content.rpartition(b"\n")
                if not newline:
                    rest += tail
                    head = b""
                else:
                    head, rest = rest + head + newline, tail
                block = _Block(head)
                if len(rest) >= MAX_LINE_BYTES:
                    self._reject_row(number + block.count, f"is longer than {MAX_LINE_BYTES} bytes")
                if block.count:
                    yield number, block
                    number += block.count
        if rest.strip():
            yield number, _Block(rest + b"\n")

    def _row(self, text: bytes, number: int) -> dict[str, Any]:
        if len(text) >= MAX_LINE_BYTES:
            self._reject_row(number, f"is longer than {MAX_LINE_BYTES} bytes")
        row: object = None
        try:
            row = _AS_WRITTEN.decode(text.decode("utf-8"))
            if b"\\u" in text:
                # An escape can name half a character, which no text column can hold.
                json.dumps(row, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError):
            # The decoder's own error holds the line, which may be someone's data.
            self._reject_row(number, "is not JSON")
        if not isinstance(row, dict):
            self._reject_row(number, "is not a JSON object")
        return row

    def _text(self, value: object, number: int, column: str) -> str | None:
        if value is None or isinstance(value, str):
            return value
        if not isinstance(value, bool):
            self._reject_row(number, f"holds a list or an object in column {column}")
        return "true" if value else "false"

    def _reject_row(self, number: int, what: str) -> NoReturn:
        raise InputRejected(
            f"{self.name}, row {number} {what}; write one flat JSON object on each line, in UTF-8"
        ) from None


class _Block:
    """Some whole lines; iterating gives those that are not blank, numbered from 0."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        # Blank lines are no rows; where each line starts with a brace there are none.
        self.plain = _is_plain(content)
        self.count = content.count(b"\n") if self.plain else sum(1 for _ in self)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        filled = (line for line in self.content.split(b"\n") if line.strip())
        return enumerate(filled)


def _is_plain(content: bytes) -> bool:
    """Every line is one pair of braces: with no other brace in it, nothing is nested and no object
    shares a line with another or stands on two."""
    lines = content.count(b"\n")
    return (
        content.startswith(b"{")
        and content.endswith(b"}\n")
        and content.count(b"}\n{") == lines - 1
        and content.count(b"{") == lines
        and b"[" not in content
    )


def _at_once(block: _Block, schema: pa.Schema | None) -> pa.RecordBatch | None:
    """The block read by Arrow, all columns text; None where it has to be read line by line."""
    content = block.content
    if schema is None or not block.plain or _SURROGATE.search(content):
        return None
    try:
        verify_utf_8(content, 0, len(content))
        table = pajson.read_json(
            pa.BufferReader(content),
            read_options=pajson.ReadOptions(block_size=len(content) + 1, use_threads=False),
            parse_options=pajson.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    if table.num_rows != block.count:
        return None
    arrays = []
    for name in schema.names:
        column = table.column(name).combine_chunks()
        if pa.types.is_integer(column.type):
            if pc.any(pc.equal(column, 0)).as_py() and _MINUS_ZERO.search(content):
                return None
            column = column.cast(pa.string())
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, names=schema.names)


def _kind(types: set[type]) -> pa.DataType | None:
    return _KINDS.get(types.pop()) if len(types) == 1 else None
