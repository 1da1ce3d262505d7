"""Talking with peers: a fresh token out with every request, every token in verified once.

Outgoing messages carry `Message-Id`; the receiver stores its answer under it, so that a message
delivered twice is answered twice and acted on once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import httpx2
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from dataspace.answer import Answer
from dataspace.errors import ProtocolViolation, TokenSpent, Unauthenticated, Unavailable
from dataspace.evidence import read_space
from dataspace.identity.did import Resolver, SecondKeys, url_of_did
from dataspace.identity.tokens import (
    CLOCK_SKEW_S,
    TOKEN_LIFETIME_S,
    Claims,
    Identity,
    KeyOf,
    Member,
    Membership,
    issue_token,
    open_credential,
    open_token,
    peek_token,
)
from dataspace.outbound import UNREACHABLE, ask
from dataspace.store.engine import Store
from dataspace.store.tables import ReceivedRow, ReplayRow, Setting

# How often a request that was answered 401 is sent again, each time with a token of its own.
FRESH_TOKENS = 2
MAX_ANSWER_BYTES = 16 * 1024 * 1024
TIMEOUT_S = 20.0
JOINING_S = 10.0
# A credential that was verified is not verified again so soon; a token always is.
REMEMBERED_S = 60.0
MAX_REMEMBERED = 1024
# A peer that wants to be left alone for longer is asked again all the same.
LONGEST_ASKED_S = 60.0
# Tokens of the claims protocol from nodes of other makes live longer than ours.
CLAIMS_LIFETIME_S = 900


@dataclass(frozen=True)
class Visitor:
    """A member at the door: who it is, and its token, which is not spent yet."""

    member: Member
    claims: Claims | None


class Standings(Protocol):
    """Whether a member still is one."""

    def verify(self, membership: Membership) -> None:
        """Raises Denied for who is not, Unavailable where nobody can know."""


class Peers:
    """The node's one HTTP client to the outside, and the door for what comes from there."""

    # Set by the node before the door opens; without it nobody is let in.
    standings: Standings

    def __init__(
        self, store: Store, identity: Callable[[], Identity], client: httpx2.Client, *, local: bool
    ) -> None:
        """`identity` gives our DID with the key that is in use at the moment."""
        self._store = store
        self._identity_now = identity
        self._client = client
        self._local = local
        self.resolver = Resolver(client, local=local)
        # Set by the parts of the claims protocol: an access token to our credentials for a peer,
        # and the member that a token without a membership credential turns out to be.
        self.access_for: Callable[[str], str] | None = None
        self.presented: Callable[[Claims], Member] | None = None
        self._space_operator: str | None = None
        self._own_credential: tuple[str | None, float] = (None, 0.0)
        # Members by DID and credential, and until when what was verified of them is taken as so.
        self._members: dict[tuple[str, str], tuple[Membership, float]] = {}

    @property
    def _identity(self) -> Identity:
        return self._identity_now()

    def url_of(self, did: str) -> str:
        """Base URL of the node with this DID."""
        return url_of_did(did, local=self._local)

    def second_keys_of(self, did: str) -> SecondKeys:
        """The post-quantum keys of a member that was just at the door, without fetching anything.
        Raises Unavailable where its document is not at hand."""
        return self.resolver.known_second_keys(did)

    def callback_of(self, did: str, address: str) -> str:
        """A peer's callbackAddress, if it is on the peer's own node. Raises ProtocolViolation.

        Anything else would let a member make us call whatever it names.
        """
        own = self.url_of(did)
        if address != own and not address.startswith(f"{own}/"):
            raise ProtocolViolation(
                "callbackAddress: it is not on the node that your DID names",
                remedy=f"use an address that begins with {own}/",
            )
        return address.rstrip("/")

    def send(
        self,
        method: str,
        url: str,
        *,
        to: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Answer:
        """One request to the participant `to`, with a token for it. Raises Unavailable when the
        peer cannot be reached or answers 429 or 5xx; any other answer is returned.

        A 401 is asked about with a fresh token: a gateway that repeats a request repeats its token
        too, and the answer to that is what arrives here. Every request between participants may be
        repeated.
        """
        answer = self._send(method, url, to, body, headers, timeout_s)
        for _ in range(FRESH_TOKENS):
            if answer.status != 401:
                break
            answer = self._send(method, url, to, body, headers, timeout_s)
        return answer

    def _send(
        self,
        method: str,
        url: str,
        to: str,
        body: bytes,
        headers: Mapping[str, str] | None,
        timeout_s: float,
    ) -> Answer:
        # The URL may come from the peer (callbackAddress): the client calls no address inside our
        # own network (`dataspace.identity.addresses`).
        membership = self._membership_soon()
        if membership is None:
            raise Unavailable(
                "this node has not joined its space yet",
                remedy="wait a moment, then look at: dataspace status",
            )
        token = issue_token(
            self._identity,
            audience=to,
            now=int(time.time()),
            membership=membership,
            # A verifier of another make looks for this one and asks our credential service.
            access=self.access_for(to) if self.access_for else None,
        )
        sent = {"authorization": f"Bearer {token}", **(headers or {})}
        if body and "content-type" not in sent:
            sent["content-type"] = "application/json"
        try:
            answer = ask(
                self._client,
                method,
                url,
                most=MAX_ANSWER_BYTES,
                timeout_s=timeout_s,
                what=f"the answer of {to}",
                headers=sent,
                content=body,
            )
        except UNREACHABLE as err:
            raise Unavailable(
                f"{to} cannot be reached ({type(err).__name__})",
                remedy="check that the peer's node is running and its address is right",
            ) from err
        if answer.status == 429 or answer.status >= 500:
            raise Unavailable(
                f"{to} answered {answer.status}: {answer.reason()}", after_s=_asked_to_wait(answer)
            )
        return answer

    def authenticate(self, authorization: str | None) -> Member:
        """The verified member behind an Authorization header, its token spent.

        Raises Unauthenticated.
        """
        visitor = self.recognise(authorization)
        self.spend_alone(visitor)
        return visitor.member

    def recognise(self, authorization: str | None) -> Visitor:
        """The verified member behind an Authorization header, its token not yet spent: whoever
        acts on it does that in its own transaction (`spend`). Raises Unauthenticated."""
        # The credential is looked at first: its key is the operator's, which we have, while the
        # token's key has to be fetched from wherever the token says.
        token = _bearer_token(authorization)
        claimed, membership = peek_token(token)
        if membership is None:
            return self._recognise_presented(authorization)
        found = self._membership_of(claimed, membership)
        claims = self._open(token)
        # Only now, as nobody else need learn how a member stands.
        self.standings.verify(found)
        return Visitor(found.member, claims)

    def _recognise_presented(self, authorization: str | None) -> Visitor:
        """The member whose credential does not ride in its token but is shown when asked for."""
        claims = self.recognise_claims(authorization)
        if self.presented is None or claims.access is None:
            raise Unauthenticated(
                "the token carries no membership credential",
                remedy="join the space: ask its operator for an invitation",
            )
        # Before anybody is called: whoever overheard a token must not make us ask for it again.
        with self._store.transaction() as tx:
            _verify_unspent(tx, claims)
        return Visitor(self.presented(claims), claims)

    def recognise_claims(self, authorization: str | None) -> Claims:
        """What a token of the claims protocol says (1.0, §4.3.3): it may come from anybody who has
        a DID, and is not spent yet. Raises Unauthenticated."""
        return self._open(
            _bearer_token(authorization),
            key_of=self.resolver.invocation_key,
            lifetime_s=CLAIMS_LIFETIME_S,
        )

    def spend_claims(self, tx: Session, claims: Claims) -> None:
        """Use up a token in the caller's transaction. Raises Unauthenticated where it was used
        before."""
        _spend(tx, claims)

    def authenticate_did(self, authorization: str | None) -> str:
        """The DID behind an Authorization header, member or not. Raises Unauthenticated."""
        claims = self._open(_bearer_token(authorization))
        with self._store.transaction() as tx:
            _spend(tx, claims)
        return claims.did

    def spend(self, tx: Session, visitor: Visitor) -> None:
        """Use up the visitor's token in the caller's transaction. Raises Unauthenticated where it
        was used before."""
        if visitor.claims is not None:
            _spend(tx, visitor.claims)

    def spend_alone(self, visitor: Visitor) -> None:
        """`spend` in a transaction of its own."""
        with self._store.transaction() as tx:
            self.spend(tx, visitor)

    def _open(
        self, token: str, *, key_of: KeyOf | None = None, lifetime_s: int = TOKEN_LIFETIME_S
    ) -> Claims:
        try:
            return open_token(
                token,
                audience=self._identity.did,
                now=int(time.time()),
                key_of=key_of or self.resolver.authentication_key,
                lifetime_s=lifetime_s,
            )
        except ProtocolViolation as err:
            raise Unauthenticated(err.sentence, remedy=err.remedy) from err

    def member_by(self, subject: str, credential: str) -> Member:
        """The member that the operator's `credential` is of, and still is. Raises Unauthenticated,
        Denied for who was suspended or revoked, Unavailable where nobody can know."""
        found = self._membership_of(subject, credential)
        # Not remembered with the credential: what was taken back a moment ago must not be let in
        # for a minute.
        self.standings.verify(found)
        return found.member

    def _membership_of(self, subject: str, credential: str) -> Membership:
        """What the operator says of `subject`, from memory where it was verified a moment ago."""
        now = time.time()
        remembered = self._members.get((subject, credential))
        if remembered is not None and now < remembered[1]:
            return remembered[0]
        try:
            found = open_credential(
                credential,
                subject=subject,
                operator=self.operator(),
                now=int(now),
                key_of=self.resolver.key,
            )
        except ProtocolViolation as err:
            raise Unauthenticated(err.sentence, remedy=err.remedy) from err
        if len(self._members) >= MAX_REMEMBERED:
            self._members.clear()
        until = min(float(found.expires_at), now + REMEMBERED_S)
        self._members[subject, credential] = found, until
        return found

    def operator(self) -> str:
        """The DID of this space's operator. Raises Unavailable while we have not joined."""
        # A node joins one space, once.
        if self._space_operator is None:
            with self._store.transaction() as tx:
                space = read_space(tx)
            if space is None:
                raise Unavailable(
                    "this node has not joined its space yet", remedy="try again shortly"
                )
            self._space_operator = space.operator
        return self._space_operator

    def _membership_soon(self) -> str | None:
        """Our credential; a node that was started a moment ago is given time to join."""
        until = time.monotonic() + JOINING_S
        while (found := self.membership()) is None and time.monotonic() < until:
            time.sleep(0.1)
        return found

    def forget_credential(self) -> None:
        """Read our credential again with the next request: it has been renewed."""
        self._own_credential = None, 0.0

    def membership(self) -> str | None:
        """Our credential, read again now and then: it is renewed days before it ends."""
        value, until = self._own_credential
        if value is None or time.monotonic() > until:
            with self._store.transaction() as tx:
                row = tx.get(Setting, "membership")
            value = row.value if row else None
            self._own_credential = value, time.monotonic() + REMEMBERED_S
        return value


def _asked_to_wait(answer: Answer) -> float | None:
    """How long a peer that is asked too often wants to be left alone.

    A 503 is our own affair: nodes say one second with each, whether it takes less or far more, and
    back-off finds out.
    """
    asked = answer.headers.get("retry-after", "")
    if answer.status != 429 or not asked.isdecimal() or len(asked) > 6:
        return None
    return min(float(asked), LONGEST_ASKED_S)


_USED = "the token was used before"
_FRESH = "send a fresh token with each request"


def _verify_unspent(tx: Session, claims: Claims) -> None:
    if tx.get(ReplayRow, (claims.did, claims.jti)) is not None:
        raise TokenSpent(_USED, remedy=_FRESH)


def _spend(tx: Session, claims: Claims) -> None:
    keep_until = float(claims.expires_at + CLOCK_SKEW_S)
    _verify_unspent(tx, claims)
    tx.add(ReplayRow(issuer=claims.did, jti=claims.jti, expires_at=keep_until))
    try:
        tx.flush()
    except IntegrityError as err:
        raise TokenSpent(_USED, remedy=_FRESH) from err


def _bearer_token(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated(
            "this address is for members of the space: no bearer token came",
            remedy="send Authorization: Bearer with a token signed by your node's key",
        )
    return token


@dataclass(frozen=True)
class MessageName:
    """A message as its receiver knows it again: its sender, the sender's id for it, and a digest of
    where it was sent and what it said."""

    peer: str
    id: str
    digest: str

    @classmethod
    def of(cls, peer: str, message_id: str, path: str, body: bytes) -> MessageName:
        digest = sha256(path.encode() + b"\n" + body).hexdigest()
        return cls(peer, message_id, digest)


def earlier_answer(tx: Session, message: MessageName | None) -> ReceivedRow | None:
    """The answer already given to this message, if it came before. Raises ProtocolViolation where
    another message came under its id: it would be taken for the first one and be lost."""
    if message is None:
        return None
    found = tx.get(ReceivedRow, (message.peer, message.id))
    if found is not None and found.message_h not in (None, message.digest):
        raise ProtocolViolation(
            "Message-Id: another message came from you under this id",
            remedy="give each message an id of its own, and repeat one as it was",
        )
    return found


def remember_answer(tx: Session, message: MessageName | None, status: int, body: str) -> None:
    """Keep the answer to a message in the transaction in which it was acted on."""
    if message is not None:
        tx.add(
            ReceivedRow(
                peer=message.peer,
                message_id=message.id,
                message_h=message.digest,
                status=status,
                body=body,
                received_at=time.time(),
            )
        )
