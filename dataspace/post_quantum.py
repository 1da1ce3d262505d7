"""The second keys of a node's identity: ML-DSA-44, beside the one of an elliptic curve.

    keys/signing-mldsa44.pem        signs agreements now, beside the first key
    keys/signing-mldsa44.next.pem   has been announced and will; there only while it is changed

They stand where the states of `dataspace.identity.key_states` say, and change with the first key.
A key that is announced or retired is listed for statements only: what it signed verifies. One that
is in use, or was a moment ago, is listed to authenticate with as well, though no token is ever
signed with it: that is how a peer knows that an agreement of ours without its signature is none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from sqlmodel import Session, col, select

from contracts.mldsa import ALGORITHM, MlDsaKey
from dataspace.errors import InputRejected
from dataspace.identity.did import ListedSecondKey
from dataspace.identity.key_files import SECOND_KEY_FILE
from dataspace.identity.key_states import KeyAct, KeyState, next_state
from dataspace.keyring import RETIRE, move_key
from dataspace.processes import FOR_EVER_S, Handler, Later, Process, schedule
from dataspace.secret_files import read_secret, write_secret
from dataspace.store.engine import Store
from dataspace.store.tables import SigningKeyRow
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.post_quantum")

USE = "use-post-quantum-key"
NEXT_FILE = "signing-mldsa44.next.pem"
# A document lists at most this many: each takes two kilobytes, and peers of earlier versions read
# documents of 64 KiB.
MAX_LISTED = 16
_SECOND = col(SigningKeyRow.algorithm) == ALGORITHM
_LISTED = (KeyState.ANNOUNCED, KeyState.IN_USE, KeyState.OVERLAPPING, KeyState.RETIRED)
# What the owner signs with, or did until a moment ago.
_REQUIRED = (KeyState.IN_USE, KeyState.OVERLAPPING)


class SecondKeys:
    """What this node signs agreements with beside its first key, and what it signed with before."""

    def __init__(self, store: Store, keys: Path, did: str) -> None:
        """Open the keys, repairing what a kill left. Raises InputRejected for damaged files."""
        self._store, self._did = store, did
        self._current, self._next = keys / SECOND_KEY_FILE, keys / NEXT_FILE
        self._kept: tuple[tuple[int, int], MlDsaKey] | None = None
        self.settle()

    def current(self) -> MlDsaKey | None:
        """The key that signs now, where there is one; its file tells whether another process of
        this node has changed it."""
        try:
            found = self._current.stat()
        except FileNotFoundError:
            return None
        # Opening a sealed file takes as long as guessing at its passphrase once.
        kept, mark = self._kept, (found.st_ino, found.st_mtime_ns)
        if kept is None or kept[0] != mark:
            kept = self._kept = (mark, _load(self._current))
        return kept[1]

    def kid(self, key: MlDsaKey) -> str:
        return f"{self._did}#{key.thumbprint()}"

    def listed(self) -> list[ListedSecondKey]:
        """The keys as the DID document lists them, the newest first."""
        with self._store.transaction() as tx:
            rows = _rows(tx)
        return [
            ListedSecondKey(MlDsaKey.of_jwk(row.jwk), required=KeyState(row.state) in _REQUIRED)
            for row in reversed(rows)
            if KeyState(row.state) in _LISTED
        ]

    # ---- changing, in the caller's transaction ------------------------------------------------

    def announce(self, tx: Session, *, announced_s: float) -> None:
        """Make a key, list it, and have it used once no peer can have an older document."""
        rows = _rows(tx)
        if any(row.state == KeyState.ANNOUNCED for row in rows):
            return
        if sum(KeyState(row.state) in _LISTED for row in rows) >= MAX_LISTED:
            raise InputRejected(
                f"a DID document lists at most {MAX_LISTED} post-quantum keys",
                remedy="withdraw one whose signatures nobody needs: dataspace key retire "
                "THUMBPRINT --withdraw",
            )
        thumbprint = self._make_next(tx, KeyAct.ANNOUNCE)
        schedule(tx, USE, thumbprint, after_s=announced_s, give_up_after_s=FOR_EVER_S)

    def replace_compromised(self, tx: Session) -> None:
        """Withdraw the key in use and any that is announced; a fresh one is in use at once."""
        for row in _rows(tx):
            if row.state in (KeyState.IN_USE, KeyState.ANNOUNCED):
                move_key(tx, row, KeyAct.WITHDRAW)
        self._make_next(tx, KeyAct.USE)

    def use(self, tx: Session, thumbprint: str) -> list[str] | None:
        """Let an announced key sign from this transaction on, and return the thumbprints of those
        it replaces; None where it is not announced any more. `settle` must follow it."""
        row = tx.get(SigningKeyRow, thumbprint)
        if row is None or row.state != KeyState.ANNOUNCED:
            return None
        if not self._next.exists() or _load(self._next).thumbprint() != thumbprint:
            log.warning("the file of an announced key is gone", kid=thumbprint)
            move_key(tx, row, KeyAct.WITHDRAW)
            return None
        replaced = [other for other in _rows(tx) if other.state == KeyState.IN_USE]
        for other in replaced:
            move_key(tx, other, KeyAct.REPLACE)
        move_key(tx, row, KeyAct.USE)
        return [other.thumbprint for other in replaced]

    def leave(self, tx: Session) -> bool:
        """Sign with one key from now on; whether there was a second one. `settle` must follow."""
        left = False
        for row in _rows(tx):
            if row.state == KeyState.ANNOUNCED:
                move_key(tx, row, KeyAct.WITHDRAW)
            elif row.state in _REQUIRED:
                if row.state == KeyState.IN_USE:
                    move_key(tx, row, KeyAct.REPLACE)
                move_key(tx, row, KeyAct.RETIRE)
                left = True
        return left

    def settle(self) -> None:
        """Let the files follow what was committed. Repeating it changes nothing."""
        with self._store.transaction() as tx:
            rows = {row.thumbprint: row for row in _rows(tx)}
            in_use = next((one for one in rows.values() if one.state == KeyState.IN_USE), None)
            following = _load(self._next) if self._next.exists() else None
            if following is not None:
                row = rows.get(following.thumbprint())
                if row is not None and row is in_use:
                    # Written again under its new name: an encrypted secret is bound to it.
                    write_secret(self._current, read_secret(self._next))
                if row is None or row.state != KeyState.ANNOUNCED:
                    self._next.unlink()
            current = self.current()
            if current is None:
                return
            row = rows.get(current.thumbprint())
            if row is None and not rows:
                self._add(tx, current, KeyAct.USE)
            elif row is None or row is not in_use:
                # Left behind by a kill, or restored from another time than the database: it is
                # listed no more, or not as ours to sign with.
                log.warning("a post-quantum key that is not in use is destroyed")
                self._current.unlink()

    def _make_next(self, tx: Session, act: KeyAct) -> str:
        key = MlDsaKey.generate()
        write_secret(self._next, _pem(key))
        self._add(tx, key, act)
        return key.thumbprint()

    def _add(self, tx: Session, key: MlDsaKey, act: KeyAct) -> None:
        now, state = time.time(), next_state(None, act)
        tx.add(
            SigningKeyRow(
                thumbprint=key.thumbprint(),
                algorithm=ALGORITHM,
                jwk=key.as_dict(),
                state=state.value,
                announced_at=now,
                used_at=now if state is KeyState.IN_USE else None,
            )
        )


class SecondKeyChange:
    """Begins and ends signing with a second key, with the evidence of it."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def handlers(self) -> dict[str, Handler]:
        return {USE: Handler(self._use)}

    def follow_setting(self) -> None:
        """Announce a key where `post_quantum` was set since, and leave it where it was taken back.
        A lost key file is replaced so, too."""
        node, keys = self._node, self._node.second_keys
        wanted = node.home.settings.post_quantum
        if wanted and keys.current() is not None:
            return
        with node.store.transaction() as tx:
            if not wanted:
                if not keys.leave(tx):
                    return
                outcome = "identity key retired"
            else:
                if any(row.state == KeyState.ANNOUNCED for row in _rows(tx)):
                    return
                keys.leave(tx)
                keys.announce(tx, announced_s=node.home.settings.key_announced_s)
                outcome = "identity key announced"
            node.evidence.record(tx, EntryType.KEY_ROTATED, outcome=outcome)
        keys.settle()

    def _use(self, process: Process) -> Later | None:
        node = self._node
        with node.store.transaction() as tx:
            replaced: Sequence[str] | None = node.second_keys.use(tx, process.subject)
            if replaced is not None:
                node.evidence.record(tx, EntryType.KEY_ROTATED, outcome="identity key in use")
                for thumbprint in replaced:
                    schedule(
                        tx,
                        RETIRE,
                        thumbprint,
                        after_s=node.home.settings.key_overlap_s,
                        give_up_after_s=FOR_EVER_S,
                    )
        node.second_keys.settle()
        return None


def _rows(tx: Session) -> list[SigningKeyRow]:
    found = select(SigningKeyRow).where(_SECOND).order_by(col(SigningKeyRow.announced_at))
    return list(tx.exec(found).all())


def _load(path: Path) -> MlDsaKey:
    try:
        private = load_pem_private_key(read_secret(path).encode(), password=None)
    except (ValueError, TypeError) as err:
        raise InputRejected(
            f"{path.name} holds no private key", remedy="restore it from backup"
        ) from err
    if not isinstance(private, MLDSA44PrivateKey):
        raise InputRejected(f"{path.name} is no {ALGORITHM} key", remedy="restore it from backup")
    return MlDsaKey.of_private(private)


def _pem(key: MlDsaKey) -> str:
    assert key.private is not None
    return key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
