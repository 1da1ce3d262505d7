"""What a stored agreement says: whether it can be used now, and what its owner sees of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from contracts.evaluation import ClauseResult, Facts, Request, decide
from contracts.odrl import Agreement, AtomicConstraint, Permission
from contracts.planning import covered_versions, valid_until
from contracts.profile import Operand
from dataspace.moments import utc_text
from dataspace.store.tables import AgreementRow

# The clauses by which an agreement begins and runs out, whatever it is used for.
_RUNS_OUT = frozenset({Operand.DATE_TIME, Operand.COUNT})


@dataclass(frozen=True)
class Standing:
    """Whether an agreement can be used now, in a word and a sentence; `until` when that ends."""

    state: Literal["in force", "not yet", "expired", "used up", "ended"]
    sentence: str
    until: datetime | None

    @property
    def in_force(self) -> bool:
        return self.state == "in force"


def standing(row: AgreementRow, now: datetime) -> Standing:
    """How an agreement stands at `now` (aware).

    Read from its end and from the clauses on time and number of uses that stand directly in a
    permission, and for the last moment under `and`; any other clause waits for a use.
    """
    agreement = Agreement.model_validate(row.document)
    until = valid_until(agreement)
    if row.ended_at is not None:
        return Standing("ended", f"Ended by {row.ended_by}: {row.ended_reason}", until)
    if until is not None and now > until:
        return Standing("expired", f"Its time was up at {until.isoformat()}.", until)
    refusal = _refused_by_now(agreement, row.use_count, now)
    if refusal is None:
        return Standing("in force", "It can be used.", until)
    if refusal.operand == Operand.COUNT:
        return Standing("used up", refusal.sentence, until)
    over = until is not None and now >= until
    return Standing("expired" if over else "not yet", refusal.sentence, until)


def described(row: AgreementRow, now: datetime) -> dict[str, Any]:
    """An agreement as its owner sees it."""
    stands = standing(row, now)
    signed = {
        row.provider: row.provider_signature is not None,
        row.consumer: row.consumer_signature is not None,
    }
    hybrid = {
        row.provider: row.provider_post_quantum is not None,
        row.consumer: row.consumer_post_quantum is not None,
    }
    return {
        "id": row.id,
        "role": row.role,
        "provider": row.provider,
        "consumer": row.consumer,
        "dataset": row.dataset,
        "state": stands.state,
        "standing": stands.sentence,
        "finalized_at": utc_text(row.finalized_at),
        "expires_at": stands.until.isoformat() if stands.until else None,
        "ended_at": None if row.ended_at is None else utc_text(row.ended_at),
        "negotiation": row.negotiation,
        "renews": row.renews,
        "signed_by": [did for did, has_signed in signed.items() if has_signed],
        "signed_post_quantum_by": [did for did, has_signed in hybrid.items() if has_signed],
        "use_count": row.use_count,
        # None: the data as they are and as they change.
        "covers_versions": covered_versions(Agreement.model_validate(row.document)),
        "sha256": row.document_h,
        "document": row.document,
    }


def _refused_by_now(agreement: Agreement, use_count: int, now: datetime) -> ClauseResult | None:
    """The clause on time or number of uses that refuses every use now; None if none does."""
    reduced = agreement.model_copy(
        update={"permission": tuple(map(_reduced, agreement.permission)), "prohibition": ()}
    )
    request = Request(
        action=agreement.permission[0].action if agreement.permission else "use",
        assignee=agreement.assignee,
        purpose=None,
        computation=None,
        min_cohort=None,
    )
    facts = Facts(now=now, use_count=use_count, recipient_role=None, grade=None, consent=None)
    refusal = decide(reduced, request, facts).refusal
    return refusal if refusal is not None and refusal.operand in _RUNS_OUT else None


def _reduced(permission: Permission) -> Permission:
    kept = tuple(
        constraint
        for constraint in permission.constraint
        if isinstance(constraint, AtomicConstraint) and constraint.left_operand in _RUNS_OUT
    )
    return permission.model_copy(update={"constraint": kept})
