"""The table that sources are measured on, and the files and servers it is put into.

A hundred thousand people of this city's making, repeated as often as it takes: five columns of the
kinds that a registry has.
"""

from __future__ import annotations

import csv
import json
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xlsxwriter
from stdnum.cn import ric

from tests.servers_databases import Database, connect_mariadb, connect_postgresql

COLUMNS = ("resident_id", "name", "district", "born", "amount")
_FAMILY, _GIVEN = "张王李赵周吴郑孙欧阳", "伟芳娜敏静强磊洋勇军杰丽艳涛明超"
_CREATE = (
    "CREATE TABLE people (resident_id VARCHAR(18), name VARCHAR(20), district VARCHAR(6), "
    "born DATE, amount BIGINT)"
)


def people(count: int) -> list[tuple[str, str, str, str, int]]:
    draw = random.Random(20261201)
    rows = []
    for _ in range(count):
        district = f"4403{draw.randint(3, 11):02d}"
        born = (draw.randint(1930, 2010), draw.randint(1, 12), draw.randint(1, 28))
        body = f"{district}{born[0]}{born[1]:02d}{born[2]:02d}{draw.randint(1, 995):03d}"
        number = body + ric.calc_check_digit(body + "0")
        name = draw.choice(_FAMILY) + draw.choice(_GIVEN) + draw.choice(_GIVEN)
        day = f"{born[0]}-{born[1]:02d}-{born[2]:02d}"
        rows.append((number, name, district, day, draw.randint(1, 10_000_000)))
    return rows


Rows = list[tuple[str, str, str, str, int]]


def write_csv(path: Path, rows: Rows, times: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for _ in range(times):
            writer.writerows(rows)


def write_jsonl(path: Path, rows: Rows, times: int) -> None:
    lines = "".join(
        json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False) + "\n" for row in rows
    )
    with path.open("w", encoding="utf-8") as file:
        for _ in range(times):
            file.write(lines)


def write_parquet(path: Path, rows: Rows, times: int) -> None:
    table = _arrow(rows)
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(times):
            writer.write_table(table)


def write_xlsx(path: Path, rows: Rows, times: int) -> None:
    with xlsxwriter.Workbook(str(path), {"constant_memory": True}) as book:
        sheet = book.add_worksheet("people")
        sheet.write_row(0, 0, COLUMNS)
        at = 1
        for _ in range(times):
            for row in rows:
                sheet.write_row(at, 0, row)
                at += 1


def write_sqlite(path: Path, rows: Rows, times: int) -> None:
    with sqlite3.connect(path) as database:
        database.execute(_CREATE.replace("people", "few"))
        database.executemany("INSERT INTO few VALUES (?, ?, ?, ?, ?)", rows)
        database.execute(_CREATE)
        for _ in range(times):
            database.execute("INSERT INTO people SELECT * FROM few")
    database.close()


def fill_postgresql(server: Database, rows: Rows, times: int) -> None:
    with connect_postgresql(server) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS people")
        cursor.execute(_CREATE)
        for _ in range(times):
            with cursor.copy("COPY people FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        cursor.execute("VACUUM ANALYZE people")


def fill_mariadb(server: Database, rows: Rows, times: int) -> None:
    with connect_mariadb(server) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS people, few")
        cursor.execute(_CREATE)
        cursor.execute(_CREATE.replace("people", "few"))
        cursor.executemany("INSERT INTO few VALUES (%s, %s, %s, %s, %s)", rows)
        for _ in range(times):
            cursor.execute("INSERT INTO people SELECT * FROM few")


def as_items(rows: Rows) -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def identity_numbers(rows: Rows, times: int, batch: int = 65_536) -> Iterator[pa.Array]:
    numbers = pa.concat_arrays([pa.array([row[0] for row in rows])] * times)
    for start in range(0, len(numbers), batch):
        yield numbers.slice(start, batch)


def _arrow(rows: Rows) -> pa.Table:
    columns = list(zip(*rows, strict=True))
    table = pa.table(dict(zip(COLUMNS, map(list, columns), strict=True)))
    return table.set_column(3, "born", table["born"].cast(pa.date32()))
