"""Ready policies do what their descriptions say, and can be said in words."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from contracts.errors import InputRejected
from contracts.evaluation import Facts, Request, decide
from contracts.messages import Dataset, Distribution
from contracts.odrl import Offer
from contracts.profile import DS, GRADE_ORDER, OPERANDS, Grade, Operand, context_document
from contracts.templates import (
    TEMPLATES,
    compute_only,
    describe,
    open_data,
    personal_with_consent,
    statistics,
)

END = datetime(2027, 1, 1, tzinfo=UTC)
REQUEST = Request("use", "did:web:c", "research", "private-sum/1", 20, epsilon=Decimal("0.5"))
FACTS = Facts(END - timedelta(days=1), 0, "enterprise", "general", True)
TERMS = (["private-sum/1"], ["research"])

OFFERS: dict[str, Offer] = {
    "compute-only": compute_only("urn:1", *TERMS, 20, END, 2, ["enterprise"]),
    "statistics": statistics("urn:2", *TERMS, END, epsilon_budget=Decimal("1")),
    "personal-with-consent": personal_with_consent("urn:3", *TERMS, 20, END),
    "open-data": open_data("urn:4", END),
}
BREAKS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("compute-only", {"purpose": "marketing"}, {}),
    ("compute-only", {"computation": "private-set/1"}, {}),
    ("compute-only", {"min_cohort": 19}, {}),
    ("compute-only", {}, {"now": END + timedelta(seconds=1)}),
    ("compute-only", {}, {"use_count": 2}),
    ("compute-only", {}, {"recipient_role": "personal"}),
    ("statistics", {"min_cohort": 19}, {}),
    ("statistics", {"epsilon": None}, {}),
    ("statistics", {}, {"epsilon_spent": Decimal("0.6")}),
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
    assert decision.refusal.path.startswith("permission[0].constraint")


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
    "make",
    [
        lambda: compute_only("urn:1", [], ["research"], 20, END),
        lambda: compute_only("urn:1", "private-sum/1", ["research"], 20, END),
        lambda: compute_only("urn:1", *TERMS, 0, END),
        lambda: compute_only("urn:1", *TERMS, 20, END, 0),
        lambda: compute_only("urn:1", *TERMS, 20, END.replace(tzinfo=None)),
        lambda: compute_only("urn:1", *TERMS, 20, END, recipient_roles=[""]),
        lambda: statistics("urn:1", *TERMS, END, min_cohort=19),
        lambda: statistics("urn:1", *TERMS, END, epsilon_budget=Decimal("0")),
    ],
)
def test_a_template_refuses_terms_that_protect_nobody(make: Callable[[], Offer]) -> None:
    with pytest.raises(InputRejected):
        make()


def test_a_policy_can_be_read_in_english_and_chinese() -> None:
    offer = personal_with_consent("urn:3", ["a/1", "b/1"], ["research"], 20, END)
    assert describe(offer) == [
        "May use the data if the computation is one of a/1, b/1, and the purpose is research, "
        "and the minimum cohort is at least 20, and the date and time is "
        "2027-01-01T00:00:00Z or earlier, and the people concerned consent.",
        "Whoever does so has to delete the results.",
    ]
    assert describe(offer, "zh") == [
        "可以使用数据，条件是：计算方式为 a/1, b/1 之一，且用途为 research，"
        "且最小群体人数不小于 20，且日期时间不晚于 2027-01-01T00:00:00Z，且数据主体单独同意。",
        "行使该许可须删除结果。",
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
