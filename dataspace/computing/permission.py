"""May this node take its part in an order? Asked once for each use, and again by an auditor.

The facts go into the evidence with the decision, so that whoever holds agreement, order and entry
can ask the policy again and must get the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from connectors.source import ConsentedSource, Source
from contracts.evaluation import Decision, Facts, Request, decide
from contracts.odrl import Agreement
from contracts.order import ComputationOrder, OrderParticipant
from contracts.planning import approvers_required
from dataspace.errors import Denied
from dataspace.sight import Sight
from dataspace.store.tables import AgreementRow, DatasetRow


@dataclass(frozen=True)
class Judgement:
    """What was decided, and by which facts; `refusal` is None when the use is permitted."""

    facts: Facts
    refusal: Denied | None


def judge(
    order: ComputationOrder,
    me: OrderParticipant,
    agreement: AgreementRow,
    dataset: DatasetRow,
    sight: Sight,
    *,
    recipient_kind: str,
    recipient_zones: tuple[str, ...] | None,
    epsilon_spent: Decimal,
    now: datetime,
) -> Judgement:
    """Decide about our part `me` of `order` under `agreement`.

    The recipient is as its membership credential and the lists of zones describe it, and has spent
    `epsilon_spent` on the dataset before; `sight` is what its source shows now.
    """
    document = Agreement.model_validate(agreement.document)
    facts = Facts(
        now=now,
        use_count=agreement.use_count,
        recipient_role=recipient_kind,
        recipient_zones=recipient_zones,
        # What waits for a person's approval does not become an agreement without it.
        approved=True,
        approvers=approvers_required(document),
        grade=dataset.grade,
        consent=sight.consent,
        epsilon_spent=epsilon_spent,
        content_version=sight.content_version,
    )
    mismatch = _mismatch(order, me, dataset)
    if mismatch is not None:
        return Judgement(facts, mismatch)
    # The policy's own answer: a pure function of what an auditor can hold too.
    decision = decide(document, request_of(order), facts)
    return Judgement(facts, refusal_in(decision))


def request_of(order: ComputationOrder) -> Request:
    """What an order asks a policy."""
    return Request(
        action="use",
        assignee=order.consumer,
        purpose=order.purpose,
        computation=order.kind,
        min_cohort=order.min_cohort,
        spatial=order.spatial,
        epsilon=epsilon_of(order),
    )


def epsilon_of(order: ComputationOrder) -> Decimal | None:
    """The privacy loss the order asks for; None where it asks for no noise."""
    return None if order.epsilon is None else Decimal(order.epsilon)


def refusal_in(decision: Decision) -> Denied | None:
    """A policy's no, with the path of the clause that said it and the remedy; None for a yes."""
    if decision.allowed:
        return None
    clause = decision.refusal
    return Denied(
        decision.reason,
        clause=clause.path if clause else None,
        remedy=clause.remedy if clause else None,
    )


def consent_of(source: Source) -> bool | None:
    """What a policy is told about consent: a consented source yields no row without one that covers
    the use. None for a source that knows nothing of consents."""
    return isinstance(source, ConsentedSource) or None


def _mismatch(order: ComputationOrder, me: OrderParticipant, dataset: DatasetRow) -> Denied | None:
    """Our part must use published columns, and the canonical form the others use."""
    published = {(column["role"], column["name"]): column for column in dataset.columns}
    for role, name in me.columns.items():
        # The second group of a cross-table is published as a group like the first.
        if ("group" if role == "across" else role, name) not in published:
            return Denied(
                f"the order uses column {name[:80]!r} as {role}, which dataset {dataset.id} "
                "does not publish so",
                remedy="use the columns the catalogue shows",
                clause="order.columns",
            )
    decimals, value = order.parameters.get("decimals"), me.columns.get("value")
    if value is not None and decimals not in (None, published["value", value]["scale"]):
        return Denied(
            f"the order takes the values of {value[:80]!r} for numbers of {decimals} decimals; "
            f"dataset {dataset.id} keeps {published['value', value]['scale']}",
            remedy="order with the decimals the catalogue shows",
            clause="order.decimals",
        )
    identifier = me.columns.get("identifier")
    if identifier is None:
        return None
    ours = published["identifier", identifier]["canonicaliser"]
    named = {part.canonicaliser for part in order.participants if part.canonicaliser}
    if named != {ours}:
        return Denied(
            f"the participants name identifiers differently: {', '.join(sorted(named))}; "
            f"dataset {dataset.id} uses {ours}",
            remedy="order with datasets of the same canonicaliser",
            clause="order.canonicaliser",
        )
    return None
