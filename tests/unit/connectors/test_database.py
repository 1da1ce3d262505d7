import re
import shutil
import sqlite3
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors import database_sqlite
from connectors.conditions import Comparison, Condition, Where, filtered
from connectors.database import quoted
from connectors.errors import InputRejected, Unavailable
from connectors.source import Source, open_source

Make = Callable[..., Source]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=3) | st.sampled_from(
    ["a", "A", "a ", "ab", "%", "a%", "_", "10", "9", "", "é", "e", "\0"]
)
TRICKY = 'a"b`c]; DROP TABLE t; -- %s ? :x \\'


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make_and_open(script: str, options: str = "table=t") -> Source:
        with sqlite3.connect(tmp_path / "a.db") as connection:
            connection.executescript(f"PRAGMA synchronous = OFF; {script}")
        connection.close()
        return open_source(f"sqlite://{tmp_path}/a.db?{options}")

    return make_and_open


def rows(source: Source, *columns: str, where: Where = ()) -> list[tuple[object, ...]]:
    read: list[tuple[object, ...]] = []
    for batch in source.scan(columns, where):
        assert batch.schema.names == list(columns)
        read += zip(*(column.to_pylist() for column in batch.columns), strict=True)
    return read


def rejection(source: Source, *columns: str, where: Where = ()) -> str:
    with pytest.raises(InputRejected) as refused:
        rows(source, *columns, where=where)
    return str(refused.value)


def query(text: str) -> str:
    return f"query={quote(text)}"


def test_a_column_has_the_type_it_is_declared_as_whatever_its_first_rows_hold(make: Make) -> None:
    empty = "INSERT INTO t VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL);" * 3
    source = make(
        "CREATE TABLE t(id TEXT, n BIGINT, r REAL, fee DECIMAL(12,2), any, b BLOB, day DATE);"
        + empty
        + "INSERT INTO t VALUES ('007', 9007199254740993, 0.1, 12.1, 440305199001011234, x'00ff', "
        "'2026-01-02')"
    )
    assert source.schema() == pa.schema(
        [
            ("id", pa.string()),
            ("n", pa.int64()),
            ("r", pa.float64()),
            ("fee", pa.decimal128(12, 2)),
            ("any", pa.string()),
            ("b", pa.binary()),
            ("day", pa.string()),
        ]
    )
    assert rows(source, *source.schema().names)[3] == (
        "007",
        9007199254740993,
        0.1,
        Decimal("12.10"),
        "440305199001011234",
        b"\x00\xff",
        "2026-01-02",
    )
    assert rows(source, "n", "id")[3] == (9007199254740993, "007")


def test_types_hold_where_only_a_row_beyond_the_first_batch_has_a_value(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_sqlite, "BATCH_ROWS", 4)
    source = make(
        "CREATE TABLE t(a TEXT, n INTEGER, r REAL);"
        + f"INSERT INTO t VALUES {', '.join(['(NULL, NULL, NULL)'] * 30)};"
        + "INSERT INTO t VALUES ('x', 7, 2);"
    )
    assert rows(source, "a", "n", "r")[-1] == ("x", 7, 2.0)


@pytest.mark.parametrize("before", [0, 30])
@pytest.mark.parametrize(
    ("declared", "cell"),
    [
        ("INTEGER", "'secret'"),
        ("INTEGER", "1.5"),
        ("REAL", "'secret'"),
        ("TEXT", "x'ff'"),
        ("DECIMAL(5,2)", "0.333"),
        ("DECIMAL(5,2)", "'secret'"),
        ("DECIMAL(5,2)", "123456"),
        ("NUMERIC", "x'ff'"),
    ],
)
def test_a_cell_that_is_not_what_its_column_is_declared_as_is_named_not_shown(
    make: Make, monkeypatch: pytest.MonkeyPatch, declared: str, cell: str, before: int
) -> None:
    monkeypatch.setattr(database_sqlite, "BATCH_ROWS", 4)
    source = make(
        f"CREATE TABLE t(x {declared}); INSERT INTO t VALUES " + "(NULL), " * before + f"({cell})"
    )
    message = rejection(source, "x")
    assert f"t, column x, row {before + 1}: " in message
    assert "secret" not in message
    assert "query=" in message


def test_real_numbers_without_a_precision_become_the_shortest_text_that_is_the_same(
    make: Make,
) -> None:
    source = make(
        "CREATE TABLE t(x NUMERIC); INSERT INTO t VALUES (12.1), (0.1 + 0.2), (12), (1e300), ('x')"
    )
    assert rows(source, "x") == [
        ("12.1",),
        ("0.30000000000000004",),
        ("12",),
        ("1.0e+300",),
        ("x",),
    ]
    condition = Condition("x", Comparison.GT, ("9",))
    assert "does not sort as what it means" in rejection(source, "x", where=(condition,))


def test_queries_views_and_attached_names_are_read(make: Make) -> None:
    script = (
        "CREATE TABLE t(id TEXT, n INTEGER);"
        "INSERT INTO t VALUES ('a', 1), ('a', 2), ('b', 3);"
        "CREATE VIEW v AS SELECT id, n FROM t WHERE n > 1;"
    )
    assert rows(make(script, "table=v"), "n") == [(2,), (3,)]
    again = "SELECT 1"
    assert rows(make(again, "table=main.t"), "id") == [("a",), ("a",), ("b",)]
    totals = make(again, query("SELECT id, sum(n) AS total FROM t GROUP BY id -- by person"))
    assert rows(totals, "total", "id") == [("3", "a"), ("3", "b")]
    with_clause = make(again, query("WITH w AS (SELECT n FROM t) SELECT * FROM w;"))
    assert rows(with_clause, "n") == [(1,), (2,), (3,)]
    where = (Condition("total", Comparison.EQ, ("3",)), Condition("id", Comparison.EQ, ("b",)))
    assert rows(totals, "id", where=where) == [("b",)]
    assert totals.name == "the query"
    assert totals.description()["query"].startswith("SELECT id")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t VALUES ('x')",
        "INSERT INTO t VALUES ('x') RETURNING *",
        "WITH w AS (SELECT 1) DELETE FROM t",
        "WITH w AS (SELECT 1) INSERT INTO t SELECT 'x'",
        "DROP TABLE t",
        "SELECT 1; DROP TABLE t",
        "SELECT 1) AS q; DROP TABLE t; --",
        "SELECT 1 AS a) UNION ALL SELECT * FROM (SELECT 2",
        "SELECT 1 /*",
        "ATTACH '/tmp/other.db' AS other",
        "SELECT load_extension('libc.so.6')",
        "PRAGMA journal_mode = DELETE",
        "VACUUM INTO '/tmp/other.db'",
        "EXPLAIN SELECT 1",
        "SELECT writefile('/tmp/x', 'y')",
        "SELECT ?",
        "-- \nSELECT 1",
        "",
    ],
)
def test_sql_that_is_not_one_query_is_refused_and_changes_nothing(
    make: Make, tmp_path: Path, statement: str
) -> None:
    source = make("CREATE TABLE t(id TEXT); INSERT INTO t VALUES ('a')")
    before = (tmp_path / "a.db").read_bytes()
    with pytest.raises(InputRejected, match="query"):
        rows(make("SELECT 1", query(statement)), "id")
    assert (tmp_path / "a.db").read_bytes() == before
    assert rows(source, "id") == [("a",)]
    assert {path.name for path in tmp_path.iterdir()} == {"a.db"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "either table=NAME"),
        ("table=t&query=SELECT%201", "either table=NAME"),
        ("table=t&tabel=x", "no option tabel"),
        ("table=", "takes a name"),
        ("table=a..b", "takes a name"),
        ("table=t&version=", "takes the name of a column"),
        ("table=t&timeout=0", "whole seconds"),
        ("table=t&timeout=1.5", "whole seconds"),
        ("table=t&timeout=99999", "whole seconds"),
        (f"query={'SELECT' + 'x' * 100_001}", "at most"),
    ],
)
def test_options_that_cannot_be_are_refused_when_the_source_is_opened(
    make: Make, options: str, said: str
) -> None:
    with pytest.raises(InputRejected, match=said):
        make("CREATE TABLE t(id TEXT)", options)


@pytest.mark.parametrize(
    ("columns", "where", "said"),
    [
        (["idd"], (), r"t has no column idd; its columns are id, n; did you mean id\?"),
        (["id", "id"], (), "more than once"),
        (["id"], (Condition("m", Comparison.EQ, ("1",)),), "no column m"),
        (["id"], (Condition("n", Comparison.EQ, ("x",)),), "column n holds int64"),
        (["id"], (Condition("n", Comparison.STARTS_WITH, ("1",)),), "column n holds int64"),
    ],
)
def test_columns_that_cannot_be_read_or_compared_are_named(
    make: Make, columns: list[str], where: Where, said: str
) -> None:
    source = make("CREATE TABLE t(id TEXT, n INTEGER); INSERT INTO t VALUES ('a', 1)")
    assert re.search(said, rejection(source, *columns, where=where))


def test_a_missing_table_is_named_with_those_there_are(make: Make) -> None:
    source = make("CREATE TABLE people(id TEXT); CREATE VIEW v AS SELECT 1 AS a", "table=t")
    assert "no table or view t; there are: people, v" in rejection(source, "id")
    for wrong in ("SELECT * FROM elsewhere", "SELECT elsewhere FROM people"):
        assert "names a table or column" in rejection(make("SELECT 1", query(wrong)), "id")


def test_a_table_without_rows_is_refused_and_one_where_none_meets_the_conditions_is_not(
    make: Make,
) -> None:
    none = (Condition("id", Comparison.EQ, ("b",)),)
    source = make("CREATE TABLE t(id TEXT)")
    assert "has columns but no rows" in rejection(source, "id")
    assert "has columns but no rows" in rejection(source, "id", where=none)
    filled = make("INSERT INTO t VALUES ('a')")
    assert rows(filled, "id", where=none) == []


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cells=st.lists(
        st.tuples(st.none() | TEXT, st.none() | TEXT, st.none() | st.integers(-12, 12)),
        min_size=1,
        max_size=6,
    ),
    column=st.sampled_from(["exact", "folded", "loose", TRICKY]),
    comparison=st.sampled_from(list(Comparison)),
    values=st.lists(TEXT, min_size=1, max_size=3),
    encoding=st.sampled_from(["UTF-8", "UTF-16"]),
)
def test_what_the_database_chooses_is_what_the_conditions_mean(
    tmp_path: Path,
    cells: list[tuple[str | None, str | None, int | None]],
    column: str,
    comparison: Comparison,
    values: list[str],
    encoding: str,
) -> None:
    path = tmp_path / "p.db"
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute(
            f"CREATE TABLE t(exact TEXT, folded TEXT COLLATE NOCASE, loose, {quoted(TRICKY)} TEXT)"
        )
        for a, b, c in cells:
            connection.execute("INSERT INTO t VALUES (?, ?, ?, ?)", (a, b, c, a))
    connection.close()
    source = open_source(f"sqlite://{path}?table=t")
    named = tuple(values if comparison is Comparison.IS_ANY_OF else values[:1])
    where = (Condition(column, comparison, named),)
    everything = list(filtered(source.scan, ["exact", "folded", "loose"], where))
    expected = [row for batch in everything for row in batch.to_pylist()]
    if column == "loose" and comparison.name[:2] in ("LT", "GT"):
        assert "does not sort" in rejection(source, "exact", where=where)
        return
    got = list(source.scan(["exact", "folded", "loose"], where))
    assert [row for batch in got for row in batch.to_pylist()] == expected


@pytest.mark.parametrize("comparison", [c for c in Comparison if c is not Comparison.STARTS_WITH])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("n", value) for value in ("10", "-1", "9223372036854775807")),
        *(("r", value) for value in ("0.5", "-0", "nan", "inf")),
        *(("d", value) for value in ("10", "10.50")),
    ],
)
def test_numbers_compare_as_numbers(
    make: Make, comparison: Comparison, column: str, value: str
) -> None:
    source = make(
        "CREATE TABLE t(n INTEGER, r REAL, d DECIMAL(12,2));"
        "INSERT INTO t VALUES (9, 0.5, 9.5), (10, -0.0, 10), (-1, 9e999, 10.5),"
        "(NULL, NULL, NULL), (9223372036854775807, 0.25, 100)"
    )
    where = (Condition(column, comparison, (value,)),)
    expected = [
        row
        for batch in filtered(source.scan, ["n", "r", "d"], where)
        for row in zip(*(part.to_pylist() for part in batch.columns), strict=True)
    ]
    assert rows(source, "n", "r", "d", where=where) == expected


def test_names_cannot_become_sql(make: Make) -> None:
    name = quoted(TRICKY)
    source = make(
        f"CREATE TABLE {name}({name} TEXT, n INTEGER); INSERT INTO {name} VALUES ('x', 1);"
        "CREATE TABLE t(a TEXT)",
        f"table={quote(TRICKY)}",
    )
    assert rows(source, TRICKY, where=(Condition(TRICKY, Comparison.EQ, ("x",)),)) == [("x",)]
    assert "no column" in rejection(source, '1; DROP TABLE t"')
    assert "no table or view" in rejection(make("SELECT 1", "table=t%22%3BDROP"), "a")


def test_a_version_changes_with_rows_columns_and_types_and_with_nothing_else(make: Make) -> None:
    source = make("CREATE TABLE t(id TEXT, n INTEGER); INSERT INTO t VALUES ('a', 1), ('b', 2)")
    seen = [source.version()]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", seen[0])
    for change in (
        "UPDATE t SET n = 3 WHERE id = 'b'",
        "UPDATE t SET n = NULL WHERE id = 'b'",
        "INSERT INTO t VALUES ('a', 1)",
        "DELETE FROM t WHERE id = 'b'",
        "ALTER TABLE t ADD COLUMN d TEXT",
        "ALTER TABLE t RENAME COLUMN d TO e",
        "UPDATE t SET e = ''",
        "UPDATE t SET id = '1', e = '1:a'",
        "UPDATE t SET id = '11', e = ':a'",
    ):
        seen.append(make(change).version())
    assert len(set(seen)) == len(seen)
    other = "DELETE FROM t; CREATE TABLE IF NOT EXISTS u(x); INSERT INTO t VALUES "
    one = make(f"{other} ('x', 1, 'y'), ('z', 2, '')").version()
    assert make(f"{other} ('z', 2, ''), ('x', 1, 'y'); VACUUM").version() == one


def test_a_version_by_column_is_number_of_rows_and_largest_value(make: Make) -> None:
    options = "table=t&version=at"
    source = make("CREATE TABLE t(x TEXT, at TEXT); INSERT INTO t VALUES ('a', '2026')", options)
    first = source.version()
    assert make("UPDATE t SET x = 'b'", options).version() == first
    assert make("UPDATE t SET at = '2027'", options).version() != first
    assert make("UPDATE t SET at = '2026'; INSERT INTO t VALUES ('b', '2025')").version() != first
    with pytest.raises(InputRejected, match="no column when"):
        make("SELECT 1", "table=t&version=when").version()


def test_what_a_source_is_can_be_seen_by_its_owner(make: Make) -> None:
    told = make("CREATE TABLE t(id TEXT)", "table=t&version=id").description()
    assert told["format"] == "database (SQLite)"
    assert told["table"] == "t"
    assert told["version"] == "number of rows and largest id"
    assert "read-only" in told["reading"]


def test_a_file_that_is_locked_is_to_be_tried_again(make: Make, tmp_path: Path) -> None:
    source = make("CREATE TABLE t(id TEXT); INSERT INTO t VALUES ('a')", "table=t&timeout=1")
    writer = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unavailable, match=r"a\.db is locked"):
        rows(source, "id")
    writer.execute("ROLLBACK")
    writer.close()
    assert rows(source, "id") == [("a",)]


def test_a_scan_sees_one_state_of_a_file_that_is_written_to(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_sqlite, "BATCH_ROWS", 2)
    source = make(
        "PRAGMA journal_mode = WAL; CREATE TABLE t(n INTEGER);"
        "INSERT INTO t VALUES (1), (2), (3), (4), (5), (6)"
    )
    scan = source.scan(["n"])
    next(scan)
    with sqlite3.connect(tmp_path / "a.db") as writer:
        writer.execute("DELETE FROM t")
    writer.close()
    assert sum(batch.num_rows for batch in scan) >= 4
    assert "no rows" in rejection(source, "n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"id,name\n1,x\n" * 100, "is not a file of SQLite"),
        (b"SQLite format 3\0" + b"\xff" * 4096, "SQLite"),
    ],
)
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.db").write_bytes(content)
    source = open_source(f"sqlite://{tmp_path}/a.db?table=t")
    assert said in rejection(source, "id")


def test_a_file_that_is_gone_is_named_and_never_made(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match=r"no file a\.db"):
        open_source(f"sqlite://{tmp_path}/a.db?table=t")
    odd = tmp_path / "a ?#%41&b"
    odd.mkdir()
    with sqlite3.connect(odd / "c.db") as connection:
        connection.executescript("CREATE TABLE t(n INTEGER); INSERT INTO t VALUES (1)")
    connection.close()
    assert rows(open_source(f"sqlite://{quote(str(odd))}/c.db?table=t"), "n") == [(1,)]
    shutil.rmtree(odd)
    with pytest.raises(InputRejected, match="absolute"):
        open_source("sqlite://host/a.db?table=t")
    (tmp_path / "b.db").write_bytes(b"")
    source = open_source(f"sqlite://{tmp_path}/b.db?table=t")
    (tmp_path / "b.db").unlink()
    assert "no file b.db" in rejection(source, "id")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "missing", "url", "said"),
    [
        ("postgresql", "psycopg", "postgresql://u@h/d?table=t", r"city-dataspace\[postgres\]"),
        ("mysql", "pymysql", "mariadb://u@h/d?table=t", r"city-dataspace\[mysql\]"),
    ],
)
def test_a_driver_that_is_not_installed_is_named_by_its_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, missing: str, url: str, said: str
) -> None:
    for name in (f"connectors.database_{module}", f"connectors.database_{module}_errors"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputRejected, match=said):
        open_source(url)
    monkeypatch.delitem(sys.modules, f"connectors.database_{module}", raising=False)


def test_another_dialect_is_read_through_sqlalchemy(make: Make, tmp_path: Path) -> None:
    make(
        "CREATE TABLE t(id VARCHAR(18), n INTEGER, fee NUMERIC(12,2), day DATE);"
        "INSERT INTO t VALUES ('007', 1, 12.5, '2026-01-02'), ('b', NULL, NULL, NULL)"
    )
    base = f"sql+sqlite:///{tmp_path}/a.db"
    source = open_source(f"{base}?table=t")
    assert source.schema().field("fee").type == pa.decimal128(12, 2)
    assert rows(source, "fee", "id") == [(Decimal("12.50"), "007"), (None, "b")]
    where = (Condition("id", Comparison.EQ, ("007",)), Condition("n", Comparison.LT, ("2",)))
    assert rows(source, "n", where=where) == [(1,)]
    counted = open_source(f"{base}?{query('SELECT count(*) AS n, 1.5 AS x FROM t')}")
    assert rows(counted, "n", "x") == [("2", "1.5")]
    assert source.version() != counted.version()
    for wrong in ("SELECT 1; DROP TABLE t", "SELECT 1) AS q, (SELECT 2", "DELETE FROM t"):
        with pytest.raises(InputRejected, match="query="):
            open_source(f"{base}?{query(wrong)}")
    with pytest.raises(InputRejected, match="no such dialect"):
        open_source("sql+nothing://u@h/d?table=t").schema()
    with pytest.raises(InputRejected, match=r"sql\+dialect"):
        open_source("sql://u@h/d?table=t")
