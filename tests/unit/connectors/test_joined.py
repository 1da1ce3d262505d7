import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote, urlencode

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors import joined
from connectors.conditions import Comparison, Condition, Where
from connectors.errors import InputRejected
from connectors.joined_query import Query
from connectors.source import Source, open_source

Join = Callable[..., Source]
MEMBERS = {"a": ["id", "n", "x"], "b": ["id", "v", "w"]}


@pytest.fixture
def join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Join:
    """Two sources of two formats; temporary directories in a place that the test sees."""
    (tmp_path / "a.csv").write_text("id,name\n1,x\n2,y\n3,hunter2\n", encoding="utf-8")
    table = pa.table(
        {
            "id": ["1", "3", "3"],
            "fee": pa.array([Decimal("1.50"), Decimal(2), None], pa.decimal128(12, 2)),
            "day": [date(2026, 1, 1), date(2026, 1, 2), None],
            "raw": [b"\xff", None, b""],
        }
    )
    pq.write_table(table, tmp_path / "b.parquet")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(joined.tempfile, "tempdir", str(tmp_path / "scratch"))
    both = {"a": str(tmp_path / "a.csv"), "b": f"file:{tmp_path}/b.parquet"}
    return lambda sql, **more: open_source(address(sql, **(more or both)))


def address(sql: str, **members: str) -> str:
    return "joined:?" + urlencode({"sql": sql, **members}, quote_via=quote)


def rows(source: Source, *columns: str, where: Where = ()) -> list[tuple[object, ...]]:
    read: list[tuple[object, ...]] = []
    for batch in source.scan(columns or source.schema().names, where):
        read += zip(*(column.to_pylist() for column in batch.columns), strict=True)
    return read


def rejection(read: Callable[[], object]) -> str:
    with pytest.raises(InputRejected) as refused:
        read()
    assert "hunter2" not in str(refused.value)
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    return str(refused.value)


def test_sources_of_different_kinds_are_joined_with_their_types(join: Join, tmp_path: Path) -> None:
    source = join("SELECT a.id, name, fee, day, raw FROM a LEFT JOIN b USING (id) ORDER BY 1, fee")
    assert source.schema() == pa.schema(
        [
            ("id", pa.string()),
            ("name", pa.string()),
            ("fee", pa.decimal128(12, 2)),
            ("day", pa.date32()),
            ("raw", pa.binary()),
        ]
    )
    assert rows(source) == [
        ("1", "x", Decimal("1.50"), date(2026, 1, 1), b"\xff"),
        ("2", "y", None, None, None),
        ("3", "hunter2", Decimal("2.00"), date(2026, 1, 2), None),
        ("3", "hunter2", None, None, b""),
    ]
    where = (Condition("fee", Comparison.GTEQ, ("2",)),)
    assert rows(source, "name", "id", where=where) == [("hunter2", "3")]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_totals_windows_and_common_tables_are_sql_that_reads(join: Join) -> None:
    assert rows(join("SELECT count(*) AS n FROM b"), "n") == [(3,)]
    totals = "WITH t AS (SELECT id, sum(fee) AS s FROM b GROUP BY id) SELECT * FROM t ORDER BY id;"
    assert rows(join(totals), "id", "s") == [("1", Decimal("1.50")), ("3", Decimal("2.00"))]
    numbered = "SELECT name, row_number() OVER (ORDER BY name) AS n FROM a QUALIFY n = 1"
    assert rows(join(numbered), "name", "n") == [("hunter2", 1)]
    assert rows(join("FROM a WHERE id = '2'"), "id", "name") == [("2", "y")]
    assert rows(join("SELECT i FROM range(2) AS r(i), a WHERE a.id = '1'"), "i") == [(0,), (1,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv_auto('a.csv')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM pg_catalog.pg_class",
        "SELECT * FROM main.a",
        "SELECT getenv('HOME') AS x FROM a",
        "SELECT current_setting('temp_directory') AS x",
        "SELECT read_blob('/etc/passwd') AS x",
        "ATTACH '/tmp/other.db'",
        "COPY a TO '/tmp/city-a.csv'",
        "COPY (SELECT 1) TO '/tmp/city-a.csv'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "SET memory_limit = '100GB'",
        "EXPORT DATABASE '/tmp/city-export'",
        "INSERT INTO a VALUES ('4', 'z')",
        "CREATE TABLE c AS SELECT 1",
        "DROP TABLE a",
        "SELECT 1; SELECT 2",
        "SELECT 1; ATTACH '/tmp/other.db'",
        "CALL pragma_version()",
        "DESCRIBE a",
        "SUMMARIZE a",
        "SHOW TABLES",
        "EXPLAIN SELECT 1",
        "EXECUTE x",
        "SELECT now() AS x",
        "SELECT current_date AS x FROM a",
        "SELECT random() AS x FROM a",
        "SELECT uuid() AS x FROM a",
        "SELECT nextval('s') AS x",
        "SELECT pg_sleep(1) AS x",
        "SELECT * FROM a USING SAMPLE 1",
        "SELECT * FROM a TABLESAMPLE 10%",
        "SELECT * FROM c",
        "SELECT name AS x, id AS x FROM a JOIN c USING (id)",
        "SELEC",
        "",
    ],
)
def test_sql_that_reaches_beyond_its_sources_is_refused(
    join: Join, tmp_path: Path, sql: str
) -> None:
    rejection(lambda: rows(join(sql)))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_engine_is_locked_even_if_the_query_were_let_through(join: Join) -> None:
    schemas = {"a": pa.schema([("id", pa.string())])}
    query = Query("SELECT id FROM a", {"a": ["id"]})
    with joined._locked(schemas, query, None) as engine:
        for statement in (
            "SELECT * FROM read_text('/etc/passwd')",
            "SELECT * FROM '/etc/passwd'",
            "COPY a TO '/tmp/city-a.csv'",
            "ATTACH '/tmp/city-other.db'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET enable_external_access = true",
            "SET memory_limit = '100GB'",
            "RESET lock_configuration",
            "EXPORT DATABASE '/tmp/city-export'",
        ):
            with pytest.raises(duckdb.Error):
                engine.execute(statement)


@pytest.mark.parametrize(
    ("sql", "a", "b"),
    [
        ("SELECT a.id FROM a JOIN b ON a.id = b.id WHERE b.V > 1", ["id"], ["id", "v"]),
        ("SELECT n FROM a JOIN b USING (id)", ["id", "n"], ["id"]),
        ("SELECT count(*) FROM a", ["id"], ["id"]),
        ("SELECT (SELECT max(w) FROM b WHERE b.id = a.id) FROM a", ["id"], ["id", "w"]),
        ("SELECT n AS total FROM a ORDER BY total", ["n"], ["id"]),
        # What may mean columns that it does not name.
        ("SELECT * FROM a", MEMBERS["a"], MEMBERS["b"]),
        ("SELECT b.* FROM a JOIN b USING (id)", MEMBERS["a"], MEMBERS["b"]),
        ("SELECT COLUMNS('i.*') FROM a", MEMBERS["a"], MEMBERS["b"]),
        ("SELECT id FROM a NATURAL JOIN b", MEMBERS["a"], MEMBERS["b"]),
        ("SELECT t FROM a AS t", MEMBERS["a"], MEMBERS["b"]),
        ("SELECT a FROM a", MEMBERS["a"], MEMBERS["b"]),
        ("SELECT q FROM a AS t(p, q)", MEMBERS["a"], MEMBERS["b"]),
        ("SELECT #1 FROM a", MEMBERS["a"], MEMBERS["b"]),
    ],
)
def test_only_columns_that_the_query_can_mean_are_loaded(
    sql: str, a: list[str], b: list[str]
) -> None:
    query = Query(sql, MEMBERS)
    assert (query.columns_of("a"), query.columns_of("b")) == (a, b)


def test_personal_and_joined_sources_are_no_members(join: Join, tmp_path: Path) -> None:
    (tmp_path / "consents.jsonl").write_text("")
    (tmp_path / "consents.jsonl").chmod(0o600)
    personal = f"personal+file:{tmp_path}/a.csv?consents={tmp_path}/consents.jsonl&subject=id"
    said = rejection(lambda: join("SELECT id FROM p", p=personal))
    assert "p holds personal data" in said
    nested = address("SELECT id FROM a", a=str(tmp_path / "a.csv"))
    for inner in (nested, nested.replace("joined", "JOINED")):
        assert "is joined itself" in rejection(lambda url=inner: join("SELECT id FROM n", n=url))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("joined:?sql=SELECT%201", "1 to 8 sources"),
        ("joined:?a=x.csv", "takes sql="),
        ("joined:?sql=SELECT%201&" + "&".join(f"s{n}=x.csv" for n in range(9)), "1 to 8 sources"),
        ("joined:?sql=SELECT%201&a=x.csv&a=y.csv", "given twice"),
        ("joined:?sql=SELECT%201&A=x.csv", "no name for a source"),
        ("joined:?sql=SELECT%201&a=no-such-file.csv", "no file no-such-file.csv"),
        ("joined:?sql=SELECT%201&a=http://h/x#items=d", "escapes"),
        ("joined://host/?sql=SELECT%201&a=x.csv", "joined:?sql="),
    ],
)
def test_an_address_that_names_no_join_is_refused(url: str, said: str) -> None:
    with pytest.raises(InputRejected, match=said.replace("?", r"\?")):
        open_source(url)


def test_errors_name_the_remedy_and_no_value(join: Join) -> None:
    cast = join("SELECT name::INTEGER AS x FROM a")
    assert "could not be computed" in rejection(lambda: rows(cast, "x"))
    assert "names a column" in rejection(lambda: rows(join("SELECT nothing FROM a")))
    twice = join("SELECT a.id, b.id FROM a JOIN b ON a.id = b.id")
    assert "own name" in rejection(twice.schema)
    assert "did you mean name?" in rejection(lambda: rows(join("SELECT name FROM a"), "nam"))
    none = join("SELECT name FROM a WHERE false")
    assert "no rows" in rejection(lambda: rows(none, "name"))


def test_a_member_that_cannot_be_read_says_so_itself(join: Join, tmp_path: Path) -> None:
    source = join("SELECT name FROM a")
    (tmp_path / "a.csv").write_text('id,name\n1,x\n2,"y\n')
    assert "a.csv" in rejection(lambda: rows(source))
    (tmp_path / "a.csv").write_text("id,name\n")
    assert "a.csv" in rejection(lambda: rows(source, "name"))
    wide = pa.table({"id": pa.array([Decimal(1)], pa.decimal256(60, 0))})
    pq.write_table(wide, tmp_path / "wide.parquet")
    said = rejection(lambda: rows(join("SELECT id FROM w", w=str(tmp_path / "wide.parquet"))))
    assert "w, column id: DuckDB holds no numbers of more than 38 digits" in said
    (tmp_path / "two.csv").write_text("id,ID\n1,2\n")
    said = rejection(lambda: rows(join("SELECT id FROM t", t=str(tmp_path / "two.csv"))))
    assert "no capitals apart" in said


def test_a_version_changes_with_the_query_and_with_any_member(join: Join, tmp_path: Path) -> None:
    sql = "SELECT name FROM a JOIN b USING (id)"
    seen = {join(sql).version(), join(f"{sql} ORDER BY 1").version()}
    (tmp_path / "a.csv").write_text("id,name\n1,z\n")
    seen.add(join(sql).version())
    assert join(sql).version() in seen
    assert len(seen) == 3
    assert join(sql).description()["a"] == "a.csv: delimited text"


def test_a_scan_that_is_left_leaves_no_files(join: Join, tmp_path: Path) -> None:
    scan = join("SELECT name FROM a").scan(["name"])
    next(scan)
    (directory,) = (tmp_path / "scratch").iterdir()
    assert directory.stat().st_mode & 0o777 == 0o700
    scan.close()
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.slow
def test_what_does_not_fit_into_memory_lies_in_files(tmp_path: Path) -> None:
    path = tmp_path / "big.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t(id TEXT, x TEXT)")
        connection.executemany(
            "INSERT INTO t VALUES (?, ?)",
            ((f"{n * 7919 % 1_000_003:018d}", f"{n}" * 20) for n in range(1_000_000)),
        )
    connection.close()
    table = f"sqlite://{path}?table=t"
    url = address("SELECT a.id, b.x FROM a JOIN b ON a.id = b.id ORDER BY a.id", a=table, b=table)
    script = (
        "import resource, sys\n"
        "from connectors import joined\n"
        "from connectors.source import open_source\n"
        "import duckdb\n"
        "joined.MEMORY_LIMIT = '150MB'\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "scan = open_source(sys.argv[1]).scan(['id', 'x'])\n"
        "rows = sum(batch.num_rows for batch in scan)\n"
        "print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, url], check=True, capture_output=True, text=True
    )
    count, grown_mb = (int(part) for part in done.stdout.split())
    assert count == 1_000_000
    # 280 MB of rows, twice loaded, joined and sorted; Arrow's batches come on top of the limit.
    assert grown_mb < 450
