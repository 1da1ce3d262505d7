"""Policies: their JSON form, what is not a policy, and when two have the same terms."""

import json

import pytest
from pydantic import ValidationError

from contracts.odrl import (
    Agreement,
    AtomicConstraint,
    LogicalConstraint,
    Offer,
    Operator,
    Permission,
    agreement_from,
    same_terms,
    unknown_terms,
    unread_terms,
)


def offer(*constraints: object, **extra: object) -> Offer:
    rule = {"action": "use", "constraint": list(constraints)}
    return Offer.model_validate({"@id": "urn:o", "permission": [rule], **extra})


def atom(operand: str = "purpose", operator: str = "eq", value: object = "research") -> dict:
    return {"leftOperand": operand, "operator": operator, "rightOperand": value}


USE = {"action": "use"}
ODRL = "http://www.w3.org/ns/odrl/2/"
OURS = "https://w3id.org/city-dataspace/ns/v1#"


def test_a_policy_is_written_with_the_protocols_names_and_without_what_is_empty() -> None:
    policy = Offer(
        id="urn:o",
        permission=(
            Permission(
                action="use",
                constraint=(
                    AtomicConstraint(left_operand="count", operator="lteq", right_operand="10"),
                ),
            ),
        ),
    )
    assert policy.to_json() == {
        "@id": "urn:o",
        "@type": "Offer",
        "permission": [
            {
                "action": "use",
                "constraint": [{"leftOperand": "count", "operator": "lteq", "rightOperand": "10"}],
            }
        ],
    }


def test_an_offer_has_no_target_in_a_catalogue_and_one_in_a_message() -> None:
    in_message = offer().for_message("urn:dataset")
    assert in_message.to_json()["target"] == "urn:dataset"
    assert "target" not in in_message.for_catalog().to_json()


def test_unknown_properties_are_kept_as_they_came() -> None:
    policy = offer(**{"dct:created": "2026-01-01", "x:n": [1, None]})
    assert policy.to_json()["dct:created"] == "2026-01-01"
    assert policy.to_json()["x:n"] == [1, None]


@pytest.mark.parametrize(
    "body",
    [
        {"@id": "urn:o"},
        {"@id": "urn:o", "permission": []},
        {"@id": "", "permission": [{"action": "use"}]},
        {"@id": "urn:o", "permission": [{"action": ["use"]}]},
        {"@id": "urn:o", "permission": [{"action": "use", "constraint": [{}]}]},
        {"@id": "urn:o", "permission": [{"action": "use", "constraint": [{"and": []}]}]},
        {
            "@id": "urn:o",
            "permission": [{"action": "use", "constraint": [{"and": [atom()], "or": [atom()]}]}],
        },
        {
            "@id": "urn:o",
            "permission": [{"action": "use", "constraint": [{**atom(), "or": [atom()]}]}],
        },
        {
            "@id": "urn:o",
            "prohibition": [{"action": "use", "remedy": [{"action": "a", "consequence": [USE]}]}],
        },
        {
            "@id": "urn:o",
            "permission": [USE],
            "obligation": [{"action": "a", "consequence": [{"action": "b", "consequence": [USE]}]}],
        },
        {"@id": "urn:o", "prohibition": [{"action": "use", "remedy": {"action": "a"}}]},
        {"@id": "urn:o", "permission": [{"action": "use", "constraint": [atom(value=20)]}]},
        {
            "@id": "urn:o",
            "permission": [{"action": "use", "constraint": [atom(operator="about")]}],
        },
    ],
)
def test_what_the_schema_or_sense_forbids_is_not_a_policy(body: dict) -> None:
    with pytest.raises(ValidationError):
        Offer.model_validate(body)


@pytest.mark.parametrize("stamp", ["2026-11-25T00:00:00Z", "2026-11-25T24:00:00+08:00"])
def test_an_agreement_carries_an_xsd_timestamp(stamp: str) -> None:
    made = agreement_from(
        offer(), agreement_id="a", target="t", assigner="p", assignee="c", timestamp=stamp
    )
    assert made.to_json()["timestamp"] == stamp


@pytest.mark.parametrize("stamp", ["2026-11-25", "yesterday", "2026-13-01T00:00:00Z"])
def test_another_timestamp_is_refused(stamp: str) -> None:
    with pytest.raises(ValidationError):
        Agreement(
            id="a",
            target="t",
            assigner="p",
            assignee="c",
            timestamp=stamp,
            permission=(Permission(action="use"),),
        )


def test_an_agreement_has_the_terms_of_the_offer_it_was_made_from() -> None:
    source = offer(
        atom(),
        profile="urn:p",
        obligation=[{"action": "delete"}],
        prohibition=[{"action": "use", "constraint": [atom(value="marketing")]}],
    )
    made = agreement_from(
        source,
        agreement_id="a",
        target="t",
        assigner="p",
        assignee="c",
        timestamp="2026-11-25T00:00:00Z",
    )
    assert same_terms(source, made)
    assert same_terms(made, source)


SAME = {
    "ids": (offer(atom()), offer(atom(), **{"@id": "urn:other"})),
    "target": (offer(atom()), offer(atom(), target="urn:dataset")),
    "order of constraints": (offer(atom(), atom("count")), offer(atom("count"), atom())),
    "order of listed values": (
        offer(atom(operator="isAnyOf", value=["a", "b"])),
        offer(atom(operator="isAnyOf", value=["b", "a"])),
    ),
    "order inside and": (
        offer({"and": [atom(), atom("count")]}),
        offer({"and": [atom("count"), atom()]}),
    ),
    "rule types written out": (
        offer(atom()),
        Offer.model_validate(
            {
                "@id": "x",
                "permission": [{"@type": "Permission", "action": "use", "constraint": [atom()]}],
            }
        ),
    ),
    "profile as a list": (offer(profile="urn:p"), offer(profile=["urn:p"])),
    "a description": (offer(), offer(**{"dct:title": "hello"})),
    "prefix": (
        offer(atom()),
        Offer.model_validate(
            {
                "@id": "x",
                "permission": [
                    {"action": "odrl:use", "constraint": [atom("odrl:purpose", "odrl:eq")]}
                ],
            }
        ),
    ),
    "spelling of our terms": (offer(atom("ds:grade")), offer(atom(f"{OURS}grade"))),
    "spelling of a strategy": (offer(conflict="perm"), offer(conflict=f"{ODRL}perm")),
}
DIFFERENT = {
    "a value": (offer(atom(value="a")), offer(atom(value="b"))),
    "an operator": (offer(atom(operator="eq")), offer(atom(operator="neq"))),
    "a constraint more": (offer(atom()), offer(atom(), atom("count"))),
    "another joiner": (offer({"and": [atom()]}), offer({"or": [atom()]})),
    "order inside andSequence": (
        offer({"andSequence": [atom(), atom("count")]}),
        offer({"andSequence": [atom("count"), atom()]}),
    ),
    "one of two equal alternatives": (
        offer({"xone": [atom(), atom()]}),
        offer({"xone": [atom()]}),
    ),
    "an id that is a value": (offer(atom(value={"@id": "a"})), offer(atom(value={"@id": "b"}))),
    "a value and the same in a list": (offer(atom(value="a")), offer(atom(value=["a"]))),
    "profile": (offer(profile="urn:p"), offer(profile="urn:q")),
    "no profile": (offer(), offer(profile="urn:q")),
    "an obligation": (offer(), offer(obligation=[{"action": "delete"}])),
    "conflict strategy": (offer(), offer(conflict="perm")),
    "the same in its own vocabulary": (offer(), offer(**{"odrl:conflict": "perm"})),
    "a term of ours that is not known": (offer(), offer(**{"ds:limit": "1"})),
    "a parent": (offer(), offer(inheritFrom="urn:parent")),
    "a consequence": (
        offer(obligation=[{"action": "delete"}]),
        offer(obligation=[{"action": "delete", "consequence": [USE]}]),
    ),
    "a remedy": (
        offer(prohibition=[{"action": "sell"}]),
        offer(prohibition=[{"action": "sell", "remedy": [{"action": "delete"}]}]),
    ),
    "an action of another vocabulary": (
        offer(),
        Offer.model_validate({"@id": "x", "permission": [{"action": "http://x.example/use"}]}),
    ),
    "a property of a rule": (
        offer(),
        Offer.model_validate({"@id": "x", "permission": [{"action": "use", "assignee": "y"}]}),
    ),
    "permission and prohibition": (
        Offer.model_validate({"@id": "x", "permission": [{"action": "use"}]}),
        Offer.model_validate({"@id": "x", "prohibition": [{"action": "use"}]}),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_terms_are_the_same_whatever_the(name: str) -> None:
    one, other = SAME[name]
    assert same_terms(one, other)
    assert same_terms(other, one)


@pytest.mark.parametrize("name", DIFFERENT)
def test_terms_differ_by(name: str) -> None:
    one, other = DIFFERENT[name]
    assert not same_terms(one, other)
    assert not same_terms(other, one)


def test_a_logical_constraint_says_what_it_joins() -> None:
    joined = LogicalConstraint.model_validate({"andSequence": [atom(), {"or": [atom()]}]})
    assert joined.joined == ("andSequence", joined.and_sequence)
    assert json.loads(json.dumps(joined.to_json())) == {"andSequence": [atom(), {"or": [atom()]}]}


LONG = {
    "@id": "urn:o",
    "@type": "Offer",
    "conflict": "odrl:prohibit",
    "inheritFrom": ["urn:one", {"@id": "urn:two"}],
    "permission": [
        {
            "action": f"{ODRL}use",
            "constraint": [
                {"or": [atom("odrl:purpose", "odrl:isAnyOf", ["a"]), atom(f"{OURS}grade")]},
                atom(f"{ODRL}count", f"{ODRL}lteq", "3"),
            ],
            "duty": [
                {"action": "odrl:delete", "consequence": [{"action": "odrl:inform"}]},
            ],
        }
    ],
    "prohibition": [{"action": "odrl:sell", "remedy": [{"action": "odrl:delete"}]}],
}


def test_terms_are_read_by_their_short_names_and_written_as_they_came() -> None:
    policy = Offer.model_validate(LONG)
    permission, prohibition = policy.permission[0], policy.prohibition[0]
    either, count = permission.constraint
    assert (permission.action, prohibition.action) == ("use", "sell")
    assert [one.left_operand for one in either.or_] == ["purpose", "ds:grade"]
    assert either.or_[0].operator is Operator.IS_ANY_OF
    assert (count.left_operand, count.operator) == ("count", Operator.LTEQ)
    assert permission.duty[0].consequence[0].action == "inform"
    assert prohibition.remedy[0].action == "delete"
    assert policy.conflict_strategy == "prohibit"
    assert policy.parents == ("urn:one", "urn:two")
    assert policy.to_json() == LONG
    assert Offer.model_validate(policy.to_json()) == policy


def test_a_copy_with_another_term_is_written_with_that_term() -> None:
    rule = Offer.model_validate(LONG).permission[0].model_copy(update={"action": "display"})
    assert rule.to_json()["action"] == "display"


@pytest.mark.parametrize(
    "text", ["odrl:", "odrl:ds:grade", f"{ODRL}a/b", "odrl:use now", "x:use", f"{OURS}"]
)
def test_what_only_looks_like_a_term_stays_what_it_is(text: str) -> None:
    policy = Offer.model_validate({"@id": "urn:o", "permission": [{"action": text}]})
    assert policy.permission[0].action == text


UNREAD = [
    ({"refinement": []}, ["refinement"]),
    ({"target": "urn:other"}, ["target"]),
    ({"assignee": {"@id": "did:web:c"}}, ["assignee"]),
    ({"odrl:constraint": []}, ["odrl:constraint"]),
    ({f"{ODRL}function": "x"}, [f"{ODRL}function"]),
    ({"ds:limit": "1"}, ["ds:limit"]),
    ({f"{OURS}limit": "1"}, [f"{OURS}limit"]),
    ({"uid": "urn:r", "odrl:uid": "urn:r", "dct:title": "x", "note": "y", "@id": "r"}, []),
    ({"target": "urn:d", "assignee": "did:web:c", "odrl:assigner": "did:web:p"}, []),
]


@pytest.mark.parametrize(("more", "names"), UNREAD, ids=str)
def test_properties_that_bind_and_are_not_read_are_named(more: dict, names: list[str]) -> None:
    parties = {"target": "urn:d", "assigner": "did:web:p", "assignee": "did:web:c"}
    policy = Offer.model_validate({"@id": "urn:o", "permission": [{**USE, **more}], **parties})
    assert unread_terms(policy.permission[0], policy) == names


@pytest.mark.parametrize("name", ["unit", "status", "rightOperandReference", "odrl:unit"])
def test_a_constraint_may_not_say_more_than_its_comparison(name: str) -> None:
    policy = offer({**atom(), name: "x"}, {"or": [atom()], name: "x"})
    assert [unread_terms(one) for one in policy.permission[0].constraint] == [[name], [name]]
    typed = offer({**atom(), "dataType": "xsd:string"})
    assert unread_terms(typed.permission[0].constraint[0]) == []


def test_a_rule_in_another_spelling_of_its_name_is_not_read() -> None:
    assert unread_terms(offer(**{"odrl:prohibition": [USE]})) == ["odrl:prohibition"]
    assert unread_terms(offer(constraint=[], action="use")) == ["action", "constraint"]


def test_a_strategy_that_can_void_the_whole_brings_all_rules_into_comparison() -> None:
    one = offer(conflict="invalid", prohibition=[{"action": "sell"}])
    other = offer(conflict="invalid")
    assert unknown_terms(one) != unknown_terms(other)
    assert unknown_terms(offer(conflict="perm")) == unknown_terms(offer(conflict="odrl:perm"))
    assert unknown_terms(offer(inheritFrom="urn:x")) != unknown_terms(offer())
