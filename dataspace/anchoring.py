"""Witnessing and anchoring: what makes a log's past unchangeable for its owner too.

A process signs a checkpoint, has it cosigned by witnesses, stores the signed transaction before it
is sent, and sends the same bytes again until the chain has them. A chain that is away delays this
and loses nothing.
"""

from __future__ import annotations

from typing import Protocol

import structlog
from sqlmodel import Session, col, delete, select

from dataspace.chain_access import ChainAccess
from dataspace.errors import InputRejected, Unavailable
from dataspace.evidence import ANCHOR, Evidence, read_space
from dataspace.processes import Handler, Later, Process, is_scheduled, schedule
from dataspace.store.engine import Store
from dataspace.store.tables import CheckpointRow
from ledger.chain import PreparedTransaction, Registry
from ledger.errors import ChainRefused

log = structlog.get_logger("dataspace.anchoring")

COSIGN = "cosign"
# Asked again after 2, 4, … seconds: about two minutes, and then with the next checkpoint.
COSIGN_ATTEMPTS = 6
LOOK_AGAIN_S = 0.2
# Refusals that end by themselves when the operator has registered and funded us.
NOT_YET = frozenset({"UnknownLog", "InsufficientFunds"})
# Refusals of a stored transaction that another one of ours, or a reset chain, has overtaken.
SIGN_ANEW = frozenset({"NonceTooLow", "NonceTooHigh", "WrongChain"})


class Witnesses(Protocol):
    """Whoever cosigns this log's checkpoints."""

    def gather(self, note: str, size: int) -> tuple[str, bool]:
        """`note` with the cosignatures to be had now, and whether every witness has given one."""


class Anchoring:
    """The processes that have this node's checkpoints cosigned and anchored."""

    def __init__(
        self,
        store: Store,
        evidence: Evidence,
        *,
        chain: ChainAccess,
        witnesses: Witnesses,
        interval_s: float,
    ) -> None:
        self._store = store
        self._evidence = evidence
        self._chain = chain
        self._witnesses = witnesses
        self._interval_s = interval_s

    def handlers(self) -> dict[str, Handler]:
        return {ANCHOR: Handler(self.anchor), COSIGN: Handler(self.cosign)}

    def anchor(self, process: Process) -> Later | None:
        """Handler of the anchoring process: one checkpoint, one transaction, one receipt."""
        with self._store.transaction() as tx:
            space = read_space(tx)
            if space is None:
                raise Unavailable("this node has not joined a space yet, so it cannot anchor")
            size = self._evidence.size_in(tx)
        with self._chain.open(space.rpc_url, space.contract) as registry:
            return self._anchor_at(registry, size)

    def _anchor_at(self, registry: Registry, size: int) -> Later | None:
        self._verify_not_rewound(registry, size)
        with self._store.transaction() as tx:
            sent = select(CheckpointRow).where(
                col(CheckpointRow.transaction).is_not(None), col(CheckpointRow.block).is_(None)
            )
            first = sent.order_by(col(CheckpointRow.size)).limit(1)
            row = tx.exec(first).first() or self._evidence.sign(tx)
        if row.block is not None:
            return self._check_still_anchored(registry, row)
        if row.transaction is None and not self._gather_cosignatures(row):
            self._ask_again_later()
        try:
            with self._chain.account:
                block = self._submit(registry, row)
        except ChainRefused as err:
            return self._refused(row, err)
        if block is None:
            return Later(LOOK_AGAIN_S)
        with self._store.transaction() as tx:
            stored = _stored(tx, row)
            stored.block = block
            tx.add(stored)
            behind = self._evidence.size_in(tx) > row.size
        return Later(self._interval_s) if behind else None

    def cosign(self, process: Process) -> Later | None:
        """Handler: ask the witnesses that have not yet cosigned the published checkpoint."""
        with self._store.transaction() as tx:
            newest = select(CheckpointRow).order_by(col(CheckpointRow.size).desc()).limit(1)
            row = tx.exec(newest).first()
        if row is None or self._gather_cosignatures(row) or process.attempts >= COSIGN_ATTEMPTS:
            return None
        return Later(float(2**process.attempts))

    def _ask_again_later(self) -> None:
        with self._store.transaction() as tx:
            if not is_scheduled(tx, COSIGN, self._evidence.origin):
                schedule(tx, COSIGN, self._evidence.origin, lane=COSIGN, after_s=1.0)

    def forget_unsent(self, tx: Session) -> None:
        """Drop checkpoints that were signed and never sent: a new key signs them anew."""
        tx.exec(delete(CheckpointRow).where(col(CheckpointRow.transaction).is_(None)))

    def _gather_cosignatures(self, row: CheckpointRow) -> bool:
        """Add what the witnesses give now; whether all of them have cosigned.

        They are asked before the chain is, so that what is anchored has been witnessed; one that
        is away is asked again later and holds up nothing.
        """
        note, complete = self._witnesses.gather(row.note, row.size)
        with self._store.transaction() as tx:
            stored = _stored(tx, row)
            if note != stored.note:
                stored.note = note
                tx.add(stored)
        return complete

    def _verify_not_rewound(self, registry: Registry, size: int) -> None:
        """Refuse to sign a log that is shorter than what the chain has of it."""
        try:
            latest = registry.latest(self._evidence.origin)
        except ChainRefused:
            # Not registered yet: preparing the anchor will say so.
            return
        if latest is not None and latest.size > size:
            raise InputRejected(
                f"this node's log has {size} entries, but {latest.size} are anchored: the "
                "database is older than the chain, so nothing is signed",
                remedy="restore the newest backup; what it lacks is gone and an audit will say so",
            )

    def _check_still_anchored(self, registry: Registry, row: CheckpointRow) -> Later | None:
        """A chain that was reorganised or reset may have lost our newest anchor: then again."""
        latest = registry.latest(self._evidence.origin)
        if latest is not None and latest.size >= row.size:
            return None
        log.warning("the chain has lost our newest anchor", size=row.size)
        self._forget_transaction(row)
        return Later(0.0)

    def _forget_transaction(self, row: CheckpointRow) -> None:
        with self._store.transaction() as tx:
            stored = _stored(tx, row)
            stored.transaction = stored.transaction_hash = stored.block = None
            tx.add(stored)

    def _submit(self, registry: Registry, row: CheckpointRow) -> int | None:
        if row.transaction is None:
            prepared = registry.prepare_anchor(self._evidence.origin, row.size, row.root)
            # Stored before it is sent: after a crash the very same bytes are sent again.
            with self._store.transaction() as tx:
                stored = _stored(tx, row)
                stored.transaction, stored.transaction_hash = prepared.to_text(), prepared.hash
                tx.add(stored)
        else:
            prepared = PreparedTransaction.parse(row.transaction)
        # Sent again each time: a chain that was reorganised has forgotten it, and one that has it
        # does not mind.
        registry.submit(prepared)
        receipt = registry.receipt(prepared.hash)
        if receipt is None or registry.head() < receipt.block + self._chain.confirmations:
            return None
        return receipt.block

    def _refused(self, row: CheckpointRow, err: ChainRefused) -> Later:
        """What a refusal of the chain means: wait for the registrar, sign anew, or give up."""
        if err.name in NOT_YET:
            raise Unavailable(str(err)) from err
        if err.name not in SIGN_ANEW:
            raise err
        self._forget_transaction(row)
        return Later(0.0)


def _stored(tx: Session, row: CheckpointRow) -> CheckpointRow:
    """The checkpoint as it is stored now. Raises Unavailable where it was forgotten meanwhile, as
    the log's key was changed: what a new key has signed must not be written over."""
    stored = tx.get(CheckpointRow, row.size)
    if stored is None or stored.created_at != row.created_at:
        raise Unavailable("the log's key was changed meanwhile, so its checkpoint is signed anew")
    return stored
