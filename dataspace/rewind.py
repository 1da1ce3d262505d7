"""Whether this node's log is as long as others know it to be.

A database that was put back to an earlier state has a log that is shorter than what the chain and
the counterparties hold of it, or that has grown differently since. A node that went on with it
would sign a second history. So it looks when it starts: at the chain, and at the checkpoints that
its witnesses have cosigned, which its own key has signed. Where one of them is beyond its log, it
signs nothing, writes nothing and says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection
from sqlmodel import Session, col, select

from dataspace.backups.databases import StoredNodes, settings_in
from dataspace.chain_access import ChainAccess
from dataspace.errors import SHOWN, Unavailable
from dataspace.evidence import origin_of_url, read_space
from dataspace.home import Home
from dataspace.store.log_store import SqlNodeStore
from dataspace.store.tables import WitnessedRow
from ledger.chain import Registry
from ledger.checkpoint import MAX_NOTE_BYTES, NoteSigner, NoteVerifier, verify_checkpoint
from ledger.errors import ChainRefused, LedgerError
from ledger.log import Log, NodeStore
from ledger.witness import log_id_of

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.rewind")

# The start waits this long for an answer; looking goes on in the background until the chain has
# given one.
START_LOOK_S = 4.0
LOOK_AGAIN_S, LONGEST_PAUSE_S = 0.5, 30.0
ASK_S = 3.0
MAX_WITNESSES_ASKED = 16
CHAIN = "the chain"
REMEDY = (
    "stop the node and restore a newer backup, or bring the missing entries back from a copy of "
    "the log: dataspace log recover --from COPY"
)


class Verdict(StrEnum):
    """How a log stands to what others know of it."""

    SOUND = "sound"
    REWOUND = "rewound"
    FORKED = "forked"


@dataclass(frozen=True)
class Head:
    """A tree head of our log that somebody else holds; `block` is that of an anchor."""

    size: int
    root: bytes
    holder: str
    block: int | None = None


@dataclass(frozen=True)
class Standing:
    """What was found: the verdict, our size, and the head that it follows from."""

    verdict: Verdict
    size: int
    head: Head | None = None

    @property
    def sound(self) -> bool:
        return self.verdict is Verdict.SOUND

    def sentence(self) -> str:
        if self.head is None or self.sound:
            return f"the log of {self.size} entries is as long as others know it to be"
        if self.verdict is Verdict.REWOUND:
            return (
                f"this node's database is older than its log: it has {self.size} entries, and "
                f"{self.head.holder} holds a checkpoint of {self.head.size}; nothing is signed"
            )
        return (
            f"this node's log is not the one that {self.head.holder} holds a checkpoint of: the "
            f"first {self.head.size} entries differ; nothing is signed"
        )


def decide(nodes: NodeStore, heads: Sequence[Head]) -> Standing:
    """How the log in `nodes` stands to heads that others hold; the longest one decides first."""
    ours = Log(nodes)
    for head in sorted(heads, key=lambda one: one.size, reverse=True):
        if head.size > ours.size:
            return Standing(Verdict.REWOUND, ours.size, head)
        if head.root != ours.root(head.size):
            return Standing(Verdict.FORKED, ours.size, head)
    return Standing(Verdict.SOUND, ours.size, max(heads, key=lambda one: one.size, default=None))


def anchored_head(registry: Registry, origin: str) -> Head | None:
    """The newest anchor of a log, None where it has none. Raises Unavailable for a chain that does
    not answer."""
    try:
        latest = registry.latest(origin)
    except ChainRefused:
        # Not registered yet, so nothing was anchored.
        return None
    except LedgerError as err:
        raise Unavailable("the chain does not answer", remedy="try again when it does") from err
    return None if latest is None else Head(latest.size, latest.root, CHAIN, latest.block)


def stand_on_chain(connection: Connection, home: Home) -> Standing | None:
    """How the log in a database stands to the chain, offline; None before it has joined a space.

    Raises Unavailable where the chain does not answer.
    """
    space = settings_in(connection, "space.")
    if not {"rpc_url", "contract"} <= space.keys():
        return None
    access = ChainAccess.of(home.settings, home.account_key())
    try:
        registry = access.open(space["rpc_url"], space["contract"])
    except LedgerError as err:
        raise Unavailable("the chain does not answer", remedy="try again when it does") from err
    head = anchored_head(registry, origin_of_url(home.url))
    return decide(StoredNodes(connection), [head] if head else [])


class Rewind:
    """Looks whether the node's log was rewound, and stops the node where it was."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stop, self._first_look = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._on_rewound: Callable[[], None] | None = None
        self.standing: Standing | None = None

    @property
    def halted(self) -> bool:
        """Whether the node must not sign, because its log is not what others know of it."""
        return self.standing is not None and not self.standing.sound

    def begin(self, on_rewound: Callable[[], None]) -> bool:
        """Look now, and in the background until the chain has answered; whether the node may go
        on. `on_rewound` is called where that turns out only later."""
        with self._node.store.transaction() as tx:
            if read_space(tx) is None:
                return True
        self._thread = threading.Thread(target=self._look_on, name="rewind", daemon=True)
        self._thread.start()
        self._first_look.wait(START_LOOK_S)
        if not self.halted:
            self._on_rewound = on_rewound
        return not self.halted

    def end(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=ASK_S)

    def look(self) -> bool:
        """One look at everybody who may know our log; whether the chain was among them."""
        node = self._node
        heads: list[Head] = []
        with node.store.transaction() as tx:
            space, witnesses = read_space(tx), _witnesses(tx)
        assert space is not None
        try:
            registry = node.chain_access.open(space.rpc_url, space.contract)
            anchored = anchored_head(registry, node.evidence.origin)
        except (Unavailable, LedgerError) as err:
            log.info("the chain cannot be asked about our log", error=str(err))
            asked = False
        else:
            asked = True
            heads += [anchored] if anchored else []
        heads += self._witnessed(witnesses)
        with node.store.transaction() as tx:
            standing = decide(SqlNodeStore(tx), heads)
        if not standing.sound or asked:
            self.standing = standing
        if self.halted:
            node.evidence.halt(standing.sentence(), REMEDY)
            log.error("the log was rewound", sentence=standing.sentence(), remedy=REMEDY)
        return asked

    def _look_on(self) -> None:
        pause_s = LOOK_AGAIN_S
        while not self._stop.is_set():
            try:
                asked = self.look()
            except SHOWN as err:
                log.info("the log cannot be compared yet", error=str(err))
                asked = False
            self._first_look.set()
            if self.halted and self._on_rewound is not None:
                self._on_rewound()
            if asked or self.halted:
                return
            self._stop.wait(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)

    def _witnessed(self, witnesses: Sequence[WitnessedRow]) -> Iterator[Head]:
        """The heads of our log that witnesses show and that a key of ours has signed: what they
        make up they cannot have signed."""
        node = self._node
        for witness in witnesses:
            if self._stop.is_set():
                return
            note = self._cosigned_note(witness.peer)
            for vkey in self._own_vkeys() if note is not None else ():
                try:
                    assert note is not None
                    origin = node.evidence.origin
                    head = verify_checkpoint(note, NoteVerifier.parse(vkey), origin)
                except LedgerError:
                    continue
                yield Head(head.size, head.root, witness.peer)
                break

    def _own_vkeys(self) -> Iterator[str]:
        """The verifier keys of our log: the present one, then those before it."""
        node = self._node
        yield node.evidence.vkey
        for key in node.home.retired_log_keys():
            yield NoteSigner(node.evidence.origin, key).vkey

    def _cosigned_note(self, peer: str) -> str | None:
        node = self._node
        try:
            path = f"/tlog/witness/{log_id_of(node.evidence.origin)}/checkpoint"
            url = f"{node.peers.url_of(peer)}{path}"
            answer = node.peers.send("GET", url, to=peer, timeout_s=ASK_S)
            if answer.status != 200 or len(answer.body) > MAX_NOTE_BYTES:
                return None
            return answer.body.decode()
        except (UnicodeDecodeError, *SHOWN) as err:
            log.info("a witness cannot be asked about our log", peer=peer, error=str(err))
            return None


def _witnesses(tx: Session) -> Sequence[WitnessedRow]:
    known = select(WitnessedRow).order_by(col(WitnessedRow.cosigned_size).desc())
    return tx.exec(known.limit(MAX_WITNESSES_ASKED)).all()
