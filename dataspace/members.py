"""The operator's registry of members: who is in the space, and how each stands.

Every change is in the evidence, without its reason, which is the operator's own note. A change
takes effect at each node when it has a newer status list.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import func
from sqlmodel import Session, and_, col, or_, select

from dataspace.errors import Denied, InputRejected, NotFound
from dataspace.identity.standing import Standing, StandingAct, next_standing
from dataspace.settings import ParticipantKind
from dataspace.store.tables import CredentialStatusRow, ParticipantRow, ZoneMemberRow
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node
    from dataspace.zones.registry import ZoneRegistry

MAX_A_PAGE = 1000
MAX_TEXT = 200

_OUTCOMES = {
    StandingAct.SUSPEND: (EntryType.REVOKED, "suspended"),
    StandingAct.REVOKE: (EntryType.REVOKED, "revoked"),
    StandingAct.REINSTATE: (EntryType.JOINED, "reinstated"),
}


class Members:
    """The members of a space, at its operator."""

    def __init__(self, node: Node, zones: ZoneRegistry) -> None:
        self._node = node
        self._zones = zones

    def page(
        self,
        *,
        kinds: Sequence[ParticipantKind] = (),
        standings: Sequence[Standing] = (),
        zone: str | None = None,
        text: str | None = None,
        after: str | None = None,
        limit: int = MAX_A_PAGE,
    ) -> list[dict[str, Any]]:
        """Participants in the order in which they joined, from behind the one called `after`.

        `text` is looked for in names and identifiers, letters of either case. Raises NotFound for
        an `after` that is no participant.
        """
        wanted = select(ParticipantRow).order_by(
            col(ParticipantRow.joined_at), col(ParticipantRow.did)
        )
        if kinds:
            wanted = wanted.where(col(ParticipantRow.kind).in_([kind.value for kind in kinds]))
        if standings:
            wanted = wanted.where(
                col(ParticipantRow.standing).in_([one.value for one in standings])
            )
        if zone is not None:
            in_zone = select(ZoneMemberRow.did).where(ZoneMemberRow.zone == zone)
            wanted = wanted.where(col(ParticipantRow.did).in_(in_zone))
        if text:
            named = text[:MAX_TEXT].lower()
            wanted = wanted.where(
                or_(
                    func.lower(ParticipantRow.name).contains(named, autoescape=True),
                    func.lower(ParticipantRow.did).contains(named, autoescape=True),
                )
            )
        with self._node.store.transaction() as tx:
            if after is not None:
                last = _participant(tx, after)
                wanted = wanted.where(
                    or_(
                        col(ParticipantRow.joined_at) > last.joined_at,
                        and_(
                            col(ParticipantRow.joined_at) == last.joined_at,
                            col(ParticipantRow.did) > last.did,
                        ),
                    )
                )
            rows = tx.exec(wanted.limit(min(limit, MAX_A_PAGE))).all()
            zones = self._zones.members_by_did(tx)
        return [_shown(row, zones.get(row.did, [])) for row in rows]

    def show(self, did: str) -> dict[str, Any]:
        """One member as the operator sees it. Raises NotFound."""
        with self._node.store.transaction() as tx:
            return self._told(tx, _participant(tx, did))

    def change(self, did: str, act: StandingAct, reason: str) -> dict[str, Any]:
        """Suspend, reinstate or revoke; repeating it changes nothing. `reason` is kept with it.

        Raises NotFound, and InputRejected for the operator itself and for what is not undone.
        """
        node = self._node
        if did == node.did:
            raise InputRejected("the operator itself is neither suspended nor revoked")
        with node.store.transaction() as tx:
            row = _participant(tx, did)
            before = Standing(row.standing)
            after = next_standing(before, act)
            if after is not before:
                self._stand(tx, row, act, after, reason)
            told = self._told(tx, row)
        # The operator's own door follows at once; everybody else's when they have the new list.
        node.standings.refresh()
        return told

    def verify_active(self, row: ParticipantRow) -> None:
        """Raises Denied for who is suspended or revoked: it gets no credential."""
        if row.standing != Standing.ACTIVE:
            raise Denied(
                f"the membership of {row.did} is {row.standing}",
                remedy="ask the operator for the reason",
            )

    def _stand(
        self, tx: Session, row: ParticipantRow, act: StandingAct, after: Standing, reason: str
    ) -> None:
        row.standing, row.standing_at, row.standing_reason = after.value, time.time(), reason
        tx.add(row)
        entry_type, outcome = _OUTCOMES[act]
        self._node.evidence.record(tx, entry_type, peer=row.did, outcome=outcome)
        if after is Standing.REVOKED:
            self._zones.expel_everywhere(tx, row.did)
        if after is Standing.ACTIVE:
            # Its credential may have come due while nobody renewed it.
            self._zones.hint(tx, row)

    def _told(self, tx: Session, row: ParticipantRow) -> dict[str, Any]:
        issued = select(CredentialStatusRow).where(CredentialStatusRow.did == row.did)
        credentials = sorted(tx.exec(issued).all(), key=lambda one: -one.issued_at)
        return {
            **_shown(row, self._zones.zones_of(tx, row.did)),
            "status_reason": row.standing_reason,
            "credentials_issued": len(credentials),
            "credential_issued_at": credentials[0].issued_at if credentials else None,
            "credential_expires_at": credentials[0].expires_at if credentials else None,
        }


def _participant(tx: Session, did: str) -> ParticipantRow:
    row = tx.get(ParticipantRow, did)
    if row is None:
        raise NotFound(
            f"there is no participant {did[:200]!r} in this space",
            remedy="see them with: dataspace member list",
        )
    return row


def _shown(row: ParticipantRow, zones: list[str]) -> dict[str, Any]:
    return {
        "did": row.did,
        "kind": row.kind,
        "name": row.name,
        "url": row.url,
        "zones": zones,
        "log": row.log_origin,
        "joined_at": row.joined_at,
        "status": row.standing,
        "status_since": row.standing_at,
    }
