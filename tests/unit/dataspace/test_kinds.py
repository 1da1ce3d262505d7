"""What a participant of each kind may do, at its own node and at the door of others."""

from pathlib import Path

import pytest

from dataspace.errors import Denied
from dataspace.home import create_home
from dataspace.identity.tokens import Member
from dataspace.kinds import RIGHTS, Right, may, verify_right
from dataspace.node import Node
from dataspace.publication import Publication
from dataspace.settings import ParticipantKind

ROOT = Path(__file__).parents[3]
COLUMNS = list(Right)


def test_every_kind_has_its_rights() -> None:
    assert set(RIGHTS) == set(ParticipantKind)


def test_the_documentation_shows_the_table_that_is_asked() -> None:
    rows = {
        cells[1].strip().strip("`"): [cell.strip() == "yes" for cell in cells[2:7]]
        for line in (ROOT / "docs" / "identity.md").read_text().splitlines()
        if line.startswith("| `") and len(cells := line.split("|")) == 8
    }
    assert rows == {kind.value: [may(kind, right) for right in COLUMNS] for kind in ParticipantKind}


def test_a_refusal_names_the_kind_and_who_may() -> None:
    with pytest.raises(Denied, match="of kind consumer may not offer data") as refused:
        verify_right(ParticipantKind.CONSUMER, Right.OFFER)
    assert "this is for: government, enterprise, personal" in str(refused.value.remedy)


def node_of(directory: Path, kind: str) -> Node:
    values = {"name": "n", "kind": kind, "url": "http://127.0.0.1:7"}
    return Node(create_home(directory, values))


def test_a_node_is_held_to_its_own_kind(tmp_path: Path) -> None:
    column = {"name": "x", "role": "value"}
    for kind, source, refusal in (
        ("consumer", "x.csv", "kind consumer may not offer data"),
        ("operator", "x.csv", "kind operator may not offer data"),
        ("enterprise", "vault:/nowhere", "kind enterprise may not hold people's records"),
    ):
        node = node_of(tmp_path / kind, kind)
        asked = Publication.model_validate(
            {"id": "a", "title": "A", "source": source, "columns": [column]}
        )
        with pytest.raises(Denied, match=refusal):
            node.datasets.publish(asked)
        node.http.close()
        node.store.close()


def test_a_peer_is_held_to_its_kind_at_our_door(tmp_path: Path) -> None:
    node = node_of(tmp_path / "n", "enterprise")
    peer = Member("did:web:peer.example", ParticipantKind.OPERATOR, "Peer")
    with node.store.transaction() as tx:
        for take in (
            node.negotiations.receive_request,
            node.transfers.receive_request,
        ):
            with pytest.raises(Denied, match="may not use the data of others"):
                take(tx, peer, None)  # type: ignore[operator]
        with pytest.raises(Denied, match="may not offer data"):
            node.negotiations.receive_offer(tx, peer, None)  # type: ignore[arg-type]
    node.http.close()
    node.store.close()
