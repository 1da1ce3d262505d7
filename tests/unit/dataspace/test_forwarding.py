"""Only a replica of the same node can pass on what a peer sent."""

from pathlib import Path

import pytest

from dataspace.computing import forwarding
from dataspace.computing.forwarding import GOOD_FOR_S, PEER, TAG, Forwarding
from dataspace.errors import NotFound
from dataspace.node import Node

from .transfer_nodes import CONSUMER_URL, PROVIDER_URL, make_node

PATH, DID, BODY = "/compute/order/left/0/0", "did:web:peer.example", b"frame"
FRAME = {"frame-name": "elements", "frame-chunks": "1", "content-digest": "sha-256=:x:"}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return make_node(tmp_path, PROVIDER_URL)


def sent(passing: Forwarding, until: int) -> dict[str, str]:
    tag = passing._tag("PUT", PATH, DID, FRAME, BODY, str(until))
    return {**FRAME, PEER: DID, TAG: tag, "content-type": "application/octet-stream"}


def refused(node: Node, *, path: str = PATH, body: bytes = BODY, **headers: str) -> None:
    with pytest.raises(NotFound):
        node.forwarding.verify("PUT", path, headers=headers, body=body)


def test_what_a_replica_passes_on_is_taken_as_the_peers(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding.time, "time", lambda: 1000.0)
    headers = sent(Forwarding(node), 1000 + GOOD_FOR_S)
    assert node.forwarding.verify("PUT", PATH, headers=headers, body=BODY) == DID


def test_a_changed_part_a_late_one_and_another_nodes_tag_are_refused(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding.time, "time", lambda: 1000.0)
    good = sent(node.forwarding, 1060)
    refused(node, **(good | {PEER: "did:web:other.example"}))
    refused(node, **(good | {"frame-name": "else"}))
    refused(node, **(good | {TAG: good[TAG].replace("1060", "9060")}))
    refused(node, **(good | {TAG: ""}))
    refused(node, **{name: value for name, value in good.items() if name != TAG})
    refused(node, path="/compute/order/right/0/0", **good)
    refused(node, body=b"other", **good)
    refused(node, **sent(node.forwarding, 999))
    refused(node, **sent(make_node(tmp_path, CONSUMER_URL).forwarding, 1060))
