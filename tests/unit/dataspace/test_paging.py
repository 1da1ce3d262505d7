"""Long lists are read in pages, by a look that waits for nobody."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlmodel import col, select

from dataspace.store.engine import Store
from dataspace.store.paging import MAX_LISTED, Page
from dataspace.store.tables import CheckpointRow

NEWEST = select(CheckpointRow).order_by(col(CheckpointRow.size).desc())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'node.sqlite'}")
    opened.migrate()
    with opened.transaction() as tx:
        for size in range(1, 8):
            tx.add(CheckpointRow(size=size, root=b"", note="", created_at=float(size)))
    yield opened
    opened.close()


def sizes(store: Store, page: Page) -> list[int]:
    with store.look() as tx:
        found = tx.exec(page.of(NEWEST)).all()
    # Read after the look has ended, as a route does.
    return [row.size for row in found]


def test_pages_follow_one_another_without_a_gap(store: Store) -> None:
    pages = [sizes(store, Page(limit=3, offset=offset)) for offset in (0, 3, 6, 9)]
    assert pages == [[7, 6, 5], [4, 3, 2], [1], []]
    assert sizes(store, Page()) == [7, 6, 5, 4, 3, 2, 1]
    assert Page().limit == MAX_LISTED


def test_a_list_is_read_while_another_has_its_turn(store: Store) -> None:
    with store.transaction() as tx:
        tx.add(CheckpointRow(size=8, root=b"", note="", created_at=8.0))
        tx.flush()
        assert sizes(store, Page(limit=2)) == [7, 6]
    assert sizes(store, Page(limit=2)) == [8, 7]


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        ("SELECT id FROM computation WHERE status = 'REQUESTED'", "ix_computation_status"),
        ("SELECT size FROM checkpoint WHERE block IS NULL", "ix_checkpoint_block"),
        ("SELECT pid FROM transfer WHERE agreement = 'a'", "ix_transfer_agreement"),
        ("SELECT id FROM agreement WHERE dataset = 'd'", "ix_agreement_dataset"),
        (
            "SELECT * FROM negotiation ORDER BY created_at DESC LIMIT 9",
            "ix_negotiation_created_at",
        ),
    ],
)
def test_what_is_asked_all_the_time_has_its_index(store: Store, asked: str, index: str) -> None:
    with store.look() as tx:
        plan = tx.connection().execute(text(f"EXPLAIN QUERY PLAN {asked}")).all()
    assert any(index in step[3] for step in plan), plan
