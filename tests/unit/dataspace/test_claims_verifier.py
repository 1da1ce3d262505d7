"""Whoever a verifier lets in was shown to it to be a member, by whom it trusts, and still is."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dataspace.answer import Answer
from dataspace.claims.messages import CONTEXT, PresentationQueryMessage
from dataspace.claims.verifier import REMEMBERED_S, Trust, Verifier
from dataspace.errors import Denied, Unauthenticated, Unavailable
from dataspace.identity.tokens import Claims, Member
from dataspace.settings import ParticipantKind

from .claims_examples import HOLDER, ISSUER, NOW, OTHER, VERIFIER, Written, key_of

OPERATOR = OTHER.did


class Door:
    """A verifier that trusts the operator and one issuer, and a holder that shows something."""

    def __init__(self) -> None:
        self.shown: list[object] = [Written().presentation()]
        self.status, self.asked, self.now = 200, 0, float(NOW)
        self.operators_word: Member | Exception = Member(
            HOLDER.did, ParticipantKind.GOVERNMENT, "Bureau"
        )
        resolver = SimpleNamespace(
            service=lambda did, kind: f"https://cs.example/{kind}",
            authentication_key=key_of,
            key=key_of,
        )
        self.verifier = Verifier(
            cast(Any, self),
            cast(Any, resolver),
            Trust(lambda: OPERATOR, self._of_operator, frozenset({ISSUER.did})),
            did=VERIFIER,
            clock=lambda: self.now,
        )

    def _of_operator(self, subject: str, credential: str) -> Member:
        if isinstance(self.operators_word, Exception):
            raise self.operators_word
        return self.operators_word

    def post(
        self, url: str, message: PresentationQueryMessage, *, to: str, access: str | None
    ) -> Answer:
        assert url == "https://cs.example/CredentialService/presentations/query"
        assert (to, message.scopes()) == (
            HOLDER.did,
            ("org.eclipse.dspace.dcp.vc.type:MembershipCredential:read",),
        )
        self.asked += 1
        body = {
            "@context": [CONTEXT],
            "type": "PresentationResponseMessage",
            "presentation": self.shown,
        }
        return Answer(self.status, {}, json.dumps(body).encode())

    def get(self, url: str) -> bytes:
        raise Unavailable("nobody is there")

    def member(self, access: str | None = "opaque") -> Member:
        return self.verifier.member(Claims(HOLDER.did, "a-jti-is-long", 0, None, access))


@pytest.fixture
def door() -> Door:
    return Door()


def _by_operator() -> str:
    of_operator = Written(
        issuer=OTHER, vc={"issuer": OPERATOR}, vc_claims={"iss": OPERATOR}
    ).credential()
    return Written().presentation(of_operator)


def test_a_member_by_a_trusted_issuer_is_let_in_and_not_asked_again_for_a_minute(
    door: Door,
) -> None:
    assert door.member() == Member(HOLDER.did, ParticipantKind.ENTERPRISE, "Holder")
    door.shown = []
    assert door.member().did == HOLDER.did
    assert door.asked == 1
    # Another access token is another question, and so is the same one later.
    with pytest.raises(Unauthenticated, match="no presentation"):
        door.member("another")
    door.now += REMEMBERED_S
    with pytest.raises(Unauthenticated, match="no presentation"):
        door.member()


def test_what_the_operator_says_counts_and_is_looked_at_each_time(door: Door) -> None:
    door.shown = [_by_operator()]
    assert door.member().kind is ParticipantKind.GOVERNMENT
    door.operators_word = Denied("this member was suspended")
    with pytest.raises(Denied, match="suspended"):
        door.member()
    assert door.asked == 1


def test_an_issuer_that_nobody_trusts_makes_no_member(door: Door) -> None:
    stranger = Written(
        issuer=HOLDER, vc={"issuer": HOLDER.did}, vc_claims={"iss": HOLDER.did}
    ).credential()
    door.shown = [Written().presentation(stranger)]
    with pytest.raises(Unauthenticated, match="no MembershipCredential of an issuer that is trust"):
        door.member()


def test_more_credentials_than_asked_for_do_no_harm_and_others_are_not_enough(door: Door) -> None:
    licence = Written(vc={"type": ["VerifiableCredential", "TradeLicence"]})
    door.shown = [Written().presentation(Written().credential(), licence.credential())]
    assert door.member().did == HOLDER.did
    door.shown = [Written().presentation(licence.credential())]
    with pytest.raises(Unauthenticated, match="no MembershipCredential"):
        door.member("another")


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("refused", "answered 403"),
        ("no message", "PresentationResponseMessage"),
        ("too many", "fewer elements"),
    ],
)
def test_an_answer_that_shows_nothing_lets_nobody_in(door: Door, what: str, reason: str) -> None:
    door.status = 403 if what == "refused" else 200
    if what == "no message":
        door.shown = cast(Any, "x")
    if what == "too many":
        door.shown *= 17
    with pytest.raises(Unauthenticated, match=reason):
        door.member()


def test_without_an_access_token_nobody_is_asked(door: Door) -> None:
    with pytest.raises(Unauthenticated, match="neither"):
        door.member(None)
    assert door.asked == 0


def test_a_list_that_is_away_lets_nobody_in(door: Door) -> None:
    status = {
        "type": "BitstringStatusListEntry",
        "statusPurpose": "revocation",
        "statusListIndex": "7",
        "statusListCredential": "https://issuer.example/list",
    }
    door.shown = [Written().presentation(Written(vc={"credentialStatus": status}).credential())]
    with pytest.raises(Unavailable):
        door.member()
