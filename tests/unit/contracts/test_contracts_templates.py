"""Ready policies do what their descriptions say, and can be said in words."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from typing import Any

import pytest

from contracts.errors import InputRejected
from contracts.evaluation import Facts, Request, decide
from contracts.messages import Dataset, Distribution
from contracts.odrl import Offer
from contracts.plain_words import describe
from contracts.profile import DS, GRADE_ORDER, OPERANDS, Grade, Operand, context_document
from contracts.strictness import compare
from contracts.templates import PARAMETERS, TEMPLATES, build

VERSION = f"sha256:{'a' * 64}"
END = datetime(2027, 1, 1, tzinfo=UTC)
REQUEST = Request(
    "use",
    "did:web:c",
    "research",
    "private-sum/1",
    20,
    spatial="440305",
    epsilon=Decimal("0.5"),
)
FACTS = Facts(
    END - timedelta(days=1),
    0,
    "enterprise",
    "general",
    True,
    recipient_zones=("qianhai", "port"),
    approved=True,
    approvers=2,
    release=("phone:mask(3,4)", "name:drop"),
    content_version=VERSION,
)
TERMS = {"computations": ["private-sum/1"], "purposes": ["research"], "not_after": END}
COMPUTING = {**TERMS, "min_cohort": 20}
ONE_TREATMENT = {"release": ["name:drop", "phone:mask(3,4)"]}
ONE_RECIPIENT = {"purposes": ["research"], "recipient": "did:web:c", "not_after": END}


def made(*names: str, **parameters: Any) -> Offer:
    return build(names, parameters, offer_id="urn:1")


EVERYTHING: dict[str, Any] = {
    **COMPUTING,
    **ONE_RECIPIENT,
    "max_uses": 2,
    "recipient_roles": ["enterprise"],
    "zones": ["port"],
    "division": "4403",
    "epsilon_budget": "1",
    "release": ["name:drop", "phone:mask(3,4)"],
    "content_versions": [VERSION],
}
OFFERS: dict[str, Offer] = {
    "compute-only": made("compute-only", **COMPUTING, max_uses=2, recipient_roles=["enterprise"]),
    "single-recipient": made("single-recipient", **ONE_RECIPIENT),
    "statistics": made("statistics", **TERMS),
    "private-statistics": made("private-statistics", **TERMS, epsilon_budget="1"),
    "personal-with-consent": made("personal-with-consent", **COMPUTING),
    "open-data": made("open-data", not_after=END.isoformat()),
    "within-division": made("within-division", division="4403"),
    "zone-members": made("zone-members", zones=["port", "airport"]),
    "approval": made("approval"),
    "two-approvals": made("two-approvals"),
    "named-versions": made("named-versions", content_versions=[VERSION]),
    "released-rows": made("released-rows", **ONE_TREATMENT, purposes=["research"], not_after=END),
}
BREAKS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("compute-only", {"purpose": "marketing"}, {}),
    ("compute-only", {"computation": "private-set/1"}, {}),
    ("compute-only", {"min_cohort": 19}, {}),
    ("compute-only", {}, {"now": END + timedelta(seconds=1)}),
    ("compute-only", {}, {"use_count": 2}),
    ("compute-only", {}, {"recipient_role": "personal"}),
    ("statistics", {"min_cohort": 19}, {}),
    ("single-recipient", {"assignee": "did:web:other"}, {}),
    ("single-recipient", {"purpose": "marketing"}, {}),
    ("private-statistics", {"min_cohort": 19}, {}),
    ("private-statistics", {"epsilon": None}, {}),
    ("private-statistics", {}, {"epsilon_spent": Decimal("0.6")}),
    ("within-division", {"spatial": "440104"}, {}),
    ("within-division", {"spatial": None}, {}),
    ("zone-members", {}, {"recipient_zones": ("qianhai",)}),
    ("zone-members", {}, {"recipient_zones": None}),
    ("released-rows", {}, {"release": ("name:drop",)}),
    ("released-rows", {}, {"release": ()}),
    ("released-rows", {}, {"release": None}),
    ("named-versions", {}, {"content_version": f"sha256:{'b' * 64}"}),
    ("named-versions", {}, {"content_version": None}),
    ("released-rows", {"purpose": "marketing"}, {}),
    ("approval", {}, {"approved": None}),
    ("approval", {}, {"approved": False}),
    ("two-approvals", {}, {"approvers": None}),
    ("two-approvals", {}, {"approvers": 1}),
    ("personal-with-consent", {}, {"consent": False}),
    ("personal-with-consent", {}, {"consent": None}),
    ("open-data", {}, {"grade": "important"}),
    ("open-data", {}, {"grade": None}),
    ("open-data", {}, {"now": END + timedelta(seconds=1)}),
]


def test_every_template_is_registered_and_tried_here() -> None:
    assert set(TEMPLATES) == set(OFFERS) == {name for name, _, _ in BREAKS}
    for template in TEMPLATES.values():
        for text in (template.title_en, template.title_zh):
            assert text
        assert template.description_en.endswith(".")
        assert template.description_zh.endswith("。")


@pytest.mark.parametrize("name", OFFERS)
def test_a_template_allows_what_it_is_for(name: str) -> None:
    assert decide(OFFERS[name], REQUEST, FACTS).allowed


@pytest.mark.parametrize(("name", "request_changes", "fact_changes"), BREAKS)
def test_a_template_refuses_what_it_is_against(
    name: str, request_changes: dict[str, Any], fact_changes: dict[str, Any]
) -> None:
    decision = decide(
        OFFERS[name], replace(REQUEST, **request_changes), replace(FACTS, **fact_changes)
    )
    assert not decision.allowed
    assert decision.refusal.path.startswith(("permission[0].constraint", "assignee"))


@pytest.mark.parametrize("name", OFFERS)
def test_a_template_stands_in_a_catalogue_as_the_schema_wants(
    name: str, schema_faults: Callable[[str, object], list[str]]
) -> None:
    dataset = Dataset(
        id="urn:d",
        has_policy=(OFFERS[name],),
        distribution=(Distribution(format="private-sum/1", access_service="urn:s"),),
    )
    assert schema_faults("Dataset", dataset.to_json()) == []


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("compute-only", {"computations": []}, "computations: expected a list of texts"),
        ("compute-only", {"computations": "private-sum/1"}, "computations: expected a list"),
        ("compute-only", {"computations": ["a"] * 257}, "computations: expected a list of texts"),
        ("compute-only", {"purposes": ["a" * 2049]}, "purposes: expected a list of texts"),
        ("compute-only", {"purposes": [None]}, "purposes: expected a list of texts"),
        ("compute-only", {"min_cohort": 10**30}, "min_cohort: expected a whole number"),
        ("compute-only", {"min_cohort": 0}, "min_cohort: expected a whole number"),
        ("compute-only", {"min_cohort": True}, "min_cohort: expected a whole number"),
        ("compute-only", {"min_cohort": None}, "min_cohort: expected a whole number, got none"),
        ("compute-only", {"max_uses": 0}, "max_uses"),
        ("compute-only", {"not_after": END.replace(tzinfo=None)}, "not_after: expected a date"),
        ("compute-only", {"not_after": "soon"}, "not_after: expected a date"),
        ("compute-only", {"not_after": "9999-12-31T23:59:59-12:00"}, "not_after: expected a date"),
        ("compute-only", {"recipient_roles": [""]}, "recipient_roles"),
        ("compute-only", {"zones": ["port"]}, "no such parameter"),
        ("statistics", {"min_cohort": 19}, "at least 20"),
        ("private-statistics", {"epsilon_budget": "0"}, "epsilon_budget: expected a decimal"),
        ("private-statistics", {"epsilon_budget": "1e400"}, "epsilon_budget: expected a decimal"),
        ("private-statistics", {"epsilon_budget": "1e-31"}, "epsilon_budget: expected a decimal"),
        ("private-statistics", {"epsilon_budget": "NaN"}, "epsilon_budget: expected a decimal"),
        ("private-statistics", {"epsilon_budget": True}, "epsilon_budget: expected a decimal"),
        ("within-division", {"division": "Shenzhen"}, "GB/T 2260"),
        ("within-division", {"division": 44030}, "GB/T 2260"),
        ("single-recipient", {"recipient": "the hospital"}, "recipient: expected a DID"),
        ("nothing", {}, "use: expected names"),
    ],
)
def test_a_template_names_the_field_that_is_wrong(
    name: str, changes: dict[str, Any], sentence: str
) -> None:
    bases = {"within-division": {}, "nothing": {}, "single-recipient": ONE_RECIPIENT}
    base = bases.get(name, COMPUTING)
    with pytest.raises(InputRejected, match=sentence):
        made(name, **(base | changes))


def test_templates_combine_and_each_clause_stands_once() -> None:
    both = made(
        "compute-only",
        "personal-with-consent",
        "approval",
        "zone-members",
        **COMPUTING,
        zones=["port"],
    )
    operands = [one.left_operand for one in both.permission[0].constraint]
    assert operands == [
        "ds:computation",
        "purpose",
        "ds:minCohort",
        "dateTime",
        "ds:recipientZone",
        "ds:consent",
        "ds:approval",
    ]
    assert [duty.action for duty in both.permission[0].duty] == ["delete"]


def test_a_number_stands_for_a_name_or_code_of_digits_and_equal_values_stand_once() -> None:
    division = made("within-division", division=4403).permission[0].constraint[0]
    zones = made("zone-members", zones=[7, "7", "port"]).permission[0].constraint[0]
    assert (division.right_operand, zones.right_operand) == ("4403", ("7", "port"))


@pytest.mark.parametrize("budget", ["0.50", 0.5, Decimal("0.5"), "5e-1"])
def test_a_decimal_is_written_out_however_it_is_given(budget: object) -> None:
    offer = made("private-statistics", **TERMS, epsilon_budget=budget)
    clause = next(
        one for one in offer.permission[0].constraint if one.left_operand == Operand.EPSILON_BUDGET
    )
    assert Decimal(clause.right_operand) == Decimal("0.5")
    assert "e" not in clause.right_operand.lower()


@pytest.mark.parametrize("names", list(combinations(TEMPLATES, 2)))
def test_two_templates_together_allow_only_what_each_of_them_allows(names: tuple[str, str]) -> None:
    needed = {
        name for each in names for name in (*TEMPLATES[each].required, *TEMPLATES[each].optional)
    }
    given = {name: value for name, value in EVERYTHING.items() if name in needed}
    together = made(*names, **given)
    assert decide(together, REQUEST, FACTS).allowed
    for one in names:
        own = (*TEMPLATES[one].required, *TEMPLATES[one].optional)
        alone = made(one, **{name: value for name, value in given.items() if name in own})
        assert compare(together, alone).reasons == ()


def test_every_parameter_is_of_a_template_and_documented_in_both_languages() -> None:
    used = {name for one in TEMPLATES.values() for name in (*one.required, *one.optional)}
    assert used == set(PARAMETERS)
    for parameter in PARAMETERS.values():
        assert parameter.doc_en.endswith(".")
        assert parameter.doc_zh.endswith("。")


def test_a_policy_can_be_read_in_english_and_chinese() -> None:
    offer = made("personal-with-consent", **(COMPUTING | {"computations": ["a/1", "b/1"]}))
    assert describe(offer) == [
        "May use the data if the computation is one of a/1, b/1, and the purpose is research, "
        "and the minimum cohort is at least 20, and the date and time is "
        "2027-01-01T00:00:00Z or earlier, and the people concerned consent.",
        "Whoever does so has to delete the results.",
        "This covers the data as they are now and as they change later.",
    ]
    assert describe(offer, "zh") == [
        "可以使用数据，条件是：计算方式为 a/1、b/1 之一，且用途为 research，"
        "且最小群体人数不小于 20，且日期时间不晚于 2027-01-01T00:00:00Z，且数据主体单独同意。",
        "行使该许可须删除结果。",
        "以上涵盖数据的现有版本及其后续版本。",
    ]


def test_prohibitions_obligations_and_alternatives_are_read_too() -> None:
    purpose = [
        {"leftOperand": "purpose", "operator": "eq", "rightOperand": value} for value in ("a", "b")
    ]
    offer = Offer.model_validate(
        {
            "@id": "urn:o",
            "permission": [{"action": "use", "constraint": [{"xone": purpose}]}],
            "prohibition": [{"action": "use", "constraint": [{"or": purpose}]}],
            "obligation": [{"action": "inform"}],
        }
    )
    assert describe(offer) == [
        "May use the data if exactly one of these holds: the purpose is a; the purpose is b.",
        "Must not use the data if (the purpose is a or the purpose is b).",
        "Has to inform.",
        "This covers the data as they are now and as they change later.",
    ]


def test_every_operand_has_a_meaning_in_both_languages() -> None:
    assert set(OPERANDS) == set(Operand)
    for meaning in OPERANDS.values():
        assert meaning.doc_en.endswith(".")
        assert meaning.doc_zh.endswith("。")
    assert set(GRADE_ORDER) == set(Grade)


def test_the_context_document_defines_our_prefix_and_odrls_operands() -> None:
    terms = context_document()["@context"]
    assert terms["ds"] == DS
    assert terms["dateTime"] == "http://www.w3.org/ns/odrl/2/dateTime"
