"""Whatever both sides say one after the other, a process stands where the protocol's table says.

The peer sends any message at any moment, our strategy makes any move the table allows, and the
node's owner does what owners do; after each step the state is the one that the table gives.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import select

from contracts import messages as dsp
from contracts.errors import ContractError
from contracts.negotiation import TABLE as NEGOTIATION_TABLE
from contracts.negotiation import NegotiationMessage, NegotiationState
from contracts.odrl import agreement_from
from contracts.party import Party
from contracts.strategy import Action, Approval, Situation, Verb
from contracts.transfer import TABLE as TRANSFER_TABLE
from contracts.transfer import TransferMessage, TransferState
from contracts.transfer_strategy import PULL, TransferAction, TransferSituation, TransferVerb
from dataspace.access.principal import HOME
from dataspace.errors import NodeError
from dataspace.protocol import BASE, Behaviour
from dataspace.store.tables import AgreementRow
from tests.nodes.protocol_node import (
    AGREEMENT,
    DATASET,
    HELD,
    OFFER,
    PEER,
    PEER_URL,
    OneNode,
    one_node,
)

PARTIES = (Party.PROVIDER, Party.CONSUMER)
OTHER = {Party.PROVIDER: Party.CONSUMER, Party.CONSUMER: Party.PROVIDER}
# A message that the table allows the peer now: this one of them.
MOST_NUMBERS = 9
GO_ON = st.integers(0, MOST_NUMBERS)
_numbers = itertools.count()


@dataclass
class Chosen:
    """Both strategies: the move of the table that an example's next number stands for."""

    numbers: list[int] = field(default_factory=list)
    made: Any = None

    def negotiation(self, situation: Situation) -> Action:
        moves = _moves(NEGOTIATION_TABLE, situation.state, situation.party)
        chosen = self._next(["NOTHING", "WAIT", *moves])
        self.made = Verb[chosen]
        offer = OFFER.for_message(DATASET)
        return Action(self.made, offer=offer if self.made in (Verb.OFFER, Verb.REQUEST) else None)

    def transfer(self, situation: TransferSituation) -> TransferAction:
        moves = _moves(TRANSFER_TABLE, situation.state, situation.party)
        self.made = TransferVerb[self._next(["NOTHING", *moves])]
        return TransferAction(self.made)

    def _next(self, moves: list[str]) -> str:
        number = self.numbers.pop(0) if self.numbers else 0
        if "TERMINATE" in moves and number < MOST_NUMBERS:
            # At every turn the process would end too soon to see more of the table.
            moves.remove("TERMINATE")
        return moves[number % len(moves)]


def _moves(table: Mapping[Any, Any], state: str, party: Party) -> list[str]:
    """The names of the messages that `party` may send in `state`."""
    return [message.name for start, who, message in table if (start, who) == (state, party)]


CHOSEN = Chosen()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneNode]:
    behaviour = Behaviour(CHOSEN.negotiation, CHOSEN.transfer)
    with one_node(tmp_path_factory.mktemp("sequences"), behaviour) as made:
        yield made


# ---- negotiations -------------------------------------------------------------------------------


def begun_negotiation(node: OneNode, party: Party, *, unasked: bool) -> tuple[str, str]:
    """A new negotiation in which the node is `party`: our name for it, and the peer's."""
    theirs, offer = f"urn:peer:{next(_numbers)}", OFFER.for_message(DATASET)
    if party is Party.CONSUMER and not unasked:
        return node.node.negotiations.begin(PEER, f"{PEER_URL}{BASE}", offer), theirs
    if party is Party.PROVIDER:
        path, own = "/negotiations/request", "providerPid"
        first: dsp.Document = dsp.ContractRequestMessage(
            consumer_pid=theirs, offer=offer, callback_address=PEER_URL
        )
    else:
        path, own = "/negotiations/offers", "consumerPid"
        first = dsp.ContractOfferMessage(
            provider_pid=theirs, offer=offer, callback_address=PEER_URL
        )
    answer, again = (node.post(path, first.to_bytes()) for _ in range(2))
    assert (answer.status_code, again.status_code) == (201, 201)
    assert answer.json()[own] == again.json()[own]
    return answer.json()[own], theirs


def negotiation_message(
    kind: NegotiationMessage, party: Party, ours: str, theirs: str, did: str
) -> tuple[str, dsp.Document]:
    """The peer's message of one kind, and the path it goes to."""
    names = {"provider_pid": ours, "consumer_pid": theirs}
    if party is Party.CONSUMER:
        names = {"provider_pid": theirs, "consumer_pid": ours}
    offer = OFFER.for_message(DATASET)
    consumer = PEER if party is Party.PROVIDER else did
    agreement = agreement_from(
        OFFER,
        agreement_id=f"urn:agreed:{ours}",
        target=DATASET,
        assigner=did if party is Party.PROVIDER else PEER,
        assignee=consumer,
        timestamp="2026-11-25T00:00:00Z",
    )
    match kind:
        case NegotiationMessage.REQUEST:
            return "request", dsp.ContractRequestMessage(**names, offer=offer)
        case NegotiationMessage.OFFER:
            return "offers", dsp.ContractOfferMessage(**names, offer=offer)
        case NegotiationMessage.AGREE:
            return "agreement", dsp.ContractAgreementMessage(**names, agreement=agreement)
        case NegotiationMessage.VERIFY:
            return "agreement/verification", dsp.ContractAgreementVerificationMessage(**names)
        case NegotiationMessage.TERMINATE:
            return "termination", dsp.ContractNegotiationTerminationMessage(**names)
    event = "ACCEPTED" if kind is NegotiationMessage.ACCEPT else "FINALIZED"
    return "events", dsp.ContractNegotiationEventMessage(**names, event_type=event)


def negotiation_state(node: OneNode, pid: str) -> NegotiationState:
    with node.node.store.transaction() as tx:
        return NegotiationState(node.node.negotiations.get(tx, pid).state)


def concluded(node: OneNode, pid: str) -> int:
    """How many agreements this negotiation has made."""
    with node.node.store.transaction() as tx:
        return len(tx.exec(select(AgreementRow).where(AgreementRow.negotiation == pid)).all())


def after_our_move(state: NegotiationState, party: Party) -> NegotiationState:
    """Where the strategy's move leads from `state`; it made none where the protocol ends."""
    verb, CHOSEN.made = CHOSEN.made, None
    if verb in (None, Verb.NOTHING, Verb.WAIT):
        return state
    return NEGOTIATION_TABLE[state, party, NegotiationMessage[verb.name]]


OWNER_OF_NEGOTIATION: dict[str, Callable[[OneNode, str], None]] = {
    "approve": lambda node, pid: node.node.proposals.decide(pid, Approval.APPROVED, by=HOME),
    "decline": lambda node, pid: node.node.proposals.decide(pid, Approval.DECLINED, by=HOME),
    "counter": lambda node, pid: node.node.proposals.counter(
        pid, {"permission": [{"action": "use"}]}, by=HOME
    ),
    "end": lambda node, pid: node.node.proposals.end(pid, "enough"),
}
negotiation_steps = st.lists(
    st.one_of(
        st.sampled_from(list(NegotiationMessage)),
        st.sampled_from(sorted(OWNER_OF_NEGOTIATION)),
        GO_ON,
    ),
    max_size=12,
)
examples = settings(
    max_examples=20,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("party", PARTIES)
@examples
@given(steps=negotiation_steps, numbers=st.lists(GO_ON, max_size=12), unasked=st.booleans())
def test_a_negotiation_goes_only_where_the_table_leads(
    node: OneNode,
    party: Party,
    steps: list[NegotiationMessage | str | int],
    numbers: list[int],
    unasked: bool,
) -> None:
    node.clear()
    CHOSEN.numbers, CHOSEN.made = list(numbers), None
    ours, theirs = begun_negotiation(node, party, unasked=unasked)
    begun = "OFFERED" if party is Party.CONSUMER and unasked else "REQUESTED"
    state = after_our_move(NegotiationState(begun), party)
    for step in steps:
        before = node.snapshot()
        if isinstance(step, int):
            step = legal(NEGOTIATION_TABLE, state, OTHER[party], step)
        if isinstance(step, NegotiationMessage):
            path, message = negotiation_message(step, party, ours, theirs, node.node.did)
            following = NEGOTIATION_TABLE.get((state, OTHER[party], step))
            answer = said(node, f"/negotiations/{ours}/{path}", message, before, following)
            if following is not None:
                assert answer == following
                state = after_our_move(following, party)
        else:
            if done(OWNER_OF_NEGOTIATION[step], node, ours):
                to = {
                    to
                    for (start, who, message), to in NEGOTIATION_TABLE.items()
                    if (start, who) == (state, party)
                    and (message is NegotiationMessage.TERMINATE) == (step == "end")
                }
                reached = after_our_move(state, party)
                if step in ("counter", "end"):
                    reached = negotiation_state(node, ours)
                    assert reached in to
                state = reached
            else:
                assert node.snapshot() == before
        assert negotiation_state(node, ours) == state
        assert concluded(node, ours) == (1 if state is NegotiationState.FINALIZED else 0)


# ---- transfers ----------------------------------------------------------------------------------


def begun_transfer(node: OneNode, party: Party) -> tuple[str, str]:
    theirs = f"urn:peer:{next(_numbers)}"
    if party is Party.CONSUMER:
        with node.node.store.transaction() as tx:
            return node.node.transfers.begin(tx, tx.get_one(AgreementRow, HELD), PULL), theirs
    first = dsp.TransferRequestMessage(
        consumer_pid=theirs, agreement_id=AGREEMENT, format=PULL, callback_address=PEER_URL
    )
    answer, again = (node.post("/transfers/request", first.to_bytes()) for _ in range(2))
    assert (answer.status_code, again.status_code) == (201, 201)
    assert answer.json()["providerPid"] == again.json()["providerPid"]
    node.take_steps()
    return answer.json()["providerPid"], theirs


def transfer_message(
    kind: TransferMessage, party: Party, ours: str, theirs: str
) -> tuple[str, dsp.Document]:
    names = {"provider_pid": ours, "consumer_pid": theirs}
    if party is Party.CONSUMER:
        names = {"provider_pid": theirs, "consumer_pid": ours}
    path, model = {
        TransferMessage.START: ("start", dsp.TransferStartMessage),
        TransferMessage.SUSPEND: ("suspension", dsp.TransferSuspensionMessage),
        TransferMessage.COMPLETE: ("completion", dsp.TransferCompletionMessage),
        TransferMessage.TERMINATE: ("termination", dsp.TransferTerminationMessage),
    }[kind]
    return path, model(**names)


def transfer_after_our_move(state: TransferState, party: Party) -> TransferState:
    verb, CHOSEN.made = CHOSEN.made, None
    if verb in (None, TransferVerb.NOTHING):
        return state
    return TRANSFER_TABLE[state, party, TransferMessage[verb.name]]


def steered(act: Callable[..., None], *words: str) -> Callable[[OneNode, str], None]:
    def steer(node: OneNode, pid: str) -> None:
        with node.node.store.transaction() as tx:
            act(node.node.transfers, tx, node.node.transfers.get(tx, pid), *words)

    return steer


OWNER_OF_TRANSFER: dict[str, tuple[Callable[[OneNode, str], None], TransferMessage]] = {
    "suspend": (
        steered(lambda all_, tx, row, why: all_.suspend(tx, row, why), "wait"),
        TransferMessage.SUSPEND,
    ),
    "resume": (steered(lambda all_, tx, row: all_.resume(tx, row)), TransferMessage.START),
    "finish": (steered(lambda all_, tx, row: all_.finish(tx, row)), TransferMessage.COMPLETE),
    "end": (
        steered(lambda all_, tx, row, why: all_.end(tx, row, why, by=row.peer), "enough"),
        TransferMessage.TERMINATE,
    ),
}
LATER = [kind for kind in TransferMessage if kind is not TransferMessage.REQUEST]
transfer_steps = st.lists(
    st.one_of(st.sampled_from(LATER), st.sampled_from(sorted(OWNER_OF_TRANSFER)), GO_ON),
    max_size=12,
)


@pytest.mark.parametrize("party", PARTIES)
@examples
@given(steps=transfer_steps, numbers=st.lists(GO_ON, max_size=12))
def test_a_transfer_goes_only_where_the_table_leads(
    node: OneNode, party: Party, steps: list[TransferMessage | str | int], numbers: list[int]
) -> None:
    node.clear()
    CHOSEN.numbers, CHOSEN.made = list(numbers), None
    uses = used(node, party)
    ours, theirs = begun_transfer(node, party)
    state = transfer_after_our_move(TransferState.REQUESTED, party)
    permitted = 1 if party is Party.PROVIDER else 0
    for step in steps:
        before = node.snapshot()
        if isinstance(step, int):
            step = legal(TRANSFER_TABLE, state, OTHER[party], step)
        if isinstance(step, TransferMessage):
            path, message = transfer_message(step, party, ours, theirs)
            following = TRANSFER_TABLE.get((state, OTHER[party], step))
            answer = said(node, f"/transfers/{ours}/{path}", message, before, following)
            if following is not None:
                assert answer == following
                permitted += state is TransferState.REQUESTED and step is TransferMessage.START
                state = transfer_after_our_move(following, party)
        else:
            act, kind = OWNER_OF_TRANSFER[step]
            if done(act, node, ours):
                state = TRANSFER_TABLE[state, party, kind]
            else:
                assert node.snapshot() == before
        with node.node.store.transaction() as tx:
            assert node.node.transfers.get(tx, ours).state == state
        assert used(node, party) == uses + permitted


def used(node: OneNode, party: Party) -> int:
    with node.node.store.transaction() as tx:
        name = AGREEMENT if party is Party.PROVIDER else HELD
        return tx.get_one(AgreementRow, name).use_count


# ---- both ---------------------------------------------------------------------------------------


def legal(table: Mapping[Any, Any], state: str, party: Party, number: int) -> Any:
    """One of the messages `party` may send in `state`, or one that it may not where none is."""
    kinds = type(next(iter(table))[2])
    names = _moves(table, state, party)
    if len(names) > 1 and "TERMINATE" in names and number < MOST_NUMBERS:
        names.remove("TERMINATE")
    return kinds[names[number % len(names)]] if names else kinds.TERMINATE


def said(
    node: OneNode, path: str, message: dsp.Document, before: object, following: str | None
) -> str | None:
    """The state that the answer to the peer's message tells, None for a refusal.

    A refusal changes nothing. The message is sent twice under one Message-Id: the second time it
    has the same answer and no effect.
    """
    name = f"message-{next(_numbers)}"
    answer = node.post(path, message.to_bytes(), message_id=name)
    after = node.snapshot()
    again = node.post(path, message.to_bytes(), message_id=name)
    assert (again.status_code, again.content) == (answer.status_code, answer.content)
    assert node.snapshot() == after
    if following is None:
        assert answer.status_code == 400, answer.text
        assert answer.json()["@type"] in ("ContractNegotiationError", "TransferError")
        assert after == before
        return None
    assert answer.status_code == 200, answer.text
    state: str = answer.json()["state"]
    return state


def done(act: Callable[[OneNode, str], None], node: OneNode, pid: str) -> bool:
    """Do what an owner does; False where it is refused."""
    try:
        act(node, pid)
    except (NodeError, ContractError):
        return False
    return True
