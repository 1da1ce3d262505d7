"""The evidence log in the node's database: appended whole or not at all, and the same tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from dataspace.store.engine import Store
from dataspace.store.log_store import SqlNodeStore, append_entries
from dataspace.store.tables import EntryRow
from ledger.entry import SealedEntry, commitment_of
from ledger.log import Log
from ledger.merkle import consistency_proof, inclusion_proof, root_hash


def sealed(number: int) -> SealedEntry:
    body, salt = str(number).encode(), number.to_bytes(16)
    return SealedEntry(body=body, salt=salt, commitment=commitment_of(body, salt))


ENTRIES = [sealed(number) for number in range(70)]
LEAVES = [entry.commitment for entry in ENTRIES]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'node.sqlite'}")
    opened.migrate()
    yield opened
    opened.close()


def append(store: Store, start: int, end: int) -> int:
    with store.transaction() as tx:
        return append_entries(tx, ENTRIES[start:end])


@pytest.mark.parametrize("cuts", [[1, 2, 3, 70], [64, 70], [7, 7, 50, 70], [33, 34, 35, 36, 70]])
def test_batches_of_any_size_make_the_tree_of_all_entries(store: Store, cuts: list[int]) -> None:
    start = 0
    for end in cuts:
        assert append(store, start, end) == start
        with store.transaction() as tx:
            log = Log(SqlNodeStore(tx))
            assert (log.size, log.root()) == (end, root_hash(LEAVES[:end]))
        start = end
    with store.transaction() as tx:
        log = Log(SqlNodeStore(tx))
        assert log.inclusion_proof(37) == inclusion_proof(LEAVES, 37)
        assert log.consistency_proof(33) == consistency_proof(LEAVES, 33)
        rows = tx.exec(select(EntryRow).order_by(EntryRow.position)).all()  # type: ignore[arg-type]
        kept = [(row.position, row.commitment, row.body, row.salt) for row in rows]
    assert kept == [(at, e.commitment, e.body, e.salt) for at, e in enumerate(ENTRIES)]


def test_a_log_appended_leaf_by_leaf_goes_on_from_a_batch(store: Store) -> None:
    append(store, 0, 5)
    with store.transaction() as tx:
        log = Log(SqlNodeStore(tx))
        for leaf in LEAVES[5:9]:
            log.append(leaf)
        # Read in the transaction that wrote it.
        assert Log(SqlNodeStore(tx)).root() == root_hash(LEAVES[:9])
    with store.transaction() as tx:
        assert append_entries(tx, [ENTRIES[9]]) == 9
        assert append_entries(tx, [ENTRIES[10]]) == 10
        assert SqlNodeStore(tx).size() == 11
        assert Log(SqlNodeStore(tx)).root() == root_hash(LEAVES[:11])


class Crash(Exception):
    """The transaction does not get to its end."""


def append_and_crash(store: Store, entries: list[SealedEntry]) -> None:
    with store.transaction() as tx:
        append_entries(tx, entries)
        raise Crash


@pytest.mark.parametrize("before", [0, 1, 6])
def test_a_transaction_that_fails_leaves_no_entry_and_no_node(store: Store, before: int) -> None:
    append(store, 0, before)
    with pytest.raises(Crash):
        append_and_crash(store, ENTRIES[before : before + 3])
    with store.transaction() as tx:
        assert Log(SqlNodeStore(tx)).root() == root_hash(LEAVES[:before])
    assert append(store, before, 20) == before
    with store.transaction() as tx:
        assert Log(SqlNodeStore(tx)).root() == root_hash(LEAVES[:20])


def test_appending_nothing_changes_nothing(store: Store) -> None:
    assert append(store, 0, 0) == 0
    append(store, 0, 3)
    assert append(store, 3, 3) == 3
    with store.transaction() as tx:
        assert SqlNodeStore(tx).size() == 3
