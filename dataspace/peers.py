"""Talking with peers: a fresh token out with every request, every token in verified once.

Outgoing messages carry `Message-Id`; the receiver stores its answer under it, so that a message
delivered twice is answered twice and acted on once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from dataspace.answer import Answer
from dataspace.errors import ProtocolViolation, Unauthenticated, Unavailable
from dataspace.evidence import read_space
from dataspace.identity.did import Resolver, url_of_did, verify_public_address
from dataspace.identity.tokens import (
    CLOCK_SKEW_S,
    Claims,
    Identity,
    Member,
    issue_token,
    open_credential,
    open_token,
    peek_token,
)
from dataspace.outbound import within
from dataspace.store.engine import Store
from dataspace.store.tables import ReceivedRow, ReplayRow, Setting

MAX_ANSWER_BYTES = 16 * 1024 * 1024
TIMEOUT_S = 20.0
JOINING_S = 10.0
# A credential that was verified is not verified again so soon; a token always is.
REMEMBERED_S = 60.0
MAX_REMEMBERED = 1024


@dataclass(frozen=True)
class Visitor:
    """A member at the door: who it is, and its token, which is not spent yet."""

    member: Member
    claims: Claims | None


class Peers:
    """The node's one HTTP client to the outside, and the door for what comes from there."""

    def __init__(
        self, store: Store, identity: Identity, client: httpx2.Client, *, local: bool
    ) -> None:
        self._store = store
        self._identity = identity
        self._client = client
        self._local = local
        self.resolver = Resolver(client, local=local)
        self._space_operator: str | None = None
        self._own_credential: tuple[str | None, float] = (None, 0.0)
        # Members by DID and credential, and until when what was verified of them is taken as so.
        self._members: dict[tuple[str, str], tuple[Member, float]] = {}

    def url_of(self, did: str) -> str:
        """Base URL of the node with this DID."""
        return url_of_did(did, local=self._local)

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
        peer cannot be reached or answers 429 or 5xx; any other answer is returned."""
        # The URL may come from the peer (callbackAddress); it must not lead into our own network.
        verify_public_address(urlsplit(url).hostname or "", local=self._local)
        membership = self._membership_soon()
        if membership is None:
            raise Unavailable(
                "this node has not joined its space yet",
                remedy="wait a moment, then look at: dataspace status",
            )
        token = issue_token(
            self._identity, audience=to, now=int(time.time()), membership=membership
        )
        sent = {"authorization": f"Bearer {token}", **(headers or {})}
        if body and "content-type" not in sent:
            sent["content-type"] = "application/json"
        try:
            with (
                within(timeout_s),
                self._client.stream(
                    method, url, content=body, headers=sent, timeout=timeout_s
                ) as response,
            ):
                received = bytearray()
                for chunk in response.iter_bytes():
                    received += chunk
                    if len(received) > MAX_ANSWER_BYTES:
                        raise ProtocolViolation(
                            f"the answer of {to} exceeds {MAX_ANSWER_BYTES} bytes"
                        )
        except (httpx2.HTTPError, httpx2.InvalidURL) as err:
            raise Unavailable(
                f"{to} cannot be reached ({type(err).__name__})",
                remedy="check that the peer's node is running and its address is right",
            ) from err
        answer = Answer(response.status_code, dict(response.headers), bytes(received))
        if answer.status == 429 or answer.status >= 500:
            raise Unavailable(f"{to} answered {answer.status}: {answer.reason()}")
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
            raise Unauthenticated(
                "the token carries no membership credential",
                remedy="join the space: ask its operator for an invitation",
            )
        member = self._member(claimed, membership)
        return Visitor(member, self._open(token))

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

    def _open(self, token: str) -> Claims:
        try:
            return open_token(
                token,
                audience=self._identity.did,
                now=int(time.time()),
                key_of=self.resolver.key,
            )
        except ProtocolViolation as err:
            raise Unauthenticated(err.sentence, remedy=err.remedy) from err

    def _member(self, subject: str, credential: str) -> Member:
        """What the operator says of `subject`, from memory where it was verified a moment ago."""
        now = time.time()
        remembered = self._members.get((subject, credential))
        if remembered is not None and now < remembered[1]:
            return remembered[0]
        try:
            member, expires_at = open_credential(
                credential,
                subject=subject,
                operator=self._operator(),
                now=int(now),
                key_of=self.resolver.key,
            )
        except ProtocolViolation as err:
            raise Unauthenticated(err.sentence, remedy=err.remedy) from err
        if len(self._members) >= MAX_REMEMBERED:
            self._members.clear()
        self._members[subject, credential] = member, min(float(expires_at), now + REMEMBERED_S)
        return member

    def _operator(self) -> str:
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
        while (found := self._membership()) is None and time.monotonic() < until:
            time.sleep(0.1)
        return found

    def forget_credential(self) -> None:
        """Read our credential again with the next request: it has been renewed."""
        self._own_credential = None, 0.0

    def _membership(self) -> str | None:
        """Our credential, read again now and then: it is renewed days before it ends."""
        value, until = self._own_credential
        if value is None or time.monotonic() > until:
            with self._store.transaction() as tx:
                row = tx.get(Setting, "membership")
            value = row.value if row else None
            self._own_credential = value, time.monotonic() + REMEMBERED_S
        return value


def _spend(tx: Session, claims: Claims) -> None:
    keep_until = float(claims.expires_at + CLOCK_SKEW_S)
    used = "the token was used before"
    remedy = "send a fresh token with each request"
    if tx.get(ReplayRow, (claims.did, claims.jti)) is not None:
        raise Unauthenticated(used, remedy=remedy)
    tx.add(ReplayRow(issuer=claims.did, jti=claims.jti, expires_at=keep_until))
    try:
        tx.flush()
    except IntegrityError as err:
        raise Unauthenticated(used, remedy=remedy) from err


def _bearer_token(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated(
            "this address is for members of the space: no bearer token came",
            remedy="send Authorization: Bearer with a token signed by your node's key",
        )
    return token


def earlier_answer(tx: Session, peer: str, message_id: str | None) -> ReceivedRow | None:
    """The answer already given to this message of this peer, if it came before."""
    return tx.get(ReceivedRow, (peer, message_id)) if message_id else None


def remember_answer(tx: Session, peer: str, message_id: str | None, status: int, body: str) -> None:
    if message_id:
        tx.add(
            ReceivedRow(
                peer=peer,
                message_id=message_id,
                status=status,
                body=body,
                received_at=time.time(),
            )
        )
