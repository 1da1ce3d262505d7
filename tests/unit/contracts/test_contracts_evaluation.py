"""Decisions: every operand and operator, logical constraints, and the reasons given."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import rfc8785

from contracts.errors import InputRejected
from contracts.evaluation import ClauseResult, Facts, Request, decide
from contracts.odrl import Offer, Operator, agreement_from
from contracts.profile import OPERANDS, Operand

NOW = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)
REQUEST = Request(
    action="use",
    assignee="did:web:consumer",
    purpose="research/medical",
    computation="private-sum/1",
    min_cohort=20,
    spatial="440305",
    epsilon=Decimal("0.5"),
)
FACTS = Facts(
    now=NOW,
    use_count=9,
    recipient_role="enterprise",
    grade="important",
    consent=True,
    epsilon_spent=Decimal("1.5"),
    recipient_zones=("qianhai", "port"),
    approved=True,
    approvers=2,
    release=("name:drop", "phone:mask(3,4)"),
    content_version="sha256:1",
)


def atom(operand: str, operator: str, value: Any) -> dict[str, Any]:
    return {"leftOperand": operand, "operator": operator, "rightOperand": value}


def permit(*constraints: dict[str, Any], **more: Any) -> Offer:
    rule = {"action": "use", "constraint": list(constraints)}
    return Offer.model_validate({"@id": "urn:o", "permission": [rule], **more})


def clause_of(constraint: dict[str, Any], **changes: Any) -> ClauseResult:
    request = replace(REQUEST, **{k: v for k, v in changes.items() if hasattr(REQUEST, k)})
    facts = replace(FACTS, **{k: v for k, v in changes.items() if hasattr(FACTS, k)})
    decision = decide(permit(constraint), request, facts)
    clause = decision.rules[-1].children[0]
    assert decision.allowed is clause.satisfied
    return clause


MET = [
    atom("purpose", "eq", "research/medical"),
    atom("purpose", "neq", "marketing"),
    atom("purpose", "isAnyOf", ["research/medical", "planning"]),
    atom("purpose", "isAnyOf", "research/medical"),
    atom("purpose", "isNoneOf", ["marketing", "scoring"]),
    atom("purpose", "isAllOf", ["research/medical"]),
    atom("purpose", "isA", "research"),
    atom("purpose", "isPartOf", "research"),
    atom("purpose", "hasPart", "research/medical/cancer"),
    atom("purpose", "eq", {"@value": "research/medical"}),
    atom("purpose", "isAnyOf", [{"@id": "research/medical"}]),
    atom("ds:computation", "eq", "private-sum/1"),
    atom("ds:computation", "isAnyOf", ["private-sum/1", "private-count/1"]),
    atom("ds:computation", "isNoneOf", ["private-set/1"]),
    atom("ds:computation", "isA", "private-sum"),
    atom("ds:minCohort", "gteq", "20"),
    atom("ds:minCohort", "gt", "19.5"),
    atom("ds:minCohort", "isAnyOf", ["20", "50"]),
    atom("count", "lteq", "10"),
    atom("count", "lt", "11"),
    atom("count", "eq", "10"),
    atom("count", "neq", "9"),
    atom("dateTime", "lteq", "2026-11-25T12:00:00+08:00"),
    atom("dateTime", "lteq", "2026-11-25T04:00Z"),
    atom("dateTime", "lt", "2026-11-25T04:00:00.000001Z"),
    atom("dateTime", "gteq", "2026-11-25T04:00:00Z"),
    atom("dateTime", "gt", "2026-11-25T03:59:59Z"),
    atom("dateTime", "eq", {"@value": "2026-11-25T04:00:00Z", "@type": "xsd:dateTime"}),
    atom("spatial", "isPartOf", "4403"),
    atom("spatial", "isPartOf", "440300"),
    atom("spatial", "isPartOf", "440000"),
    atom("spatial", "eq", "440305"),
    atom("spatial", "eq", "440305000000"),
    atom("spatial", "neq", "440304"),
    atom("spatial", "hasPart", "440305001"),
    atom("spatial", "isAnyOf", ["4401", "440305"]),
    atom("spatial", "isNoneOf", ["4401", "4404"]),
    atom("ds:grade", "lteq", "important"),
    atom("ds:grade", "lt", "core"),
    atom("ds:grade", "eq", "important"),
    atom("ds:grade", "isAnyOf", ["general", "important"]),
    atom("ds:epsilonBudget", "lteq", "2"),
    atom("ds:epsilonBudget", "lt", "2.1"),
    atom("ds:recipientRole", "eq", "enterprise"),
    atom("ds:recipientRole", "isAnyOf", ["government", "enterprise"]),
    atom("ds:recipientZone", "eq", "port"),
    atom("ds:recipientZone", "isAnyOf", ["airport", "port"]),
    atom("ds:recipientZone", "isAllOf", ["port", "qianhai"]),
    atom("ds:recipientZone", "isNoneOf", ["airport"]),
    atom("ds:recipientZone", "neq", "airport"),
    atom("ds:consent", "eq", "required"),
    atom("ds:approval", "eq", "required"),
    atom("ds:approvers", "gteq", "2"),
    atom("ds:release", "isAllOf", ["phone:mask(3,4)"]),
    atom("ds:release", "isAllOf", ["phone:mask(3,4)", "name:drop"]),
    atom("ds:release", "isAnyOf", ["name:drop", "x:drop"]),
    atom("ds:release", "isNoneOf", ["x:drop"]),
    atom("ds:contentVersion", "eq", "sha256:1"),
    atom("ds:contentVersion", "isAnyOf", ["sha256:0", "sha256:1"]),
]
UNMET = [
    atom("ds:approvers", "gteq", "3"),
    atom("purpose", "eq", "research"),
    atom("purpose", "neq", "research/medical"),
    atom("purpose", "isAnyOf", ["research", "planning"]),
    atom("purpose", "isNoneOf", ["research/medical"]),
    atom("purpose", "isAllOf", ["research/medical", "planning"]),
    atom("purpose", "isA", "res"),
    atom("purpose", "isPartOf", "planning"),
    atom("purpose", "hasPart", "research"),
    atom("ds:computation", "eq", "private-sum/2"),
    atom("ds:computation", "isNoneOf", ["private-sum/1"]),
    atom("ds:minCohort", "gteq", "21"),
    atom("count", "lteq", "9"),
    atom("count", "gt", "10"),
    atom("dateTime", "lt", "2026-11-25T04:00:00Z"),
    atom("dateTime", "lteq", "2026-11-25T11:59:59+08:00"),
    atom("dateTime", "gteq", "2026-11-26T00:00:00Z"),
    atom("spatial", "isPartOf", "4401"),
    atom("spatial", "isPartOf", "440305001"),
    atom("spatial", "eq", "4403"),
    atom("spatial", "hasPart", "4403"),
    atom("spatial", "isNoneOf", ["440305000000"]),
    atom("ds:grade", "lteq", "general"),
    atom("ds:grade", "neq", "important"),
    atom("ds:epsilonBudget", "lteq", "1.9"),
    atom("ds:recipientRole", "eq", "government"),
    atom("ds:recipientRole", "isNoneOf", ["enterprise"]),
    atom("ds:recipientZone", "eq", "airport"),
    atom("ds:recipientZone", "isAnyOf", ["airport", "harbour"]),
    atom("ds:recipientZone", "isAllOf", ["port", "airport"]),
    atom("ds:recipientZone", "isNoneOf", ["airport", "port"]),
    atom("ds:recipientZone", "neq", "port"),
    atom("ds:release", "isAllOf", ["name:drop", "x:drop"]),
    atom("ds:release", "neq", "name:drop"),
    atom("ds:contentVersion", "eq", "sha256:0"),
]
UNKNOWN = [
    atom("partner", "eq", "gold"),
    atom("odrl:partner", "eq", "gold"),
    atom("purpose", "gt", "research"),
    atom("purpose", "term-lteq", "research"),
    atom("purpose", "eq", ["research/medical"]),
    atom("purpose", "isAnyOf", []),
    atom("purpose", "isAnyOf", [1, 2]),
    atom("purpose", "isAnyOf", ["research/medical", None]),
    atom("purpose", "eq", {"@value": "research/medical", "x": 1}),
    atom("ds:minCohort", "gteq", "twenty"),
    atom("ds:minCohort", "gteq", "NaN"),
    atom("ds:minCohort", "gteq", "1e1"),
    atom("ds:minCohort", "gteq", "٢٠"),
    atom("ds:minCohort", "gteq", ""),
    atom("ds:minCohort", "isPartOf", "20"),
    atom("count", "lteq", ["10"]),
    atom("dateTime", "lteq", "2026-12-31"),
    atom("dateTime", "lteq", "2026-12-31T00:00:00"),
    atom("dateTime", "lteq", "2026-02-30T00:00:00Z"),
    atom("spatial", "isPartOf", "Shenzhen"),
    atom("spatial", "isPartOf", "440"),
    atom("spatial", "isA", "4403"),
    atom("ds:grade", "lteq", "secret"),
    atom("ds:consent", "eq", "optional"),
    atom("ds:consent", "neq", "required"),
    atom("ds:approval", "eq", "optional"),
    atom("ds:recipientZone", "isPartOf", "port"),
]


def shown(constraint: dict[str, Any]) -> str:
    return " ".join(str(each) for each in constraint.values())


@pytest.mark.parametrize("constraint", MET, ids=shown)
def test_it_is_met(constraint: dict[str, Any]) -> None:
    clause = clause_of(constraint)
    assert (clause.satisfied, clause.known, clause.remedy) == (True, True, None)


@pytest.mark.parametrize("constraint", UNMET, ids=shown)
def test_it_is_not_met(constraint: dict[str, Any]) -> None:
    clause = clause_of(constraint)
    assert (clause.satisfied, clause.known) == (False, True)
    assert clause.remedy is not None


@pytest.mark.parametrize("constraint", UNKNOWN, ids=shown)
def test_it_cannot_be_judged_and_so_refuses_either_way(constraint: dict[str, Any]) -> None:
    clause = clause_of(constraint)
    assert (clause.satisfied, clause.known) == (False, False)
    forbidding = {"action": "use", "constraint": [constraint]}
    decision = decide(permit(prohibition=[forbidding]), REQUEST, FACTS)
    assert not decision.allowed
    assert decision.refusal.path == "prohibition[0]"


def test_every_operand_of_the_profile_is_met_and_unmet_or_refused_above() -> None:
    assert {each["leftOperand"] for each in MET} == set(OPERANDS)
    assert {each["leftOperand"] for each in UNMET} == set(OPERANDS) - {
        Operand.CONSENT,
        Operand.APPROVAL,
    }
    assert {each["operator"] for each in MET + UNKNOWN} == set(Operator)


MISSING = [
    ("purpose", "isNoneOf", ["marketing"], {"purpose": None}),
    ("ds:computation", "neq", "private-set/1", {"computation": None}),
    ("ds:minCohort", "gteq", "0", {"min_cohort": None}),
    ("spatial", "neq", "4401", {"spatial": None}),
    ("spatial", "neq", "4401", {"spatial": "Guangzhou"}),
    ("spatial", "isNoneOf", ["4401"], {"spatial": "44010"}),
    ("ds:grade", "neq", "core", {"grade": None}),
    ("ds:grade", "lteq", "core", {"grade": "top"}),
    ("ds:epsilonBudget", "lteq", "9", {"epsilon": None}),
    ("ds:epsilonBudget", "lteq", "9", {"epsilon": Decimal("-1")}),
    ("ds:epsilonBudget", "lteq", "9", {"epsilon": Decimal("0")}),
    ("ds:epsilonBudget", "lteq", "9", {"epsilon": Decimal("NaN")}),
    ("ds:recipientRole", "neq", "government", {"recipient_role": None}),
    ("ds:consent", "eq", "required", {"consent": None}),
    ("ds:recipientZone", "isNoneOf", ["x"], {"recipient_zones": None}),
    ("ds:approval", "eq", "required", {"approved": None}),
    ("ds:approvers", "gteq", "0", {"approvers": None}),
    ("ds:release", "isNoneOf", ["x:drop"], {"release": None}),
    ("ds:contentVersion", "neq", "sha256:0", {"content_version": None}),
]


@pytest.mark.parametrize(("operand", "operator", "value", "changes"), MISSING)
def test_what_nobody_stated_satisfies_nothing(
    operand: str, operator: str, value: Any, changes: dict[str, Any]
) -> None:
    clause = clause_of(atom(operand, operator, value), **changes)
    assert (clause.satisfied, clause.known) == (False, False)


def test_withheld_consent_refuses() -> None:
    clause = clause_of(atom("ds:consent", "eq", "required"), consent=False)
    assert (clause.satisfied, clause.known) == (False, True)
    assert clause.sentence == "Separate consent is required; it is not given."


YES, NO, OPEN = atom("count", "eq", "10"), atom("count", "eq", "0"), atom("partner", "eq", "x")
LOGIC = [
    ({"and": [YES, YES]}, True),
    ({"and": [YES, NO]}, False),
    ({"and": [YES, OPEN]}, None),
    ({"and": [NO, OPEN]}, False),
    ({"andSequence": [YES, YES]}, True),
    ({"andSequence": [NO, YES]}, False),
    ({"or": [NO, YES]}, True),
    ({"or": [NO, NO]}, False),
    ({"or": [OPEN, YES]}, True),
    ({"or": [OPEN, NO]}, None),
    ({"xone": [YES, NO]}, True),
    ({"xone": [YES, YES]}, False),
    ({"xone": [NO, NO]}, False),
    ({"xone": [YES, OPEN]}, None),
    ({"xone": [YES, YES, OPEN]}, False),
    ({"or": [{"and": [YES, NO]}, {"xone": [YES, NO]}]}, True),
]


@pytest.mark.parametrize(("constraint", "truth"), LOGIC, ids=str)
def test_logical_constraints_follow_three_valued_logic(
    constraint: dict[str, Any], truth: bool | None
) -> None:
    clause = clause_of(constraint)
    assert (clause.satisfied, clause.known) == (truth is True, truth is not None)
    forbidding = {"action": "use", "constraint": [constraint]}
    # A prohibition keeps away only when it certainly does not apply.
    assert decide(permit(prohibition=[forbidding]), REQUEST, FACTS).allowed is (truth is False)


def test_the_use_being_decided_on_counts() -> None:
    ten = permit(atom("count", "lteq", "10"))
    assert decide(ten, REQUEST, replace(FACTS, use_count=9)).allowed
    refused = decide(ten, REQUEST, replace(FACTS, use_count=10))
    assert refused.reason == "The number of uses must be at most 10; it is 11."


def test_any_zone_says_the_same_moment() -> None:
    policy = permit(atom("dateTime", "lteq", "2026-11-25T04:00:00Z"))
    shanghai = NOW.astimezone(timezone(timedelta(hours=8)))
    assert decide(policy, REQUEST, FACTS) == decide(policy, REQUEST, replace(FACTS, now=shanghai))


def test_the_refusal_is_the_first_unmet_clause_of_the_nearest_permission() -> None:
    policy = Offer.model_validate(
        {
            "@id": "urn:o",
            "permission": [
                {"action": "use", "constraint": [NO, NO, YES]},
                {"action": "sell"},
                {"action": "use", "constraint": [YES, {"and": [YES, NO]}]},
            ],
        }
    )
    decision = decide(policy, REQUEST, FACTS)
    assert decision.refusal.path == "permission[2].constraint[1].and[1]"
    assert decision.reason == "The number of uses must be 0; it is 10."
    assert [rule.path for rule in decision.rules] == ["permission[0]", "permission[2]"]


def test_one_permission_that_holds_is_enough() -> None:
    policy = Offer.model_validate(
        {
            "@id": "urn:o",
            "permission": [
                {"action": "use", "constraint": [NO]},
                {"action": "use", "constraint": [YES]},
            ],
        }
    )
    decision = decide(policy, REQUEST, FACTS)
    assert decision.allowed
    assert decision.refusal is None
    assert decision.reason == "The policy's permission[1] permits use: its conditions hold, 1 of 1."


def test_an_action_nobody_permitted_is_refused() -> None:
    decision = decide(permit(), replace(REQUEST, action="sell"), FACTS)
    assert decision.refusal.path == "permission"
    assert decision.reason == "The policy has no permission for the action sell."


def test_a_prohibition_of_use_reaches_every_action() -> None:
    policy = Offer.model_validate(
        {"@id": "o", "permission": [{"action": "sell"}], "prohibition": [{"action": "use"}]}
    )
    assert not decide(policy, replace(REQUEST, action="sell"), FACTS).allowed


def test_a_prohibition_says_what_it_is_about() -> None:
    marketing = {"action": "use", "constraint": [atom("purpose", "isAnyOf", ["marketing"])]}
    policy = permit(prohibition=[marketing])
    assert decide(policy, REQUEST, FACTS).allowed
    decision = decide(policy, replace(REQUEST, purpose="marketing"), FACTS)
    assert decision.reason == (
        "The policy prohibits use here: the prohibition holds when the purpose is marketing, "
        "and it is marketing."
    )


def test_what_a_peer_wrote_stays_one_short_printable_line() -> None:
    hostile = atom("purpose", "eq", "x\nallowed: yes\x1b[31m" + "y" * 500)
    decision = decide(permit(hostile), REQUEST, FACTS)
    assert decision.reason.isprintable()
    assert len(decision.reason) < 250


def test_a_profile_this_space_does_not_know_refuses() -> None:
    decision = decide(permit(profile="https://test.example/profile"), REQUEST, FACTS)
    assert decision.refusal.path == "profile"


def test_an_agreement_serves_its_assignee_only() -> None:
    bound = agreement_from(
        permit(YES),
        agreement_id="a",
        target="t",
        assigner="did:web:provider",
        assignee="did:web:consumer",
        timestamp="2026-11-25T00:00:00Z",
    )
    assert decide(bound, REQUEST, FACTS).allowed
    other = decide(bound, replace(REQUEST, assignee="did:web:other"), FACTS)
    assert other.refusal.path == "assignee"


def test_duties_are_reported_and_are_not_gates() -> None:
    policy = Offer.model_validate(
        {
            "@id": "urn:o",
            "permission": [{"action": "use", "duty": [{"action": "delete"}]}],
            "obligation": [{"action": "inform", "consequence": [{"action": "delete"}]}],
            "prohibition": [{"action": "sell", "remedy": [{"action": "attribute"}]}],
        }
    )
    decision = decide(policy, REQUEST, FACTS)
    assert decision.allowed
    assert [(duty.path, duty.action) for duty in decision.duties] == [
        ("permission[0].duty[0]", "delete"),
        ("obligation[0]", "inform"),
        ("prohibition[0].remedy[0]", "attribute"),
    ]
    (consequence,) = decision.duties[1].consequences
    assert (consequence.path, consequence.action) == ("obligation[0].consequence[0]", "delete")
    assert decide(policy, replace(REQUEST, action="sell"), FACTS).duties == ()


def test_approval_waits_for_a_person_only_when_nothing_else_is_missing() -> None:
    approval = atom("ds:approval", "eq", "required")
    waiting = decide(permit(approval, YES), REQUEST, replace(FACTS, approved=None))
    assert (waiting.refusal.operand, waiting.refusal.known) == (Operand.APPROVAL, False)
    declined = decide(permit(approval), REQUEST, replace(FACTS, approved=False))
    assert (declined.refusal.operand, declined.refusal.known) == (Operand.APPROVAL, True)
    hopeless = decide(permit(approval, NO), REQUEST, replace(FACTS, approved=None))
    assert hopeless.refusal.operand == Operand.COUNT


def test_a_prohibition_wins_whatever_the_strategy_for_conflicts() -> None:
    marketing = [{"action": "use", "constraint": [atom("purpose", "isA", "research")]}]
    for conflict in ("perm", "odrl:perm", "prohibit", {"@id": "odrl:prohibit"}):
        policy = permit(YES, prohibition=marketing, conflict=conflict)
        decision = decide(policy, REQUEST, FACTS)
        assert decision.refusal.path == "prohibition[0]"
        assert decision.rules[0].path == "conflict"
        assert decision.rules[0].satisfied
        assert decide(policy, replace(REQUEST, purpose="planning"), FACTS).allowed


def test_a_policy_that_conflicts_is_void_where_it_says_so() -> None:
    research = atom("purpose", "eq", "research/medical")
    other = [{"action": "use", "constraint": [atom("purpose", "eq", "planning")]}]
    sound = permit(research, prohibition=other, conflict="invalid")
    assert decide(sound, REQUEST, FACTS).allowed
    # Void for all uses, also those the prohibition is not about.
    void = permit(YES, prohibition=other, conflict="invalid")
    decision = decide(void, REQUEST, FACTS)
    assert decision.refusal.path == "conflict"
    assert decision.refusal.wanted == ("permission[0]", "prohibition[0]")
    beside = Offer.model_validate(
        {**permit().to_json(), "conflict": "invalid", "prohibition": [{"action": "sell"}]}
    )
    assert decide(beside, REQUEST, FACTS).allowed


@pytest.mark.parametrize("conflict", ["first", {"@value": "perm"}, ["perm"]], ids=str)
def test_a_strategy_nobody_knows_refuses(conflict: object) -> None:
    decision = decide(permit(conflict=conflict), REQUEST, FACTS)
    assert (decision.refusal.path, decision.refusal.known) == ("conflict", False)


def test_what_is_inherited_is_not_here_and_so_refuses() -> None:
    decision = decide(permit(inheritFrom=["urn:parent"]), REQUEST, FACTS)
    assert (decision.refusal.path, decision.refusal.known) == ("inheritFrom", False)
    assert decision.refusal.expected == "urn:parent"


def test_terms_that_nothing_reads_refuse_where_they_stand() -> None:
    assert decide(permit(**{"odrl:permission": []}), REQUEST, FACTS).refusal.path == "terms"
    plain = permit().to_json()
    narrowed = {**plain, "permission": [{"action": "use", "refinement": []}]}
    refused = decide(Offer.model_validate(narrowed), REQUEST, FACTS)
    assert refused.refusal.path == "permission[0].terms"
    # Whom a prohibition names beside the policy does not let anybody else off.
    aimed = {**plain, "prohibition": [{"action": "use", "assignee": "did:web:other"}]}
    assert decide(Offer.model_validate(aimed), REQUEST, FACTS).refusal.path == "prohibition[0]"
    limited = {**atom("count", "lteq", "10"), "unit": "urn:hour"}
    for constraint in (limited, {"or": [YES], "unit": "urn:hour"}):
        clause = clause_of(constraint)
        assert (clause.satisfied, clause.known) == (False, False)


def test_long_forms_are_the_same_terms() -> None:
    odrl = "http://www.w3.org/ns/odrl/2/"
    ours = "https://w3id.org/city-dataspace/ns/v1#"
    conditions = [
        atom("odrl:purpose", "odrl:isA", "research"),
        atom(f"{odrl}count", f"{odrl}lteq", "10"),
        atom(f"{ours}grade", "lteq", "important"),
    ]
    rule = {"action": f"{odrl}use", "constraint": conditions}
    policy = Offer.model_validate({"@id": "urn:o", "permission": [rule]})
    assert decide(policy, REQUEST, FACTS).allowed
    forbidding = Offer.model_validate({**policy.to_json(), "prohibition": [{"action": "odrl:use"}]})
    assert not decide(forbidding, REQUEST, FACTS).allowed


def test_a_decision_can_be_kept_as_canonical_json() -> None:
    policy = permit(*MET, *UNMET[:2], {"or": [NO, YES]})
    kept = rfc8785.dumps(decide(policy, REQUEST, FACTS).to_json())
    assert kept == rfc8785.dumps(decide(policy, REQUEST, FACTS).to_json())
    body = json.loads(kept)
    assert body["allowed"] is False
    assert body["refusal"] == f"permission[0].constraint[{len(MET)}]"


@pytest.mark.parametrize(
    "changes",
    [
        {"now": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"use_count": -1},
        {"epsilon_spent": Decimal("-0.1")},
        {"epsilon_spent": Decimal("NaN")},
    ],
)
def test_facts_that_cannot_be_are_the_callers_mistake(changes: dict[str, Any]) -> None:
    with pytest.raises(InputRejected):
        replace(FACTS, **changes)
