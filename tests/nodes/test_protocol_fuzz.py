"""Whatever a peer sends: never a 500, never a change by a message that was refused, and always the
specification's own error. What is valid, and only that, is taken."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from contracts import messages as dsp
from contracts.errors import ContractError
from contracts.negotiation import TABLE as NEGOTIATION_TABLE
from contracts.negotiation import NegotiationState
from contracts.odrl import agreement_from
from contracts.party import Party
from contracts.strategy import Approval
from contracts.transfer import TABLE as TRANSFER_TABLE
from contracts.transfer import TransferState
from dataspace.access.principal import HOME
from dataspace.protocol.negotiations import MAX_UNASKED_OFFERS
from dataspace.rates import MESSAGES, Limit, Rates
from dataspace.store.tables import AgreementRow, DatasetRow
from tests.unit.contracts.conftest import schema_faults, specification  # noqa: F401

from .mutations import mutated
from .protocol_node import (
    AGREEMENT,
    DATASET,
    HELD,
    OFFER,
    PEER,
    PEER_URL,
    TOKEN,
    OneNode,
    negotiation_messages,
    one_node,
    pids,
    transfer_messages,
)

MUTATIONS_EACH = 10
ROLES = ("PROVIDER", "CONSUMER")
SchemaFaults = Callable[[str, object], list[str]]
# How a refusal begins of a message that has the right form and comes at the right moment, but names
# what is not there or not its sender's.
ABOUT_CONTENT = (
    "the request names no offer of this catalogue",
    "agreement: expected values that canonical JSON",
    "agreement signature: ",
    "callbackAddress: ",
    "dataAddress: ",
    "format: ",
    "filter: ",
    "CatalogFilter: ",
    "order: ",
    "there is no such agreement between us",
)
RAW = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"@type":"ContractRequestMessage","@type":"Offer"}',
    b'{"@context":NaN}',
    b" " * 2_000_000,
]
ERROR_OF = {
    "negotiations": "ContractNegotiationError",
    "transfers": "TransferError",
    "catalog": "CatalogError",
}
FIRST: dict[str, dsp.Document] = {
    "/negotiations/request": dsp.ContractRequestMessage(
        consumer_pid="urn:uuid:a", offer=OFFER.for_message(DATASET), callback_address=PEER_URL
    ),
    "/negotiations/offers": dsp.ContractOfferMessage(
        provider_pid="urn:uuid:b", offer=OFFER.for_message(DATASET), callback_address=PEER_URL
    ),
    "/transfers/request": dsp.TransferRequestMessage(
        consumer_pid="urn:uuid:c",
        agreement_id=AGREEMENT,
        format="HttpData-PULL",
        callback_address=PEER_URL,
    ),
    "/catalog/request": dsp.CatalogRequestMessage(
        filter=({"leftOperand": "ds:text", "operator": "hasPart", "rightOperand": "rows"},)
    ),
}
ADDRESSES = [
    *FIRST,
    *(
        f"/negotiations/urn:uuid:ours/{path}"
        for path in negotiation_messages("PROVIDER", "did:x:y")
    ),
    *(f"/transfers/urn:uuid:ours/{path}" for path in transfer_messages("PROVIDER")),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneNode]:
    with one_node(tmp_path_factory.mktemp("fuzzed")) as made:
        yield made


def verify_error(answer: Any, kind: str) -> None:
    assert answer.status_code in (400, 404), answer.text
    assert answer.headers["content-type"] == "application/json"
    error = dsp.parse(getattr(dsp, kind), answer.content)
    assert error.code == str(answer.status_code)
    assert error.reason
    assert all(isinstance(one, str) and one.isprintable() for one in error.reason)


def parsed(model: type[dsp.Document], body: bytes) -> dsp.Document | None:
    try:
        return dsp.parse(model, body)
    except ContractError:
        return None


def about(message: dsp.Document, role: str) -> bool:
    """Whether a message names the process by both its names."""
    return all(getattr(message, name) == pid for name, pid in pids(role).items())


def bodies(rng: random.Random, messages: Mapping[str, dsp.Document]) -> Iterator[tuple[str, bytes]]:
    """To every address its message as it should be, that of another address, and mutations."""
    for path, message in messages.items():
        yield path, message.to_bytes()
        yield path, rng.choice(list(messages.values())).to_bytes()
        for _ in range(MUTATIONS_EACH):
            yield path, mutated(rng, message.to_json())


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("state", list(NegotiationState))
def test_negotiations_take_what_is_valid_and_nothing_else(
    node: OneNode, role: str, state: NegotiationState
) -> None:
    theirs = Party.CONSUMER if role == "PROVIDER" else Party.PROVIDER
    messages = negotiation_messages(role, node.node.did)
    before: object = None
    for path, content in bodies(random.Random(f"{role} {state}"), messages):
        if before is None:
            pid = node.put_negotiation(role, state)
            before = node.snapshot()
        answer = node.post(f"/negotiations/{pid}/{path}", content)
        understood = parsed(type(messages[path]), content)
        arc = understood and NEGOTIATION_TABLE.get(
            (state, theirs, dsp.negotiation_message(understood))
        )
        if understood is None or arc is None or not about(understood, role):
            verify_error(answer, "ContractNegotiationError")
            assert answer.status_code == 400
            assert node.snapshot() == before
        elif answer.status_code != 200:
            verify_error(answer, "ContractNegotiationError")
            assert answer.json()["reason"][0].startswith(ABOUT_CONTENT)
            assert node.snapshot() == before
        else:
            assert answer.json()["state"] == arc
            before = None


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("state", list(TransferState))
def test_transfers_take_what_is_valid_and_nothing_else(
    node: OneNode, role: str, state: TransferState
) -> None:
    theirs = Party.CONSUMER if role == "PROVIDER" else Party.PROVIDER
    messages = transfer_messages(role)
    before: object = None
    for path, content in bodies(random.Random(f"{role} {state}"), messages):
        if before is None:
            pid = node.put_transfer(role, state)
            before = node.snapshot()
        answer = node.post(f"/transfers/{pid}/{path}", content)
        understood = parsed(type(messages[path]), content)
        arc = understood and TRANSFER_TABLE.get((state, theirs, dsp.transfer_message(understood)))
        if understood is None or arc is None or not about(understood, role):
            verify_error(answer, "TransferError")
            assert answer.status_code == 400
            assert node.snapshot() == before
        else:
            assert answer.status_code == 200, answer.text
            assert answer.json()["state"] == arc
            before = None


@pytest.mark.parametrize("path", FIRST)
def test_first_messages_are_taken_if_valid_and_not_otherwise(node: OneNode, path: str) -> None:
    rng = random.Random(path)
    model, accepted = type(FIRST[path]), 0
    before: object = None
    for _ in range(8 * MUTATIONS_EACH):
        if before is None:
            node.put_negotiation("PROVIDER", "TERMINATED")
            before = node.snapshot()
        content = mutated(rng, FIRST[path].to_json())
        answer = node.post(path, content)
        if answer.status_code in (200, 201):
            assert parsed(model, content) is not None
            accepted += 1
            before = None if path != "/catalog/request" else before
        else:
            verify_error(answer, ERROR_OF[path.split("/")[1]])
            if parsed(model, content) is not None:
                assert answer.json()["reason"][0].startswith(ABOUT_CONTENT)
        if before is not None:
            assert node.snapshot() == before
    # Unknown members and contexts are tolerated, so some of these are still good.
    assert accepted > 0


@pytest.mark.parametrize("path", ADDRESSES)
def test_what_is_no_message_at_all_is_refused_as_the_specification_says(
    node: OneNode, path: str
) -> None:
    node.put_negotiation("PROVIDER", "OFFERED")
    before = node.snapshot()
    for raw in RAW:
        answer = node.post(path, raw)
        verify_error(answer, ERROR_OF[path.split("/")[1]])
        assert answer.status_code == 400
    assert node.snapshot() == before


@pytest.mark.parametrize("role", ROLES)
def test_all_that_is_said_in_turn_fits_the_official_schemas(
    node: OneNode,
    role: str,
    schema_faults: SchemaFaults,  # noqa: F811
) -> None:
    """Answers, errors and our own next messages, whatever they answer; and what is accepted does
    too, so that nothing is taken that the specification's own form refuses."""
    rng = random.Random(role)
    negotiations = negotiation_messages(role, node.node.did)
    talks = [("negotiations", state, negotiations) for state in NegotiationState]
    talks += [("transfers", state, transfer_messages(role)) for state in TransferState]
    for part, state, messages in talks:
        put = node.put_negotiation if part == "negotiations" else node.put_transfer
        for path, content in list(bodies(rng, messages))[:: MUTATIONS_EACH // 4]:
            pid = put(role, state)
            answer = node.post(f"/{part}/{pid}/{path}", content)
            if answer.status_code == 200:
                written = json.loads(content)
                assert schema_faults(written["@type"], written) == []
            for body in (answer.content, *node.told()):
                said = json.loads(body)
                assert schema_faults(said["@type"], said) == [], said


@pytest.mark.parametrize("part", ["negotiations", "transfers"])
@pytest.mark.parametrize("pid", ["x" * 3000, "%00", "%ED%A0%80", "%F0%9F%94%92", "a%20b", "..%2Fx"])
def test_an_address_of_no_process_is_not_found_whatever_it_says(
    node: OneNode, part: str, pid: str
) -> None:
    message = dsp.TransferCompletionMessage(**pids("PROVIDER"))
    path = {"negotiations": "termination", "transfers": "completion"}[part]
    if part == "negotiations":
        message = dsp.ContractNegotiationTerminationMessage(**pids("PROVIDER"))
    posted = node.post(f"/{part}/{pid}/{path}", message.to_bytes())
    asked = node.http.get(f"/dsp/2025-1/{part}/{pid}", headers={"authorization": TOKEN})
    for answer in (posted, asked):
        assert answer.status_code == 404
        dsp.parse(getattr(dsp, ERROR_OF[part]), answer.content)


def test_unknown_processes_and_unknown_callers_look_the_same(node: OneNode) -> None:
    for path, message in negotiation_messages("PROVIDER", node.node.did).items():
        node.put_negotiation("PROVIDER", "OFFERED")
        unknown = node.post(f"/negotiations/urn:uuid:nobody/{path}", message.to_bytes())
        stranger = node.http.post(
            f"/dsp/2025-1/negotiations/urn:uuid:ours/{path}", content=message.to_bytes()
        )
        for answer in (unknown, stranger):
            assert answer.status_code == 404
            assert answer.json()["@type"] == "ContractNegotiationError"


def test_a_provider_cannot_bury_people_under_offers_nobody_asked_for(node: OneNode) -> None:
    node.put_negotiation("PROVIDER", "TERMINATED")
    offer = dsp.ContractOfferMessage(
        provider_pid="urn:uuid:0", offer=OFFER.for_message(DATASET), callback_address=PEER_URL
    )
    answers = [
        node.post(
            "/negotiations/offers",
            offer.model_copy(update={"provider_pid": f"urn:uuid:{number}"}).to_bytes(),
        )
        for number in range(MAX_UNASKED_OFFERS + 1)
    ]
    assert [one.status_code for one in answers] == [201] * MAX_UNASKED_OFFERS + [503]
    assert answers[-1].json()["@type"] == "ContractNegotiationError"
    waiting = [row for row in node.node.proposals.newest(waiting=True) if row.offer is None]
    assert len(waiting) == MAX_UNASKED_OFFERS


def first_request(number: int) -> bytes:
    return dsp.ContractRequestMessage(
        consumer_pid=f"urn:uuid:open-{number}",
        offer=OFFER.for_message(DATASET),
        callback_address=PEER_URL,
    ).to_bytes()


def test_a_consumer_has_so_many_negotiations_open_and_no_more(
    node: OneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.clear()
    bounded = node.node.home.settings.model_copy(update={"max_open_negotiations": 3})
    monkeypatch.setattr(node.node.home, "settings", bounded)
    answers = [node.post("/negotiations/request", first_request(number)) for number in range(4)]
    assert [one.status_code for one in answers] == [201, 201, 201, 503]
    assert "3 of your negotiations are open here already" in answers[-1].json()["reason"][0]
    # A repetition begins nothing, and one that has ended makes room.
    assert node.post("/negotiations/request", first_request(0)).status_code == 201
    pid = answers[0].json()["providerPid"]
    ended = dsp.ContractNegotiationTerminationMessage(
        provider_pid=pid, consumer_pid="urn:uuid:open-0"
    )
    assert node.post(f"/negotiations/{pid}/termination", ended.to_bytes()).status_code == 200
    assert node.post("/negotiations/request", first_request(4)).status_code == 201


def test_a_member_that_sends_too_much_is_refused_before_anything_is_written(
    node: OneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.clear()
    monkeypatch.setattr(node.node, "rates", Rates([Limit(MESSAGES, 0.1, 1.0)]))
    assert node.post("/negotiations/request", first_request(0)).status_code == 201
    before = node.snapshot()
    refused = node.post("/negotiations/request", first_request(1))
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "10"
    assert "too many messages of yours" in refused.json()["reason"][0]
    assert node.snapshot() == before


def test_two_agreements_cannot_have_one_name(node: OneNode) -> None:
    node.clear()
    agreement = negotiation_messages("CONSUMER", node.node.did)["agreement"]
    finals = []
    for number in range(2):
        pid = node.node.negotiations.begin(PEER, PEER_URL, OFFER.for_message(DATASET))
        names = {"provider_pid": f"urn:p{number}", "consumer_pid": pid}
        node.post(f"/negotiations/{pid}/agreement", agreement.model_copy(update=names).to_bytes())
        finals.append(dsp.ContractNegotiationEventMessage(**names, event_type="FINALIZED"))
    answers = [
        node.post(f"/negotiations/{one.consumer_pid}/events", one.to_bytes()) for one in finals
    ]
    assert [answer.status_code for answer in answers] == [200, 400]


@pytest.mark.parametrize("part", ["negotiations", "transfers"])
def test_a_peer_cannot_give_two_processes_one_name(node: OneNode, part: str) -> None:
    node.clear()
    answers = []
    for _ in range(2):
        if part == "negotiations":
            pid = node.node.negotiations.begin(PEER, PEER_URL, OFFER.for_message(DATASET))
            path, model = "termination", dsp.ContractNegotiationTerminationMessage
        else:
            with node.node.store.transaction() as tx:
                agreement = tx.get_one(AgreementRow, HELD)
                pid = node.node.transfers.begin(tx, agreement, "HttpData-PULL")
            path, model = "termination", dsp.TransferTerminationMessage
        message = model(provider_pid="urn:uuid:one", consumer_pid=pid)
        answers.append(node.post(f"/{part}/{pid}/{path}", message.to_bytes()))
    assert [answer.status_code for answer in answers] == [200, 400]


@pytest.mark.parametrize("role", ROLES)
def test_a_first_message_is_none_of_a_negotiation_that_is_known(node: OneNode, role: str) -> None:
    offer, names = OFFER.for_message(DATASET), pids(role)
    if role == "PROVIDER":
        pid, path = node.put_negotiation(role, "OFFERED"), "request"
        first: dsp.Document = dsp.ContractRequestMessage(
            consumer_pid=names["consumer_pid"], offer=offer, callback_address=PEER_URL
        )
    else:
        pid, path = node.put_negotiation(role, "REQUESTED"), "offers"
        first = dsp.ContractOfferMessage(
            provider_pid=names["provider_pid"], offer=offer, callback_address=PEER_URL
        )
    before = node.snapshot()
    verify_error(
        node.post(f"/negotiations/{pid}/{path}", first.to_bytes()), ERROR_OF["negotiations"]
    )
    assert node.snapshot() == before


def test_a_counter_offer_is_about_the_same_dataset(node: OneNode) -> None:
    pid = node.put_negotiation("PROVIDER", "OFFERED")
    with node.node.store.transaction() as tx:
        other = tx.get_one(DatasetRow, DATASET).model_copy(update={"id": "others"})
        tx.add(DatasetRow(**{**other.model_dump(), "offer": {**OFFER.to_json(), "@id": "o:2"}}))
    offer = OFFER.model_copy(update={"id": "o:2"}).for_message("others")
    message = dsp.ContractRequestMessage(**pids("PROVIDER"), offer=offer)
    before = node.snapshot()
    answer = node.post(f"/negotiations/{pid}/request", message.to_bytes())
    verify_error(answer, ERROR_OF["negotiations"])
    assert node.snapshot() == before


@pytest.mark.parametrize("assigner", ["another", "the node"])
def test_an_agreement_binds_the_two_that_negotiate_and_nobody_else(
    node: OneNode, assigner: str
) -> None:
    node.clear()
    offer = dsp.ContractOfferMessage(
        provider_pid="urn:p", offer=OFFER.for_message(DATASET), callback_address=PEER_URL
    )
    pid = node.post("/negotiations/offers", offer.to_bytes()).json()["consumerPid"]
    node.node.proposals.decide(pid, Approval.APPROVED, by=HOME)
    other, own = "did:web:elsewhere.example", node.node.did
    agreement = agreement_from(
        OFFER,
        agreement_id="urn:uuid:new",
        target=DATASET,
        assigner=own if assigner == "the node" else other,
        assignee=other if assigner == "the node" else own,
        timestamp="2026-11-25T00:00:00Z",
    )
    message = dsp.ContractAgreementMessage(
        provider_pid="urn:p", consumer_pid=pid, agreement=agreement
    )
    node.post(f"/negotiations/{pid}/agreement", message.to_bytes())
    assert node.node.proposals.get(pid).state in ("ACCEPTED", "TERMINATED")
