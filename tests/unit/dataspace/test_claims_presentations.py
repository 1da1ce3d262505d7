"""A presentation counts when every part of it is right, and is refused with the reason for any that
is not."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from dataspace.claims.credentials import read_credential
from dataspace.claims.jwts import sign_jwt
from dataspace.claims.presentations import issue_presentations
from dataspace.claims.verifier import member_of
from dataspace.errors import ProtocolViolation
from dataspace.settings import ParticipantKind

from .claims_examples import (
    HOLDER,
    ISSUER,
    NOW,
    OTHER,
    V2,
    VERIFIER,
    Written,
    date,
    party,
    shown,
)


def test_a_valid_presentation_shows_its_credential() -> None:
    (credential,) = shown(Written().presentation())
    assert credential.subject == HOLDER.did
    assert credential.issuer == ISSUER.did
    assert credential.kind == "MembershipCredential"
    assert credential.expires_at == NOW + 3600
    assert not credential.enveloped


STRANGER = party("did:web:stranger.example")

ALTERED: dict[str, tuple[Written, str]] = {
    "the credential has expired": (Written(vc={"expirationDate": date(-100)}), "has expired"),
    "its token has expired": (Written(vc_claims={"exp": NOW - 100}), "has expired"),
    "it begins later": (Written(vc={"issuanceDate": date(3600)}), "not valid yet"),
    "its token begins later": (Written(vc_claims={"nbf": NOW + 3600}), "not valid yet"),
    "it was issued later": (Written(vc_claims={"iat": NOW + 3600}), "in the future"),
    "its time is none": (Written(vc_claims={"exp": "soon"}), "no time"),
    "its date is none": (Written(vc={"expirationDate": "soon"}), "no xsd:dateTime"),
    "its date has no zone": (Written(vc={"expirationDate": "2030-01-01T00:00:00"}), "no xsd"),
    "it is about another": (
        Written(vc={"credentialSubject": {"id": OTHER.did}}, vc_claims={"sub": OTHER.did}),
        "about another than the one who shows it",
    ),
    "it names two subjects": (Written(vc_claims={"sub": OTHER.did}), "two subjects"),
    "it has two subjects": (
        Written(vc={"credentialSubject": [{"id": HOLDER.did}, {"id": OTHER.did}]}),
        "whom it is about",
    ),
    "it is about nobody": (Written(vc={"credentialSubject": {"kind": "x"}}), "whom it is about"),
    "it has no type": (Written(vc={"type": None}), "type"),
    "it names another issuer": (Written(vc={"issuer": OTHER.did}), "another issuer"),
    "another signed it": (Written(issuer=OTHER), "not its issuer's"),
    "a key nobody lists signed it": (Written(issuer=STRANGER), "nobody lists"),
    "its schema is of no kind we check": (
        Written(vc={"credentialSchema": {"id": "https://s.example", "type": "ShEx"}}),
        "JSON schema",
    ),
    "the presentation has expired": (Written(vp_claims={"exp": NOW - 100}), "has expired"),
    "the presentation never ends": (Written(vp_claims={"exp": None}), "has no end"),
    "the presentation begins later": (Written(vp_claims={"nbf": NOW + 100}), "not valid yet"),
    "the presentation is for another": (Written(vp_claims={"aud": OTHER.did}), "another verifier"),
    "the presentation is for several": (
        Written(vp_claims={"aud": [VERIFIER, OTHER.did]}),
        "another verifier",
    ),
    "the presentation is for nobody": (Written(vp_claims={"aud": None}), "another verifier"),
    "the presentation has another sub": (Written(vp_claims={"sub": OTHER.did}), "by another"),
    "the presentation has another holder": (Written(vp={"holder": OTHER.did}), "by another"),
    "another made the presentation": (
        Written(
            holder=OTHER,
            vp={"holder": OTHER.did},
            vp_claims={"iss": OTHER.did, "sub": OTHER.did},
        ),
        "by another",
    ),
    "another signed the presentation": (Written(holder=OTHER), "not its issuer's"),
    "the presentation is no object": (Written(vp_claims={"vp": ["x"]}), "no object"),
    "the credential is no JWT": (Written(vp={"verifiableCredential": [{"id": 7}]}), "no JWT"),
    "the credential is rubbish": (Written(vp={"verifiableCredential": ["a.b.c"]}), "malformed"),
    "there are too many": (Written(vp={"verifiableCredential": ["a.b.c"] * 17}), "more than 16"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_each_single_alteration_is_refused_with_its_reason(what: str) -> None:
    altered, reason = ALTERED[what]
    with pytest.raises(ProtocolViolation, match=reason):
        shown(altered.presentation())


def test_one_wrong_credential_makes_the_presentation_wrong() -> None:
    right, wrong = Written(), Written(vc={"expirationDate": date(-100)})
    with pytest.raises(ProtocolViolation, match="has expired"):
        shown(right.presentation(right.credential(), wrong.credential()))


def test_every_altered_letter_of_the_signature_is_noticed() -> None:
    token = Written().presentation()
    head, _, signature = token.rpartition(".")
    for place in range(0, len(signature) - 1, 7):
        letter = "A" if signature[place] != "A" else "B"
        altered = f"{head}.{signature[:place]}{letter}{signature[place + 1 :]}"
        with pytest.raises(ProtocolViolation, match="signature is wrong"):
            shown(altered)


@pytest.mark.parametrize(
    "header",
    [
        [],
        None,
        {},
        {"alg": []},
        {"alg": "none", "kid": HOLDER.kid},
        {"alg": "HS256", "kid": HOLDER.kid},
        {"alg": "ES256", "kid": 7},
        {"alg": "ES256", "kid": HOLDER.kid, "crit": 7},
        {"alg": "ES256", "kid": HOLDER.kid, "crit": ["b64"], "b64": False},
        {"alg": "Ed25519", "kid": HOLDER.kid},
    ],
)
def test_a_header_of_any_shape_is_refused_and_breaks_nothing(header: object) -> None:
    _, payload, signature = Written().presentation().split(".")
    written = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    with pytest.raises(ProtocolViolation, match=r"malformed|names no key"):
        shown(f"{written}.{payload}.{signature}")


def test_nothing_shown_is_refused_and_so_is_what_is_no_jwt() -> None:
    with pytest.raises(ProtocolViolation, match="no presentation"):
        shown()
    with pytest.raises(ProtocolViolation, match="no JWT"):
        shown({"type": "VerifiablePresentation"})
    with pytest.raises(ProtocolViolation, match="more than 16"):
        shown(*["x"] * 17)


def test_an_issuer_that_writes_the_credentials_id_into_sub_is_understood() -> None:
    (credential,) = shown(Written(vc_claims={"sub": "urn:uuid:1"}).presentation())
    assert credential.subject == HOLDER.did


def _of_data_model_2(**changes: Any) -> str:
    claims = {
        "@context": [V2],
        "id": "urn:uuid:2",
        "type": ["VerifiableCredential", "MembershipCredential"],
        "issuer": ISSUER.did,
        "validFrom": date(-60),
        "validUntil": date(3600),
        "credentialSubject": {"id": HOLDER.did},
    }
    return sign_jwt(claims | changes, ISSUER)


def test_each_data_model_gets_a_presentation_of_its_own_and_reads_back() -> None:
    older, newer = Written().opened(), read_credential(_of_data_model_2(), now=NOW)
    presentations = issue_presentations(HOLDER, [older, newer], audience=VERIFIER, now=NOW)
    assert len(presentations) == 2
    found = {one.enveloped: one.jwt for one in shown(*presentations)}
    assert found == {False: older.jwt, True: newer.jwt}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"validUntil": date(-100)}, "has expired"),
        ({"validFrom": date(100)}, "not valid yet"),
        ({"issuer": {"id": OTHER.did}}, "not its issuer's"),
    ],
)
def test_dates_and_issuer_of_the_data_model_2_count(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ProtocolViolation, match=reason):
        shown(Written().presentation(_of_data_model_2(**changes)))


def test_no_credential_is_shown_where_there_is_none() -> None:
    assert issue_presentations(HOLDER, [], audience=VERIFIER, now=NOW) == []


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("enterprise", ParticipantKind.ENTERPRISE),
        ("regulator", ParticipantKind.CONSUMER),
        ("operator", ParticipantKind.CONSUMER),
        ("emperor", ParticipantKind.CONSUMER),
        (None, ParticipantKind.CONSUMER),
    ],
)
def test_an_issuer_that_is_not_the_operator_makes_nobody_more_than_a_participant(
    said: str | None, kind: ParticipantKind
) -> None:
    about = {"id": HOLDER.did, "kind": said, "zones": ["port"]}
    member = member_of(Written(vc={"credentialSubject": about}).opened())
    assert (member.kind, member.zones) == (kind, ())
