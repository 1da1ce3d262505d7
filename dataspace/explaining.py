"""What a policy would decide about a use that nobody has asked for yet."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from connectors.source import open_source
from contracts.authoring import policy_from
from contracts.evaluation import Decision, Facts, Request, decide
from contracts.odrl import Agreement, Offer
from contracts.party import Party
from contracts.planning import approvers_required, required_release
from contracts.transfer_strategy import RAW_FORMATS
from dataspace.computing.budgets import spent
from dataspace.computing.permission import consent_of
from dataspace.identity.tokens import MAX_ZONES
from dataspace.settings import ParticipantKind

if TYPE_CHECKING:
    from dataspace.node import Node


class UseOnTrial(BaseModel):
    """A use that nobody has asked for yet, and what it would be decided by.

    Exactly one of `policy` (ODRL, or ready policies as `use` and `with`), `dataset` (of this node)
    and `agreement` (of this node). What is left out is unknown to the policy; for a dataset or an
    agreement the node fills in what it knows: grade, consent, uses so far, the recipient.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: dict[str, Any] | None = None
    dataset: str | None = None
    agreement: str | None = None
    purpose: str | None = Field(default=None, max_length=200)
    computation: str | None = Field(default=None, max_length=100)
    min_cohort: int | None = Field(default=None, ge=0, le=1_000_000_000)
    spatial: str | None = Field(default=None, pattern=r"^[0-9]{2,12}$")
    recipient: str | None = Field(default=None, max_length=512)
    recipient_kind: ParticipantKind | None = None
    recipient_zones: Annotated[tuple[str, ...], Field(max_length=MAX_ZONES)] | None = None
    grade: str | None = None
    consent: bool | None = None
    approved: bool | None = None
    approvers: int | None = Field(default=None, ge=0, le=1000)
    use_count: int | None = Field(default=None, ge=0)
    content_version: str | None = Field(default=None, max_length=100)
    epsilon: Decimal | None = Field(default=None, gt=0)
    epsilon_spent: Decimal | None = Field(default=None, ge=0)
    at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _about_one_policy(self) -> UseOnTrial:
        given = [one for one in (self.policy, self.dataset, self.agreement) if one is not None]
        if len(given) != 1:
            raise ValueError("expected exactly one of policy, dataset and agreement")
        return self


def decide_on_trial(node: Node, asked: UseOnTrial) -> Decision:
    """The decision about `asked`, which is neither counted nor recorded.

    Raises NotFound for an unknown dataset or agreement, InputRejected for a policy that is none.
    """
    policy, known = _policy_and_facts(node, asked)
    recipient = asked.recipient or policy.assignee
    if recipient is not None and asked.policy is None:
        known["recipient_zones"] = node.zones.zones_of(recipient, policy, datetime.now(UTC))
    request = Request(
        action="use",
        assignee=recipient or node.did,
        purpose=asked.purpose,
        computation=asked.computation,
        min_cohort=asked.min_cohort,
        spatial=asked.spatial,
        epsilon=asked.epsilon,
    )
    given = {
        "use_count": asked.use_count,
        "recipient_role": asked.recipient_kind.value if asked.recipient_kind else None,
        "recipient_zones": asked.recipient_zones,
        "grade": asked.grade,
        "consent": asked.consent,
        "approved": asked.approved,
        "approvers": asked.approvers,
        "epsilon_spent": asked.epsilon_spent,
        "content_version": asked.content_version,
    }
    facts = {**known, **{name: value for name, value in given.items() if value is not None}}
    if asked.computation in RAW_FORMATS:
        # A node that gives rows applies what the policy demands.
        facts["release"] = required_release(policy, asked.computation)
    now = asked.at or datetime.now(UTC)
    return decide(policy, request, Facts(now=now, **facts))


def _policy_and_facts(node: Node, asked: UseOnTrial) -> tuple[Offer | Agreement, dict[str, Any]]:
    """The policy that is asked, and what this node knows of the use by itself."""
    nothing: dict[str, Any] = {
        "use_count": 0,
        "recipient_role": None,
        "grade": None,
        "consent": None,
    }
    if asked.policy is not None:
        return policy_from(asked.policy, offer_id="offer:on-trial"), nothing
    if asked.dataset is not None:
        with node.store.transaction() as tx:
            row = node.datasets.get(tx, asked.dataset)
        return Offer.model_validate(row.offer), {
            **nothing,
            "grade": row.grade,
            "consent": consent_of(open_source(row.source)),
            "content_version": row.content_version,
        }
    agreement = node.agreements.get(asked.agreement or "")
    terms = Agreement.model_validate(agreement.document)
    known = {
        **nothing,
        "use_count": agreement.use_count,
        "approved": True,
        "approvers": approvers_required(terms),
    }
    if agreement.role == Party.CONSUMER.value:
        known["recipient_role"] = node.home.settings.kind.value
    else:
        with node.store.transaction() as tx:
            row = node.datasets.get(tx, agreement.dataset)
            known["epsilon_spent"] = spent(tx, agreement.dataset, agreement.consumer)
        known["grade"] = row.grade
        known["consent"] = consent_of(open_source(row.source))
        # As it was when it was last looked at; a use looks again.
        known["content_version"] = row.content_version
    return terms, known
