"""Files as sources: delimited text, Parquet, JSON lines.

Delimited text and JSON lines give text columns only, exactly as written: an identity number read as
a number would lose its leading zeros, or digits. Parquet keeps its types.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from connectors import delimited
from connectors.conditions import Where, filtered, verify_readable
from connectors.errors import InputRejected, Unavailable
from connectors.names import verify_distinct

# Rows per batch: large enough to amortise Python's per-batch cost, a few MB of text at most.
BATCH_ROWS = 65_536
# The first rows tell which columns a JSON lines file has.
JSON_SCHEMA_ROWS = 1_000
# A longer line is a broken file, and would be held in memory whole.
MAX_JSON_LINE_BYTES = 4 * 1024 * 1024
_HASH_BLOCK_BYTES = 1 << 20

# Numbers stay as their digits: a float would lose those of an identity number.
_AS_WRITTEN = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
_ENCODINGS = {"utf-8-sig": "UTF-8", "gb18030": "GBK (GB 18030)"}
_DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar"}
_EXCEL = frozenset({".xls", ".xlsx", ".xlsm", ".et"})


class _File:
    """What all file formats share: a name, a digest, and errors that name the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return self.path.name

    def version(self) -> str:
        """SHA-256 over the bytes of the file, read anew on every call."""
        digest = hashlib.sha256()
        with reading(self.path), self.path.open("rb") as file:
            while block := file.read(_HASH_BLOCK_BYTES):
                digest.update(block)
        return f"sha256:{digest.hexdigest()}"


class DelimitedFile(_File):
    """CSV or TSV; encoding and delimiter are found out. Every column is text, none is null."""

    def schema(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self._layout().columns])

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        layout = self._layout()
        verify_readable(columns, where, layout.columns, source=self.name)
        return filtered(lambda names: self._batches(layout, names), columns, where)

    def description(self) -> Mapping[str, str]:
        layout = self._layout()
        return {
            "format": "delimited text",
            "encoding": _ENCODINGS[layout.encoding],
            "delimiter": _DELIMITERS[layout.delimiter],
        }

    def _layout(self) -> delimited.Layout:
        with reading(self.path):
            return delimited.detect(self.path)

    def _batches(
        self, layout: delimited.Layout, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        batches = delimited.batches(self.path, layout, columns)
        yield from _never_empty(_guarded(self.path, batches), self.name)


class ParquetFile(_File):
    """Apache Parquet; columns keep their types."""

    def schema(self) -> pa.Schema:
        with self._open() as file:
            return file.schema_arrow

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        verify_readable(columns, where, self.schema().names, source=self.name)
        return filtered(lambda names: _never_empty(self._batches(names), self.name), columns, where)

    def description(self) -> Mapping[str, str]:
        return {"format": "Parquet"}

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with self._open() as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns)):
                yield batch.select(list(columns))

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        with reading(self.path):
            try:
                with pq.ParquetFile(self.path) as file:
                    verify_distinct(file.schema_arrow.names, source=self.name)
                    yield file
            except (pa.ArrowException, OSError, UnicodeDecodeError) as err:
                # Arrow reports damaged pages as I/O errors, but without the system's number.
                if isinstance(err, OSError) and err.errno is not None:
                    raise
                raise InputRejected(
                    f"{self.name} is not a readable Parquet file; write it again, or name the file "
                    "by what it is (.csv, .jsonl)"
                ) from err


class JsonLinesFile(_File):
    """One JSON object a line. Scalars become text as written, null and absent become null."""

    def schema(self) -> pa.Schema:
        names: dict[str, None] = {}
        with reading(self.path):
            for number, row in enumerate(self._rows(), start=1):
                names.update(dict.fromkeys(row))
                if number == JSON_SCHEMA_ROWS:
                    break
        if not names:
            raise InputRejected(f"{self.name} has no rows; write one JSON object on each line")
        return pa.schema([(name, pa.string()) for name in names])

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        verify_readable(columns, where, self.schema().names, source=self.name)
        return filtered(lambda names: _guarded(self.path, self._batches(names)), columns, where)

    def description(self) -> Mapping[str, str]:
        return {"format": "JSON lines", "encoding": "UTF-8"}

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        cells: dict[str, list[str | None]] = {name: [] for name in columns}
        held = 0
        for number, row in enumerate(self._rows(), start=1):
            for name in columns:
                cells[name].append(self._text(row.get(name), number, name))
            held += 1
            if held == BATCH_ROWS:
                yield _text_batch(cells)
                cells = {name: [] for name in columns}
                held = 0
        if held:
            yield _text_batch(cells)

    def _rows(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_JSON_LINE_BYTES):
                if len(line) == MAX_JSON_LINE_BYTES:
                    self._reject_row(number + 1, f"is longer than {MAX_JSON_LINE_BYTES} bytes")
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
                if not text.strip():
                    continue
                number += 1
                yield self._row(text, number)

    def _row(self, text: bytes, number: int) -> dict[str, Any]:
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


FORMATS: Mapping[str, Callable[[Path], DelimitedFile | ParquetFile | JsonLinesFile]] = {
    ".csv": DelimitedFile,
    ".tsv": DelimitedFile,
    ".tab": DelimitedFile,
    ".txt": DelimitedFile,
    ".parquet": ParquetFile,
    ".jsonl": JsonLinesFile,
    ".ndjson": JsonLinesFile,
}


def open_file(url: str) -> DelimitedFile | ParquetFile | JsonLinesFile:
    """The file at `file:///abs/x.csv` or a plain path; its ending tells the format.

    Raises InputRejected where it is missing, not a file, or of a format not known here.
    """
    path, options = split_file_url(url, scheme="file")
    if options:
        raise InputRejected(f"{path.name}: file: takes no options, found {', '.join(options)}")
    return open_path(path)


def open_path(path: Path) -> DelimitedFile | ParquetFile | JsonLinesFile:
    """As `open_file`, for a path."""
    verify_is_file(path)
    ending = path.suffix.lower()
    if ending in _EXCEL:
        raise InputRejected(
            f"{path.name} is a spreadsheet; save it as CSV UTF-8, with identifier columns as text"
        )
    kind = FORMATS.get(ending)
    if kind is None:
        raise InputRejected(
            f"{path.name}: the format of a file is told by its ending; use one of "
            f"{', '.join(FORMATS)}"
        )
    return kind(path)


def split_file_url(url: str, *, scheme: str) -> tuple[Path, dict[str, str]]:
    """Path and options of `scheme:/path?name=value`; anything without the scheme is a plain path.

    Raises InputRejected for another host than this one, no path, or an option given twice.
    """
    if not url.lower().startswith(f"{scheme}:"):
        return _path(url), {}
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise InputRejected(
            f"{scheme}: reads files of this machine only, found the host {parts.netloc}; "
            f"write {scheme}:///absolute/path"
        )
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) < len(pairs):
        raise InputRejected(f"{scheme}: an option is given twice; give each once")
    return _path(unquote(parts.path)), options


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise InputRejected("the path of a data file is empty or malformed; name a file")
    return Path(text)


def verify_is_file(path: Path) -> None:
    """Raises InputRejected unless `path` is an existing file."""
    try:
        is_file, is_directory = path.is_file(), path.is_dir()
    except OSError as err:
        raise InputRejected(f"{path.name} cannot be looked up ({err.strerror})") from err
    if is_directory:
        raise InputRejected(f"{path.name} is a directory; name one file in it")
    if not is_file:
        raise InputRejected(
            f"there is no file {path.name} in {path.parent}; check the path, "
            "relative ones start where the program was started"
        )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the operating system's errors into ours, naming the file."""
    try:
        yield
    except FileNotFoundError as err:
        raise InputRejected(f"{path.name} is no longer there; check the path") from err
    except PermissionError as err:
        raise InputRejected(
            f"{path.name} may not be read by this program; allow its user to read the file"
        ) from err
    except IsADirectoryError as err:
        raise InputRejected(f"{path.name} is a directory; name one file in it") from err
    except OSError as err:
        cause = err.strerror or "I/O error"
        raise Unavailable(f"{path.name} could not be read or written: {cause}") from err


def _text_batch(cells: Mapping[str, list[str | None]]) -> pa.RecordBatch:
    arrays = [pa.array(column, type=pa.string()) for column in cells.values()]
    return pa.RecordBatch.from_arrays(arrays, names=list(cells))


def _guarded(path: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    # A generator that only wraps: the file is opened when the first batch is asked for.
    with reading(path):
        yield from batches


def _never_empty(batches: Iterator[pa.RecordBatch], name: str) -> Iterator[pa.RecordBatch]:
    some = False
    for batch in batches:
        if batch.num_rows:
            some = True
            yield batch
    if not some:
        raise InputRejected(f"{name} has columns but no rows; fill it, or name another file")
