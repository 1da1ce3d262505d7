"""The fastest bare libraries on the same files and tables: what a source is measured against.

Each reads every row of every column, as its library does it by itself: into Arrow where that is
what it gives, else into Python. Each returns how many rows came.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import adbc_driver_postgresql.dbapi
import adbc_driver_sqlite.dbapi
import duckdb
import httpx2
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.fs as pafs
import pyarrow.json as pajson
import pyarrow.parquet as pq
import pymysql
import pymysql.cursors
import python_calamine as calamine
from connectors_tables import COLUMNS

from tests.servers_databases import Database

Bare = Callable[[], int]


def csv(path: Path) -> dict[str, Bare]:
    text = pacsv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()))

    def streamed() -> int:
        reader = pacsv.open_csv(
            path,
            convert_options=text,
            # As RFC 4180 has it; without it a quoted line end is an error.
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
        )
        return sum(batch.num_rows for batch in reader)

    return {
        "pyarrow": streamed,
        "duckdb": lambda: _duckdb(f"SELECT * FROM read_csv('{path}', all_varchar = true)"),
    }


def parquet(path: Path) -> dict[str, Bare]:
    def streamed() -> int:
        with pq.ParquetFile(path) as file:
            return sum(batch.num_rows for batch in file.iter_batches())

    return {
        "pyarrow": streamed,
        "duckdb": lambda: _duckdb(f"SELECT * FROM read_parquet('{path}')"),
    }


def jsonl(path: Path) -> dict[str, Bare]:
    def standard() -> int:
        with path.open("rb") as file:
            return sum(1 for line in file if json.loads(line))

    columns = ", ".join(f"'{name}': 'VARCHAR'" for name in COLUMNS)
    sql = f"SELECT * FROM read_json('{path}', format = 'nd', columns = {{{columns}}})"
    return {
        "pyarrow": lambda: sum(batch.num_rows for batch in pajson.open_json(path)),
        "duckdb": lambda: _duckdb(sql),
        "json of Python": standard,
    }


def xlsx(path: Path) -> dict[str, Bare]:
    def rows() -> int:
        with calamine.CalamineWorkbook.from_path(path) as book:
            return sum(1 for _ in book.get_sheet_by_index(0).iter_rows()) - 1

    return {"calamine": rows}


def sqlite(path: Path) -> dict[str, Bare]:
    def read() -> int:
        with adbc_driver_sqlite.dbapi.connect(str(path)) as connection:
            return _adbc(connection)

    return {"ADBC": read}


def postgresql(server: Database) -> dict[str, Bare]:
    def read() -> int:
        uri = f"postgresql://reader:{server.password('reader')}@127.0.0.1:{server.port}/city"
        with adbc_driver_postgresql.dbapi.connect(uri) as connection:
            return _adbc(connection)

    return {"ADBC": read}


def mariadb(server: Database) -> dict[str, Bare]:
    def read() -> int:
        connection = pymysql.connect(
            host="127.0.0.1",
            port=server.port,
            user="reader",
            password=server.password("reader"),
            database="city",
            charset="utf8mb4",
            cursorclass=pymysql.cursors.SSCursor,
        )
        count = 0
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT * FROM people")
            while rows := cursor.fetchmany(65_536):
                count += len(rows)
        return count

    return {"pymysql": read}


def bucket(endpoint: str) -> dict[str, Bare]:
    def read() -> int:
        store = pafs.S3FileSystem(
            access_key="key",
            secret_key="secret",
            endpoint_override=urlsplit(endpoint).netloc,
            scheme="http",
            region="us-east-1",
        )
        with (
            store.open_input_file("city/people.parquet") as file,
            pq.ParquetFile(file) as table,
        ):
            return sum(batch.num_rows for batch in table.iter_batches())

    return {"pyarrow.fs": read}


def api(url: str, size: int) -> dict[str, Bare]:
    """Pages of `size` rows, one after the other over one connection."""

    def read() -> int:
        count = 0
        with httpx2.Client(trust_env=False) as http:
            while items := _items(http, url, count, size):
                count += len(items)
                if len(items) < size:
                    break
        return count

    return {"httpx2 and json": read}


def _items(http: httpx2.Client, url: str, offset: int, size: int) -> list[Any]:
    assert not parse_qs(urlsplit(url).query)
    answer = http.get(url, params={"offset": offset, "limit": size})
    items: list[Any] = answer.json()["data"]["items"]
    return items


def _duckdb(sql: str) -> int:
    with duckdb.connect() as connection:
        reader = connection.sql(sql).to_arrow_reader(65_536)
        return sum(batch.num_rows for batch in reader)


def _adbc(connection: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM people")
        return sum(batch.num_rows for batch in cursor.fetch_record_batch())
