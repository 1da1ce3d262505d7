"""The keys that people and their programs use this node with: made, listed, revoked, recognised."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

from sqlmodel import Session, col, func, select

from dataspace.access.keys import digest_of, id_of, make_key, opens
from dataspace.access.permissions import Role
from dataspace.access.principal import Principal
from dataspace.errors import InputRejected, NotFound, Unauthenticated
from dataspace.store.engine import Store
from dataspace.store.tables import AccessKeyRow

MAX_KEYS = 1000
# How exactly it is known when a key was used last: a write for every request would be one too many.
LAST_USED_STEP_S = 3600.0
KEY = "key "
# Compared with where there is no key of that id, so that both take the same time.
_NO_DIGEST = digest_of("")


class Keys:
    """All keys of this node but the home's own."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def add(
        self, *, name: str, person: str, role: Role, days: float | None, by: Principal
    ) -> tuple[AccessKeyRow, str]:
        """A new key for `person`; what is returned beside its row is the key, this one time."""
        now, made = self._clock(), make_key(secrets.token_bytes)
        with self._store.transaction() as tx:
            if tx.exec(select(func.count()).select_from(AccessKeyRow)).one() >= MAX_KEYS:
                raise InputRejected(
                    f"this node has {MAX_KEYS} keys, and holds no more",
                    remedy="use an identity provider (setting oidc_issuer)",
                )
            row = AccessKeyRow(
                id=made.id,
                name=name,
                person=person,
                role=role.value,
                digest=made.digest,
                created_at=now,
                created_by=by.person,
                expires_at=None if days is None else now + days * 86400.0,
            )
            tx.add(row)
        return row, made.key

    def all(self) -> list[AccessKeyRow]:
        """Every key there has been, the newest first."""
        with self._store.transaction() as tx:
            newest = select(AccessKeyRow).order_by(col(AccessKeyRow.created_at).desc())
            return list(tx.exec(newest).all())

    def revoke(self, key_id: str, *, by: Principal) -> AccessKeyRow:
        """End a key at once; nothing it has approved alone counts any more. Raises NotFound."""
        with self._store.transaction() as tx:
            row = tx.get(AccessKeyRow, key_id)
            if row is None:
                raise NotFound("there is no such key", remedy="see: dataspace access key list")
            if row.revoked_at is None:
                row.revoked_at, row.revoked_by = self._clock(), by.person
                tx.add(row)
            return row

    def recognise(self, given: str) -> Principal:
        """The holder of a key. Raises Unauthenticated, saying nothing of why to a stranger."""
        key_id = id_of(given)
        if key_id is None:
            raise _not_known()
        with self._store.transaction() as tx:
            row = tx.get(AccessKeyRow, key_id)
            if not opens(given, _NO_DIGEST if row is None else row.digest) or row is None:
                raise _not_known()
            # Whoever holds the key may know what became of it.
            if row.revoked_at is not None:
                raise Unauthenticated("this key was revoked", remedy="ask the owner for a new one")
            now = self._clock()
            if row.expires_at is not None and row.expires_at <= now:
                raise Unauthenticated("this key has expired", remedy="ask the owner for a new one")
            if now - (row.last_used_at or 0.0) >= LAST_USED_STEP_S:
                row.last_used_at = now - now % LAST_USED_STEP_S
                tx.add(row)
            return principal_of(row)


def principal_of(row: AccessKeyRow) -> Principal:
    """Who holds this key."""
    return Principal(row.person, f"{KEY}{row.id}", frozenset({Role(row.role)}))


def still_counts(tx: Session, credential: str) -> bool:
    """Whether what was said with this credential counts: a key's word ends with its revocation."""
    if not credential.startswith(KEY):
        return True
    row = tx.get(AccessKeyRow, credential.removeprefix(KEY))
    return row is not None and row.revoked_at is None


def shown(row: AccessKeyRow, now: float) -> dict[str, Any]:
    """A key as it is listed; never the key itself, nor its digest."""
    expired = row.expires_at is not None and row.expires_at <= now
    state = "revoked" if row.revoked_at is not None else "expired" if expired else "valid"
    return {
        "id": row.id,
        "begins_with": f"dsk_{row.id}_",
        "name": row.name,
        "person": row.person,
        "role": row.role,
        "state": state,
        "created_at": row.created_at,
        "created_by": row.created_by,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
        "revoked_by": row.revoked_by,
        "last_used_at": row.last_used_at,
    }


def _not_known() -> Unauthenticated:
    return Unauthenticated(
        "this address is for the node's owner: the API key is missing or wrong",
        remedy="send Authorization: Bearer with a key of this node, such as keys/api.key",
    )
