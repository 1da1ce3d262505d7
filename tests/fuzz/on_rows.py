"""Targets of data sources: files of every form, identifiers, addresses, messages of a stream."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.errors import ConnectorError, InputRejected
from connectors.identifiers.registry import canonicalise, canonicalisers
from connectors.source import open_source
from connectors.table import extract
from connectors.use import Use
from tests.fuzz.altering import Alter, cells, lines, octets
from tests.fuzz.target import Prepared, Target

CSV = """resident_id,district,cost
11010519491231002X,north,12.50
440524188001010014,south,7
"\u5f20,\u4e09","a ""quoted"" one",-3
"""
USE = Use(purpose="research", recipient="did:web:a", at=datetime(2026, 1, 1, tzinfo=UTC))


def _file(name: str, examples: list[bytes], alter: Alter, special: list[bytes] | None = None):  # type: ignore[no-untyped-def]
    """Reads a file of that name whole, as a dataset and as a computation's identifiers."""

    def prepare() -> Prepared:
        file = Path(tempfile.mkdtemp(prefix="fuzz-rows-")) / name

        def read(given: bytes) -> None:
            file.write_bytes(given)
            source = open_source(str(file))
            names = source.schema().names
            for batch in source.scan(names):
                batch.to_pylist()
            if "resident_id" in names:
                extract(
                    source,
                    identifier="resident_id",
                    value=None,
                    group=None,
                    canonicaliser="resident-id/1",
                    use=USE,
                    max_rows=100_000,
                )

        return Prepared(read=read, examples=examples, alter=alter, special=special or [])

    return prepare


def _parquet() -> bytes:
    table = pa.table({"resident_id": ["11010519491231002X", None], "cost": [1.5, 2.0]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _workbook() -> bytes:
    import xlsxwriter

    sink = io.BytesIO()
    book = xlsxwriter.Workbook(sink, {"in_memory": True})
    sheet = book.add_worksheet("rows")
    for at, row in enumerate((["resident_id", "cost"], ["11010519491231002X", 1.5])):
        sheet.write_row(at, 0, row)
    book.close()
    return sink.getvalue()


def _bombed_workbook() -> bytes:
    """A workbook whose sheet of a few kilobytes unpacks to half a gigabyte."""
    sink = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(_workbook())) as plain,
        zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as bomb,
    ):
        for name in plain.namelist():
            content = plain.read(name)
            if name.endswith("sheet1.xml"):
                content = content.replace(b"</sheetData>", b" " * (512 << 20) + b"</sheetData>")
            bomb.writestr(name, content)
    return sink.getvalue()


def _identifiers() -> Prepared:
    def read(given: bytes) -> None:
        text = given.decode("utf-8", "replace")
        refused = 0
        for name in canonicalisers():
            try:
                canonical = canonicalise(name, text)
                assert canonicalise(name, canonical) == canonical, f"{name} is not idempotent"
            except ConnectorError:
                refused += 1
        if refused == len(canonicalisers()):
            raise InputRejected("no identifier of any sort")

    examples = (
        "11010519491231002X",
        "+86 138 0013 8000",
        "91350100M000100Y43",
        "粤B12345",
        "张三",
        "a@b.example",
        "2026-01-02",
        "440305001",
    )
    return Prepared(read=read, examples=[one.encode() for one in examples], alter=octets)


def _addresses() -> Prepared:
    directory = Path(tempfile.mkdtemp(prefix="fuzz-addresses-"))
    (directory / "a.csv").write_text(CSV, encoding="utf-8")
    examples = (
        f"{directory}/a.csv",
        f"file:{directory}/a.csv?encoding=gb18030",
        "sqlite:///nowhere.sqlite?table=people",
        "postgresql://user@127.0.0.1:1/db?table=a&secret=env:X",
        "s3://bucket/key.parquet?endpoint=http://127.0.0.1:1",
        "https://127.0.0.1:1/a.csv",
        "ogc:https://127.0.0.1:1/collections/a",
    )
    return Prepared(
        read=lambda given: open_source(given.decode("utf-8", "replace")),
        examples=[f"{directory}/a.csv".encode()],
        alter=lambda rng, _: octets(rng, rng.choice(examples).encode()),
    )


def _bombed_gzip() -> bytes:
    return gzip.compress(b"resident_id\n" + b"1" * (64 << 20), compresslevel=9)


JSON_LINES = "\n".join(
    json.dumps(one)
    for one in (
        {"resident_id": "11010519491231002X", "cost": 1.50, "n": None},
        {"resident_id": "440524188001010014", "cost": 2, "n": "x"},
    )
).encode()

TARGETS = (
    Target("csv", "a CSV file", _file("a.csv", [CSV.encode()], cells)),
    Target("tsv", "a TSV file", _file("a.tsv", [CSV.replace(",", "\t").encode()], lines)),
    Target("json-lines", "a file of JSON lines", _file("a.jsonl", [JSON_LINES], lines)),
    Target("parquet", "a Parquet file", _file("a.parquet", [_parquet()], octets)),
    Target(
        "workbooks",
        "a spreadsheet",
        lambda: _file("a.xlsx", [_workbook()], octets, [_bombed_workbook()])(),
    ),
    Target(
        "packed",
        "a packed CSV file",
        lambda: _file("a.csv.gz", [gzip.compress(CSV.encode())], octets, [_bombed_gzip()])(),
    ),
    Target("identifiers", "identifiers of every sort", _identifiers),
    Target("addresses", "the address of a source", _addresses),
)
