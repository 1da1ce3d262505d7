"""Contract negotiation: both roles, driven by events and judged by the one state table.

A peer's message, the state it leads to, our strategy's next move and the message that tells it are
one transaction, so a negotiation never stands where nobody is about to move it: the word is with
the peer (and a deadline ends that), with a person of ours, or in the outbox.
"""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from sqlmodel import Session, col, func, select

from contracts import messages as dsp
from contracts.negotiation import (
    TERMINAL,
    NegotiationMessage,
    NegotiationState,
    may_follow_up,
    next_state,
)
from contracts.odrl import Agreement, Offer
from contracts.party import Party
from contracts.planning import approval_required
from contracts.strategy import Action, Verb
from dataspace.answer import Answer
from dataspace.errors import InputRejected, NotFound, ProtocolViolation, Unavailable
from dataspace.identity.tokens import Member
from dataspace.kinds import Right, verify_right
from dataspace.processes import Handler, Later, Process, schedule
from dataspace.protocol import BASE, verify_pids
from dataspace.protocol.delivery import Reaction
from dataspace.protocol.explanation import explanation_of
from dataspace.protocol.negotiation_rows import (
    as_message,
    message_of,
    peer_pid_in,
    pids,
    situation_of,
)
from dataspace.protocol.process_names import learn_pid
from dataspace.store.tables import AgreementRow, DatasetRow, NegotiationRow

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.negotiations")

STEP = "negotiation-step"
EXPIRE = "expire-negotiation"
# Nodes act at once; one that has said nothing for this long has gone.
DEADLINE_S = 900.0
# A person reads mail, has weekends and holidays.
PERSON_DEADLINE_S = 14 * 86400.0
# Offers nobody asked for are read by people; one provider may not bury the others' under its own.
MAX_UNASKED_OFFERS = 16
_OPEN = [state.value for state in NegotiationState if state not in TERMINAL]
BEGIN_REACTION = "negotiation-requested"
STEP_REACTION = "negotiation-message"


class Negotiations:
    """All negotiations of this node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        node.delivery.on(BEGIN_REACTION, Reaction(self._begun, self._undelivered))
        node.delivery.on(STEP_REACTION, Reaction(self._told, self._undelivered))

    def handlers(self) -> dict[str, Handler]:
        return {STEP: Handler(self._step, self._step_failed), EXPIRE: Handler(self._expire)}

    # ---- our side begins ----------------------------------------------------------------------

    def begin(
        self, provider: str, callback: str, offer: Offer, *, renews: str | None = None
    ) -> str:
        """Request an agreement on `offer`, which names its target, at the address `callback`."""
        now = time.time()
        row = NegotiationRow(
            pid=new_pid(),
            role=Party.CONSUMER.value,
            peer=provider,
            callback=callback,
            dataset=offer.target or "",
            state=next_state(None, Party.CONSUMER, NegotiationMessage.REQUEST),
            offer=offer.to_json(),
            rounds=1,
            renews=renews,
            created_at=now,
            updated_at=now,
        )
        row.deadline_at = now + _patience_s(row)
        with self._node.store.transaction() as tx:
            self.start(tx, row, Action(Verb.REQUEST, offer=offer))
            return row.pid

    def start(self, tx: Session, row: NegotiationRow, action: Action) -> None:
        """Store a negotiation that we begin, and send its first message."""
        tx.add(row)
        self._watch(tx, row)
        self._tell(tx, row, action)

    def get(self, tx: Session, pid: str) -> NegotiationRow:
        """The negotiation by our pid. Raises NotFound."""
        row = tx.get(NegotiationRow, pid)
        if row is None:
            raise NotFound("there is no such negotiation at this node", remedy="check its id")
        return row

    # ---- a peer's message -------------------------------------------------------------------

    def show(self, tx: Session, peer: Member, pid: str) -> dsp.ContractNegotiation:
        return as_message(self._own(tx, peer, pid))

    def receive_request(
        self, tx: Session, peer: Member, message: dsp.ContractRequestMessage
    ) -> dsp.ContractNegotiation:
        """A consumer's first message. A repetition gets the negotiation it already has."""
        verify_right(peer.kind, Right.CONSUME)
        existing = self._known(tx, Party.PROVIDER, peer, message.consumer_pid)
        if existing is not None:
            return as_message(existing)
        if message.callback_address is None:
            raise ProtocolViolation("callbackAddress: the first request must say where to answer")
        self._verify_room(tx, peer)
        dataset = self._offered(tx, message.offer)
        row = self._new_row(
            Party.PROVIDER, peer, message.consumer_pid, message.callback_address, dataset.id
        )
        row.state = next_state(None, Party.CONSUMER, NegotiationMessage.REQUEST)
        row.offer = message.offer.to_json()
        return self._received_first(tx, row)

    def _verify_room(self, tx: Session, peer: Member) -> None:
        """Whether this consumer may begin another one; raises Unavailable."""
        most = self._node.home.settings.max_open_negotiations
        unfinished = select(func.count()).where(
            NegotiationRow.peer == peer.did,
            NegotiationRow.role == Party.PROVIDER.value,
            col(NegotiationRow.state).in_(_OPEN),
        )
        if tx.exec(unfinished).one() >= most:
            raise Unavailable(
                f"{most} of your negotiations are open here already",
                remedy="finish or end some, then ask again",
            )

    def receive_offer(
        self, tx: Session, peer: Member, message: dsp.ContractOfferMessage
    ) -> dsp.ContractNegotiation:
        """A provider's offer that nobody here asked for; a person answers it."""
        verify_right(peer.kind, Right.OFFER)
        existing = self._known(tx, Party.CONSUMER, peer, message.provider_pid)
        if existing is not None:
            return as_message(existing)
        if message.callback_address is None:
            raise ProtocolViolation("callbackAddress: the first offer must say where to answer")
        waiting = select(func.count()).where(
            NegotiationRow.peer == peer.did,
            NegotiationRow.role == Party.CONSUMER.value,
            col(NegotiationRow.waiting).is_not(None),
        )
        if tx.exec(waiting).one() >= MAX_UNASKED_OFFERS:
            raise Unavailable(
                f"{MAX_UNASKED_OFFERS} of your offers wait here already",
                remedy="offer again when they are answered",
            )
        row = self._new_row(
            Party.CONSUMER,
            peer,
            message.provider_pid,
            message.callback_address,
            message.offer.target or "",
        )
        row.state = next_state(None, Party.PROVIDER, NegotiationMessage.OFFER)
        row.agreement = message.offer.to_json()
        return self._received_first(tx, row)

    def receive(
        self, tx: Session, peer: Member, pid: str, message: dsp.Document
    ) -> dsp.ContractNegotiation:
        """Any later message of either side. Raises IllegalTransition where the table has no arc."""
        row = self._own(tx, peer, pid)
        verify_pids(message, pids(row))
        theirs = Party.CONSUMER if row.role == Party.PROVIDER.value else Party.PROVIDER
        verify_right(peer.kind, Right.CONSUME if theirs is Party.CONSUMER else Right.OFFER)
        state = next_state(NegotiationState(row.state), theirs, dsp.negotiation_message(message))
        self._take_in(tx, row, message)
        learn_pid(tx, row, peer_pid_in(row, message))
        row.peer_kind = peer.kind.value
        row.state, row.updated_at, row.waiting = state, time.time(), None
        row.deadline_at = time.time() + DEADLINE_S
        tx.add(row)
        answer = as_message(row)
        if state is NegotiationState.FINALIZED:
            self._verify_new(tx, Agreement.model_validate(row.agreement).id)
            self._node.agreements.conclude(tx, row)
        self.move_on(tx, row)
        return answer

    def _take_in(self, tx: Session, row: NegotiationRow, message: dsp.Document) -> None:
        """What the message brings, checked and put into the row."""
        if isinstance(message, dsp.ContractRequestMessage):
            if self._offered(tx, message.offer).id != row.dataset:
                raise ProtocolViolation("offer.target: it is not this negotiation's dataset")
            row.offer, row.rounds, row.approval = message.offer.to_json(), row.rounds + 1, None
        elif isinstance(message, dsp.ContractOfferMessage):
            row.agreement, row.rounds = message.offer.to_json(), row.rounds + 1
            row.approval = None
        elif isinstance(message, dsp.ContractAgreementMessage):
            agreement = message.agreement
            if (agreement.assigner, agreement.assignee) != (row.peer, self._node.did):
                raise ProtocolViolation(
                    "agreement: assigner and assignee are not the two who negotiate"
                )
            self._verify_new(tx, agreement.id)
            self._node.agreements.verify_signatures(message, agreement, row.peer)
            row.agreement, row.provider_signature = agreement.to_json(), message.signature
            row.provider_post_quantum = message.post_quantum_signature
        elif isinstance(message, dsp.ContractAgreementVerificationMessage):
            agreed = Agreement.model_validate(row.agreement)
            self._node.agreements.verify_signatures(message, agreed, row.peer)
            row.consumer_signature = message.signature
            row.consumer_post_quantum = message.post_quantum_signature
        elif isinstance(message, dsp.ContractNegotiationTerminationMessage):
            said = explanation_of(message.reason, message.code)
            row.reason, row.clause, row.remedy = said.sentence, said.clause, said.remedy

    # ---- our next move ----------------------------------------------------------------------

    def move_on(self, tx: Session, row: NegotiationRow) -> None:
        """What a state that was just reached leads to: now, or after the node's pause."""
        if NegotiationState(row.state) in TERMINAL:
            return
        if self._node.behaviour.pause_s > 0:
            schedule(
                tx,
                STEP,
                row.pid,
                {"state": row.state},
                lane=f"{STEP}:{row.pid}",
                after_s=self._node.behaviour.pause_s,
            )
            return
        self.act(tx, row, self._choose(tx, row))

    def _step(self, process: Process) -> None:
        with self._node.store.transaction() as tx:
            row = tx.get_one(NegotiationRow, process.subject)
            # A state that was left meanwhile has had its own step.
            if row.state == process.payload["state"]:
                self.act(tx, row, self._choose(tx, row))

    def _choose(self, tx: Session, row: NegotiationRow) -> Action:
        dataset = tx.get(DatasetRow, row.dataset) if row.role == Party.PROVIDER.value else None
        if dataset is not None and dataset.withdrawn_at is not None:
            dataset = None
        zones = self._node.zones.zones_of
        situation = situation_of(row, dataset, datetime.now(UTC), zones)
        return self._node.behaviour.negotiation(situation)

    def act(self, tx: Session, row: NegotiationRow, action: Action) -> None:
        """Make our move `action`: the new state, what it leaves behind, and the message."""
        if action.verb is Verb.NOTHING:
            return
        if action.verb is Verb.WAIT:
            row.waiting = action.reason or "A person here has to decide."
            row.deadline_at = time.time() + PERSON_DEADLINE_S
            tx.add(row)
            log.info("a negotiation waits for a person", negotiation=row.pid, peer=row.peer)
            return
        state = next_state(
            NegotiationState(row.state), Party(row.role), NegotiationMessage[action.verb.name]
        )
        if action.verb is Verb.AGREE:
            self._node.agreements.draft(row)
        elif action.verb is Verb.VERIFY:
            row.consumer_signature, row.consumer_post_quantum = self._node.agreements.sign(row)
        elif action.verb is Verb.ACCEPT:
            # What was offered is now what we ask for, and what an agreement has to say.
            row.offer = row.agreement
        elif action.verb is Verb.OFFER and action.offer is not None:
            row.agreement, row.rounds = action.offer.to_json(), row.rounds + 1
        elif action.verb is Verb.REQUEST and action.offer is not None:
            row.offer, row.rounds = action.offer.to_json(), row.rounds + 1
        elif action.verb is Verb.TERMINATE:
            row.reason, row.clause, row.remedy = action.reason, action.clause, action.remedy
        row.state, row.updated_at, row.waiting = state, time.time(), None
        row.deadline_at = time.time() + _patience_s(row)
        tx.add(row)
        self._tell(tx, row, action)
        if state is NegotiationState.FINALIZED:
            self._node.agreements.conclude(tx, row)

    def _tell(self, tx: Session, row: NegotiationRow, action: Action) -> None:
        if action.verb is Verb.TERMINATE and row.peer_pid is None:
            return  # It will be told as soon as it has told us its name for the negotiation.
        path, message = message_of(row, action, f"{self._node.home.url}{BASE}")
        self._node.delivery.queue(
            tx,
            message,
            to=row.peer,
            url=f"{row.callback}/negotiations/{path}",
            subject=row.pid,
            state=row.state,
            reaction=BEGIN_REACTION if row.peer_pid is None else STEP_REACTION,
            heed=row.peer_pid is None
            or may_follow_up(NegotiationState(row.state), Party(row.role)),
            last=row.state == NegotiationState.TERMINATED,
        )

    # ---- small parts ------------------------------------------------------------------------

    def _new_row(
        self, role: Party, peer: Member, peer_pid: str, callback: str, dataset: str
    ) -> NegotiationRow:
        now = time.time()
        return NegotiationRow(
            pid=new_pid(),
            role=role.value,
            peer=peer.did,
            peer_kind=peer.kind.value,
            peer_pid=peer_pid,
            callback=self._node.peers.callback_of(peer.did, callback),
            dataset=dataset,
            state="",
            rounds=1,
            deadline_at=now + DEADLINE_S,
            created_at=now,
            updated_at=now,
        )

    def _received_first(self, tx: Session, row: NegotiationRow) -> dsp.ContractNegotiation:
        tx.add(row)
        self._watch(tx, row)
        answer = as_message(row)
        self.move_on(tx, row)
        return answer

    def _known(
        self, tx: Session, role: Party, peer: Member, peer_pid: str
    ) -> NegotiationRow | None:
        return tx.exec(
            select(NegotiationRow).where(
                NegotiationRow.role == role.value,
                NegotiationRow.peer == peer.did,
                NegotiationRow.peer_pid == peer_pid,
            )
        ).first()

    def _verify_new(self, tx: Session, agreement_id: str) -> None:
        if tx.get(AgreementRow, agreement_id) is not None:
            raise ProtocolViolation("agreement.@id: it is the id of another agreement")

    def _offered(self, tx: Session, offer: Offer) -> DatasetRow:
        """The dataset whose published offer this names. Raises InputRejected for an unknown one."""
        dataset = tx.get(DatasetRow, offer.target or "")
        if (
            dataset is None
            or dataset.withdrawn_at is not None
            or Offer.model_validate(dataset.offer).id != offer.id
        ):
            raise InputRejected(
                "the request names no offer of this catalogue (offer.@id, offer.target)",
                remedy="take both from the catalogue as it is now",
            )
        return dataset

    def _own(self, tx: Session, peer: Member, pid: str) -> NegotiationRow:
        row = tx.get(NegotiationRow, pid)
        if row is None or row.peer != peer.did:
            raise NotFound("there is no such negotiation")
        return row

    def _begun(self, tx: Session, pid: str, answer: Answer, state: str) -> None:
        """The peer knows the negotiation we began, and has told its name for it."""
        row = tx.get_one(NegotiationRow, pid)
        if row.peer_pid is None:
            learn_pid(tx, row, peer_pid_in(row, dsp.parse(dsp.ContractNegotiation, answer.body)))
            tx.add(row)
        if row.state == NegotiationState.TERMINATED:
            # Ended here before the peer knew of it.
            self._tell(tx, row, Action(Verb.TERMINATE, code="ended", reason=row.reason))
        self._told(tx, pid, answer, state)

    def _told(self, tx: Session, pid: str, answer: Answer, state: str) -> None:
        """The peer took our message: where the table lets us go on from there, our strategy may."""
        row = tx.get_one(NegotiationRow, pid)
        if row.state == state and may_follow_up(NegotiationState(state), Party(row.role)):
            self.move_on(tx, row)

    def _undelivered(self, tx: Session, pid: str, error: str) -> None:
        """The peer refused a message or stayed away too long: the negotiation is over for us."""
        row = tx.get_one(NegotiationRow, pid)
        if NegotiationState(row.state) not in TERMINAL:
            row.state, row.reason, row.updated_at = NegotiationState.TERMINATED, error, time.time()
            row.waiting = None
            tx.add(row)

    def _watch(self, tx: Session, row: NegotiationRow) -> None:
        """Look at the negotiation again when its deadline has passed."""
        assert row.deadline_at is not None
        schedule(tx, EXPIRE, row.pid, after_s=row.deadline_at - time.time())

    def _expire(self, process: Process) -> Later | None:
        with self._node.store.transaction() as tx:
            row = tx.get_one(NegotiationRow, process.subject)
            if NegotiationState(row.state) in TERMINAL:
                return None
            left_s = (row.deadline_at or 0.0) - time.time()
            if left_s > 0:
                return Later(left_s)
            whose = "nobody here decided" if row.waiting else "the peer did not answer"
            self._undelivered(tx, process.subject, f"{whose} in time")
        return None

    def _step_failed(self, tx: Session, process: Process, error: str) -> None:
        self._undelivered(tx, process.subject, error)


def _patience_s(row: NegotiationRow) -> float:
    """How long to wait for the peer's answer to what we have just said."""
    # An offer may be other than was asked for, and then a person at the consumer decides.
    person = row.state == NegotiationState.OFFERED
    if row.role == Party.CONSUMER.value and row.offer is not None:
        person = approval_required(Offer.model_validate(row.offer))
    return PERSON_DEADLINE_S if person else DEADLINE_S


def new_pid() -> str:
    return f"urn:uuid:{uuid.uuid4()}"
