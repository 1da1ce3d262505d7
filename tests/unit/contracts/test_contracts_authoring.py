"""Policies read from YAML and JSON mean what was written, or are refused at the line."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.authoring import LIMIT_BYTES, parse_policy, policy_from, read_policy, write_policy
from contracts.errors import InputRejected
from contracts.odrl import Agreement, Offer, agreement_from, same_terms
from contracts.profile import PROFILE
from contracts.templates import build

COMBINED = """\
use: [compute-only, approval]
with:
  computations: [private-sum/1]
  purposes: [public-health-research]
  min_cohort: 50
  not_after: 2027-06-30T16:00:00Z
also:
  prohibition:
    - action: use
      constraint:
        - {leftOperand: ds:recipientRole, operator: eq, rightOperand: enterprise}
"""
ODRL = """\
profile: https://w3id.org/city-dataspace/ns/v1
permission:
  - action: use
    constraint:
      - leftOperand: purpose
        operator: isAnyOf
        rightOperand: [research, 统计]
      - {leftOperand: ds:minCohort, operator: gteq, rightOperand: 20}
      - {leftOperand: spatial, operator: isAnyOf, rightOperand: [4403, "4401"]}
"""
BASE = build(["approval"], {}, offer_id="urn:o")


def read(text: str) -> Offer:
    return read_policy(text, offer_id="urn:o")


def atom(left: str, operator: str, right: Any) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


def test_ready_policies_are_combined_with_what_is_added() -> None:
    offer = read(COMBINED)
    assert offer.id == "urn:o"
    assert offer.profile == PROFILE
    assert [one.to_json() for one in offer.permission[0].constraint] == [
        atom("ds:computation", "isAnyOf", ["private-sum/1"]),
        atom("purpose", "isAnyOf", ["public-health-research"]),
        atom("ds:minCohort", "gteq", "50"),
        atom("dateTime", "lteq", "2027-06-30T16:00:00Z"),
        atom("ds:approval", "eq", "required"),
    ]
    assert [one.to_json() for one in offer.prohibition] == [
        {"action": "use", "constraint": [atom("ds:recipientRole", "eq", "enterprise")]}
    ]


def test_rules_are_added_to_those_of_the_ready_policies() -> None:
    written = {
        "use": ["approval"],
        "with": None,
        "also": {
            "permission": [{"action": "sell"}],
            "obligation": [{"action": "inform"}],
        },
    }
    offer = policy_from(written, offer_id="urn:o")
    assert [one.action for one in offer.permission] == ["use", "sell"]
    assert [one.action for one in offer.obligation] == ["inform"]
    assert offer.prohibition == ()


def test_odrl_is_read_and_a_number_is_its_text() -> None:
    constraints = read(ODRL).permission[0].constraint
    assert [one.to_json() for one in constraints] == [
        atom("purpose", "isAnyOf", ["research", "统计"]),
        atom("ds:minCohort", "gteq", "20"),
        atom("spatial", "isAnyOf", ["4403", "4401"]),
    ]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("0.5", "0.5"),
        ("-3", "-3"),
        ("2027-01-01", "2027-01-01"),
        ("2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("yes", "yes"),
        ("off", "off"),
        ("0x14", "0x14"),
        ("0o17", "0o17"),
        ("007", "007"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        (".5", ".5"),
        (".inf", ".inf"),
        ("=", "="),
        ("ds:research", "ds:research"),
        ("'20'", "20"),
    ],
)
def test_a_plain_value_is_the_text_that_was_written(written: str, value: str) -> None:
    rule = f"{{leftOperand: purpose, operator: eq, rightOperand: {written}}}"
    offer = read(f"permission: [{{action: use, constraint: [{rule}]}}]")
    assert offer.permission[0].constraint[0].right_operand == value


def test_yaml_and_json_of_the_same_policy_are_the_same_policy() -> None:
    body = parse_policy(ODRL)
    for text in (json.dumps(body), json.dumps(body, indent="\t", ensure_ascii=False)):
        assert read(text) == read(ODRL)
    assert parse_policy('{"a": "\\ud83c\\udf06 \\/", "b": [true, null, 1.5, 1e2]}') == {
        "a": "🌆 /",
        "b": [True, None, 1.5, 100.0],
    }
    assert parse_policy("{a: [true, null, ~, 1.5, 1e2, -0]}") == {
        "a": [True, None, None, 1.5, 100.0, 0]
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("use: [approval]\nwith: *x\n", "policy, line 2: expected no anchors"),
        ("use: &x [approval]\n", "policy, line 1: expected no anchors"),
        ("use:\n  - !!python/name:os.system x\n", "policy, line 2: expected no anchors"),
        ("use: [approval]\nwith: !!int 'abc'\n", "policy, line 2: expected no anchors"),
        ("use: [approval]\nuse: [open-data]\n", "policy, line 2: expected every name once"),
        ('{"use": ["approval"],\n "use": []}', "policy, line 2: expected every name once"),
        ("also:\n  permission:\n    - action: use\n      action: sell\n", "line 4: expected every"),
        ("a: 1\n2: b\n", "policy, line 2: expected every name once, as text"),
        ("a: 1\n? [x]\n: b\n", "policy, line 2: expected every name once, as text"),
        ("true: b\n", "policy, line 1: expected every name once, as text"),
        ("use: [approval\nwith: {}\n", "policy, line 2: expected YAML or JSON"),
        ("a: b: c\n", "policy, line 1: expected YAML or JSON"),
        ("a: 1\n---\nb: 2\n", "policy, line 2: expected YAML or JSON"),
        ("a: \x00\n", "policy: expected YAML or JSON"),
        ("a: \ud800\n", "policy: expected YAML or JSON"),
        ('{"a": "\ud800"}', "policy: expected YAML or JSON"),
        ("", "policy: expected a mapping"),
        ("- use\n", "policy: expected a mapping"),
        ("use", "policy: expected a mapping"),
        ("[" * 100_000, "policy, line 1: expected at most 48 levels"),
        ("- " * 49, "policy, line 1: expected at most 48 levels"),
        ('{"a": ' * 49 + "1" + "}" * 49, "policy, line 1: expected at most 48 levels"),
        ("a: " + "b" * LIMIT_BYTES, "policy: expected at most 262144 bytes"),
        ("统" * (LIMIT_BYTES // 2), "policy: expected at most 262144 bytes"),
    ],
)
def test_what_is_no_policy_is_refused_at_its_line(text: str, sentence: str) -> None:
    with pytest.raises(InputRejected) as caught:
        parse_policy(text)
    assert str(caught.value).startswith(("policy:", "policy, line"))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ({"use": "approval"}, "use: expected a list of names"),
        ({"use": [1]}, "use: expected a list of names"),
        ({"with": {}}, "use: expected a list of names"),
        ({"use": []}, "use: expected at least one of"),
        ({"use": ["none-such"]}, "use: expected names out of"),
        ({"use": ["approval"], "with": [1]}, "with: expected a mapping"),
        ({"use": ["approval"], "with": {"zones": ["a"]}}, "zones: the templates approval have no"),
        ({"use": ["zone-members"]}, "zones: expected a list of texts, got none"),
        ({"use": ["approval"], "also": {"duty": []}}, "also: expected lists under permission"),
        (
            {"use": ["approval"], "also": {"permission": {}}},
            "also: expected lists under permission",
        ),
        ({"use": ["approval"], "also": [1]}, "also: expected lists under permission"),
        ({"use": ["approval"], "permission": []}, "permission: expected use, with and also"),
        ({"use": ["approval"], "also": {"permission": [{}]}}, "permission[1].action is required"),
        ({"use": ["approval"], "also": {"permission": [7]}}, "permission[1]"),
        ({}, "policy: Offer"),
        ({"permission": [{"action": "use", "constraint": [{}]}]}, "permission[0].constraint[0]"),
        ({"permission": [{"action": 5}]}, "permission[0].action: expected a string"),
        ({"permission": [{"action": "use"}], "x": float("nan")}, "policy: expected values that"),
        ({"permission": [{"action": "use"}], "x": "\ud800"}, "expected Unicode text"),
        ({"permission": [{"action": "use"}], "x": object()}, "policy: expected values that"),
    ],
)
def test_a_policy_that_cannot_be_understood_names_the_field(
    written: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputRejected) as caught:
        policy_from(written, offer_id="urn:o")
    assert sentence in str(caught.value)


def test_a_policy_nested_too_deep_is_refused_however_it_came() -> None:
    deep: dict[str, Any] = atom("purpose", "eq", "a")
    for _ in range(2000):
        deep = {"and": [deep]}
    with pytest.raises(InputRejected, match="policy: expected"):
        policy_from({"permission": [{"action": "use", "constraint": [deep]}]}, offer_id="urn:o")


def test_what_is_written_reads_back_the_same() -> None:
    offer = read(COMBINED).model_copy(update={"assignee": "did:web:c", "target": "urn:d"})
    text = write_policy(offer)
    assert read(text) == offer
    assert text.startswith("profile: https://w3id.org/city-dataspace/ns/v1\npermission:\n")
    assert "rightOperand: '50'" in text


def test_an_agreement_is_written_with_its_parties() -> None:
    parties = {
        "target": "urn:d",
        "assigner": "did:web:p",
        "assignee": "did:web:c",
        "timestamp": "2026-11-25T00:00:00Z",
    }
    agreement = agreement_from(BASE, agreement_id="urn:a", **parties)
    again = read(write_policy(agreement)).to_json()
    assert same_terms(Offer.model_validate(again), agreement)
    assert {name: again[name] for name in parties} == parties
    assert Agreement.model_validate({**again, "@id": "urn:a", "@type": "Agreement"}) == agreement


@pytest.mark.parametrize(
    "extra",
    [
        {"use": "x"},
        {"permission": [{"action": "use", "constraint": [atom("partner", "eq", [1])]}]},
        {"x": "a" * LIMIT_BYTES},
    ],
)
def test_a_policy_that_yaml_cannot_say_is_not_written_as_another(extra: dict[str, Any]) -> None:
    offer = Offer.model_validate({**BASE.to_json(), **extra})
    with pytest.raises(InputRejected):
        write_policy(offer)


texts = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.sampled_from(
        ["yes", "1e3", "0x1f", "~", "null", "1.0", "-0", "2027-01-01", "<<", "=", "01"]
    ),
    st.from_regex(r"\A[-+0-9.eE_:~tfn ]{1,6}\Z"),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts)
values = st.recursive(
    scalars.filter(lambda one: one not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=80, deadline=None)
@given(texts, st.lists(texts, max_size=3), values)
def test_any_text_and_any_property_survive_being_written(
    one: str, several: list[str], extra: Any
) -> None:
    rule = {
        "action": "use",
        "constraint": [atom("purpose", "eq", one), atom("purpose", "isAnyOf", several)],
        "ex:note": extra,
    }
    offer = Offer.model_validate({"@id": "urn:o", "permission": [rule]})
    again = read(write_policy(offer))
    assert same_terms(again, offer)
    assert again.permission[0].constraint == offer.permission[0].constraint


@settings(max_examples=120, deadline=None)
@given(
    st.one_of(
        st.text(alphabet="{}[]:,-?&*!|>'\"%@`#\n\t ab01~.", max_size=40),
        st.text(max_size=20),
        st.builds(
            lambda place, text: COMBINED[:place] + text + COMBINED[place:],
            st.integers(0, len(COMBINED)),
            st.text(alphabet="{}[]:,-?&*!|>'\"%@\n\t x0", max_size=3),
        ),
    )
)
def test_any_text_is_a_policy_or_is_refused(text: str) -> None:
    try:
        offer = read(text)
    except InputRejected:
        return
    assert same_terms(read(write_policy(offer)), offer)
