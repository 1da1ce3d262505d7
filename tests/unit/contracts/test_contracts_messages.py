"""Messages against the official schemas and examples, whole and mutilated."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts import messages
from contracts.errors import InputRejected, ProtocolViolation
from contracts.messages import (
    DSP_CONTEXT,
    Catalog,
    CatalogError,
    CatalogRequestMessage,
    Column,
    ContractAgreementMessage,
    ContractAgreementVerificationMessage,
    ContractNegotiation,
    ContractNegotiationError,
    ContractNegotiationEventMessage,
    ContractNegotiationTerminationMessage,
    ContractOfferMessage,
    ContractRequestMessage,
    DataAddress,
    DataService,
    Dataset,
    DatasetRequestMessage,
    Distribution,
    EndpointProperty,
    ProtocolAuth,
    ProtocolVersion,
    TransferCompletionMessage,
    TransferError,
    TransferProcess,
    TransferRequestMessage,
    TransferStartMessage,
    TransferSuspensionMessage,
    TransferTerminationMessage,
    VersionResponse,
    negotiation_message,
    parse,
    transfer_message,
)
from contracts.negotiation import NegotiationMessage, NegotiationState
from contracts.odrl import AtomicConstraint, Offer, Permission, agreement_from
from contracts.profile import CONTEXT_URL, uses_our_terms
from contracts.transfer import TransferMessage, TransferState

Faults = Callable[[str, object], list[str]]


def class_of(body: dict[str, Any]) -> type:
    return getattr(messages, body.get("@type", "VersionResponse"))


def offer(operand: str = "ds:minCohort") -> Offer:
    constraint = AtomicConstraint(left_operand=operand, operator="gteq", right_operand="20")
    return Offer(id="urn:offer", permission=(Permission(action="use", constraint=(constraint,)),))


def dataset(**extra: Any) -> Dataset:
    service = DataService(id="urn:service", endpoint_url="https://node.example/dsp/2025-1")
    return Dataset(
        id="urn:dataset",
        title="Water meters 水表",
        description="One row per household and month.",
        columns=(
            Column(name="id_card", role="identifier", canonicaliser="cn-resident-id"),
            Column(name="litres", role="value"),
        ),
        has_policy=(offer(),),
        distribution=(Distribution(format="private-sum/1", access_service=service),),
        **extra,
    )


PIDS = {"provider_pid": "urn:p", "consumer_pid": "urn:c"}
AGREEMENT = agreement_from(
    offer("count"),
    agreement_id="urn:a",
    target="urn:dataset",
    assigner="did:web:p",
    assignee="did:web:c",
    timestamp="2026-11-25T00:00:00Z",
)
ADDRESS = DataAddress(
    endpoint_type="https://w3id.org/idsa/v4.1/HTTP",
    endpoint="https://node.example/sessions/1",
    endpoint_properties=(EndpointProperty(name="authorization", value="TOKEN"),),
)
BUILT = [
    CatalogRequestMessage(),
    CatalogRequestMessage(filter=({"about": "water"},)),
    DatasetRequestMessage(dataset="urn:dataset"),
    CatalogError(code="404", reason=("No such dataset.",)),
    dataset(),
    Catalog(
        id="urn:catalog",
        participant_id="did:web:p",
        service=(
            DataService(
                id="urn:s", endpoint_url="https://node.example", serves_dataset=(dataset(),)
            ),
        ),
        dataset=(dataset(),),
        catalog=(Catalog(id="urn:inner"),),
        distribution=(Distribution(format="Catalog", access_service="urn:s"),),
    ),
    Catalog(id="urn:empty", participant_id="did:web:p"),
    ContractRequestMessage(
        consumer_pid="urn:c",
        offer=offer().for_message("urn:dataset"),
        callback_address="https://c.example",
    ),
    ContractRequestMessage(**PIDS, offer=offer().for_message("urn:dataset")),
    ContractOfferMessage(
        provider_pid="urn:p",
        offer=offer().for_message("urn:dataset"),
        callback_address="https://p.example",
    ),
    ContractOfferMessage(**PIDS, offer=offer("count").for_message("urn:dataset")),
    ContractAgreementMessage(**PIDS, agreement=AGREEMENT),
    ContractAgreementVerificationMessage(**PIDS),
    ContractNegotiationEventMessage(**PIDS, event_type="ACCEPTED"),
    ContractNegotiationTerminationMessage(**PIDS, code="terms-differ", reason=("No.",)),
    ContractNegotiationTerminationMessage(**PIDS),
    ContractNegotiation(**PIDS, state=NegotiationState.VERIFIED),
    ContractNegotiationError(**PIDS, code="400"),
    TransferRequestMessage(
        consumer_pid="urn:c",
        agreement_id="urn:a",
        format="private-sum/1",
        callback_address="https://c.example",
        order="eyJ.eyJ.sig",
    ),
    TransferRequestMessage(
        consumer_pid="urn:c",
        agreement_id="urn:a",
        format="HttpData-PUSH",
        callback_address="https://c.example",
        data_address=ADDRESS,
    ),
    TransferStartMessage(**PIDS, data_address=ADDRESS),
    TransferSuspensionMessage(**PIDS, code="budget", reason=("Spent.",)),
    TransferTerminationMessage(**PIDS),
    TransferCompletionMessage(**PIDS),
    TransferProcess(**PIDS, state=TransferState.SUSPENDED),
    TransferError(**PIDS, reason=("Unknown agreement.",)),
    VersionResponse(
        protocol_versions=(
            ProtocolVersion(
                version="2025-1",
                path="/dsp/2025-1",
                service_id="node",
                identifier_type="did:web",
                auth=ProtocolAuth(protocol="DCP", version="1.0", profile=("vc11-sl2021/jwt",)),
            ),
        )
    ),
]


@pytest.mark.parametrize("message", BUILT, ids=lambda each: type(each).__name__)
def test_what_we_send_satisfies_the_official_schema_and_reads_back_equal(
    message: Any, schema_faults: Faults
) -> None:
    body = json.loads(message.to_bytes())
    assert schema_faults(type(message).__name__, body) == []
    assert body == message.to_json()
    again = parse(type(message), message.to_bytes())
    assert again.to_json() == message.to_json()
    assert type(again) is type(message)


def test_every_example_of_the_specification_reads_back_as_it_was(
    examples: dict[str, bytes],
) -> None:
    assert len(examples) == 25
    for raw in examples.values():
        body = json.loads(raw)
        read = parse(class_of(body), raw)
        # What is empty is left out when we write; the one example with an empty array says so.
        kept = {name: value for name, value in body.items() if value != []}
        assert read.to_json() == kept


def test_our_context_is_named_only_where_our_terms_are_used() -> None:
    assert dataset().to_json()["@context"] == [DSP_CONTEXT, CONTEXT_URL]
    plain = ContractOfferMessage(**PIDS, offer=offer("count").for_message("urn:d"))
    assert plain.to_json()["@context"] == [DSP_CONTEXT]
    ours = ContractOfferMessage(**PIDS, offer=offer().for_message("urn:d"))
    assert ours.to_json()["@context"] == [DSP_CONTEXT, CONTEXT_URL]
    assert uses_our_terms({"a": [{"ds:order": 1}]})
    assert not uses_our_terms({"a": ["nods:order"]})


def test_a_context_stands_only_on_the_outermost_body() -> None:
    catalog = Catalog(id="urn:c", participant_id="did:web:p", dataset=(dataset(),)).to_json()
    assert "@context" in catalog
    assert "@context" not in catalog["dataset"][0]


def test_our_description_of_a_dataset_travels_under_prefixed_names() -> None:
    body = dataset().to_json()
    assert body["dct:title"] == "Water meters 水表"
    assert body["ds:columns"] == [
        {"ds:name": "id_card", "ds:role": "identifier", "ds:canonicaliser": "cn-resident-id"},
        {"ds:name": "litres", "ds:role": "value"},
    ]
    assert parse(Dataset, dataset().to_bytes()).columns[1].canonicaliser is None


def without(name: str, **changes: Any) -> bytes:
    body = {
        "@context": [DSP_CONTEXT],
        "@type": "ContractRequestMessage",
        "consumerPid": "urn:c",
        "callbackAddress": "https://c.example",
        "offer": {"@id": "urn:o", "@type": "Offer", "permission": [{"action": "use"}]},
    }
    body |= changes
    body.pop(name, None)
    return json.dumps(body).encode()


REFUSED = {
    "ContractRequestMessage: @context is required": without("@context"),
    "ContractRequestMessage: @type is required": without("@type"),
    "ContractRequestMessage: consumerPid is required": without("consumerPid"),
    "ContractRequestMessage: consumerPid: expected a string": without("", consumerPid=5),
    "ContractRequestMessage: @context: expected an array": without("", **{"@context": DSP_CONTEXT}),
    "expected an array that contains https://w3id.org/dspace": without("", **{"@context": ["x"]}),
    "expected a callbackAddress in the first message": without("callbackAddress"),
    "and not both": without("", providerPid="urn:p"),
    "ContractRequestMessage: offer.@type is required": without(
        "", offer={"@id": "o", "permission": [{"action": "use"}]}
    ),
    "offer.permission[0].action is required": without(
        "", offer={"@id": "o", "@type": "Offer", "permission": [{}]}
    ),
    "expected at least one permission or prohibition": without(
        "", offer={"@id": "o", "@type": "Offer"}
    ),
    "expected a JSON object, got another JSON value": b"[]",
    "expected a JSON object in UTF-8": b"\xff{}",
    "got one twice": b'{"@type": "a", "@type": "b"}',
    "levels of nesting": b'{"a":' + b"[" * 60 + b"]" * 60 + b"}",
    "expected a JSON object in UTF-8, got something else": b"[" * 50_000 + b"]" * 50_000,
    "got NaN or Infinity": b'{"a": NaN}',
    "got one too large": b'{"a": 1e999}',
    "half of a surrogate pair": b'{"a": "\\ud800"}',
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_a_refusal_names_the_field_and_what_was_expected(sentence: str) -> None:
    with pytest.raises(ProtocolViolation) as refused:
        parse(ContractRequestMessage, REFUSED[sentence])
    assert sentence in str(refused.value)


def test_a_refusal_never_repeats_the_value() -> None:
    secret = "secret-4403"
    for body in (
        without("", consumerPid=[secret]),
        without("", **{"@type": secret}),
        without("", offer={"@id": "o", "@type": secret, "permission": secret}),
    ):
        with pytest.raises(ProtocolViolation) as refused:
            parse(ContractRequestMessage, body)
        assert secret not in str(refused.value)


def test_a_body_over_the_limit_is_not_read() -> None:
    with pytest.raises(ProtocolViolation, match="at most 10 bytes"):
        parse(CatalogRequestMessage, b"x" * 11, limit_bytes=10)


def test_our_own_spelling_of_a_name_is_not_the_protocols() -> None:
    with pytest.raises(ProtocolViolation, match="consumerPid is required"):
        parse(ContractRequestMessage, without("consumerPid", consumer_pid="urn:c"))


def test_offers_in_a_catalogue_have_no_target_and_catalogues_no_policy() -> None:
    body = json.loads(dataset().to_bytes())
    body["hasPolicy"][0]["target"] = "urn:dataset"
    with pytest.raises(ProtocolViolation, match="without a target"):
        parse(Dataset, json.dumps(body).encode())
    catalog = json.loads(Catalog(id="urn:c", participant_id="did:web:p").to_bytes())
    with pytest.raises(ProtocolViolation, match="no hasPolicy"):
        parse(Catalog, json.dumps(catalog | {"hasPolicy": []}).encode())
    del catalog["participantId"]
    with pytest.raises(ProtocolViolation, match="participantId is required"):
        parse(Catalog, json.dumps(catalog).encode())


def test_a_token_in_a_data_address_is_found_by_name_and_kept_out_of_prints() -> None:
    assert ADDRESS.property_named("authorization") == "TOKEN"
    assert ADDRESS.property_named("authType") is None
    assert "TOKEN" not in repr(ADDRESS)


def test_every_message_knows_its_row_in_the_tables() -> None:
    rows = set()
    for message in BUILT:
        if isinstance(message, messages.NEGOTIATION_MESSAGES):
            rows.add(negotiation_message(message))
        elif isinstance(message, messages.TRANSFER_MESSAGES):
            rows.add(transfer_message(message))
    finalized = ContractNegotiationEventMessage(**PIDS, event_type="FINALIZED")
    assert negotiation_message(finalized) is NegotiationMessage.FINALIZE
    assert rows | {NegotiationMessage.FINALIZE} == {*NegotiationMessage, *TransferMessage}
    with pytest.raises(InputRejected):
        negotiation_message(TransferCompletionMessage(**PIDS))
    with pytest.raises(InputRejected):
        transfer_message(ContractAgreementVerificationMessage(**PIDS))


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON value with each of its keys."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["[]", "{}", "[null]", '{"@id": "urn:x"}', '{"and": []}']).map(json.loads),
)
NAMES = ("@id", "@type", "and", "or", "target", "and_", "to_json", "ds:order", "hasPolicy", "x")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chosen=st.data())
def test_a_mutilated_message_is_refused_or_still_valid(
    chosen: st.DataObject, examples: dict[str, bytes], schema_faults: Faults
) -> None:
    wholes = [*examples.values(), *(each.to_bytes() for each in BUILT)]
    original = json.loads(chosen.draw(st.sampled_from(wholes)))
    body = copy.deepcopy(original)
    for _ in range(chosen.draw(st.integers(1, 3))):
        spots = list(places(body))
        if not spots:
            break
        container, key = chosen.draw(st.sampled_from(spots))
        kind = chosen.draw(st.sampled_from(["replace", "remove", "add"]))
        if kind == "replace":
            container[key] = chosen.draw(JUNK)
        elif kind == "remove":
            del container[key]
        elif isinstance(container, dict):
            container[chosen.draw(st.sampled_from(NAMES))] = chosen.draw(JUNK)
        else:
            container.append(chosen.draw(JUNK))
    try:
        read = parse(class_of(original), json.dumps(body).encode())
    except ProtocolViolation:
        return
    # What was let in has to be something we could send on.
    assert schema_faults(type(read).__name__, read.to_json()) == []
    assert parse(type(read), read.to_bytes()).to_json() == read.to_json()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(raw: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        parse(TransferRequestMessage, raw)
