"""Agreements: made and signed by a negotiation, in force until they expire or are ended."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import structlog
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from contracts import messages as dsp
from contracts.deed import make_deed, public_jwk
from contracts.keys import SignatureKey, key_of_jwk
from contracts.mldsa import ALGORITHM
from contracts.odrl import Agreement, Offer, agreement_from, same_terms
from contracts.party import Party
from contracts.signature import (
    key_id,
    sign_agreement,
    verify_agreement_signature,
    verify_post_quantum_signature,
)
from contracts.transfer import TERMINAL, TransferState
from dataspace.canonical import canonical_hash
from dataspace.errors import InputRejected, NodeError, NotFound, ProtocolViolation
from dataspace.evidence import origin_of_url
from dataspace.identity.tokens import Member
from dataspace.moments import zulu_text
from dataspace.protocol.agreement_rows import standing
from dataspace.protocol.negotiation_rows import settled_terms
from dataspace.store.paging import FIRST, Page
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
            timestamp=zulu_text(datetime.now(UTC)),
        )
        row.agreement = agreement.to_json()
        row.provider_signature, row.provider_post_quantum = self.sign(row)

    def sign(self, row: NegotiationRow) -> tuple[str, str | None]:
        """Our signature of the row's agreement, and the second one where we have a key for it."""
        own, agreement = self._node.identity, Agreement.model_validate(row.agreement)
        first = sign_agreement(agreement, own.key, own.kid, own.alg)
        second = self._node.second_keys.current()
        if second is None:
            return first, None
        kid = self._node.second_keys.kid(second)
        return first, sign_agreement(agreement, second, kid, ALGORITHM)

    def verify_signatures(
        self,
        message: dsp.ContractAgreementMessage | dsp.ContractAgreementVerificationMessage,
        agreement: Agreement,
        signer: str,
    ) -> None:
        """Check what `signer` sent of its agreement. A peer of another make signs nothing; whose
        DID document lists a post-quantum key in use signs with both. Raises ProtocolViolation, and
        Unavailable for a signer whose document is not at hand."""
        resolver = self._node.peers.resolver
        first, second = message.signature, message.post_quantum_signature
        if first is not None:
            verify_agreement_signature(first, agreement, signer, resolver.known_key)
        keys = self._node.peers.second_keys_of(signer)
        if second is not None:
            if first is None:
                raise ProtocolViolation("a post-quantum signature stands beside the first one only")
            verify_post_quantum_signature(second, agreement, signer, keys.keys.__getitem__)
        elif keys.required:
            raise ProtocolViolation(
                f"{signer} lists a post-quantum key, and this agreement is not signed with it",
                remedy="sign it with both keys; a DID document that lists a key no longer used may "
                "be a quarter of an hour old at a peer",
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
                provider_post_quantum=row.provider_post_quantum,
                consumer_post_quantum=row.consumer_post_quantum,
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

    def newest(self, page: Page = FIRST) -> list[AgreementRow]:
        """A page of this node's agreements, newest first."""
        newest = select(AgreementRow).order_by(col(AgreementRow.finalized_at).desc())
        with self._node.store.look() as tx:
            return list(tx.exec(page.of(newest)).all())

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
            _signatures(row),
            lambda kid: key_of_jwk(stored[kid]) if kid in stored else self._key_of(kid),
        )

    def _key_of(self, kid: str) -> SignatureKey:
        """A key of a party, its second one included. Raises as `Node.key_of`."""
        node, did = self._node, kid.partition("#")[0]
        if did != node.did:
            second = node.peers.resolver.second_keys(did).keys
            return second[kid] if kid in second else node.key_of(kid)
        # What is in use is in its file, so that this is answered inside a transaction too.
        current = node.second_keys.current()
        if current is not None and kid == node.second_keys.kid(current):
            return current
        if kid == node.identity.kid:
            return node.identity.key
        earlier = {node.second_keys.kid(one.key): one.key for one in node.second_keys.listed()}
        return earlier[kid] if kid in earlier else node.key_of(kid)

    def _keys(self, row: NegotiationRow) -> dict[str, Any]:
        """The keys that signed, so that a deed can be made when the other side has gone."""
        keys: dict[str, Any] = {}
        for signature in _signatures(row):
            kid = key_id(signature)
            try:
                keys[kid] = public_jwk(self._key_of(kid))
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


def _signatures(row: NegotiationRow | AgreementRow) -> list[str]:
    """Those that are there, each side's first one first."""
    found = (
        row.provider_signature,
        row.consumer_signature,
        row.provider_post_quantum,
        row.consumer_post_quantum,
    )
    return [signature for signature in found if signature is not None]


class Ending(BaseModel):
    """What one side tells the other when it ends an agreement."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    reason: str = Field(min_length=1, max_length=500)

    def to_bytes(self) -> bytes:
        return self.model_dump_json().encode()
