"""What the grade of a dataset and the classes of its columns bound in an offer of it.

Core data are never offered. Important data are computed on, and every agreement about them waits
for a person. Sensitive personal data, and rows that name people, need consent or another ground in
law; names leave masked or not at all unless the ground is named; and no row leaves before a person
has looked at what the columns hold. Each refusal says what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from connectors.classification import (
    CLASS_ORDER,
    ClassProposal,
    ColumnClass,
    Grade,
    GradeProposal,
)
from connectors.release import parse_rules
from contracts.comparison import region_code
from contracts.lint import Remark, Severity
from contracts.odrl import AtomicConstraint, Constraint, Offer
from contracts.planning import demands_approval, required_release
from contracts.vocabulary import CONSENT, FREQUENCIES, LEGAL_BASES, THEMES, Term
from dataspace.errors import InputRejected
from dataspace.publication import Publication

# The rules of a release after which an identifier names nobody to whom it is not known already.
_COVERS: Final = frozenset({"mask", "pseudonym"})
_OF_PEOPLE: Final = (ColumnClass.IDENTIFIER, ColumnClass.SENSITIVE_PERSONAL)


@dataclass(frozen=True)
class Bounded:
    """What the bounds are read from. `personal` says that the source keeps consents."""

    grade: Grade
    classes: Mapping[str, ColumnClass]
    confirmed: bool
    legal_basis: str | None
    personal: bool
    # By which rows may be chosen although they are not published.
    filterable: tuple[str, ...] = ()

    def columns_of(self, *classes: ColumnClass) -> list[str]:
        return [name for name, one in self.classes.items() if one in classes]


def verify_bounds(bounded: Bounded, offer: Offer, formats: Sequence[str]) -> None:
    """The offer allows no more than grade and classes do. Raises InputRejected with the remedy."""
    _verify_basis(bounded)
    if bounded.grade is Grade.IMPORTANT and not _waits_for_approval(offer):
        raise InputRejected(
            "data graded important (重要) are used only after a person has approved the agreement, "
            "and this policy asks for none",
            remedy="add the ready policy approval, or the constraint ds:approval eq required to "
            "every permission",
        )
    if formats:
        _verify_rows(bounded, offer, formats)


def verify_words(asked: Publication) -> None:
    """Theme, frequency, legal basis and division are known ones. Raises InputRejected."""
    _verify_word("theme", asked.theme, THEMES)
    _verify_word("frequency", asked.frequency, FREQUENCIES)
    _verify_word("legal_basis", asked.legal_basis, LEGAL_BASES)
    if asked.division is not None and region_code(asked.division) is None:
        raise InputRejected(
            "division: expected a GB/T 2260 code",
            remedy="2, 4 or 6 digits, or 9 or 12 for a street or a community: 440305",
        )
    if asked.blocks is not None and not asked.blocks.columns:
        raise InputRejected(
            "blocks: expected the column with a division's code or with a grid cell's",
            remedy="name division, grid or both, or leave blocks out",
        )


def verify_basis_known(legal_basis: str | None) -> None:
    """Raises InputRejected for a legal basis that PIPL does not have."""
    _verify_word("legal_basis", legal_basis, LEGAL_BASES)


def remarks_on_classes(
    classes: Mapping[str, ColumnClass], proposals: Mapping[str, ClassProposal]
) -> tuple[Remark, ...]:
    """Which columns protect less than the rules propose, and what the rules saw."""
    return tuple(
        Remark(
            Severity.WARNING,
            "class-lowered",
            f"columns[{number}].class",
            f"The column {name} is published as {one}; {proposals[name].column_class} was "
            f"proposed, because {proposals[name].reason}.",
            f"列“{name}”以 {one} 发布；系统建议为 {proposals[name].column_class}，"
            f"因为{proposals[name].reason_zh}。",
        )
        for number, (name, one) in enumerate(classes.items())
        if name in proposals
        and CLASS_ORDER.index(one) < CLASS_ORDER.index(proposals[name].column_class)
    )


def remarks_on_grade(grade: Grade, proposed: GradeProposal) -> tuple[Remark, ...]:
    """Whether the rules propose a graver grade, and why."""
    if grade is not Grade.GENERAL or proposed.grade is Grade.GENERAL:
        return ()
    return (
        Remark(
            Severity.WARNING,
            "grade-lowered",
            "grade",
            f"The data are graded {grade}; {proposed.grade} was proposed: {proposed.reason}.",
            f"数据分级为{grade.chinese}；系统建议为{proposed.grade.chinese}：{proposed.reason_zh}。",
        ),
    )


def allowances(grade: Grade, classes: Iterable[ColumnClass]) -> list[tuple[str, str]]:
    """What an offer of such data may allow, as sentences in English and Chinese."""
    held = set(classes)
    if grade is Grade.CORE:
        return [("Core data are never offered.", "核心数据不得提供。")]
    found = [("Computations may run on them.", "可用于计算。")]
    if grade is Grade.IMPORTANT:
        found = [
            ("Computations may run on them; no row leaves.", "可用于计算，数据行不得离开。"),
            ("A person approves every agreement.", "每份协议须经人工审批。"),
        ]
    if ColumnClass.SENSITIVE_PERSONAL in held:
        found.append(
            (
                "Sensitive personal data need a source that keeps consents, or a legal basis other "
                "than consent.",
                "敏感个人信息须来自留存个人同意的数据源，或注明个人同意以外的合法性基础。",
            )
        )
    if grade is Grade.GENERAL:
        found.append(
            (
                "Rows may leave once a person has confirmed the classes.",
                "分类经人工确认后，数据行方可离开。",
            )
        )
        if ColumnClass.IDENTIFIER in held:
            found.append(
                (
                    "Identifiers leave dropped, masked or as pseudonyms, unless a legal basis is "
                    "named.",
                    "除非注明合法性基础，标识列须删除、掩码或假名化后方可离开。",
                )
            )
    return found


def _verify_basis(bounded: Bounded) -> None:
    if bounded.legal_basis == CONSENT and not bounded.personal:
        raise InputRejected(
            "this source keeps no consents, so consent cannot be the legal basis",
            remedy="publish a personal source, which keeps them, or name another legal basis: "
            f"{_others()}",
        )
    sensitive = bounded.columns_of(ColumnClass.SENSITIVE_PERSONAL)
    if sensitive and not bounded.personal and bounded.legal_basis is None:
        raise InputRejected(
            f"column {sensitive[0]} holds sensitive personal data, and the source keeps no "
            "consents",
            remedy="publish a personal source, which keeps consents; or name the legal basis "
            f"({_others()}); or name the column's class if it is another",
        )


def _verify_rows(bounded: Bounded, offer: Offer, formats: Sequence[str]) -> None:
    if not bounded.confirmed:
        raise InputRejected(
            "rows leave only when a person has confirmed the classes of the columns",
            remedy="look at the proposed classes and publish with confirmed: true, or publish "
            "without formats, confirm (dataspace dataset confirm), and switch the formats on",
        )
    of_people = bounded.columns_of(*_OF_PEOPLE)
    if of_people and not bounded.personal and bounded.legal_basis is None:
        raise InputRejected(
            f"rows with column {of_people[0]} are about people, and the source keeps no consents",
            remedy="publish a personal source, which keeps consents; name the legal basis "
            f"({_others()}); or name the column's class if it is another",
        )
    if bounded.legal_basis is not None:
        return
    for format_ in formats:
        for name in _named_openly(bounded, offer, format_):
            raise InputRejected(
                f"column {name} names people, and rows would leave as {format_} with it as it is",
                remedy=f"let every permission's ds:release have {name}:drop, {name}:pseudonym or "
                f"{name}:mask(3,4), or name the legal basis",
            )


def _named_openly(bounded: Bounded, offer: Offer, format_: str) -> list[str]:
    """The identifiers that leave as they are, by the rules that are applied to such rows."""
    rules = required_release(offer, format_)
    release = parse_rules(rules, tuple(bounded.classes), filterable=bounded.filterable)
    covered = {
        name
        for name, rule in release.cells.items()
        if rule.text.rpartition(":")[2].split("(")[0] in _COVERS
    }
    identifiers = bounded.columns_of(ColumnClass.IDENTIFIER)
    return [name for name in identifiers if name in release.leaves and name not in covered]


def _waits_for_approval(offer: Offer) -> bool:
    return all(any(map(_asks_approval, one.constraint)) for one in offer.permission)


def _asks_approval(constraint: Constraint) -> bool:
    """Whether this cannot hold before a person has approved."""
    if isinstance(constraint, AtomicConstraint):
        return demands_approval(constraint)
    name, joined = constraint.joined
    several = any if name in ("and", "andSequence") else all
    return several(map(_asks_approval, joined))


def _verify_word(field: str, word: str | None, known: Mapping[str, Term]) -> None:
    if word is not None and word not in known:
        raise InputRejected(
            f"{field}: there is no {word[:80]!r}", remedy=f"choose from: {', '.join(known)}"
        )


def _others() -> str:
    return ", ".join(name for name in LEGAL_BASES if name != CONSENT)
