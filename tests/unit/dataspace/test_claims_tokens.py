"""Self-issued tokens of nodes of other makes (Decentralized Claims Protocol 1.0, §4.3.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt

from dataspace.claims.documents import describe
from dataspace.errors import ProtocolViolation, Unauthenticated
from dataspace.identity.did import ListedKey, Resolver, document_of_node
from dataspace.identity.keys import VerificationKey
from dataspace.identity.tokens import Claims, open_token
from dataspace.peers import CLAIMS_LIFETIME_S

from .claims_examples import HOLDER, NOW, OTHER, VERIFIER, key_of


def _token(*, kid: str | None = HOLDER.kid, **changes: Any) -> str:
    claims = {
        "iss": HOLDER.did,
        "sub": HOLDER.did,
        "aud": VERIFIER,
        "iat": NOW,
        "exp": NOW + 600,
        "jti": "a-jti-that-is-long",
        "token": "opaque",
    }
    written = {name: value for name, value in (claims | changes).items() if value is not None}
    header = {"alg": HOLDER.alg} if kid is None else {"alg": HOLDER.alg, "kid": kid}
    return jwt.encode(header, written, HOLDER.key, algorithms=[HOLDER.alg])


def _open(token: str, keys: Callable[[str], VerificationKey] = key_of) -> Claims:
    return open_token(token, audience=VERIFIER, now=NOW, key_of=keys, lifetime_s=CLAIMS_LIFETIME_S)


def test_a_token_that_lives_ten_minutes_is_taken_with_its_access_token() -> None:
    claims = _open(_token())
    assert (claims.did, claims.access, claims.membership) == (HOLDER.did, "opaque", None)


def test_an_audience_may_be_written_as_a_list_of_one() -> None:
    assert _open(_token(aud=[VERIFIER])).did == HOLDER.did


def test_a_token_that_names_no_key_is_opened_with_its_issuers_only_one() -> None:
    asked: list[str] = []

    def only_key(name: str) -> VerificationKey:
        asked.append(name)
        return HOLDER.key

    assert _open(_token(kid=None), only_key).did == HOLDER.did
    assert asked == [HOLDER.did]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nbf": NOW + 60}, "not valid yet"),
        ({"nbf": "soon"}, "not valid yet"),
        ({"iat": NOW + 60}, "in the future"),
        ({"exp": NOW - 60}, "expired"),
        ({"exp": NOW + 3600}, "lives longer"),
        ({"exp": None}, "no iat or no exp"),
        ({"aud": OTHER.did}, "another node"),
        ({"aud": [VERIFIER, OTHER.did]}, "another node"),
        ({"aud": None}, "another node"),
        ({"sub": OTHER.did}, "iss and sub differ"),
        ({"iss": OTHER.did, "sub": OTHER.did}, "not its issuer's"),
        ({"jti": None}, "no usable jti"),
        ({"token": {"a": 1}}, "no text"),
        ({"kid": OTHER.kid}, "signature is wrong"),
    ],
)
def test_each_single_alteration_is_refused_with_its_reason(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unauthenticated, match=reason):
        _open(_token(**changes))


class Documents(Resolver):
    """A resolver over documents that are at hand."""

    def __init__(self, **documents: dict[str, Any]) -> None:
        super().__init__(None, local=True)  # type: ignore[arg-type]
        self.documents = documents

    def _fetch(self, did: str) -> tuple[dict[str, Any], float]:
        return self.documents[did], 300.0


def _document(*keys: ListedKey, **changes: Any) -> dict[str, Any]:
    """The holder's; what the changes set to None is gone."""
    plain = document_of_node(did=HOLDER.did, url="https://holder.example", keys=list(keys))
    written = describe(plain, url="https://holder.example", issues=True) | changes
    return {name: value for name, value in written.items() if value is not None}


def _resolver(*keys: ListedKey, **changes: Any) -> Documents:
    return Documents(**{HOLDER.did: _document(*keys, **changes)})


OWN = ListedKey(HOLDER.key)


def test_a_document_says_where_the_services_are_and_which_keys_sign_tokens() -> None:
    resolver = _resolver(OWN)
    base = "https://holder.example/claims"
    assert resolver.service(HOLDER.did, "CredentialService") == f"{base}/holder"
    assert resolver.service(HOLDER.did, "IssuerService") == f"{base}/issuer"
    assert resolver.invocation_key(HOLDER.kid).thumbprint() == HOLDER.key.thumbprint()
    assert resolver.invocation_key(HOLDER.did).thumbprint() == HOLDER.key.thumbprint()
    with pytest.raises(ProtocolViolation, match="lists no Laundry"):
        resolver.service(HOLDER.did, "Laundry")


def test_a_key_that_may_not_sign_tokens_signs_none() -> None:
    with pytest.raises(ProtocolViolation, match="capabilityInvocation"):
        _resolver(OWN, capabilityInvocation=[]).invocation_key(HOLDER.kid)
    retired = ListedKey(HOLDER.key, authenticates=False)
    with pytest.raises(ProtocolViolation, match="capabilityInvocation"):
        _resolver(retired).invocation_key(HOLDER.kid)


def test_older_documents_name_such_keys_as_those_that_authenticate() -> None:
    resolver = _resolver(OWN, capabilityInvocation=None)
    assert resolver.invocation_key(HOLDER.kid).thumbprint() == HOLDER.key.thumbprint()


def test_without_a_kid_one_of_two_keys_is_not_guessed() -> None:
    with pytest.raises(ProtocolViolation, match="exactly one"):
        _resolver(OWN, ListedKey(OTHER.key)).invocation_key(HOLDER.did)


@pytest.mark.parametrize(
    "services", [None, "x", [7], [{"type": "CredentialService"}], [{"type": [], "id": 1}]]
)
def test_strange_lists_of_services_name_none(services: Any) -> None:
    with pytest.raises(ProtocolViolation, match="lists no CredentialService"):
        _resolver(OWN, service=services).service(HOLDER.did, "CredentialService")
