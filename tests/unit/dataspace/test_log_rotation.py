"""A change of the log's key that a kill interrupted goes on, or begins again."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlmodel import select

from dataspace.errors import InputRejected
from dataspace.evidence import LOG_VKEY
from dataspace.home import create_home
from dataspace.node import Node
from dataspace.rotation import ROTATE
from dataspace.store.tables import EntryRow, ProcessRow, Setting
from ledger.entry import EntryType, open_entry

from .wired_nodes import process_of

VALUES = {"name": "n", "kind": "enterprise", "url": "http://127.0.0.1:7"}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    made = Node(create_home(tmp_path / "node", VALUES))
    monkeypatch.setattr("dataspace.rotation.read_space", lambda _: object())
    yield made
    made.http.close()
    made.store.close()


def told(node: Node) -> list[str | None]:
    """What the log says of its key."""
    with node.store.transaction() as tx:
        rows = tx.exec(select(EntryRow).order_by(EntryRow.position)).all()
    entries = [open_entry(row.body, row.salt, row.commitment) for row in rows]
    return [one.outcome for one in entries if one.type is EntryType.KEY_ROTATED]


def go_on(node: Node) -> None:
    with node.store.transaction() as tx:
        row = tx.exec(select(ProcessRow).where(ProcessRow.kind == ROTATE)).one()
    process = replace(process_of(ROTATE, row.subject), payload=row.payload)
    assert node.rotation.handlers()[ROTATE].handle(process) is None


def test_a_kill_between_the_file_and_its_commit_leaves_a_change_that_is_told(node: Node) -> None:
    node.rotation.begin()
    before = node.evidence.vkey
    node.home.use_next_log_key()
    assert node.evidence.vkey == before
    go_on(node)
    with node.store.transaction() as tx:
        known = tx.get_one(Setting, LOG_VKEY).value
    assert known == node.evidence.vkey != before
    go_on(node)
    assert told(node) == ["log key will change", "new log key in use"]


def test_a_change_whose_beginning_was_never_committed_is_begun_again(node: Node) -> None:
    node.home.make_next_log_key()
    node.rotation.begin()
    assert told(node) == ["log key will change"]
    with pytest.raises(InputRejected, match="being changed already"):
        node.rotation.begin()


def test_a_change_that_has_no_key_to_change_to_tells_nothing(node: Node) -> None:
    node.rotation.begin()
    (node.home.path / "keys" / "log.next.pem").unlink()
    go_on(node)
    assert told(node) == ["log key will change"]
