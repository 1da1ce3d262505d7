"""Is one policy at least as strict as another: does the other allow whatever this one allows?

The answer True is a proof, drawn from what each clause's values imply (`contracts.implication`);
the answer False says what could not be proved, which for ordinary policies is where they differ. It
decides which terms a provider agrees to without asking, so what cannot be told counts as a
difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.implication import Case, Clause, cases_of, conjuncts, refuted, understood
from contracts.odrl import (
    Agreement,
    AtomicConstraint,
    Constraint,
    Duty,
    Offer,
    Permission,
    Prohibition,
    same_terms,
    unknown_terms,
    unread_terms,
)
from contracts.plain_words import condition_in_words, rule_in_words
from contracts.profile import PROFILE
from contracts.wording import relation, value_text


@dataclass(frozen=True)
class Difference:
    """One thing that could not be proved: the clause's path, and a sentence in two languages.

    `path` is in the reference where something of it is missing, else in the candidate.
    """

    path: str
    sentence: str
    sentence_zh: str

    def between(self, candidate: str, reference: str) -> str:
        """The English sentence with the two policies by these names: `The published offer`."""
        named = self.sentence.replace("the candidate", candidate, 1)
        return named.replace("The reference", reference, 1)


@dataclass(frozen=True)
class Strictness:
    """Whether the candidate is at least as strict, and if not, why not."""

    reasons: tuple[Difference, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether whatever the candidate allows, the reference allows too."""
        return not self.reasons


def compare(candidate: Offer | Agreement, reference: Offer | Agreement) -> Strictness:
    """Whether `candidate` is at least as strict as `reference`; both are about one dataset."""
    differences = [*_whole_policy(candidate, reference)]
    if not _same(candidate, reference):
        wanted = [
            _Wanted(rule, f"permission[{i}]", reference)
            for i, rule in enumerate(reference.permission)
        ]
        bans = [_Ban(rule, f"prohibition[{i}]") for i, rule in enumerate(reference.prohibition)]
        own_bans = [_Ban(rule, "") for rule in candidate.prohibition]
        for number, rule in enumerate(candidate.permission):
            given = _Given(rule, f"permission[{number}]", candidate)
            differences += _permission(given, wanted)
            differences += _prohibitions(given, own_bans, bans)
        differences += _remedies(own_bans, bans)
        differences += _duties(
            reference.obligation, candidate.obligation, "obligation", "the policy", "该策略"
        )
    return Strictness(tuple(dict.fromkeys(differences)))


def _same(candidate: Offer | Agreement, reference: Offer | Agreement) -> bool:
    # Where a rule repeats its policy's target or parties, these decide whether it can be read.
    return same_terms(candidate, reference) and all(
        not unread_terms(rule, policy)
        for policy in (candidate, reference)
        for rule in (*policy.permission, *policy.prohibition)
    )


class _Given:
    """A permission of the candidate, and the cases in which it can hold and nothing forbids it."""

    def __init__(self, rule: Permission, path: str, candidate: Offer | Agreement) -> None:
        self.rule, self.path = rule, path
        cases = cases_of(understood([*rule.constraint, *_left_by_bans(rule, candidate)]))
        # With a term that nothing reads, a permission never holds.
        readable = not unread_terms(rule, candidate)
        self.cases = [case for case in cases if case.possible and readable]


def _left_by_bans(rule: Permission, policy: Offer | Agreement) -> list[Constraint]:
    """What holds of every use that the prohibitions on one condition leave."""
    found = [
        refuted(ban.constraint[0])
        for ban in policy.prohibition
        if ban.action in (rule.action, "use") and len(ban.constraint) == 1
        if not unknown_terms(ban)
    ]
    return [constraint for constraint in found if constraint is not None]


class _Wanted:
    """A permission of the reference."""

    def __init__(self, rule: Permission, path: str, reference: Offer | Agreement) -> None:
        self.rule, self.path = rule, path
        self.clauses = understood(rule.constraint)
        self.unread = unread_terms(rule, reference)


class _Ban:
    """A prohibition, and the cases in which none of its conditions fails."""

    def __init__(self, rule: Prohibition, path: str) -> None:
        self.rule, self.path = rule, path
        self.clauses = understood(rule.constraint)
        self.cases = cases_of(self.clauses)


def _whole_policy(candidate: Offer | Agreement, reference: Offer | Agreement) -> list[Difference]:
    found = []
    if reference.assignee is not None and candidate.assignee != reference.assignee:
        found.append(
            Difference(
                "assignee",
                "The reference is for one recipient; the candidate is for another or for anyone.",
                "参照策略只面向特定接收方，而候选策略面向其他或任意接收方。",
            )
        )
    # A profile nobody here knows makes a policy refuse everything.
    if {*reference.profiles} - {PROFILE} - {*candidate.profiles}:
        found.append(
            Difference(
                "profile",
                "The reference is written in a profile that the candidate does not name.",
                "参照策略使用了候选策略未声明的配置文件。",
            )
        )
    if unknown_terms(candidate) != unknown_terms(reference):
        found.append(
            Difference(
                "policy",
                "One of the two has terms of its own that this space does not know.",
                "其中一方包含本空间无法识别的条款。",
            )
        )
    return found


def _permission(given: _Given, wanted: Sequence[_Wanted]) -> list[Difference]:
    """What keeps a permission of the candidate from being covered by the reference's."""
    alike = [one for one in wanted if one.rule.action == given.rule.action]
    if not given.cases:
        return []
    if not alike:
        action = value_text(given.rule.action)
        return [
            Difference(
                given.path,
                f"The reference has no permission for the action {action}.",
                f"参照策略没有对动作 {action} 的许可。",
            )
        ]
    beside = {one.path: _beside_constraints(given, one) for one in alike}
    fit = [one for one in alike if not beside[one.path]]
    # Each case may be what another permission of the reference is for.
    if all(any(_holds(one.clauses, case) for one in fit) for case in given.cases):
        return []
    attempts = [[*beside[one.path], *_missing_constraints(given, one)] for one in alike]
    return min(attempts, key=len)


def _holds(clauses: Sequence[Clause], case: Case) -> bool:
    return all(case.truth(clause) is True for clause in clauses)


def _missing_constraints(given: _Given, wanted: _Wanted) -> list[Difference]:
    return [
        _missing(constraint, f"{wanted.path}.constraint[{number}]", given.rule)
        for number, (constraint, clause) in enumerate(
            zip(wanted.rule.constraint, wanted.clauses, strict=True)
        )
        if not all(case.truth(clause) is True for case in given.cases)
    ]


def _beside_constraints(given: _Given, wanted: _Wanted) -> list[Difference]:
    """Differences between two permissions that no use could make up for."""
    found = _duties(
        wanted.rule.duty, given.rule.duty, f"{wanted.path}.duty", "the permission", "该许可"
    )
    if wanted.unread or unknown_terms(given.rule) != unknown_terms(wanted.rule):
        found.append(
            Difference(
                wanted.path,
                "One of the two permissions has terms of its own that this space does not know.",
                "其中一项许可包含本空间无法识别的条款。",
            )
        )
    return found


def _prohibitions(given: _Given, own: Sequence[_Ban], wanted: Sequence[_Ban]) -> list[Difference]:
    """Prohibitions of the reference that could stop what is permitted and nothing here does."""
    found = []
    for ban in wanted:
        if ban.rule.action not in (given.rule.action, "use"):
            continue
        stopping = [one for one in own if _could_cover(one.rule, ban.rule, given.rule.action)]
        if all(_kept(ban, case, stopping) for case in given.cases):
            continue
        found.append(
            Difference(
                ban.path,
                f"The reference forbids to {rule_in_words(ban.rule)}; the candidate does not.",
                f"参照策略禁止{rule_in_words(ban.rule, 'zh')}，候选策略没有该禁止条款。",
            )
        )
    return found


def _remedies(own: Sequence[_Ban], wanted: Sequence[_Ban]) -> list[Difference]:
    """What whoever infringes a prohibition owes under the reference and not under the candidate."""
    found = []
    for ban in wanted:
        action = ban.rule.action
        alike = [
            one
            for one in own
            if _could_cover(one.rule, ban.rule, action)
            and all(_applies(clause, Case(), ban) for clause in one.clauses)
        ]
        have = [duty.to_json() for one in alike for duty in one.rule.remedy]
        for number, duty in enumerate(ban.rule.remedy):
            if duty.to_json() not in have:
                owed = value_text(duty.action)
                found.append(
                    Difference(
                        f"{ban.path}.remedy[{number}]",
                        f"The reference obliges whoever infringes it to {owed}; the candidate "
                        "does not.",
                        f"参照策略规定违反者须履行“{owed}”，候选策略没有。",
                    )
                )
    return found


def _could_cover(own: Prohibition, wanted: Prohibition, action: str) -> bool:
    return own.action in (action, "use") and unknown_terms(own) == unknown_terms(wanted)


def _kept(wanted: _Ban, case: Case, own: Sequence[_Ban]) -> bool:
    """Whether in `case` the prohibition `wanted` cannot apply, or one of `own` applies with it."""
    if any(case.truth(clause) is False for clause in wanted.clauses):
        return True
    return any(all(_applies(clause, case, wanted) for clause in one.clauses) for one in own)


def _applies(clause: Clause, case: Case, wanted: _Ban) -> bool:
    """Whether `clause` does not fail where `case` holds and no condition of `wanted` fails."""
    return case.truth(clause) is True or all(other.truth(clause) is True for other in wanted.cases)


def _duties(
    wanted: Sequence[Duty], given: Sequence[Duty], path: str, whose: str, whose_zh: str
) -> list[Difference]:
    have = [duty.to_json() for duty in given]
    found = [
        Difference(
            f"{path}[{number}]",
            f"The reference obliges to {value_text(duty.action)}; the candidate does not.",
            f"参照策略规定了义务“{value_text(duty.action)}”，候选策略没有。",
        )
        for number, duty in enumerate(wanted)
        if duty.to_json() not in have
    ]
    known = [duty.to_json() for duty in wanted]
    # A duty more binds the consumer more, unless it is somebody else's.
    if any(unknown_terms(duty) and duty.to_json() not in known for duty in given):
        found.append(
            Difference(
                path,
                f"A duty of {whose} has terms that this space does not know.",
                f"{whose_zh}的某项义务包含本空间无法识别的条款。",
            )
        )
    return found


def _missing(constraint: Constraint, path: str, rule: Permission) -> Difference:
    needs, needs_zh = condition_in_words(constraint), condition_in_words(constraint, "zh")
    own: list[AtomicConstraint] = []
    if isinstance(constraint, AtomicConstraint):
        operand = constraint.left_operand
        own = [one for one in conjuncts(rule.constraint) if one.left_operand == operand]
    if not own:
        return Difference(
            path,
            f"The reference demands that {needs}; the candidate does not.",
            f"参照策略要求{needs_zh}，候选策略未作此要求。",
        )
    has = " and ".join(relation(one.left_operand, one.operator, _text(one)) for one in own)
    has_zh = "且".join(relation(one.left_operand, one.operator, _text(one), "zh") for one in own)
    return Difference(
        path,
        f"The reference demands that {needs}; the candidate demands {has}.",
        f"参照策略要求{needs_zh}，候选策略要求{has_zh}。",
    )


def _text(atom: AtomicConstraint) -> str:
    return value_text(atom.right_operand)
