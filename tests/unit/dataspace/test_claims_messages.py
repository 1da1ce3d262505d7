"""Messages of the claims protocol: ours fit the official schemas, those of others are judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft201909Validator
from referencing import Registry, Resource

from contracts.errors import ProtocolViolation
from dataspace.claims import messages as dcp
from dataspace.claims.messages import RequestStatus, parse
from dataspace.errors import Unsupported

SPECIFICATION = Path(__file__).resolve().parents[3].parent / "shared" / "dcp-1.0"
BASE = "https://w3id.org/dspace-dcp/v1.0"
ELSEWHERE = (
    "https://identity.foundation/presentation-exchange/schemas/presentation-definition.json",
    "https://identity.foundation/presentation-exchange/schemas/presentation-submission.json",
)
SCHEMA_OF: dict[type[dcp.Message], str] = {
    dcp.PresentationQueryMessage: "presentation/presentation-query-message",
    dcp.PresentationResponseMessage: "presentation/presentation-response-message",
    dcp.CredentialMessage: "issuance/credential-message",
    dcp.CredentialOfferMessage: "issuance/credential-offer-message",
    dcp.CredentialRequestMessage: "issuance/credential-request-message",
    dcp.CredentialStatus: "issuance/credential-status",
    dcp.IssuerMetadata: "issuance/issuer-metadata",
}
OBJECT = dcp.CredentialObject(
    id="d5c77b0e-7f4e-4fd5-8c5f-28b5fc3f96d1",
    type="CredentialObject",
    credential_type="MembershipCredential",
    credential_schema="https://operator.example/schema",
    offer_reason="reissue",
    binding_methods=("did:web",),
    profile="vc11-sl2021/jwt",
    issuance_policy={"id": "members", "input_descriptors": []},
)
CONTAINER = dcp.CredentialContainer(
    credential_type="MembershipCredential", payload="a.b.c", format="vc11-sl2021/jwt"
)
WRITTEN: list[dcp.Message] = [
    dcp.PresentationQueryMessage(scope=("org.eclipse.dspace.dcp.vc.type:Member:read",)),
    dcp.PresentationResponseMessage(presentation=("a.b.c",)),
    dcp.PresentationResponseMessage(presentation=()),
    dcp.CredentialMessage(
        issuer_pid="i", holder_pid="h", status=RequestStatus.ISSUED, credentials=(CONTAINER,)
    ),
    dcp.CredentialMessage(
        issuer_pid="i", holder_pid="h", status=RequestStatus.REJECTED, rejection_reason="no"
    ),
    dcp.CredentialOfferMessage(issuer="did:web:i", credentials=(OBJECT,)),
    dcp.CredentialRequestMessage(
        holder_pid="h", credentials=(dcp.CredentialReference(id=OBJECT.id),)
    ),
    dcp.CredentialStatus(issuer_pid="i", holder_pid="h", status=RequestStatus.RECEIVED),
    dcp.IssuerMetadata(issuer="did:web:i", credentials_supported=(OBJECT,)),
]


@pytest.fixture(scope="module")
def specification() -> Path:
    if not SPECIFICATION.is_dir():
        pytest.skip("the claims protocol's schemas are not beside the repository")
    return SPECIFICATION


@pytest.fixture(scope="module")
def faults(specification: Path) -> Callable[[dcp.Message], list[str]]:
    """The official schema's complaints about a message; none means valid."""
    loaded = {
        f"{BASE}/{path.parent.name}/{path.name}": json.loads(path.read_text())
        for path in specification.glob("*/*-schema.json")
    }
    # The files are named by where they are, which not all of them say of themselves. Objects of
    # Presentation Exchange, of which we write an empty one, are not looked into.
    resources = {**{url: {"type": "object"} for url in ELSEWHERE}, **loaded}
    resources |= {schema["$id"]: schema for schema in loaded.values()}
    registry = Registry().with_resources(
        (url, Resource.from_contents(schema, default_specification=_DRAFT))
        for url, schema in resources.items()
    )

    def check(message: dcp.Message) -> list[str]:
        schema = loaded[f"{BASE}/{SCHEMA_OF[type(message)]}-schema.json"]
        validator = Draft201909Validator(schema, registry=registry)
        return [fault.message for fault in validator.iter_errors(message.to_json())]

    return check


def _draft() -> Any:
    from referencing.jsonschema import DRAFT201909

    return DRAFT201909


_DRAFT = _draft()


@pytest.mark.parametrize("message", WRITTEN, ids=lambda one: type(one).__name__)
def test_what_we_write_fits_the_official_schema_and_reads_back(
    faults: Callable[[dcp.Message], list[str]], message: dcp.Message
) -> None:
    assert faults(message) == []
    assert parse(type(message), message.to_bytes()) == message


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (dcp.PresentationQueryMessage, "presentation/example/presentation-query-message"),
        (dcp.PresentationResponseMessage, "presentation/example/presentation-response-message"),
        (
            dcp.PresentationResponseMessage,
            "presentation/example/presentation-response-message-w-presentation-submission",
        ),
        (dcp.CredentialMessage, "issuance/example/credential-message"),
        (dcp.CredentialMessage, "issuance/example/credential-message-rejected"),
        (dcp.CredentialOfferMessage, "issuance/example/credential-offer-message"),
        (dcp.CredentialRequestMessage, "issuance/example/credential-request-message"),
        (dcp.CredentialStatus, "issuance/example/credential-status"),
        (dcp.IssuerMetadata, "issuance/example/issuer-metadata"),
    ],
)
def test_the_specifications_examples_are_read_and_written_as_they_were(
    specification: Path, model: type[dcp.Message], example: str
) -> None:
    body = (specification / f"{example}.json").read_bytes()
    assert parse(model, body).to_json() == json.loads(body)


def test_asking_by_presentation_definition_is_read_and_not_supported(specification: Path) -> None:
    name = "presentation/example/presentation-query-message-w-presentation-definition.json"
    query = parse(dcp.PresentationQueryMessage, (specification / name).read_bytes())
    with pytest.raises(Unsupported):
        query.scopes()


def _altered(message: dcp.Message, **changes: Any) -> bytes:
    body = message.to_json() | changes
    return json.dumps({name: value for name, value in body.items() if value != "GONE"}).encode()


QUERY, _, _, ISSUED, REJECTED, OFFER, REQUEST, _, _ = WRITTEN


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        (QUERY, {"@context": "GONE"}),
        (QUERY, {"@context": ["https://elsewhere.example"]}),
        (QUERY, {"type": "GONE"}),
        (QUERY, {"type": "PresentationResponseMessage"}),
        (QUERY, {"scope": "GONE"}),
        (QUERY, {"scope": []}),
        (QUERY, {"scope": None}),
        (QUERY, {"scope": [7]}),
        (QUERY, {"scope": ["a:b"] * 33}),
        (QUERY, {"presentationDefinition": {"id": "x"}}),
        (QUERY, {"scope": "GONE", "presentationDefinition": {}}),
        (QUERY, {"scope": "GONE", "presentationDefinition": None}),
        (ISSUED, {"status": "INVALID_STATUS"}),
        (ISSUED, {"status": "RECEIVED"}),
        (ISSUED, {"status": "REJECTED"}),
        (ISSUED, {"holderPid": "GONE"}),
        (ISSUED, {"issuerPid": "GONE"}),
        (ISSUED, {"credentials": "GONE"}),
        (ISSUED, {"credentials": [{"credentialType": "x", "format": "y"}]}),
        (REJECTED, {"status": "ISSUED"}),
        (OFFER, {"issuer": None}),
        (OFFER, {"credentials": []}),
        (OFFER, {"credentials": [{"type": "CredentialObject"}]}),
        (OFFER, {"credentials": [{"id": "x", "type": "CredentialObject"}]}),
        (REQUEST, {"holderPid": "GONE"}),
        (REQUEST, {"credentials": "GONE"}),
        (REQUEST, {"credentials": [{}]}),
        (REQUEST, {"credentials": [{"id": "x"}] * 17}),
    ],
)
def test_what_the_protocol_does_not_allow_is_refused(
    message: dcp.Message, changes: dict[str, Any]
) -> None:
    with pytest.raises(ProtocolViolation, match=type(message).__name__):
        parse(type(message), _altered(message, **changes))


def test_an_offer_of_ids_alone_is_read() -> None:
    body = _altered(OFFER, credentials=[{"id": "x"}, {"id": "y"}])
    assert [one.id for one in parse(dcp.CredentialOfferMessage, body).credentials] == ["x", "y"]


def test_a_message_that_is_too_long_is_not_parsed() -> None:
    with pytest.raises(ProtocolViolation, match="at most"):
        parse(dcp.PresentationQueryMessage, b" " * (dcp.MAX_MESSAGE_BYTES + 1))
