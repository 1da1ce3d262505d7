"""Files as sources: delimited text, Parquet, JSON lines, spreadsheets.

Delimited text and JSON lines give text columns only, exactly as written: an identity number read as
a number would lose its leading zeros, or digits. Parquet keeps its types. Text may be packed by
gzip, which the ending .gz tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from connectors import delimited
from connectors.conditions import Where, filtered, verify_readable
from connectors.errors import InputRejected
from connectors.json_lines import JsonLinesFile
from connectors.local_file import GZIP, LocalFile, Stamp
from connectors.local_file import reading as reading
from connectors.local_file import verify_is_file as verify_is_file
from connectors.names import verify_distinct
from connectors.spreadsheet import ENDINGS as SPREADSHEETS
from connectors.spreadsheet import OPTIONS as SPREADSHEET_OPTIONS
from connectors.spreadsheet import Spreadsheet, open_spreadsheet

# Rows per batch: large enough to amortise Python's per-batch cost, a few MB of text at most.
BATCH_ROWS = 65_536
_ENCODINGS = {"utf-8-sig": "UTF-8", "gb18030": "GBK (GB 18030)", "utf-16": "UTF-16"}
_DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar"}


class DelimitedFile(LocalFile):
    """CSV or TSV; encoding and delimiter are found out. Every column is text, none is null."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._known: tuple[Stamp, delimited.Layout] | None = None

    def schema(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self._layout(self.stamp()).columns])

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        stamp = self.stamp()
        layout = self._layout(stamp)
        verify_readable(columns, where, layout.columns, source=self.name)

        def read(names: list[str]) -> Iterator[pa.RecordBatch]:
            return self.whole(delimited.batches(self.path, layout, names), stamp)

        return filtered(read, columns, where)

    def description(self) -> Mapping[str, str]:
        layout = self._layout(self.stamp())
        return {
            "format": "delimited text",
            "encoding": _ENCODINGS[layout.encoding],
            "delimiter": _DELIMITERS[layout.delimiter],
        }

    def _layout(self, stamp: Stamp) -> delimited.Layout:
        # Finding out reads the whole file; a file that is still the same is not read again.
        if self._known is None or self._known[0] != stamp:
            with reading(self.path):
                self._known = stamp, delimited.detect(self.path)
        return self._known[1]


class ParquetFile(LocalFile):
    """Apache Parquet; columns keep their types."""

    def schema(self) -> pa.Schema:
        with self._open() as file:
            return file.schema_arrow

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        stamp = self.stamp()
        verify_readable(columns, where, self.schema().names, source=self.name)
        return filtered(lambda names: self.whole(self._batches(names), stamp), columns, where)

    def description(self) -> Mapping[str, str]:
        return {"format": "Parquet"}

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with self._open() as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns)):
                # Arrow takes any bytes for text until somebody looks at them.
                batch.validate(full=True)
                yield batch.select(list(columns))

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        with reading(self.path):
            try:
                # Buffered ahead, what was read of a file would stay in memory until its end.
                with pq.ParquetFile(self.path, pre_buffer=False) as file:
                    verify_distinct(file.schema_arrow.names, source=self.name)
                    yield file
            except (pa.ArrowException, OSError, UnicodeDecodeError, KeyError) as err:
                # Arrow reports damaged pages as I/O errors, but without the system's number.
                if isinstance(err, OSError) and err.errno is not None:
                    raise
                raise InputRejected(
                    f"{self.name} is not a readable Parquet file; write it again, or name the file "
                    "by what it is (.csv, .jsonl)"
                ) from err


FileSource: TypeAlias = DelimitedFile | ParquetFile | JsonLinesFile | Spreadsheet
_TEXT: Mapping[str, Callable[[Path], FileSource]] = {
    ".csv": DelimitedFile,
    ".tsv": DelimitedFile,
    ".tab": DelimitedFile,
    ".txt": DelimitedFile,
    ".jsonl": JsonLinesFile,
    ".ndjson": JsonLinesFile,
}
FORMATS: Mapping[str, Callable[[Path], FileSource]] = {
    **_TEXT,
    ".parquet": ParquetFile,
    **dict.fromkeys(SPREADSHEETS, Spreadsheet),
    **{f"{ending}{GZIP}": kind for ending, kind in _TEXT.items()},
}


def open_file(url: str) -> FileSource:
    """The file at `file:///abs/x.csv` or a plain path; its ending tells the format.

    A spreadsheet takes the options `sheet` (its name) and `header` (the row that names columns).
    Raises InputRejected for an ending that is unknown, an option that is, and a file that is not
    there.
    """
    path, options = split_file_url(url, scheme="file")
    return open_path(path, options)


def open_path(path: Path, options: Mapping[str, str] | None = None) -> FileSource:
    """As `open_file`, for a path and its options."""
    verify_is_file(path)
    options = options or {}
    ending = ending_of(path)
    kind = FORMATS.get(ending)
    if kind is None:
        raise InputRejected(
            f"{path.name}: the format of a file is told by its ending; use one of "
            f"{', '.join(FORMATS)}"
        )
    known = SPREADSHEET_OPTIONS if ending in SPREADSHEETS else frozenset()
    unknown = sorted(set(options) - known)
    if unknown:
        raise InputRejected(
            f"{path.name}: file: takes {', '.join(sorted(known)) or 'no options'} for {ending}, "
            f"found {', '.join(unknown)[:100]}"
        )
    return open_spreadsheet(path, options) if ending in SPREADSHEETS else kind(path)


def ending_of(path: Path) -> str:
    """What tells the format: the last ending in lower case, with the one before a .gz."""
    last = path.suffix.lower()
    return f"{path.with_suffix('').suffix.lower()}{last}" if last == GZIP else last


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
