"""What holds of the remarks on any policy."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.evaluation import Facts, Request, decide
from contracts.lint import Knowledge, Severity, lint
from contracts.odrl import AtomicConstraint, LogicalConstraint, Offer, Operator
from contracts.profile import OPERANDS

NOW = datetime(2026, 11, 25, 4, tzinfo=UTC)
KNOWLEDGE = Knowledge(computations=("psi/1", "HttpData-PULL"), now=NOW, unenforced={})


def offer(constraints: list[Any], forbid: list[Any] | None = None) -> Offer:
    return Offer.model_validate(
        {
            "@id": "urn:o",
            "permission": [{"action": "use", "constraint": constraints}],
            "prohibition": [{"action": "use", "constraint": forbid}] if forbid is not None else [],
        }
    )


VALUES = ["research", "a/b", "psi/1", "20", "0.5", "-1", "4403", "Shenzhen", "core", "", "required"]
VALUES += ["2026-11-25T04:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
atoms = st.builds(
    lambda left, operator, right: AtomicConstraint(
        left_operand=left, operator=operator, right_operand=right
    ),
    st.sampled_from([*OPERANDS, "partner"]),
    st.sampled_from(Operator),
    st.sampled_from(VALUES) | st.lists(st.sampled_from(VALUES), max_size=3).map(tuple),
)
joins = st.builds(
    lambda name, inner: LogicalConstraint(**{name: inner}),
    st.sampled_from(["and_", "or_", "xone", "and_sequence"]),
    st.lists(atoms, min_size=1, max_size=3).map(tuple),
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(atoms | joins, max_size=4),
    st.lists(atoms | joins, max_size=3),
    st.sampled_from(["general", "core", None]),
)
def test_any_policy_gets_the_same_remarks_twice_and_can_be_read(
    permitted: list[Any], forbidden: list[Any], grade: str | None
) -> None:
    policy = offer([one.to_json() for one in permitted], [one.to_json() for one in forbidden])
    knowledge = replace(KNOWLEDGE, grade=grade)
    found = lint(policy, knowledge)
    assert found == lint(policy, knowledge)
    assert len(set(found)) == len(found)
    for remark in found:
        assert remark.sentence.endswith(".")
        assert remark.sentence_zh.endswith("。")


REQUEST = Request("use", "did:web:c", "research", "psi/1", 20, spatial="4403")
FACTS = Facts(NOW, 0, "required", "core", True, recipient_zones=("a/b",), approved=True)
USES = [
    (REQUEST, FACTS),
    (replace(REQUEST, purpose="a/b", min_cohort=0), replace(FACTS, use_count=19)),
    (replace(REQUEST, min_cohort=None, spatial="44"), replace(FACTS, grade="general")),
    (replace(REQUEST, purpose=None, computation="HttpData-PULL"), replace(FACTS, consent=None)),
    (replace(REQUEST, epsilon=Decimal("0.5")), replace(FACTS, recipient_zones=None)),
]


@settings(max_examples=100, deadline=None)
@given(st.lists(atoms | joins, min_size=1, max_size=4), st.booleans())
def test_what_is_called_redundant_can_be_dropped(constraints: list[Any], forbids: bool) -> None:
    def policy(written: list[Any]) -> Offer:
        return offer([], written) if forbids else offer(written)

    all_of_it = [one.to_json() for one in constraints]
    found = lint(policy(all_of_it), KNOWLEDGE)
    paths = {one.path for one in found if one.code == "redundant"}
    rule = "prohibition" if forbids else "permission"
    kept = [one for i, one in enumerate(all_of_it) if f"{rule}[0].constraint[{i}]" not in paths]
    for use in USES:
        before, after = decide(policy(all_of_it), *use), decide(policy(kept), *use)
        assert before.allowed is after.allowed


@settings(max_examples=150, deadline=None)
@given(st.lists(atoms | joins, max_size=4))
def test_a_permission_with_an_error_allows_no_use(permitted: list[Any]) -> None:
    policy = offer([one.to_json() for one in permitted])
    found = lint(policy, KNOWLEDGE)
    # Of three alternatives two may be equal and the third hold.
    if any(one.severity is Severity.ERROR and one.code != "xone-of-equals" for one in found):
        assert not any(decide(policy, *use).allowed for use in USES)
