"""What a credential points to is fetched within bounds, believed only if its issuer signed it, and
never makes a bad credential a good one."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from dataspace.claims.jwts import sign_jwt
from dataspace.claims.outside import Outside
from dataspace.claims.schemas import Schemas, parse_schema
from dataspace.claims.status import REMEMBERED_S, StatusLists
from dataspace.errors import ProtocolViolation, Unavailable
from dataspace.identity.status_list import StatusList, encode_list
from dataspace.identity.tokens import Identity

from .claims_examples import HOLDER, ISSUER, NOW, OTHER, V2, Written, key_of

URL = "https://issuer.example/list/1"
FINAL = {"type": "BitstringStatusListEntry", "statusPurpose": "revocation"}
DRAFT = {"type": "StatusList2021Entry", "statusPurpose": "revocation"}


class Served:
    """What is served at addresses; nothing anywhere else."""

    def __init__(self, **at: bytes) -> None:
        self.at = {URL: b""} | at
        self.asked: list[str] = []
        self.now = float(NOW)

    def get(self, url: str) -> bytes:
        self.asked.append(url)
        if url not in self.at:
            raise Unavailable("nobody is there")
        return self.at[url]

    def lists(self) -> StatusLists:
        return StatusLists(cast(Outside, self), key_of, lambda: self.now)


def _list(*revoked: int, by: Identity = ISSUER, draft: bool = False, **changes: Any) -> bytes:
    encoded = encode_list(StatusList.of(revoked))
    about = {
        "id": f"{URL}#list",
        "type": "StatusList2021" if draft else "BitstringStatusList",
        "statusPurpose": "revocation",
        "encodedList": encoded[1:] if draft else encoded,
        **changes,
    }
    claims = {
        "@context": [V2],
        "type": ["VerifiableCredential", "BitstringStatusListCredential"],
        "issuer": by.did,
        "validFrom": "2020-01-01T00:00:00Z",
        "credentialSubject": about,
    }
    return sign_jwt(claims, by).encode()


def _credential(index: int = 7, entry: dict[str, str] | None = None) -> Written:
    status = {"statusListIndex": str(index), "statusListCredential": URL, **(entry or FINAL)}
    return Written(vc={"credentialStatus": status})


@pytest.mark.parametrize(("entry", "draft"), [(FINAL, False), (DRAFT, True)])
def test_a_revoked_credential_is_refused_and_its_neighbour_is_not(
    entry: dict[str, str], draft: bool
) -> None:
    served = Served(**{URL: _list(7, draft=draft)})
    lists = served.lists()
    lists.verify(_credential(6, entry).opened())
    with pytest.raises(ProtocolViolation, match="revoked by its issuer"):
        lists.verify(_credential(7, entry).opened())
    assert served.asked == [URL]


def test_a_revocation_is_learnt_of_once_the_list_is_fetched_again() -> None:
    served = Served(**{URL: _list()})
    lists = served.lists()
    lists.verify(_credential().opened())
    served.at[URL] = _list(7)
    lists.verify(_credential().opened())
    served.now += REMEMBERED_S
    with pytest.raises(ProtocolViolation, match="revoked"):
        lists.verify(_credential().opened())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (_list(by=OTHER), "not signed by the credential's issuer"),
        (b'{"type": ["VerifiableCredential", "BitstringStatusListCredential"]}', "malformed"),
        (b"\xff\xfe", "no signed credential"),
        (_list(statusPurpose="suspension"), "not one for revocation"),
        (_list(encodedList="u"), "status list"),
        (_list(type="Something"), "status list"),
    ],
    # Not by what was signed, which is another text in each process.
    ids=["another's", "unsigned", "no text", "another purpose", "empty", "another type"],
)
def test_a_list_that_proves_nothing_makes_no_credential_good(body: bytes, reason: str) -> None:
    with pytest.raises(ProtocolViolation, match=reason):
        Served(**{URL: body}).lists().verify(_credential().opened())


def test_a_list_that_cannot_be_had_makes_no_credential_good() -> None:
    elsewhere = {**FINAL, "statusListCredential": "https://gone.example"}
    with pytest.raises(Unavailable):
        Served().lists().verify(_credential(7, elsewhere).opened())


def test_a_status_of_an_unknown_kind_makes_no_credential_good() -> None:
    with pytest.raises(ProtocolViolation, match="credentialStatus"):
        Served().lists().verify(_credential(7, {"type": "SomethingElse"}).opened())


SCHEMA = {
    "$schema": "http://json-schema.org/draft-04/schema#",
    "type": "object",
    "properties": {"id": {"type": "string"}, "pattern": {"type": "string"}},
    "required": ["id", "pattern"],
}
SCHEMA_URL = "https://issuer.example/schema"


def _held(about: dict[str, Any], kind: str, schema: dict[str, Any] | bytes) -> None:
    body = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    named = {"id": SCHEMA_URL, "type": kind}
    written = Written(
        vc={"credentialSubject": {"id": HOLDER.did, **about}, "credentialSchema": named}
    )
    Schemas(cast(Outside, Served(**{SCHEMA_URL: body}))).verify(written.opened())


def test_a_credential_that_fits_its_schema_counts_and_another_does_not() -> None:
    _held({"pattern": "striped"}, "JsonSchemaValidator2018", SCHEMA)
    with pytest.raises(ProtocolViolation, match="does not fit its schema: required") as refused:
        _held({"baz": "quazz"}, "JsonSchemaValidator2018", SCHEMA)
    assert "quazz" not in str(refused.value)


def test_the_newer_kind_of_schema_is_of_the_whole_credential() -> None:
    whole = {"type": "object", "required": ["credentialSubject"]}
    _held({}, "JsonSchema", whole)
    with pytest.raises(ProtocolViolation, match="does not fit"):
        _held({}, "JsonSchemaValidator2018", whole)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://inside.example/"},
        {"allOf": [{"$ref": "#"}]},
        {"properties": {"id": {"pattern": "(a+)+$"}}},
        {"properties": {"properties": {"patternProperties": {"x": {}}}}},
        {"type": "nothing-known"},
        b"[]",
        b"no JSON",
        b" " * (64 * 1024 + 1),
    ],
)
def test_a_schema_that_could_not_be_checked_safely_is_not_taken_as_met(
    schema: dict[str, Any] | bytes,
) -> None:
    from contracts.errors import ContractError

    with pytest.raises((ProtocolViolation, ContractError)):
        _held({}, "JsonSchemaValidator2018", schema)


def test_a_property_may_have_any_name() -> None:
    assert parse_schema(json.dumps(SCHEMA).encode()) == SCHEMA
