"""What a policy would allow, read before anybody asks."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.decision import Facts, Request
from contracts.evaluation import decide
from contracts.odrl import Offer
from contracts.planning import (
    approval_required,
    conflicting_rules,
    covered_versions,
    mentions,
    permitted_computations,
    permitted_purposes,
    required_min_cohort,
    required_release,
    valid_until,
)
from contracts.profile import Operand
from contracts.prospect import decide_prospect

YES = {"leftOperand": "count", "operator": "eq", "rightOperand": "10"}
JUNE = datetime(2027, 6, 30, 16, tzinfo=UTC)
JULY = datetime(2027, 7, 31, 16, tzinfo=UTC)


def atom(operand: str, operator: str, value: Any) -> dict[str, Any]:
    return {"leftOperand": operand, "operator": operator, "rightOperand": value}


def permit(*constraints: dict[str, Any], **more: Any) -> Offer:
    rule = {"action": "use", "constraint": list(constraints)}
    return Offer.model_validate({"@id": "urn:o", "permission": [rule], **more})


def test_a_plan_knows_the_cohort_it_needs() -> None:
    assert required_min_cohort(permit()) == 0
    assert required_min_cohort(permit(atom("ds:minCohort", "gteq", "20"))) == 20
    assert required_min_cohort(permit(atom("ds:minCohort", "gteq", "19.2"))) == 20
    assert required_min_cohort(permit(atom("ds:minCohort", "gt", "20"))) == 21
    assert required_min_cohort(permit(atom("ds:minCohort", "lteq", "20"))) == 0
    assert required_min_cohort(permit(atom("ds:minCohort", "gteq", "many"))) == 0
    nested = {"or": [atom("ds:minCohort", "gteq", "20"), atom("ds:minCohort", "gteq", "50")]}
    assert required_min_cohort(permit(nested)) == 50


def test_a_plan_knows_what_is_permitted() -> None:
    assert permitted_computations(permit()) is None
    listed = atom("ds:computation", "isAnyOf", ["b/1", "a/1"])
    assert permitted_computations(permit(listed)) == ("a/1", "b/1")
    assert permitted_computations(permit(listed, atom("ds:computation", "eq", "a/1"))) == ("a/1",)
    either = {"or": [atom("purpose", "eq", "x"), atom("purpose", "eq", "y")]}
    assert permitted_purposes(permit(either)) == ("x", "y")
    assert permitted_purposes(permit({"or": [either, YES]})) is None
    assert permitted_purposes(permit({"and": [either, YES]})) == ("x", "y")
    assert permitted_purposes(permit(atom("purpose", "isAnyOf", []))) == ()


UNTIL_JUNE = atom("dateTime", "lteq", "2027-07-01T00:00:00+08:00")
UNTIL_JULY = atom("dateTime", "lt", "2027-07-31T16:00:00Z")
ENDS = [
    ([], None),
    ([atom("dateTime", "gteq", "2027-06-30T16:00:00Z")], None),
    ([atom("dateTime", "lteq", "one day")], None),
    ([UNTIL_JUNE], JUNE),
    ([UNTIL_JUNE, UNTIL_JULY], JUNE),
    ([{"and": [UNTIL_JULY, YES]}], JULY),
    ([{"andSequence": [UNTIL_JULY, UNTIL_JUNE]}], JUNE),
    ([{"or": [UNTIL_JUNE, UNTIL_JULY]}], JULY),
    ([{"xone": [UNTIL_JUNE, UNTIL_JULY]}], JULY),
    ([{"or": [UNTIL_JUNE, YES]}], None),
    ([{"or": [UNTIL_JUNE, YES]}, UNTIL_JULY], JULY),
    ([atom("dateTime", "isAnyOf", ["2027-06-30T16:00:00Z", "2027-07-31T16:00:00Z"])], JULY),
]


@pytest.mark.parametrize(("constraints", "end"), ENDS, ids=str)
def test_a_plan_knows_when_a_permission_ends(constraints: list, end: datetime | None) -> None:
    assert valid_until(permit(*constraints)) == end


def test_a_policy_ends_with_the_last_of_its_permissions() -> None:
    june, july = permit(UNTIL_JUNE), permit(UNTIL_JULY)
    both = june.model_copy(update={"permission": (*june.permission, *july.permission)})
    assert valid_until(both) == JULY
    open_ended = june.model_copy(update={"permission": (*june.permission, *permit().permission)})
    assert valid_until(open_ended) is None
    only_prohibits = Offer.model_validate({"@id": "urn:o", "prohibition": [{"action": "use"}]})
    assert valid_until(only_prohibits) is None


def test_a_person_is_asked_as_soon_as_any_clause_speaks_of_approval() -> None:
    approval = atom("ds:approval", "eq", "required")
    assert approval_required(permit(YES, approval))
    assert approval_required(permit({"or": [YES, {"xone": [approval]}]}))
    assert not approval_required(permit(YES))


RESEARCH = atom("purpose", "isAnyOf", ["research", "planning"])
CONFLICTS = [
    ([], [], True),
    ([RESEARCH], [], True),
    ([RESEARCH], [atom("purpose", "eq", "planning")], True),
    ([RESEARCH], [atom("purpose", "eq", "marketing")], False),
    ([RESEARCH], [atom("purpose", "eq", "marketing"), YES], False),
    ([RESEARCH], [{"or": [atom("purpose", "eq", "x"), atom("purpose", "eq", "y")]}], False),
    ([RESEARCH], [atom("partner", "eq", "x")], True),
    ([atom("count", "lteq", "5")], [atom("count", "gt", "5")], False),
]


@pytest.mark.parametrize(("permitted", "forbidden", "conflict"), CONFLICTS, ids=str)
def test_rules_conflict_unless_they_exclude_one_another(
    permitted: list, forbidden: list, conflict: bool
) -> None:
    policy = permit(
        *permitted, prohibition=[{"action": "sell"}, {"action": "use", "constraint": forbidden}]
    )
    found = conflicting_rules(policy)
    assert found == (("permission[0]", "prohibition[1]") if conflict else ())


FACTS = Facts(
    now=datetime(2026, 11, 25, tzinfo=UTC),
    use_count=0,
    recipient_role="consumer",
    grade="general",
    consent=None,
    recipient_zones=("port",),
    approved=True,
)


def test_a_prospect_names_the_clause_by_its_place_in_the_whole_policy() -> None:
    policy = permit(
        atom("purpose", "eq", "research"),
        atom("ds:recipientZone", "eq", "port"),
        atom("ds:recipientRole", "eq", "government"),
    )
    decision = decide_prospect(policy, "did:web:c", FACTS)
    assert decision.refusal.path == "permission[0].constraint[2]"
    assert decision.refusal in decision.rules[-1].children
    assert [one.path for one in decision.rules[-1].children] == [
        "permission[0].constraint[1]",
        "permission[0].constraint[2]",
    ]


def test_a_prospect_leaves_prohibitions_for_the_use_but_not_what_voids_the_policy() -> None:
    forbidding = [{"action": "use", "constraint": [atom("purpose", "eq", "marketing")]}]
    assert decide_prospect(permit(prohibition=forbidding), "did:web:c", FACTS).allowed
    void = decide_prospect(permit(prohibition=forbidding, conflict="invalid"), "did:web:c", FACTS)
    assert (void.allowed, void.refusal.path, void.duties) == (False, "conflict", ())
    assert not decide_prospect(permit(inheritFrom="urn:p"), "did:web:c", FACTS).allowed


def test_a_prospect_is_about_use_where_the_policy_permits_it() -> None:
    closed = {"action": "sell", "constraint": [atom("ds:recipientRole", "eq", "government")]}
    both = Offer.model_validate({"@id": "urn:o", "permission": [closed, {"action": "use"}]})
    assert decide_prospect(both, "did:web:c", FACTS).allowed
    alone = Offer.model_validate({"@id": "urn:o", "permission": [closed]})
    assert decide_prospect(alone, "did:web:c", FACTS).refusal.path == "permission[0].constraint[0]"


DROP, MASK = "name:drop", "phone:mask(3,4)"
PULL, PUSH = "HttpData-PULL", "HttpData-PUSH"
RULES = atom("ds:release", "isAllOf", [MASK, DROP])
RELEASES = [
    ([], ()),
    ([RULES], (MASK, DROP)),
    ([RULES, atom("ds:release", "isAllOf", [DROP, "age:band(10)"])], (MASK, DROP, "age:band(10)")),
    ([{"or": [RULES, atom("ds:release", "isAllOf", "x:drop")]}], (MASK, DROP, "x:drop")),
    ([{"and": [RULES, YES]}, atom("ds:computation", "eq", PULL)], (MASK, DROP)),
    # By these no rows could leave in that format, so nothing need be done to any.
    ([RULES, atom("ds:computation", "isAnyOf", [PUSH, "psi/1"])], ()),
    ([RULES, atom("ds:minCohort", "gteq", "20")], ()),
    ([RULES, atom("ds:epsilonBudget", "lteq", "1")], ()),
    ([atom("ds:release", "isNoneOf", [DROP]), atom("ds:release", "isAllOf", [])], ()),
    ([atom("ds:release", "eq", DROP)], (DROP,)),
]


@pytest.mark.parametrize(("constraints", "rules"), RELEASES, ids=str)
def test_a_plan_knows_by_which_rules_rows_leave(constraints: list, rules: tuple[str, ...]) -> None:
    assert required_release(permit(*constraints), PULL) == rules


def test_rows_treated_so_meet_every_permission_by_which_they_could_leave() -> None:
    wanted = [(atom("purpose", "eq", "x"), DROP), (atom("purpose", "eq", "y"), MASK)]
    policy = Offer.model_validate(
        {
            "@id": "urn:o",
            "permission": [
                {"action": "use", "constraint": [purpose, atom("ds:release", "isAllOf", rule)]}
                for purpose, rule in wanted
            ],
        }
    )
    rules = required_release(policy, PULL)
    assert rules == (DROP, MASK)
    for purpose in ("x", "y"):
        asked = Request("use", "did:web:c", purpose, PULL, None)
        facts = Facts(JUNE, 0, None, None, None, release=rules)
        assert decide(policy, asked, facts).allowed
        assert not decide(policy, asked, replace(facts, release=())).allowed


def test_a_plan_knows_which_states_of_the_data_are_covered() -> None:
    one = atom("ds:contentVersion", "eq", "sha256:1")
    assert covered_versions(permit()) is None
    assert covered_versions(permit(one)) == ("sha256:1",)
    assert covered_versions(permit({"or": [one, YES]})) is None
    either = {"or": [one, atom("ds:contentVersion", "isAnyOf", ["sha256:0"])]}
    assert covered_versions(permit(either)) == ("sha256:0", "sha256:1")
    assert mentions(permit({"or": [one, YES]}), Operand.CONTENT_VERSION)
    forbidding = [{"action": "use", "constraint": [one]}]
    assert mentions(permit(prohibition=forbidding), Operand.CONTENT_VERSION)
    assert not mentions(permit(YES), Operand.CONTENT_VERSION)
