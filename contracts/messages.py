"""Every message and object of the Dataspace Protocol 2025-1, as frozen models.

Attributes are snake_case, the wire has the protocol's names; `to_json` and `to_bytes` give what
the official JSON Schemas accept, `parse` takes what a peer sent. Plain JSON in compacted form,
which the specification allows (Dataspace Protocol 2025-1, "Schemas & Contexts"). Where our own
`ds:` terms are used, our context is named besides the protocol's.
"""

from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import Field, JsonValue, ValidationInfo, field_validator, model_validator

from contracts.described import Blocks as Blocks
from contracts.described import Column as Column
from contracts.described import ColumnQuality as ColumnQuality
from contracts.described import Texts
from contracts.errors import InputRejected, ProtocolViolation
from contracts.negotiation import NegotiationMessage, NegotiationState
from contracts.odrl import Agreement, Offer, Text
from contracts.profile import CONTEXT_URL, uses_our_terms
from contracts.transfer import TransferMessage, TransferState
from contracts.wire import (
    WireModel,
    body_of,
    is_from_wire,
    read_json,
    read_model,
    require_written,
    write_json,
)

DSP_CONTEXT: Final = "https://w3id.org/dspace/2025/1/context.jsonld"

# A catalogue of a thousand datasets is about a megabyte; negotiation and transfer messages are a
# few kilobytes, and their receivers pass a smaller limit.
LIMIT_BYTES: Final = 4 * 1024 * 1024

MAX_DATASETS: Final = 10_000
MAX_COLUMNS: Final = 1_000

Reasons = tuple[JsonValue, ...]
# A compact JWS over the agreement, which a policy's bounds keep well below this.
Signature = Annotated[str, Field(max_length=1024 * 1024)] | None


class Document(WireModel):
    """What travels as a body of its own, and so names its context."""

    required_at_root: ClassVar[tuple[str, ...]] = ("context", "type")

    context: Annotated[tuple[Text, ...], Field(max_length=16)] = (DSP_CONTEXT,)

    @field_validator("context")
    @classmethod
    def _names_the_protocol(cls, context: tuple[str, ...]) -> tuple[str, ...]:
        if DSP_CONTEXT not in context:
            raise ValueError(f"expected an array that contains {DSP_CONTEXT}")
        return context

    def to_json(self) -> dict[str, Any]:
        """The compact JSON form with its context; what is empty is absent."""
        body = body_of(self, without=frozenset({"context"}))
        context = list(self.context)
        if CONTEXT_URL not in context and uses_our_terms(body):
            context.append(CONTEXT_URL)
        return {"@context": context, **body}

    def to_bytes(self) -> bytes:
        """`to_json` as UTF-8, ready to send."""
        return write_json(self.to_json())


class _ProcessDocument(Document):
    """About a process both parties have a name for."""

    provider_pid: Text
    consumer_pid: Text


class _CodedDocument(_ProcessDocument):
    """Ends or interrupts a process, or refuses a message, with a code and reasons."""

    code: str | None = None
    reason: Reasons = ()


# Catalogue


class CatalogRequestMessage(Document):
    """Asks a provider what it offers; `filter` is the provider's own query language, if any."""

    type: Literal["CatalogRequestMessage"] = "CatalogRequestMessage"
    filter: tuple[JsonValue, ...] = ()


class DatasetRequestMessage(Document):
    """Asks for one dataset; the HTTPS binding uses a GET instead."""

    type: Literal["DatasetRequestMessage"] = "DatasetRequestMessage"
    dataset: Text


class CatalogError(Document):
    """Why a catalogue request failed."""

    type: Literal["CatalogError"] = "CatalogError"
    code: str | None = None
    reason: Reasons = ()


class DataService(WireModel):
    """Where a provider's endpoints are."""

    required_on_wire: ClassVar[tuple[str, ...]] = ("type",)

    id: Text
    type: Literal["DataService"] = "DataService"
    endpoint_url: Text
    endpoint_description: str | None = None
    serves_dataset: "Annotated[tuple[Dataset, ...], Field(max_length=MAX_DATASETS)]" = ()


def _without_target(offers: tuple[Offer, ...]) -> tuple[Offer, ...]:
    if any(offer.target is not None for offer in offers):
        raise ValueError("expected offers without a target, which the dataset itself gives")
    return offers


class Distribution(WireModel):
    """A format in which a dataset can be had, and the service that gives it."""

    type: Literal["Distribution"] = "Distribution"
    format: Text
    access_service: Text | DataService
    has_policy: tuple[Offer, ...] = ()

    _offers = field_validator("has_policy")(_without_target)


class Dataset(Document):
    """Data one may negotiate about: its offers, its formats, and how it describes itself.

    `theme`, `spatial` and `frequency` may come in any form that JSON-LD has for them; see
    `contracts.described.names_in`. `classification` says whether a person has confirmed the
    classes of the columns.
    """

    required_at_root: ClassVar[tuple[str, ...]] = ("context",)

    id: Text
    type: Literal["Dataset"] = "Dataset"
    title: Texts | None = Field(
        default=None, validation_alias="dct:title", serialization_alias="dct:title"
    )
    description: Texts | None = Field(
        default=None, validation_alias="dct:description", serialization_alias="dct:description"
    )
    theme: JsonValue = Field(
        default=None, validation_alias="dcat:theme", serialization_alias="dcat:theme"
    )
    spatial: JsonValue = Field(
        default=None, validation_alias="dct:spatial", serialization_alias="dct:spatial"
    )
    frequency: JsonValue = Field(
        default=None,
        validation_alias="dct:accrualPeriodicity",
        serialization_alias="dct:accrualPeriodicity",
    )
    version: JsonValue = Field(
        default=None, validation_alias="dcat:version", serialization_alias="dcat:version"
    )
    grade: str | None = Field(
        default=None, validation_alias="ds:grade", serialization_alias="ds:grade"
    )
    classification: str | None = Field(
        default=None, validation_alias="ds:classification", serialization_alias="ds:classification"
    )
    legal_basis: str | None = Field(
        default=None, validation_alias="ds:legalBasis", serialization_alias="ds:legalBasis"
    )
    columns: Annotated[tuple[Column, ...], Field(max_length=MAX_COLUMNS)] = Field(
        default=(), validation_alias="ds:columns", serialization_alias="ds:columns"
    )
    blocks: Blocks | None = Field(
        default=None, validation_alias="ds:blocks", serialization_alias="ds:blocks"
    )
    quality: Annotated[tuple[ColumnQuality, ...], Field(max_length=MAX_COLUMNS)] = Field(
        default=(), validation_alias="ds:quality", serialization_alias="ds:quality"
    )
    has_policy: tuple[Offer, ...] = Field(min_length=1)
    distribution: tuple[Distribution, ...] = Field(min_length=1)

    _offers = field_validator("has_policy")(_without_target)


class Catalog(Document):
    """What a provider offers to the one who asks."""

    required_on_wire: ClassVar[tuple[str, ...]] = ("type",)
    required_at_root: ClassVar[tuple[str, ...]] = ("context", "type", "participant_id")

    id: Text
    type: Literal["Catalog"] = "Catalog"
    # Required of the outermost catalogue; the ones inside it belong to the same participant.
    participant_id: Text | None = None
    service: tuple[DataService, ...] = ()
    dataset: Annotated[tuple[Dataset, ...], Field(max_length=MAX_DATASETS)] = ()
    catalog: "tuple[Catalog, ...]" = ()
    distribution: tuple[Distribution, ...] = ()

    @model_validator(mode="after")
    def _has_no_policy(self) -> Self:
        if "hasPolicy" in (self.model_extra or {}):
            raise ValueError("expected no hasPolicy, which belongs to datasets")
        return self


# Negotiation


def _exactly_one(message: WireModel, first: str, second: str) -> None:
    given = [name for name in (first, second) if getattr(message, name) is not None]
    if len(given) != 1:
        raise ValueError(
            "expected a callbackAddress in the first message of a negotiation "
            "or the peer's pid in a later one, and not both"
        )


def _offer_written_whole(offer: Offer, info: ValidationInfo) -> Offer:
    if is_from_wire(info):
        # Optional for an offer inside a dataset, required of one in a message.
        require_written(offer, "type")
    return offer


class ContractRequestMessage(Document):
    """The consumer asks for an agreement: first, with a callback address, or as a counter-offer."""

    type: Literal["ContractRequestMessage"] = "ContractRequestMessage"
    consumer_pid: Text
    provider_pid: Text | None = None
    offer: Offer
    callback_address: Text | None = None

    _offer = field_validator("offer")(_offer_written_whole)

    @model_validator(mode="after")
    def _first_or_later(self) -> Self:
        _exactly_one(self, "callback_address", "provider_pid")
        return self


class ContractOfferMessage(Document):
    """The provider offers: first, with a callback address, or in answer to a request."""

    type: Literal["ContractOfferMessage"] = "ContractOfferMessage"
    provider_pid: Text
    consumer_pid: Text | None = None
    offer: Offer
    callback_address: Text | None = None

    _offer = field_validator("offer")(_offer_written_whole)

    @model_validator(mode="after")
    def _first_or_later_with_target(self) -> Self:
        _exactly_one(self, "callback_address", "consumer_pid")
        if self.offer.target is None:
            raise ValueError("expected a target in the offer")
        return self


class ContractAgreementMessage(_ProcessDocument):
    """The provider agrees, with the agreement itself; `signature` is our signature of it, and
    `post_quantum_signature` the second one of who has a key for it.

    See `contracts.signature`; a provider of another make sends none.
    """

    type: Literal["ContractAgreementMessage"] = "ContractAgreementMessage"
    agreement: Agreement
    signature: Signature = Field(
        default=None, validation_alias="ds:signature", serialization_alias="ds:signature"
    )
    post_quantum_signature: Signature = Field(
        default=None,
        validation_alias="ds:postQuantumSignature",
        serialization_alias="ds:postQuantumSignature",
    )


class ContractAgreementVerificationMessage(_ProcessDocument):
    """The consumer has verified the agreement, and signs it where it is one of ours."""

    type: Literal["ContractAgreementVerificationMessage"] = "ContractAgreementVerificationMessage"
    signature: Signature = Field(
        default=None, validation_alias="ds:signature", serialization_alias="ds:signature"
    )
    post_quantum_signature: Signature = Field(
        default=None,
        validation_alias="ds:postQuantumSignature",
        serialization_alias="ds:postQuantumSignature",
    )


class ContractNegotiationEventMessage(_ProcessDocument):
    """ACCEPTED by the consumer, or FINALIZED by the provider."""

    type: Literal["ContractNegotiationEventMessage"] = "ContractNegotiationEventMessage"
    event_type: Literal["ACCEPTED", "FINALIZED"]


class ContractNegotiationTerminationMessage(_CodedDocument):
    """Either party ends the negotiation without an agreement."""

    type: Literal["ContractNegotiationTerminationMessage"] = "ContractNegotiationTerminationMessage"


class ContractNegotiation(_ProcessDocument):
    """Where a negotiation stands."""

    type: Literal["ContractNegotiation"] = "ContractNegotiation"
    state: NegotiationState


class ContractNegotiationError(_CodedDocument):
    """Why a negotiation message was refused; the state has not changed."""

    type: Literal["ContractNegotiationError"] = "ContractNegotiationError"


# Transfer


class EndpointProperty(WireModel):
    """One property of an endpoint, such as the token it wants."""

    required_on_wire: ClassVar[tuple[str, ...]] = ("type",)

    type: Literal["EndpointProperty"] = "EndpointProperty"
    name: str
    value: str = Field(repr=False)


class DataAddress(WireModel):
    """Where data is fetched from or pushed to."""

    required_on_wire: ClassVar[tuple[str, ...]] = ("type",)

    type: Literal["DataAddress"] = "DataAddress"
    endpoint_type: Text
    endpoint: str | None = None
    endpoint_properties: Annotated[tuple[EndpointProperty, ...], Field(max_length=64)] = ()

    def property_named(self, name: str) -> str | None:
        """The value of the first endpoint property called `name`."""
        return next((each.value for each in self.endpoint_properties if each.name == name), None)


class TransferRequestMessage(Document):
    """The consumer asks for a transfer under an agreement; `order` is our signed computation order.

    `format` is then the kind of computation; see `contracts.order`. Where rows are to leave there
    is no order, and `purpose` says what for.
    """

    type: Literal["TransferRequestMessage"] = "TransferRequestMessage"
    consumer_pid: Text
    agreement_id: Text
    format: Text
    callback_address: Text
    data_address: DataAddress | None = None
    order: str | None = Field(
        default=None, validation_alias="ds:order", serialization_alias="ds:order"
    )
    purpose: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, validation_alias="ds:purpose", serialization_alias="ds:purpose"
    )


class TransferStartMessage(_ProcessDocument):
    """The transfer runs, or runs again; for a pull the provider says where to fetch."""

    type: Literal["TransferStartMessage"] = "TransferStartMessage"
    data_address: DataAddress | None = None


class TransferSuspensionMessage(_CodedDocument):
    """Either party interrupts the transfer."""

    type: Literal["TransferSuspensionMessage"] = "TransferSuspensionMessage"


class TransferTerminationMessage(_CodedDocument):
    """Either party ends the transfer before it is complete."""

    type: Literal["TransferTerminationMessage"] = "TransferTerminationMessage"


class TransferCompletionMessage(_ProcessDocument):
    """The transfer is complete."""

    type: Literal["TransferCompletionMessage"] = "TransferCompletionMessage"


class TransferProcess(_ProcessDocument):
    """Where a transfer stands."""

    type: Literal["TransferProcess"] = "TransferProcess"
    state: TransferState


class TransferError(_CodedDocument):
    """Why a transfer message was refused; the state has not changed."""

    type: Literal["TransferError"] = "TransferError"


# Discovery


class ProtocolAuth(WireModel):
    """How requests to a protocol endpoint are authenticated."""

    protocol: Text
    version: Text
    profile: tuple[str, ...] = ()


class ProtocolVersion(WireModel):
    """One protocol version a participant speaks, and the path where it does."""

    version: Text
    path: Text
    binding: Literal["HTTPS"] = "HTTPS"
    service_id: str | None = None
    identifier_type: str | None = None
    auth: ProtocolAuth | None = None

    required_on_wire: ClassVar[tuple[str, ...]] = ("binding",)


class VersionResponse(WireModel):
    """The answer at `/.well-known/dspace-version`; the one body without a context."""

    protocol_versions: tuple[ProtocolVersion, ...] = Field(min_length=1, max_length=64)

    def to_bytes(self) -> bytes:
        """`to_json` as UTF-8, ready to send."""
        return write_json(self.to_json())


DataService.model_rebuild()

Body = TypeVar("Body", bound=WireModel)


def parse(model_class: type[Body], body: bytes, *, limit_bytes: int = LIMIT_BYTES) -> Body:
    """The message a peer sent.

    Raises ProtocolViolation when `body` is longer than `limit_bytes`, is not JSON, or is not a
    `model_class` as the protocol's schemas have it; the text names the field and the kind expected
    there, never the value.
    """
    written = read_json(body, limit_bytes=limit_bytes)
    if issubclass(model_class, Document):
        for attribute in model_class.required_at_root:
            name = model_class.model_fields[attribute].alias
            if name is not None and written.get(name) is None:
                raise ProtocolViolation(f"{model_class.__name__}: {name} is required")
    return read_model(model_class, written)


NEGOTIATION_MESSAGES: Final = (
    ContractRequestMessage,
    ContractOfferMessage,
    ContractAgreementMessage,
    ContractAgreementVerificationMessage,
    ContractNegotiationEventMessage,
    ContractNegotiationTerminationMessage,
)
TRANSFER_MESSAGES: Final = (
    TransferRequestMessage,
    TransferStartMessage,
    TransferSuspensionMessage,
    TransferCompletionMessage,
    TransferTerminationMessage,
)


def negotiation_message(message: Document) -> NegotiationMessage:
    """Which row of the negotiation table `message` is. Raises InputRejected for anything else."""
    if isinstance(message, ContractNegotiationEventMessage):
        return NegotiationMessage(f"{message.type}:{message.event_type}")
    if isinstance(message, NEGOTIATION_MESSAGES):
        return NegotiationMessage(message.type)
    raise InputRejected(f"expected a negotiation message, got a {type(message).__name__}")


def transfer_message(message: Document) -> TransferMessage:
    """Which row of the transfer table `message` is. Raises InputRejected for anything else."""
    if isinstance(message, TRANSFER_MESSAGES):
        return TransferMessage(message.type)
    raise InputRejected(f"expected a transfer message, got a {type(message).__name__}")
