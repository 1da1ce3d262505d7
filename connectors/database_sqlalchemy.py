"""Any other database that SQLAlchemy has a dialect for: `sql+oracle+oracledb://user@host/db?table=…`.

The dialect's package is installed beside this one. Rows are streamed where the driver can. Tables
have the types they are declared with; the columns of a query are text, because no driver tells
their types in the same way. Read-only transactions are asked for where the dialect is known to have
them; anywhere else the account is all that keeps a query from writing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, Final

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import URL

from connectors.addresses import Address
from connectors.conditions import Comparison, Where
from connectors.database import (
    BATCH_ROWS,
    Column,
    DatabaseSource,
    Relation,
    gone,
    parse_database,
    reject_cell,
    relation_of,
    writes,
)
from connectors.errors import ConnectorError, InputRejected, Unavailable

# What makes the transaction that has just begun one that reads. A dialect that is not here has no
# such thing, or we do not know it.
_READ_ONLY: Final = {
    "sqlite": "PRAGMA query_only = ON",
    "postgresql": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "oracle": "SET TRANSACTION READ ONLY",
    "mysql": "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    "mariadb": "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
}
_MAX_PRECISION: Final = 38
# Text in quotes and quoted names, without backslashes: not all databases escape by them.
_LITERALS: Final = re.compile(r"""'[^'\\]*'|"[^"\\]*"|`[^`\\]*`""")


@dataclass(frozen=True)
class OtherDatabase:
    """A database behind a dialect of SQLAlchemy, with the table or query that is read from it."""

    address: Address
    relation: Relation

    @property
    def title(self) -> str:
        return self._dialect.partition("+")[0]

    @property
    def reading(self) -> str:
        if self.title in _READ_ONLY:
            return f"SQLAlchemy ({self._dialect}), in a transaction that can only read"
        return f"SQLAlchemy ({self._dialect}); only the account keeps a query from writing"

    @property
    def _dialect(self) -> str:
        return self.address.scheme.removeprefix("sql+")

    def server(self) -> str:
        with self._connected() as connection:
            version = connection.dialect.server_version_info or ()
            return f"{self.title} {'.'.join(str(part) for part in version)}"

    @contextmanager
    def session(self) -> Iterator[OtherSession]:
        with self._connected() as connection:
            yield OtherSession(self.relation, connection)

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        url = URL.create(
            self._dialect,
            username=self.address.user,
            password=self.address.secret(),
            host=self.address.host,
            port=self.address.port,
            database=self.address.path.removeprefix("/") or None,
        )
        with _told(self.title):
            try:
                engine = sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True)
            except (sa.exc.NoSuchModuleError, ImportError):
                raise InputRejected(
                    f"sql+{self._dialect}: SQLAlchemy has no such dialect here; install the "
                    "package that brings it, and its driver"
                ) from None
            with engine.connect() as connection:
                if self.title in _READ_ONLY:
                    connection.exec_driver_sql(_READ_ONLY[self.title])
                yield connection
                connection.rollback()


class OtherSession:
    """One connection, whose transaction is rolled back at the end."""

    def __init__(self, relation: Relation, connection: sa.Connection) -> None:
        self._relation = relation
        self._connection = connection
        self._from = _from(relation)
        # So that values come as SQLAlchemy's types have them, once `columns` has found them.
        self._types: dict[str, Any] = {}

    def columns(self) -> Sequence[Column]:
        if not self._relation.table:
            none = sa.select(sa.text("*")).select_from(self._from).where(sa.false())
            names = list(self._connection.execute(none).keys())
            return [Column(name, pa.string(), "") for name in names]
        *schema, table = self._relation.table
        try:
            found = sa.inspect(self._connection).get_columns(table, schema=".".join(schema) or None)
        except sa.exc.NoSuchTableError:
            raise InputRejected(
                f"there is no table or view {self._relation.name[:200]} that this account may read"
            ) from None
        self._types = {one["name"]: one["type"] for one in found}
        return [Column(name, _kind(kind), "") for name, kind in self._types.items()]

    def batches(self, columns: Sequence[Column], where: Where) -> Iterator[pa.RecordBatch]:
        read = sa.select(*(self._column(one.name) for one in columns)).select_from(self._from)
        texts = {one.name for one in columns if pa.types.is_string(one.kind)}
        for condition in where:
            # Equal text is equal to every database; how else it compares, each decides for itself.
            equal = condition.comparison in (Comparison.EQ, Comparison.IS_ANY_OF)
            # What a query gives as text may be something else there.
            if equal and self._relation.table and condition.column in texts:
                read = read.where(self._column(condition.column).in_(condition.values))
        first = 1
        streamed = self._connection.execution_options(stream_results=True, yield_per=BATCH_ROWS)
        with streamed.execute(read) as result:
            for rows in result.partitions(BATCH_ROWS):
                arrays = [
                    self._array([row[place] for row in rows], column, first)
                    for place, column in enumerate(columns)
                ]
                yield pa.RecordBatch.from_arrays(arrays, names=[one.name for one in columns])
                first += len(rows)

    def has_rows(self) -> bool:
        one = sa.select(sa.literal(1)).select_from(self._from).limit(1)
        return self._connection.execute(one).first() is not None

    def fingerprint(self) -> str | None:
        return None

    def newest(self, column: Column) -> str:
        counted = sa.select(sa.func.count(), sa.func.max(self._column(column.name)))
        row = self._connection.execute(counted.select_from(self._from)).one()
        return f"{row[0]} rows to {row[1]!r}"

    def _column(self, name: str) -> sa.ColumnClause[Any]:
        return sa.column(sa.quoted_name(name, quote=True), self._types.get(name))

    def _array(self, cells: list[Any], column: Column, first: int) -> pa.Array:
        if pa.types.is_string(column.kind):
            cells = [self._text(cell, column, first + n) for n, cell in enumerate(cells)]
        try:
            return pa.array(cells, column.kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            reject_cell(column, source=self._relation.name, row=first)

    def _text(self, cell: Any, column: Column, row: int) -> str | None:
        if cell is None or isinstance(cell, str):
            return cell
        if isinstance(cell, bool):
            return "true" if cell else "false"
        if isinstance(cell, bytes | bytearray | memoryview):
            reject_cell(column, source=self._relation.name, row=row)
        if isinstance(cell, dict | list):
            return json.dumps(cell, ensure_ascii=False, default=str)
        if isinstance(cell, date | datetime | time):
            return cell.isoformat()
        return repr(cell) if isinstance(cell, float) else str(cell)


def open_other(url: str) -> DatabaseSource:
    """The table or query at `sql+dialect://…`. Connects to nothing."""
    address = parse_database(url, more=("secret",))
    if not address.scheme.startswith("sql+"):
        raise InputRejected(
            "sql: write sql+dialect://user@host/database, as sql+oracle+oracledb://"
        )
    relation, version = relation_of(address)
    _verify_whole(relation.query)
    return DatabaseSource(OtherDatabase(address, relation), relation, version)


def _verify_whole(query: str) -> None:
    """Raises InputRejected for a query that could end the brackets it is put into, or be more than
    one statement. By rules that all dialects share: where they differ, more is refused."""
    bare = _LITERALS.sub(" ", query)
    depth = 0
    for mark in bare:
        depth += {"(": 1, ")": -1}.get(mark, 0)
        if depth < 0:
            break
    if depth or any(mark in bare for mark in (";", "\\", "'", '"', "`", "--", "/*", "*/", "#")):
        raise InputRejected(
            "query= takes one statement, whole as it stands, without comments, ; or backslashes; "
            "make it a view, and name that by table="
        )


def _from(relation: Relation) -> sa.FromClause:
    if not relation.table:
        # A colon would be taken for a parameter of ours.
        query = relation.query.replace(":", "\\:")
        return sa.text(f"{query}\n").columns().subquery("city_query")
    *schema, table = relation.table
    return sa.table(
        sa.quoted_name(table, quote=True),
        schema=sa.quoted_name(".".join(schema), quote=True) if schema else None,
    )


def _kind(declared: Any) -> pa.DataType:
    if isinstance(declared, sa.Boolean):
        return pa.bool_()
    if isinstance(declared, sa.Integer):
        return pa.int64()
    if isinstance(declared, sa.Float):
        return pa.float64()
    if isinstance(declared, sa.Numeric):
        precision, scale = declared.precision or 0, declared.scale or 0
        if 0 < precision <= _MAX_PRECISION and 0 <= scale <= precision:
            return pa.decimal128(precision, scale)
    if isinstance(declared, sa.DateTime):
        return pa.timestamp("us", tz="UTC" if declared.timezone else None)
    if isinstance(declared, sa.Date):
        return pa.date32()
    if isinstance(declared, sa.LargeBinary):
        return pa.binary()
    return pa.string()


@contextmanager
def _told(title: str) -> Iterator[None]:
    """Turn SQLAlchemy's errors into ours. Their texts hold the statement and may hold values."""
    try:
        yield
    except ConnectorError:
        raise
    except sa.exc.DBAPIError as err:
        if err.connection_invalidated:
            raise gone(title) from None
        text = str(err.orig).lower()
        if any(word in text for word in ("read-only", "readonly", "read only", "one statement")):
            raise writes() from None
        if isinstance(err, sa.exc.OperationalError) and "syntax" not in text:
            raise Unavailable(
                f"{title} does not answer, or refuses the login or the query; check the address, "
                "and try the query with a client of that database"
            ) from None
        raise InputRejected(
            f"{title} refuses the query; try it with a client of that database"
        ) from None
    except sa.exc.SQLAlchemyError:
        raise InputRejected(f"{title}: SQLAlchemy cannot read that as it is asked") from None
