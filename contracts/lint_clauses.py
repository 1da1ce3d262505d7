"""Remarks on single clauses of a policy: what nobody can judge, and what can never hold."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from contracts.comparison import (
    Fact,
    Incomparable,
    compare,
    grade_place,
    parse_decimal,
    parse_moment,
    region_code,
    texts_of,
)
from contracts.domains import domain_of
from contracts.odrl import AtomicConstraint, Constraint, Operator, unread_terms
from contracts.profile import OPERANDS, Operand, ValueKind
from contracts.wording import label, value_text


class Severity(StrEnum):
    """How grave a remark is."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Remark:
    """One thing about a policy: where, and a sentence in two languages that says what to do."""

    severity: Severity
    code: str
    path: str
    sentence: str
    sentence_zh: str


@dataclass(frozen=True)
class Knowledge:
    """What a node can do with a policy.

    `computations` are the kinds it runs, with the raw formats it gives; `unenforced` maps an
    operand that nothing feeds to the reason, in two languages; `now` is aware. `grade` is that of
    the data, where the policy is for some.
    """

    computations: Collection[str]
    now: datetime
    unenforced: Mapping[str, tuple[str, str]]
    grade: str | None = None


@dataclass(frozen=True)
class Role:
    """What it means for its rule that a clause cannot be judged, or that it never holds."""

    unjudged: tuple[str, str]
    never: tuple[str, str]
    unjudged_severity: Severity = Severity.ERROR
    never_severity: Severity = Severity.ERROR


_NO_PERMISSION: Final = ("so the permission never holds", "该许可永远无法满足")
_NO_ALTERNATIVE: Final = ("so this alternative never holds", "该选项永远无法满足")
# A prohibition is in force as long as nothing shows that it is not.
_ALWAYS_FORBIDDEN: Final = ("so the prohibition always applies", "该禁止条款始终生效")
_NEVER_FORBIDDEN: Final = ("so the prohibition does nothing", "该禁止条款不起作用")

DEMAND: Final = Role(_NO_PERMISSION, _NO_PERMISSION)
ALTERNATIVE: Final = Role(_NO_ALTERNATIVE, _NO_ALTERNATIVE, Severity.WARNING, Severity.WARNING)
WARNING: Final = Role(_ALWAYS_FORBIDDEN, _NEVER_FORBIDDEN, Severity.ERROR, Severity.WARNING)


def about_constraint(
    constraint: Constraint, path: str, role: Role, knowledge: Knowledge
) -> Iterator[Remark]:
    """Remarks on a constraint and on those it joins."""
    unread = ", ".join(value_text(name) for name in unread_terms(constraint))
    if unread:
        then, then_zh = role.unjudged
        yield Remark(
            role.unjudged_severity,
            "unread-terms",
            path,
            f"No decision reads {unread}, {then}; drop them.",
            f"系统不读取条款 {unread}，{then_zh}；请删除。",
        )
        return
    if isinstance(constraint, AtomicConstraint):
        yield from _about_atom(constraint, path, role, knowledge)
        return
    name, joined = constraint.joined
    written = [one.to_json() for one in joined]
    if name == "xone" and any(written.count(one) > 1 for one in written):
        yield Remark(
            Severity.ERROR,
            "xone-of-equals",
            path,
            "Exactly one of these shall hold, and two of them are the same; drop one.",
            "要求恰有一项成立，但其中两项相同；请删除一项。",
        )
    # One that nobody can judge leaves an `or` its others; it decides every other join.
    inner = ALTERNATIVE if name == "or" and role is DEMAND else role
    for number, each in enumerate(joined):
        yield from about_constraint(each, f"{path}.{name}[{number}]", inner, knowledge)


def _about_atom(
    atom: AtomicConstraint, path: str, role: Role, knowledge: Knowledge
) -> Iterator[Remark]:
    meaning = OPERANDS.get(atom.left_operand)
    what, what_zh = label(atom.left_operand), label(atom.left_operand, "zh")
    then, then_zh = role.unjudged
    if meaning is None:
        yield Remark(
            role.unjudged_severity,
            "unknown-operand",
            path,
            f"Nobody here can judge {what}, {then}; use one of {', '.join(OPERANDS)}.",
            f"无法判定{what_zh}，{then_zh}；请使用 {', '.join(OPERANDS)} 之一。",
        )
        return
    if atom.left_operand in knowledge.unenforced:
        why, why_zh = knowledge.unenforced[atom.left_operand]
        yield Remark(role.unjudged_severity, "not-enforced", path, why, why_zh)
    try:
        compare(meaning.kind, atom.operator, _SAMPLES[meaning.kind], atom.right_operand)
        _verify_values(meaning.kind, atom)
    except Incomparable as err:
        write, write_zh = _WRITE[meaning.kind]
        yield Remark(
            role.unjudged_severity,
            "cannot-be-judged",
            path,
            f"The clause on {what} can never be judged, {then}: {err}; write {write}.",
            f"关于{what_zh}的条款无法判定，{then_zh}；请写为{write_zh}。",
        )
        return
    yield from _about_values(atom, path, role, knowledge)


def _about_values(
    atom: AtomicConstraint, path: str, role: Role, knowledge: Knowledge
) -> Iterator[Remark]:
    values = domain_of(atom)
    if values is not None and values.empty:
        what, what_zh = label(atom.left_operand), label(atom.left_operand, "zh")
        then, then_zh = role.never
        yield Remark(
            role.never_severity,
            "never-holds",
            path,
            f"Nothing satisfies what the clause says of {what}, {then}; name a value that can be.",
            f"没有任何取值满足关于{what_zh}的条款，{then_zh}；请改为可能的取值。",
        )
    elif atom.left_operand == Operand.SPATIAL:
        yield from _about_regions(atom, path, role)
    elif atom.left_operand == Operand.COMPUTATION:
        yield from _about_computations(atom, path, role, knowledge)
    elif atom.left_operand == Operand.CONTENT_VERSION:
        yield from _about_versions(atom, path, role)
    elif atom.left_operand == Operand.RELEASE:
        yield from _about_rules(atom, path, role)


def _about_regions(atom: AtomicConstraint, path: str, role: Role) -> Iterator[Remark]:
    """Uses state a region as a code, so one that is none matches no use."""
    regions = texts_of(atom.right_operand)
    names = [text for text in regions if region_code(text) is None]
    if not names:
        return
    never = atom.operator in (Operator.EQ, Operator.IS_ANY_OF) and names == regions
    then, then_zh = role.never if never else ("and it matches no use", "且不匹配任何使用")
    shown = value_text(names)
    yield Remark(
        role.never_severity if never else Severity.WARNING,
        "not-a-region",
        path,
        f"A region has to be a GB/T 2260 code, got {shown}, {then}; write a code such as 4403.",
        f"地域应为 GB/T 2260 代码，现为 {shown}，{then_zh}；请写为代码，例如 4403。",
    )


def _about_versions(atom: AtomicConstraint, path: str, role: Role) -> Iterator[Remark]:
    """A version is told as a digest, so anything else matches no state of the data."""
    versions = texts_of(atom.right_operand)
    wrong = [text for text in versions if not _VERSION.fullmatch(text)]
    if not wrong:
        return
    never = atom.operator in (Operator.EQ, Operator.IS_ANY_OF) and wrong == versions
    then, then_zh = role.never if never else ("and it matches no state", "且不匹配任何版本")
    yield Remark(
        role.never_severity if never else Severity.WARNING,
        "not-a-version",
        path,
        f"A version is sha256: and 64 hex digits, got {value_text(wrong)}, {then}; take one from "
        "the catalogue.",
        f"数据版本应为 sha256: 加 64 位十六进制数字，现为 {value_text(wrong)}，{then_zh}；"
        "请使用目录中的版本。",
    )


_VERSION: Final = re.compile(r"sha256:[0-9a-f]{64}")


def _about_rules(atom: AtomicConstraint, path: str, role: Role) -> Iterator[Remark]:
    """What is done before rows leave is what a permission wants all of; nothing else does more."""
    if role is WARNING:
        yield Remark(
            Severity.WARNING,
            "release-forbidden",
            path,
            "A prohibition cannot say what is done before rows leave; demand it in the permission, "
            "with isAllOf.",
            "禁止条款无法规定出域处理；请在许可中以 isAllOf 规定。",
        )
    elif atom.operator is not Operator.IS_ALL_OF:
        yield Remark(
            Severity.WARNING,
            "release-not-all",
            path,
            f"With {atom.operator} the clause does not say what is done before rows leave; write "
            "isAllOf, and every rule that shall be applied.",
            f"运算符 {atom.operator} 无法规定出域处理；请写为 isAllOf，并列出须采用的全部规则。",
        )


def _about_computations(
    atom: AtomicConstraint, path: str, role: Role, knowledge: Knowledge
) -> Iterator[Remark]:
    known = sorted(knowledge.computations)
    there_are = ", ".join(known) or "none"
    fits = [one for one in known if _fits(atom, one)]
    if not fits:
        then, then_zh = role.never
        yield Remark(
            role.never_severity,
            "no-such-computation",
            path,
            f"No computation of this node fits, {then}; there are {there_are}.",
            f"本节点没有符合条件的计算，{then_zh}；可用的有 {there_are}。",
        )
        return
    if atom.operator not in (Operator.EQ, Operator.IS_ANY_OF):
        return
    for name in dict.fromkeys(texts_of(atom.right_operand)):
        if name not in known:
            yield Remark(
                Severity.WARNING,
                "unknown-computation",
                path,
                f"This node has no computation {value_text(name)}; there are {there_are}.",
                f"本节点没有计算 {value_text(name)}；可用的有 {there_are}。",
            )


def _fits(atom: AtomicConstraint, computation: str) -> bool:
    return compare(ValueKind.TEXT, atom.operator, computation, atom.right_operand)


def _verify_values(kind: ValueKind, atom: AtomicConstraint) -> None:
    """Every value of a list must be readable, also those a comparison would not reach."""
    read = _READERS.get(kind)
    if read is None:
        return
    for text in texts_of(atom.right_operand):
        read(text)


_READERS: Final[Mapping[ValueKind, Callable[[str], object]]] = {
    ValueKind.NUMBER: parse_decimal,
    ValueKind.TIME: parse_moment,
    ValueKind.GRADE: grade_place,
}

_SAMPLES: Final[Mapping[ValueKind, Fact]] = {
    ValueKind.TEXT: "any",
    ValueKind.NUMBER: 1,
    ValueKind.TIME: parse_moment("2026-01-01T00:00:00Z"),
    ValueKind.REGION: "44",
    ValueKind.GRADE: "general",
    ValueKind.SET: (),
    ValueKind.CONSENT: True,
}

_EQUALITY: Final = "eq, neq, isAnyOf, isNoneOf, isAllOf"
_WRITE: Final[Mapping[ValueKind, tuple[str, str]]] = {
    ValueKind.TEXT: (
        f"{_EQUALITY}, isA, isPartOf or hasPart, and text",
        f" {_EQUALITY}、isA、isPartOf 或 hasPart，取值为文本",
    ),
    ValueKind.NUMBER: (
        f"{_EQUALITY}, gt, gteq, lt or lteq, and a plain number such as 20",
        f" {_EQUALITY}、gt、gteq、lt 或 lteq，取值为数字，例如 20",
    ),
    ValueKind.TIME: (
        f"{_EQUALITY}, gt, gteq, lt or lteq, and a moment such as 2027-06-30T16:00:00Z",
        f" {_EQUALITY}、gt、gteq、lt 或 lteq，取值为带时区的时间，例如 2027-06-30T16:00:00Z",
    ),
    ValueKind.REGION: (
        f"{_EQUALITY}, isPartOf or hasPart, and a code such as 4403",
        f" {_EQUALITY}、isPartOf 或 hasPart，取值为行政区划代码，例如 4403",
    ),
    ValueKind.GRADE: (
        f"{_EQUALITY}, gt, gteq, lt or lteq, and general, important or core",
        f" {_EQUALITY}、gt、gteq、lt 或 lteq，取值为 general、important 或 core",
    ),
    ValueKind.SET: (f"{_EQUALITY}, and text", f" {_EQUALITY}，取值为文本"),
    ValueKind.CONSENT: ("eq and required", " eq，取值为 required"),
}
