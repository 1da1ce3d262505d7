"""Who may read what: scopes, access tokens that carry them, and what the token service wants."""

from __future__ import annotations

import pytest

from dataspace.claims.access import ACCESS_LIFETIME_S, issue_access, open_access
from dataspace.claims.outside import Outside, verify_endpoint
from dataspace.claims.scopes import MEMBERSHIP_SCOPE, Alias, Scope, entitled, parse_scopes
from dataspace.claims.token_service import MAX_FORM_BYTES, parse_token_request
from dataspace.errors import InputRejected, ProtocolViolation, Unauthenticated
from dataspace.identity.addresses import AddressPolicy
from dataspace.outbound import outbound_client

from .claims_examples import HOLDER

NOW = 1_790_000_000
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
BEARER = "did:web:verifier.example"
TYPE = "org.eclipse.dspace.dcp.vc.type"
ID = "org.eclipse.dspace.dcp.vc.id"
SENSITIVE = Scope(Alias.TYPE, "SensitiveDataCredential")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (f"{TYPE}:MembershipCredential:read", {MEMBERSHIP_SCOPE}),
        (f"{TYPE}:MembershipCredential:*", {MEMBERSHIP_SCOPE}),
        (f"{TYPE}:MembershipCredential", {MEMBERSHIP_SCOPE}),
        (f"{ID}:urn:uuid:1", {Scope(Alias.ID, "urn:uuid:1")}),
        (f"{ID}:urn:uuid:1:read", {Scope(Alias.ID, "urn:uuid:1")}),
        # Nothing to read: for writing, or of an alias that somebody else made up.
        (f"{TYPE}:MembershipCredential:write", set()),
        ("elsewhere.example:MembershipCredential:read", set()),
    ],
)
def test_a_scope_names_credentials_by_type_or_by_id(written: str, read: set[Scope]) -> None:
    assert parse_scopes([written]) == read


@pytest.mark.parametrize(
    "written", ["", "MembershipCredential", ":", f"{TYPE}:", "a:b c", "a:" * 400]
)
def test_what_is_no_scope_is_refused(written: str) -> None:
    with pytest.raises(ProtocolViolation, match="scope"):
        parse_scopes([written])


def test_too_many_scopes_are_refused() -> None:
    with pytest.raises(ProtocolViolation, match="at most"):
        parse_scopes([f"{TYPE}:T{number}" for number in range(33)])


def test_who_asks_for_more_than_was_granted_is_shown_what_was() -> None:
    granted = frozenset({MEMBERSHIP_SCOPE})
    assert entitled(frozenset({MEMBERSHIP_SCOPE, SENSITIVE}), granted) == granted
    assert entitled(frozenset({SENSITIVE}), granted) == frozenset()
    assert entitled(frozenset({MEMBERSHIP_SCOPE}), frozenset({SENSITIVE})) == frozenset()


def _token(**changes: object) -> str:
    asked = {"bearer": BEARER, "scopes": [MEMBERSHIP_SCOPE], "now": NOW, **changes}
    return issue_access(KEY, **asked)  # type: ignore[arg-type]


def test_an_access_token_lets_its_bearer_read_what_it_names() -> None:
    token = _token(scopes=[SENSITIVE, MEMBERSHIP_SCOPE])
    until = NOW + ACCESS_LIFETIME_S - 1
    assert open_access(token, KEY, bearer=BEARER, now=until) == {SENSITIVE, MEMBERSHIP_SCOPE}


def test_an_access_token_is_small_enough_to_ride_in_every_request() -> None:
    assert len(_token()) < 320


@pytest.mark.parametrize(
    ("token", "asked", "reason"),
    [
        (_token(), {"bearer": "did:web:thief.example"}, "another participant"),
        (_token(), {"now": NOW + ACCESS_LIFETIME_S}, "expired"),
        (_token(), {"key": OTHER_KEY}, "not one of ours"),
        ("faketoken", {}, "not one of ours"),
        ("a.b.c", {}, "not one of ours"),
        ("x" * 5000, {}, "not one of ours"),
        (_token()[:-2] + "AA", {}, "not one of ours"),
    ],
)
def test_an_access_token_of_another_or_altered_is_refused(
    token: str, asked: dict[str, object], reason: str
) -> None:
    asked = {"key": KEY, "bearer": BEARER, "now": NOW, **asked}
    with pytest.raises(Unauthenticated, match=reason):
        open_access(token, **asked)  # type: ignore[arg-type]


FORM = (
    b"grant_type=client_credentials&client_id=me&client_secret=s3cret"
    b"&audience=did%3Aweb%3Averifier.example&bearer_access_scope=a%3Ab+c%3Ad"
)


def test_a_token_request_is_read_from_its_form() -> None:
    request = parse_token_request(FORM)
    assert (request.client_id, request.audience) == ("me", BEARER)
    assert request.access_scopes == ("a:b", "c:d")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"\xff",
        FORM.replace(b"client_credentials", b"password"),
        FORM.replace(b"client_id=me", b"client_id="),
        FORM.replace(b"&audience=did%3Aweb%3Averifier.example", b""),
        FORM.replace(b"did%3Aweb%3A", b"https%3A%2F%2F"),
        FORM + b"&client_id=you",
        FORM + b"&a=" + b"x" * MAX_FORM_BYTES,
        FORM + b"".join(b"&f%d=1" % number for number in range(20)),
    ],
)
def test_a_form_that_is_none_is_refused_without_its_secret(body: bytes) -> None:
    with pytest.raises(InputRejected) as refused:
        parse_token_request(body)
    assert "s3cret" not in refused.value.sentence


@pytest.mark.parametrize("url", ["https://cs.example/x", "http://127.0.0.1:8001/cs"])
def test_an_address_that_may_be_called_in_a_local_space(url: str) -> None:
    verify_endpoint(url, local=True)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8001/cs", False),
        ("http://cs.example/x", True),
        ("ftp://cs.example/x", True),
        ("file:///etc/passwd", True),
        ("https://user:pass@cs.example", True),
        ("https://", True),
        ("https://cs.example:0/x", True),
        ("https://cs.example:99999/x", True),
        ("https://cs.example/\n", True),
        ("https://cs.example/" + "x" * 2048, True),
    ],
)
def test_other_addresses_are_not_called(url: str, local: bool) -> None:
    with pytest.raises(ProtocolViolation):
        verify_endpoint(url, local=local)


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[::1]", "127.0.0.1"])
def test_what_a_credential_names_inside_our_network_is_not_called(host: str) -> None:
    with outbound_client(addresses=AddressPolicy(local=False)) as client:
        outside = Outside(client, lambda: HOLDER, local=False)
        with pytest.raises(ProtocolViolation, match="private network"):
            outside.get(f"https://{host}/list")
