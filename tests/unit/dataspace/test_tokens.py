"""A token proves who sends one request to one node, within a minute, once."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwt
from joserfc.jwk import OctKey

from dataspace.errors import Unauthenticated
from dataspace.identity.keys import VerificationKey
from dataspace.identity.tokens import (
    CLOCK_SKEW_S,
    CREDENTIAL_LIFETIME_S,
    TOKEN_LIFETIME_S,
    Identity,
    issue_credential,
    issue_token,
    open_credential,
    open_token,
)
from dataspace.settings import ParticipantKind

NOW = 1_800_000_000
ME = "did:web:me.example"


def identity(did: str) -> Identity:
    return Identity.of(did, Ed25519PrivateKey.generate())


def keys_of(*identities: Identity) -> Callable[[str], VerificationKey]:
    known = {one.kid: one.key for one in identities}
    return lambda kid: known[kid]


PEER = identity("did:web:peer.example")
OTHER = identity("did:web:other.example")
OPERATOR = identity("did:web:operator.example")
KEY_OF = keys_of(PEER, OTHER, OPERATOR)


def token(**changes: object) -> str:
    asked = {"audience": ME, "now": NOW, "membership": None, **changes}
    return issue_token(PEER, **asked)  # type: ignore[arg-type]


def test_a_fresh_token_for_us_names_its_sender() -> None:
    claims = open_token(token(), audience=ME, now=NOW + 5, key_of=KEY_OF)
    assert claims.did == PEER.did
    assert claims.expires_at == NOW + TOKEN_LIFETIME_S


def test_two_tokens_never_share_their_id() -> None:
    opened = [open_token(token(), audience=ME, now=NOW, key_of=KEY_OF) for _ in range(2)]
    assert opened[0].jti != opened[1].jti


def test_a_token_for_another_node_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="addressed to another node"):
        open_token(token(audience="did:web:else"), audience=ME, now=NOW, key_of=KEY_OF)


def test_an_expired_token_is_refused_and_says_what_to_do() -> None:
    late = NOW + TOKEN_LIFETIME_S + CLOCK_SKEW_S
    with pytest.raises(Unauthenticated, match="expired 30 seconds ago") as refused:
        open_token(token(), audience=ME, now=late, key_of=KEY_OF)
    assert refused.value.remedy == "send a fresh token with each request"


def test_a_token_from_the_future_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="in the future"):
        open_token(token(now=NOW + 3600), audience=ME, now=NOW, key_of=KEY_OF)


def test_a_token_that_would_live_for_hours_is_refused() -> None:
    claims = {"iss": PEER.did, "sub": PEER.did, "aud": ME, "iat": NOW, "jti": "12345678"}
    header = {"alg": "Ed25519", "kid": PEER.kid}
    long_lived = jwt.encode(header, {**claims, "exp": NOW + 7200}, PEER.key, algorithms=["Ed25519"])
    with pytest.raises(Unauthenticated, match="lives longer"):
        open_token(long_lived, audience=ME, now=NOW, key_of=KEY_OF)


def test_a_token_signed_with_somebody_elses_key_is_refused() -> None:
    claims = {"iss": PEER.did, "sub": PEER.did, "aud": ME, "iat": NOW, "exp": NOW + 60}
    header = {"alg": "Ed25519", "kid": OTHER.kid}
    forged = jwt.encode(header, {**claims, "jti": "12345678"}, OTHER.key, algorithms=["Ed25519"])
    with pytest.raises(Unauthenticated, match="not its issuer's"):
        open_token(forged, audience=ME, now=NOW, key_of=KEY_OF)


def test_a_token_made_with_the_public_key_as_a_shared_secret_is_refused() -> None:
    claims = {"iss": PEER.did, "sub": PEER.did, "aud": ME, "iat": NOW, "exp": NOW + 60}
    secret = OctKey.import_key(str(PEER.key.as_dict(private=False)["x"]) * 2)
    header = {"alg": "HS256", "kid": PEER.kid}
    forged = jwt.encode(header, {**claims, "jti": "12345678"}, secret)
    with pytest.raises(Unauthenticated):
        open_token(forged, audience=ME, now=NOW, key_of=KEY_OF)


@pytest.mark.parametrize("rubbish", ["", "a.b.c", "x" * 9000, "..", "e30.e30.", "\x00"])
def test_rubbish_is_refused(rubbish: str) -> None:
    with pytest.raises(Unauthenticated):
        open_token(rubbish, audience=ME, now=NOW, key_of=KEY_OF)


def test_every_altered_letter_of_a_signature_is_noticed() -> None:
    good = token()
    start = good.rindex(".") + 1
    # The last letter carries unused bits, which decode to the same signature.
    for at in range(start, len(good) - 1):
        letter = "A" if good[at] != "A" else "B"
        altered = good[:at] + letter + good[at + 1 :]
        with pytest.raises(Unauthenticated):
            open_token(altered, audience=ME, now=NOW, key_of=KEY_OF)


def credential(**changes: object) -> str:
    asked = {"subject": PEER.did, "kind": ParticipantKind.PERSONAL, "name": "Trust", "now": NOW}
    return issue_credential(OPERATOR, **{**asked, **changes})  # type: ignore[arg-type]


def opened(text: str, **changes: object) -> object:
    asked = {"subject": PEER.did, "operator": OPERATOR.did, "now": NOW, "key_of": KEY_OF}
    return open_credential(text, **{**asked, **changes})  # type: ignore[arg-type]


def test_a_credential_says_what_its_subject_is() -> None:
    found = open_credential(
        credential(), subject=PEER.did, operator=OPERATOR.did, now=NOW, key_of=KEY_OF
    )
    member, until = found.member, found.expires_at
    assert (member.did, member.kind, member.name) == (PEER.did, ParticipantKind.PERSONAL, "Trust")
    assert (member.zones, until) == ((), NOW + CREDENTIAL_LIFETIME_S)


def test_a_credential_names_the_zones_of_its_subject() -> None:
    named = credential(zones=("qianhai-ftz", "港区"))
    asked = {"subject": PEER.did, "operator": OPERATOR.did, "now": NOW, "key_of": KEY_OF}
    assert open_credential(named, **asked).member.zones == ("qianhai-ftz", "港区")  # type: ignore[arg-type]


@pytest.mark.parametrize("zones", [("a b",), ("",), ("x" * 65,), ("zone",) * 33, (1,)])
def test_zones_that_are_no_short_names_are_refused(zones: tuple[object, ...]) -> None:
    with pytest.raises(Unauthenticated, match="zones are not a list of names"):
        opened(credential(zones=zones))


def test_a_borrowed_credential_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="belongs to another participant"):
        opened(credential(subject=OTHER.did))


def test_a_credential_of_another_operator_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="not issued by this space's operator"):
        opened(credential(), operator="did:web:elsewhere.example")


def test_an_expired_credential_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="expired"):
        opened(credential(), now=NOW + CREDENTIAL_LIFETIME_S + CLOCK_SKEW_S)
