"""MySQL and MariaDB: `mysql://user@host:3306/db?table=people&secret=file:/…`, or `mariadb://…`.

Rows are streamed (an unbuffered cursor) in a transaction that is READ ONLY and sees one state of
the database. PyMySQL is told to convert nothing: the text of the protocol becomes Arrow's types in
one step for each batch.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from connectors.addresses import Address
from connectors.conditions import Comparison, Condition, Where
from connectors.database import (
    BATCH_ROWS,
    Column,
    DatabaseSource,
    Relation,
    gone,
    parse_database,
    quoted,
    relation_of,
    table_of,
    timeout_of,
    typed_values,
    writes,
)
from connectors.database_tls import is_this_machine, sslmode_of
from connectors.errors import ConnectorError, InputRejected, Unavailable

try:
    import pymysql
    from pymysql.constants import FIELD_TYPE, FLAG
    from pymysql.converters import encoders
    from pymysql.cursors import SSCursor
except ImportError:
    raise InputRejected(
        "MySQL and MariaDB are read with an extra that is not installed; run: "
        "pip install 'city-dataspace[mysql]'"
    ) from None

# The number that stands for "bytes" where others name a character set.
_BYTES: Final = 63
_MAX_PRECISION: Final = 76
_INTEGERS: Final = {
    FIELD_TYPE.TINY: (pa.int8(), pa.uint8()),
    FIELD_TYPE.SHORT: (pa.int16(), pa.uint16()),
    FIELD_TYPE.INT24: (pa.int32(), pa.uint32()),
    FIELD_TYPE.LONG: (pa.int32(), pa.uint32()),
    FIELD_TYPE.LONGLONG: (pa.int64(), pa.uint64()),
    FIELD_TYPE.YEAR: (pa.int16(), pa.int16()),
}
_TEXTS: Final = frozenset(
    {
        FIELD_TYPE.VARCHAR,
        FIELD_TYPE.VAR_STRING,
        FIELD_TYPE.STRING,
        FIELD_TYPE.BLOB,
        FIELD_TYPE.TINY_BLOB,
        FIELD_TYPE.MEDIUM_BLOB,
        FIELD_TYPE.LONG_BLOB,
        FIELD_TYPE.ENUM,
        FIELD_TYPE.SET,
    }
)
_SYMBOLS: Final = {
    Comparison.EQ: "=",
    Comparison.NEQ: "<>",
    Comparison.LT: "<",
    Comparison.LTEQ: "<=",
    Comparison.GT: ">",
    Comparison.GTEQ: ">=",
}


@dataclass(frozen=True)
class MysqlDatabase:
    """A database of MySQL or MariaDB, with the table or query that is read from it."""

    address: Address
    relation: Relation
    timeout_s: int
    sslmode: str

    @property
    def title(self) -> str:
        return "MariaDB" if self.address.scheme == "mariadb" else "MySQL"

    @property
    def reading(self) -> str:
        return "PyMySQL, unbuffered, in a READ ONLY transaction WITH CONSISTENT SNAPSHOT"

    def server(self) -> str:
        with self._connected() as connection:
            # MariaDB puts a version before its own that old replicas understand.
            return f"{self.title} {connection.get_server_info().removeprefix('5.5.5-')}"

    @contextmanager
    def session(self) -> Iterator[MysqlSession]:
        with self._connected() as connection:
            yield MysqlSession(self.relation, connection, self.title)

    @contextmanager
    def _connected(self) -> Iterator[pymysql.Connection[Any]]:
        with _told(self.title):
            connection = pymysql.connect(
                host=self.address.host,
                port=self.address.port or 3306,
                user=self.address.user,
                password=self.address.secret() or "",
                database=self.address.path.strip("/"),
                charset="utf8mb4",
                conv=dict(encoders),
                connect_timeout=self.timeout_s,
                read_timeout=self.timeout_s,
                write_timeout=self.timeout_s,
                ssl=self._ssl(),
                ssl_disabled=self.sslmode == "disable",
                local_infile=False,
                program_name="city-dataspace",
            )
            try:
                with connection.cursor() as cursor:
                    for command in (
                        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                        f"SET SESSION time_zone = '+00:00', lock_wait_timeout = {self.timeout_s}",
                        # Who reads may compute between two batches.
                        "SET SESSION net_write_timeout = 3600",
                        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
                    ):
                        cursor.execute(command)
                yield connection
            finally:
                # Not the polite way: it would first read all rows that are still to come.
                connection._force_close()

    def _ssl(self) -> ssl.SSLContext | None:
        if self.sslmode in ("disable", "prefer"):
            return None
        context = ssl.create_default_context(cafile=self.address.options.get("sslrootcert"))
        context.check_hostname = self.sslmode == "verify-full"
        if self.sslmode == "require":
            context.verify_mode = ssl.CERT_NONE
        return context


class MysqlSession:
    """One connection: rows are read to their end before anything else is asked."""

    def __init__(self, relation: Relation, connection: pymysql.Connection[Any], title: str) -> None:
        self._relation = relation
        self._connection = connection
        self._title = title
        self._from = _from(relation)
        if relation.query:
            self._verify_query(relation.query)

    def columns(self) -> Sequence[Column]:
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {self._from} LIMIT 0")
            # What the cursor's own description leaves out: signs, and bytes from text.
            fields = cursor._result.fields
            return [_column(field) for field in fields]

    def batches(self, columns: Sequence[Column], where: Where) -> Iterator[pa.RecordBatch]:
        by_name = {one.name: one for one in columns}
        conditions: list[str] = []
        parameters: list[Any] = []
        for condition in where:
            pushed = _pushed(by_name[condition.column], condition)
            if pushed is not None:
                conditions.append(pushed[0])
                parameters += pushed[1]
        read = ", ".join(one.expression for one in columns)
        clause = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        statement = f"SELECT {read} FROM {self._from}"
        if parameters:
            # Only then does PyMySQL look for places to put them.
            statement = statement.replace("%", "%%") + clause
        first = 1
        cursor = SSCursor(self._connection)
        cursor.execute(statement, parameters or None)
        try:
            while rows := cursor.fetchmany(BATCH_ROWS):
                cells = list(zip(*rows, strict=True))
                yield table_of(cells, columns, source=self._relation.name, first=first)
                first += len(rows)
        finally:
            # Who leaves early closes the connection; PyMySQL would first read all that is to come.
            cursor._result.unbuffered_active = False

    def has_rows(self) -> bool:
        return bool(self._one(f"SELECT EXISTS (SELECT 1 FROM {self._from})")[0] == "1")

    def fingerprint(self) -> str | None:
        return None

    def newest(self, column: Column) -> str:
        rows, largest = self._one(
            f"SELECT count(*), max({quoted(column.name, '`')}) FROM {self._from}"
        )
        return f"{rows} rows to {largest!r}"

    def _one(self, statement: str) -> tuple[Any, ...]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            row: tuple[Any, ...] = cursor.fetchone()
            return row

    def _verify_query(self, query: str) -> None:
        """The server itself says whether it is one statement, whole as it stands, and one that can
        be explained; it cannot then break out of the brackets it is put into. Nothing runs."""
        if "/*!" in query or "/*m!" in query.lower():
            raise writes()
        with self._connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {query}\n")


def open_mysql(url: str) -> DatabaseSource:
    """The table or query at `mysql://user@host/db?table=…`. Connects to nothing."""
    address = parse_database(url, more=("secret", "sslmode", "sslrootcert"))
    if not address.host or not address.user or len(address.path) < 2:
        raise InputRejected(
            f"{address.scheme}: write {address.scheme}://user@host:3306/database?table=NAME"
        )
    relation, version = relation_of(address)
    sslmode = sslmode_of(address, "disable" if is_this_machine(address) else "require")
    database = MysqlDatabase(address, relation, timeout_of(address), sslmode)
    return DatabaseSource(database, relation, version)


def _from(relation: Relation) -> str:
    if relation.table:
        return ".".join(quoted(part, "`") for part in relation.table)
    # The line end closes a comment that the query may end with.
    return f"({relation.query}\n) AS city_query"


def _column(field: Any) -> Column:
    kind, plain = field.type_code, quoted(field.name, "`")
    if kind in _INTEGERS:
        signed, unsigned = _INTEGERS[kind]
        return Column(field.name, unsigned if field.flags & FLAG.UNSIGNED else signed, plain)
    if kind in (FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL):
        return _decimal_column(field, plain)
    if kind == FIELD_TYPE.FLOAT:
        # As text MySQL gives a FLOAT six digits, a DOUBLE all.
        return Column(field.name, pa.float32(), f"{plain} * 1E0")
    if kind == FIELD_TYPE.DOUBLE:
        return Column(field.name, pa.float64(), plain)
    if kind in (FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE):
        return Column(field.name, pa.date32(), plain)
    if kind == FIELD_TYPE.DATETIME:
        return Column(field.name, pa.timestamp("us"), plain)
    if kind == FIELD_TYPE.TIMESTAMP:
        # The session's zone is UTC, and Arrow wants to read so.
        return Column(field.name, pa.timestamp("us", tz="UTC"), f"CONCAT({plain}, 'Z')")
    if kind == FIELD_TYPE.BIT:
        return Column(field.name, pa.uint64(), f"{plain} + 0")
    if kind in _TEXTS:
        binary = field.charsetnr == _BYTES
        return Column(field.name, pa.binary() if binary else pa.string(), plain)
    if kind == FIELD_TYPE.GEOMETRY:
        return Column(field.name, pa.binary(), plain)
    # A TIME may be negative or longer than a day; JSON and what is new: text, as the server has it.
    return Column(field.name, pa.string(), f"CONCAT({plain}, '')", ordered=False)


def _decimal_column(field: Any, plain: str) -> Column:
    # What the protocol tells is the width in characters: digits, a sign and a point.
    unsigned = bool(field.flags & FLAG.UNSIGNED)
    precision = field.length - (field.scale > 0) - (not unsigned)
    if not 0 < precision <= _MAX_PRECISION or field.scale > precision:
        return Column(field.name, pa.string(), f"CONCAT({plain}, '')", ordered=False)
    exact = pa.decimal128 if precision <= 38 else pa.decimal256
    return Column(field.name, exact(precision, field.scale), plain)


def _pushed(column: Column, condition: Condition) -> tuple[str, list[Any]] | None:
    """A condition in SQL, with its parameters, that holds of every row of which ours holds; None
    where none is known.

    What is equal by bytes is equal in every collation, so equality may use an index; inequality and
    order, which collations decide otherwise, are asked of the bytes.
    """
    kind, comparison = column.kind, condition.comparison
    # Doubled, as PyMySQL puts parameters where %s is.
    one, place = column.expression.replace("%", "%%"), "%s"
    values = typed_values(condition, kind)
    if pa.types.is_string(kind):
        if not column.ordered:
            return None
        if not "".join(values).isascii():
            # What the column's own character set cannot write is compared in one that can.
            one = f"CONVERT({one} USING utf8mb4)"
        if comparison not in (Comparison.EQ, Comparison.IS_ANY_OF, Comparison.STARTS_WITH):
            one = f"CAST(CONVERT({one} USING utf8mb4) AS BINARY)"
            place = "CAST(CONVERT(%s USING utf8mb4) AS BINARY)"
    elif not all(_is_exact(value) for value in values):
        return None
    if comparison is Comparison.IS_ANY_OF:
        return f"{one} IN ({', '.join(['%s'] * len(values))})", values
    if comparison is Comparison.STARTS_WITH:
        escaped = "".join(f"|{mark}" if mark in "|%_" else mark for mark in values[0])
        return f"{one} LIKE %s ESCAPE '|'", [f"{escaped}%"]
    return f"{one} {_SYMBOLS[comparison]} {place}", values


def _is_exact(value: object) -> bool:
    """Whether MySQL compares the literal exactly: it takes years of three digits for others."""
    if isinstance(value, date):
        return not isinstance(value, datetime) and value.year >= 1000
    return isinstance(value, int | Decimal)


@contextmanager
def _told(title: str) -> Iterator[None]:
    """Turn the driver's errors into ours. Its texts hold the statement and may hold values."""
    try:
        yield
    except ConnectorError:
        raise
    except (pymysql.MySQLError, OSError) as err:
        raise _error(err, title) from None
    except UnicodeDecodeError:
        raise InputRejected(
            f"{title} holds text that is not in the character set it is declared in; correct it"
        ) from None


def _error(err: Exception, title: str) -> ConnectorError:
    """By the server's numbers (MySQL and MariaDB agree on these), 2000 and more are PyMySQL's."""
    code = err.args[0] if err.args and isinstance(err.args[0], int) else 0
    if code in (1044, 1045, 1698, 1251):
        return InputRejected(
            f"{title} refuses user or password, or this database to the user; check the user in "
            "the address and what secret= names"
        )
    if code == 1049:
        return InputRejected(f"{title}: there is no such database on this server")
    if code in (1146, 1109, 1356):
        return InputRejected(f"{title}: a table or view that is named is not there, or broken")
    if code in (1054, 1305, 1630, 1370):
        return InputRejected(f"{title}: the query names a column or function that is not there")
    if code in (1060, 1052):
        return InputRejected(f"{title}: the query names a column twice; give each its own name")
    if code in (1142, 1143, 1227, 1345):
        return InputRejected(
            f"{title}: this account may not read that; run: GRANT SELECT ON … TO the account"
        )
    if code == 1792:
        return writes()
    if code in (1064, 1149, 1221, 1234, 1327):
        return InputRejected(
            f"{title}: query= is not one SELECT that {title} understands; try it with its client"
        )
    if code in (2003, 2002, 2005):
        return Unavailable(f"{title} does not answer; check host and port")
    if code == 3159 or "SSL" in str(err):
        return InputRejected(
            f"{title}: no encrypted connection is possible as asked; switch TLS on there and check "
            "sslrootcert=, or, in a network of your own, write sslmode=disable"
        )
    if code in (1040, 1203, 1205, 1213, 1317, 1969, 1053, 1927, 3024) or not code or code >= 2000:
        return gone(title)
    return InputRejected(f"{title} refuses the query (error {code}); try it with its client")
