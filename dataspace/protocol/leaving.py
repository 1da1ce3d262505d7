"""May rows leave? A provider's side of a transfer without a computation.

The policy is asked when the rows are requested, which counts as a use, and again each time they are
given: a transfer may stay open for longer than its agreement, its dataset's formats, or a consent.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from sqlmodel import Session, col, func, select

from connectors.errors import ConnectorError
from connectors.source import Source, open_source
from contracts import messages as dsp
from contracts.evaluation import Decision, Facts, Request, decide
from contracts.odrl import Agreement
from contracts.party import Party
from contracts.planning import approvers_required, required_release
from contracts.transfer import TERMINAL
from contracts.transfer_strategy import PUSH, RAW_FORMATS
from contracts.vocabulary import CONSENT
from dataspace.computing.permission import refusal_in
from dataspace.description import formats_of
from dataspace.errors import Denied, InputRejected, ProtocolViolation, Unavailable
from dataspace.identity.tokens import Member
from dataspace.protocol.transfer_rows import endpoint_of, refusal_of
from dataspace.sight import Sight, digests_of
from dataspace.store.tables import AgreementRow, DatasetRow, TransferRow
from dataspace.zones.recipients import told
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.leaving")

# Each may keep a copy of its rows on our disk until it ends.
MAX_OPEN_A_CONSUMER = 64


class Leaving:
    """Takes in requests for rows, and decides about them."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def take_in(
        self, tx: Session, row: TransferRow, peer: Member, message: dsp.TransferRequestMessage
    ) -> None:
        """A request for the rows themselves: the format must be one they leave in.

        Raises InputRejected where it is not, or where too many of the consumer's are open;
        ProtocolViolation for a push that does not say where to, or names another's address.
        """
        offered = self._formats(tx, row)
        if message.format not in RAW_FORMATS or message.format not in offered:
            raise InputRejected(
                f"format: the rows do not leave in this one ({', '.join(offered) or 'in none'})",
                remedy="order a computation (ds:order), or ask the provider for the format",
            )
        self._verify_room(tx, peer)
        if message.format == PUSH:
            if message.data_address is None:
                raise ProtocolViolation("dataAddress: a push must say where to send the rows")
            row.data_address = message.data_address.to_json()
            endpoint_of(row, self._node.peers)
        row.purpose = message.purpose

    def look(self, row: TransferRow) -> Sight:
        """What the source of a transfer's rows shows now; not in a transaction.

        Raises Unavailable while the rows cannot be read or are not what was published.
        """
        with self._node.store.transaction() as tx:
            agreement = tx.get_one(AgreementRow, row.agreement)
            dataset = self._dataset(tx, row)
        return self._node.versions.look(Agreement.model_validate(agreement.document), dataset)

    def decide(self, tx: Session, row: TransferRow, sight: Sight) -> Decision | None:
        """The policy's answer about letting the rows leave, kept as evidence; None when an ended
        agreement has ended the transfer already."""
        agreement = tx.get_one(AgreementRow, row.agreement)
        facts = self._facts(tx, row, agreement, sight, earlier_uses=agreement.use_count)
        ended = self._node.standings.refusal(row.peer) or refusal_of(agreement)
        if ended is not None:
            self.record_decision(tx, row, agreement, facts, ended)
            self._node.transfers.deny(tx, row, ended)
            return None
        decision = _ask(row, agreement, facts)
        self.record_decision(tx, row, agreement, facts, refusal_in(decision))
        return decision

    def refuse_now(self, tx: Session, row: TransferRow, sight: Sight) -> Denied | None:
        """Why rows that were permitted may not be given any more; the transfer is then ended.

        None means that the permit still holds: it was counted when it was given, and is not again.
        """
        agreement = tx.get_one(AgreementRow, row.agreement)
        if row.format not in self._formats(tx, row):
            refusal: Denied | None = Denied(
                f"The provider lets these rows no longer leave as {row.format}.",
                remedy="Ask the provider for the format, or order a computation.",
            )
        else:
            earlier = max(0, agreement.use_count - 1)
            facts = self._facts(tx, row, agreement, sight, earlier_uses=earlier)
            ended = self._node.standings.refusal(row.peer) or refusal_of(agreement)
            refusal = ended or refusal_in(_ask(row, agreement, facts))
            if refusal is not None:
                self.record_decision(tx, row, agreement, facts, refusal)
        if refusal is not None:
            self._node.transfers.deny(tx, row, refusal)
        return refusal

    def record_decision(
        self,
        tx: Session,
        row: TransferRow,
        agreement: AgreementRow,
        facts: Facts,
        refusal: Denied | None,
    ) -> None:
        """The evidence of a decision, with the facts the policy was asked with, so that an auditor
        can ask it again; and the count of what was permitted."""
        self._node.evidence.record(
            tx,
            EntryType.DECIDED,
            at=facts.now,
            peer=row.peer,
            corr=agreement.id,
            agreement_h=agreement.document_h,
            order_h=row.order_h or None,
            kind=row.format,
            purpose=row.purpose,
            decision="permit" if refusal is None else "deny",
            clause=refusal.clause if refusal else None,
            recipients=told(facts.recipient_role, facts.recipient_zones),
            categories=(facts.grade,) if facts.grade else None,
            legal_basis=CONSENT if facts.consent else self._dataset(tx, row).legal_basis,
            inputs_c=digests_of(facts.content_version),
            privacy_spend=float(facts.epsilon_spent) if facts.epsilon_spent else None,
        )
        if refusal is None:
            # Counted when it is permitted, not when it succeeds: a run that dies stays spent.
            agreement.use_count += 1
            tx.add(agreement)

    def source(self, dataset: DatasetRow) -> Source:
        """Where the rows lie. Raises Unavailable while it cannot be opened.

        Why is for the owner's log: it names files of this machine.
        """
        try:
            return open_source(dataset.source)
        except ConnectorError as err:
            log.error("a dataset cannot be opened", dataset=dataset.id, error=str(err))
            raise Unavailable(
                "the dataset cannot be read at the moment",
                remedy="try again, or tell the provider's owner",
            ) from err

    def _facts(
        self,
        tx: Session,
        row: TransferRow,
        agreement: AgreementRow,
        sight: Sight,
        *,
        earlier_uses: int,
    ) -> Facts:
        dataset = self._dataset(tx, row)
        document, now = Agreement.model_validate(agreement.document), datetime.now(UTC)
        return Facts(
            now=now,
            use_count=earlier_uses,
            recipient_role=row.peer_kind,
            recipient_zones=self._node.zones.zones_of(row.peer, document, now),
            grade=dataset.grade,
            consent=sight.consent,
            # What waits for a person's approval does not become an agreement without it.
            approved=True,
            approvers=approvers_required(document),
            # Exactly what the data plane applies; where it cannot, no row is given.
            release=required_release(document, row.format),
            content_version=sight.content_version,
        )

    def _formats(self, tx: Session, row: TransferRow) -> tuple[str, ...]:
        """The formats in which these rows leave: the dataset's, and that of a return."""
        return (*formats_of(self._dataset(tx, row)), *self._node.returns.formats(tx, row))

    def _dataset(self, tx: Session, row: TransferRow) -> DatasetRow:
        return self._node.datasets.get(tx, tx.get_one(AgreementRow, row.agreement).dataset)

    def _verify_room(self, tx: Session, peer: Member) -> None:
        still_open = select(func.count()).where(
            TransferRow.role == Party.PROVIDER.value,
            TransferRow.peer == peer.did,
            col(TransferRow.format).in_(RAW_FORMATS),
            col(TransferRow.state).not_in(TERMINAL),
        )
        if tx.exec(still_open).one() >= MAX_OPEN_A_CONSUMER:
            raise InputRejected(
                f"{MAX_OPEN_A_CONSUMER} transfers of rows to you are open here already",
                remedy="complete or end some of them, then ask again",
            )


def request_for_rows(consumer: str, format_: str, purpose: str | None) -> Request:
    """What a policy is asked about rows that leave: the format stands where a computation would.

    So a policy that names computations never lets rows leave.
    """
    return Request(
        action="use",
        assignee=consumer,
        purpose=purpose,
        computation=format_,
        min_cohort=None,
    )


def _ask(row: TransferRow, agreement: AgreementRow, facts: Facts) -> Decision:
    document = Agreement.model_validate(agreement.document)
    return decide(document, request_for_rows(row.peer, row.format, row.purpose), facts)
