"""The pages about operands say what decisions say, word for word."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from contracts import messages
from contracts.comparison import Fact, Incomparable, compare
from contracts.decision import ClauseResult, Facts, Request
from contracts.evaluation import decide
from contracts.odrl import Offer, Operator
from contracts.profile import (
    CONTEXT_URL,
    DS,
    ODRL,
    OPERANDS,
    PROFILE,
    Operand,
    ValueKind,
    context_document,
    uses_our_terms,
)
from contracts.prospect import KNOWN_BEFORE_USE
from contracts.wording import remedy, sentence

PAGES = Path(__file__).resolve().parents[3] / "docs" / "operands"

UNSTATED = Request(
    action="use", assignee="did:web:c", purpose=None, computation=None, min_cohort=None
)
UNKNOWN = Facts(
    now=datetime(2026, 11, 25, 4, tzinfo=UTC),
    use_count=0,
    recipient_role=None,
    grade=None,
    consent=None,
)


@dataclass(frozen=True)
class Case:
    """A clause, the facts it is judged by, the verdict and the lines that a page prints for it."""

    clause: dict[str, Any]
    facts: dict[str, Any]
    verdict: str
    lines: tuple[str, ...]


_BLOCK = re.compile(
    r"```json\n(?P<clause>.*)\n```"
    r"|### (?P<verdict>Met|Refused|Not known) · .*\n\n(?P<facts>`.*`)\n\n(?P<lines>(?:>.*\n?)+)"
)
_FACT = re.compile(r"`(\w+)` = `([^`]+)`")


def cases(page: str) -> Iterator[Case]:
    """The cases of a page, each about the example above it."""
    clause: dict[str, Any] = {}
    for block in _BLOCK.finditer(page):
        if block["clause"] is not None:
            clause = json.loads(block["clause"])
            continue
        facts = {name: json.loads(value) for name, value in _FACT.findall(block["facts"])}
        lines = [line.removeprefix(">").strip() for line in block["lines"].splitlines()]
        yield Case(clause, facts, block["verdict"], tuple(line for line in lines if line))


def page_of(operand: Operand) -> str:
    name = re.sub(r"[A-Z]", lambda letter: f"-{letter[0].lower()}", operand.removeprefix("ds:"))
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def fact(name: str, value: Any) -> Fact | None:
    """A fact as the page writes it, in JSON."""
    if value is None:
        return None
    if name == "now":
        return datetime.fromisoformat(value)
    if name in ("epsilon", "epsilon_spent"):
        return Decimal(value)
    return tuple(value) if isinstance(value, list) else value


def judged(case: Case) -> ClauseResult:
    known = {name: fact(name, value) for name, value in case.facts.items()}
    asked = {one.name for one in fields(Request)}
    policy = Offer.model_validate(
        {"@id": "urn:o", "permission": [{"action": "use", "constraint": [case.clause]}]}
    )
    decision = decide(
        policy,
        replace(UNSTATED, **{name: one for name, one in known.items() if name in asked}),
        replace(UNKNOWN, **{name: one for name, one in known.items() if name not in asked}),
    )
    return decision.rules[-1].children[0]


@pytest.mark.parametrize("operand", Operand)
def test_a_page_prints_the_very_sentences_a_decision_says(operand: Operand) -> None:
    found = list(cases(page_of(operand)))
    assert {case.verdict for case in found} >= {"Met", "Refused"}
    for case in found:
        assert case.clause["leftOperand"] == operand
        result = judged(case)
        verdict = "Met" if result.satisfied else "Refused" if result.known else "Not known"
        assert verdict == case.verdict
        said = []
        for language in ("en", "zh"):
            said.append(sentence(result, language))
            done = remedy(result, language)
            said += [] if done is None else [f"→ {done}"]
        assert list(case.lines) == said


SAMPLES: dict[ValueKind, tuple[Fact, str]] = {
    ValueKind.TEXT: ("x", "x"),
    ValueKind.NUMBER: (1, "1"),
    ValueKind.TIME: (UNKNOWN.now, "2026-11-25T04:00:00Z"),
    ValueKind.REGION: ("44", "44"),
    ValueKind.GRADE: ("core", "core"),
    ValueKind.SET: (("x",), "x"),
    ValueKind.CONSENT: (True, "required"),
}


def operators_of(kind: ValueKind) -> set[str]:
    found = set()
    for operator in Operator:
        try:
            compare(kind, operator, *SAMPLES[kind])
        except Incomparable:
            continue
        found.add(operator.value)
    return found


@pytest.mark.parametrize("operand", Operand)
def test_a_page_names_the_operators_and_the_moments_of_judgement(operand: Operand) -> None:
    page, meaning = page_of(operand), OPERANDS[operand]
    assert page.startswith(f"# {operand} · {meaning.label_zh}\n")
    rows = dict(re.findall(r"^\| ([a-z][^|]*?) \| (.*) \|$", page, re.MULTILINE))
    named = re.findall(r"`([^`]+)`", rows["operators 运算符"])
    assert set(named) == operators_of(meaning.kind)
    early = "negotiation" in rows["judged 判定时机"]
    assert early is (operand in KNOWN_BEFORE_USE)
    assert rows["established by 由谁确定"]


def test_the_index_names_every_operand_and_nothing_else() -> None:
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"^\| \[`([^`]+)`\]\(([a-z-]+\.md)\)", index, re.MULTILINE))
    assert set(named) == set(Operand)
    assert {*named.values(), "README.md"} == {path.name for path in PAGES.iterdir()}
    for operand in Operand:
        assert f"{OPERANDS[operand].label_en} {OPERANDS[operand].label_zh}" in index


def fields_of_messages() -> Iterator[FieldInfo]:
    for model in vars(messages).values():
        if isinstance(model, type) and issubclass(model, messages.WireModel):
            yield from model.model_fields.values()


def test_the_context_defines_everything_we_write_under_our_prefix() -> None:
    terms = context_document()["@context"]
    written = {str(field.serialization_alias) for field in fields_of_messages()}
    ours = {name for name in written | set(Operand) if name.startswith("ds:")}
    assert len(ours) > len(Operand) - 4
    for name in ours:
        meaning = terms[name]
        iri = meaning if isinstance(meaning, str) else meaning["@id"]
        assert iri == DS + name.removeprefix("ds:")
    for name in ("remedy", "consequence", "conflict", "inheritFrom"):
        assert terms[name]["@id"] == ODRL + name
    for name in ("purpose", "dateTime", "delete", "perm", "invalid"):
        assert terms[name] == ODRL + name


def test_a_message_in_our_profile_names_our_context() -> None:
    assert uses_our_terms({"profile": [PROFILE]})
    assert not uses_our_terms({"profile": "urn:other"})
    assert CONTEXT_URL.startswith(PROFILE)
