"""Remarks on policies: each is made where it should be, and nowhere else."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.evaluation import Facts, Request, decide
from contracts.lint import Knowledge, Remark, Severity, lint
from contracts.odrl import Offer, agreement_from
from contracts.profile import OPERANDS, PROFILE
from contracts.templates import TEMPLATES, build

NOW = datetime(2026, 11, 25, 4, tzinfo=UTC)
KNOWLEDGE = Knowledge(
    computations=("psi/1", "private-sum/1", "HttpData-PULL"),
    now=NOW,
    unenforced={"ds:epsilonBudget": ("Nothing adds noise; drop it.", "没有加噪；请删除。")},
)
USE = {"action": "use"}


def atom(left: str, operator: str, right: Any, **extra: Any) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right, **extra}


PURPOSE = atom("purpose", "eq", "research")
OTHER = atom("purpose", "eq", "marketing")
SUM = atom("ds:computation", "eq", "private-sum/1")
COHORT = atom("ds:minCohort", "gteq", "20")
END = atom("dateTime", "lteq", "2027-06-30T16:00:00Z")
REQUIRED = atom("ds:consent", "eq", "required")
SOUND = (PURPOSE, SUM, COHORT, END)


def offer(*constraints: dict[str, Any], forbid: Any = (), **more: Any) -> Offer:
    body = {
        "@id": "urn:o",
        "profile": PROFILE,
        "permission": [{**USE, "constraint": list(constraints)}],
        "prohibition": [{**USE, "constraint": each} for each in forbid],
    }
    return Offer.model_validate({**body, **more})


def remarks(policy: Offer, knowledge: Knowledge = KNOWLEDGE) -> list[tuple[str, str, str]]:
    return [(one.severity.value, one.code, one.path) for one in lint(policy, knowledge)]


def test_a_sound_policy_has_no_remarks() -> None:
    assert remarks(offer(*SOUND)) == []
    choice = {"or": [COHORT, REQUIRED]}
    assert remarks(offer(PURPOSE, SUM, END, choice, forbid=[[PURPOSE, COHORT, SUM]])) == []


PARAMETERS: dict[str, Any] = {
    "computations": ["private-sum/1"],
    "purposes": ["research"],
    "min_cohort": 20,
    "not_after": "2027-06-30T16:00:00Z",
    "recipient": "did:web:c",
    "zones": ["port"],
    "division": "4403",
    "epsilon_budget": "1",
    "release": ["name:drop"],
    "content_versions": [f"sha256:{'a' * 64}"],
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_ready_policies_are_right_as_far_as_they_are_enforced(name: str) -> None:
    one = TEMPLATES[name]
    names = (*one.required, *one.optional)
    given = {each: value for each, value in PARAMETERS.items() if each in names}
    found = lint(build([name], given, offer_id="urn:o"), KNOWLEDGE)
    grave = [remark.code for remark in found if remark.severity is not Severity.NOTE]
    assert grave == (["not-enforced"] if name == "private-statistics" else [])


# One clause beside sound ones, and the remark on it where the permission demands it.
CLAUSES = [
    (atom("partner", "eq", "x"), "unknown-operand"),
    (atom("ds:epsilonBudget", "lteq", "1"), "not-enforced"),
    (atom("ds:grade", "lteq", "secret"), "cannot-be-judged"),
    (atom("ds:grade", "isAnyOf", ["general", "secret"]), "cannot-be-judged"),
    (atom("ds:grade", "isA", "general"), "cannot-be-judged"),
    (atom("count", "lteq", "a few"), "cannot-be-judged"),
    (atom("count", "isAnyOf", ["1", "1e3"]), "cannot-be-judged"),
    (atom("count", "lteq", ["1", "2"]), "cannot-be-judged"),
    (atom("dateTime", "gteq", "2027-01-01"), "cannot-be-judged"),
    (atom("dateTime", "gteq", "2027-02-30T00:00:00Z"), "cannot-be-judged"),
    (atom("purpose", "gt", "a"), "cannot-be-judged"),
    (atom("purpose", "isNoneOf", []), "cannot-be-judged"),
    (atom("purpose", "neq", {"name": "a"}), "cannot-be-judged"),
    (atom("purpose", "term-lteq", "a"), "cannot-be-judged"),
    (atom("ds:contentVersion", "eq", "sha256:A"), "not-a-version"),
    (atom("spatial", "eq", "Shenzhen"), "not-a-region"),
    (atom("spatial", "isAnyOf", ["Shenzhen", "44030"]), "not-a-region"),
    (atom("spatial", "isPartOf", "44030"), "cannot-be-judged"),
    (atom("spatial", "isA", "4403"), "cannot-be-judged"),
    (atom("ds:recipientZone", "isA", "port"), "cannot-be-judged"),
    (atom("ds:consent", "eq", "given"), "cannot-be-judged"),
    (atom("ds:approval", "neq", "required"), "cannot-be-judged"),
    (atom("ds:recipientRole", "neq", "x", unit="person"), "unread-terms"),
    (atom("ds:grade", "gt", "core"), "never-holds"),
    (atom("count", "lt", "1"), "never-holds"),
    (atom("ds:recipientRole", "isAllOf", ["a", "b"]), "never-holds"),
    (atom("ds:minCohort", "eq", "20.5"), "never-holds"),
]


@pytest.mark.parametrize(("clause", "code"), CLAUSES)
def test_a_clause_that_never_holds_is_an_error(clause: dict[str, Any], code: str) -> None:
    found = [one for one in remarks(offer(PURPOSE, SUM, END, clause)) if one[0] == "error"]
    assert ("error", code, "permission[0].constraint[3]") in found
    assert len(found) == 1


@pytest.mark.parametrize(("clause", "code"), CLAUSES)
def test_as_one_of_several_alternatives_it_is_a_warning(clause: dict[str, Any], code: str) -> None:
    found = remarks(offer(*SOUND, {"or": [PURPOSE | {"rightOperand": "study"}, clause]}))
    place = "permission[0].constraint[4].or[1]"
    assert [one for one in found if one[1] == code] == [("warning", code, place)]


@pytest.mark.parametrize(("clause", "code"), CLAUSES)
def test_in_a_prohibition_it_forbids_everything_or_nothing(
    clause: dict[str, Any], code: str
) -> None:
    """What cannot be judged keeps a prohibition in force; what is known to fail lifts it."""
    severity = "warning" if code in ("never-holds", "not-a-region", "not-a-version") else "error"
    found = remarks(offer(*SOUND, forbid=[[clause]]))
    assert found == [(severity, code, "prohibition[0].constraint[0]")]


@pytest.mark.parametrize(("clause", "code"), [one for one in CLAUSES if one[1] != "not-enforced"])
def test_a_clause_with_an_error_does_refuse_every_use(clause: dict[str, Any], code: str) -> None:
    request = Request("use", "did:web:c", "research", "private-sum/1", 20, spatial="4403")
    facts = Facts(NOW, 0, "enterprise", "core", True, recipient_zones=("port",), approved=True)
    facts = replace(facts, content_version=f"sha256:{'a' * 64}")
    assert decide(offer(*SOUND), request, facts).allowed
    assert not decide(offer(*SOUND, clause), request, facts).allowed
    lifted = code in ("never-holds", "not-a-region", "not-a-version")
    assert decide(offer(*SOUND, forbid=[[clause]]), request, facts).allowed is lifted


@pytest.mark.parametrize(
    "clauses",
    [
        [atom("dateTime", "gteq", "2028-01-01T00:00:00Z")],
        [OTHER],
        [COHORT, atom("ds:minCohort", "lt", "20")],
        [atom("purpose", "isA", "marketing")],
        [{"and": [OTHER]}],
        [{"or": [OTHER, {"and": [OTHER, REQUIRED]}]}],
    ],
)
def test_clauses_that_exclude_one_another_are_a_contradiction(clauses: Any) -> None:
    found = remarks(offer(PURPOSE, SUM, END, *clauses))
    assert found == [("error", "contradiction", "permission[0]")]
    found = remarks(offer(*SOUND, forbid=[[PURPOSE, SUM, END, *clauses]]))
    assert found == [("warning", "contradiction", "prohibition[0]")]


def test_an_alternative_that_the_rest_excludes_is_dead() -> None:
    for name in ("or", "xone"):
        choice = {name: [OTHER, REQUIRED]}
        place = f"permission[0].constraint[4].{name}[0]"
        assert remarks(offer(*SOUND, choice)) == [("warning", "dead-alternative", place)]
    twins = {"xone": [REQUIRED, REQUIRED]}
    assert ("error", "xone-of-equals", "permission[0].constraint[4]") in remarks(
        offer(*SOUND, twins)
    )


@pytest.mark.parametrize(
    ("clauses", "places"),
    [
        ([COHORT, COHORT], [1]),
        ([COHORT, atom("ds:minCohort", "gteq", "20.0")], [1]),
        ([atom("ds:minCohort", "gteq", "10"), COHORT], [0]),
        ([COHORT, atom("ds:minCohort", "gt", "9")], [1]),
        ([PURPOSE, COHORT, atom("purpose", "isNoneOf", ["x"]), PURPOSE], [2, 3]),
        ([atom("count", "gteq", "1"), COHORT], [0]),
        ([COHORT, {"or": [COHORT, REQUIRED]}], [1]),
        ([{"and": [COHORT, REQUIRED]}, REQUIRED], [1]),
        ([{"or": [COHORT, REQUIRED]}, {"or": [REQUIRED, COHORT]}], [1]),
        ([atom("ds:grade", "lteq", "core"), COHORT], []),
        ([COHORT, atom("ds:minCohort", "lteq", "50")], []),
        ([{"xone": [COHORT, REQUIRED]}, {"or": [REQUIRED, PURPOSE]}], []),
    ],
)
def test_a_clause_that_says_no_more_than_the_others_is_redundant(
    clauses: list[Any], places: list[int]
) -> None:
    for number, policy in enumerate((offer(*clauses), offer(*SOUND, forbid=[clauses]))):
        rule = ("permission", "prohibition")[number]
        found = [one for one in remarks(policy) if one[1] == "redundant"]
        assert found == [
            ("warning", "redundant", f"{rule}[0].constraint[{place}]") for place in places
        ]


@pytest.mark.parametrize(
    ("forbidden", "code"),
    [
        ([], "wholly-prohibited"),
        ([PURPOSE], "wholly-prohibited"),
        (
            [atom("purpose", "isA", "research"), atom("ds:minCohort", "gt", "5")],
            "wholly-prohibited",
        ),
        ([{"or": [PURPOSE, REQUIRED]}], "wholly-prohibited"),
        ([OTHER], None),
        ([PURPOSE, REQUIRED], None),
        ([atom("ds:minCohort", "lt", "50")], None),
    ],
)
def test_a_prohibition_of_all_that_a_permission_allows_is_an_error(
    forbidden: Any, code: str | None
) -> None:
    expected = [] if code is None else [("error", code, "permission[0]")]
    assert remarks(offer(*SOUND, forbid=[forbidden])) == expected


def test_a_permission_that_ended_is_an_error_and_names_the_clause() -> None:
    ended = atom("dateTime", "lt", "2026-11-25T12:00:00+08:00")
    assert remarks(offer(PURPOSE, SUM, ended)) == [
        ("error", "expired", "permission[0].constraint[2]")
    ]
    assert remarks(offer(PURPOSE, SUM, ended | {"operator": "lteq"})) == []
    parts = {"or": [ended, {"and": [ended]}]}
    assert remarks(offer(PURPOSE, SUM, parts)) == [("error", "expired", "permission[0]")]
    (remark,) = lint(offer(PURPOSE, SUM, ended), KNOWLEDGE)
    assert remark.sentence == (
        "The time of use ended at 2026-11-25T12:00:00+08:00; name a later date."
    )
    assert remark.sentence_zh == "使用期限已于 2026-11-25T12:00:00+08:00 结束；请指定更晚的日期。"
    assert remarks(offer(*SOUND, forbid=[[OTHER, ended]])) == [
        ("warning", "expired", "prohibition[0].constraint[1]")
    ]
    first = atom("dateTime", "lteq", "0001-01-01T00:00:00+14:00")
    assert remarks(offer(PURPOSE, SUM, first)) == [
        ("error", "expired", "permission[0].constraint[2]")
    ]


def test_a_region_that_is_no_code_beside_others_is_a_warning() -> None:
    for clause in (
        atom("spatial", "isAnyOf", ["4403", "Shenzhen"]),
        atom("spatial", "isNoneOf", ["Shenzhen"]),
        atom("spatial", "neq", "Shenzhen"),
    ):
        place = "permission[0].constraint[4]"
        assert remarks(offer(*SOUND, clause)) == [("warning", "not-a-region", place)]
    assert remarks(offer(*SOUND, atom("spatial", "isAnyOf", ["4403", "440305"]))) == []


def test_computations_that_the_node_does_not_have_are_named() -> None:
    def found(operator: str, right: Any, **more: Any) -> list[tuple[str, str, str]]:
        clause = atom("ds:computation", operator, right)
        return remarks(offer(PURPOSE, COHORT, END, clause, **more))

    place = "permission[0].constraint[3]"
    assert found("isAnyOf", ["psi/1", "private-sum/1", "HttpData-PULL"]) == []
    assert found("isA", "private-sum") == []
    assert found("isAnyOf", ["psi/1", "psi/2"]) == [("warning", "unknown-computation", place)]
    # One that is named twice is one remark.
    twice = found("isAnyOf", ["psi/1", "psi/2", "psi/2"])
    assert twice == [("warning", "unknown-computation", place)]
    assert found("eq", "psi/2") == [("error", "no-such-computation", place)]
    assert found("isA", "sum") == [("error", "no-such-computation", place)]
    assert found("isNoneOf", ["psi/2"]) == []
    none = list(KNOWLEDGE.computations)
    assert found("isNoneOf", none) == [("error", "no-such-computation", place)]
    forbidden = remarks(offer(*SOUND, forbid=[[atom("ds:computation", "eq", "psi/2")]]))
    assert forbidden == [("warning", "no-such-computation", "prohibition[0].constraint[0]")]


def test_what_a_permission_leaves_open_is_noted() -> None:
    rows = ("note", "rows-may-leave", "permission[0]")
    no_end = ("note", "no-end", "permission[0]")
    assert remarks(offer(PURPOSE, END)) == [rows]
    assert remarks(offer(PURPOSE, SUM)) == [no_end]
    assert remarks(offer(PURPOSE)) == [rows, no_end]
    assert remarks(offer(PURPOSE, END, atom("ds:computation", "neq", "psi/1"))) == [rows]
    named = atom("ds:computation", "isAnyOf", ["psi/1", "HttpData-PULL"])
    assert remarks(offer(PURPOSE, END, named)) == []
    # A transfer of rows states no cohort; general data may well leave.
    assert remarks(offer(PURPOSE, END, COHORT)) == []
    assert remarks(offer(PURPOSE, END, atom("ds:grade", "eq", "general"))) == []
    assert remarks(offer(PURPOSE, END, atom("ds:grade", "lteq", "important"))) == [rows]
    assert remarks(offer(PURPOSE, END, {"or": [SUM, REQUIRED]})) == [rows]


@pytest.mark.parametrize("grade", ["general", "important", "core", None])
def test_graver_data_want_a_purpose_and_a_cohort(grade: str | None) -> None:
    knowledge = replace(KNOWLEDGE, grade=grade)
    advised = grade in ("important", "core")
    found = [code for _, code, _ in remarks(offer(SUM, END), knowledge)]
    assert found == (["no-purpose", "no-cohort"] if advised else [])
    assert remarks(offer(*SOUND), knowledge) == []


def test_duties_are_noted_as_unchecked_and_their_conditions_are_nobodys() -> None:
    odd = {"action": "delete", "constraint": [atom("partner", "eq", "x")]}
    policy = offer(
        permission=[{**USE, "constraint": list(SOUND), "duty": [odd]}],
        prohibition=[{**USE, "constraint": [OTHER], "remedy": [odd]}],
        obligation=[odd, odd],
    )
    assert remarks(policy) == [
        ("note", "duty-unchecked", "permission[0].duty[0]"),
        ("note", "duty-unchecked", "prohibition[0].remedy[0]"),
        ("note", "duty-unchecked", "obligation[0]"),
        ("note", "duty-unchecked", "obligation[1]"),
    ]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"permission": []}, [("error", "permits-nothing", "permission")]),
        ({"profile": ["urn:foreign", PROFILE]}, [("error", "unknown-profile", "profile")]),
        ({"inheritFrom": "urn:parent"}, [("error", "inherits", "inheritFrom")]),
        ({"conflict": "perm"}, [("warning", "prohibitions-win", "conflict")]),
        ({"conflict": "prohibit"}, []),
        ({"conflict": "coin"}, [("error", "unknown-conflict", "conflict")]),
        ({"conflict": "invalid"}, [("error", "void", "conflict")]),
        ({"odrl:constraint": []}, [("error", "unread-terms", "policy")]),
        ({"dct:created": "2026"}, []),
    ],
)
def test_the_policy_as_a_whole_is_remarked_on(more: dict[str, Any], expected: Any) -> None:
    assert remarks(offer(*SOUND, **{"forbid": [[COHORT, REQUIRED]], **more})) == expected


def test_rules_with_terms_that_nobody_reads_are_errors() -> None:
    refined = {**USE, "refinement": [PURPOSE]}
    found = remarks(offer(permission=[{**refined, "constraint": list(SOUND)}]))
    assert found == [("error", "unread-terms", "permission[0]")]
    found = remarks(offer(*SOUND, prohibition=[{**refined, "constraint": [OTHER]}]))
    assert found == [("error", "unread-terms", "prohibition[0]")]
    aimed = {**USE, "constraint": list(SOUND), "target": "urn:d"}
    assert remarks(offer(permission=[aimed], target="urn:d")) == []


def test_an_action_that_nobody_asks_for_is_a_warning() -> None:
    selling = offer(permission=[{"action": "sell", "constraint": list(SOUND)}])
    assert remarks(selling) == [("warning", "never-asked", "permission[0]")]
    spelled = offer(permission=[{"action": "odrl:use", "constraint": list(SOUND)}])
    assert remarks(spelled) == []


def test_remarks_come_in_the_order_of_the_rules() -> None:
    bad = atom("partner", "eq", "x")
    policy = offer(
        permission=[{**USE, "constraint": [*SOUND, bad]}, {**USE, "constraint": [bad, *SOUND]}],
        prohibition=[{**USE, "constraint": [OTHER, bad]}],
        obligation=[{"action": "delete"}],
        profile="urn:foreign",
    )
    assert [path for _, _, path in remarks(policy)] == [
        "profile",
        "permission[0].constraint[4]",
        "permission[1].constraint[0]",
        "prohibition[0].constraint[1]",
        "obligation[0]",
    ]


def test_a_remark_says_what_to_do_in_both_languages() -> None:
    (remark,) = lint(offer(*SOUND, atom("partner", "eq", "x")), KNOWLEDGE)
    assert remark == Remark(
        Severity.ERROR,
        "unknown-operand",
        "permission[0].constraint[4]",
        "Nobody here can judge the operand “partner”, so the permission never holds; use one of "
        f"{', '.join(OPERANDS)}.",
        f"无法判定“partner”，该许可永远无法满足；请使用 {', '.join(OPERANDS)} 之一。",
    )
    (remark,) = lint(offer(*SOUND, atom("count", "lteq", "a few")), KNOWLEDGE)
    assert remark.sentence.startswith(
        "The clause on the number of uses can never be judged, so the permission never holds: "
    )
    assert remark.sentence.endswith(", gt, gteq, lt or lteq, and a plain number such as 20.")
    assert remark.sentence_zh.startswith("关于使用次数的条款无法判定，该许可永远无法满足；请写为")


def test_an_agreement_is_read_like_an_offer() -> None:
    agreement = agreement_from(
        offer(*SOUND, COHORT),
        agreement_id="urn:a",
        target="urn:d",
        assigner="did:web:p",
        assignee="did:web:c",
        timestamp="2026-11-25T00:00:00Z",
    )
    codes = Counter(one.code for one in lint(agreement, KNOWLEDGE))
    assert codes == {"redundant": 1}


RULES = atom("ds:release", "isAllOf", ["name:drop"])
ROWS = atom("ds:computation", "eq", "HttpData-PULL")


def test_what_is_done_before_rows_leave_stands_in_a_permission_by_which_they_can() -> None:
    assert remarks(offer(PURPOSE, END, RULES)) == []
    assert remarks(offer(PURPOSE, END, RULES, ROWS)) == []
    never = [("error", "release-without-rows", "permission[0]")]
    for clause in (COHORT, SUM, atom("ds:computation", "eq", "HttpData-PUSH") | SUM):
        assert remarks(offer(PURPOSE, END, RULES, clause)) == never
    computing_only = replace(KNOWLEDGE, computations=("psi/1",))
    assert remarks(offer(PURPOSE, END, RULES), computing_only) == never


def test_a_computation_named_beside_what_is_done_to_rows_is_never_permitted() -> None:
    both = atom("ds:computation", "isAnyOf", ["HttpData-PULL", "psi/1"])
    found = lint(offer(PURPOSE, END, RULES, both), KNOWLEDGE)
    assert [(one.severity, one.code) for one in found] == [("warning", "release-of-computation")]
    assert "psi/1 is never permitted" in found[0].sentence
    choice = {"or": [{"and": [ROWS, RULES]}, {"and": [SUM, COHORT]}]}
    assert remarks(offer(PURPOSE, END, choice)) == []
    choice = {"or": [{"and": [ROWS, RULES]}, {"and": [SUM, COHORT, RULES]}]}
    assert remarks(offer(PURPOSE, END, choice)) == [
        ("warning", "release-without-rows", "permission[0]")
    ]


@pytest.mark.parametrize("operator", ["eq", "neq", "isAnyOf", "isNoneOf"])
def test_only_all_of_some_rules_says_what_is_done(operator: str) -> None:
    clause = atom("ds:release", operator, "name:drop")
    place = "permission[0].constraint[3]"
    assert remarks(offer(PURPOSE, END, ROWS, clause)) == [("warning", "release-not-all", place)]
    place = "prohibition[0].constraint[0]"
    assert remarks(offer(*SOUND, forbid=[[clause]])) == [("warning", "release-forbidden", place)]


def test_an_agreement_names_versions_as_digests() -> None:
    known, other = f"sha256:{'a' * 64}", "the one of today"
    clause = atom("ds:contentVersion", "isAnyOf", [known])
    assert remarks(offer(*SOUND, clause)) == []
    clause = atom("ds:contentVersion", "isAnyOf", [known, other])
    place = "permission[0].constraint[4]"
    assert remarks(offer(*SOUND, clause)) == [("warning", "not-a-version", place)]
