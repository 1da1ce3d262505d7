"""Acts that need two persons: what one asks for is held until another approves it.

A request is kept as it came, in the node's database, and carried out as the one who asked when
somebody else approves it: in the transaction of its first change it stops waiting, so that no crash
and no second approval carries it out twice. What nobody decides about expires.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, func, select

from dataspace.access.acts import HELD, Act, Acts
from dataspace.access.permissions import Permission, Role, may
from dataspace.access.principal import Principal, same_person
from dataspace.access.registry import KEY, principal_of
from dataspace.errors import Denied, InputRejected, NodeError, NotFound
from dataspace.store.engine import Store
from dataspace.store.tables import AccessKeyRow, HeldRequestRow

WAITING, DONE, DECLINED, EXPIRED = "waiting", "done", "declined", "expired"
# Held bodies lie in the database; the largest that an owner sends is a policy or a publication.
MAX_BODY_BYTES = 1024 * 1024
MAX_WAITING = 200
MAX_SHOWN = 500
_LOOK = "see: dataspace access requests"


class Held(NodeError):
    """What was asked for waits for a second person; nothing has been done yet."""

    def __init__(self, row: HeldRequestRow) -> None:
        super().__init__(
            f"{row.permission} needs two persons here: it waits until another approves it",
            remedy=f"ask an owner or approver to run: dataspace access approve {row.id}",
        )
        self.request = row.id
        self.permission = row.permission
        self.expires_at = row.expires_at


@dataclass(frozen=True)
class Asked:
    """What somebody asked for, as it came."""

    method: str
    path: str
    query: str
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Approved:
    """A held request that a second person approved: who asked, who approved, what."""

    request: str
    asker: Principal
    approver: Principal
    asked: Asked


class Requests:
    """The requests of this node that wait, or waited, for a second person."""

    def __init__(
        self,
        store: Store,
        acts: Acts,
        *,
        lifetime_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._acts = acts
        self._lifetime_s = lifetime_s
        self._clock = clock

    def hold(self, act: Act, asked: Asked) -> HeldRequestRow:
        """Keep a request until a second person has decided about it."""
        if len(asked.body) > MAX_BODY_BYTES:
            raise InputRejected(f"a request that waits has at most {MAX_BODY_BYTES} bytes")
        now = self._clock()
        row = HeldRequestRow(
            id=str(uuid.uuid4()),
            permission=act.permission.value,
            method=asked.method,
            path=asked.path,
            query=asked.query,
            content_type=asked.content_type,
            body=asked.body,
            person=act.principal.person,
            credential=act.principal.credential,
            roles=sorted(act.principal.roles),
            asked_at=now,
            expires_at=now + self._lifetime_s,
        )
        with self._store.transaction() as tx:
            self._expire(tx, now)
            waiting = select(func.count()).where(HeldRequestRow.state == WAITING)
            if tx.exec(waiting).one() >= MAX_WAITING:
                raise InputRejected(f"{MAX_WAITING} requests wait already", remedy=_LOOK)
            tx.add(row)
            self._acts.write(tx, act, HELD)
        return row

    def all(self) -> list[HeldRequestRow]:
        """The newest first."""
        with self._store.transaction() as tx:
            self._expire(tx, self._clock())
            newest = select(HeldRequestRow).order_by(col(HeldRequestRow.asked_at).desc())
            return list(tx.exec(newest.limit(MAX_SHOWN)).all())

    def approve(self, request: str, *, by: Principal) -> Approved:
        """What may now be carried out. It waits on until it was (`settle`)."""
        with self._store.transaction() as tx:
            row = self._waiting(tx, request)
            _verify_other(row, by)
            asker = _asker(tx, row, self._clock())
            asked = Asked(row.method, row.path, row.query, row.content_type, row.body or b"")
        return Approved(request, asker, by, asked)

    def settle(self, tx: Session, approved: Approved) -> None:
        """In the transaction of the change: the request is done. Raises InputRejected where
        somebody was faster, and so undoes the change."""
        self._decide(tx, self._waiting(tx, approved.request), DONE, approved.approver)

    def decline(self, request: str, *, by: Principal) -> HeldRequestRow:
        """End a request: for those who may approve it, and for the one who asked."""
        with self._store.transaction() as tx:
            row = self._waiting(tx, request)
            own = same_person(row.person, by.person)
            if not own and not may(by.roles, Permission.REQUEST_DECIDE):
                raise Denied("this is for an owner or approver, and for whoever asked")
            self._decide(tx, row, DECLINED, by)
            return row

    def _waiting(self, tx: Session, request: str) -> HeldRequestRow:
        self._expire(tx, self._clock())
        row = tx.get(HeldRequestRow, request)
        if row is None:
            raise NotFound("there is no such request", remedy=_LOOK)
        if row.state != WAITING:
            raise InputRejected(f"this request waits no longer: it is {row.state}", remedy=_LOOK)
        return row

    def _decide(self, tx: Session, row: HeldRequestRow, state: str, by: Principal) -> None:
        row.state, row.decided_by, row.decided_at = state, by.person, self._clock()
        # It may hold what the node keeps nowhere else, and is not needed any more.
        row.body = None
        tx.add(row)

    def _expire(self, tx: Session, now: float) -> None:
        over = select(HeldRequestRow).where(
            HeldRequestRow.state == WAITING, HeldRequestRow.expires_at <= now
        )
        for row in tx.exec(over).all():
            row.state, row.body = EXPIRED, None
            tx.add(row)
        tx.flush()


def _verify_other(row: HeldRequestRow, by: Principal) -> None:
    if same_person(row.person, by.person):
        raise Denied(
            "whoever asks cannot approve as well: it takes a second person",
            remedy="ask another owner or approver",
        )


def _asker(tx: Session, row: HeldRequestRow, now: float) -> Principal:
    """Who asked, if they still may: a key that was revoked meanwhile asks for nothing."""
    asker = Principal(row.person, row.credential, frozenset(map(Role, row.roles)))
    if row.credential.startswith(KEY):
        key = tx.get(AccessKeyRow, row.credential.removeprefix(KEY))
        ended = key is None or key.revoked_at is not None
        if key is None or ended or (key.expires_at is not None and key.expires_at <= now):
            raise InputRejected(
                "the key with which this was asked for is no longer valid",
                remedy="decline it, and have somebody else ask",
            )
        asker = principal_of(key)
    if not may(asker.roles, Permission(row.permission)):
        raise InputRejected("whoever asked may not do this any more", remedy="decline it")
    return asker


def shown(row: HeldRequestRow) -> dict[str, Any]:
    """A request as it is listed; its body stays in the node."""
    return {
        "id": row.id,
        "permission": row.permission,
        "what": f"{row.method} {row.path}",
        "asked_by": row.person,
        "asked_at": row.asked_at,
        "expires_at": row.expires_at,
        "state": row.state,
        "decided_by": row.decided_by,
        "decided_at": row.decided_at,
    }
