"""PostgreSQL and MariaDB as sources, held against real servers of our own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import database_mysql
from connectors.conditions import Comparison, Condition, Where, filtered
from connectors.errors import InputRejected, Unavailable
from connectors.source import Source, open_source
from tests.servers import DATABASES
from tests.servers_databases import (
    Database,
    connect_mariadb,
    connect_postgresql,
    mariadb,
    postgresql,
)

pytestmark = DATABASES
TRICKY = 'a"b`c]; DROP TABLE people; -- %s $1 :x'
WORDS = ["a", "A", "a ", "ab", "%", "a%b", "_", "|", "\\", "'", "10", "9", "", "é", "e", "É", "𝄞"]
TEXT = st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=2)
BOTH = pytest.mark.parametrize("kind", ["postgresql", "mariadb"])


@pytest.fixture(scope="module")
def postgres() -> Iterator[Database]:
    with postgresql() as server:
        with connect_postgresql(server) as connection:
            connection.execute(
                "CREATE TABLE people(id text, n bigint); INSERT INTO people VALUES ('a', 1), "
                "('hunter2', 2); CREATE SEQUENCE numbers; GRANT ALL ON numbers TO reader"
            )
            connection.execute('CREATE TABLE words(w text, c char(3), l text COLLATE "de-x-icu")')
            for word in (*WORDS, None):
                connection.execute(
                    "INSERT INTO words VALUES (%s, %s, %s)", (word, word and word[:3], word)
                )
        yield server


@pytest.fixture(scope="module")
def maria() -> Iterator[Database]:
    with mariadb() as server:
        with connect_mariadb(server) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE people(id text, n bigint)")
            cursor.execute("INSERT INTO people VALUES ('a', 1), ('hunter2', 2)")
            cursor.execute(
                "CREATE TABLE words(w text COLLATE utf8mb4_unicode_ci, c char(3), "
                "l varchar(9) CHARACTER SET latin1)"
            )
            cursor.execute("SET sql_mode = ''")
            for word in (*WORDS, None):
                latin = word if word is None or word.isascii() else "?"
                cursor.execute(
                    "INSERT INTO words VALUES (%s, %s, %s)", (word, word and word[:3], latin)
                )
        yield server


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> Database:
    name = {"postgresql": "postgres", "mariadb": "maria"}[kind]
    found: Database = request.getfixturevalue(name)
    return found


def run(server: Database, *statements: str) -> list[Any]:
    """What the last statement gives, run by the owner."""
    opened = connect_postgresql if server.scheme == "postgresql" else connect_mariadb
    with opened(server) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def table(server: Database, name: str, more: str = "") -> Source:
    return open_source(server.url(f"table={quote(name)}{more}"))


def query(server: Database, text: str, **options: str) -> Source:
    return open_source(server.url(f"query={quote(text)}", **options))


def rows(source: Source, *columns: str, where: Where = ()) -> list[tuple[object, ...]]:
    read: list[tuple[object, ...]] = []
    for batch in source.scan(columns or source.schema().names, where):
        batch.validate(full=True)
        read += zip(*(column.to_pylist() for column in batch.columns), strict=True)
    return read


def rejection(read: Callable[[], object]) -> str:
    with pytest.raises(InputRejected) as refused:
        read()
    assert "hunter2" not in str(refused.value)
    # Nor where a traceback would show it.
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    return str(refused.value)


def test_postgresql_keeps_every_value_exactly(postgres: Database) -> None:
    run(
        postgres,
        "CREATE TABLE kinds(id varchar(18), ch char(5), i2 smallint, i8 bigint, fee numeric(12,2),"
        " wide numeric(50,3), loose numeric, f4 real, f8 float8, ok boolean, raw bytea, day date,"
        " at timestamp, moment timestamptz, clock time, j jsonb, list int[])",
        "INSERT INTO kinds VALUES ('007', 'ab', 1, 9223372036854775807, 12.10, 1e40, 1.50, 0.1,"
        " 0.1, true, '\\x00ff', '2026-01-02', '2026-01-02 03:04:05.000006',"
        " '2026-01-02 03:04:05+08', '03:04', '{\"a\": 1}', '{1,2}')",
        "INSERT INTO kinds(id) VALUES (NULL)",
    )
    source = table(postgres, "public.kinds")
    kinds = dict(zip(source.schema().names, source.schema().types, strict=True))
    assert kinds["fee"] == pa.decimal128(12, 2)
    assert kinds["wide"] == pa.decimal256(50, 3)
    assert kinds["moment"] == pa.timestamp("us", tz="UTC")
    found = dict(zip(kinds, rows(source)[0], strict=True))
    assert found.pop("f4") == pytest.approx(0.1)
    assert found == {
        "id": "007",
        "ch": "ab",
        "i2": 1,
        "i8": 9223372036854775807,
        "fee": Decimal("12.10"),
        "wide": Decimal(10) ** 40,
        "loose": "1.50",
        "f8": 0.1,
        "ok": True,
        "raw": b"\x00\xff",
        "day": date(2026, 1, 2),
        "at": datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001
        "moment": datetime(2026, 1, 1, 19, 4, 5, tzinfo=UTC),
        "clock": time(3, 4),
        "j": '{"a": 1}',
        "list": "{1,2}",
    }
    assert set(rows(source)[1]) == {None}
    where = (Condition("loose", Comparison.LT, ("2",)),)
    assert "does not sort" in rejection(lambda: rows(source, "id", where=where))


def test_mariadb_keeps_every_value_exactly(maria: Database) -> None:
    run(
        maria,
        "CREATE TABLE kinds(id varchar(18), t tinyint(1), u bigint unsigned, fee decimal(12,2),"
        " wide decimal(50,3), f4 float, f8 double, raw varbinary(9), day date, at datetime(6),"
        " moment timestamp(3) NULL, clock time, y year, e enum('x','y'), b bit(3), j json)",
        "SET time_zone = '+08:00'",
        "INSERT INTO kinds VALUES ('007', 1, 18446744073709551615, 12.1, 1e40, 16777217, 0.1,"
        " x'00ff', '2026-01-02', '2026-01-02 03:04:05.000006', '2026-01-02 03:04:05', '-25:00:00',"
        " 2026, 'x', b'101', '{\"a\": 1}')",
        "INSERT INTO kinds(id) VALUES (NULL)",
    )
    source = table(maria, "kinds")
    found = dict(zip(source.schema().names, rows(source)[0], strict=True))
    assert found == {
        "id": "007",
        "t": 1,
        "u": 18446744073709551615,
        "fee": Decimal("12.10"),
        "wide": Decimal(10) ** 40,
        "f4": 16777216.0,
        "f8": 0.1,
        "raw": b"\x00\xff",
        "day": date(2026, 1, 2),
        "at": datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001
        "moment": datetime(2026, 1, 1, 19, 4, 5, tzinfo=UTC),
        "clock": "-25:00:00",
        "y": 2026,
        "e": "x",
        "b": 5,
        "j": '{"a": 1}',
    }
    assert set(rows(source)[1]) == {None}


@BOTH
@pytest.mark.parametrize("examples", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_what_the_server_chooses_is_what_the_conditions_mean(
    server: Database, examples: int
) -> None:
    source = table(server, "words")
    everything = list(source.scan(["w", "c", "l"]))

    @settings(max_examples=examples, deadline=None, database=None)
    @given(
        column=st.sampled_from(["w", "c", "l"]),
        comparison=st.sampled_from(list(Comparison)),
        values=st.lists(TEXT, min_size=1, max_size=3),
    )
    def holds(column: str, comparison: Comparison, values: list[str]) -> None:
        named = tuple(values if comparison is Comparison.IS_ANY_OF else values[:1])
        where = (Condition(column, comparison, named),)
        expected = list(filtered(lambda _: iter(everything), ["w", "c", "l"], where))
        got = list(source.scan(["w", "c", "l"], where))
        assert [b.to_pylist() for b in got] == [b.to_pylist() for b in expected]

    holds()


@pytest.mark.slow
@BOTH
def test_numbers_and_dates_compare_as_what_they_are(server: Database) -> None:
    run(
        server,
        "CREATE TABLE numbers_(n int, d decimal(12,2), f double precision, day date)",
        "INSERT INTO numbers_ VALUES (9, 9.50, 0.5, '2026-01-09'), (10, 10, -0.0, '2026-01-10'),"
        " (-1, 10.50, 1e300, '2026-12-01'), (NULL, NULL, NULL, NULL)",
    )
    source = table(server, "numbers_")
    everything = list(source.scan(["n", "d", "f", "day"]))
    several = [("n", "10"), ("d", "10"), ("f", "0"), ("day", "2026-01-10")]
    every = [one for one in Comparison if one is not Comparison.STARTS_WITH]
    for (column, value), comparison in product(several, every):
        where = (Condition(column, comparison, (value,)),)
        expected = list(filtered(lambda _: iter(everything), ["n", "d", "f", "day"], where))
        got = list(source.scan(["n", "d", "f", "day"], where))
        assert [b.to_pylist() for b in got] == [b.to_pylist() for b in expected]


WRITING = [
    "INSERT INTO people VALUES ('x', 1)",
    "SELECT 1 AS a; DROP TABLE people",
    "SELECT 1 AS a) AS q; DROP TABLE people; -- ",
    "SELECT 1 AS a) AS q, (SELECT 2 AS b",
    "SELECT * FROM people INTO OUTFILE '/tmp/city-people'",
    "SELECT 1 AS a /*",
    "SELECT id FROM people INTO @x",
    "TRUNCATE people",
    "SET TRANSACTION READ WRITE",
    "-- \nSELECT 1",
]
WRITING_POSTGRESQL = [
    "WITH w AS (INSERT INTO people VALUES ('x', 1) RETURNING id) SELECT * FROM w",
    "SELECT * INTO other FROM people",
    "SELECT nextval('numbers')",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT * FROM pg_authid",
    "COPY people TO PROGRAM 'cat'",
    "SELECT 1 AS a FROM people FOR UPDATE",
]
WRITING_MARIADB = [
    "SELECT /*! 1 AS a INTO OUTFILE '/tmp/city-people' */",
    "SELECT /*M! 1 AS a */ FROM people",
    "SELECT writing() AS a",
    "SELECT * FROM mysql.user",
    "CALL x()",
]


@BOTH
def test_sql_that_writes_or_leaves_the_tables_is_refused(server: Database) -> None:
    before = run(server, "SELECT * FROM people")
    more = WRITING_POSTGRESQL
    if server.scheme == "mariadb":
        more = WRITING_MARIADB
        run(
            server,
            "CREATE FUNCTION writing() RETURNS int MODIFIES SQL DATA "
            "BEGIN INSERT INTO people VALUES ('x', 1); RETURN 1; END",
        )
        # As the owner, whose rights would let it.
        assert "sources are never written" in rejection(
            lambda: rows(query(server, "SELECT writing() AS a", user="owner"))
        )
    for statement in (*WRITING, *more):
        rejection(lambda text=statement: rows(query(server, text)))
    assert run(server, "SELECT * FROM people") == before


def test_a_superuser_of_postgresql_is_not_given_queries(postgres: Database) -> None:
    said = rejection(lambda: rows(query(postgres, "SELECT 1 AS a", user="postgres")))
    assert "GRANT SELECT" in said
    owned = open_source(postgres.url("table=people", user="postgres"))
    assert rows(owned, "id") == [("a",), ("hunter2",)]


@BOTH
def test_errors_name_the_remedy_and_no_value(server: Database) -> None:
    said = {
        "missing": rejection(lambda: rows(table(server, "elsewhere"))),
        "name": rejection(lambda: rows(table(server, 'people"; DROP TABLE people; --'))),
        "column": rejection(lambda: rows(table(server, "people"), "elsewhere")),
        "inside": rejection(lambda: rows(query(server, "SELECT elsewhere FROM people"))),
        "syntax": rejection(lambda: rows(query(server, "SELECT 'hunter2' FROM FROM people"))),
        "twice": rejection(lambda: rows(query(server, "SELECT id, id FROM people"))),
        "rights": rejection(lambda: rows(table(server, "hidden")))
        if hidden(server)
        else "GRANT SELECT",
    }
    assert "is not there" in said["missing"] + said["name"]
    assert "its columns are id, n" in said["column"]
    assert "names a column" in said["inside"]
    assert "query=" in said["syntax"]
    assert "own name" in said["twice"]
    assert "GRANT SELECT" in said["rights"]


def hidden(server: Database) -> bool:
    """A table that the reader may not read; MariaDB's grants are for the whole database."""
    if server.scheme == "postgresql":
        run(server, "CREATE TABLE hidden(a text)", "REVOKE ALL ON hidden FROM reader")
    return server.scheme == "postgresql"


def test_a_value_that_cannot_be_computed_with_is_not_shown(postgres: Database) -> None:
    late = (
        "SELECT CASE WHEN i < 300000 THEN '1' ELSE 'hunter2' END::int AS x "
        "FROM generate_series(1, 300000) i"
    )
    assert "could not compute" in rejection(lambda: rows(query(postgres, late), "x"))
    for cell, kind in (("infinity", "date"), ("-infinity", "timestamp"), ("NaN", "numeric(5,2)")):
        wrong = query(postgres, f"SELECT x::{kind} AS x FROM (VALUES (NULL), ('{cell}')) AS v(x)")
        assert "column x, row 2" in rejection(lambda source=wrong: rows(source, "x"))


def test_a_date_that_is_none_is_named_by_its_row(maria: Database) -> None:
    run(
        maria,
        "SET sql_mode = ''",
        "CREATE TABLE days(day date)",
        "INSERT INTO days VALUES ('2026-01-01'), ('0000-00-00')",
    )
    assert "days, column day, row 2" in rejection(lambda: rows(table(maria, "days")))


@BOTH
def test_who_may_not_enter_is_told_so_and_who_finds_nobody_may_try_again(
    server: Database, tmp_path: Path
) -> None:
    (tmp_path / "wrong").write_text("hunter2")
    (tmp_path / "wrong").chmod(0o600)
    base = f"{server.scheme}://reader@127.0.0.1"
    wrong = f"?table=people&secret=file:{tmp_path}/wrong"
    right = f"?table=people&secret=file:{server.secrets}/reader"
    for path in (f"/city{wrong}", f"/city{wrong}&sslmode=disable"):
        said = rejection(lambda p=path: open_source(f"{base}:{server.port}{p}").schema())
        assert "refuses user or password" in said
    nowhere = rejection(lambda: open_source(f"{base}:{server.port}/other{right}").schema())
    assert "database" in nowhere
    with pytest.raises(Unavailable, match="does not answer"):
        open_source(f"{base}:1/city{right}").schema()
    with pytest.raises(InputRejected, match="sslmode=disable"):
        open_source(f"{base}:{server.port}/city{right}&sslmode=require").schema()
    for options in ("&sslmode=maybe", "&sslmode=verify-full"):
        with pytest.raises(InputRejected, match="sslmode"):
            open_source(f"{base}/city{right}{options}")
    with pytest.raises(InputRejected, match="user@host"):
        open_source(f"{server.scheme}://127.0.0.1/city{right}")


@BOTH
def test_names_cannot_become_sql(server: Database) -> None:
    mark = '"' if server.scheme == "postgresql" else "`"
    name = mark + TRICKY.replace(mark, mark * 2) + mark
    run(server, f"CREATE TABLE {name}({name} varchar(9))".replace("%", "%"))
    run(server, f"INSERT INTO {name} VALUES ('x')")
    source = table(server, TRICKY)
    where = (Condition(TRICKY, Comparison.EQ, ("x",)), Condition(TRICKY, Comparison.GT, ("a",)))
    assert rows(source, TRICKY, where=where) == [("x",)]
    injected = (Condition(TRICKY, Comparison.EQ, ("x' OR '1'='1",)),)
    assert rows(source, TRICKY, where=injected) == []


@BOTH
def test_a_version_changes_with_rows_and_not_with_their_order(server: Database) -> None:
    run(server, "CREATE TABLE changing(id varchar(9), n int)")
    source = table(server, "changing")
    bynumber = table(server, "changing", "&version=n")
    seen: list[tuple[str, str]] = []
    for statement in (
        "INSERT INTO changing VALUES ('a', 1), ('b', 2)",
        "UPDATE changing SET id = 'c' WHERE n = 1",
        "UPDATE changing SET n = NULL WHERE id = 'c'",
        "INSERT INTO changing VALUES ('b', 2)",
    ):
        run(server, statement)
        seen.append((source.version(), bynumber.version()))
    assert len({one for one, _ in seen}) == 4
    assert seen[0][1] == seen[1][1] != seen[3][1]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", seen[0][0])
    run(server, "DELETE FROM changing", "INSERT INTO changing VALUES ('b', 2), ('a', 1)")
    assert source.version() == seen[0][0]


@BOTH
def test_a_table_without_rows_is_refused_and_a_view_is_read(server: Database) -> None:
    run(
        server,
        "CREATE TABLE nobody(id varchar(9))",
        "CREATE VIEW first_of AS SELECT id FROM people WHERE n = 1",
    )
    assert "no rows" in rejection(lambda: rows(table(server, "nobody")))
    assert rows(table(server, "first_of")) == [("a",)]
    none = (Condition("id", Comparison.EQ, ("z",)),)
    assert rows(table(server, "people"), "id", where=none) == []
    with_clause = "WITH w AS (SELECT n FROM people) SELECT sum(n) AS total FROM w -- all"
    assert [str(total) for (total,) in rows(query(server, with_clause))] == ["3"]
    told = table(server, "people").description()
    assert told["server"].startswith(("PostgreSQL ", "MariaDB 1"))
    assert server.password("reader") not in str(told)


@BOTH
def test_a_database_that_goes_away_on_the_way_is_said_to_have_given_part(
    server: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the 40 MB that are to come, no more lies in buffers than a few.
    monkeypatch.setattr(database_mysql, "BATCH_ROWS", 1_000)
    long = "SELECT i, repeat('x', 100) AS x FROM generate_series(1, 400000) AS i"
    stop = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'city-dataspace'"
    )
    if server.scheme == "mariadb":
        long = "SELECT seq AS i, repeat('x', 100) AS x FROM seq_1_to_400000"
        stop = "KILL USER reader"
    scan = query(server, long).scan(["i", "x"])
    assert next(scan).num_rows > 0
    run_as_superuser(server, stop)
    with pytest.raises(Unavailable, match="what came until then is not all"):
        list(scan)


def test_a_table_that_is_locked_is_to_be_tried_again(postgres: Database) -> None:
    with connect_postgresql(postgres) as connection, connection.transaction():
        connection.execute("LOCK TABLE people")
        with pytest.raises(Unavailable, match="55P03"):
            rows(table(postgres, "people", "&timeout=1"))


def run_as_superuser(server: Database, statement: str) -> None:
    if server.scheme == "postgresql":
        with connect_postgresql(server, "postgres") as connection:
            connection.execute(statement)
    else:
        with connect_mariadb(server, "root") as connection, connection.cursor() as cursor:
            cursor.execute(statement)


@BOTH
def test_a_scan_that_is_left_leaves_no_connection(server: Database) -> None:
    count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader'"
    if server.scheme == "mariadb":
        count = "SELECT count(*) FROM information_schema.processlist WHERE user = 'reader'"
    scan = table(server, "words").scan(["w"])
    next(scan)
    scan.close()
    for _ in range(1000):
        # The server takes a moment to notice.
        if run(server, count)[0][0] == 0:
            return
    raise AssertionError("a connection was left open")


@pytest.mark.slow
@BOTH
def test_a_million_rows_are_read_in_bounded_memory(server: Database) -> None:
    series = "generate_series(1, 1000000) AS i"
    text = "lpad(i::text, 18, '440305')"
    if server.scheme == "mariadb":
        series, text = "(SELECT seq AS i FROM seq_1_to_1000000) AS s", "lpad(i, 18, '440305')"
    run(
        server,
        f"CREATE TABLE million AS SELECT {text} AS id, i AS n, {text} AS a, {text} AS b "
        f"FROM {series}",
    )
    script = (
        "import resource, sys\n"
        "from connectors.source import open_source\n"
        "source = open_source(sys.argv[1])\n"
        "scan = source.scan(['id', 'n', 'a', 'b'])\n"
        "rows = next(scan).num_rows\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rows += sum(batch.num_rows for batch in scan)\n"
        "print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, server.url("table=million")],
        check=True,
        capture_output=True,
        text=True,
    )
    count, grown_mb = (int(part) for part in done.stdout.split())
    assert count == 1_000_000
    # The rows are 80 MB; after the first batch nothing more is held.
    assert grown_mb < 60


@pytest.mark.slow
@BOTH
def test_a_server_that_is_killed_on_the_way_is_said_to_have_given_part(kind: str) -> None:
    started = postgresql() if kind == "postgresql" else mariadb()
    long = "SELECT i, repeat('x', 100) AS x FROM generate_series(1, 400000) AS i"
    if kind == "mariadb":
        long = "SELECT seq AS i, repeat('x', 100) AS x FROM seq_1_to_400000"
    with started as server:
        source = query(server, long)
        scan = source.scan(["i", "x"])
        next(scan)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        with pytest.raises(Unavailable, match="not all"):
            list(scan)
        with pytest.raises(Unavailable, match="does not answer"):
            list(source.scan(["i"]))
