"""SQLite files: `sqlite:///absolute/file.db?table=people` or `?query=SELECT…`.

The file is opened read-only. Rows come by ADBC, which is four times as fast as Python's own module
but takes the type of a column from its first rows; here the type is what the column is declared as,
because SQLite holds any value in any column and a column must not change its type with its rows.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import adbc_driver_manager as adbc
import adbc_driver_sqlite.dbapi as driver
import pyarrow as pa

from connectors.conditions import Comparison, Condition, Where
from connectors.database import (
    BATCH_ROWS,
    Column,
    DatabaseSource,
    Relation,
    cast,
    parse_database,
    quoted,
    reject_cell,
    relation_of,
    timeout_of,
    typed_values,
    writes,
)
from connectors.errors import ConnectorError, InputRejected, Unavailable
from connectors.files import reading, verify_is_file

_DECIMAL = re.compile(r"(?:DECIMAL|NUMERIC)\s*\(\s*(\d{1,2})\s*(?:,\s*(\d{1,2})\s*)?\)", re.I)
_MAX_PRECISION: Final = 38
# A real number with the fewest digits that read back as the same: 15, or 17 where those differ.
_AS_TEXT: Final = (
    "CASE WHEN typeof({0}) = 'real' AND CAST(printf('%!.15g', {0}) AS REAL) <> {0} "
    "THEN printf('%!.17g', {0}) ELSE CAST({0} AS TEXT) END"
)
# What each type is read as in the row that goes before all others; see `_select`.
_SAMPLES: Final = {pa.int64(): "0", pa.float64(): "0.5", pa.binary(): "x'00'"}
_STORED: Final = {
    pa.int64(): "('integer', 'null')",
    pa.float64(): "('real', 'integer', 'null')",
    pa.binary(): "('blob', 'null')",
}
_SYMBOLS: Final = {
    Comparison.EQ: "=",
    Comparison.NEQ: "<>",
    Comparison.LT: "<",
    Comparison.LTEQ: "<=",
    Comparison.GT: ">",
    Comparison.GTEQ: ">=",
}


class SqliteDatabase:
    """A file of SQLite, with the table or query that is read from it."""

    title = "SQLite"
    reading = "ADBC, file opened read-only, one statement for each scan"

    def __init__(self, path: Path, relation: Relation, timeout_s: int) -> None:
        self._path = path
        self._relation = relation
        self._timeout_s = timeout_s

    def server(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    @contextmanager
    def session(self) -> Iterator[SqliteSession]:
        verify_is_file(self._path)
        with reading(self._path), self._path.open("rb"):
            pass
        uri = f"file:{quote(str(self._path.absolute()))}?mode=ro"
        with (
            _told(self._path.name),
            closing(_plain(uri, self._timeout_s)) as plain,
            closing(driver.connect(uri, autocommit=True)) as fast,
        ):
            with closing(fast.cursor()) as cursor:
                cursor.execute(f"PRAGMA busy_timeout = {self._timeout_s * 1000}")
            yield SqliteSession(self._relation, plain, fast)


class SqliteSession:
    """`plain` finds out columns, as Python's module tells what ADBC does not; `fast` reads."""

    def __init__(self, relation: Relation, plain: sqlite3.Connection, fast: Any) -> None:
        self._relation = relation
        self._plain = plain
        self._fast = fast
        self._from = self._prepared()

    def columns(self) -> Sequence[Column]:
        rows = self._plain.execute(f"PRAGMA {self._pragma}").fetchall()
        # The fifth tells hidden columns of virtual tables from those that are computed.
        return [_column(row[1], row[2]) for row in rows if row[6] != 1]

    def batches(self, columns: Sequence[Column], where: Where) -> Iterator[pa.RecordBatch]:
        statement, parameters = self._select(columns, where)
        with closing(self._fast.cursor()) as cursor:
            cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(BATCH_ROWS)})
            first = 0
            try:
                cursor.execute(statement, parameters)
                for raw in cursor.fetch_record_batch():
                    # The first row of all is the sample.
                    batch = raw.slice(1) if first == 0 else raw
                    yield self._typed(batch, columns, first or 1)
                    first = (first or 1) + batch.num_rows
            except (OSError, pa.ArrowInvalid) as err:
                if "Type mismatch" in str(err):
                    self._reject_stored(columns)
                raise

    def has_rows(self) -> bool:
        return bool(self._plain.execute(f"SELECT 1 FROM {self._from} LIMIT 1").fetchall())

    def fingerprint(self) -> str | None:
        return None

    def newest(self, column: Column) -> str:
        rows = self._plain.execute(
            f"SELECT count(*), max({quoted(column.name)}) FROM {self._from}"
        ).fetchone()
        return f"{rows[0]} rows to {rows[1]!r}"

    def _prepared(self) -> str:
        """Where rows are read from. A query becomes a temporary view, in both connections: SQLite
        itself then says whether it is one statement, one that reads, and what its columns are."""
        if self._relation.table:
            name = ".".join(quoted(part) for part in self._relation.table)
            *schema, table = self._relation.table
            self._pragma = f"table_xinfo({quoted(table)})"
            if schema:
                self._pragma = f"{quoted('.'.join(schema))}.{self._pragma}"
            if not self._plain.execute(f"PRAGMA {self._pragma}").fetchone():
                raise InputRejected(self._missing())
            return name
        self._pragma = 'temp.table_xinfo("city query")'
        view = f'CREATE TEMP VIEW "city query" AS {self._relation.query}\n'
        self._plain.execute(view)
        # Columns are only looked up when the view is used.
        self._plain.execute('SELECT * FROM temp."city query" LIMIT 0')
        with closing(self._fast.cursor()) as cursor:
            cursor.execute(view)
        return 'temp."city query"'

    def _missing(self) -> str:
        found = self._plain.execute(
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') "
            "AND name NOT LIKE 'sqlite_%' ORDER BY name LIMIT 40"
        ).fetchall()
        there = ", ".join(str(name) for (name,) in found) or "none"
        return f"there is no table or view {self._relation.name[:200]}; there are: {there}"

    def _select(self, columns: Sequence[Column], where: Where) -> tuple[str, list[Any]]:
        """The statement that reads `columns`. A sample row goes before all others, so that ADBC,
        which looks at the first rows, takes each column for what it is declared as."""
        names = [f"c{number}" for number in range(len(columns))]
        samples = ", ".join(
            f"{_SAMPLES.get(_stored(one), repr(''))} AS {name}"
            for one, name in zip(columns, names, strict=True)
        )
        read = ", ".join(one.expression for one in columns)
        conditions: list[str] = []
        parameters: list[Any] = []
        by_name = {one.name: one for one in columns}
        utf8 = self._plain.execute("PRAGMA encoding").fetchone()[0] == "UTF-8"
        for condition in where:
            pushed = _pushed(by_name[condition.column], condition, utf8=utf8)
            if pushed is not None:
                conditions.append(pushed[0])
                parameters += pushed[1]
        clause = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return (
            f"SELECT {samples} UNION ALL SELECT {read} FROM {self._from}{clause}",
            parameters,
        )

    def _typed(
        self, batch: pa.RecordBatch, columns: Sequence[Column], first: int
    ) -> pa.RecordBatch:
        arrays = []
        for cells, column in zip(batch.columns, columns, strict=True):
            if cells.type != _stored(column):
                self._reject_stored([column])
            if pa.types.is_string(cells.type):
                try:
                    cells.validate(full=True)
                except pa.ArrowInvalid:
                    reject_cell(column, source=self._relation.name, row=self._row_of_bytes(column))
            arrays.append(cast(cells, column, source=self._relation.name, first=first))
        return pa.RecordBatch.from_arrays(arrays, names=[one.name for one in columns])

    def _reject_stored(self, columns: Sequence[Column]) -> None:
        """Raise for the first cell stored as another type than its column's."""
        for column in columns:
            name = quoted(column.name)
            stored = _STORED.get(column.kind, "('text', 'null')")
            if column.expression == name:
                row = self._first_row(f"typeof({name}) NOT IN {stored}")
                if row:
                    reject_cell(column, source=self._relation.name, row=row)

    def _row_of_bytes(self, column: Column) -> int:
        return self._first_row(f"typeof({quoted(column.name)}) = 'blob'") or 1

    def _first_row(self, condition: str) -> int:
        found = self._plain.execute(
            f"SELECT number FROM (SELECT *, row_number() OVER () AS number FROM {self._from}) "
            f"WHERE {condition} LIMIT 1"
        ).fetchone()
        return int(found[0]) if found else 0


def open_sqlite(url: str) -> DatabaseSource:
    """The table or query at `sqlite:///file.db?table=…`, a file that must be there."""
    address = parse_database(url)
    if address.parts.netloc not in ("", "localhost") or len(address.path) < 2:
        raise InputRejected("sqlite: reads files of this machine; write sqlite:///absolute/file.db")
    path = Path(address.path)
    verify_is_file(path)
    relation, version = relation_of(address)
    return DatabaseSource(SqliteDatabase(path, relation, timeout_of(address)), relation, version)


def _column(name: str, declared: str) -> Column:
    """By SQLite's rules of affinity, narrower: what has none of these is text."""
    kind, plain = declared.upper(), quoted(name)
    decimal = _DECIMAL.fullmatch(kind.strip())
    if "INT" in kind:
        return Column(name, pa.int64(), plain)
    if any(part in kind for part in ("CHAR", "CLOB", "TEXT")):
        return Column(name, pa.string(), plain)
    if "BLOB" in kind:
        return Column(name, pa.binary(), plain)
    if any(part in kind for part in ("REAL", "FLOA", "DOUB")):
        return Column(name, pa.float64(), plain)
    as_text = _AS_TEXT.format(plain)
    if decimal and int(decimal[2] or 0) <= int(decimal[1]) <= _MAX_PRECISION and int(decimal[1]):
        return Column(name, pa.decimal128(int(decimal[1]), int(decimal[2] or 0)), as_text)
    # Dates are text that sorts; numbers without precision, and computed columns, may not be.
    return Column(name, pa.string(), as_text, ordered="DATE" in kind or "TIME" in kind)


def _stored(column: Column) -> pa.DataType:
    return pa.string() if pa.types.is_decimal(column.kind) else column.kind


def _pushed(column: Column, condition: Condition, *, utf8: bool) -> tuple[str, list[Any]] | None:
    """A condition in SQL that holds of every row of which ours holds; None where none is known.

    BINARY compares bytes, as we do, where the file is written in UTF-8.
    """
    kind, comparison = column.kind, condition.comparison
    if not (kind in (pa.string(), pa.int64()) or kind == pa.float64()):
        return None
    values = typed_values(condition, kind)
    if any(value != value for value in values):
        return None
    one = column.expression
    if comparison is Comparison.IS_ANY_OF:
        return f"{one} IN ({', '.join('?' * len(values))})", values
    if comparison is Comparison.STARTS_WITH:
        length = len(values[0])
        return (f"substr({one}, 1, {length}) = ?", values) if "\0" not in values[0] else None
    if kind == pa.string() and comparison is not Comparison.EQ:
        if not utf8 and comparison is not Comparison.NEQ:
            return None
        one = f"{one} COLLATE BINARY"
    return f"{one} {_SYMBOLS[comparison]} ?", values


def _plain(uri: str, timeout_s: int) -> sqlite3.Connection:
    return sqlite3.connect(
        uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False
    )


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn errors of both drivers into ours. Their texts hold the statement and may hold values."""
    try:
        yield
    except ConnectorError:
        raise
    except (sqlite3.Error, adbc.Error, OSError, pa.ArrowInvalid) as err:
        raise _error(str(err), name) from None


def _error(text: str, name: str) -> ConnectorError:
    if "locked" in text or "busy" in text:
        return Unavailable(f"{name} is locked by a program that writes to it; try again")
    if "not a database" in text:
        return InputRejected(f"{name} is not a file of SQLite, or is encrypted; name another file")
    if "malformed database schema" in text:
        return InputRejected(f"{name}: query= is not one SELECT, whole as it stands")
    if "malformed" in text or "corrupt" in text:
        return InputRejected(f"{name} is damaged; restore it, or check it: PRAGMA integrity_check")
    if "disk I/O" in text or "unable to open" in text:
        return Unavailable(
            f"{name} could not be read to the end: what came until then is not all; check the "
            "disk, and that this program may read the file's folder"
        )
    if "one statement" in text or "readonly" in text or "authorized" in text:
        return writes()
    if "no such table" in text or "no such column" in text:
        return InputRejected(f"{name}: the query names a table or column that is not there")
    if "no such function" in text:
        return InputRejected(f"{name}: the query names a function that SQLite does not have")
    if "syntax error" in text or "incomplete input" in text:
        return InputRejected(f"{name}: query= is not one SELECT that SQLite understands")
    return InputRejected(f"{name}: SQLite refuses the query; try it with the sqlite3 program")
