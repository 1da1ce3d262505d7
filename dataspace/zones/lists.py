"""What a provider knows of zones: the operator's signed lists, fetched ahead of any decision.

A member of a zone is whoever stands on its current list; what a credential says of zones is up to a
month old and decides nothing here. A decision only looks into memory. While a list cannot be had,
the last one counts until it ends, and after that nobody knows who belongs to the zone: clauses that
ask for it refuse, those that want members and those that want none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import ValidationError
from sqlalchemy import Text, cast
from sqlmodel import col, select

from contracts.errors import ContractError
from contracts.odrl import Agreement, Offer
from contracts.party import Party
from dataspace.errors import InputRejected, NodeError, NotFound, ProtocolViolation
from dataspace.processes import FOR_EVER_S, Handler, Later, Pool, Process, is_kept, schedule
from dataspace.store.tables import AgreementRow, DatasetRow, ZoneListRow
from dataspace.zones.asking import OperatorsZones
from dataspace.zones.documents import ZoneList, open_list, read_kept_list, zones_in

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.zones")

LOOK = "look-after-zones"
# How often it is looked whether agreements ask for zones that nobody published about.
LOOK_EVERY_S = 60.0
RETRY_S = 5.0
# A list is asked for again after this part of its life, so that two answers may fail to come.
RENEW_AT = 1 / 3


@dataclass(frozen=True)
class Held:
    """A list as decisions use it. `fetched_at` is by our clock (UNIX seconds); 0.0 for one that an
    earlier life of this node fetched."""

    document: ZoneList
    members: frozenset[str]
    fetched_at: float

    @property
    def due_at(self) -> float:
        return self.fetched_at + (self.document.exp - self.document.iat) * RENEW_AT


class ZoneLists:
    """The lists this node holds, for the zones that its policies ask about."""

    def __init__(self, node: Node, operators: OperatorsZones) -> None:
        self._node = node
        self._operators = operators
        # Replaced as a whole and never changed, so that readers need no lock.
        self._held: Mapping[str, Held] = {}
        # What `follow` has read, which only one thread calls.
        self._followed: dict[str, str] = {}

    def handlers(self) -> dict[str, Handler]:
        return {LOOK: Handler(self._look, pool=Pool.PEERS)}

    def begin(self) -> None:
        """Take up the lists an earlier life left, and look after them from now on."""
        with self._node.store.transaction() as tx:
            kept = tx.exec(select(ZoneListRow)).all()
            # One that was under way when an earlier life ended is taken up again by the engine.
            if not is_kept(tx, LOOK, self._node.did):
                schedule(tx, LOOK, self._node.did, give_up_after_s=FOR_EVER_S)
        for row in kept:
            self._take_up(row)

    def follow(self) -> None:
        """Take up the lists that other replicas have fetched since, and no older ones than ours."""
        with self._node.store.look() as tx:
            kept = tx.exec(select(ZoneListRow)).all()
        for row in kept:
            if self._followed.get(row.zone) == row.text:
                continue
            self._followed[row.zone] = row.text
            self._take_up(row, fetched_at=time.time())

    # ---- decisions: memory only -----------------------------------------------------------------

    def zones_of(self, did: str, policy: Offer | Agreement, at: datetime) -> tuple[str, ...] | None:
        """Those zones that `policy` asks about to which `did` belongs at this moment; None where a
        list of one of them has ended or never came."""
        found = []
        for zone in sorted(zones_in(policy)):
            held = self._held.get(zone)
            if held is None or held.document.exp <= at.timestamp():
                return None
            if did in held.members:
                found.append(zone)
        return tuple(found)

    # ---- the owner's side -----------------------------------------------------------------------

    def heed(self, policy: Offer | Agreement) -> None:
        """Fetch the lists a new policy needs. Raises InputRejected for what is no zone of the
        space; without the operator's answer the policy refuses until there is one."""
        for zone in sorted(zones_in(policy)):
            held, now = self._held.get(zone), time.time()
            if not self._operators.joined() or (held is not None and held.document.exp > now):
                continue
            try:
                self.fetch(zone)
            except NotFound as err:
                raise InputRejected(
                    f"the policy asks for zone {zone[:80]!r}, which this space does not have",
                    remedy="see the zones with: dataspace zone list",
                ) from err
            except NodeError as err:
                log.warning("a zone's list could not be fetched", zone=zone, error=str(err))

    def refresh(self) -> list[dict[str, Any]]:
        """Fetch every list that our policies need, now; what is held afterwards.

        Raises Unavailable or ProtocolViolation for the first that cannot be had.
        """
        for zone in sorted(self._asked_about()):
            self.fetch(zone)
        return self.held()

    def held(self) -> list[dict[str, Any]]:
        """The lists that are held, by zone, and until when each counts (UNIX seconds)."""
        return [
            {
                "zone": zone,
                "members": sorted(one.members),
                "serial": one.document.serial,
                "issued_at": one.document.iat,
                "expires_at": one.document.exp,
            }
            for zone, one in sorted(self._held.items())
        ]

    def ages_s(self) -> list[float]:
        """How old the lists are that this node holds, in seconds by the operator's clock."""
        now = time.time()
        return [now - one.document.iat for one in self._held.values()]

    # ---- fetching -------------------------------------------------------------------------------

    def fetch(self, zone: str) -> ZoneList:
        """Fetch and keep the list of a zone. Raises NotFound for one the space does not have,
        Unavailable, and ProtocolViolation for a list that is not usable."""
        return self.keep(zone, self._operators.signed_list(zone))

    def keep(self, zone: str, text: str) -> ZoneList:
        """Use this list from now on. Raises ProtocolViolation for one that the operator did not
        sign, that is another zone's, has ended, or is older than the one held."""
        now, held = time.time(), self._held.get(zone)
        document = open_list(
            text, zone=zone, operator=self._operators.did(), now=now, key_of=self._node.key_of
        )
        if held is not None and (document.iat, document.serial) < (
            held.document.iat,
            held.document.serial,
        ):
            raise ProtocolViolation(f"zone list: an older one of {zone} than was shown before")
        with self._node.store.transaction() as tx:
            tx.merge(ZoneListRow(zone=zone, text=text))
        self._hold(document, fetched_at=now)
        return document

    def _look(self, _: Process) -> Later:
        """Fetch the lists that are due. The next look is when the next one is."""
        if not self._operators.joined():
            return Later(RETRY_S)
        now, next_s = time.time(), LOOK_EVERY_S
        for zone in sorted(self._asked_about()):
            held = self._held.get(zone)
            if held is None or held.due_at <= now:
                try:
                    self.fetch(zone)
                except (NodeError, ContractError) as err:
                    log.warning("a zone's list could not be fetched", zone=zone, error=str(err))
                    next_s = min(next_s, RETRY_S)
                    continue
            next_s = min(next_s, max(0.1, self._held[zone].due_at - now))
        return Later(next_s)

    def _asked_about(self) -> set[str]:
        """The zones that offers of ours, and agreements in force that we provide under, name."""
        named = "%recipientZone%"
        offered = select(DatasetRow.offer).where(
            col(DatasetRow.withdrawn_at).is_(None), cast(DatasetRow.offer, Text).like(named)
        )
        agreed = select(AgreementRow.document).where(
            AgreementRow.role == Party.PROVIDER.value,
            col(AgreementRow.ended_at).is_(None),
            cast(AgreementRow.document, Text).like(named),
        )
        with self._node.store.transaction() as tx:
            offers, agreements = tx.exec(offered).all(), tx.exec(agreed).all()
        zones: set[str] = set()
        for offer in offers:
            zones |= zones_in(Offer.model_validate(offer))
        for agreement in agreements:
            zones |= zones_in(Agreement.model_validate(agreement))
        return zones

    def _take_up(self, row: ZoneListRow, *, fetched_at: float = 0.0) -> None:
        try:
            document = read_kept_list(row.text)
        except (ContractError, ValidationError) as err:
            log.warning("a kept list cannot be read", zone=row.zone, error=str(err)[:200])
            return
        held = self._held.get(row.zone)
        if held is None or (held.document.iat, held.document.serial) < (
            document.iat,
            document.serial,
        ):
            self._hold(document, fetched_at=fetched_at)

    def _hold(self, document: ZoneList, *, fetched_at: float) -> None:
        held = Held(document, frozenset(document.members), fetched_at)
        self._held = {**self._held, document.zone: held}
