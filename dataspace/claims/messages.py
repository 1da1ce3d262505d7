"""Every message of the Decentralized Claims Protocol 1.0, as frozen models.

Plain JSON in compacted form, which the protocol allows; `parse` takes what a peer sent and
`to_bytes` gives what the official JSON schemas accept. Where the schemas and the text differ, the
stricter of the two is written and the wider one is read, but for what we could do nothing with.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from contracts.wire import body_of, is_from_wire, read_json, read_model, write_json
from dataspace.errors import Unsupported

CONTEXT: Final = "https://w3id.org/dspace-dcp/v1.0/dcp.jsonld"
# A message carries a few credentials of a few kilobytes each.
MAX_MESSAGE_BYTES: Final = 256 * 1024
MAX_CREDENTIALS: Final = 16
MAX_SCOPES: Final = 32
MAX_SUPPORTED: Final = 256
# A credential in an envelope of its own.
MAX_CREDENTIAL_LETTERS: Final = 64 * 1024

Name = Annotated[str, Field(min_length=1, max_length=512)]


class RequestStatus(StrEnum):
    """How far a request for credentials has come (§6.8)."""

    RECEIVED = "RECEIVED"
    ISSUED = "ISSUED"
    REJECTED = "REJECTED"


def _wire_name(attribute: str) -> str:
    return "@context" if attribute == "context" else to_camel(attribute)


class _Part(BaseModel):
    """A frozen value with the protocol's names; what is not ours to know is kept as it came."""

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        alias_generator=_wire_name,
        validate_by_name=True,
        validate_by_alias=True,
        hide_input_in_errors=True,
    )


class Message(_Part):
    """What travels as a body of its own: it names its context and its type."""

    context: Annotated[tuple[Name, ...], Field(max_length=16)] = (CONTEXT,)

    @field_validator("context")
    @classmethod
    def _names_the_protocol(cls, context: tuple[str, ...]) -> tuple[str, ...]:
        if CONTEXT not in context:
            raise ValueError(f"expected an array that contains {CONTEXT}")
        return context

    @model_validator(mode="after")
    def _written_by_the_peer(self, info: ValidationInfo) -> Self:
        if is_from_wire(info):
            for attribute in ("context", "type"):
                if attribute not in self.model_fields_set:
                    name = _wire_name(attribute)
                    raise PydanticCustomError(
                        "required_on_wire", "{field} is required", {"field": name}
                    )
        return self

    def to_json(self) -> dict[str, Any]:
        """The JSON form; what is empty is absent."""
        return body_of(self)

    def to_bytes(self) -> bytes:
        return write_json(self.to_json())


M = TypeVar("M", bound=Message)


def parse(model: type[M], body: bytes) -> M:
    """The message in `body`. Raises contracts' ProtocolViolation, naming the field and what was
    expected there, never what came."""
    return read_model(model, read_json(body, limit_bytes=MAX_MESSAGE_BYTES))


class PresentationQueryMessage(Message):
    """Asks a credential service for presentations (§5.4.1): exactly one way of asking."""

    type: Literal["PresentationQueryMessage"] = "PresentationQueryMessage"
    scope: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_SCOPES)] | None = None
    presentation_definition: Annotated[dict[str, JsonValue], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _asks_in_one_way(self) -> Self:
        # An explicit null is as wrong as both: the schema knows no null.
        given = self.model_fields_set & {"scope", "presentation_definition"}
        if len(given) != 1 or any(getattr(self, name) is None for name in given):
            raise ValueError("expected either a scope or a presentationDefinition")
        return self

    def scopes(self) -> tuple[str, ...]:
        """What is asked for. Raises Unsupported for a presentation definition, as §5.4.1.1 has it
        for those who do not support them."""
        if self.scope is None:
            raise Unsupported(
                "presentation definitions are not supported here", remedy="ask by scope"
            )
        return self.scope


class PresentationResponseMessage(Message):
    """What a credential service shows (§5.4.2)."""

    type: Literal["PresentationResponseMessage"] = "PresentationResponseMessage"
    presentation: Annotated[tuple[JsonValue, ...], Field(max_length=MAX_CREDENTIALS)]


class CredentialContainer(_Part):
    """A credential on its way to its holder (§6.5.2)."""

    credential_type: Name
    payload: Annotated[str, Field(min_length=1, max_length=MAX_CREDENTIAL_LETTERS)]
    format: Name


class CredentialMessage(Message):
    """What an issuer answers to a request: the credentials, or that there will be none (§6.5.1).

    `holderPid` may be left out by the protocol. Here it may not: it names the request of ours that
    is answered, and what we did not ask for is not taken.
    """

    type: Literal["CredentialMessage"] = "CredentialMessage"
    issuer_pid: Name
    holder_pid: Name
    status: Literal[RequestStatus.ISSUED, RequestStatus.REJECTED]
    credentials: Annotated[tuple[CredentialContainer, ...], Field(max_length=MAX_CREDENTIALS)] = ()
    rejection_reason: Annotated[str, Field(max_length=2000)] | None = None

    @model_validator(mode="after")
    def _carries_what_it_says(self) -> Self:
        if (self.status is RequestStatus.ISSUED) != bool(self.credentials):
            raise ValueError("expected credentials with the status ISSUED, and none otherwise")
        return self


class CredentialObject(_Part):
    """A kind of credential that an issuer issues (§6.6.2). One in an offer may be an id alone."""

    id: Name
    type: Literal["CredentialObject"] | None = None
    credential_type: Name | None = None
    credential_schema: Name | None = None
    offer_reason: Name | None = None
    binding_methods: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    profile: Name | None = None
    issuance_policy: dict[str, JsonValue] | None = None

    @model_validator(mode="after")
    def _is_sparse_or_whole(self) -> Self:
        if (self.type is None) != (self.credential_type is None):
            raise ValueError("expected an id alone, or type and credentialType besides")
        return self


class CredentialOfferMessage(Message):
    """An issuer tells a holder what it could ask for (§6.6.1)."""

    type: Literal["CredentialOfferMessage"] = "CredentialOfferMessage"
    issuer: Name
    credentials: Annotated[
        tuple[CredentialObject, ...], Field(min_length=1, max_length=MAX_CREDENTIALS)
    ]


class CredentialReference(_Part):
    """One of the objects in an issuer's metadata, by its id."""

    id: Name


class CredentialRequestMessage(Message):
    """A holder asks an issuer for credentials (§6.4.1); `holderPid` is the holder's name for it."""

    type: Literal["CredentialRequestMessage"] = "CredentialRequestMessage"
    holder_pid: Name
    credentials: Annotated[
        tuple[CredentialReference, ...], Field(min_length=1, max_length=MAX_CREDENTIALS)
    ]


class CredentialStatus(Message):
    """How far a request has come (§6.8.1)."""

    type: Literal["CredentialStatus"] = "CredentialStatus"
    issuer_pid: Name
    holder_pid: Name
    status: RequestStatus


class IssuerMetadata(Message):
    """What an issuer issues (§6.7.1)."""

    type: Literal["IssuerMetadata"] = "IssuerMetadata"
    issuer: Name
    credentials_supported: Annotated[
        tuple[CredentialObject, ...], Field(max_length=MAX_SUPPORTED)
    ] = ()
