"""The keys of a node's identity, and changing the one that speaks for it.

    1. a new key is made beside the old one and listed in the DID document, for longer than peers
       keep the document; the log records that it was announced
    2. from one commit on the new key is in use, and the old one still authenticates what is under
       way; its file then takes the old one's place
    3. the old key is retired: what it signed verifies, and it proves no presence any more

The database says where each key stands and the files hold what is secret. A kill between a commit
and the file that follows from it is repaired when the node is opened: the key in use is whichever
file holds it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import structlog
from sqlmodel import Session, col, select

from dataspace.errors import InputRejected, NotFound, ProtocolViolation
from dataspace.identity.did import ListedKey
from dataspace.identity.key_files import KeyFiles
from dataspace.identity.key_states import AUTHENTICATES, LISTED, KeyAct, KeyState, next_state
from dataspace.identity.keys import (
    SigningAlgorithm,
    SigningKey,
    VerificationKey,
    public_jwk_of,
    read_jwk,
)
from dataspace.identity.tokens import Identity
from dataspace.processes import Handler, Later, Process, schedule
from dataspace.store.engine import Store
from dataspace.store.tables import Setting, SigningKeyRow
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.keyring")

USE, RETIRE = "use-signing-key", "retire-signing-key"
FOR_EVER_S = 100 * 365 * 86400.0
# Another process of this node may have changed the key; its file tells.
LOOK_S = 1.0
# As many as a DID document may list, with room for the ones of today.
MAX_LISTED = 48
ROOT_MADE = "identity.root"


class Keyring:
    """What this node signs with, and what it signed with before."""

    def __init__(self, store: Store, files: KeyFiles, did: str) -> None:
        """Open the ring, repairing what a kill left. Raises InputRejected for key files that
        cannot be this node's."""
        self._store, self._files, self._did = store, files, did
        self._lock = threading.RLock()
        with self._lock:
            self.root = self._open_root()
            self._identity = Identity.of(did, files.current())
            self._looked_at = time.monotonic()
            self._mark = files.mark()
            self._reconcile()

    @property
    def identity(self) -> Identity:
        """Our DID with the key in use."""
        if time.monotonic() - self._looked_at >= LOOK_S:
            self._look()
        return self._identity

    def listed(self) -> list[ListedKey]:
        """The keys as the DID document lists them, the one in use first."""
        with self._store.transaction() as tx:
            rows = _rows(tx)
        listed = [row for row in rows if KeyState(row.state) in LISTED]
        listed.sort(key=lambda row: (row.state != KeyState.IN_USE, -row.announced_at))
        return [
            ListedKey(_public(row), authenticates=KeyState(row.state) in AUTHENTICATES)
            for row in listed
        ]

    def public_key(self, kid: str) -> VerificationKey:
        """A key of ours that is listed. Raises ProtocolViolation."""
        identity = self.identity
        if kid == identity.kid:
            return identity.key
        for one in self.listed():
            if kid == f"{self._did}#{one.key.thumbprint()}":
                return one.key
        raise ProtocolViolation("this node does not list the key named in the signature")

    def all(self) -> list[dict[str, Any]]:
        """Every key, the newest first; times in seconds since the epoch."""
        with self._store.transaction() as tx:
            rows = list(tx.exec(select(SigningKeyRow)).all())
        return [
            {
                "kid": f"{self._did}#{row.thumbprint}",
                "thumbprint": row.thumbprint,
                "algorithm": row.algorithm,
                "state": row.state,
                "announced_at": row.announced_at,
                "used_at": row.used_at,
                "replaced_at": row.replaced_at,
                "retired_at": row.retired_at,
                "withdrawn_at": row.withdrawn_at,
            }
            for row in sorted(rows, key=lambda row: -row.announced_at)
        ]

    # ---- changing, in the caller's transaction -----------------------------------------------

    def announce(self, tx: Session, algorithm: SigningAlgorithm) -> SigningKeyRow:
        """Make a key and list it. Raises InputRejected while another one is announced."""
        with self._lock:
            rows = _rows(tx)
            if any(row.state == KeyState.ANNOUNCED for row in rows):
                raise InputRejected(
                    "the signing key is being changed already",
                    remedy="see how far it is: dataspace key list",
                )
            _verify_room(rows)
            return self._add(tx, self._files.make_next(algorithm), KeyAct.ANNOUNCE)

    def replace_compromised(self, tx: Session, algorithm: SigningAlgorithm) -> SigningKeyRow:
        """Withdraw the key in use and any that is announced: whoever got the one may have got the
        other. A fresh one is in use as soon as this transaction is; `settle` must follow it."""
        with self._lock:
            for row in _rows(tx):
                if row.state in (KeyState.IN_USE, KeyState.ANNOUNCED):
                    move_key(tx, row, KeyAct.WITHDRAW)
            return self._add(tx, self._files.make_next(algorithm), KeyAct.USE)

    def use(self, tx: Session, thumbprint: str) -> bool:
        """Let an announced key speak from this transaction on; `settle` must follow it. False where
        it is not announced any more."""
        with self._lock:
            row = tx.get(SigningKeyRow, thumbprint)
            if row is None or row.state != KeyState.ANNOUNCED:
                return False
            if thumbprint not in _thumbprints(self._files.next()):
                # A kill in the midst of withdrawing it, or files restored from an earlier time.
                log.warning("the file of an announced key is gone", kid=thumbprint)
                move_key(tx, row, KeyAct.WITHDRAW)
                return False
            for other in _rows(tx):
                if other.state == KeyState.IN_USE:
                    move_key(tx, other, KeyAct.REPLACE)
            move_key(tx, row, KeyAct.USE)
            return True

    def move(self, tx: Session, thumbprint: str, act: KeyAct) -> None:
        """RETIRE or WITHDRAW an earlier key. Raises NotFound, and InputRejected for the one in use
        and for what cannot be."""
        row = tx.get(SigningKeyRow, thumbprint)
        if row is None:
            raise NotFound("this node has no such key", remedy="see: dataspace key list")
        if row.state == KeyState.IN_USE:
            raise InputRejected(
                "the key in use is replaced, not retired",
                remedy="run: dataspace key rotate (with --compromised where somebody else has it)",
            )
        move_key(tx, row, act)

    def settle(self) -> None:
        """Let the files follow what was committed. Repeating it changes nothing."""
        with self._lock:
            self._reconcile()

    # ---- files ----------------------------------------------------------------------------------

    def _open_root(self) -> bytes:
        """The secret that others are derived from; homes of an earlier version get theirs."""
        with self._store.transaction() as tx:
            made = tx.get(Setting, ROOT_MADE) is not None
        if not made and not self._files.has_root():
            self._files.make_root_of_signing_key()
        root = self._files.root()
        if not made:
            # From now on a missing file is a loss, and not an earlier version's home.
            with self._store.transaction() as tx:
                tx.merge(Setting(name=ROOT_MADE, value="made"))
        return root

    def _look(self) -> None:
        """Take up a key that another process of this node has begun to use."""
        with self._lock:
            self._looked_at = time.monotonic()
            mark = self._files.mark()
            if mark != self._mark:
                self._identity, self._mark = Identity.of(self._did, self._files.current()), mark

    def _reconcile(self) -> None:
        current, following = self._files.current(), self._files.next()
        with self._store.transaction() as tx:
            rows = {row.thumbprint: row for row in _rows(tx)}
            in_use = next((row for row in rows.values() if row.state == KeyState.IN_USE), None)
            if in_use is None or in_use.thumbprint not in _thumbprints(current, following):
                self._adopt(tx, current, rows, in_use)
                in_use = None
        if following is not None:
            if in_use is not None and in_use.thumbprint == following.thumbprint:
                self._files.use_next()
            elif not _is_announced(rows.get(following.thumbprint)):
                # Made for a transaction that was never committed, or already in its place.
                self._files.forget_next()
        self._identity = Identity.of(self._did, self._files.current())
        self._mark = self._files.mark()

    def _adopt(
        self,
        tx: Session,
        current: SigningKey,
        rows: dict[str, SigningKeyRow],
        in_use: SigningKeyRow | None,
    ) -> None:
        """The key that is there is the one in use: of a home that is new, or of an earlier version,
        or whose files and database were restored from different times."""
        known = rows.get(current.thumbprint)
        if known is not None and known.state == KeyState.WITHDRAWN:
            raise InputRejected(
                "the key in signing.pem was withdrawn as compromised",
                remedy="restore the file of the key that replaced it, from a newer backup",
            )
        if in_use is not None:
            log.warning("the key in use is another than the database knew", kid=current.thumbprint)
            move_key(tx, in_use, KeyAct.REPLACE)
            move_key(tx, in_use, KeyAct.RETIRE)
        if known is None:
            self._add(tx, current, KeyAct.USE)
        else:
            move_key(tx, known, KeyAct.USE)

    def _add(self, tx: Session, key: SigningKey, act: KeyAct) -> SigningKeyRow:
        now = time.time()
        state = next_state(None, act)
        row = SigningKeyRow(
            thumbprint=key.thumbprint,
            algorithm=key.algorithm.value,
            jwk=public_jwk_of(key.jwk),
            state=state.value,
            announced_at=now,
            used_at=now if state is KeyState.IN_USE else None,
        )
        tx.add(row)
        return row


class KeyChange:
    """The durable processes that change the key in use, with their evidence."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def handlers(self) -> dict[str, Handler]:
        return {USE: Handler(self._use), RETIRE: Handler(self._retire)}

    def rotate(self, algorithm: SigningAlgorithm | None, *, compromised: bool) -> str:
        """Begin to use another key; returns its thumbprint. `algorithm` is that of the present one
        unless given. With `compromised` the present one counts for nothing from now on, and neither
        does what it signed; otherwise nobody notices. Raises InputRejected."""
        node = self._node
        chosen = algorithm or node.identity.signing_key.algorithm
        with node.store.transaction() as tx:
            if compromised:
                row = node.keyring.replace_compromised(tx, chosen)
                if node.operator is not None:
                    # Every credential was signed with the key that counts no more.
                    node.operator.hint_renewals(tx)
                if node.home.settings.post_quantum:
                    node.second_keys.replace_compromised(tx)
                outcome = "identity key withdrawn as compromised, another in use"
            else:
                row = node.keyring.announce(tx, chosen)
                outcome = "identity key announced"
                schedule(
                    tx,
                    USE,
                    row.thumbprint,
                    after_s=node.home.settings.key_announced_s,
                    give_up_after_s=FOR_EVER_S,
                )
                if node.home.settings.post_quantum:
                    node.second_keys.announce(tx, announced_s=node.home.settings.key_announced_s)
            node.evidence.record(tx, EntryType.KEY_ROTATED, outcome=outcome)
            thumbprint = row.thumbprint
        node.keyring.settle()
        node.second_keys.settle()
        return thumbprint

    def retire(self, thumbprint: str, *, withdraw: bool) -> None:
        """Let an earlier key authenticate no more, or with `withdraw` count for nothing."""
        node = self._node
        with node.store.transaction() as tx:
            node.keyring.move(tx, thumbprint, KeyAct.WITHDRAW if withdraw else KeyAct.RETIRE)
            outcome = "identity key withdrawn" if withdraw else "identity key retired"
            node.evidence.record(tx, EntryType.KEY_ROTATED, outcome=outcome)
        node.keyring.settle()

    def _use(self, process: Process) -> Later | None:
        node = self._node
        with node.store.transaction() as tx:
            if node.keyring.use(tx, process.subject):
                node.evidence.record(tx, EntryType.KEY_ROTATED, outcome="identity key in use")
                replaced = select(SigningKeyRow.thumbprint).where(
                    SigningKeyRow.state == KeyState.OVERLAPPING.value,
                    col(SigningKeyRow.algorithm).in_(list(SigningAlgorithm)),
                )
                for thumbprint in tx.exec(replaced).all():
                    schedule(
                        tx,
                        RETIRE,
                        thumbprint,
                        after_s=node.home.settings.key_overlap_s,
                        give_up_after_s=FOR_EVER_S,
                    )
        # Also after a kill between this commit and the files.
        node.keyring.settle()
        return None

    def _retire(self, process: Process) -> Later | None:
        node = self._node
        with node.store.transaction() as tx:
            row = tx.get(SigningKeyRow, process.subject)
            if row is not None and row.state == KeyState.OVERLAPPING:
                node.keyring.move(tx, process.subject, KeyAct.RETIRE)
                node.evidence.record(tx, EntryType.KEY_ROTATED, outcome="identity key retired")
        return None


def _rows(tx: Session) -> list[SigningKeyRow]:
    """Of the keys that speak for the node; those beside them are of `dataspace.post_quantum`."""
    found = select(SigningKeyRow).where(col(SigningKeyRow.algorithm).in_(list(SigningAlgorithm)))
    return list(tx.exec(found.order_by(col(SigningKeyRow.announced_at))).all())


def move_key(tx: Session, row: SigningKeyRow, act: KeyAct) -> None:
    """What happens to a key, with its time. Raises InputRejected for what cannot."""
    state, now = next_state(KeyState(row.state), act), time.time()
    row.state = state.value
    if state is KeyState.IN_USE:
        row.used_at, row.replaced_at, row.retired_at = now, None, None
    elif state is KeyState.OVERLAPPING:
        row.replaced_at = now
    elif state is KeyState.RETIRED:
        row.retired_at = now
    elif state is KeyState.WITHDRAWN:
        row.withdrawn_at = now
    tx.add(row)


def _public(row: SigningKeyRow) -> VerificationKey:
    key = read_jwk(row.jwk)
    assert key is not None
    return key


def _thumbprints(*keys: SigningKey | None) -> set[str]:
    return {key.thumbprint for key in keys if key is not None}


def _is_announced(row: SigningKeyRow | None) -> bool:
    return row is not None and row.state == KeyState.ANNOUNCED


def _verify_room(rows: list[SigningKeyRow]) -> None:
    if sum(KeyState(row.state) in LISTED for row in rows) >= MAX_LISTED:
        raise InputRejected(
            f"a DID document lists at most {MAX_LISTED} keys",
            remedy="withdraw one whose signatures nobody needs: dataspace key retire "
            "THUMBPRINT --withdraw",
        )
