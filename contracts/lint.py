"""What is wrong or odd about a policy before anybody meets it.

An error is a policy that cannot do what it says: it allows nothing, or a clause can never hold. A
warning is a clause that does nothing, or less than it seems to. A note is worth knowing.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from contracts.domains import Domain, Values, apart, domain_of
from contracts.implication import Case, Clause, cases_of, conjuncts, understood
from contracts.lint_clauses import (
    DEMAND,
    WARNING,
    Knowledge,
    Remark,
    Severity,
    about_constraint,
)
from contracts.odrl import (
    Agreement,
    AtomicConstraint,
    LogicalConstraint,
    Offer,
    Permission,
    Prohibition,
    Rule,
    unread_terms,
)
from contracts.plain_words import condition_in_words
from contracts.planning import conflicting_rules, rows_could_leave
from contracts.profile import PROFILE, Grade, Operand, ValueKind
from contracts.transfer_strategy import RAW_FORMATS
from contracts.wording import label, value_text

__all__ = ["Knowledge", "Remark", "Severity", "lint"]


def lint(policy: Offer | Agreement, knowledge: Knowledge) -> tuple[Remark, ...]:
    """Everything to say about `policy`, in the order of its rules."""
    return tuple(_remarks(policy, knowledge))


def _remarks(policy: Offer | Agreement, knowledge: Knowledge) -> Iterator[Remark]:
    yield from _about_whole(policy)
    for number, permission in enumerate(policy.permission):
        path = f"permission[{number}]"
        yield from _about_conditions(permission, path, policy, knowledge)
        yield from _about_permission(permission, path, policy, knowledge)
    for number, prohibition in enumerate(policy.prohibition):
        path = f"prohibition[{number}]"
        yield from _about_conditions(prohibition, path, policy, knowledge)
        yield from _about_duties(prohibition.remedy, f"{path}.remedy")
    yield from _about_duties(policy.obligation, "obligation")


def _about_whole(policy: Offer | Agreement) -> Iterator[Remark]:
    for profile in policy.profiles:
        if profile != PROFILE:
            yield Remark(
                Severity.ERROR,
                "unknown-profile",
                "profile",
                f"The profile {value_text(profile)} is not known here, so every use is refused; "
                f"write {PROFILE}.",
                f"无法识别配置文件 {value_text(profile)}，所有使用都将被拒绝；请使用 {PROFILE}。",
            )
    if not policy.permission:
        yield Remark(
            Severity.ERROR,
            "permits-nothing",
            "permission",
            "The policy has no permission, so it allows nothing; add one.",
            "策略没有任何许可，因此不允许任何使用；请添加许可。",
        )

    yield from _unread(policy, "policy", None, "so every use is refused", "所有使用都将被拒绝")
    if policy.inherit_from is not None:
        yield Remark(
            Severity.ERROR,
            "inherits",
            "inheritFrom",
            "The rules of another policy shall hold here and are not read, so every use is "
            "refused; write them out here.",
            "策略继承自其他策略，而本空间不读取被继承的规则，所有使用都将被拒绝；请将规则直接写入。",
        )
    if policy.conflict is not None:
        yield from _about_conflict(policy)


def _about_conflict(policy: Offer | Agreement) -> Iterator[Remark]:
    strategy = policy.conflict_strategy
    if strategy == "perm":
        yield Remark(
            Severity.WARNING,
            "prohibitions-win",
            "conflict",
            "A prohibition wins over a permission here whatever the policy says; write prohibit.",
            "本空间始终以禁止条款优先；请写为 prohibit。",
        )
    elif strategy == "invalid":
        both = conflicting_rules(policy)
        if both:
            yield Remark(
                Severity.ERROR,
                "void",
                "conflict",
                f"{both[0]} and {both[1]} can both apply, which makes the policy void, so every "
                "use is refused; write prohibit, or keep the two apart.",
                f"{both[0]} 与 {both[1]} 可能同时适用，策略因此无效，所有使用都将被拒绝；"
                "请写为 prohibit，或使两者互不重叠。",
            )
    elif strategy != "prohibit":
        yield Remark(
            Severity.ERROR,
            "unknown-conflict",
            "conflict",
            "Nobody here knows this way to resolve conflicts, so every use is refused; write "
            "prohibit.",
            "无法识别该冲突处理方式，所有使用都将被拒绝；请写为 prohibit。",
        )


def _unread(
    part: Offer | Agreement | Rule,
    path: str,
    policy: Offer | Agreement | None,
    then: str,
    then_zh: str,
) -> Iterator[Remark]:
    names = ", ".join(value_text(name) for name in unread_terms(part, policy))
    if names:
        yield Remark(
            Severity.ERROR,
            "unread-terms",
            path,
            f"No decision reads {names}, {then}; drop them.",
            f"系统不读取条款 {names}，{then_zh}；请删除。",
        )


def _about_conditions(
    rule: Permission | Prohibition, path: str, policy: Offer | Agreement, knowledge: Knowledge
) -> Iterator[Remark]:
    """Remarks on the constraints of a rule, each alone and then together."""
    forbids = isinstance(rule, Prohibition)
    yield from _unread(rule, path, policy, *(WARNING if forbids else DEMAND).unjudged)
    for number, constraint in enumerate(rule.constraint):
        place = f"{path}.constraint[{number}]"
        role = WARNING if forbids else DEMAND
        yield from about_constraint(constraint, place, role, knowledge)
    clauses = understood(rule.constraint)
    cases = [case for case in cases_of(clauses) if case.possible]
    if cases:
        yield from _dead_alternatives(rule, path, clauses)
        yield from _redundant(rule, path, clauses)
        yield from _expired(rule, path, cases, knowledge.now)
    elif not any(_is_impossible(atom) for atom in conjuncts(rule.constraint)):
        yield _contradiction(rule, path, cases_of(clauses))


def _is_impossible(atom: AtomicConstraint) -> bool:
    values = domain_of(atom)
    return values is not None and values.empty


def _contradiction(rule: Rule, path: str, cases: Sequence[Case]) -> Remark:
    forbids = isinstance(rule, Prohibition)
    torn = sorted(name for name, values in cases[0].values.items() if values.empty)
    what, what_zh = (
        ", ".join(label(one) for one in torn),
        "、".join(label(one, "zh") for one in torn),
    )
    then = "so the prohibition does nothing" if forbids else "so the permission never holds"
    then_zh = "该禁止条款不起作用" if forbids else "该许可永远无法满足"
    return Remark(
        Severity.WARNING if forbids else Severity.ERROR,
        "contradiction",
        path,
        f"What is demanded of {what} excludes itself, {then}; drop one of the clauses.",
        f"对{what_zh}的要求相互矛盾，{then_zh}；请删除其中一条。",
    )


def _dead_alternatives(rule: Rule, path: str, clauses: Sequence[Clause]) -> Iterator[Remark]:
    """Branches of an `or` or `xone` that the rest of the rule excludes."""
    for number, (constraint, clause) in enumerate(zip(rule.constraint, clauses, strict=True)):
        if not isinstance(constraint, LogicalConstraint) or clause.join not in ("or", "xone"):
            continue
        rest = [*clauses[:number], *clauses[number + 1 :]]
        for branch, part in enumerate(clause.parts):
            alone = any(case.possible for case in cases_of([part]))
            if alone and not any(case.possible for case in cases_of([*rest, part])):
                yield Remark(
                    Severity.WARNING,
                    "dead-alternative",
                    f"{path}.constraint[{number}].{clause.join}[{branch}]",
                    "The other clauses of the rule exclude this alternative; drop it.",
                    "该规则的其他条款已排除此选项；请删除。",
                )


def _redundant(rule: Rule, path: str, clauses: Sequence[Clause]) -> Iterator[Remark]:
    """Clauses that say no more than the others; of equal ones all but the first."""
    kept = list(enumerate(clauses))
    found = []
    for number, clause in reversed(kept[:]):
        others = [one for place, one in kept if place != number]
        if all(case.truth(clause) is True for case in cases_of(others)):
            kept = [(place, one) for place, one in kept if place != number]
            found.append(number)
    for number in reversed(found):
        words = condition_in_words(rule.constraint[number])
        words_zh = condition_in_words(rule.constraint[number], "zh")
        yield Remark(
            Severity.WARNING,
            "redundant",
            f"{path}.constraint[{number}]",
            f"That {words} follows from the rest of the rule; drop the clause.",
            f"“{words_zh}”已由该规则的其余部分涵盖；请删除该条款。",
        )


def _expired(rule: Rule, path: str, cases: Sequence[Case], now: datetime) -> Iterator[Remark]:
    """A rule that can hold at no moment from `now` on."""
    future = Domain(ValueKind.TIME, lower=(now, True))
    times = [case.values.get(Operand.DATE_TIME) for case in cases]
    if not all(values is not None and apart(values, future) for values in times):
        return
    end = max(moment for values in times for moment in _last_moments(values)).isoformat()
    place = next(
        (
            f"{path}.constraint[{number}]"
            for number, one in enumerate(rule.constraint)
            if isinstance(one, AtomicConstraint)
            and one.left_operand == Operand.DATE_TIME
            and (values := domain_of(one)) is not None
            and apart(values, future)
        ),
        path,
    )
    if isinstance(rule, Prohibition):
        yield Remark(
            Severity.WARNING,
            "expired",
            place,
            f"The prohibition ended at {end} and does nothing any more; drop it.",
            f"该禁止条款已于 {end} 失效，不再起作用；请删除。",
        )
        return
    yield Remark(
        Severity.ERROR,
        "expired",
        place,
        f"The time of use ended at {end}; name a later date.",
        f"使用期限已于 {end} 结束；请指定更晚的日期。",
    )


def _last_moments(values: Values | None) -> list[datetime]:
    if not isinstance(values, Domain):
        return []
    moments = [] if values.allowed is None else [*values.allowed]
    return [*moments, *([values.upper[0]] if values.upper is not None else [])]


def _about_permission(
    rule: Permission, path: str, policy: Offer | Agreement, knowledge: Knowledge
) -> Iterator[Remark]:
    cases = [case for case in cases_of(understood(rule.constraint)) if case.possible]
    if cases:
        yield from _prohibited(rule, path, policy, cases)
        yield from _about_release(path, cases, knowledge)
        yield from _advice(path, cases, knowledge)
    if rule.action != "use":
        yield Remark(
            Severity.WARNING,
            "never-asked",
            path,
            f"Nobody asks for the action {value_text(rule.action)}; permit use.",
            f"没有任何请求使用动作 {value_text(rule.action)}；请许可 use。",
        )
    yield from _about_duties(rule.duty, f"{path}.duty")


def _prohibited(
    rule: Permission, path: str, policy: Offer | Agreement, cases: Sequence[Case]
) -> Iterator[Remark]:
    """Prohibitions that apply whenever the permission holds."""
    for number, prohibition in enumerate(policy.prohibition):
        clauses = understood(prohibition.constraint)
        if prohibition.action in (rule.action, "use") and all(
            case.truth(clause) is True for case in cases for clause in clauses
        ):
            yield Remark(
                Severity.ERROR,
                "wholly-prohibited",
                path,
                f"prohibition[{number}] forbids all that this permission allows; narrow it or "
                "drop the permission.",
                f"prohibition[{number}] 禁止了该许可允许的全部使用；请缩小禁止范围或删除该许可。",
            )


def _about_release(path: str, cases: Sequence[Case], knowledge: Knowledge) -> Iterator[Remark]:
    """What is done before rows leave is demanded of a permission by which none can."""
    treated = [case for case in cases if Operand.RELEASE in case.values]
    formats = [one for one in knowledge.computations if one in RAW_FORMATS]
    dead = [case for case in treated if not any(rows_could_leave(case, one) for one in formats)]
    if dead:
        never = len(dead) == len(cases)
        then, then_zh = ("so it never holds", "该许可永远无法满足")
        if not never:
            then, then_zh = ("so that alternative never holds", "该选项永远无法满足")
        yield Remark(
            Severity.ERROR if never else Severity.WARNING,
            "release-without-rows",
            path,
            f"The permission says what is done before rows leave, and lets none leave, {then}; "
            f"publish the data in {' or '.join(RAW_FORMATS)}, and give computations, cohorts and "
            "privacy budgets a permission of their own.",
            f"该许可规定了出域处理，但不允许数据行离开，{then_zh}；请以 {' 或 '.join(RAW_FORMATS)} "
            "格式发布，并将计算方式、最小群体人数和隐私预算写入另一项许可。",
        )
    beside = sorted({name for case in treated if case not in dead for name in _computations(case)})
    if beside:
        names = value_text(beside)
        yield Remark(
            Severity.WARNING,
            "release-of-computation",
            path,
            f"No rows leave in a computation, so {names} is never permitted here; give "
            "computations a permission of their own.",
            f"计算中没有数据行离开，因此该许可永远不允许 {names}；请将计算方式写入另一项许可。",
        )


def _computations(case: Case) -> list[str]:
    """The computations that a case names, formats of rows apart."""
    named = case.values.get(Operand.COMPUTATION)
    if not isinstance(named, Domain) or named.allowed is None:
        return []
    return [one for one in named.allowed if named.has(one) and one not in RAW_FORMATS]


def _advice(path: str, cases: Sequence[Case], knowledge: Knowledge) -> Iterator[Remark]:
    """What a permission leaves open that its author may have meant to close."""
    if any(_rows_may_leave(case) for case in cases):
        yield Remark(Severity.NOTE, "rows-may-leave", path, *_ROWS_MAY_LEAVE)
    if not all(_has_end(case) for case in cases):
        yield Remark(Severity.NOTE, "no-end", path, *_NO_END)
    if knowledge.grade in (None, Grade.GENERAL):
        return
    if not all(Operand.PURPOSE in case.values for case in cases):
        yield Remark(Severity.NOTE, "no-purpose", path, *_NO_PURPOSE)
    if not all({Operand.MIN_COHORT, Operand.RELEASE} & case.values.keys() for case in cases):
        yield Remark(Severity.NOTE, "no-cohort", path, *_NO_COHORT)


def _rows_may_leave(case: Case) -> bool:
    """Whether a transfer of rows could meet the clauses although they do not name its format."""
    # Such a transfer states no cohort and no noise; who says what is done before means rows.
    if {Operand.MIN_COHORT, Operand.EPSILON_BUDGET, Operand.RELEASE} & case.values.keys():
        return False
    grades = case.values.get(Operand.GRADE)
    if isinstance(grades, Domain) and grades.allowed == frozenset({Grade.GENERAL}):
        return False
    computations = case.values.get(Operand.COMPUTATION)
    if not isinstance(computations, Domain):
        return True
    named = computations.allowed is not None
    return not named and any(computations.has(one) for one in RAW_FORMATS)


def _has_end(case: Case) -> bool:
    times = case.values.get(Operand.DATE_TIME)
    return isinstance(times, Domain) and (times.upper is not None or times.allowed is not None)


def _about_duties(duties: Sequence[Rule], path: str) -> Iterator[Remark]:
    for number, duty in enumerate(duties):
        yield Remark(
            Severity.NOTE,
            "duty-unchecked",
            f"{path}[{number}]",
            f"Nothing checks that the duty to {value_text(duty.action)} is done; it is shown.",
            f"系统不检查义务“{value_text(duty.action)}”是否履行，仅予展示。",
        )


_ROWS_MAY_LEAVE: Final = (
    "No clause names computations, so the rows themselves may leave where the dataset is published "
    "in such a format; name computations to keep them here.",
    "没有条款限定计算方式；若数据集以原始格式发布，数据本身可被提取；请限定计算方式。",
)
_NO_END: Final = (
    "The permission names no last moment of use, so an agreement ends only by hand; name one with "
    "dateTime lteq.",
    "该许可未规定使用截止时间，协议只能人工终止；请用 dateTime lteq 规定。",
)
_NO_PURPOSE: Final = (
    "The data are not graded general, and the permission names no purpose; name those it is for.",
    "数据不属于一般级，而该许可未限定用途；请指定用途。",
)
_NO_COHORT: Final = (
    "The data are not graded general, and the permission demands no minimum cohort; demand one of "
    "at least 20 where results are about people.",
    "数据不属于一般级，而该许可未规定最小群体人数；若结果涉及个人，请规定不少于 20 人。",
)
