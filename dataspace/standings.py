"""Which members still are: the operator's status lists, fetched ahead of any decision.

A decision looks into memory. The lists that credentials name are asked for again long before they
end; while they cannot be had, the last ones count until they end, and after that nobody is taken
for a member: whoever was revoked meanwhile would be among those let in. A credential that names no
list (one issued by an earlier version) counts until it ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from sqlmodel import select

from dataspace.errors import Denied, InputRejected, NodeError, ProtocolViolation, Unavailable
from dataspace.evidence import read_space
from dataspace.identity.status import (
    LIMIT_BYTES,
    StatusDocument,
    open_status_list,
    read_kept_status_list,
)
from dataspace.identity.status_list import (
    StatusEntry,
    StatusPurpose,
    parse_status,
    status_at,
)
from dataspace.identity.tokens import Membership, read_own_credential
from dataspace.outbound import UNREACHABLE, ask
from dataspace.processes import FOR_EVER_S, Handler, Later, Pool, Process, is_kept, schedule
from dataspace.store.tables import KnownStatusRow, Setting, StatusListRow

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.standings")

LOOK = "look-after-status-lists"
LOOK_EVERY_S = 60.0
RETRY_S = 5.0
# A node that has just joined needs the lists at once; a caller at the door makes us ask this often.
JOINING_S = 0.5
PAUSE_S = 1.0
FETCH_S = 10.0
# An operator's lists are numbered from 1; each is of tens of thousands of credentials.
MAX_LISTS = 64

_TOLD: Mapping[StatusPurpose, str] = {
    StatusPurpose.REVOCATION: "revoked",
    StatusPurpose.SUSPENSION: "suspended",
}


_LATER = "try again; meanwhile nobody is taken for a member"


@dataclass(frozen=True)
class Held:
    """A list as decisions use it. `fetched_at` is by our clock (UNIX seconds); 0.0 for one that an
    earlier life of this node fetched."""

    document: StatusDocument
    fetched_at: float

    @property
    def due_at(self) -> float:
        return self.fetched_at + self.document.ttl_s


class MemberStandings:
    """What this node knows of the members' standing with the operator."""

    def __init__(self, node: Node) -> None:
        self._node = node
        # Both are replaced as a whole and never changed, so that readers need no lock.
        self._held: Mapping[str, Held] = {}
        self._known: Mapping[str, tuple[StatusEntry, ...]] = {}
        self._tried_at: dict[str, float] = {}
        self._lock = threading.Lock()
        # What `follow` has read, which only one thread calls: texts by list, expiries by member.
        self._followed: dict[str, str] = {}
        self._followed_until: dict[str, float] = {}

    def handlers(self) -> dict[str, Handler]:
        return {LOOK: Handler(self._look, pool=Pool.PEERS)}

    def begin(self) -> None:
        """Take up what an earlier life left, and look after the lists from now on."""
        with self._node.store.transaction() as tx:
            lists, known = (
                tx.exec(select(StatusListRow)).all(),
                tx.exec(select(KnownStatusRow)).all(),
            )
            space = read_space(tx)
            if not is_kept(tx, LOOK, self._node.did):
                schedule(tx, LOOK, self._node.did, give_up_after_s=FOR_EVER_S)
        now = time.time()
        self._known = {row.did: parse_status(row.entries) for row in known if row.expires_at > now}
        for row in lists if space is not None else ():
            assert space is not None
            self._take_up(row, operator=space.operator, fetched_at=0.0)

    def follow(self) -> None:
        """Take up what other replicas have learned since: newer lists, and where the status of
        members is read whom only they have met."""
        with self._node.store.look() as tx:
            lists, space = tx.exec(select(StatusListRow)).all(), read_space(tx)
            named = select(KnownStatusRow.did, KnownStatusRow.expires_at)
            until = dict(tx.exec(named).all())
            news = {did for did, at in until.items() if self._followed_until.get(did) != at}
            known = tx.exec(select(KnownStatusRow)).all() if news else ()
        if news:
            told = {row.did: parse_status(row.entries) for row in known if row.did in news}
            with self._lock:
                self._known = {**self._known, **told}
        self._followed_until = until
        for row in lists if space is not None else ():
            assert space is not None
            if self._followed.get(row.url) != row.text:
                self._followed[row.url] = row.text
                self._take_up(row, operator=space.operator, fetched_at=time.time())

    def _take_up(self, row: StatusListRow, *, operator: str, fetched_at: float) -> None:
        """Hold a list that was kept, unless a newer one is held."""
        try:
            kept = read_kept_status_list(row.text, url=row.url, operator=operator)
        except ProtocolViolation as err:
            log.warning("a kept status list cannot be read", url=row.url, error=str(err))
            return
        held = self._held.get(row.url)
        # Two lists may be of one second; then the one that was kept last is the newer.
        if held is None or held.document.issued_at <= kept.issued_at:
            self._held = {**self._held, row.url: Held(kept, fetched_at)}

    # ---- decisions --------------------------------------------------------------------------

    def verify(self, membership: Membership) -> None:
        """Raises Denied for a member that was suspended or revoked, Unavailable where nobody can
        know: the list has ended, and the operator was away."""
        self._remember(membership)
        for entry in membership.status:
            _verify(membership.member.did, entry, self._current(entry.list_url))

    def refusal(self, did: str) -> Denied | None:
        """Why a use by `did` must not be permitted at this moment, for what is decided while `did`
        is not at the door. Nothing is fetched. Raises Unavailable where nobody can know: what waits
        for it waits until the operator is back, or until a clock that was wrong is set right."""
        for entry in self._known.get(did, ()):
            held = self._held.get(entry.list_url)
            if held is None or held.document.expires_at <= time.time():
                raise Unavailable(_unknown(held), remedy=_LATER)
            try:
                _verify(did, entry, held.document)
            except Denied as err:
                return err
        return None

    def held(self) -> list[dict[str, Any]]:
        """The lists that are held, and until when each counts (UNIX seconds)."""
        return [
            {
                "url": url,
                "purposes": sorted(held.document.purposes),
                "issued_at": held.document.issued_at,
                "expires_at": held.document.expires_at,
                "fetched_at": held.fetched_at or None,
            }
            for url, held in sorted(self._held.items())
        ]

    def _current(self, url: str) -> StatusDocument:
        """The list from memory. One that is missing or has ended is asked for here, seldom."""
        held = self._held.get(url)
        if held is not None and time.time() < held.document.expires_at:
            return held.document
        with self._lock:
            held = self._held.get(url)
            if held is not None and time.time() < held.document.expires_at:
                return held.document
            tried_s = time.monotonic() - self._tried_at.get(url, -PAUSE_S)
            try:
                if tried_s < PAUSE_S:
                    raise Unavailable("it was asked for a moment ago")
                return self.fetch(url)
            except Unavailable as err:
                log.warning("a status list cannot be had", url=url, error=str(err))
                raise Unavailable(_unknown(held), remedy=_LATER) from err

    # ---- fetching ---------------------------------------------------------------------------

    def refresh(self) -> list[dict[str, Any]]:
        """Fetch every list that counts here, now; what is held afterwards.

        Raises Unavailable or ProtocolViolation for the first that cannot be had.
        """
        for url in sorted(self._wanted()):
            self.fetch(url)
        return self.held()

    def fetch(self, url: str) -> StatusDocument:
        """Fetch and keep a list. Raises Unavailable, and ProtocolViolation for one that is not the
        operator's, or is older than the one held."""
        if len(self._tried_at) > 4 * MAX_LISTS:
            self._tried_at.clear()
        self._tried_at[url] = time.monotonic()
        now, text = time.time(), self._text(url)
        document = open_status_list(
            text,
            url=url,
            operator=self._node.peers.operator(),
            now=now,
            key_of=self._node.key_of,
        )
        held = self._held.get(url)
        if held is not None and document.issued_at < held.document.issued_at:
            raise ProtocolViolation("status list: an older one than was shown before")
        with self._node.store.transaction() as tx:
            tx.merge(StatusListRow(url=url, text=text))
        self._held = {**self._held, url: Held(document, now)}
        return document

    def _text(self, url: str) -> str:
        node = self._node
        if node.operator is not None:
            return node.operator.status.list_at(url)
        # Nobody but the operator signs credentials, and it names no other node's lists in them.
        own = node.peers.url_of(node.peers.operator())
        if not url.startswith(f"{own}/"):
            raise ProtocolViolation("status list: it is not on the operator's node")
        try:
            answer = ask(
                node.http,
                "GET",
                url,
                most=LIMIT_BYTES,
                timeout_s=FETCH_S,
                what="the operator's status list",
            )
        except UNREACHABLE as err:
            raise Unavailable(
                f"the operator's status list cannot be fetched ({type(err).__name__})"
            ) from err
        if answer.status != 200:
            raise Unavailable(f"the status list was answered with {answer.status}")
        return answer.body.decode("ascii", "replace")

    def _look(self, _: Process) -> Later:
        """Fetch the lists that are due. The next look is when the next one is."""
        if not self._node.operators_zones.joined():
            return Later(JOINING_S)
        now, next_s = time.time(), LOOK_EVERY_S
        for url in sorted(self._wanted()):
            held = self._held.get(url)
            if held is None or held.due_at <= now:
                try:
                    self.fetch(url)
                except NodeError as err:
                    log.warning("a status list could not be fetched", url=url, error=str(err))
                    next_s = min(next_s, RETRY_S)
                    continue
            next_s = min(next_s, max(0.1, self._held[url].due_at - now))
        return Later(next_s)

    def _wanted(self) -> set[str]:
        """The lists that our own credential and those of the members we know name."""
        named = [entry for entries in self._known.values() for entry in entries]
        with self._node.store.transaction() as tx:
            own = tx.get(Setting, "membership")
        if own is not None:
            named += _status_of(own.value)
        # One credential more is in a new list at most, so there are few.
        return set(sorted({entry.list_url for entry in named})[-MAX_LISTS:])

    def _remember(self, membership: Membership) -> None:
        """Keep where this member's status is read; written once for each credential."""
        did = membership.member.did
        if self._known.get(did, ()) == membership.status:
            return
        with self._lock:
            self._known = {**self._known, did: membership.status}
        with self._node.store.transaction() as tx:
            tx.merge(
                KnownStatusRow(
                    did=did,
                    entries=[entry.to_json() for entry in membership.status],
                    expires_at=float(membership.expires_at),
                )
            )


def _verify(did: str, entry: StatusEntry, document: StatusDocument) -> None:
    """Raises Denied where the list says that the credential was taken back."""
    if entry.purpose not in document.purposes:
        raise ProtocolViolation(f"the status list is not one for {entry.purpose}")
    if not status_at(document.bits, entry.index):
        return
    final = entry.purpose is StatusPurpose.REVOCATION
    raise Denied(
        f"the membership of {did} in this space was {_TOLD[entry.purpose]} by its operator",
        clause=f"membership.{_TOLD[entry.purpose]}",
        remedy="ask the operator for the reason"
        + ("" if final else "; it can reinstate a suspended member"),
    )


def _unknown(held: Held | None) -> str:
    return (
        "whether this member was revoked is not known: the operator's status list "
        + ("was never had" if held is None else "has ended")
        + ", and the operator is away"
    )


def _status_of(credential: str) -> list[StatusEntry]:
    """What our own credential names. A text that is none names nothing."""
    try:
        vc = read_own_credential(credential).get("vc")
        return list(parse_status(vc.get("credentialStatus") if isinstance(vc, dict) else None))
    except (InputRejected, ProtocolViolation):
        return []
