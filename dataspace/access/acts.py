"""Acts: what people did to this node, written with the change itself.

Who did it is a natural person, and the evidence log names none. So the record stays in a table of
this node, and the log gets an entry `administered` with the permission, the outcome, and the salted
digest of the record. Whoever is shown record and salt can verify them against the log; without the
salt the digest says nothing, and deleting both erases who it was while every proof still holds.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import rfc8785
from sqlmodel import Session, col, select

from dataspace.access.permissions import Permission
from dataspace.access.principal import Principal
from dataspace.evidence import Evidence
from dataspace.store.engine import Store
from dataspace.store.tables import ActRow, EntryRow
from ledger.entry import EntryType, open_entry

ACT_TAG = b"city-dataspace/act/1\0"
SALT_BYTES = 16
MAX_ACTS_A_PAGE = 1000
MAX_PATH = 2000
DONE, HELD = "done", "held"


@dataclass(frozen=True)
class Act:
    """What somebody does: where they called, and who approved it where two are needed."""

    principal: Principal
    permission: Permission
    method: str
    path: str
    approved_by: str | None = None

    def record(self, at: datetime, outcome: str) -> dict[str, Any]:
        """What is kept in this node's table; the log has its digest."""
        return {
            "at": at.astimezone(UTC).isoformat(timespec="milliseconds"),
            "permission": self.permission.value,
            "person": self.principal.person,
            "credential": self.principal.credential,
            "roles": sorted(self.principal.roles),
            "method": self.method,
            "path": self.path[:MAX_PATH],
            "outcome": outcome,
            **({"approved_by": self.approved_by} if self.approved_by else {}),
        }


def act_digest(record: dict[str, Any], salt: bytes) -> str:
    """SHA-256(tag ‖ 16-byte salt ‖ canonical record), in hexadecimal."""
    return hashlib.sha256(ACT_TAG + salt + rfc8785.dumps(record)).hexdigest()


class Acts:
    """The acts of this node."""

    def __init__(
        self,
        store: Store,
        evidence: Evidence,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._evidence = evidence
        self._clock = clock

    def write(self, tx: Session, act: Act, outcome: str = DONE) -> None:
        """Record an act and its entry in the transaction of the change."""
        now, salt = self._clock(), secrets.token_bytes(SALT_BYTES)
        record = act.record(now, outcome)
        index = self._evidence.record(
            tx,
            EntryType.ADMINISTERED,
            at=now,
            kind=act.permission.value,
            outcome=outcome,
            inputs_c=(act_digest(record, salt),),
        )
        tx.add(ActRow(log_index=index, record=record, salt=salt))

    def write_alone(self, act: Act, outcome: str = DONE) -> None:
        """Record an act whose change is in no transaction of the node's database."""
        with self._store.transaction() as tx:
            self.write(tx, act, outcome)

    def page(self, *, before: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Acts, the newest first, those with an index below `before`; each says whether it is the
        one that its entry of the log was made for (None: the entry's body was erased)."""
        wanted = select(ActRow).order_by(col(ActRow.log_index).desc())
        if before is not None:
            wanted = wanted.where(col(ActRow.log_index) < before)
        with self._store.transaction() as tx:
            rows = tx.exec(wanted.limit(min(limit, MAX_ACTS_A_PAGE))).all()
            return [
                {"index": row.log_index, **row.record, "matches": _matches(tx, row)} for row in rows
            ]


def _matches(tx: Session, row: ActRow) -> bool | None:
    entry = tx.get(EntryRow, row.log_index)
    if entry is None:
        return False
    if entry.body is None or entry.salt is None:
        return None
    opened = open_entry(entry.body, entry.salt, entry.commitment)
    digests = opened.inputs_c or ()
    return (
        opened.type is EntryType.ADMINISTERED
        and opened.kind == row.record.get("permission")
        and len(digests) == 1
        and hmac.compare_digest(digests[0], act_digest(row.record, row.salt))
    )
