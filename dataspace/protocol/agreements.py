"""Agreements: made and signed by a negotiation, in force until they expire or are ended."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import structlog
from joserfc.jwk import import_key
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from contracts.deed import make_deed, public_jwk
from contracts.odrl import Agreement, Offer, agreement_from, same_terms
from contracts.party import Party
from contracts.signature import key_id, sign_agreement, verify_agreement_signature
from contracts.transfer import TERMINAL, TransferState
from dataspace.canonical import canonical_hash
from dataspace.errors import InputRejected, NodeError, NotFound
from dataspace.evidence import origin_of_url
from dataspace.identity.tokens import Member
from dataspace.protocol.agreement_rows import standing
from dataspace.protocol.negotiation_rows import settled_terms
from dataspace.store.tables import AgreementRow, NegotiationRow, TransferRow
from ledger.crossmatch import AGREEMENT_ENDED
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node

log = structlog.get_logger("dataspace.agreements")

# The other side may be away for long, and has to know all the same.
TELL_END_S = 30 * 86400.0


class Agreements:
    """All agreements of this node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def draft(self, row: NegotiationRow) -> None:
        """Write the agreement that the settled terms of `row` make, and sign it as provider."""
        agreement = agreement_from(
            settled_terms(row),
            agreement_id=f"urn:uuid:{uuid.uuid4()}",
            target=row.dataset,
            assigner=self._node.did,
            assignee=row.peer,
            timestamp=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        )
        row.agreement = agreement.to_json()
        row.provider_signature = self.sign(row)

    def sign(self, row: NegotiationRow) -> str:
        own = self._node.identity
        return sign_agreement(Agreement.model_validate(row.agreement), own.key, own.kid, own.alg)

    def verify_signature(self, signature: str, agreement: Agreement, signer: str) -> None:
        verify_agreement_signature(
            signature, agreement, signer, self._node.peers.resolver.known_key
        )

    def conclude(self, tx: Session, row: NegotiationRow) -> None:
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
                provider_signature=row.provider_signature,
                consumer_signature=row.consumer_signature,
                keys=self._keys(row),
                renews=row.renews,
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

    # ---- looking ----------------------------------------------------------------------------

    def all(self) -> list[AgreementRow]:
        """Every agreement this node has, newest first."""
        newest = select(AgreementRow).order_by(col(AgreementRow.finalized_at).desc())
        with self._node.store.transaction() as tx:
            return list(tx.exec(newest).all())

    def get(self, agreement_id: str) -> AgreementRow:
        """The agreement by its id. Raises NotFound."""
        with self._node.store.transaction() as tx:
            return self._get(tx, agreement_id)

    def find_reusable(self, provider: str, dataset: str, offer: Offer) -> AgreementRow | None:
        """An agreement in force with `provider` in exactly the terms of `offer`, or None."""
        now = datetime.now(UTC)
        with self._node.store.transaction() as tx:
            held = tx.exec(
                select(AgreementRow)
                .where(
                    AgreementRow.role == Party.CONSUMER.value,
                    AgreementRow.provider == provider,
                    AgreementRow.dataset == dataset,
                    col(AgreementRow.ended_at).is_(None),
                )
                .order_by(col(AgreementRow.finalized_at).desc())
            ).all()
        fitting = (
            row
            for row in held
            if standing(row, now).in_force
            and same_terms(Agreement.model_validate(row.document), offer)
        )
        return next(fitting, None)

    def deed(self, agreement_id: str) -> dict[str, Any]:
        """The agreement with both signatures and their keys as one file (`contracts.deed`).

        Raises InputRejected where a side has not signed.
        """
        row = self.get(agreement_id)
        if row.provider_signature is None or row.consumer_signature is None:
            raise InputRejected(
                "this agreement is not signed by both sides, so there is no deed of it",
                remedy="a peer of another make signs nothing; keep its messages",
            )
        stored = row.keys or {}
        return make_deed(
            (row.provider_signature, row.consumer_signature),
            lambda kid: import_key(stored[kid]) if kid in stored else self._node.key_of(kid),
        )

    def _keys(self, row: NegotiationRow) -> dict[str, Any]:
        """The keys that signed, so that a deed can be made when the other side has gone."""
        keys: dict[str, Any] = {}
        for signature in (row.provider_signature, row.consumer_signature):
            if signature is None:
                continue
            kid = key_id(signature)
            try:
                keys[kid] = public_jwk(self._node.key_of(kid))
            except NodeError as err:
                # It was there when the signature was verified a moment ago. The agreement holds
                # without it; a deed will look the key up again.
                log.warning("a signer's key cannot be kept", kid=kid, error=str(err))
        return keys

    # ---- ending -----------------------------------------------------------------------------

    def end(self, agreement_id: str, reason: str) -> None:
        """End an agreement before its time: no use from now on, running ones end, the other side
        is told. Raises InputRejected where it has ended already."""
        with self._node.store.transaction() as tx:
            row = self._get(tx, agreement_id)
            if row.ended_at is not None:
                raise InputRejected(f"the agreement was ended already by {row.ended_by}")
            self._end(tx, row, self._node.did, reason)
            peer = row.consumer if row.role == Party.PROVIDER.value else row.provider
            self._node.delivery.queue(
                tx,
                Ending(reason=reason),
                to=peer,
                url=f"{self._node.peers.url_of(peer)}/agreements/{quote(row.id, safe='')}/end",
                # Behind the negotiation's own messages: what is not concluded cannot be ended.
                subject=row.negotiation,
                last=True,
                give_up_after_s=TELL_END_S,
            )

    def receive_end(self, tx: Session, peer: Member, agreement_id: str, ending: Ending) -> None:
        """The other side has ended an agreement with us; a repetition changes nothing."""
        row = tx.get(AgreementRow, agreement_id)
        if row is None or peer.did not in (row.provider, row.consumer):
            raise NotFound("there is no such agreement between us")
        if row.ended_at is None:
            self._end(tx, row, peer.did, ending.reason)

    def renew(self, agreement_id: str) -> str:
        """Ask for the present offer of the agreement's dataset; returns the negotiation's pid.

        The old agreement stays as it is; the new one names it.
        """
        row = self.get(agreement_id)
        if row.role != Party.CONSUMER.value:
            raise InputRejected(
                "an agreement is renewed by its consumer",
                remedy="offer the dataset to it: dataspace negotiation offer CONSUMER DATASET",
            )
        return self._node.proposals.request(row.provider, row.dataset, renews=row.id)

    def _end(self, tx: Session, row: AgreementRow, by: str, reason: str) -> None:
        row.ended_at, row.ended_by, row.ended_reason = time.time(), by, reason
        tx.add(row)
        self._node.evidence.record(
            tx,
            EntryType.NEGOTIATED,
            peer=row.consumer if row.role == Party.PROVIDER.value else row.provider,
            corr=row.id,
            agreement_h=row.document_h,
            outcome=AGREEMENT_ENDED,
        )
        tx.flush()
        running = select(TransferRow).where(
            TransferRow.agreement == row.id, col(TransferRow.state).not_in(TERMINAL)
        )
        for transfer in tx.exec(running).all():
            # Ending one may have ended another of the same computation.
            if TransferState(transfer.state) not in TERMINAL:
                self._node.transfers.end(tx, transfer, f"The agreement was ended: {reason}", by=by)
        self._node.running.spools.forget(row.id)

    def _get(self, tx: Session, agreement_id: str) -> AgreementRow:
        row = tx.get(AgreementRow, agreement_id)
        if row is None:
            raise NotFound(
                f"this node has no agreement {agreement_id[:80]!r}",
                remedy="list them: dataspace agreement list",
            )
        return row


class Ending(BaseModel):
    """What one side tells the other when it ends an agreement."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    reason: str = Field(min_length=1, max_length=500)

    def to_bytes(self) -> bytes:
        return self.model_dump_json().encode()
