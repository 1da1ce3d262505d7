"""A log that is not what others know of it signs nothing, and only a copy of it brings it back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dataspace import log_recovery
from dataspace.errors import InputRejected, Unavailable
from dataspace.home import Home, create_home
from dataspace.log_recovery import recover_log
from dataspace.node import Node
from dataspace.rewind import Head, Verdict, decide
from dataspace.store.log_store import SqlNodeStore
from dataspace.web.halted import _may
from ledger.checkpoint import Checkpoint, NoteSigner, sign_note
from ledger.entry import EntryType
from ledger.export import DirectoryLog, export_log
from ledger.log import Log, MemoryNodeStore

VALUES = {"name": "Firm", "kind": "enterprise", "url": "http://127.0.0.1:8909", "port": 8909}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(create_home(tmp_path / "firm", VALUES))
    with made.store.transaction() as tx:
        for _ in range(5):
            made.evidence.record(tx, EntryType.PUBLISHED)
    yield made
    made.store.close()


def log_of(*leaves: bytes) -> MemoryNodeStore:
    store = MemoryNodeStore()
    Log(store).extend(leaves)
    return store


def head(*leaves: bytes, holder: str = "the chain") -> Head:
    return Head(len(leaves), Log(log_of(*leaves)).root(), holder)


@pytest.mark.parametrize(
    ("heads", "verdict"),
    [
        ([], Verdict.SOUND),
        ([head(b"a")], Verdict.SOUND),
        ([head(b"a", b"b", b"c")], Verdict.SOUND),
        ([head(b"a", b"b", b"c", b"d")], Verdict.REWOUND),
        ([head(b"a", b"x")], Verdict.FORKED),
        ([head(b"a", b"b", b"x")], Verdict.FORKED),
        # One witness knows more than the chain.
        ([head(b"a"), head(b"a", b"b", b"c", b"d", holder="did:web:w")], Verdict.REWOUND),
    ],
)
def test_what_others_hold_decides(heads: list[Head], verdict: Verdict) -> None:
    found = decide(log_of(b"a", b"b", b"c"), heads)
    assert found.verdict is verdict
    if not found.sound:
        assert found.head is not None
        assert found.head.holder in found.sentence()


def test_a_halted_log_takes_no_entry_and_signs_nothing(node: Node) -> None:
    node.evidence.halt("it was rewound", "restore a newer backup")
    with pytest.raises(Unavailable, match="rewound"), node.store.transaction() as tx:
        node.evidence.record(tx, EntryType.PUBLISHED)
    with pytest.raises(Unavailable, match="rewound"):
        node.evidence.checkpoint()
    with pytest.raises(Unavailable, match="rewound"):
        node.evidence.prove(0)
    assert node.evidence.size() == 5


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/status", True),
        ("GET", "/api/computations", True),
        ("POST", "/api/computations", False),
        ("GET", "/tlog/checkpoint", True),
        ("GET", "/.well-known/did.json", True),
        ("POST", "/chain", True),
        ("POST", "/tlog/witness/add-checkpoint", False),
        ("POST", "/api/negotiations", False),
        ("POST", "/dsp/2025-1/negotiations/request", False),
        ("POST", "/api/log/rotation", False),
        ("GET", "/api/agreements/x/deed", False),
    ],
)
def test_a_rewound_node_only_tells_how_it_stands(method: str, path: str, allowed: bool) -> None:
    assert _may({"method": method, "path": path}) is allowed


# ---- bringing entries back ----------------------------------------------------------------------


@pytest.fixture
def anchored(monkeypatch: pytest.MonkeyPatch) -> list[Head]:
    """What the chain has of the log: the first of these, if any."""
    heads: list[Head] = []
    monkeypatch.setattr(log_recovery, "_anchored", lambda *_: heads[0] if heads else None)
    return heads


def copy_of(home: Home, commitments: list[bytes], into: Path, key: Ed25519PrivateKey) -> None:
    log = Log(log_of(*commitments))
    checkpoint = Checkpoint("127.0.0.1:8909/tlog", log.size, log.root())
    note = sign_note(checkpoint.body(), [NoteSigner(checkpoint.origin, key)])
    export_log(into, note, commitments, None)


def test_what_a_copy_has_more_comes_back_and_nothing_else(
    node: Node, tmp_path: Path, anchored: list[Head]
) -> None:
    home, ours = node.home, node.evidence.commitments(0, 5)
    longer = [*ours, b"\x06" * 32, b"\x07" * 32]
    key = home.log_key()
    copy_of(home, longer, tmp_path / "copy", key)
    copy_of(home, longer[:6], tmp_path / "short", key)
    copy_of(home, longer, tmp_path / "foreign", Ed25519PrivateKey.generate())
    copy_of(home, [b"\x09" * 32, *longer[1:]], tmp_path / "other", key)
    copy_of(home, ours, tmp_path / "same", key)
    anchored.append(head(*longer))
    for name, sentence in (
        ("short", "7 are anchored"),
        ("foreign", "not signed by this log's key"),
        ("other", "does not begin with the log"),
        ("same", "no more than"),
    ):
        with pytest.raises(InputRejected, match=sentence):
            recover_log(home, DirectoryLog(tmp_path / name))
        assert node.evidence.size() == 5
    found = recover_log(home, DirectoryLog(tmp_path / "copy"))
    assert (found.before, found.after, found.with_content) == (5, 7, 0)
    assert node.evidence.commitments(0, 7) == longer
    with node.store.transaction() as tx:
        assert decide(SqlNodeStore(tx), anchored).verdict is Verdict.SOUND


def test_a_copy_of_another_log_than_the_anchored_one_is_refused(
    node: Node, tmp_path: Path, anchored: list[Head]
) -> None:
    longer = [*node.evidence.commitments(0, 5), b"\x06" * 32]
    copy_of(node.home, longer, tmp_path / "copy", node.home.log_key())
    anchored.append(head(*longer[:5], b"\x08" * 32))
    with pytest.raises(InputRejected, match="not the log that was anchored"):
        recover_log(node.home, DirectoryLog(tmp_path / "copy"))
    assert node.evidence.size() == 5
