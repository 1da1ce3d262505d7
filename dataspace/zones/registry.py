"""The operator's zones: who is on which list, and the policies that members of a zone share.

Every act is in the evidence. A list is signed anew for whoever asks and lives for a few minutes, so
that an expulsion takes effect although the credential of the expelled names the zone for weeks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from dataspace.canonical import canonical_hash
from dataspace.errors import Denied, InputRejected, NotFound
from dataspace.store.tables import ParticipantRow, ZoneMemberRow, ZonePolicyRow, ZoneRow
from dataspace.zones.documents import (
    MAX_MEMBERS,
    MAX_POLICIES,
    SharedPolicy,
    ZoneList,
    sign_list,
    sign_policy,
    verify_name,
)
from dataspace.zones.sharing import verify_shareable
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node

# A decision's entry in the evidence lists the recipient's kind and its zones in 32 texts.
MAX_ZONES_A_MEMBER = 31
MAX_ZONES_A_SPACE = 1000
RENEWAL_PATH = "/membership/renewals"


class RenewalHint:
    """Tells a member that its credential has changed; what it says now the member asks for."""

    def to_bytes(self) -> bytes:
        return b"{}"


class ZoneRegistry:
    """The zones of a space, at its operator."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # ---- zones and their members --------------------------------------------------------------

    def create(
        self,
        name: str,
        *,
        title: str,
        title_zh: str = "",
        about: str = "",
        steward: str | None = None,
    ) -> dict[str, Any]:
        """A new zone without members. Raises InputRejected for a name that is none or is taken,
        and for a steward who is no participant."""
        verify_name(name, "zone")
        with self._node.store.transaction() as tx:
            if tx.get(ZoneRow, name) is not None:
                raise InputRejected(f"there is a zone {name} already", remedy="choose another name")
            if tx.exec(select(func.count()).select_from(ZoneRow)).one() >= MAX_ZONES_A_SPACE:
                raise InputRejected(f"a space has at most {MAX_ZONES_A_SPACE} zones")
            if steward is not None:
                _participant(tx, steward)
            row = ZoneRow(
                name=name,
                title=title,
                title_zh=title_zh,
                about=about,
                steward=steward,
                created_at=time.time(),
            )
            tx.add(row)
            self._record(tx, EntryType.PUBLISHED, "zone", name, outcome="created", peer=steward)
            return _described(row, [])

    def all(self) -> list[dict[str, Any]]:
        """Every zone with its members and policies, by name."""
        with self._node.store.transaction() as tx:
            rows = tx.exec(select(ZoneRow).order_by(col(ZoneRow.name))).all()
            members: dict[str, list[str]] = {row.name: [] for row in rows}
            for one in tx.exec(select(ZoneMemberRow).order_by(col(ZoneMemberRow.did))):
                members[one.zone].append(one.did)
        return [_described(row, members[row.name]) for row in rows]

    def summary(self) -> list[dict[str, Any]]:
        """Every zone as anybody may know it: how many members, not which."""
        return [{**one, "members": len(one["members"])} for one in self.all()]

    def show(self, name: str) -> dict[str, Any]:
        """One zone. Raises NotFound."""
        with self._node.store.transaction() as tx:
            return _described(_zone(tx, name), _members(tx, name))

    def admit(self, name: str, did: str) -> dict[str, Any]:
        """Put a participant on the list; one that is there already stays there.

        Raises NotFound for an unknown zone or participant, InputRejected where either has as many
        as it can have.
        """
        with self._node.store.transaction() as tx:
            zone, participant = _zone(tx, name), _participant(tx, did)
            if self._put_on_list(tx, zone, did):
                self.hint(tx, participant)
            return _described(zone, _members(tx, name))

    def expel(self, name: str, did: str) -> dict[str, Any]:
        """Take a participant off the list. Raises NotFound for one that is not on it."""
        with self._node.store.transaction() as tx:
            zone, member = _zone(tx, name), tx.get(ZoneMemberRow, (name, did))
            if member is None:
                raise NotFound(f"{did} is no member of zone {name}", remedy="see: zone show NAME")
            tx.delete(member)
            self._changed(tx, zone, did, "expelled")
            participant = tx.get(ParticipantRow, did)
            if participant is not None:
                self.hint(tx, participant)
            return _described(zone, _members(tx, name))

    def signed_list(self, name: str) -> str:
        """The members of a zone as of now, signed. Raises NotFound."""
        now = int(time.time())
        with self._node.store.transaction() as tx:
            zone, members = _zone(tx, name), _members(tx, name)
        document = ZoneList(
            iss=self._node.did,
            iat=now,
            exp=now + self.lifetime_s,
            zone=name,
            title=zone.title,
            title_zh=zone.title_zh,
            about=zone.about,
            steward=zone.steward,
            serial=zone.serial,
            members=tuple(members),
        )
        return sign_list(document, self._node.identity)

    @property
    def lifetime_s(self) -> int:
        return self._node.home.settings.zone_list_lifetime_s

    # ---- what the rest of the operator needs ----------------------------------------------------

    def zones_of(self, tx: Session, did: str) -> list[str]:
        """The zones a participant is in, as its credential names them."""
        mine = select(ZoneMemberRow.zone).where(ZoneMemberRow.did == did)
        return sorted(tx.exec(mine).all())

    def members_by_did(self, tx: Session) -> dict[str, list[str]]:
        """The zones of every participant that is in any."""
        found: dict[str, list[str]] = {}
        for one in tx.exec(select(ZoneMemberRow).order_by(col(ZoneMemberRow.zone))):
            found.setdefault(one.did, []).append(one.zone)
        return found

    def verify_exist(self, tx: Session, zones: Sequence[str]) -> None:
        """Raises InputRejected naming the first that is no zone of this space."""
        for zone in zones:
            if tx.get(ZoneRow, zone) is None:
                raise InputRejected(
                    f"there is no zone {zone!r} in this space",
                    remedy=f"create it first: dataspace zone create {zone}",
                )

    def admit_invited(self, tx: Session, did: str, zones: Sequence[str]) -> None:
        """Put a new participant on the lists its invitation named; the credential comes with it."""
        for zone in zones:
            self._put_on_list(tx, _zone(tx, zone), did)

    def expel_everywhere(self, tx: Session, did: str) -> None:
        """Take a participant off every list, in the caller's transaction."""
        for member in tx.exec(select(ZoneMemberRow).where(ZoneMemberRow.did == did)).all():
            tx.delete(member)
            self._changed(tx, _zone(tx, member.zone), did, "expelled")

    # ---- shared policies ------------------------------------------------------------------------

    def put_policy(
        self, zone: str, policy: str, document: dict[str, Any], *, by: str
    ) -> dict[str, Any]:
        """Keep a policy for the members of a zone to publish under; `by` is who puts it there.

        Raises Denied for anybody but the operator and the zone's steward, InputRejected for a
        policy that could not do what it says, whatever its open parameters will be.
        """
        verify_name(policy, "policy")
        with self._node.store.transaction() as tx:
            self._verify_keeper(_zone(tx, zone), by)
        verify_shareable(document, zone=zone, now=datetime.now(UTC))
        document_h = canonical_hash(document)
        with self._node.store.transaction() as tx:
            row = tx.get(ZonePolicyRow, (zone, policy), with_for_update=True)
            if row is None:
                _verify_room_for_policy(tx, zone)
                row = ZonePolicyRow(
                    zone=zone,
                    name=policy,
                    number=0,
                    document=document,
                    document_h="",
                    put_by=by,
                    put_at=0.0,
                )
            if row.document_h != document_h:
                row.number, row.document, row.document_h = row.number + 1, document, document_h
                row.put_by, row.put_at = by, time.time()
                tx.add(row)
                self._record(
                    tx,
                    EntryType.PUBLISHED,
                    "zone-policy",
                    zone,
                    outcome=policy,
                    policy_h=document_h,
                    peer=None if by == self._node.did else by,
                )
            return _policy_described(row)

    def policies(self, zone: str, *, reader: str) -> list[dict[str, Any]]:
        """What members of a zone share, by name. Raises as `signed_policy` does."""
        with self._node.store.transaction() as tx:
            self._verify_reader(tx, _zone(tx, zone), reader)
            rows = tx.exec(
                select(ZonePolicyRow)
                .where(ZonePolicyRow.zone == zone)
                .order_by(col(ZonePolicyRow.name))
            ).all()
        return [_policy_described(row) for row in rows]

    def signed_policy(self, zone: str, policy: str, *, reader: str) -> str:
        """One shared policy, signed. Raises NotFound, and Denied for whoever is not in the zone."""
        now = int(time.time())
        with self._node.store.transaction() as tx:
            self._verify_reader(tx, _zone(tx, zone), reader)
            row = tx.get(ZonePolicyRow, (zone, policy))
        if row is None:
            raise NotFound(
                f"zone {zone} shares no policy of that name",
                remedy=f"see: dataspace zone policy list {zone}",
            )
        document = SharedPolicy(
            iss=self._node.did,
            iat=now,
            exp=now + self.lifetime_s,
            zone=zone,
            policy=policy,
            number=row.number,
            document=row.document,
        )
        return sign_policy(document, self._node.identity)

    # ---- small parts ----------------------------------------------------------------------------

    def _verify_keeper(self, zone: ZoneRow, did: str) -> None:
        if did not in (self._node.did, zone.steward):
            raise Denied(
                f"the policies of zone {zone.name} are kept by the operator and its steward",
                remedy="ask one of them to put it there",
            )

    def _verify_reader(self, tx: Session, zone: ZoneRow, did: str) -> None:
        if did in (self._node.did, zone.steward):
            return
        if tx.get(ZoneMemberRow, (zone.name, did)) is None:
            raise Denied(
                f"the policies of zone {zone.name} are for its members",
                remedy="ask the operator to admit you",
            )

    def _put_on_list(self, tx: Session, zone: ZoneRow, did: str) -> bool:
        """Whether the participant was not there before."""
        if tx.get(ZoneMemberRow, (zone.name, did)) is not None:
            return False
        count = select(func.count()).select_from(ZoneMemberRow)
        if tx.exec(count.where(col(ZoneMemberRow.zone) == zone.name)).one() >= MAX_MEMBERS:
            raise InputRejected(f"zone {zone.name} has {MAX_MEMBERS} members already")
        if tx.exec(count.where(col(ZoneMemberRow.did) == did)).one() >= MAX_ZONES_A_MEMBER:
            raise InputRejected(f"{did} is in {MAX_ZONES_A_MEMBER} zones already")
        tx.add(ZoneMemberRow(zone=zone.name, did=did, admitted_at=time.time()))
        self._changed(tx, zone, did, "admitted")
        return True

    def _changed(self, tx: Session, zone: ZoneRow, did: str, outcome: str) -> None:
        zone.serial += 1
        tx.add(zone)
        self._record(tx, EntryType.JOINED, "zone", zone.name, outcome=outcome, peer=did)
        tx.flush()

    def _record(self, tx: Session, event: EntryType, kind: str, zone: str, **fields: Any) -> None:
        self._node.evidence.record(tx, event, kind=kind, categories=(zone,), **fields)

    def hint(self, tx: Session, participant: ParticipantRow) -> None:
        """Have the member's node ask for its new credential; who has none asks in its time."""
        if participant.did == self._node.did:
            self._node.schedule_renewal(tx)
        elif participant.url is not None:
            self._node.delivery.queue(
                tx,
                RenewalHint(),
                to=participant.did,
                url=f"{participant.url}{RENEWAL_PATH}",
                subject=f"membership:{participant.did}",
                # A node of an earlier version does not know it, and renews in its time.
                last=True,
            )


def _zone(tx: Session, name: str) -> ZoneRow:
    row = tx.get(ZoneRow, name)
    if row is None:
        raise NotFound(
            f"there is no zone {name[:80]!r} in this space", remedy="see: dataspace zone list"
        )
    return row


def _participant(tx: Session, did: str) -> ParticipantRow:
    row = tx.get(ParticipantRow, did)
    if row is None:
        raise NotFound(
            f"{did[:200]} is no participant of this space",
            remedy="invite it first: dataspace invite --kind KIND --zone NAME",
        )
    return row


def _members(tx: Session, name: str) -> list[str]:
    found = select(ZoneMemberRow.did).where(ZoneMemberRow.zone == name)
    return sorted(tx.exec(found).all())


def _verify_room_for_policy(tx: Session, zone: str) -> None:
    count = select(func.count()).select_from(ZonePolicyRow)
    if tx.exec(count.where(col(ZonePolicyRow.zone) == zone)).one() >= MAX_POLICIES:
        raise InputRejected(f"zone {zone} shares {MAX_POLICIES} policies already")


def _described(row: ZoneRow, members: Sequence[str]) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "title_zh": row.title_zh,
        "about": row.about,
        "steward": row.steward,
        "serial": row.serial,
        "created_at": row.created_at,
        "members": list(members),
    }


def _policy_described(row: ZonePolicyRow) -> dict[str, Any]:
    return {
        "zone": row.zone,
        "policy": row.name,
        "number": row.number,
        "sha256": row.document_h,
        "put_by": row.put_by,
        "put_at": row.put_at,
        "document": row.document,
    }
