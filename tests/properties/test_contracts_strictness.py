"""A policy that is called at least as strict as another never allows more than it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations, product
from operator import le
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.evaluation import Facts, Request, decide
from contracts.odrl import (
    AtomicConstraint,
    Constraint,
    Duty,
    LogicalConstraint,
    Offer,
    Operator,
    Permission,
    Prohibition,
    Rule,
)
from contracts.profile import OPERANDS, Operand
from contracts.strictness import compare

NOW = datetime(2026, 11, 25, 4, tzinfo=UTC)
HOUR = timedelta(hours=1)

# Of each operand few values for clauses, and facts on, between and beyond them.
VALUES: dict[str, list[str]] = {
    Operand.PURPOSE: ["study", "study/health", "study/health/flu", "sale"],
    Operand.COMPUTATION: ["psi", "psi/1", "HttpData-PULL"],
    Operand.MIN_COHORT: ["19", "19.5", "20", "50"],
    Operand.COUNT: ["0", "1", "2", "10"],
    Operand.DATE_TIME: ["2026-11-25T04:00:00Z", "2026-11-25T12:00:00+08:00", "2026-11-25T05:00Z"],
    Operand.SPATIAL: ["44", "440000", "4403", "440305", "31", "somewhere"],
    Operand.GRADE: ["general", "important", "core", "secret"],
    Operand.EPSILON_BUDGET: ["0", "0.5", "1"],
    Operand.RECIPIENT_ROLE: ["enterprise", "government"],
    Operand.RECIPIENT_ZONE: ["port", "park", "fair"],
    Operand.CONSENT: ["required", "given"],
    Operand.APPROVAL: ["required"],
    Operand.APPROVERS: ["1", "1.5", "2", "3"],
    Operand.CONTENT_VERSION: ["sha256:1", "sha256:2"],
    Operand.RELEASE: ["name:drop", "grid:prefix(6)", "rows:sample(0.1)"],
    "partner": ["a", "b"],
}
FACTS: dict[str, list[Any]] = {
    Operand.PURPOSE: [None, "study", "study/health", "study/health/flu", "sale", "other"],
    Operand.COMPUTATION: [None, "psi", "psi/1", "psi/2", "HttpData-PULL"],
    Operand.MIN_COHORT: [None, 0, 18, 19, 20, 21, 50, 51],
    Operand.COUNT: [0, 1, 2, 9, 10],
    Operand.DATE_TIME: [NOW - HOUR, NOW, NOW + HOUR / 2, NOW + HOUR, NOW + 2 * HOUR],
    Operand.SPATIAL: [None, "44", "4400", "4403", "440300", "440305", "31", "somewhere", "x"],
    Operand.GRADE: [None, "general", "important", "core", "secret"],
    Operand.EPSILON_BUDGET: [None, Decimal("0.1"), Decimal("0.5"), Decimal("1"), Decimal("2")],
    Operand.RECIPIENT_ROLE: [None, "enterprise", "government", "personal"],
    Operand.RECIPIENT_ZONE: [None, (), ("port",), ("park", "port"), ("fair",), ("fair", "park")],
    Operand.CONSENT: [None, True, False],
    Operand.APPROVAL: [None, True, False],
    Operand.APPROVERS: [None, 0, 1, 2, 3],
    Operand.CONTENT_VERSION: [None, "sha256:1", "sha256:2", "sha256:3"],
    Operand.RELEASE: [None, (), ("name:drop",), ("grid:prefix(6)", "name:drop"), ("x:drop",)],
    "partner": [None],
}
# Where a fact goes: into the request or into what the provider knows.
ASKED = {
    Operand.PURPOSE: "purpose",
    Operand.COMPUTATION: "computation",
    Operand.MIN_COHORT: "min_cohort",
    Operand.SPATIAL: "spatial",
    Operand.EPSILON_BUDGET: "epsilon",
}
KNOWN = {
    Operand.COUNT: "use_count",
    Operand.DATE_TIME: "now",
    Operand.GRADE: "grade",
    Operand.RECIPIENT_ROLE: "recipient_role",
    Operand.RECIPIENT_ZONE: "recipient_zones",
    Operand.CONSENT: "consent",
    Operand.APPROVAL: "approved",
    Operand.APPROVERS: "approvers",
    Operand.RELEASE: "release",
    Operand.CONTENT_VERSION: "content_version",
}
REQUEST = Request("use", "did:web:c", None, None, None)
UNKNOWN = Facts(NOW, 0, None, None, None)


def worlds(operands: tuple[str, ...]) -> Iterator[tuple[Request, Facts]]:
    """Every use that differs in these operands and in the action."""
    for action, *values in product(("use", "sell"), *(FACTS[operand] for operand in operands)):
        facts = dict(zip(operands, values, strict=True))
        asked = {ASKED[name]: value for name, value in facts.items() if name in ASKED}
        known = {KNOWN[name]: value for name, value in facts.items() if name in KNOWN}
        yield replace(REQUEST, action=action, **asked), replace(UNKNOWN, **known)


def atoms(operands: tuple[str, ...]) -> st.SearchStrategy[Constraint]:
    def of_one(operand: str) -> st.SearchStrategy[Constraint]:
        one = st.sampled_from(VALUES[operand])
        several = st.lists(one, min_size=1, max_size=3).map(tuple)
        # Most have an operator and values that make sense together.
        usual = st.sampled_from(SINGLE), one
        listed = st.sampled_from(LISTED), one | several
        odd = st.sampled_from(Operator), several | one.map(lambda text: {"@value": text})
        return st.sampled_from([usual, usual, listed, listed, odd]).flatmap(
            lambda pair: st.tuples(*pair, SELDOM_MORE).map(
                lambda parts: AtomicConstraint(
                    left_operand=operand, operator=parts[0], right_operand=parts[1], **parts[2]
                )
            )
        )

    return st.sampled_from(operands).flatmap(of_one)


LISTED = [Operator.IS_ANY_OF, Operator.IS_NONE_OF, Operator.IS_ALL_OF]
SINGLE = [one for one in Operator if one not in LISTED and one is not Operator.TERM_LTEQ]


def seldom(*extras: dict[str, str]) -> st.SearchStrategy[dict[str, str]]:
    return st.integers(0, 24).map(lambda number: dict(enumerate(extras)).get(number, {}))


# Terms that no decision reads, one that repeats the policy's, and one that says nothing.
SELDOM_MORE = seldom({"unit": "person"}, {"note": "x"}, {"@type": "Constraint"})
SELDOM_AIMED = seldom({"target": "urn:d"}, {"target": "urn:e"}, {"refinement": "x"})
ACTIONS = st.sampled_from(["use", "use", "use", "sell"])
JOINS = st.sampled_from(["and_", "or_", "or_", "xone", "and_sequence"])


@st.composite
def pools(draw: st.DrawFn) -> tuple[tuple[str, ...], list[Constraint]]:
    """One or two operands, and a few constraints on them for several policies to share."""
    operands = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=2, unique=True))
    pool = draw(st.lists(atoms(tuple(operands)), min_size=3, max_size=5))
    for _ in range(draw(st.integers(0, 3))):
        parts = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3))
        pool.append(LogicalConstraint(**{draw(JOINS): tuple(parts)}))
    return tuple(operands), pool


@st.composite
def offers(draw: st.DrawFn, pool: list[Constraint]) -> Offer:
    def rules(kind: type[Rule], most: int) -> tuple[Rule, ...]:
        return tuple(
            kind(
                action=draw(ACTIONS),
                constraint=tuple(draw(st.lists(st.sampled_from(pool), max_size=3))),
                **draw(SELDOM_AIMED),
            )
            for _ in range(draw(st.integers(0, most)))
        )

    return Offer(
        id="urn:o",
        permission=rules(Permission, 2) or (Permission(action="use"),),
        prohibition=rules(Prohibition, 2),
        assignee=draw(st.sampled_from([None] * 6 + ["did:web:c", "did:web:d"])),
        target=draw(st.sampled_from([None, "urn:d"])),
    )


@st.composite
def policies(draw: st.DrawFn, number: int = 1) -> tuple[tuple[str, ...], list[Offer]]:
    """Some operands and `number` policies made of the same few constraints on them."""
    operands, pool = draw(pools())
    return operands, [draw(offers(pool)) for _ in range(number)]


@settings(max_examples=50, deadline=None)
@given(policies(5))
def test_what_a_policy_at_least_as_strict_allows_the_other_allows_too(
    drawn: tuple[tuple[str, ...], list[Offer]],
) -> None:
    operands, several = drawn
    uses = list(worlds(operands))
    allowed = [[decide(offer, *use).allowed for use in uses] for offer in several]
    for one, other in permutations(range(len(several)), 2):
        if compare(several[one], several[other]).holds:
            assert all(map(le, allowed[one], allowed[other]))


@settings(max_examples=20, deadline=None)
@given(policies(1))
def test_a_policy_is_as_strict_as_itself_in_any_order(
    drawn: tuple[tuple[str, ...], list[Offer]],
) -> None:
    _, (offer,) = drawn
    turned = offer.model_copy(
        update={
            "id": "urn:other",
            "permission": offer.permission[::-1],
            "prohibition": offer.prohibition[::-1],
        }
    )
    assert compare(offer, offer).reasons == ()
    assert compare(turned, offer).reasons == ()


@settings(max_examples=30, deadline=None)
@given(policies(2), st.data())
def test_one_clause_or_duty_more_or_one_permission_less_is_at_least_as_strict(
    drawn: tuple[tuple[str, ...], list[Offer]], chosen: st.DataObject
) -> None:
    operands, (offer, other) = drawn
    rules = (*offer.permission, *other.permission)
    offer = offer.model_copy(update={"permission": rules})
    place = chosen.draw(st.integers(0, len(rules) - 1))
    less, rule = (*rules[:place], *rules[place + 1 :]), rules[place]
    added = chosen.draw(atoms(operands))
    tighter = rule.model_copy(update={"constraint": (added, *rule.constraint)})
    burdened = rule.model_copy(update={"duty": (Duty(action="compensate"), *rule.duty)})
    for changes in (
        {"permission": (*less, tighter)},
        {"permission": (*less, burdened)},
        {"permission": less},
        {"prohibition": (*other.prohibition, *offer.prohibition)},
        {"obligation": (Duty(action="compensate"),)},
    ):
        stricter = offer.model_copy(update=changes)
        assert compare(stricter, offer).reasons == ()


@settings(max_examples=20, deadline=None)
@given(policies(2))
def test_every_difference_names_a_place_and_can_be_read_in_both_languages(
    drawn: tuple[tuple[str, ...], list[Offer]],
) -> None:
    _, (first, second) = drawn
    reasons = compare(first, second).reasons
    assert len(set(reasons)) == len(reasons)
    for reason in reasons:
        assert reason.path.startswith(("permission[", "prohibition[", "assignee"))
        assert reason.sentence.endswith(".")
        assert reason.sentence_zh.endswith("。")


def test_every_operand_is_tried_here() -> None:
    assert set(VALUES) == set(FACTS) == {*OPERANDS, "partner"}
    assert {*ASKED, *KNOWN} == set(OPERANDS)
