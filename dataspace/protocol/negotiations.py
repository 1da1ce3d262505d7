"""Contract negotiation: both roles, driven by events and judged by the one state table.

A message that came changes the state and answers; what we do next is a process of its own, so that
our answer is out before our next message. Our own moves go through the same table.
"""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlmodel import Session, col, select

from contracts import messages as dsp
from contracts.evaluation import Facts
from contracts.negotiation import (
    TERMINAL,
    Action,
    NegotiationMessage,
    NegotiationState,
    Party,
    Verb,
    consumer_action,
    next_state,
    provider_action,
)
from contracts.odrl import Agreement, Offer, agreement_from
from contracts.prospect import decide_prospect
from dataspace.answer import Answer
from dataspace.canonical import canonical_hash
from dataspace.errors import InputRejected, NotFound, ProtocolViolation
from dataspace.evidence import origin_of_url
from dataspace.identity.tokens import Member
from dataspace.processes import Handler, Process, schedule
from dataspace.protocol import BASE, UNKNOWN_PID, Pids, verify_pids
from dataspace.protocol.catalogues import fetch_dataset
from dataspace.protocol.delivery import Reaction
from dataspace.store.tables import AgreementRow, DatasetRow, NegotiationRow
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node

STEP = "negotiation-step"
EXPIRE = "expire-negotiation"
# Both sides act at once; who has said nothing for this long has gone.
DEADLINE_S = 900.0
REQUEST_REACTION = "negotiation-requested"
STEP_REACTION = "negotiation-message"


class Negotiations:
    """All negotiations of this node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        node.delivery.on(REQUEST_REACTION, Reaction(self._requested, self._undelivered))
        node.delivery.on(STEP_REACTION, Reaction(None, self._undelivered))

    def handlers(self) -> dict[str, Handler]:
        return {STEP: Handler(self._step, self._step_failed), EXPIRE: Handler(self._expire)}

    # ---- our owner asks ---------------------------------------------------------------------

    def request(self, provider: str, dataset_id: str, offer_id: str | None = None) -> str:
        """Ask `provider` (a DID) for an agreement on the dataset's offer; returns our pid."""
        dataset = fetch_dataset(self._node.peers, provider, dataset_id)
        offers = {offer.id: offer for offer in dataset.has_policy}
        if offer_id is not None and offer_id not in offers:
            raise NotFound(
                f"dataset {dataset_id!r} has no offer {offer_id[:80]!r}",
                remedy=f"choose from: {', '.join(offers)}",
            )
        chosen = offers[offer_id] if offer_id else next(iter(offers.values()))
        offer = chosen.for_message(dataset_id).model_copy(
            update={"assigner": provider, "assignee": self._node.did}
        )
        pid = _new_pid()
        callback = f"{self._node.peers.url_of(provider)}{BASE}"
        with self._node.store.transaction() as tx:
            state = next_state(None, Party.CONSUMER, NegotiationMessage.REQUEST)
            tx.add(
                NegotiationRow(
                    pid=pid,
                    role=Party.CONSUMER.value,
                    peer=provider,
                    callback=callback,
                    dataset=dataset_id,
                    state=state,
                    offer=offer.to_json(),
                    created_at=time.time(),
                    updated_at=time.time(),
                )
            )
            message = dsp.ContractRequestMessage(
                consumer_pid=pid, offer=offer, callback_address=f"{self._node.home.url}{BASE}"
            )
            schedule(tx, EXPIRE, pid, after_s=DEADLINE_S)
            self._node.delivery.queue(
                tx,
                message,
                to=provider,
                url=f"{callback}/negotiations/request",
                subject=pid,
                reaction=REQUEST_REACTION,
            )
        return pid

    def get(self, pid: str) -> NegotiationRow:
        with self._node.store.transaction() as tx:
            row = tx.get(NegotiationRow, pid)
        if row is None:
            raise NotFound("there is no such negotiation at this node", remedy="check its id")
        return row

    def all(self) -> list[NegotiationRow]:
        newest = select(NegotiationRow).order_by(col(NegotiationRow.created_at).desc())
        with self._node.store.transaction() as tx:
            return list(tx.exec(newest).all())

    def agreements(self) -> list[AgreementRow]:
        newest = select(AgreementRow).order_by(col(AgreementRow.finalized_at).desc())
        with self._node.store.transaction() as tx:
            return list(tx.exec(newest).all())

    # ---- a peer's message -------------------------------------------------------------------

    def show(self, tx: Session, peer: Member, pid: str) -> dsp.ContractNegotiation:
        return _as_message(self._own(tx, peer, pid))

    def receive_request(
        self, tx: Session, peer: Member, message: dsp.ContractRequestMessage
    ) -> dsp.ContractNegotiation:
        """A consumer's first message. A repetition gets the negotiation it already has."""
        existing = tx.exec(
            select(NegotiationRow).where(
                NegotiationRow.role == Party.PROVIDER.value,
                NegotiationRow.peer == peer.did,
                NegotiationRow.peer_pid == message.consumer_pid,
            )
        ).first()
        if existing is not None:
            return _as_message(existing)
        if message.callback_address is None:
            raise ProtocolViolation("callbackAddress: the first request must say where to answer")
        dataset = self._offered(tx, message.offer)
        row = NegotiationRow(
            pid=_new_pid(),
            role=Party.PROVIDER.value,
            peer=peer.did,
            peer_pid=message.consumer_pid,
            callback=self._node.peers.callback_of(peer.did, message.callback_address),
            dataset=dataset.id,
            state=next_state(None, Party.CONSUMER, NegotiationMessage.REQUEST),
            offer=message.offer.to_json(),
            peer_kind=peer.kind.value,
            created_at=time.time(),
            updated_at=time.time(),
        )
        tx.add(row)
        schedule(tx, EXPIRE, row.pid, after_s=DEADLINE_S)
        self._schedule_step(tx, row)
        return _as_message(row)

    def receive(self, tx: Session, peer: Member, pid: str, message: dsp.Document) -> None:
        """Any later message of either side. Raises IllegalTransition where the table has no arc."""
        row = self._own(tx, peer, pid)
        kind = dsp.negotiation_message(message)
        verify_pids(message, _pids(row))
        theirs = Party.CONSUMER if row.role == Party.PROVIDER.value else Party.PROVIDER
        state = next_state(NegotiationState(row.state), theirs, kind)
        if isinstance(message, dsp.ContractRequestMessage):
            row.offer = message.offer.to_json()
            self._offered(tx, message.offer)
        elif isinstance(message, dsp.ContractOfferMessage):
            row.agreement = message.offer.to_json()
        elif isinstance(message, dsp.ContractAgreementMessage):
            if tx.get(AgreementRow, message.agreement.id) is not None:
                raise ProtocolViolation("agreement.@id: it is the id of another agreement")
            row.agreement = message.agreement.to_json()
        elif isinstance(message, dsp.ContractNegotiationTerminationMessage):
            row.reason = _reason_of(message.reason) or message.code or "the peer ended it"
        row.peer_pid = row.peer_pid or _peer_pid(row, message)
        row.state, row.updated_at = state, time.time()
        tx.add(row)
        if state is NegotiationState.FINALIZED:
            self._conclude(tx, row)
        elif state not in TERMINAL:
            self._schedule_step(tx, row)

    # ---- our next move ----------------------------------------------------------------------

    def _step(self, process: Process) -> None:
        with self._node.store.transaction() as tx:
            row = tx.get_one(NegotiationRow, process.subject)
            action = self._choose(tx, row)
            if action.verb in (Verb.NOTHING, Verb.WAIT):
                return
            kind = {
                Verb.AGREE: NegotiationMessage.AGREE,
                Verb.ACCEPT: NegotiationMessage.ACCEPT,
                Verb.VERIFY: NegotiationMessage.VERIFY,
                Verb.FINALIZE: NegotiationMessage.FINALIZE,
                Verb.TERMINATE: NegotiationMessage.TERMINATE,
            }[action.verb]
            row.state = next_state(NegotiationState(row.state), Party(row.role), kind)
            row.updated_at = time.time()
            path, message = self._compose(row, action)
            if row.state == NegotiationState.TERMINATED:
                row.reason = action.reason
            tx.add(row)
            self._node.delivery.queue(
                tx,
                message,
                to=row.peer,
                url=f"{row.callback}/negotiations/{row.peer_pid}/{path}",
                subject=row.pid,
                reaction=STEP_REACTION,
                last=row.state == NegotiationState.TERMINATED,
            )
            if row.state == NegotiationState.FINALIZED:
                self._conclude(tx, row)

    def _choose(self, tx: Session, row: NegotiationRow) -> Action:
        state = NegotiationState(row.state)
        requested = Offer.model_validate(row.offer)
        if row.role == Party.CONSUMER.value:
            if state is NegotiationState.AGREED:
                return consumer_action(state, Agreement.model_validate(row.agreement), requested)
            if state is NegotiationState.OFFERED:
                return consumer_action(state, Offer.model_validate(row.agreement), requested)
            return Action(Verb.NOTHING)
        dataset = tx.get(DatasetRow, row.dataset)
        if dataset is None:
            return Action(Verb.TERMINATE, "withdrawn", "The dataset is no longer offered.")
        published = Offer.model_validate(dataset.offer)
        action = provider_action(state, requested, published, needs_person=False)
        if action.verb is not Verb.AGREE:
            return action
        # What a use will be asked cannot be known yet; who asks, and when, can.
        decision = decide_prospect(
            published,
            row.peer,
            Facts(
                now=datetime.now(UTC),
                use_count=0,
                recipient_role=row.peer_kind,
                grade=dataset.grade,
                consent=None,
            ),
        )
        if not decision.allowed:
            return Action(Verb.TERMINATE, code="denied", reason=decision.reason)
        return action

    def _compose(self, row: NegotiationRow, action: Action) -> tuple[str, dsp.Document]:
        """The message of our move and the path it goes to."""
        pids = _pids(row)
        if action.verb is Verb.TERMINATE:
            reason = (action.reason,) if action.reason else ()
            return "termination", dsp.ContractNegotiationTerminationMessage(
                **pids, code=action.code, reason=reason
            )
        if action.verb is Verb.AGREE:
            agreement = self._agreement(row)
            row.agreement = agreement.to_json()
            return "agreement", dsp.ContractAgreementMessage(**pids, agreement=agreement)
        if action.verb is Verb.VERIFY:
            return "agreement/verification", dsp.ContractAgreementVerificationMessage(**pids)
        if action.verb is Verb.ACCEPT:
            return "events", dsp.ContractNegotiationEventMessage(**pids, event_type="ACCEPTED")
        return "events", dsp.ContractNegotiationEventMessage(**pids, event_type="FINALIZED")

    def _agreement(self, row: NegotiationRow) -> Agreement:
        offer = Offer.model_validate(row.offer)
        return agreement_from(
            offer,
            agreement_id=_new_pid(),
            target=row.dataset,
            assigner=self._node.did,
            assignee=row.peer,
            timestamp=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        )

    def _conclude(self, tx: Session, row: NegotiationRow) -> None:
        """Both sides have it: keep the agreement, and the evidence of it."""
        agreement = Agreement.model_validate(row.agreement)
        document_h = canonical_hash(agreement.to_json())
        tx.add(
            AgreementRow(
                id=agreement.id,
                role=row.role,
                provider=agreement.assigner,
                consumer=agreement.assignee,
                dataset=row.dataset,
                document=agreement.to_json(),
                document_h=document_h,
                negotiation=row.pid,
                finalized_at=time.time(),
            )
        )
        self._node.evidence.record(
            tx,
            EntryType.NEGOTIATED,
            peer=row.peer,
            corr=agreement.id,
            agreement_h=document_h,
            outcome="finalized",
        )
        self._node.witnessing.befriend(
            tx, row.peer, origin_of_url(self._node.peers.url_of(row.peer))
        )

    # ---- small parts ------------------------------------------------------------------------

    def _offered(self, tx: Session, offer: Offer) -> DatasetRow:
        """The dataset whose published offer this names. Raises InputRejected for an unknown one."""
        dataset = tx.get(DatasetRow, offer.target or "")
        if dataset is None or Offer.model_validate(dataset.offer).id != offer.id:
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

    def _schedule_step(self, tx: Session, row: NegotiationRow) -> None:
        schedule(tx, STEP, row.pid, lane=f"{STEP}:{row.pid}")

    def _requested(self, tx: Session, pid: str, answer: Answer) -> None:
        row = tx.get_one(NegotiationRow, pid)
        if row.peer_pid is None:
            got = dsp.parse(dsp.ContractNegotiation, answer.body)
            row.peer_pid = got.provider_pid
            tx.add(row)

    def _undelivered(self, tx: Session, pid: str, error: str) -> None:
        """The peer refused a message or stayed away too long: the negotiation is over for us."""
        row = tx.get_one(NegotiationRow, pid)
        if row.state not in TERMINAL:
            row.state, row.reason, row.updated_at = NegotiationState.TERMINATED, error, time.time()
            tx.add(row)

    def _expire(self, process: Process) -> None:
        with self._node.store.transaction() as tx:
            self._undelivered(tx, process.subject, "the peer did not answer in time")

    def _step_failed(self, tx: Session, process: Process, error: str) -> None:
        self._undelivered(tx, process.subject, error)


def _new_pid() -> str:
    return f"urn:uuid:{uuid.uuid4()}"


def _pids(row: NegotiationRow) -> Pids:
    peer_pid = row.peer_pid or UNKNOWN_PID
    if row.role == Party.PROVIDER.value:
        return {"provider_pid": row.pid, "consumer_pid": peer_pid}
    return {"provider_pid": peer_pid, "consumer_pid": row.pid}


def _as_message(row: NegotiationRow) -> dsp.ContractNegotiation:
    return dsp.ContractNegotiation(**_pids(row), state=NegotiationState(row.state))


def _peer_pid(row: NegotiationRow, message: dsp.Document) -> str | None:
    name = "consumer_pid" if row.role == Party.PROVIDER.value else "provider_pid"
    found: str | None = getattr(message, name, None)
    return found


def _reason_of(reason: Any) -> str | None:
    return str(reason[0])[:500] if reason else None
