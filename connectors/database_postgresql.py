"""PostgreSQL: `postgresql://user@host:5432/db?table=schema.people&secret=file:/…` or `?query=…`.

Two connections: psycopg asks the server what a table or query has, without running it, and ADBC
copies the rows in binary. Both can only read (`READ ONLY`), and one scan sees one state of the
database (`REPEATABLE READ`). Values of conditions travel as bound parameters of `set_config` and
are read by the statement with `current_setting`, as `COPY` itself takes no parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import pyarrow as pa
import pyarrow.compute as pc

from connectors.addresses import Address
from connectors.conditions import Comparison, Condition, Where
from connectors.database import (
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
from connectors.database_tls import is_this_machine, sslmode_of
from connectors.errors import InputRejected

try:
    import adbc_driver_postgresql.dbapi as driver
    import psycopg
    from psycopg import pq

    from connectors.database_postgresql_errors import TITLE, error_of, on_the_way, told
except ImportError:
    raise InputRejected(
        "PostgreSQL is read with an extra that is not installed; run: "
        "pip install 'city-dataspace[postgres]'"
    ) from None

# What ADBC collects before it hands out a batch.
_BATCH_BYTES: Final = 8 * 1024 * 1024
_KINDS: Final = {
    16: pa.bool_(),
    17: pa.binary(),
    20: pa.int64(),
    21: pa.int16(),
    23: pa.int32(),
    25: pa.string(),
    700: pa.float32(),
    701: pa.float64(),
    1043: pa.string(),
    1082: pa.date32(),
    1083: pa.time64("us"),
    1114: pa.timestamp("us"),
    1184: pa.timestamp("us", tz="UTC"),
}
_NUMERIC: Final = 1700
_BPCHAR: Final = 1042
# Types whose text sorts as they do; text itself is compared by its bytes.
_TEXT_SORTS: Final = {_BPCHAR, 2950}
_MAX_PRECISION: Final = 76
# Earlier than anything PostgreSQL can hold: its infinity, as it arrives.
_BEFORE_ALL: Final = {pa.date32(): -3_000_000, 64: -(3 * 10**17)}
_SYMBOLS: Final = {
    Comparison.EQ: "=",
    Comparison.NEQ: "<>",
    Comparison.LT: "<",
    Comparison.LTEQ: "<=",
    Comparison.GT: ">",
    Comparison.GTEQ: ">=",
}


@dataclass(frozen=True)
class PostgresqlDatabase:
    """A database of PostgreSQL, with the table or query that is read from it."""

    address: Address
    relation: Relation
    timeout_s: int
    sslmode: str

    @property
    def title(self) -> str:
        return TITLE

    @property
    def reading(self) -> str:
        return "ADBC, binary COPY in a READ ONLY, REPEATABLE READ transaction"

    def server(self) -> str:
        with self._connected() as connection:
            number = connection.info.server_version
            return f"{TITLE} {number // 10_000}.{number % 10_000}"

    @contextmanager
    def session(self) -> Iterator[PostgresqlSession]:
        with self._connected() as plain:
            yield PostgresqlSession(self.relation, plain, self._uri(), _settings(self.timeout_s))

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        with told():
            connection = psycopg.connect(self._uri(), autocommit=True)
            with closing(connection):
                for command in (*_settings(self.timeout_s), "SELECT 1"):
                    # The last takes the snapshot: after it, nothing can make the transaction one
                    # that writes.
                    connection.execute(command.encode())
                yield connection

    def _uri(self) -> str:
        """With the password: never leaves this class but to the drivers."""
        parts, secret = self.address.parts, self.address.secret()
        user = quote(self.address.user or "", safe="")
        login = f"{user}:{quote(secret, safe='')}@" if secret is not None else f"{user}@"
        options = {
            "sslmode": self.sslmode,
            "connect_timeout": str(max(2, self.timeout_s)),
            # Notices a host that vanished without a word.
            "keepalives_idle": "30",
            "keepalives_interval": "10",
            "keepalives_count": "3",
            "tcp_user_timeout": str(self.timeout_s * 1000),
            "application_name": "city-dataspace",
        }
        certificate = self.address.options.get("sslrootcert")
        if certificate is not None:
            options["sslrootcert"] = certificate
        host = f"[{self.address.host}]" if ":" in (self.address.host or "") else self.address.host
        port = f":{parts.port}" if parts.port is not None else ""
        return f"postgresql://{login}{host}{port}{parts.path}?{urlencode(options, quote_via=quote)}"


class PostgresqlSession:
    """`plain` finds out columns and counts; rows come through a connection of their own."""

    def __init__(
        self,
        relation: Relation,
        plain: psycopg.Connection[Any],
        uri: str,
        settings: Sequence[str],
    ) -> None:
        self._relation = relation
        self._plain = plain
        self._uri = uri
        self._settings = settings
        self._from = _from(relation)
        self._utf8 = plain.info.parameter_status("server_encoding") == "UTF8"
        if relation.query:
            self._verify_query(relation.query)

    def columns(self) -> Sequence[Column]:
        described = self._described(f"SELECT * FROM {self._from}")
        return [
            _column(described.fname(n) or b"", described.ftype(n), described.fmod(n))
            for n in range(described.nfields)
        ]

    def batches(self, columns: Sequence[Column], where: Where) -> Iterator[pa.RecordBatch]:
        by_name = {one.name: one for one in columns}
        conditions: list[str] = []
        settings: list[str] = []
        for condition in where:
            pushed = _pushed(
                by_name[condition.column], condition, len(settings) + 1, utf8=self._utf8
            )
            if pushed is not None:
                conditions.append(pushed[0])
                settings.append(pushed[1])
        read = ", ".join(f"{one.expression} AS {quoted(one.name)}" for one in columns)
        clause = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        yield from self._copied(f"SELECT {read} FROM {self._from}{clause}", settings, columns)

    def has_rows(self) -> bool:
        return bool(self._one(f"SELECT EXISTS (SELECT FROM {self._from})")[0])

    def fingerprint(self) -> str | None:
        """Number of rows, and the sums of two 64-bit hashes of each row's text.

        Changes with any row, by chance missed once in 2^128; not made to withstand somebody who
        chooses rows so that they collide, which only the owner could. Seven times as fast as
        fetching the rows.
        """
        rows, one, two = self._one(
            "SELECT count(*), sum(hashtextextended(r::text, 1)), sum(hashtextextended(r::text, 2)) "
            f"FROM (SELECT * FROM {self._from}) AS r"
        )
        return f"{rows} rows {one} {two}"

    def newest(self, column: Column) -> str:
        rows, largest = self._one(
            f"SELECT count(*), max({quoted(column.name)})::text FROM {self._from}"
        )
        return f"{rows} rows to {largest!r}"

    def _one(self, statement: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self._plain.execute(statement.encode()).fetchone()
        assert row is not None
        return row

    def _verify_query(self, query: str) -> None:
        """The server itself says whether it is one statement, whole as it stands, with columns; it
        cannot then break out of the brackets it is put into. Nothing runs."""
        if not self._described(query).nfields:
            raise writes()
        # Their rights reach beyond the tables, so that reading alone would not be all a query does.
        held = self._one(
            "SELECT rolsuper OR pg_has_role('pg_read_server_files', 'member') "
            "OR pg_has_role('pg_write_server_files', 'member') "
            "OR pg_has_role('pg_execute_server_program', 'member') "
            "FROM pg_roles WHERE rolname = current_user"
        )
        if held[0]:
            raise InputRejected(
                "query= is not run as a superuser of PostgreSQL, who may read files and run "
                "programs there; make an account that may only read: CREATE ROLE node LOGIN "
                "PASSWORD …; GRANT SELECT ON … TO node"
            )

    def _described(self, statement: str) -> pq.abc.PGresult:
        raw = self._plain.pgconn
        prepared = raw.prepare(b"", statement.encode())
        _verify_status(prepared)
        described = raw.describe_prepared(b"")
        _verify_status(described)
        return described

    def _copied(
        self, statement: str, settings: Sequence[str], columns: Sequence[Column]
    ) -> Iterator[pa.RecordBatch]:
        with closing(driver.connect(self._uri, autocommit=True)) as fast:
            with closing(fast.cursor()) as cursor:
                for command in self._settings:
                    cursor.execute(command)
                for number, value in enumerate(settings, start=1):
                    cursor.execute(f"SELECT set_config('city.p{number}', $1, true)", (value,))
                    cursor.fetchall()
            with closing(fast.cursor()) as cursor:
                cursor.adbc_statement.set_options(
                    **{"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)}
                )
                cursor.execute(statement)
                first = 1
                try:
                    for raw in cursor.fetch_record_batch():
                        yield self._typed(raw, columns, first)
                        first += raw.num_rows
                except (OSError, pa.ArrowInvalid) as err:
                    raise on_the_way(str(err)) from None

    def _typed(self, raw: pa.RecordBatch, columns: Sequence[Column], first: int) -> pa.RecordBatch:
        arrays = []
        for cells, column in zip(raw.columns, columns, strict=True):
            plain = cells.storage if isinstance(cells, pa.ExtensionArray) else cells
            typed = cast(plain, column, source=self._relation.name, first=first)
            earliest = _BEFORE_ALL.get(column.kind) or (
                _BEFORE_ALL[64] if pa.types.is_timestamp(column.kind) else None
            )
            if earliest is not None:
                _verify_finite(typed, earliest, column, source=self._relation.name, first=first)
            arrays.append(typed)
        return pa.RecordBatch.from_arrays(arrays, names=[one.name for one in columns])


def open_postgresql(url: str) -> DatabaseSource:
    """The table or query at `postgresql://user@host/db?table=…`. Connects to nothing."""
    address = parse_database(url, more=("secret", "sslmode", "sslrootcert"))
    if not address.host or not address.user or len(address.path) < 2:
        raise InputRejected("postgresql: write postgresql://user@host:5432/database?table=NAME")
    relation, version = relation_of(address)
    sslmode = sslmode_of(address, "prefer" if is_this_machine(address) else "require")
    database = PostgresqlDatabase(address, relation, timeout_of(address), sslmode)
    return DatabaseSource(database, relation, version)


def _from(relation: Relation) -> str:
    if relation.table:
        return ".".join(quoted(part) for part in relation.table)
    # The line end closes a comment that the query may end with.
    return f"({relation.query}\n) AS city_query"


def _settings(timeout_s: int) -> tuple[str, ...]:
    """What a session begins with: a transaction that reads, and how values are written as text."""
    return (
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        "SET LOCAL TimeZone = 'UTC'",
        "SET LOCAL DateStyle = 'ISO, YMD'",
        "SET LOCAL IntervalStyle = 'iso_8601'",
        "SET LOCAL bytea_output = 'hex'",
        "SET LOCAL extra_float_digits = 1",
        "SET LOCAL client_encoding = 'UTF8'",
        f"SET LOCAL lock_timeout = {timeout_s * 1000}",
    )


def _column(raw_name: bytes, oid: int, modifier: int) -> Column:
    name = raw_name.decode("utf-8", "replace")
    plain = quoted(name)
    if oid == _NUMERIC:
        precision, scale = (modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF
        if modifier < 4 or not 0 < precision <= _MAX_PRECISION or scale > precision:
            return Column(name, pa.string(), f"{plain}::text", ordered=False)
        exact = pa.decimal128 if precision <= 38 else pa.decimal256
        return Column(name, exact(precision, scale), plain)
    if oid in _KINDS:
        return Column(name, _KINDS[oid], plain)
    return Column(name, pa.string(), f"{plain}::text", ordered=oid in _TEXT_SORTS)


def _pushed(
    column: Column, condition: Condition, number: int, *, utf8: bool
) -> tuple[str, str] | None:
    """A condition in SQL that holds of every row of which ours holds, and its parameter; None where
    none is known. Text is compared by bytes, which is the order of UTF-8 only."""
    kind, comparison = column.kind, condition.comparison
    if pa.types.is_string(kind):
        if not utf8 or any("\0" in value for value in condition.values):
            return None
        texts, sql_type = list(condition.values), "text"
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = typed_values(condition, kind)
        if any(value != value for value in values):
            return None
        sql_type = "float8" if pa.types.is_floating(kind) else "numeric"
        sql_type = "int8" if pa.types.is_integer(kind) else sql_type
        texts = [repr(value) if isinstance(value, float) else str(value) for value in values]
    elif pa.types.is_date(kind):
        texts = [value.isoformat() for value in typed_values(condition, kind)]
        sql_type = "date"
    else:
        return None
    bound = f"current_setting('city.p{number}')::{sql_type}"
    one = column.expression
    if comparison is Comparison.IS_ANY_OF:
        return f"{one} = ANY ({bound}[])", _array(texts)
    if comparison is Comparison.STARTS_WITH:
        return f'starts_with({one} COLLATE "C", {bound})', texts[0]
    if sql_type == "text" and comparison is not Comparison.EQ:
        one = f'{one} COLLATE "C"'
    return f"{one} {_SYMBOLS[comparison]} {bound}", texts[0]


def _array(values: Sequence[str]) -> str:
    escaped = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in escaped) + "}"


def _verify_finite(
    cells: pa.Array, earliest: int, column: Column, *, source: str, first: int
) -> None:
    numbers = cells.view(pa.int32() if cells.type == pa.date32() else pa.int64())
    smallest = pc.min(numbers).as_py()
    if smallest is not None and smallest < earliest:
        row = pc.index(pc.less(numbers, earliest), True).as_py()
        reject_cell(column, source=source, row=first + row)


def _verify_status(result: pq.abc.PGresult) -> None:
    if result.status != pq.ExecStatus.COMMAND_OK:
        raw = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
        raise error_of(raw.decode("ascii", "replace"))
