"""Access tokens of an identity provider: what counts, what does not, and while it is away."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from dataspace.access.oidc import KEEP_S, MAX_DOCUMENT_BYTES, REFETCH_AFTER_S, REFRESH_S, Provider
from dataspace.access.permissions import Role
from dataspace.access.trust import Trust
from dataspace.errors import InputRejected, Unauthenticated, Unavailable

from .identity_provider import AUDIENCE, ISSUER, IdentityProvider, rsa_key

TRUST = Trust(ISSUER, AUDIENCE, "roles", {"city-stewards": Role.STEWARD, "audit": Role.AUDITOR})


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def trusting(idp: IdentityProvider, clock: Clock | None = None, trust: Trust = TRUST) -> Provider:
    return Provider(trust, idp.client(), local=False, clock=clock or Clock())


def test_a_person_with_a_good_token_has_the_roles_that_the_settings_name() -> None:
    idp = IdentityProvider()
    known = trusting(idp).recognise(idp.token(roles=["city-stewards", "audit", "cooks"]))
    assert (known.person, known.roles) == ("zhang", {Role.STEWARD, Role.AUDITOR})


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["audit"]}}),
        ("scope", {"scope": "openid audit"}),
        ("https://city/roles", {"https://city/roles": ["audit"]}),
    ],
)
def test_roles_are_found_where_the_setting_says(claim: str, said: dict[str, Any]) -> None:
    idp = IdentityProvider()
    trust = Trust(ISSUER, AUDIENCE, claim, TRUST.roles)
    assert trusting(idp, trust=trust).recognise(idp.token(**said)).roles == {Role.AUDITOR}


def test_somebody_without_a_role_here_is_known_and_may_do_nothing() -> None:
    idp = IdentityProvider()
    for roles in (None, [], "cooks", [1, None], {"a": 1}):
        assert trusting(idp).recognise(idp.token(roles=roles)).roles == frozenset()


NOW = int(time.time())
WRONG: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://other.example"},
    "another audience": {"aud": "https://other.example"},
    "another audience in a list": {"aud": ["https://other.example"]},
    "no audience": {"aud": None},
    "nobody": {"sub": None},
    "an empty subject": {"sub": ""},
    "a subject that is no text": {"sub": 7},
    "expired": {"exp": NOW - 60},
    "no end": {"exp": None},
    "an end that is no time": {"exp": True},
    "not yet": {"nbf": NOW + 600},
    "issued in the future": {"iat": NOW + 600},
    "no beginning": {"iat": None},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_a_token_that_says_something_wrong_is_refused(changes: dict[str, Any]) -> None:
    idp = IdentityProvider()
    with pytest.raises(Unauthenticated):
        trusting(idp).recognise(idp.token(**changes))


@pytest.mark.parametrize(
    "header", [{"typ": "JWT"}, {"typ": "id_token+jwt"}, {"kid": "other"}, {"crit": ["kid"]}]
)
def test_a_token_of_another_type_or_key_is_refused(header: dict[str, Any]) -> None:
    idp = IdentityProvider()
    with pytest.raises(Unauthenticated):
        trusting(idp).recognise(idp.token(header=header))


def unsigned(claims: dict[str, Any], algorithm: str) -> str:
    parts = ({"alg": algorithm, "kid": "one", "typ": "at+jwt"}, claims)
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
    )


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256"])
def test_an_unsigned_token_is_refused(algorithm: str) -> None:
    idp = IdentityProvider()
    claims = jwt.decode(idp.token(), idp.key, algorithms=["ES256"]).claims
    with pytest.raises(Unauthenticated, match="not signed with one of"):
        trusting(idp).recognise(unsigned(dict(claims), algorithm) + ".")


def test_a_public_key_is_no_shared_secret() -> None:
    idp = IdentityProvider(key=rsa_key(), algorithm="RS256")
    secret = idp.key.as_pem(private=False)  # type: ignore[attr-defined]
    claims = jwt.decode(idp.token(), idp.key, algorithms=["RS256"]).claims
    signed = unsigned(dict(claims), "HS256")
    mac = hmac.digest(secret, signed.encode(), "sha256")
    forged = f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
    with pytest.raises(Unauthenticated, match="not signed with one of"):
        trusting(idp).recognise(forged)


def test_another_signature_under_the_same_key_id_is_refused() -> None:
    idp, thief = IdentityProvider(), IdentityProvider()
    with pytest.raises(Unauthenticated, match="signature"):
        trusting(idp).recognise(thief.token())
    changed = idp.token().split(".")
    other = idp.token(sub="li").split(".")
    with pytest.raises(Unauthenticated, match="signature"):
        trusting(idp).recognise(".".join((changed[0], other[1], changed[2])))


@pytest.mark.parametrize("given", ["..", "a.b.c", "é.b.c", "e30.e30.", "e30.e30.AA"])
def test_what_is_no_token_is_refused(given: str) -> None:
    with pytest.raises(Unauthenticated):
        trusting(IdentityProvider()).recognise(given)


def test_keys_are_fetched_once_and_looked_at_again_after_an_hour() -> None:
    idp, clock = IdentityProvider(), Clock()
    provider = trusting(idp, clock)
    for _ in range(3):
        provider.recognise(idp.token())
    assert len(idp.asked) == 2, "the configuration and the keys"
    clock.now += REFRESH_S
    provider.recognise(idp.token(iat=int(clock.now), exp=int(clock.now) + 60))
    assert len(idp.asked) == 4


def test_a_new_key_counts_as_soon_as_a_token_names_it_and_invented_ones_make_us_fetch_seldom() -> (
    None
):
    idp, clock = IdentityProvider(), Clock()
    provider = trusting(idp, clock)
    provider.recognise(idp.token())
    for _ in range(20):
        with pytest.raises(Unauthenticated):
            provider.recognise(idp.token(header={"kid": "invented"}))
    assert len(idp.asked) == 2
    clock.now += REFETCH_AFTER_S
    idp.kid, idp.key = "two", ECKey.generate_key("P-256")
    assert provider.recognise(idp.token()).person == "zhang"
    assert len(idp.asked) == 4


def test_while_the_provider_is_away_its_known_keys_count_for_a_day() -> None:
    idp, clock = IdentityProvider(), Clock()
    provider = trusting(idp, clock)
    provider.recognise(idp.token())
    idp.away = True
    for later in (REFRESH_S, KEEP_S - REFRESH_S - 1):
        clock.now += later
        token = idp.token(iat=int(clock.now), exp=int(clock.now) + 60)
        assert provider.recognise(token).person == "zhang"
    clock.now += 2
    with pytest.raises(Unavailable):
        provider.recognise(idp.token(iat=int(clock.now), exp=int(clock.now) + 60))


def test_without_its_keys_nobody_can_tell_and_that_is_said_as_such() -> None:
    idp = IdentityProvider(away=True)
    with pytest.raises(Unavailable):
        trusting(idp).recognise(idp.token())


@pytest.mark.parametrize(
    "configuration",
    [
        {"issuer": f"{ISSUER}/"},
        {"jwks_uri": None},
        {"jwks_uri": "http://idp.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"padding": "x" * MAX_DOCUMENT_BYTES},
    ],
    ids=["another issuer", "no keys", "in the open", "no address", "too large"],
)
def test_a_configuration_that_is_not_the_issuers_is_not_used(configuration: dict[str, Any]) -> None:
    idp = IdentityProvider(configuration=configuration)
    with pytest.raises(Unavailable):
        trusting(idp).recognise(idp.token())


@pytest.mark.filterwarnings("ignore:Key size")
def test_weak_foreign_and_secret_keys_in_the_set_are_passed_over() -> None:
    weak = {**rsa_key(1024).as_dict(private=False), "kid": "one"}
    encrypts = {**ECKey.generate_key("P-256").as_dict(private=False), "kid": "enc", "use": "enc"}
    idp = IdentityProvider(
        more_keys=[weak, encrypts, {"kty": "oct", "k": "AAAA", "kid": "s"}, {"kty": "new"}, 7]  # type: ignore[list-item]
    )
    provider = trusting(idp)
    assert provider.recognise(idp.token()).person == "zhang"
    for kid in ("enc", "s"):
        with pytest.raises(Unauthenticated, match="does not list"):
            provider.recognise(idp.token(header={"kid": kid}))


def test_an_issuer_in_the_open_is_refused_but_in_a_local_space() -> None:
    trust = Trust("http://127.0.0.1:9/idp", AUDIENCE, "roles", {})
    with pytest.raises(InputRejected, match="https"):
        Provider(trust, IdentityProvider().client(), local=False)
    Provider(trust, IdentityProvider().client(), local=True)
