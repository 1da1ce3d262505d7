"""Whatever a peer sends: never a 500, never a change by a message that was refused, and always the
specification's own error."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from contracts import messages as dsp
from contracts.errors import ContractError
from contracts.negotiation import TABLE as NEGOTIATION_TABLE
from contracts.negotiation import NegotiationState
from contracts.party import Party
from contracts.transfer import TABLE as TRANSFER_TABLE
from contracts.transfer import TransferState
from dataspace.protocol.negotiations import MAX_UNASKED_OFFERS

from .protocol_node import (
    AGREEMENT,
    DATASET,
    OFFER,
    PEER_URL,
    OneNode,
    negotiation_messages,
    one_node,
    transfer_messages,
)

MUTATIONS_EACH = 14
ROLES = ("PROVIDER", "CONSUMER")
STRANGE: list[Any] = [
    None,
    True,
    -1,
    1e308,
    "",
    " ",
    "\x00",
    "\ud800",
    "x" * 5000,
    "did:web:elsewhere.example",
    "../../etc/passwd",
    [],
    {},
    [[]] * 50,
    {"@id": 1},
    {"@value": {}},
]
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


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneNode]:
    with one_node(tmp_path_factory.mktemp("fuzzed")) as made:
        yield made


def mutated(rng: random.Random, body: dict[str, Any]) -> dict[str, Any]:
    """The message with one to three changes somewhere in it."""
    changed = copy.deepcopy(body)
    for _ in range(rng.randint(1, 3)):
        place: Any = changed
        while True:
            if isinstance(place, dict) and place:
                key: Any = rng.choice(list(place))
            elif isinstance(place, list) and place:
                key = rng.randrange(len(place))
            else:
                break
            if not isinstance(place[key], dict | list) or rng.random() < 0.4:
                _change(rng, place, key)
                break
            place = place[key]
    return changed


def _change(rng: random.Random, place: Any, key: Any) -> None:
    how = rng.randrange(4)
    if how == 0:
        del place[key]
    elif how == 1 and isinstance(place, dict):
        place[str(rng.choice(STRANGE))] = place.pop(key)
    elif how == 2 and isinstance(place, dict):
        place[f"{key}x"] = copy.deepcopy(place[key])
    else:
        place[key] = copy.deepcopy(rng.choice(STRANGE))


def verify_error(answer: Any, kind: str) -> None:
    assert answer.status_code in (400, 404), answer.text
    assert answer.headers["content-type"].startswith("application/json")
    error = answer.json()
    assert error["@type"] == kind
    assert error["code"] == str(answer.status_code)
    assert error["reason"]
    dsp.parse(getattr(dsp, kind), answer.content)


def parsed(model: type[dsp.Document], body: bytes) -> dsp.Document | None:
    try:
        return dsp.parse(model, body)
    except ContractError:
        return None


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("state", list(NegotiationState))
def test_negotiations_stand_mutated_messages(
    node: OneNode, role: str, state: NegotiationState
) -> None:
    rng = random.Random(f"{role} {state}")
    theirs = Party.CONSUMER if role == "PROVIDER" else Party.PROVIDER
    for path, message in negotiation_messages(role, node.node.did).items():
        for number in range(MUTATIONS_EACH):
            body = message.to_json() if number == 0 else mutated(rng, message.to_json())
            content = json.dumps(body).encode()
            pid = node.put_negotiation(role, state)
            before = node.snapshot()
            answer = node.post(f"/negotiations/{pid}/{path}", content)
            if answer.status_code != 200:
                verify_error(answer, "ContractNegotiationError")
                assert node.snapshot() == before
                continue
            understood = parsed(type(message), content)
            assert understood is not None
            kind = dsp.negotiation_message(understood)
            assert (state, theirs, kind) in NEGOTIATION_TABLE


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("state", list(TransferState))
def test_transfers_stand_mutated_messages(node: OneNode, role: str, state: TransferState) -> None:
    rng = random.Random(f"{role} {state}")
    theirs = Party.CONSUMER if role == "PROVIDER" else Party.PROVIDER
    for path, message in transfer_messages(role).items():
        for number in range(MUTATIONS_EACH):
            body = message.to_json() if number == 0 else mutated(rng, message.to_json())
            content = json.dumps(body).encode()
            pid = node.put_transfer(role, state)
            before = node.snapshot()
            answer = node.post(f"/transfers/{pid}/{path}", content)
            if answer.status_code != 200:
                verify_error(answer, "TransferError")
                assert node.snapshot() == before
                continue
            understood = parsed(type(message), content)
            assert understood is not None
            kind = dsp.transfer_message(understood)
            assert (state, theirs, kind) in TRANSFER_TABLE


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
ERROR_OF = {
    "negotiations": "ContractNegotiationError",
    "transfers": "TransferError",
    "catalog": "CatalogError",
}


@pytest.mark.parametrize("path", FIRST)
def test_first_messages_stand_mutation(node: OneNode, path: str) -> None:
    rng = random.Random(path)
    message = FIRST[path]
    accepted = 0
    for _ in range(6 * MUTATIONS_EACH):
        node.put_negotiation("PROVIDER", "TERMINATED")
        before = node.snapshot()
        answer = node.post(path, json.dumps(mutated(rng, message.to_json())).encode())
        if answer.status_code in (200, 201):
            accepted += 1
            continue
        verify_error(answer, ERROR_OF[path.split("/")[1]])
        assert node.snapshot() == before
    # Unknown members and contexts are tolerated, so some of these are still good.
    assert accepted > 0


ADDRESSES = [
    *FIRST,
    *(
        f"/negotiations/urn:uuid:ours/{path}"
        for path in negotiation_messages("PROVIDER", "did:x:y")
    ),
    *(f"/transfers/urn:uuid:ours/{path}" for path in transfer_messages("PROVIDER")),
]


@pytest.mark.parametrize("path", ADDRESSES)
def test_what_is_no_message_at_all_is_refused_as_the_specification_says(
    node: OneNode, path: str
) -> None:
    node.put_negotiation("PROVIDER", "OFFERED")
    before = node.snapshot()
    for raw in RAW:
        answer = node.post(path, raw)
        verify_error(answer, ERROR_OF[path.split("/")[1]])
    assert node.snapshot() == before


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
    waiting = [row for row in node.node.proposals.all(waiting=True) if row.offer is None]
    assert len(waiting) == MAX_UNASKED_OFFERS


@pytest.mark.parametrize("role", ROLES)
def test_random_sequences_never_reach_a_state_outside_the_table(node: OneNode, role: str) -> None:
    """What a peer says moves a negotiation only along the table's arcs; our own moves, made in the
    same breath, too: so wherever it stands is reached from where it stood."""
    rng = random.Random(role)
    theirs = Party.CONSUMER if role == "PROVIDER" else Party.PROVIDER
    ours = Party(role)
    messages = list(negotiation_messages(role, node.node.did).items())
    reached = set()
    for _ in range(30):
        pid = node.put_negotiation(role, "REQUESTED" if role == "CONSUMER" else "OFFERED")
        for _ in range(8):
            state = _state(node, pid)
            path, message = rng.choice(messages)
            answer = node.post(f"/negotiations/{pid}/{path}", message.to_bytes())
            kind = dsp.negotiation_message(message)
            after = _state(node, pid)
            following = NEGOTIATION_TABLE.get((state, theirs, kind))
            if following is None:
                assert (answer.status_code, after) == (400, state)
                continue
            assert answer.status_code == 200
            own = {
                to
                for (start, who, _), to in NEGOTIATION_TABLE.items()
                if (start, who) == (following, ours)
            }
            assert after in {following, *own}
            reached.add(after)
    assert len(reached) >= 3


def _state(node: OneNode, pid: str) -> NegotiationState:
    with node.node.store.transaction() as tx:
        return NegotiationState(node.node.negotiations.get(tx, pid).state)
