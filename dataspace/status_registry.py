"""The operator's status lists: a place for every credential it issues, and the lists themselves.

Two lists share their numbering, one of revoked and one of suspended credentials; a credential has
the same place in both. Places are random and never given twice, so a list tells nobody how many
members there are or in what order they came. Which bits are set follows from the members' standing
when the list is signed: there is no other record that could differ from it.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from sqlalchemy import func
from sqlmodel import Session, col, select

from dataspace.errors import NotFound, Unavailable
from dataspace.identity.standing import SHOWN_IN
from dataspace.identity.status import sign_status_list, ttl_of
from dataspace.identity.status_list import MIN_ENTRIES, StatusEntry, StatusList, StatusPurpose
from dataspace.store.tables import CredentialStatusRow, ParticipantRow

if TYPE_CHECKING:
    from dataspace.node import Node

PATH = "/operator/status"
# A list that is half full still has a free place at the second try, on average.
MAX_IN_A_LIST = MIN_ENTRIES // 2
MAX_TRIES = 64


class StatusRegistry:
    """The status lists of a space, at its operator."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def lifetime_s(self) -> int:
        return self._node.home.settings.status_list_lifetime_s

    @property
    def ttl_s(self) -> int:
        return ttl_of(self.lifetime_s)

    def allot(self, tx: Session, did: str, *, expires_at: float) -> tuple[StatusEntry, ...]:
        """A place in the lists for a credential that is about to be issued."""
        number = self._number(tx)
        for _ in range(MAX_TRIES):
            position = secrets.randbelow(MIN_ENTRIES)
            if tx.get(CredentialStatusRow, (number, position)) is None:
                break
        else:
            raise Unavailable("no free place in the status list was found", remedy="try again")
        tx.add(
            CredentialStatusRow(
                list_number=number,
                position=position,
                did=did,
                issued_at=time.time(),
                expires_at=expires_at,
            )
        )
        tx.flush()
        return tuple(
            StatusEntry(purpose, self._url(purpose, number), position) for purpose in StatusPurpose
        )

    def signed_list(self, purpose: str, number: int) -> str:
        """A list as of now, signed. Raises NotFound."""
        known = [one for one in StatusPurpose if one.value == purpose]
        with self._node.store.transaction() as tx:
            if not known or not 1 <= number <= self._number(tx):
                raise NotFound("there is no such status list")
            shown = select(ParticipantRow.did).where(
                ParticipantRow.standing == SHOWN_IN[known[0]].value
            )
            places = select(CredentialStatusRow.position).where(
                CredentialStatusRow.list_number == number, col(CredentialStatusRow.did).in_(shown)
            )
            bits = StatusList.of(tx.exec(places).all())
        return sign_status_list(
            bits,
            url=self._url(known[0], number),
            purpose=known[0],
            operator=self._node.identity,
            now=int(time.time()),
            lifetime_s=self.lifetime_s,
        )

    def list_at(self, url: str) -> str:
        """`signed_list` by the address it is served at."""
        prefix, _, rest = url.partition(f"{PATH}/")
        purpose, _, number = rest.partition("/")
        if prefix != self._node.home.url or not number.isdecimal() or len(number) > 9:
            raise NotFound("there is no such status list")
        return self.signed_list(purpose, int(number))

    def _url(self, purpose: StatusPurpose, number: int) -> str:
        return f"{self._node.home.url}{PATH}/{purpose.value}/{number}"

    def _number(self, tx: Session) -> int:
        """The list in which places are given now: the newest, or the one after it once that is as
        full as it gets."""
        newest = tx.exec(select(func.max(CredentialStatusRow.list_number))).one() or 1
        taken = select(func.count()).where(CredentialStatusRow.list_number == newest)
        return newest + 1 if tx.exec(taken).one() >= MAX_IN_A_LIST else newest
