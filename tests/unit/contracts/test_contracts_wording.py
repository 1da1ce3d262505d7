"""Decisions in words: what is said in English and Chinese, and what could be done."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from contracts import phrases
from contracts.comparison import Why
from contracts.decision import ClauseResult, Facts, Request
from contracts.evaluation import decide
from contracts.odrl import Offer, Operator
from contracts.phrases import fill
from contracts.profile import OPERANDS, PROFILE, Operand
from contracts.wording import Sort, outline, remedy, sentence

REQUEST = Request(
    action="use",
    assignee="did:web:consumer",
    purpose="marketing",
    computation="psi/1",
    min_cohort=10,
    spatial="440305",
    epsilon=Decimal("0.5"),
)
FACTS = Facts(
    now=datetime(2026, 11, 25, 4, tzinfo=UTC),
    use_count=9,
    recipient_role="enterprise",
    grade="important",
    consent=False,
    epsilon_spent=Decimal("1.5"),
    recipient_zones=("qianhai", "port"),
    approved=False,
)


def atom(operand: str, operator: str, value: Any) -> dict[str, Any]:
    return {"leftOperand": operand, "operator": operator, "rightOperand": value}


def permit(*constraints: dict[str, Any], **more: Any) -> Offer:
    rule = {"action": "use", "constraint": list(constraints)}
    return Offer.model_validate({"@id": "urn:o", "permission": [rule], **more})


def said(result: ClauseResult) -> tuple[str, str | None, str, str | None]:
    return (
        sentence(result),
        remedy(result),
        sentence(result, "zh"),
        remedy(result, "zh"),
    )


CLAUSES = [
    (
        atom("purpose", "isNoneOf", ["marketing", "scoring"]),
        "The purpose must be none of marketing, scoring; it is marketing.",
        "Ask for a purpose other than marketing, scoring, or negotiate an agreement for this one.",
        "用途不得是 marketing、scoring 中的任何一个；实际为 marketing。",
        "请把用途改为 marketing、scoring 以外的用途，或就本次用途另行协商协议。",
    ),
    (
        atom("purpose", "isA", "公共卫生"),
        "The purpose must be a kind of 公共卫生; it is marketing.",
        "Ask for a purpose within 公共卫生, or negotiate an agreement for this one.",
        "用途必须属于公共卫生类；实际为 marketing。",
        "请把用途改为公共卫生范围内的用途，或就本次用途另行协商协议。",
    ),
    (
        atom("ds:minCohort", "gteq", "20"),
        "The minimum cohort must be at least 20; it is 10.",
        "Ask again with a minimum cohort of at least 20.",
        "最小群体人数不得小于 20；实际为 10。",
        "请重新请求，并使最小群体人数不小于 20。",
    ),
    (
        atom("dateTime", "gteq", "2026-12-01T00:00:00Z"),
        "The date and time must be 2026-12-01T00:00:00Z or later; it is 2026-11-25T04:00:00Z.",
        "Wait until 2026-12-01T00:00:00Z.",
        "日期时间不得早于 2026-12-01T00:00:00Z；实际为 2026-11-25T04:00:00Z。",
        "请等到 2026-12-01T00:00:00Z。",
    ),
    (
        atom("dateTime", "lt", "2026-11-01T00:00:00Z"),
        "The date and time must be before 2026-11-01T00:00:00Z; it is 2026-11-25T04:00:00Z.",
        "Negotiate a new agreement; the time of this one ended at 2026-11-01T00:00:00Z.",
        "日期时间必须早于 2026-11-01T00:00:00Z；实际为 2026-11-25T04:00:00Z。",
        "请协商新的协议；本协议的使用期限已于 2026-11-01T00:00:00Z 结束。",
    ),
    (
        atom("count", "gt", "10"),
        "The number of uses must be more than 10; it is 10.",
        "Ask when the number of uses is more than 10, or negotiate a new agreement.",
        "使用次数必须超过 10；实际为 10。",
        "请在使用次数满足要求（超过 10）时请求，或协商新的协议。",
    ),
    (
        atom("ds:grade", "lteq", "general"),
        "The grade of the data must be at most general; it is important.",
        "Ask the provider; the grade of this data is outside what the policy covers.",
        "数据分级不得高于一般（general）；实际为重要（important）。",
        "请联系提供方；该数据的分级不在策略范围之内。",
    ),
    (
        atom("ds:approval", "eq", "required"),
        "A person's approval is required; it was declined.",
        "Negotiate other terms; the provider has declined these.",
        "须经提供方人工审批；已被拒绝。",
        "请协商其他条款；提供方已拒绝当前条款。",
    ),
    (
        atom("partner", "eq", "gold"),
        "The operand “partner” must be gold; this space does not know that operand.",
        "Ask the provider to publish terms in the profile of this space.",
        "“partner”必须是 gold；本空间无法识别该约束项。",
        "请提供方使用本空间的配置文件发布条款。",
    ),
    (
        atom("purpose", "term-lteq", "x"),
        "The purpose must be “term-lteq” x; these values do not have that operator.",
        "Ask the provider to publish terms in the profile of this space.",
        "用途必须满足“term-lteq” x；这类值没有该运算符。",
        "请提供方使用本空间的配置文件发布条款。",
    ),
    (
        {"or": [atom("count", "lteq", "5"), atom("partner", "eq", "gold")]},
        "Of 2 conditions at least one has to hold; 0 hold and 1 cannot be judged.",
        "Negotiate a new agreement; the uses under this one are spent.",
        "2 项条件中须至少一项成立；现有 0 项成立，1 项无法判定。",
        "请协商新的协议；本协议的使用次数已经用完。",
    ),
]


@pytest.mark.parametrize(("constraint", "en", "do", "zh", "do_zh"), CLAUSES, ids=lambda one: "")
def test_a_clause_says_what_it_wants_what_was_found_and_what_to_do(
    constraint: dict[str, Any], en: str, do: str, zh: str, do_zh: str
) -> None:
    decision = decide(permit(constraint), REQUEST, FACTS)
    assert said(decision.rules[-1].children[0]) == (en, do, zh, do_zh)
    assert decision.reason == en
    kept = decision.to_json("zh")
    assert (kept["reason"], kept["rules"][0]["children"][0]["remedy"]) == (zh, do_zh)


def test_who_did_not_say_is_told_what_to_say() -> None:
    policy = permit(atom("purpose", "isAnyOf", ["research", "planning"]))
    refusal = decide(policy, replace(REQUEST, purpose=None), FACTS).refusal
    assert said(refusal) == (
        "The purpose must be one of research, planning; the request does not say.",
        "Ask for one of the purposes research, planning.",
        "用途必须是 research、planning 之一；请求未作说明。",
        "请在请求中把用途写明为 research、planning 之一。",
    )


def test_what_waits_for_a_person_says_so() -> None:
    policy = permit(atom("ds:approval", "eq", "required"))
    assert said(decide(policy, REQUEST, replace(FACTS, approved=None)).refusal) == (
        "A person's approval is required; nobody has decided yet.",
        "Ask the provider to approve the agreement.",
        "须经提供方人工审批；尚未有人作出决定。",
        "请提供方审批该协议。",
    )


def test_a_prohibition_says_how_to_stay_outside_it() -> None:
    marketing = {"action": "use", "constraint": [atom("purpose", "isAnyOf", ["marketing"])]}
    assert said(decide(permit(prohibition=[marketing]), REQUEST, FACTS).refusal) == (
        "The policy prohibits use here: the prohibition holds when the purpose is marketing, "
        "and it is marketing.",
        "Ask for a use outside the prohibition, where the purpose is other than marketing.",
        "策略在此禁止“使用”：禁止的条件是用途为 marketing，实际为 marketing。",
        "请改为请求不受该禁止限制的使用，即用途不为 marketing。",
    )
    unclear = {"action": "use", "constraint": [atom("partner", "eq", "gold")]}
    assert said(decide(permit(prohibition=[unclear]), REQUEST, FACTS).refusal) == (
        "The policy's prohibition[0] of use cannot be ruled out: the prohibition holds when the "
        "operand “partner” is gold; this space does not know that operand.",
        "Ask for a use outside the prohibition.",
        "无法排除策略的 prohibition[0]（禁止“使用”）：禁止的条件是“partner”为 gold；"
        "本空间无法识别该约束项。",
        "请改为请求不受该禁止限制的使用。",
    )
    assert said(decide(permit(prohibition=[{"action": "use"}]), REQUEST, FACTS).refusal) == (
        "The policy prohibits use.",
        "Negotiate terms without this prohibition.",
        "策略禁止“使用”。",
        "请协商不含该禁止的条款。",
    )


WHOLE = [
    ({"profile": "urn:p"}, "The policy is written in the profile urn:p, which this space does not"),
    ({"assignee": "did:web:x"}, "The terms are for did:web:x, not the participant who asks."),
    ({"inheritFrom": "urn:x"}, "The policy inherits from urn:x, which this space does not hold;"),
    ({"conflict": "first"}, "The policy settles conflicts by first, which this space does not"),
    ({"odrl:duty": []}, "There are terms here that this space does not read: odrl:duty."),
    (
        {"conflict": "invalid", "prohibition": [{"action": "use"}]},
        "The policy is void: it says so where a permission and a prohibition can both apply, and "
        "permission[0] and prohibition[0] can.",
    ),
]


@pytest.mark.parametrize(("more", "begins"), WHOLE, ids=str)
def test_what_is_wrong_with_the_whole_policy_is_said_with_a_remedy(
    more: dict[str, Any], begins: str
) -> None:
    refusal = decide(permit(**more), REQUEST, FACTS).refusal
    en, do, zh, do_zh = said(refusal)
    assert en.startswith(begins)
    assert do is not None
    assert do_zh is not None
    assert zh.endswith("。")


def test_an_outline_shows_every_clause_with_its_mark() -> None:
    policy = permit(
        atom("purpose", "isAnyOf", ["marketing", "research"]),
        {"or": [atom("count", "lteq", "5"), atom("partner", "eq", "gold")]},
        profile=PROFILE,
        prohibition=[{"action": "use", "constraint": [atom("ds:minCohort", "lt", "5")]}],
    )
    assert outline(decide(policy, REQUEST, FACTS)) == [
        "✗ Refused. Of 2 conditions at least one has to hold; 0 hold and 1 cannot be judged.",
        "  → Negotiate a new agreement; the uses under this one are spent.",
        f"  ✓ The policy is written in the profile {PROFILE}, which this space understands.",
        "  ✓ The policy's prohibition[0] of use does not apply here.",
        "    ✗ The prohibition holds when the minimum cohort is less than 5; it is 10.",
        "  ? The policy's permission[0] does not permit use: 1 of its 2 conditions hold.",
        "    ✓ The purpose must be one of marketing, research, and it is marketing.",
        "    ? Of 2 conditions at least one has to hold; 0 hold and 1 cannot be judged.",
        "      ✗ The number of uses must be at most 5; it is 10.",
        "      ? The operand “partner” must be gold; this space does not know that operand.",
    ]
    assert outline(decide(policy, REQUEST, FACTS), "zh")[:2] == [
        "✗ 拒绝。2 项条件中须至少一项成立；现有 0 项成立，1 项无法判定。",
        "  → 请协商新的协议；本协议的使用次数已经用完。",
    ]


def test_an_outline_ends_with_what_has_to_be_done() -> None:
    delete = {"action": "delete", "consequence": [{"action": "inform"}]}
    policy = permit(
        obligation=[delete], prohibition=[{"action": "sell", "remedy": [{"action": "delete"}]}]
    )
    decision = decide(policy, REQUEST, FACTS)
    assert outline(decision) == [
        "✓ Allowed. The policy's permission[0] permits use: without conditions.",
        "  ✓ The policy's permission[0] permits use: without conditions.",
        "  • The consumer has to delete the results; this decision does not check that.",
        "    • If that is not done, has to inform as well.",
        "  • A consumer that infringes prohibition[0] has to delete the results; this decision "
        "does not check that.",
    ]
    assert outline(decision, "zh")[2:] == [
        "  • 使用方须删除结果；本次判定不检查其是否履行。",
        "    • 如未履行，还须“inform”。",
        "  • 使用方如违反 prohibition[0]，须删除结果；本次判定不检查其是否履行。",
    ]
    assert decision.to_json("zh")["duties"][0]["consequences"] == [
        {
            "path": "obligation[0].consequence[0]",
            "action": "inform",
            "sentence": "如未履行，还须“inform”。",
        }
    ]


def test_every_phrase_is_there_in_both_languages() -> None:
    for name in ("RELATIONS", "CHOICES", "NOUNS", "REQUIRED", "GIVEN", "STATES", "MISSING"):
        table = getattr(phrases, name)
        assert table["en"].keys() == table["zh"].keys(), name
    for table in (phrases.REMEDIES, phrases.SENTENCES):
        assert table["en"].keys() == table["zh"].keys()
    assert phrases.WHY_ZH.keys() == {*Why}
    assert phrases.RELATIONS["en"].keys() == {*Operator} - {Operator.TERM_LTEQ}
    assert phrases.DEMANDS_ZH.keys() == phrases.RELATIONS["zh"].keys()
    assert phrases.OWN_DEMANDS_ZH.keys() == phrases.OWN_RELATIONS["zh"].keys()


@pytest.mark.parametrize("operand", Operand)
@pytest.mark.parametrize("operator", Operator)
@pytest.mark.parametrize("path", ["permission[0].constraint[0]", "prohibition[0].constraint[0]"])
def test_every_operand_and_operator_can_be_put_into_words(
    operand: Operand, operator: Operator, path: str
) -> None:
    facts = {"consent": True, "approval": True, "recipientZone": ("a", "b")}
    for fact in (facts.get(operand.removeprefix("ds:"), "x"), None):
        for value in ("required", ("a", "b"), ()):
            result = ClauseResult(
                Sort.COMPARISON, path, operand, operator, value, fact, False, fact is not None
            )
            en, do, zh, do_zh = said(result)
            assert en.endswith(".")
            assert zh.endswith("。")
            assert OPERANDS[operand].label_zh in zh or operand in phrases.REQUIRED["zh"]
            assert (do is None) == (do_zh is None) == path.startswith("prohibition")


@pytest.mark.parametrize(
    ("phrase", "values", "filled"),
    [
        ("必须是{}", ("research",), "必须是 research"),
        ("必须是{}", ("研究",), "必须是研究"),
        ("{}之一", ("a",), "a 之一"),
        ("{1}以外的{0}", ("用途", "a"), "a 以外的用途"),
        ("（{}）", ("a",), "（a）"),
        ("{}; {}.", ("研究", "b"), "研究; b."),
        ("{} {}", ("{}", "{0}"), "{} {0}"),
    ],
)
def test_values_stand_apart_as_chinese_is_printed(
    phrase: str, values: tuple[str, ...], filled: str
) -> None:
    assert fill(phrase, *values) == filled
