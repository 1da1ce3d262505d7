"""Figures of sources: rows a second against bare libraries, identity numbers, memory.

    python tests/benchmarks/bench_connectors.py [--json] [--small] [--only PART]

Every source is read whole, all columns, in turns with the fastest bare library on the same file or
table in the same run. A source does more than its library: it finds out encoding and delimiter,
keeps every digit, names the row that is malformed, and looks whether the file changed meanwhile.
What this machine lacks is left out with a sentence.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

# The servers are those of the tests.
sys.path.insert(0, str(Path(__file__).parents[2]))

import connectors_bare as bare
import connectors_tables as tables
import pytest
from ledger_figures import Figure, figure, rate

from connectors.identifiers import ColumnReader, canonicalise
from connectors.quality import inspect
from connectors.source import open_source
from connectors.use import Use
from tests.servers_databases import mariadb, postgresql
from tests.servers_web import bucket_server, items_api, web_server

PEOPLE = 100_000
ROUNDS = 5
LEAST_RATIO = 0.7
LEAST_NUMBERS = 500_000
# Five times the rows may take this much more memory; the allocators' caches differ from run to run.
MOST_GROWTH = 1.25
API_ROWS, API_PAGE = 20_000, 1_000
# Linux counts what a process had before it became this program into ru_maxrss, but not into VmHWM.
CHILD = """
import re, resource, sys
from pathlib import Path
from connectors.source import open_source
source = open_source(sys.argv[1])
rows = sum(batch.num_rows for batch in source.scan(source.schema().names))
status = Path("/proc/self/status")
if status.exists():
    print(int(re.search(r"VmHWM:\\s+([0-9]+)", status.read_text())[1]) * 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def read_whole(url: str) -> int:
    """Open, look what is there, and read it: what a computation does."""
    source = open_source(url)
    return sum(batch.num_rows for batch in source.scan(tables.COLUMNS))


def compare(title: str, url: str, rows: int, peers: dict[str, bare.Bare]) -> list[Figure]:
    """Rows a second of the source and of each bare library, in turns; the best of each counts."""
    runs: dict[str, Callable[[], int]] = {"": lambda: read_whole(url), **peers}
    best = dict.fromkeys(runs, 0.0)
    for name, run in runs.items():
        assert run() == rows, f"{title} {name}: another number of rows"
    for _ in range(ROUNDS):
        for name, run in runs.items():
            best[name] = max(best[name], rate(rows, run))
    ours = best.pop("")
    fastest = max(best, key=lambda name: best[name])
    return [
        figure(f"{title}, {rows:,} rows", ours, "rows/s"),
        *(figure(f"  bare {name}", found, "rows/s") for name, found in best.items()),
        figure(f"  ratio to {fastest}", ours / best[fastest], "", least=LEAST_RATIO),
    ]


def peak_mb(url: str) -> float:
    """The most memory that a process of its own has had after reading the source."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, url],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"MALLOC_ARENA_MAX": "2"},
    )
    return int(done.stdout) / 1e6


def growth(title: str, few: str, many: str) -> list[Figure]:
    one, five = peak_mb(few), peak_mb(many)
    return [
        figure(f"{title}, peak memory", one, "MB"),
        figure("  at five times the rows", five, "MB"),
        figure("  ratio", five / one, "", most=MOST_GROWTH),
    ]


def bench_files(directory: Path, rows: tables.Rows, times: int) -> list[Figure]:
    """Files of this machine: time, then memory."""
    figures: list[Figure] = []
    formats = {
        "CSV": ("csv", tables.write_csv, bare.csv),
        "Parquet": ("parquet", tables.write_parquet, bare.parquet),
        "JSON lines": ("jsonl", tables.write_jsonl, bare.jsonl),
        "SQLite": ("sqlite", tables.write_sqlite, bare.sqlite),
    }
    for title, (ending, write, peers) in formats.items():
        few, many = (directory / f"{size}.{ending}" for size in ("few", "many"))
        write(few, rows, times)
        write(many, rows, 5 * times)
        head, tail = ("sqlite:", "?table=people") if ending == "sqlite" else ("", "")
        figures += compare(title, f"{head}{few}{tail}", len(rows) * times, peers(few))
        figures += growth(title, f"{head}{few}{tail}", f"{head}{many}{tail}")
        many.unlink()
    return figures


def bench_excel(directory: Path, rows: tables.Rows, times: int) -> list[Figure]:
    """A sheet is loaded whole, so its memory grows with its rows: there is no figure of it."""
    path = directory / "people.xlsx"
    tables.write_xlsx(path, rows, times)
    return compare("Excel", str(path), len(rows) * times, bare.xlsx(path))


def bench_postgresql(_: Path, rows: tables.Rows, times: int) -> list[Figure]:
    with postgresql() as server:
        url = server.url("table=people")
        tables.fill_postgresql(server, rows, times)
        figures = compare("PostgreSQL", url, len(rows) * times, bare.postgresql(server))
        one = peak_mb(url)
        tables.fill_postgresql(server, rows, 5 * times)
        return figures + _grown("PostgreSQL", one, peak_mb(url))


def bench_mariadb(_: Path, rows: tables.Rows, times: int) -> list[Figure]:
    with mariadb() as server:
        url = server.url("table=people")
        tables.fill_mariadb(server, rows, times)
        figures = compare("MariaDB", url, len(rows) * times, bare.mariadb(server))
        one = peak_mb(url)
        tables.fill_mariadb(server, rows, 5 * times)
        return figures + _grown("MariaDB", one, peak_mb(url))


def _grown(title: str, one: float, five: float) -> list[Figure]:
    return [
        figure(f"{title}, peak memory", one, "MB"),
        figure("  at five times the rows", five, "MB"),
        figure("  ratio", five / one, "", most=MOST_GROWTH),
    ]


def bench_bucket(directory: Path, rows: tables.Rows, times: int) -> list[Figure]:
    import pyarrow.fs as pafs

    path = directory / "bucket.parquet"
    tables.write_parquet(path, rows, times)
    with bucket_server() as endpoint, _variable("BENCH_BUCKET_KEYS", "key:secret"):
        store = pafs.S3FileSystem(
            access_key="key",
            secret_key="secret",
            endpoint_override=endpoint.removeprefix("http://"),
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )
        store.create_dir("city")
        with store.open_output_stream("city/people.parquet") as file:
            file.write(path.read_bytes())
        url = f"s3://city/people.parquet?endpoint={endpoint}&secret=env:BENCH_BUCKET_KEYS"
        return compare("S3, Parquet", url, len(rows) * times, bare.bucket(endpoint))


def bench_api(_: Path, rows: tables.Rows, __: int) -> list[Figure]:
    few = rows[:API_ROWS]
    with web_server(items_api(tables.as_items(few), cap=API_PAGE)) as server:
        url = f"http://{server.netloc}/by-offset"
        paging = f"items=data.items&offset=offset&size=limit&per={API_PAGE}"
        return compare("JSON API", f"json+{url}#{paging}", len(few), bare.api(url, API_PAGE))


def bench_identifiers(_: Path, rows: tables.Rows, times: int) -> list[Figure]:
    """Identity numbers through the reader that every computation uses, and what else is read."""
    columns = list(tables.identity_numbers(rows, times))
    count = len(rows) * times

    def read(canonicaliser: str) -> Callable[[], object]:
        def run() -> None:
            reader = ColumnReader(canonicaliser, column="resident_id")
            for column in columns:
                reader.feed(column)
            assert reader.report().valid == count

        return run

    def one_by_one() -> None:
        for row in rows:
            canonicalise("resident-id/1", row[0])

    whole = max(rate(count, read("resident-id/1")) for _ in range(ROUNDS))
    single = max(rate(len(rows), one_by_one) for _ in range(ROUNDS))
    return [
        figure("identity numbers, a column at a time", whole, "/s", least=LEAST_NUMBERS),
        figure("  one at a time", single, "/s"),
    ]


def bench_quality(directory: Path, rows: tables.Rows, times: int) -> list[Figure]:
    path = directory / "quality.csv"
    tables.write_csv(path, rows, times)
    use = Use("inspection", "owner", datetime.now(UTC))

    def run() -> None:
        source = open_source(str(path))
        report = inspect(source, {"resident_id": "resident-id/1"}, use=use)
        assert report.identifiers[0].quality.valid == len(rows) * times

    best = max(rate(len(rows) * times, run) for _ in range(2))
    return [figure("quality report of five columns, CSV", best, "rows/s")]


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


PARTS: dict[str, Callable[[Path, tables.Rows, int], list[Figure]]] = {
    "identifiers": bench_identifiers,
    "files": bench_files,
    "excel": bench_excel,
    "quality": bench_quality,
    "postgresql": bench_postgresql,
    "mariadb": bench_mariadb,
    "bucket": bench_bucket,
    "api": bench_api,
}
# A spreadsheet of a million rows takes a minute to write.
TIMES = {"excel": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--small", action="store_true", help="a tenth of the work, to try it out")
    parser.add_argument("--only", help=f"one of: {', '.join(PARTS)}")
    asked = parser.parse_args()
    if asked.only is not None and asked.only not in PARTS:
        sys.exit(f"bench connectors: there is no part {asked.only!r}; there is: {', '.join(PARTS)}")
    rows = tables.people(PEOPLE // 10 if asked.small else PEOPLE)
    figures: list[Figure] = []
    for name, run in PARTS.items():
        if asked.only not in (None, name):
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            try:
                figures += run(Path(scratch), rows, TIMES.get(name, 10))
            except pytest.skip.Exception as skipped:
                print(f"left out: {name}: {skipped}", file=sys.stderr)
        print(f"measured: {name}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    if asked.json:
        print(json.dumps([asdict(one) for one in figures], indent=2))
        return
    for one in figures:
        aim = "" if one.met is None else f"  {one.aim} {'met' if one.met else 'MISSED'}"
        print(f"{one.name:48} {one.value:14,.2f} {one.unit}{aim}")


if __name__ == "__main__":
    main()
