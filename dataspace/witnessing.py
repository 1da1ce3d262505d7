"""Counterparties watch each other's logs (C2SP tlog-witness).

When two nodes have an agreement, each cosigns the other's checkpoints, if and only if they are
consistent with all it has cosigned before. Whoever rewrites its log then finds no witness for it.
A node cosigns with its log key, which is on the chain: the two signatures are over texts that
cannot be confused, and an auditor needs nobody's word for a witness's key.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from http import HTTPStatus

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlmodel import Session, col, select

from dataspace.anchoring import COSIGN
from dataspace.chain_access import ChainAccess
from dataspace.errors import ProtocolViolation, Unavailable
from dataspace.evidence import read_space
from dataspace.peers import Peers
from dataspace.processes import GIVE_UP_S, Handler, Process, schedule
from dataspace.store.engine import Store
from dataspace.store.log_store import SqlNodeStore
from dataspace.store.tables import WitnessedRow
from ledger.cosignature import Cosigner
from ledger.errors import InvalidNote, LedgerError
from ledger.log import Log
from ledger.note import (
    NoteSignature,
    NoteVerifier,
    Verifier,
    add_signatures,
    parse_signatures,
    split_note,
)
from ledger.witness import (
    Witness,
    WitnessAnswer,
    WitnessedHead,
    add_checkpoint_request,
    log_id_of,
    parse_add_checkpoint,
    parse_conflict,
)

log = structlog.get_logger("dataspace.witnessing")

INTRODUCE = "introduce-witness"
# Cosignatures are sought before each anchor, so a peer that hangs must not hold it up for long.
ASK_TIMEOUT_S = 3.0
MAX_WITNESSES_ASKED = 16
REFRESH_AFTER_S = 5.0


class Witnessing:
    """Both sides: cosigning others' checkpoints, and asking others to cosign ours."""

    def __init__(
        self,
        store: Store,
        peers: Peers,
        chain: ChainAccess,
        *,
        origin: str,
        log_key: Ed25519PrivateKey,
    ) -> None:
        self._store = store
        self._peers = peers
        self._chain = chain
        self._origin = origin
        self._refreshing = threading.Lock()
        self._refreshed_at: dict[str, float] = {}
        self.use_key(log_key)

    def use_key(self, log_key: Ed25519PrivateKey) -> None:
        """From now on cosign with this key."""
        self._witness = Witness(
            [Cosigner(self._origin, log_key)],
            SqlWitnessStore(self._store),
            logs=self._keys_of,
            clock=lambda: int(time.time()),
        )

    def handlers(self) -> dict[str, Handler]:
        return {INTRODUCE: Handler(self._introduce)}

    def befriend(self, tx: Session, peer: str, origin: str) -> None:
        """From now on cosign the log `origin` of the counterparty `peer`, and ask it to do so."""
        if tx.get(WitnessedRow, log_id_of(origin)) is None:
            schedule(tx, INTRODUCE, peer, {"origin": origin}, give_up_after_s=GIVE_UP_S)

    def add_checkpoint(self, body: bytes) -> WitnessAnswer:
        """Answer a log's request to be cosigned.

        A signature by a key we do not know may be by a new one: then the chain is asked, now and
        then.
        """
        answer = self._witness.add_checkpoint(body)
        if answer.status != HTTPStatus.FORBIDDEN:
            return answer
        if not self._refresh_key(parse_add_checkpoint(body).head.origin):
            return answer
        return self._witness.add_checkpoint(body)

    def cosigned(self, log_id: str) -> str | None:
        """The newest checkpoint of the log that was cosigned here, with its signatures."""
        head = SqlWitnessStore(self._store).head(log_id)
        return None if head is None else head.note

    def gather(self, note: str, size: int) -> tuple[str, bool]:
        """The checkpoint `note` with the cosignatures of every witness that gives one now, and
        whether all have. One that is away or refuses is left out; the auditor sees how many
        there are."""
        with self._store.transaction() as tx:
            known = select(WitnessedRow).order_by(col(WitnessedRow.origin))
            witnesses = tx.exec(known.limit(MAX_WITNESSES_ASKED)).all()
        given = {signature.name for signature in split_note(note)[1]}
        lines: list[NoteSignature] = []
        missing = [one for one in witnesses if one.origin not in given]
        for witness in missing:
            try:
                lines += self._ask(witness, note, size)
            except (Unavailable, ProtocolViolation, LedgerError) as err:
                log.info("no cosignature", witness=witness.peer, error=str(err))
        return add_signatures(note, lines) if lines else note, len(lines) >= len(missing)

    def _ask(self, witness: WitnessedRow, note: str, size: int) -> Sequence[NoteSignature]:
        old_size = min(witness.cosigned_size, size)
        # Once more with the size the witness says it has, where ours is out of date.
        for _ in range(2):
            with self._store.transaction() as tx:
                proof = Log(SqlNodeStore(tx)).consistency_proof(old_size, size)
            answer = self._peers.send(
                "POST",
                f"{self._peers.url_of(witness.peer)}/tlog/witness/add-checkpoint",
                to=witness.peer,
                body=add_checkpoint_request(old_size, proof, note),
                headers={"content-type": "text/plain"},
                timeout_s=ASK_TIMEOUT_S,
            )
            if answer.status == 200:
                lines = parse_signatures(answer.body.decode())
                self._remember(witness.log_id, size)
                return [line for line in lines if line.name == witness.origin]
            if answer.status != 409:
                raise ProtocolViolation(f"{witness.peer} does not cosign: {answer.status}")
            old_size = parse_conflict(answer.body)
            if old_size > size:
                raise ProtocolViolation(f"{witness.peer} has cosigned a longer log than ours")
        raise ProtocolViolation(f"{witness.peer} contradicts itself about the size it has")

    def _remember(self, log_id: str, size: int) -> None:
        with self._store.transaction() as tx:
            row = tx.get_one(WitnessedRow, log_id)
            row.cosigned_size = max(row.cosigned_size, size)
            tx.add(row)

    def _introduce(self, process: Process) -> None:
        """Take the counterparty's log key from the chain, not from the counterparty."""
        origin = process.payload["origin"]
        vkey = self._registered_key(origin)
        with self._store.transaction() as tx:
            if tx.get(WitnessedRow, log_id_of(origin)) is None:
                tx.add(
                    WitnessedRow(
                        log_id=log_id_of(origin),
                        origin=origin,
                        peer=process.subject,
                        vkey=vkey,
                    )
                )
            # What is published already is not left without its cosignature.
            schedule(tx, COSIGN, self._origin, lane=COSIGN)

    def _registered_key(self, origin: str) -> str:
        with self._store.transaction() as tx:
            space = read_space(tx)
        if space is None:
            raise Unavailable("this node has not joined its space yet")
        with self._chain.open(space.rpc_url, space.contract) as registry:
            registered = {one.origin: one for one in registry.logs()}
        found = registered.get(origin)
        if found is None or found.revoked:
            raise Unavailable(f"the log {origin} is not registered on the chain")
        return found.vkey

    def _refresh_key(self, origin: str) -> bool:
        """Ask the chain for the log's key; whether it has changed. At most every few seconds, as
        anybody can send us a checkpoint with a wrong signature."""
        now = time.monotonic()
        with self._refreshing:
            if now - self._refreshed_at.get(origin, -REFRESH_AFTER_S) < REFRESH_AFTER_S:
                return False
            self._refreshed_at[origin] = now
        try:
            vkey = self._registered_key(origin)
        except (Unavailable, LedgerError) as err:
            log.info("a log's key cannot be refreshed", origin=origin, error=str(err))
            return False
        with self._store.transaction() as tx:
            row = tx.get_one(WitnessedRow, log_id_of(origin))
            changed = row.vkey != vkey
            row.vkey = vkey
            tx.add(row)
        return changed

    def _keys_of(self, origin: str) -> Sequence[Verifier]:
        with self._store.transaction() as tx:
            row = tx.get(WitnessedRow, log_id_of(origin))
        if row is None:
            return ()
        try:
            return (NoteVerifier.parse(row.vkey),)
        except InvalidNote:
            log.warning("a registered log key is unusable", origin=origin)
            return ()


class SqlWitnessStore:
    """Cosigned heads in the node's database: an adapter to `ledger.witness.WitnessStore`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def head(self, log_id: str) -> WitnessedHead | None:
        with self._store.transaction() as tx:
            row = tx.get(WitnessedRow, log_id)
            return _head(row) if row is not None else None

    def advance(self, log_id: str, expected: WitnessedHead | None, new: WitnessedHead) -> bool:
        with self._store.transaction() as tx:
            row = tx.get(WitnessedRow, log_id, with_for_update=True)
            if row is None or _head(row) != expected:
                return False
            row.size, row.root, row.note = new.size, new.root, new.note
            tx.add(row)
            return True


def _head(row: WitnessedRow) -> WitnessedHead | None:
    if row.note is None or row.root is None:
        return None
    return WitnessedHead(row.size, row.root, row.note)
