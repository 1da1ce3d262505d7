"""What a node's owner does about negotiations: ask, offer, approve or decline, counter, end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlmodel import Session, col, select

from contracts.authoring import policy_from
from contracts.negotiation import NegotiationMessage, next_state
from contracts.odrl import Offer
from contracts.party import Party
from contracts.planning import approvers_required
from contracts.strategy import Action, Approval, Verb, still_to_approve
from dataspace.access.approvals import approvals, approve
from dataspace.access.principal import Principal
from dataspace.errors import InputRejected, NotFound
from dataspace.kinds import Right, verify_right
from dataspace.protocol import BASE
from dataspace.protocol.catalogues import fetch_dataset
from dataspace.protocol.negotiation_rows import (
    offered_terms,
    requested_terms,
    settled_terms,
)
from dataspace.protocol.negotiations import PERSON_DEADLINE_S, new_pid
from dataspace.store.paging import FIRST, Page
from dataspace.store.tables import ApprovalRow, DatasetRow, NegotiationRow

if TYPE_CHECKING:
    from dataspace.node import Node


class Proposals:
    """The owner's side of this node's negotiations."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def request(
        self,
        provider: str,
        dataset_id: str,
        offer_id: str | None = None,
        *,
        policy: Mapping[str, Any] | None = None,
        renews: str | None = None,
    ) -> str:
        """Ask `provider` (a DID) for an agreement on the dataset's offer; returns our pid.

        `policy` proposes other terms in place of the offer's. Raises NotFound where there is no
        such dataset or offer, InputRejected for a policy that is none.
        """
        verify_right(self._node.home.settings.kind, Right.CONSUME)
        chosen = self._chosen(provider, dataset_id, offer_id)
        if policy is not None:
            chosen = policy_from(policy, offer_id=chosen.id)
        offer = chosen.for_message(dataset_id).model_copy(
            update={"assigner": provider, "assignee": self._node.did}
        )
        callback = f"{self._node.peers.url_of(provider)}{BASE}"
        return self._node.negotiations.begin(provider, callback, offer, renews=renews)

    def reusable(self, provider: str, dataset_id: str, offer_id: str | None) -> str | None:
        """The negotiation whose agreement, in force now, has the offer's present terms; or None."""
        offer = self._chosen(provider, dataset_id, offer_id)
        found = self._node.agreements.find_reusable(provider, dataset_id, offer)
        return None if found is None else found.negotiation

    def offer_to(self, consumer: str, dataset_id: str) -> str:
        """Offer a dataset of ours to `consumer` (a DID) unasked; returns our pid."""
        with self._node.store.transaction() as tx:
            dataset = self._node.datasets.offered(tx, dataset_id)
            return self.offer_terms(tx, consumer, dataset, Offer.model_validate(dataset.offer))

    def offer_terms(self, tx: Session, consumer: str, dataset: DatasetRow, terms: Offer) -> str:
        """As `offer_to`, under terms for this consumer alone, in the caller's transaction."""
        now = time.time()
        offer = terms.for_message(dataset.id)
        offer = offer.model_copy(update={"assigner": self._node.did, "assignee": consumer})
        row = NegotiationRow(
            pid=new_pid(),
            role=Party.PROVIDER.value,
            peer=consumer,
            callback=f"{self._node.peers.url_of(consumer)}{BASE}",
            dataset=dataset.id,
            state=next_state(None, Party.PROVIDER, NegotiationMessage.OFFER),
            agreement=offer.to_json(),
            rounds=1,
            # A person at the consumer reads it.
            deadline_at=now + PERSON_DEADLINE_S,
            created_at=now,
            updated_at=now,
        )
        self._node.negotiations.start(tx, row, Action(Verb.OFFER, offer=offer))
        return row.pid

    def decide(self, pid: str, approval: Approval, *, by: Principal) -> None:
        """A person's word about a negotiation that waits for one. Raises InputRejected if not, and
        Denied for a second approval of one person's.

        Where the terms want several people, it waits on until as many have approved; one who
        declines is enough to end it.
        """
        with self._node.store.transaction() as tx:
            row = self._node.negotiations.get(tx, pid)
            if row.waiting is None:
                raise InputRejected(
                    f"negotiation {pid} waits for nobody here; it is {row.state}",
                    remedy="see what waits: dataspace negotiation list --waiting",
                )
            if approval is Approval.APPROVED:
                needed = _approvers(row)
                given = approve(tx, row, by, time.time()) if needed > 1 else 1
                if given < needed:
                    row.waiting = still_to_approve(needed, given)
                    tx.add(row)
                    return
            row.approval, row.waiting = approval.value, None
            tx.add(row)
            self._node.negotiations.move_on(tx, row)

    def counter(self, pid: str, policy: Mapping[str, Any], *, by: Principal) -> None:
        """Answer the peer's terms with `policy` of our own, which then counts as approved here by
        the one who did."""
        with self._node.store.transaction() as tx:
            row = self._node.negotiations.get(tx, pid)
            provider = row.role == Party.PROVIDER.value
            theirs = requested_terms(row) if provider else offered_terms(row)
            if not isinstance(theirs, Offer):
                raise InputRejected(
                    "there are no terms of the peer's to answer", remedy="wait for its offer"
                )
            offer = policy_from(policy, offer_id=theirs.id)
            provider_did = self._node.did if provider else row.peer
            consumer_did = row.peer if provider else self._node.did
            offer = offer.for_message(row.dataset).model_copy(
                update={"assigner": provider_did, "assignee": consumer_did}
            )
            alone = approvers_required(offer) <= 1
            row.approval = Approval.APPROVED.value if provider and alone else None
            self._node.negotiations.act(
                tx, row, Action(Verb.OFFER if provider else Verb.REQUEST, offer=offer)
            )
            if provider and not alone:
                approve(tx, row, by, time.time())

    def end(self, pid: str, reason: str) -> None:
        """End an unfinished negotiation. Raises IllegalTransition where it is not ours to end."""
        with self._node.store.transaction() as tx:
            self.withdraw(tx, self._node.negotiations.get(tx, pid), reason)

    def withdraw(self, tx: Session, row: NegotiationRow, reason: str) -> None:
        """As `end`, in the caller's transaction."""
        self._node.negotiations.act(tx, row, Action(Verb.TERMINATE, code="ended", reason=reason))

    def get(self, pid: str) -> NegotiationRow:
        with self._node.store.transaction() as tx:
            return self._node.negotiations.get(tx, pid)

    def newest(self, page: Page = FIRST, *, waiting: bool = False) -> list[NegotiationRow]:
        """A page, newest first; with `waiting` only of those that wait for a person here."""
        found = select(NegotiationRow).order_by(col(NegotiationRow.created_at).desc())
        if waiting:
            found = found.where(col(NegotiationRow.waiting).is_not(None))
        with self._node.store.look() as tx:
            return list(tx.exec(page.of(found)).all())

    def approvals(self, pid: str) -> list[ApprovalRow]:
        """Whose approvals of a negotiation count, as it stands."""
        with self._node.store.transaction() as tx:
            return list(approvals(tx, self._node.negotiations.get(tx, pid)))

    def _chosen(self, provider: str, dataset_id: str, offer_id: str | None) -> Offer:
        """An offer of the dataset as the provider's catalogue shows it: the named, or the first."""
        dataset = fetch_dataset(self._node.peers, provider, dataset_id)
        offers = {offer.id: offer for offer in dataset.has_policy}
        if offer_id is not None and offer_id not in offers:
            raise NotFound(
                f"dataset {dataset_id!r} has no offer {offer_id[:80]!r}",
                remedy=f"choose from: {', '.join(offers)}",
            )
        return offers[offer_id] if offer_id else next(iter(offers.values()))


def _approvers(row: NegotiationRow) -> int:
    """How many people of ours have to approve a negotiation that waits for one."""
    if row.role != Party.PROVIDER.value:
        # A consumer answers an offer; what an agreement needs is the provider's to see to.
        return 1
    return max(1, approvers_required(settled_terms(row)))
