"""Pairs of policies whose order is known, and what is said where they differ."""

from typing import Any

import pytest

from contracts.odrl import Offer, agreement_from
from contracts.strictness import Difference, compare

USE = {"action": "use"}


def atom(left: str, operator: str, right: Any, **extra: Any) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right, **extra}


def purpose(*names: str) -> dict[str, Any]:
    return atom("purpose", "isAnyOf", list(names))


def cohort(number: str, operator: str = "gteq") -> dict[str, Any]:
    return atom("ds:minCohort", operator, number)


def time(operator: str, moment: str) -> dict[str, Any]:
    return atom("dateTime", operator, moment)


def zone(operator: str, *names: str) -> dict[str, Any]:
    return atom("ds:recipientZone", operator, list(names))


def offer(*constraints: dict[str, Any], forbid: Any = (), **more: Any) -> Offer:
    """One permission to use under `constraints`, and prohibitions of use under those of `forbid`,
    each a list of constraints."""
    body = {
        "@id": "urn:o",
        "permission": [{**USE, "constraint": list(constraints)}],
        "prohibition": [{**USE, "constraint": each} for each in forbid],
    }
    return Offer.model_validate({**body, **more})


REQUIRED = atom("ds:consent", "eq", "required")
APPROVAL = atom("ds:approval", "eq", "required")

# The first demands at least what the second does.
IMPLIED = [
    (cohort("50"), cohort("20")),
    (cohort("20"), cohort("20.0")),
    (cohort("19", "gt"), cohort("20")),
    (cohort("19.5"), cohort("20")),
    (cohort("20", "eq"), cohort("20")),
    (atom("ds:minCohort", "isAnyOf", ["20", "50"]), cohort("20")),
    (cohort("50"), cohort("49", "neq")),
    (cohort({"@value": "50"}), cohort("20")),
    (atom("count", "lt", "3"), atom("count", "lteq", "2")),
    (atom("count", "eq", "2"), atom("count", "lteq", "2")),
    (purpose("a"), atom("count", "gteq", "1")),
    (time("lteq", "2027-01-01T00:00:00Z"), time("lteq", "2027-01-01T08:00:00+08:00")),
    (time("lt", "2027-01-01T00:00:00Z"), time("lteq", "2027-01-01T00:00:00Z")),
    (time("eq", "2026-01-01T00:00:00Z"), time("lt", "2026-01-02T00:00:00Z")),
    (atom("ds:grade", "eq", "general"), atom("ds:grade", "lteq", "important")),
    (atom("ds:grade", "neq", "core"), atom("ds:grade", "lt", "core")),
    (atom("ds:grade", "gt", "important"), atom("ds:grade", "eq", "core")),
    (atom("ds:epsilonBudget", "lteq", "0.5"), atom("ds:epsilonBudget", "lteq", "1")),
    (purpose("a"), purpose("a", "b")),
    (atom("purpose", "eq", "a"), purpose("a", "b")),
    (atom("purpose", "isAllOf", ["a"]), atom("purpose", "eq", "a")),
    (purpose("a"), atom("purpose", "isNoneOf", ["b", "c"])),
    (atom("purpose", "isNoneOf", ["a", "b"]), atom("purpose", "neq", "a")),
    (purpose("a/b", "a/c"), atom("purpose", "isA", "a")),
    (atom("purpose", "isA", "a/b"), atom("purpose", "isPartOf", "a")),
    (atom("purpose", "isA", "a"), atom("purpose", "isNoneOf", ["b", "ab"])),
    (atom("purpose", "eq", "a"), atom("purpose", "hasPart", "a/b")),
    (atom("purpose", "hasPart", "a/b"), purpose("a", "a/b")),
    (atom("spatial", "isPartOf", "440300"), atom("spatial", "isPartOf", "44")),
    (atom("spatial", "eq", "440305"), atom("spatial", "isPartOf", "4403")),
    (atom("spatial", "eq", "4403"), atom("spatial", "hasPart", "440305")),
    (atom("spatial", "hasPart", "440305"), atom("spatial", "isPartOf", "44")),
    (atom("spatial", "isPartOf", "44"), atom("spatial", "neq", "31")),
    (REQUIRED, atom("ds:consent", "eq", {"@value": "required"})),
    (zone("isAnyOf", "port"), zone("isAnyOf", "port", "park")),
    (atom("ds:recipientZone", "eq", "port"), zone("isAnyOf", "port", "park")),
    (zone("isAllOf", "port", "park"), atom("ds:recipientZone", "eq", "port")),
    (zone("isAllOf", "port", "park"), zone("isAnyOf", "port", "fair")),
    (zone("isNoneOf", "port", "park"), atom("ds:recipientZone", "neq", "park")),
    (atom("partner", "eq", "x"), atom("partner", "eq", "x")),
    (atom("partner", "isAnyOf", ["x", "y"]), atom("partner", "isAnyOf", ["y", "x"])),
    (cohort("20") | {"unit": "household"}, cohort("20") | {"unit": "household"}),
    (cohort("50") | {"@type": "Constraint"}, cohort("20") | {"uid": "urn:c"}),
    (atom("odrl:purpose", "odrl:eq", "a"), atom("purpose", "eq", "a")),
    # Joined clauses.
    ({"and": [purpose("a"), cohort("50")]}, cohort("20")),
    ({"andSequence": [purpose("a"), cohort("50")]}, {"and": [cohort("20"), purpose("a", "b")]}),
    ({"or": [cohort("50"), cohort("30")]}, cohort("20")),
    ({"or": [purpose("a"), purpose("b")]}, purpose("a", "b")),
    ({"or": [purpose("a"), purpose("b")]}, {"or": [purpose("c"), purpose("b", "a")]}),
    ({"xone": [purpose("a"), cohort("50")]}, {"or": [cohort("20"), purpose("a")]}),
    ({"xone": [purpose("a"), purpose("b")]}, {"xone": [purpose("b"), purpose("a")]}),
    (purpose("a"), {"xone": [purpose("a"), purpose("b")]}),
    ({"or": [{"and": [purpose("a"), cohort("50")]}, cohort("30")]}, cohort("30")),
]
# The second demands something that the first does not.
NOT_IMPLIED = [
    (cohort("5"), cohort("20")),
    (cohort("20"), cohort("20", "gt")),
    (cohort("20", "neq"), cohort("20")),
    (cohort("50", "lteq"), cohort("20")),
    (purpose("a"), cohort("20")),
    (atom("count", "lteq", "3"), atom("count", "lteq", "2")),
    (time("lteq", "2027-01-01T00:00:00Z"), time("lteq", "2027-01-01T00:00:01+00:01")),
    (time("lteq", "2027-01-01T00:00:00Z"), time("lt", "2027-01-01T00:00:00Z")),
    (atom("ds:grade", "neq", "core"), atom("ds:grade", "lt", "important")),
    (purpose("a", "c"), purpose("a", "b")),
    (atom("purpose", "isA", "a"), purpose("a")),
    (atom("purpose", "isA", "a"), atom("purpose", "isA", "a/b")),
    (atom("purpose", "isA", "a"), atom("purpose", "neq", "a/b")),
    (atom("purpose", "eq", "ab"), atom("purpose", "isA", "a")),
    (atom("spatial", "isPartOf", "4403"), atom("spatial", "isPartOf", "440305")),
    (atom("spatial", "isPartOf", "4403"), atom("spatial", "eq", "4403")),
    (atom("spatial", "eq", "4403"), atom("spatial", "eq", "Shenzhen")),
    (atom("spatial", "eq", "Shenzhen"), atom("spatial", "neq", "4403")),
    (atom("spatial", "isNoneOf", ["Shenzhen", "4403"]), atom("spatial", "neq", "4403")),
    (zone("isAnyOf", "port", "fair"), zone("isAnyOf", "port", "park")),
    (zone("isAnyOf", "port", "park"), atom("ds:recipientZone", "eq", "port")),
    (zone("isAllOf", "port"), zone("isAllOf", "port", "park")),
    (zone("isAllOf", "port"), zone("isNoneOf", "park")),
    (zone("isNoneOf", "park"), zone("isAnyOf", "port")),
    (REQUIRED, APPROVAL),
    (atom("partner", "eq", "x"), atom("partner", "isAnyOf", ["x"])),
    (cohort("20"), cohort("20") | {"unit": "household"}),
    (cohort("20") | {"unit": "household"}, cohort("10")),
    (purpose("a"), {"and": [purpose("a")], "unit": "household"}),
    ({"and": [purpose("a")], "unit": "household"}, purpose("a", "b")),
    ({"or": [cohort("50"), purpose("a")]}, cohort("20")),
    ({"or": [purpose("a"), cohort("20")]}, {"xone": [purpose("a"), cohort("20")]}),
    (purpose("a"), {"xone": [purpose("a"), purpose("a", "b")]}),
    ({"and": [purpose("a")]}, {"and": [purpose("a"), cohort("20")]}),
]


@pytest.mark.parametrize(("given", "wanted"), IMPLIED)
def test_a_clause_that_implies_another_is_at_least_as_strict(given: Any, wanted: Any) -> None:
    assert compare(offer(given), offer(wanted)).reasons == ()


@pytest.mark.parametrize(("given", "wanted"), NOT_IMPLIED)
def test_a_clause_that_does_not_imply_another_is_not(given: Any, wanted: Any) -> None:
    difference = compare(offer(given), offer(wanted))
    assert not difference.holds
    assert [one.path for one in difference.reasons] == ["permission[0].constraint[0]"]


def test_clauses_together_imply_what_none_of_them_does() -> None:
    given = offer(
        atom("purpose", "isAnyOf", ["a/x", "a/y", "b"]),
        atom("purpose", "isA", "a"),
        atom("purpose", "neq", "a/y"),
    )
    assert compare(given, offer(atom("purpose", "eq", "a/x"))).holds
    assert not compare(given, offer(atom("purpose", "eq", "a/y"))).holds
    zones = offer(zone("isAnyOf", "port", "park"), zone("isNoneOf", "park"))
    assert compare(zones, offer(atom("ds:recipientZone", "eq", "port"))).holds


@pytest.mark.parametrize(
    "impossible",
    [
        [purpose("a"), purpose("b")],
        [cohort("20"), cohort("20", "lt")],
        [cohort("20", "gt"), cohort("21", "lt")],
        [cohort("20"), cohort("20", "lteq"), cohort("20", "neq")],
        [atom("count", "lt", "1")],
        [atom("ds:epsilonBudget", "lteq", "0")],
        [atom("ds:grade", "gt", "core")],
        [atom("purpose", "isAllOf", ["a", "b"])],
        [atom("purpose", "isA", "a"), atom("purpose", "isA", "b")],
        [atom("spatial", "isPartOf", "44"), atom("spatial", "eq", "31")],
        [zone("isAllOf", "port", "park"), zone("isNoneOf", "park")],
        [{"or": [purpose("a"), {"and": [purpose("b"), purpose("c")]}]}, purpose("b")],
    ],
)
def test_a_permission_that_never_holds_is_stricter_than_any(impossible: Any) -> None:
    assert compare(offer(*impossible), offer(atom("partner", "eq", "x"))).holds
    selling = offer(permission=[{"action": "sell"}])
    assert compare(offer(*impossible), selling).holds


def test_one_permission_may_be_covered_by_several() -> None:
    two = {
        "permission": [
            {**USE, "constraint": [purpose("a"), cohort("20")]},
            {**USE, "constraint": [purpose("b")]},
        ]
    }
    either = {"or": [{"and": [purpose("a"), cohort("50")]}, purpose("b")]}
    assert compare(offer(either), offer(**two)).holds
    either = {"or": [{"and": [purpose("a"), cohort("5")]}, purpose("b")]}
    assert not compare(offer(either), offer(**two)).holds
    assert compare(offer(**two), offer(purpose("a", "b"))).holds
    assert not compare(offer(purpose("a", "b")), offer(**two)).holds


def test_another_action_is_another_permission() -> None:
    selling = offer(permission=[{"action": "sell"}])
    found = compare(selling, offer())
    assert found.reasons == (
        Difference(
            "permission[0]",
            "The reference has no permission for the action sell.",
            "参照策略没有对动作 sell 的许可。",
        ),
    )
    assert compare(offer(permission=[{"action": "odrl:use"}]), offer()).holds


# What the candidate permits and forbids, what the reference permits and forbids.
PROHIBITIONS_KEPT = [
    ([], [[purpose("a")]], [], [[purpose("a")]]),
    ([], [[]], [], [[purpose("a")]]),
    ([], [[purpose("a", "b")]], [], [[purpose("a")]]),
    ([], [[purpose("a")]], [], [[purpose("a"), cohort("20")]]),
    ([], [[cohort("20")]], [], [[cohort("50"), purpose("a")]]),
    ([purpose("a")], [], [], [[purpose("b")]]),
    ([purpose("a")], [], [], [[purpose("b"), atom("partner", "eq", "x")]]),
    ([cohort("20")], [], [], [[cohort("20", "lt")]]),
    ([purpose("a")], [], [], [[{"or": [purpose("b"), purpose("c")]}]]),
    ([{"or": [purpose("a"), purpose("c")]}], [], [], [[purpose("b")]]),
    ([purpose("a")], [[cohort("20", "lt")]], [], [[purpose("a"), cohort("10", "lt")]]),
    ([purpose("a")], [[purpose("a"), cohort("9", "lt")]], [], [[cohort("9", "lt")]]),
    ([], [[{"or": [purpose("a"), purpose("b")]}]], [], [[purpose("a")]]),
    ([], [[purpose("a")]], [atom("purpose", "neq", "a")], []),
    ([], [[atom("purpose", "neq", "a")]], [purpose("a", "b")], []),
    ([], [[cohort("20", "lt")]], [cohort("20")], []),
    ([], [[zone("isNoneOf", "port")]], [zone("isAnyOf", "port", "park")], []),
]
PROHIBITIONS_MISSING = [
    ([], [], [], [[purpose("a")]]),
    ([], [], [], [[]]),
    ([], [[purpose("a")]], [], [[purpose("a", "b")]]),
    ([], [[purpose("a"), cohort("20")]], [], [[purpose("a")]]),
    ([purpose("a", "b")], [], [], [[purpose("b")]]),
    ([purpose("a")], [], [], [[{"or": [purpose("b"), cohort("20")]}]]),
    # It applies wherever the purpose is not known, whatever the cohort.
    ([], [[cohort("20")]], [], [[purpose("a"), purpose("b")]]),
    ([], [[atom("partner", "eq", "y")]], [], [[atom("partner", "eq", "x")]]),
    ([], [[purpose("a"), cohort("20", "lt")]], [cohort("20")], []),
    ([], [[REQUIRED]], [atom("ds:consent", "neq", "required")], []),
]


@pytest.mark.parametrize(("permit", "forbid", "wanted", "forbidden"), PROHIBITIONS_KEPT)
def test_a_prohibition_is_kept_where_it_is_covered_or_cannot_apply(
    permit: Any, forbid: Any, wanted: Any, forbidden: Any
) -> None:
    candidate, reference = offer(*permit, forbid=forbid), offer(*wanted, forbid=forbidden)
    assert compare(candidate, reference).reasons == ()


@pytest.mark.parametrize(("permit", "forbid", "wanted", "forbidden"), PROHIBITIONS_MISSING)
def test_a_prohibition_that_is_not_is_missed(
    permit: Any, forbid: Any, wanted: Any, forbidden: Any
) -> None:
    candidate, reference = offer(*permit, forbid=forbid), offer(*wanted, forbid=forbidden)
    assert not compare(candidate, reference).holds


def test_prohibitions_of_another_action_do_not_count() -> None:
    selling = {"prohibition": [{"action": "sell"}]}
    assert compare(offer(), offer(**selling)).holds
    assert not compare(offer(**selling), offer(forbid=[[]])).holds
    both = {"permission": [{"action": "sell"}]}
    assert not compare(offer(**both), offer(**both, **selling)).holds
    # Every action is a kind of use.
    assert compare(offer(**both, forbid=[[]]), offer(**both, **selling)).holds


def test_a_reference_for_one_recipient_wants_the_same_one() -> None:
    bound = offer(assignee="did:web:c")
    assert compare(bound, bound).holds
    assert compare(bound, offer()).holds
    for other in (offer(), offer(assignee="did:web:d")):
        assert [one.path for one in compare(other, bound).reasons] == ["assignee"]


def test_an_agreement_is_compared_like_the_offer_it_came_from() -> None:
    published = offer(cohort("20"), forbid=[[purpose("a")]])
    agreement = agreement_from(
        offer(cohort("50"), forbid=[[purpose("a")]]),
        agreement_id="urn:a",
        target="urn:d",
        assigner="did:web:p",
        assignee="did:web:c",
        timestamp="2026-11-25T00:00:00Z",
    )
    assert compare(agreement, published).holds
    assert not compare(published, agreement).holds


def test_duties_of_the_reference_have_to_be_there() -> None:
    delete, inform = {"action": "delete"}, {"action": "inform", "constraint": [purpose("a")]}
    owing = {"permission": [{**USE, "duty": [delete]}], "obligation": [inform]}
    more = {"permission": [{**USE, "duty": [inform, delete]}], "obligation": [inform, delete]}
    assert compare(offer(**more), offer(**owing)).holds
    found = compare(offer(), offer(**owing)).reasons
    assert [one.path for one in found] == ["permission[0].duty[0]", "obligation[0]"]
    assert found[0].sentence == "The reference obliges to delete; the candidate does not."
    assert found[0].sentence_zh == "参照策略规定了义务“delete”，候选策略没有。"
    others = {"obligation": [{**inform, "assignee": "did:web:p"}]}
    assert [one.path for one in compare(offer(**others), offer()).reasons] == ["obligation"]


def test_a_prohibition_keeps_the_remedy_that_the_reference_wants() -> None:
    ban = {**USE, "constraint": [purpose("a")]}
    owing = {"prohibition": [{**ban, "remedy": [{"action": "delete"}]}]}
    assert compare(offer(**owing), offer(**owing)).holds
    assert compare(offer(**owing), offer(prohibition=[ban])).holds
    for other in (offer(prohibition=[ban]), offer(purpose("b"))):
        (found,) = compare(other, offer(**owing)).reasons
        assert found.path == "prohibition[0].remedy[0]"
        assert found.sentence == (
            "The reference obliges whoever infringes it to delete; the candidate does not."
        )


def test_terms_that_nobody_reads_have_to_be_the_same() -> None:
    for more in ({"ds:other": 1}, {"inheritFrom": "urn:p"}, {"conflict": "invalid"}):
        assert compare(offer(**more), offer(**more)).holds
        assert [one.path for one in compare(offer(**more), offer()).reasons] == ["policy"]
        assert [one.path for one in compare(offer(), offer(**more)).reasons] == ["policy"]
    unread = {"permission": [{**USE, "refinement": [purpose("a")]}]}
    assert not compare(offer(), offer(**unread)).holds
    # A permission with such a term never holds.
    assert compare(offer(**unread), offer()).holds
    assert compare(offer(), offer(**{"dct:created": "2026"})).holds


def test_a_rule_about_a_target_is_read_only_where_its_policy_has_that_target() -> None:
    rules = {"permission": [{**USE, "target": "urn:d"}]}
    here, catalogue = offer(target="urn:d", **rules), offer(**rules)
    assert compare(here, here).holds
    assert not compare(here, catalogue).holds
    banned = {"forbid": [[purpose("a")]]}
    elsewhere = {"prohibition": [{**USE, "constraint": [purpose("a")], "target": "urn:e"}]}
    assert not compare(offer(**elsewhere), offer(**banned)).holds


def test_a_profile_that_nobody_knows_has_to_be_named_by_both() -> None:
    foreign = offer(profile="urn:foreign")
    assert compare(foreign, foreign).holds
    assert compare(foreign, offer()).holds
    assert [one.path for one in compare(offer(), foreign).reasons] == ["profile"]


def test_a_difference_is_said_to_a_person_in_both_languages() -> None:
    demanding = offer(cohort("20"), purpose("a"), {"or": [purpose("a"), REQUIRED]})
    found = compare(offer(cohort("5")), demanding)
    assert found.reasons == (
        Difference(
            "permission[0].constraint[0]",
            "The reference demands that the minimum cohort is at least 20; the candidate demands "
            "at least 5.",
            "参照策略要求最小群体人数不小于 20，候选策略要求不小于 5。",
        ),
        Difference(
            "permission[0].constraint[1]",
            "The reference demands that the purpose is a; the candidate does not.",
            "参照策略要求用途为 a，候选策略未作此要求。",
        ),
        Difference(
            "permission[0].constraint[2]",
            "The reference demands that (the purpose is a or the people concerned consent); the "
            "candidate does not.",
            "参照策略要求(用途为 a 或 数据主体单独同意)，候选策略未作此要求。",
        ),
    )
    (banned,) = compare(offer(), offer(forbid=[[purpose("a")]])).reasons
    assert banned.path == "prohibition[0]"
    assert banned.sentence == (
        "The reference forbids to use the data if the purpose is a; the candidate does not."
    )
    assert banned.sentence_zh == (
        "参照策略禁止使用数据，条件是：用途为 a，候选策略没有该禁止条款。"
    )


def test_the_nearest_permission_of_the_reference_is_the_one_compared_with() -> None:
    rules = {
        "permission": [
            {**USE, "constraint": [purpose("b"), REQUIRED, APPROVAL]},
            {**USE, "constraint": [purpose("a"), cohort("20")]},
        ]
    }
    found = compare(offer(purpose("a")), offer(**rules)).reasons
    assert [one.path for one in found] == ["permission[1].constraint[1]"]


def test_a_policy_of_thousands_of_alternatives_is_compared_all_the_same() -> None:
    wanted = offer(purpose("x"), cohort("20"), forbid=[[atom("spatial", "isPartOf", "44")]])
    choices = [{"or": [purpose(f"a{i}"), cohort("10")]} for i in range(64)]
    many = offer(permission=[{**USE, "constraint": choices}] * 16)
    assert not compare(many, wanted).holds
    single = [{"or": [cohort(str(i))]} for i in range(64)]
    assert not compare(offer(*single), wanted).holds
    # What stands beside them is told in spite of them.
    beside = [purpose("x"), cohort("20"), atom("spatial", "eq", "31")]
    assert compare(offer(*choices[:60], *beside), wanted).holds
    nested: dict[str, Any] = purpose("q")
    for _ in range(10):
        nested = {"xone": [nested, nested]}
    assert not compare(offer(purpose("q")), offer(nested)).holds
