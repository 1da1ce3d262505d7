"""The verifier's part (§5): a caller whose token carries no membership credential is asked for one.

Its credential service, named in its DID document, is queried with a token of our own that carries
its access token back. What is shown counts if the space's operator, or an issuer the owner trusts,
says that it is a member.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import contracts.errors
from dataspace.claims import MEMBERSHIP
from dataspace.claims.credentials import Credential
from dataspace.claims.messages import (
    PresentationQueryMessage,
    PresentationResponseMessage,
    parse,
)
from dataspace.claims.outside import Outside
from dataspace.claims.presentations import Keys, open_presentations
from dataspace.claims.schemas import Schemas
from dataspace.claims.scopes import MEMBERSHIP_SCOPE
from dataspace.claims.status import StatusLists
from dataspace.errors import ProtocolViolation, Unauthenticated, Unavailable
from dataspace.identity.did import Resolver
from dataspace.identity.tokens import Claims, Member
from dataspace.settings import ParticipantKind

SERVICE_TYPE: Final = "CredentialService"
# What was shown for an access token is not asked for again so soon.
REMEMBERED_S: Final = 60.0
MAX_REMEMBERED: Final = 1024
# A query holds a thread until the holder has answered; slow holders must not take them all.
MAX_QUERIES: Final = 8
# What only the operator of a space can make somebody: they see and do more than others.
_OPERATORS_TO_NAME: Final = frozenset({ParticipantKind.OPERATOR, ParticipantKind.REGULATOR})
_NO_CREDENTIAL: Final = "ask the operator of the space for a membership credential"

# What the operator's own credential says of a subject. Raises Unauthenticated.
OfOperator = Callable[[str, str], Member]


@dataclass(frozen=True)
class Trust:
    """Whose membership credentials count: the operator's, read with `of_operator` as those that
    ride in tokens are, and those of other issuers."""

    operator: Callable[[], str]
    of_operator: OfOperator
    others: Collection[str]


class Verifier:
    """Asks holders for their membership. May be used from any thread."""

    def __init__(
        self,
        outside: Outside,
        resolver: Resolver,
        trust: Trust,
        *,
        did: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._outside = outside
        self._resolver = resolver
        self._trust = trust
        self._did = did
        self._clock = clock
        self._status = StatusLists(outside, resolver.key, clock)
        self._schemas = Schemas(outside)
        self._queries = threading.BoundedSemaphore(MAX_QUERIES)
        # The membership credential that was shown, and until when it is taken as shown.
        self._shown: dict[tuple[str, str], tuple[Credential, float]] = {}
        self._lock = threading.Lock()

    def member(self, claims: Claims) -> Member:
        """The member behind a verified token, by what its credential service shows us.

        Raises Unauthenticated saying what is wrong, or Unavailable.
        """
        if claims.access is None:
            raise Unauthenticated(
                "the token carries neither a membership credential nor an access token",
                remedy=_NO_CREDENTIAL,
            )
        name = claims.did, sha256(claims.access.encode()).hexdigest()
        now = self._clock()
        with self._lock:
            remembered = self._shown.get(name)
        if remembered is not None and now < remembered[1]:
            # What the operator's lists say of it is looked at each time.
            return self._member_by(remembered[0])
        if not self._queries.acquire(blocking=False):
            raise Unavailable("too many credential services are being asked", remedy="try again")
        try:
            credential = self._asked(claims.did, claims.access, now)
            member = self._member_by(credential)
        except (ProtocolViolation, contracts.errors.ProtocolViolation) as err:
            raise Unauthenticated(str(err), remedy=_NO_CREDENTIAL) from err
        finally:
            self._queries.release()
        ends = credential.expires_at
        until = now + REMEMBERED_S if ends is None else min(now + REMEMBERED_S, ends)
        with self._lock:
            if len(self._shown) >= MAX_REMEMBERED:
                self._shown.clear()
            self._shown[name] = credential, until
        return member

    def _asked(self, holder: str, access: str, now: float) -> Credential:
        """The membership credential that `holder` shows, of an issuer that is trusted here."""
        endpoint = self._resolver.service(holder, SERVICE_TYPE)
        query = PresentationQueryMessage(scope=(str(MEMBERSHIP_SCOPE),))
        url = f"{endpoint}/presentations/query"
        answer = self._outside.post(url, query, to=holder, access=access)
        if not 200 <= answer.status < 300:
            raise ProtocolViolation(
                f"the credential service of {holder} answered {answer.status}: {answer.reason()}"
            )
        shown = parse(PresentationResponseMessage, answer.body)
        credentials = open_presentations(
            shown.presentation,
            holder=holder,
            audience=self._did,
            now=int(now),
            keys=Keys(self._resolver.authentication_key, self._resolver.key),
        )
        for credential in credentials:
            self._status.verify(credential)
            self._schemas.verify(credential)
        trusted = {self._trust.operator(), *self._trust.others}
        for credential in credentials:
            if MEMBERSHIP in credential.types and credential.issuer in trusted:
                return credential
        raise ProtocolViolation(f"no {MEMBERSHIP} of an issuer that is trusted here was shown")

    def _member_by(self, credential: Credential) -> Member:
        if credential.issuer == self._trust.operator():
            return self._trust.of_operator(credential.subject, credential.jwt)
        return member_of(credential)


def member_of(credential: Credential) -> Member:
    """What an issuer that is not the operator says. Who is said to be nothing, or more than such
    an issuer can make it, is a consumer; zones are the operator's to give."""
    try:
        kind = ParticipantKind(str(credential.about.get("kind")))
    except ValueError:
        kind = ParticipantKind.CONSUMER
    if kind in _OPERATORS_TO_NAME:
        kind = ParticipantKind.CONSUMER
    name = credential.about.get("name")
    return Member(
        did=credential.subject,
        kind=kind,
        name=name[:200] if isinstance(name, str) else credential.subject,
    )
