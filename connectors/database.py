"""Tables, views and queries of databases as sources.

What all databases share is here: options, one read-only session for each scan, conditions, errors
that name no value, versions. What differs is in `database_sqlite`, `database_postgresql`,
`database_mysql` and `database_sqlalchemy`, each a `Database` that opens a `Session`.

**Conditions.** A session pushes down what it can, and may let through more rows than meet the
conditions, never fewer; every row that comes is held against them once more by `conditions.keep`.
So collations, blanks at the end and NaN are decided here and not by each database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol

import pyarrow as pa

from connectors.addresses import Address, parse_address
from connectors.conditions import (
    Comparison,
    Condition,
    Where,
    columns_read,
    keep,
    verify_readable,
)
from connectors.errors import InputRejected, Unavailable
from connectors.multiset import RowsDigest
from connectors.names import verify_columns, verify_distinct

# Rows per batch: large enough to amortise Python's per-batch cost, a few MB of text at most.
BATCH_ROWS: Final = 65_536
OPTIONS: Final = frozenset({"table", "query", "version", "timeout"})
DEFAULT_TIMEOUT_S: Final = 60
MAX_TIMEOUT_S: Final = 3_600
# A longer query belongs into a view.
MAX_QUERY_CHARACTERS: Final = 100_000
_STARTS: Final = ("SELECT", "WITH", "VALUES", "TABLE")


@dataclass(frozen=True)
class Column:
    """A column as it is read: `expression` is the SQL whose values are of the Arrow type `kind`.

    `ordered` is false where the text of a column does not sort as what it means, such as numbers
    without a declared precision: conditions that compare order are refused there.
    """

    name: str
    kind: pa.DataType
    expression: str
    ordered: bool = True


class Session(Protocol):
    """One open connection that can only read and, where the database can, sees one state."""

    def columns(self) -> Sequence[Column]:
        """What the table or query has, found out without reading rows."""

    def batches(self, columns: Sequence[Column], where: Where) -> Iterator[pa.RecordBatch]:
        """`columns`, of at least those rows that meet `where`."""

    def has_rows(self) -> bool:
        """Whether there is any row at all."""

    def fingerprint(self) -> str | None:
        """A digest of all rows that the database computes; None where we have to."""

    def newest(self, column: Column) -> str:
        """Number of rows and largest value of `column`, as text."""


class Database(Protocol):
    """One table or query of a database, not yet connected to."""

    @property
    def title(self) -> str:
        """What the kind of database is called: PostgreSQL."""

    @property
    def reading(self) -> str:
        """How it is read, for the owner to know: driver, isolation."""

    def session(self) -> AbstractContextManager[Session]:
        """Connect. Raises Unavailable where nobody answers, InputRejected for a wrong password."""

    def server(self) -> str:
        """Which version of what answers, such as `PostgreSQL 15.18`."""


@dataclass(frozen=True)
class Relation:
    """What is read: a table or view by its name, in parts, or a query; exactly one of the two."""

    table: tuple[str, ...] = ()
    query: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return ".".join(self.table) if self.table else "the query"


class DatabaseSource:
    """A table, view or query of a `Database` as a `Source`."""

    def __init__(self, database: Database, relation: Relation, version_column: str | None) -> None:
        self._database = database
        self._relation = relation
        self._version_column = version_column

    @property
    def name(self) -> str:
        return self._relation.name

    def schema(self) -> pa.Schema:
        with self._database.session() as session:
            return pa.schema([(one.name, one.kind) for one in self._columns(session)])

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        with self._database.session() as session:
            yield from self._scan(session, columns, where)

    def version(self) -> str:
        """Of names, types and rows in no order; or, with `version=column`, of how many rows there
        are and the largest value of that column, which misses what neither changes."""
        with self._database.session() as session:
            columns = self._columns(session)
            digest = hashlib.sha256()
            for one in columns:
                digest.update(f"{len(one.name)}:{one.name} {one.kind}\n".encode())
            digest.update(self._content(session, columns).encode())
            return f"sha256:{digest.hexdigest()}"

    def description(self) -> Mapping[str, str]:
        told = {"format": f"database ({self._database.title})", "server": self._database.server()}
        if self._relation.table:
            told["table"] = self._relation.name
        else:
            told["query"] = self._relation.query
        told["reading"] = self._database.reading
        if self._version_column is not None:
            told["version"] = f"number of rows and largest {self._version_column}"
        return told

    def _scan(
        self, session: Session, columns: Sequence[str], where: Where
    ) -> Iterator[pa.RecordBatch]:
        present = {one.name: one for one in self._columns(session)}
        verify_readable(columns, where, list(present), source=self.name)
        # Without any column asked for, the rows are still counted.
        names = columns_read(columns, where) or list(present)[:1]
        read = [present[name] for name in names]
        _verify_comparable(read, where)
        some = False
        for batch in session.batches(read, where):
            some = some or batch.num_rows > 0
            kept = keep(batch, where)
            if kept.num_rows:
                yield kept.select(list(columns))
        if not some and not session.has_rows():
            raise InputRejected(
                f"{self.name} has columns but no rows; fill it, or name another table"
            )

    def _columns(self, session: Session) -> Sequence[Column]:
        columns = session.columns()
        names = [one.name for one in columns]
        verify_distinct(names, source=self.name)
        if self._version_column is not None:
            verify_columns([self._version_column], names, source=self.name)
        return columns

    def _content(self, session: Session, columns: Sequence[Column]) -> str:
        if self._version_column is not None:
            return session.newest(next(c for c in columns if c.name == self._version_column))
        computed = session.fingerprint()
        if computed is not None:
            return computed
        rows = RowsDigest()
        for batch in session.batches(columns, ()):
            rows.add(batch)
        return rows.text()


def relation_of(address: Address) -> tuple[Relation, str | None]:
    """What the options `table=`, `query=` and `version=` name.

    Raises InputRejected unless exactly one of the first two is there, and for a query that is
    longer than MAX_QUERY_CHARACTERS or does not start as one that reads.
    """
    table, query = address.options.get("table"), address.options.get("query")
    if (table is None) == (query is None):
        raise InputRejected(
            f"{address.scheme}: give either table=NAME (a table or view) or query=SELECT…"
        )
    version = address.options.get("version")
    if version == "":
        raise InputRejected(f"{address.scheme}: version= takes the name of a column")
    if table is not None:
        parts = tuple(table.split("."))
        if not all(parts) or len(table) > 500 or "\0" in table:
            raise InputRejected(f"{address.scheme}: table= takes a name, or schema.name")
        return Relation(table=parts), version
    return Relation(query=_verified_query(query or "")), version


def timeout_of(address: Address) -> int:
    """Seconds that a database may take to answer; whole, 1 to MAX_TIMEOUT_S."""
    text = address.options.get("timeout", str(DEFAULT_TIMEOUT_S))
    if text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MAX_TIMEOUT_S:
        return int(text)
    raise InputRejected(f"{address.scheme}: timeout= takes whole seconds from 1 to {MAX_TIMEOUT_S}")


def parse_database(url: str, *, more: Sequence[str] = ()) -> Address:
    """The address of a database; `more` are the options that only this kind has."""
    return parse_address(url, known=OPTIONS | set(more))


def quoted(name: str, mark: str = '"') -> str:
    """`name` as an identifier of SQL: it cannot be anything else, whatever is in it."""
    if "\0" in name:
        raise InputRejected("the name of a table or column holds a null character; rename it")
    return f"{mark}{name.replace(mark, mark * 2)}{mark}"


def typed_values(condition: Condition, kind: pa.DataType) -> list[Any]:
    """The values a condition names, as Python objects of the type the column has."""
    values: list[Any] = pa.array(condition.values, pa.string()).cast(kind).to_pylist()
    return values


def table_of(
    batches: Sequence[Sequence[Any]], columns: Sequence[Column], *, source: str, first: int
) -> pa.RecordBatch:
    """A batch out of one sequence of texts (or bytes, or None) for each column.

    `first` is the number of the first row. Raises InputRejected naming column and row where a text
    is none of the column's type.
    """
    arrays = []
    for cells, column in zip(batches, columns, strict=True):
        text = pa.array(cells, pa.binary() if pa.types.is_binary(column.kind) else pa.string())
        arrays.append(cast(text, column, source=source, first=first))
    return pa.RecordBatch.from_arrays(arrays, names=[one.name for one in columns])


def cast(cells: pa.Array, column: Column, *, source: str, first: int) -> pa.Array:
    """`cells` as the column's type; raises as `table_of` does."""
    if cells.type == column.kind:
        return cells
    try:
        return cells.cast(column.kind)
    except pa.ArrowInvalid:
        reject_cell(column, source=source, row=first + _first_that_fails(cells, column.kind))


def reject_cell(column: Column, *, source: str, row: int) -> NoReturn:
    """Raise InputRejected for a cell that is not what its column is declared as."""
    raise InputRejected(
        f"{source}, column {column.name}, row {row}: holds what a column of {column.kind} cannot "
        "(NaN, infinity, a date that is none, text in a number); correct the cell, or use query= "
        "that leaves it out or casts the column to text"
    ) from None


def gone(title: str) -> Unavailable:
    """A database that stopped answering while rows came."""
    return Unavailable(
        f"{title} stopped answering on the way: what came until then is not all; try again"
    )


def _first_that_fails(cells: pa.Array, kind: pa.DataType) -> int:
    low, high = 0, len(cells)
    # Halve the range that does not cast until one cell is left.
    while high - low > 1:
        middle = (low + high) // 2
        try:
            cells.slice(low, middle - low).cast(kind)
        except pa.ArrowInvalid:
            high = middle
        else:
            low = middle
    return low


def _verify_comparable(columns: Sequence[Column], where: Where) -> None:
    by_name = {one.name: one for one in columns}
    unequal = (Comparison.LT, Comparison.LTEQ, Comparison.GT, Comparison.GTEQ)
    for condition in where:
        if condition.comparison in unequal and not by_name[condition.column].ordered:
            raise InputRejected(
                f"column {condition.column} is read as text, which does not sort as what it means; "
                f"use query= that casts it to a type with an order, for the condition "
                f"{condition.comparison}"
            )
    # Says what cannot be compared before the database is asked.
    arrays = [pa.array([], one.kind) for one in columns]
    keep(pa.RecordBatch.from_arrays(arrays, names=[one.name for one in columns]), where)


def _verified_query(query: str) -> str:
    if len(query) > MAX_QUERY_CHARACTERS or "\0" in query:
        raise InputRejected(
            f"query= takes at most {MAX_QUERY_CHARACTERS} characters, and no null character; "
            "make it a view, and name that by table="
        )
    text = query.strip().removesuffix(";").rstrip()
    if not text.lstrip("( \t\r\n").upper().startswith(_STARTS):
        raise writes()
    return text


def writes() -> InputRejected:
    """What is said of SQL that is not a query, or that writes."""
    return InputRejected(
        "query= takes one statement that reads (SELECT, WITH, VALUES or TABLE, without comments "
        "before it); sources are never written to"
    )
