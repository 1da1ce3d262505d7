"""Figures of the evidence log.

    python tests/benchmarks/bench_ledger.py [--json] [--small] [--compare]

Every figure stands beside what it is to be compared with, measured in the same run and turn about,
because machines are noisy: trust the ratios. Parts whose memory is measured run in a process of
their own. `--compare` also installs pymerkle (GPL, so never a dependency) into an environment that
is thrown away afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ledger_compared import bench_pymerkle
from ledger_figures import Figure, figure, rate, record

from ledger.entry import seal

BATCH = 100
ROUNDS = 3

Row = tuple[Any, ...]


# Appending


def bench_appends(directory: Path, batches: int, singles: int) -> list[Figure]:
    """The node's own tables and engine: records sealed, hashed and durable when counted."""
    # The node is imported here, so that the measured processes stay without it.
    from dataspace.store.engine import Store
    from dataspace.store.log_store import SqlNodeStore, append_entries

    store = Store(f"sqlite:///{directory / 'node.sqlite'}")
    store.migrate()
    written = 0

    def append(transactions: int, size: int) -> None:
        nonlocal written
        for _ in range(transactions):
            with store.transaction() as tx:
                entries = [
                    seal(record(written + at), secrets.token_bytes(16)) for at in range(size)
                ]
                append_entries(tx, entries)
            written += size

    for _ in range(ROUNDS):
        append(batches, BATCH)
    entries, nodes = _stored_rows(store)
    raw = _raw_database(directory / "raw.sqlite")
    at = 0

    def insert(transactions: int, size: int) -> None:
        nonlocal at
        _insert_raw(raw, entries, nodes, at, transactions, size)
        at += transactions * size

    def insert_through_the_engine(transactions: int) -> None:
        nonlocal at
        for start in range(at, at + transactions):
            with store.transaction() as tx:
                _insert_again(tx.connection(), entries, nodes, start)
        at += transactions

    ours: dict[int, float] = {}
    theirs: dict[int, float] = {}
    engine = 0.0
    # Turn and turn about, so that both meet the same disk and neighbours; the best turn counts.
    for size, transactions in ((BATCH, batches), (1, singles)):
        for _ in range(ROUNDS):
            count = transactions * size
            ours[size] = max(ours.get(size, 0.0), rate(count, partial(append, transactions, size)))
            theirs[size] = max(
                theirs.get(size, 0.0), rate(count, partial(insert, transactions, size))
            )
    for _ in range(ROUNDS):
        engine = max(engine, rate(singles, partial(insert_through_the_engine, singles)))
    with store.transaction() as tx:
        assert SqlNodeStore(tx).size() == written
    raw.close()
    store.close()
    return [
        figure("appends in batches of 100, all included", ours[BATCH], "entries/s", least=1e4),
        figure("  raw SQLite inserts of the same rows", theirs[BATCH], "entries/s"),
        figure("  ratio", ours[BATCH] / theirs[BATCH], ""),
        figure("appends one by one", ours[1], "entries/s"),
        figure("  raw SQLite inserts of the same rows", theirs[1], "entries/s"),
        figure("  ratio", ours[1] / theirs[1], "", least=0.6),
        figure("  the same inserts through the node's engine", engine, "entries/s"),
        figure("  ratio", ours[1] / engine, ""),
    ]


def _stored_rows(store: Any) -> tuple[list[Row], dict[int, list[Row]]]:
    """The rows of all entries, and by entry those of the nodes that it completed."""
    from sqlmodel import select

    from dataspace.store.tables import EntryRow, LogNodeRow

    with store.transaction() as tx:
        found = tx.exec(select(EntryRow)).all()
        entries: list[Row] = [(e.position, e.commitment, e.body, e.salt) for e in found]
        nodes: dict[int, list[Row]] = {}
        for node in tx.exec(select(LogNodeRow)):
            last = ((node.position + 1) << node.level) - 1
            nodes.setdefault(last, []).append((node.level, node.position, node.value))
    return sorted(entries), nodes


def _insert_again(
    connection: Any, entries: list[Row], nodes: dict[int, list[Row]], number: int
) -> None:
    """One entry's rows, ready made, at positions far from the log's own."""
    entry = entries[number % len(entries)]
    shift = (1 << 40) + number // len(entries) * len(entries)
    connection.exec_driver_sql(
        "INSERT INTO entry (position, commitment, body, salt) VALUES (?, ?, ?, ?)",
        (entry[0] + shift, *entry[1:]),
    )
    connection.exec_driver_sql(
        "INSERT INTO log_node (level, position, value) VALUES (?, ?, ?)",
        [(level, position + shift, value) for level, position, value in nodes[entry[0]]],
    )
    connection.exec_driver_sql("UPDATE log_state SET size = size WHERE id = 1")


def _raw_database(path: Path) -> sqlite3.Connection:
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("PRAGMA synchronous=FULL")
    raw.executescript(
        "CREATE TABLE entry (position INTEGER NOT NULL PRIMARY KEY, commitment BLOB NOT NULL,"
        " body BLOB, salt BLOB);"
        "CREATE TABLE log_node (level INTEGER NOT NULL, position INTEGER NOT NULL,"
        " value BLOB NOT NULL, PRIMARY KEY (level, position));"
        "CREATE TABLE log_state (id INTEGER NOT NULL PRIMARY KEY, size INTEGER NOT NULL);"
        "INSERT INTO log_state VALUES (1, 0);"
    )
    return raw


def _insert_raw(
    raw: sqlite3.Connection,
    entries: list[Row],
    nodes: dict[int, list[Row]],
    first: int,
    transactions: int,
    size: int,
) -> None:
    for start in range(first, first + transactions * size, size):
        part = [entries[at % len(entries)] for at in range(start, start + size)]
        # Past the last row the same rows come round, at positions of their own.
        shift = start // len(entries) * len(entries)
        raw.execute("BEGIN IMMEDIATE")
        raw.executemany(
            "INSERT INTO entry VALUES (?, ?, ?, ?)", [(row[0] + shift, *row[1:]) for row in part]
        )
        rows = [
            (level, position + shift, value)
            for row in part
            for level, position, value in nodes[row[0]]
        ]
        raw.executemany("INSERT INTO log_node VALUES (?, ?, ?)", rows)
        raw.execute("UPDATE log_state SET size = ?", (start + size,))
        raw.execute("COMMIT")


# Proofs


def bench_proofs(directory: Path, size: int) -> list[Figure]:
    found = in_process("proofs", directory, size)
    return [
        figure(f"inclusion proof at {size:,}, from tiles", 1000 / found["made"], "ms", most=1),
        figure(f"consistency proof at {size:,}", 1000 / found["consistent"], "ms"),
        figure("  memory, building included", found["memory_mb"], "MB", most=100),
        figure(f"  leaves into tiles, {size:,}", size / found["wrote_s"], "leaves/s"),
        figure("inclusion proofs verified", found["verified"], "proofs/s"),
        figure("  bare hashing of as many nodes", found["hashed"], "proofs/s"),
        figure("  ratio", found["verified"] / found["hashed"], "", least=0.6),
    ]


# Auditing


def bench_audit(directory: Path, size: int) -> list[Figure]:
    in_process("copy", directory, size)
    found = in_process("audit", directory, size)
    return [
        figure(f"audit of {size:,} entries", found["seconds"], "s", most=20),
        figure("  peak memory", found["memory_mb"], "MB"),
        figure("  of which before it began", found["idle_mb"], "MB"),
        figure("  state for the next audit, as JSON", found["state_mb"], "MB"),
        figure("audit gone on with, 1,000 entries newly anchored", found["resumed_s"], "s"),
    ]


# Running


def in_process(part: str, directory: Path, size: int) -> dict[str, float]:
    """The figures of one part, measured in a process of its own."""
    measured = Path(__file__).with_name("ledger_measured.py")
    command = [sys.executable, str(measured), part, str(directory), str(size)]
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--small", action="store_true", help="a hundredth of the size, in seconds")
    parser.add_argument("--compare", action="store_true", help="pymerkle beside ours")
    options = parser.parse_args()
    scale = 100 if options.small else 1
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        # A new process counts the memory of the one that started it, so those are the first.
        figures += bench_proofs(directory, 10_000_000 // scale)
        figures += bench_audit(directory, 100_000 if scale == 1 else 5_000)
        figures += bench_appends(directory, 100 if scale == 1 else 10, 600 if scale == 1 else 60)
        if options.compare:
            figures += bench_pymerkle(directory, 20_000 if scale > 1 else 200_000)
    if options.json:
        print(json.dumps([asdict(one) for one in figures], indent=2, ensure_ascii=False))
        return
    for one in figures:
        verdict = {None: "", True: "met", False: "MISSED"}[one.met]
        print(f"{one.name:58} {one.value:14,.2f} {one.unit:10} {one.aim:10} {verdict}")


if __name__ == "__main__":
    main()
