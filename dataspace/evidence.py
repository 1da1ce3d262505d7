"""Evidence: entries written in the transaction of the change they tell, then signed and anchored.

`Evidence.record` appends to the log inside the caller's transaction and schedules anchoring. The
anchoring process signs a checkpoint, stores the signed transaction before it is sent, and sends
the same bytes again until the chain has them; a chain that is away delays this and loses nothing.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from sqlmodel import Session, col, delete, select

from dataspace.errors import NotFound, Unavailable
from dataspace.processes import Later, Process, is_scheduled, schedule
from dataspace.store.engine import Store
from dataspace.store.log_store import SqlNodeStore
from dataspace.store.tables import CheckpointRow, EntryRow, Setting
from ledger.chain import PreparedTransaction, Registry
from ledger.checkpoint import Checkpoint, NoteSigner, sign_note
from ledger.entry import Entry, EntryType, SealedEntry, seal, uuid7
from ledger.errors import ChainRefused
from ledger.log import Log
from ledger.proof import LogProof

ANCHOR = "anchor"
COSIGN = "cosign"
# Asked again after 2, 4, … seconds: about two minutes, and then with the next checkpoint.
COSIGN_ATTEMPTS = 6
# An anchor waits for the chain as long as it takes: evidence is never given up.
ANCHOR_GIVE_UP_S = 10 * 365 * 86400.0
MAX_ENTRIES_A_PAGE = 1000
# Refusals that end by themselves when the operator has registered and funded us.
NOT_YET = frozenset({"UnknownLog", "InsufficientFunds"})
# Refusals of a stored transaction that another one of ours, or a reset chain, has overtaken.
SIGN_ANEW = frozenset({"NonceTooLow", "NonceTooHigh", "WrongChain"})


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


class Witnesses(Protocol):
    """Whoever cosigns this log's checkpoints."""

    def gather(self, note: str, size: int) -> tuple[str, bool]:
        """`note` with the cosignatures to be had now, and whether every witness has given one."""


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
        account_key: str,
        account: threading.Lock,
        anchor_interval_s: float,
        witnesses: Witnesses,
    ) -> None:
        self._store = store
        self._signer = signer
        self._actor = actor
        self._account_key = account_key
        self._account = account
        self._witnesses = witnesses
        self._anchor_interval_s = anchor_interval_s
        self.origin = origin

    def record(
        self, tx: Session, event: EntryType, /, *, at: datetime | None = None, **fields: Any
    ) -> int:
        """Append an entry of this type in the caller's transaction; returns its index.

        `at` is when it happened (aware; now otherwise). `fields` are those of `ledger.entry.Entry`:
        organisations and hashes only, never a person, a query text or a row count.
        """
        now = (at or datetime.now(UTC)).astimezone(UTC)
        entry = Entry(
            log=self.origin,
            id=uuid7(now, secrets.token_bytes(10)),
            ts=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            type=event,
            actor=self._actor,
            **fields,
        )
        sealed = seal(entry, secrets.token_bytes(16))
        index = Log(SqlNodeStore(tx)).append(sealed.commitment)
        tx.add(
            EntryRow(
                position=index, commitment=sealed.commitment, body=sealed.body, salt=sealed.salt
            )
        )
        if not is_scheduled(tx, ANCHOR, self.origin):
            schedule(
                tx,
                ANCHOR,
                self.origin,
                lane=ANCHOR,
                after_s=self._anchor_interval_s,
                give_up_after_s=ANCHOR_GIVE_UP_S,
            )
        return index

    @property
    def vkey(self) -> str:
        """The log's verifier key, as registered on the chain."""
        return self._signer.vkey

    def use_signer(self, signer: NoteSigner) -> None:
        """From now on sign checkpoints with this key."""
        self._signer = signer

    def size(self) -> int:
        with self._store.transaction() as tx:
            return SqlNodeStore(tx).size()

    def checkpoint(self) -> str:
        """The published checkpoint: the newest one that was signed to be witnessed and anchored.

        It may be an anchor interval behind the log; what it covers has its cosignatures.
        """
        with self._store.transaction() as tx:
            newest = select(CheckpointRow).order_by(col(CheckpointRow.size).desc())
            return (tx.exec(newest).first() or self._sign(tx)).note

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
            )
            row = tx.exec(anchored).first() or self._sign(tx)
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
            )
            return tx.exec(confirmed).first() or 0

    def anchor(self, process: Process) -> Later | None:
        """Handler of the anchoring process: one checkpoint, one transaction, one receipt."""
        with self._store.transaction() as tx:
            space = read_space(tx)
            if space is None:
                raise Unavailable("this node has not joined a space yet, so it cannot anchor")
            sent = select(CheckpointRow).where(
                col(CheckpointRow.transaction).is_not(None), col(CheckpointRow.block).is_(None)
            )
            row = tx.exec(sent.order_by(col(CheckpointRow.size))).first() or self._sign(tx)
        if row.block is not None:
            return None
        if row.transaction is None:
            self._gather_cosignatures(row)
        registry = Registry(space.rpc_url, space.contract, private_key=self._account_key)
        try:
            with self._account:
                block = self._submit(registry, row)
        except ChainRefused as err:
            return self._refused(row, err)
        if block is None:
            return Later(0.2)
        with self._store.transaction() as tx:
            stored = tx.get_one(CheckpointRow, row.size)
            stored.block = block
            tx.add(stored)
            behind = SqlNodeStore(tx).size() > row.size
        return Later(self._anchor_interval_s) if behind else None

    def _submit(self, registry: Registry, row: CheckpointRow) -> int | None:
        if row.transaction is None:
            prepared = registry.prepare_anchor(self.origin, row.size, row.root)
            # Stored before it is sent: after a crash the very same bytes are sent again.
            with self._store.transaction() as tx:
                stored = tx.get_one(CheckpointRow, row.size)
                stored.transaction, stored.transaction_hash = prepared.to_text(), prepared.hash
                tx.add(stored)
        else:
            prepared = PreparedTransaction.parse(row.transaction)
        registry.submit(prepared)
        receipt = registry.receipt(prepared.hash)
        return None if receipt is None else receipt.block

    def forget_unsent(self, tx: Session) -> None:
        """Drop checkpoints that were signed and never sent: a new key signs them anew."""
        tx.exec(delete(CheckpointRow).where(col(CheckpointRow.transaction).is_(None)))

    def cosign(self, process: Process) -> Later | None:
        """Handler: ask the witnesses that have not yet cosigned the published checkpoint."""
        with self._store.transaction() as tx:
            newest = select(CheckpointRow).order_by(col(CheckpointRow.size).desc())
            row = tx.exec(newest).first()
        if row is None or self._gather_cosignatures(row) or process.attempts >= COSIGN_ATTEMPTS:
            return None
        return Later(float(2**process.attempts))

    def ask_witnesses(self, tx: Session) -> None:
        """Schedule `cosign` in the caller's transaction."""
        if not is_scheduled(tx, COSIGN, self.origin):
            schedule(tx, COSIGN, self.origin, lane=COSIGN, after_s=1.0)

    def _gather_cosignatures(self, row: CheckpointRow) -> bool:
        """Add what the witnesses give now; whether all of them have cosigned.

        They are asked before the chain is, so that what is anchored has been witnessed; one that
        is away is asked again later and holds up nothing.
        """
        note, complete = self._witnesses.gather(row.note, row.size)
        with self._store.transaction() as tx:
            stored = tx.get_one(CheckpointRow, row.size)
            if note != stored.note:
                stored.note = note
                tx.add(stored)
            if not complete:
                self.ask_witnesses(tx)
        return complete

    def _refused(self, row: CheckpointRow, err: ChainRefused) -> Later:
        """What a refusal of the chain means: wait for the registrar, sign anew, or give up."""
        if err.name in NOT_YET:
            raise Unavailable(str(err)) from err
        if err.name not in SIGN_ANEW:
            raise err
        with self._store.transaction() as tx:
            stored = tx.get_one(CheckpointRow, row.size)
            stored.transaction = stored.transaction_hash = None
            tx.add(stored)
        return Later(0.0)

    def _sign(self, tx: Session) -> CheckpointRow:
        log = Log(SqlNodeStore(tx))
        size = log.size
        existing = tx.get(CheckpointRow, size)
        if existing is not None:
            return existing
        checkpoint = Checkpoint(self.origin, size, log.root())
        row = CheckpointRow(
            size=size,
            root=checkpoint.root,
            note=sign_note(checkpoint.body(), [self._signer]),
            created_at=time.time(),
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
    values = {row.name: row.value for row in tx.exec(select(Setting)).all()}
    try:
        return Space(
            operator=values["space.operator"],
            rpc_url=values["space.rpc_url"],
            contract=values["space.contract"],
            chain_id=int(values["space.chain_id"]),
        )
    except KeyError:
        return None


def write_space(tx: Session, space: Space) -> None:
    for name, value in (
        ("operator", space.operator),
        ("rpc_url", space.rpc_url),
        ("contract", space.contract),
        ("chain_id", str(space.chain_id)),
    ):
        tx.merge(Setting(name=f"space.{name}", value=value))
