"""Several sources as one: `joined:?sql=SELECT …&a=<address>&b=<address>`, in a locked DuckDB.

Every source is named by an option of its own, its address with percent escapes, and is a table of
that name in the query. Those of their columns that the query can mean are copied into a DuckDB in a
directory of its own, which then is closed to everything else (no files, no network, no extensions,
no settings) before the query runs; the directory is removed with the last row. What does not fit
into the memory limit is written there.

Rows come in the order of an ORDER BY at the end of the query; without one, none is promised.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import duckdb
import pyarrow as pa

from connectors.conditions import Where, filtered, keep, verify_readable
from connectors.errors import ConnectorError, InputRejected, Unavailable
from connectors.joined_query import Query
from connectors.names import verify_distinct
from connectors.source import ConsentedSource, Source, open_source

MAX_SOURCES: Final = 8
BATCH_ROWS: Final = 65_536
# More than this lies in files; a join of two tables of a million rows takes about a quarter.
MEMORY_LIMIT: Final = "1GB"
MAX_TEMPORARY: Final = "50GB"
THREADS: Final = 2
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SETTINGS: Final[Mapping[str, Any]] = {
    "threads": THREADS,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
    "max_temp_directory_size": MAX_TEMPORARY,
}


class JoinedSource:
    """One SELECT over other sources. Nothing personal is joined: its rows need consent."""

    name = "the join"

    def __init__(self, sql: str, members: Mapping[str, Source]) -> None:
        self._sql = sql
        self._members = members

    def schema(self) -> pa.Schema:
        schemas = {name: source.schema() for name, source in self._members.items()}
        query = _query(self._sql, schemas)
        with _locked(schemas, query, None) as engine:
            schema = _rows_of(engine, self._sql).schema
        verify_distinct(schema.names, source=self.name)
        return schema

    def scan(self, columns: Sequence[str], where: Where = ()) -> Iterator[pa.RecordBatch]:
        schemas = {name: source.schema() for name, source in self._members.items()}
        query = _query(self._sql, schemas)
        with _locked(schemas, query, self._members) as engine:
            reader = _rows_of(engine, self._sql)
            verify_distinct(reader.schema.names, source=self.name)
            verify_readable(columns, where, reader.schema.names, source=self.name)
            # Says what cannot be compared although no row may come.
            keep(_empty(reader.schema), where)
            rows = 0

            def read(names: list[str]) -> Iterator[pa.RecordBatch]:
                nonlocal rows
                for batch in reader:
                    rows += batch.num_rows
                    yield batch.select(names)

            yield from filtered(read, columns, where)
            if not rows:
                raise InputRejected(f"{self.name} has columns but no rows; look at its conditions")

    def version(self) -> str:
        """Of the query and the versions of its sources: the query cannot ask for anything else."""
        digest = hashlib.sha256()
        for name, source in sorted(self._members.items()):
            digest.update(f"{name} {source.version()}\n".encode())
        digest.update(self._sql.encode())
        return f"sha256:{digest.hexdigest()}"

    def description(self) -> Mapping[str, str]:
        told = {"format": "joined sources (DuckDB)", "query": self._sql}
        for name, source in self._members.items():
            held = source.description()
            told[name] = f"{source.name}: {held.get('format', 'unknown')}"
        told["memory"] = f"{MEMORY_LIMIT}, then files in a directory of its own"
        return told


def open_joined(url: str) -> JoinedSource:
    """The query at `joined:?sql=…&name=address…`. Raises InputRejected for a source that is
    personal or joined itself, and for what `open_source` refuses of any of them."""
    parts = urlsplit(url)
    if parts.netloc or parts.path.strip("/") or parts.fragment:
        raise InputRejected(
            "joined: write joined:?sql=SELECT…&name=ADDRESS with percent escapes in every address "
            "(# is %23, & is %26)"
        )
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    addresses = dict(pairs)
    if len(addresses) < len(pairs):
        raise InputRejected("joined: an option is given twice; give every source its own name")
    sql = addresses.pop("sql", "").strip().removesuffix(";")
    if not sql or not 1 <= len(addresses) <= MAX_SOURCES:
        raise InputRejected(f"joined: takes sql= and 1 to {MAX_SOURCES} sources, name=ADDRESS")
    members: dict[str, Source] = {}
    for name, address in addresses.items():
        if not _NAME.fullmatch(name):
            raise InputRejected(
                f"joined: {name[:100]} is no name for a source; use small letters, digits and _"
            )
        members[name] = _member(name, address)
    return JoinedSource(sql, members)


def _member(name: str, address: str) -> Source:
    # Before it is opened: a join of joins could be made as deep as one likes.
    if address.lower().startswith("joined:"):
        raise InputRejected(f"joined: {name} is joined itself; write one query over all sources")
    source = open_source(address)
    if isinstance(source, ConsentedSource):
        raise InputRejected(
            f"joined: {name} holds personal data, which are read under consent only and by "
            "themselves; join what is not personal"
        )
    return source


def _query(sql: str, schemas: Mapping[str, pa.Schema]) -> Query:
    for name, schema in schemas.items():
        folded = [column.casefold() for column in schema.names]
        verify_distinct(folded, source=f"{name} (where DuckDB tells no capitals apart)")
    return Query(sql, {name: schema.names for name, schema in schemas.items()})


@contextmanager
def _locked(
    schemas: Mapping[str, pa.Schema], query: Query, members: Mapping[str, Source] | None
) -> Iterator[Any]:
    """A DuckDB that holds the sources (or, without `members`, only their columns), and nothing
    else can be reached from it."""
    directory = Path(tempfile.mkdtemp(prefix="city-joined-"))
    try:
        settings = {
            **_SETTINGS,
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": str(directory / "spilled"),
        }
        with _told(), duckdb.connect(str(directory / "joined"), config=settings) as engine:
            engine.execute("SET TimeZone = 'UTC'")
            # It would be printed between other people's output.
            engine.execute("SET enable_progress_bar = false")
            for name, schema in schemas.items():
                kept = query.columns_of(name) if members is not None else schema.names
                _create(engine, name, pa.schema([_loadable(name, schema, one) for one in kept]))
                if members is not None:
                    _load(engine, name, members[name].scan(kept))
            engine.execute("SET enable_external_access = false")
            engine.execute("SET lock_configuration = true")
            yield engine
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _loadable(name: str, schema: pa.Schema, column: str) -> pa.Field:
    field = schema.field(column)
    if pa.types.is_decimal256(field.type):
        raise InputRejected(
            f"joined: {name}, column {column}: DuckDB holds no numbers of more than 38 digits; "
            "cast it to text where it comes from"
        )
    return field


def _create(engine: Any, name: str, schema: pa.Schema) -> None:
    engine.register("incoming", schema.empty_table())
    engine.execute(f'CREATE TABLE "{name}" AS SELECT * FROM incoming')
    engine.unregister("incoming")


def _load(engine: Any, name: str, batches: Iterator[pa.RecordBatch]) -> None:
    engine.execute("BEGIN")
    for batch in batches:
        engine.register("incoming", pa.Table.from_batches([batch]))
        engine.execute(f'INSERT INTO "{name}" SELECT * FROM incoming')
        engine.unregister("incoming")
    engine.execute("COMMIT")


def _rows_of(engine: Any, sql: str) -> pa.RecordBatchReader:
    return engine.sql(sql).to_arrow_reader(BATCH_ROWS)


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    arrays = [pa.array([], kind) for kind in schema.types]
    return pa.RecordBatch.from_arrays(arrays, names=schema.names)


@contextmanager
def _told() -> Iterator[None]:
    """Turn DuckDB's errors into ours. Its texts hold the query and may hold values."""
    try:
        yield
    except ConnectorError:
        raise
    except (duckdb.Error, pa.ArrowException, OSError) as err:
        raise _error(err) from None


def _error(err: Exception) -> ConnectorError:
    text = str(err)
    if isinstance(err, duckdb.OutOfMemoryException) or "Out of Memory" in text:
        return InputRejected(
            f"sql= needs more than {MEMORY_LIMIT} of memory and {MAX_TEMPORARY} of files; join "
            "fewer rows, or make it a view where the rows come from"
        )
    if isinstance(err, duckdb.PermissionException):
        return InputRejected("sql= may read its sources and nothing else: no files, no settings")
    if isinstance(err, duckdb.ParserException):
        return InputRejected("sql= is not one SELECT that DuckDB understands")
    if isinstance(err, duckdb.BinderException | duckdb.CatalogException):
        return InputRejected(
            "sql= names a column or function that is not there, or compares different types; the "
            "columns of each source are those it shows, text unless it says otherwise"
        )
    if isinstance(err, duckdb.IOException | OSError):
        return Unavailable("the directory for temporary files is full or cannot be written to")
    return InputRejected(
        "sql= could not be computed for all rows (such as a division by zero, or text cast to a "
        "number); correct it, or leave those rows out"
    )
