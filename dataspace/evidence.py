"""Evidence: entries written in the transaction of the change they tell.

`Evidence.record` appends to the log inside the caller's transaction and schedules anchoring
(`dataspace.anchoring`). The rest reads the log: for its owner, for those entitled, with proofs.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from sqlmodel import Session, col, select

from dataspace.errors import NotFound, Unavailable
from dataspace.moments import zulu_text
from dataspace.processes import is_scheduled, schedule
from dataspace.store.engine import Store
from dataspace.store.log_store import SqlNodeStore, append_entries
from dataspace.store.tables import CheckpointRow, EntryRow, Setting
from ledger.checkpoint import Checkpoint, NoteSigner, sign_note
from ledger.cosignature import Cosigner
from ledger.entry import Entry, EntryType, SealedEntry, seal, uuid7
from ledger.log import Log
from ledger.note import Signer
from ledger.proof import LogProof

ANCHOR = "anchor"
# The verifier key of the log since it was changed for the last time: a setting of the node.
LOG_VKEY = "log.vkey"
# An anchor waits for the chain as long as it takes: evidence is never given up.
ANCHOR_GIVE_UP_S = 10 * 365 * 86400.0
MAX_ENTRIES_A_PAGE = 1000


def origin_of_url(url: str) -> str:
    """The log's origin (C2SP tlog-checkpoint): the schema-less address where it is served."""
    parts = urlsplit(url)
    return f"{parts.netloc}{parts.path}/tlog"


@dataclass(frozen=True)
class Space:
    """What a node must know of its space to anchor and to trust: learned when it joined."""

    operator: str
    rpc_url: str
    contract: str
    chain_id: int


# Each under a setting of the node of its own.
_SPACE = {one.name: f"space.{one.name}" for one in fields(Space)}


@dataclass(frozen=True)
class Proved:
    """An inclusion proof, and where the chain holds the root it leads to (None: not yet)."""

    proof: LogProof
    size: int
    root: str
    block: int | None
    transaction: str | None


class Evidence:
    """This node's evidence log."""

    def __init__(
        self,
        store: Store,
        *,
        origin: str,
        actor: str,
        signer: NoteSigner,
        second_signer: Cosigner | None,
        anchor_interval_s: float,
    ) -> None:
        self._store = store
        self._signer = signer
        self._second_signer = second_signer
        self._actor = actor
        self._anchor_interval_s = anchor_interval_s
        # Called where another replica has changed the log's key; the node sets it.
        self.reload_signer: Callable[[], None] = lambda: None
        self.origin = origin
        # Why nothing is written or signed any more, and what helps.
        self._halted: tuple[str, str] | None = None

    def halt(self, sentence: str, remedy: str) -> None:
        """From now on write and sign nothing: the log is not what others know of it."""
        self._halted = sentence, remedy

    def _verify_not_halted(self) -> None:
        if self._halted is not None:
            sentence, remedy = self._halted
            raise Unavailable(sentence, remedy=remedy)

    def record(
        self, tx: Session, event: EntryType, /, *, at: datetime | None = None, **told: Any
    ) -> int:
        """Append an entry of this type in the caller's transaction; returns its index.

        `at` is when it happened (aware; now otherwise). `told` are fields of `ledger.entry.Entry`:
        organisations and hashes only, never a person, a query text or a row count.
        """
        self._verify_not_halted()
        now = (at or datetime.now(UTC)).astimezone(UTC)
        entry = Entry(
            log=self.origin,
            id=uuid7(now, secrets.token_bytes(10)),
            ts=zulu_text(now, "milliseconds"),
            type=event,
            actor=self._actor,
            **told,
        )
        sealed = seal(entry, secrets.token_bytes(16))
        index = append_entries(tx, [sealed])
        self.schedule_anchor(tx, after_s=self._anchor_interval_s)
        return index

    @property
    def vkey(self) -> str:
        """The log's verifier key, as registered on the chain."""
        return self._signer.vkey

    @property
    def post_quantum_vkey(self) -> str | None:
        """The verifier key of the second signature (ML-DSA-44), where there is one."""
        return self._second_signer.vkey if self._second_signer else None

    def use_signer(self, signer: NoteSigner) -> None:
        """From now on sign checkpoints with this key."""
        self._signer = signer

    def size(self) -> int:
        with self._store.transaction() as tx:
            return self.size_in(tx)

    def size_in(self, tx: Session) -> int:
        """How many entries the log has, in the caller's transaction."""
        return SqlNodeStore(tx).size()

    def checkpoint(self) -> str:
        """The published checkpoint: the newest one that was signed to be witnessed and anchored.

        It may be an anchor interval behind the log; what it covers has its cosignatures.
        """
        with self._store.transaction() as tx:
            newest = select(CheckpointRow).order_by(col(CheckpointRow.size).desc()).limit(1)
            return (tx.exec(newest).first() or self.sign(tx)).note

    def commitments(self, start: int, end: int) -> list[bytes]:
        """Leaf data of the entries start … end-1, at most a page of them."""
        return [row.commitment for row in self._rows(start, end)]

    def entries(self, start: int, end: int) -> list[SealedEntry | None]:
        """The entries start … end-1 with body and salt; None for one that was erased."""
        return [
            SealedEntry(body=row.body, salt=row.salt, commitment=row.commitment)
            if row.body is not None and row.salt is not None
            else None
            for row in self._rows(start, end)
        ]

    def entry(self, index: int) -> SealedEntry:
        """One entry with body and salt. Raises NotFound where there is none or it was erased."""
        shown = self.entries(index, index + 1)
        if not shown:
            raise NotFound(
                f"the log has no entry {index}", remedy="see the checkpoint for its size"
            )
        if shown[0] is None:
            raise NotFound(
                f"entry {index} was erased; its commitment and its proof remain",
                remedy="ask for the proof at /tlog/proof",
            )
        return shown[0]

    def prove(self, index: int) -> Proved:
        """Proof that entry `index` is in the log: under the first checkpoint anchored after it,
        or under the newest one where none is anchored yet."""
        with self._store.transaction() as tx:
            log = Log(SqlNodeStore(tx))
            if not 0 <= index < log.size:
                raise NotFound(
                    f"the log has no entry {index}", remedy="see the checkpoint for its size"
                )
            anchored = (
                select(CheckpointRow)
                .where(col(CheckpointRow.size) > index, col(CheckpointRow.block).is_not(None))
                .order_by(col(CheckpointRow.size))
                .limit(1)
            )
            row = tx.exec(anchored).first() or self.sign(tx)
            hashes = tuple(log.inclusion_proof(index, row.size))
            return Proved(
                proof=LogProof(index=index, hashes=hashes, checkpoint=row.note),
                size=row.size,
                root=row.root.hex(),
                block=row.block,
                transaction=row.transaction_hash,
            )

    def erase(self, index: int) -> None:
        """Destroy an entry's body and salt; its commitment stays, so every proof still holds.

        The erasure is an entry of its own. Raises NotFound for an entry that is not there any more.
        """
        self.entry(index)
        with self._store.transaction() as tx:
            row = tx.get_one(EntryRow, index)
            row.body = row.salt = None
            tx.add(row)
            self.record(tx, EntryType.ERASED, outcome=f"entry {index}")

    def anchored_size(self) -> int:
        """How many entries the newest anchor that the chain confirmed covers."""
        with self._store.transaction() as tx:
            confirmed = (
                select(CheckpointRow.size)
                .where(col(CheckpointRow.block).is_not(None))
                .order_by(col(CheckpointRow.size).desc())
                .limit(1)
            )
            return tx.exec(confirmed).first() or 0

    def schedule_anchor(self, tx: Session, *, after_s: float) -> None:
        """Schedule anchoring in the caller's transaction, unless it is scheduled already."""
        if not is_scheduled(tx, ANCHOR, self.origin):
            schedule(
                tx,
                ANCHOR,
                self.origin,
                lane=ANCHOR,
                after_s=after_s,
                give_up_after_s=ANCHOR_GIVE_UP_S,
            )

    def sign(self, tx: Session) -> CheckpointRow:
        """The signed checkpoint of the log as it is now; the newest one where it has not grown."""
        log = Log(SqlNodeStore(tx))
        size = log.size
        existing = tx.get(CheckpointRow, size)
        if existing is not None:
            return existing
        self._verify_not_halted()
        changed = tx.get(Setting, LOG_VKEY)
        if changed is not None and changed.value != self._signer.vkey:
            self.reload_signer()
        checkpoint, now = Checkpoint(self.origin, size, log.root()), time.time()
        signers: list[Signer] = [self._signer]
        if self._second_signer is not None:
            signers.append(self._second_signer.at(int(now)))
        row = CheckpointRow(
            size=size,
            root=checkpoint.root,
            note=sign_note(checkpoint.body(), signers),
            created_at=now,
        )
        tx.add(row)
        return row

    def _rows(self, start: int, end: int) -> Sequence[EntryRow]:
        with self._store.transaction() as tx:
            wanted = (
                select(EntryRow)
                .where(col(EntryRow.position) >= start, col(EntryRow.position) < end)
                .order_by(col(EntryRow.position))
                .limit(MAX_ENTRIES_A_PAGE)
            )
            return tx.exec(wanted).all()


def read_space(tx: Session) -> Space | None:
    """The space this node has joined, or None before it has."""
    rows = tx.exec(select(Setting).where(col(Setting.name).in_(_SPACE.values()))).all()
    kept = {row.name: row.value for row in rows}
    if len(kept) < len(_SPACE):
        return None
    values = {field: kept[name] for field, name in _SPACE.items()}
    return Space(
        operator=values["operator"],
        rpc_url=values["rpc_url"],
        contract=values["contract"],
        chain_id=int(values["chain_id"]),
    )


def write_space(tx: Session, space: Space) -> None:
    for field, name in _SPACE.items():
        tx.merge(Setting(name=name, value=str(getattr(space, field))))
