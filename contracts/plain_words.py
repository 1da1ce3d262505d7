"""A policy in plain words, English and Chinese: what consumers may, must not and have to do."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from contracts.names import own_clause
from contracts.odrl import Agreement, Constraint, Duty, LogicalConstraint, Offer, Operator, Rule
from contracts.planning import mentions
from contracts.profile import Operand
from contracts.wording import Language, label, operand_text, relation, value_text


def describe(policy: Offer | Agreement, language: Language = "en") -> list[str]:
    """What consumers may, must not and have to do, one sentence a rule; and which states of the
    data that is about, where no rule says so."""
    words = _WORDS[language]
    lines = [words["may"].format(rule_in_words(rule, language)) for rule in policy.permission]
    for rule in policy.prohibition:
        lines.append(words["must_not"].format(rule_in_words(rule, language)))
        lines += _duties(rule.remedy, "remedy", language)
    for permission in policy.permission:
        lines += _duties(permission.duty, "duty", language)
    lines += _duties(policy.obligation, "has_to", language)
    if policy.permission and not mentions(policy, Operand.CONTENT_VERSION):
        lines.append(words["versions"])
    return lines


def duty_sentence(path: str, duty: Duty, language: Language = "en") -> str:
    """Who has to do what, of the duty at `path` of a policy that allowed a use."""
    words, told = _WORDS[language], rule_in_words(duty, language)
    if ".consequence[" in path:
        return words["consequence"].format(told)
    if ".remedy[" in path:
        return words["owes_remedy"].format(path[: path.index(".remedy[")], told)
    return words["owes"].format(told)


def _duties(duties: Sequence[Duty], phrase: str, language: Language) -> list[str]:
    words, lines = _WORDS[language], []
    for duty in duties:
        lines.append(words[phrase].format(rule_in_words(duty, language)))
        lines += [
            words["consequence"].format(rule_in_words(one, language)) for one in duty.consequence
        ]
    return lines


_WORDS: Final[Mapping[Language, Mapping[str, str]]] = MappingProxyType(
    {
        "en": {
            "may": "May {}.",
            "must_not": "Must not {}.",
            "duty": "Whoever does so has to {}.",
            "has_to": "Has to {}.",
            "remedy": "Whoever does so all the same has to {}.",
            "consequence": "If that is not done, has to {} as well.",
            "owes": "The consumer has to {}; this decision does not check that.",
            "owes_remedy": "A consumer that infringes {} has to {}; this decision does not check "
            "that.",
            "versions": "This covers the data as they are now and as they change later.",
            "action": "{}",
            "if": "{} if {}",
            "is": "{} is {}",
            "and": ", and ",
            "or": " or ",
            "xone": "exactly one of these holds: {}",
            "list": "; ",
        },
        "zh": {
            "may": "可以{}。",
            "must_not": "不得{}。",
            "duty": "行使该许可须{}。",
            "has_to": "须{}。",
            "remedy": "如有违反，须{}。",
            "consequence": "如未履行，还须{}。",
            "owes": "使用方须{}；本次判定不检查其是否履行。",
            "owes_remedy": "使用方如违反 {}，须{}；本次判定不检查其是否履行。",
            "versions": "以上涵盖数据的现有版本及其后续版本。",
            "action": "“{}”",
            "if": "{}，条件是：{}",
            "is": "{}{}",
            "and": "，且",
            "or": " 或 ",
            "xone": "以下恰有一项成立：{}",
            "list": "；",
        },
    }
)

_ACTIONS_ZH: Final[Mapping[str, str]] = {"use": "使用数据", "delete": "删除结果"}
_ACTIONS_EN: Final[Mapping[str, str]] = {"use": "use the data", "delete": "delete the results"}


_REQUIRED: Final[Mapping[str, Mapping[Language, str]]] = {
    Operand.CONSENT: {"en": "the people concerned consent", "zh": "数据主体单独同意"},
    Operand.APPROVAL: {
        "en": "a person at the provider approves the agreement",
        "zh": "提供方人工审批通过",
    },
}


def rule_in_words(rule: Rule, language: Language = "en") -> str:
    """What a rule is about, without saying what kind of rule: `use the data if …`."""
    words = _WORDS[language]
    actions = _ACTIONS_EN if language == "en" else _ACTIONS_ZH
    action = actions.get(rule.action)
    if action is None:
        action = words["action"].format(value_text(rule.action))
    if not rule.constraint:
        return action
    conditions = words["and"].join(condition_in_words(each, language) for each in rule.constraint)
    return words["if"].format(action, conditions)


def condition_in_words(constraint: Constraint, language: Language = "en") -> str:
    """A constraint as a clause of a sentence: `the purpose is research`."""
    words = _WORDS[language]
    if isinstance(constraint, LogicalConstraint):
        name, joined = constraint.joined
        parts = [condition_in_words(each, language) for each in joined]
        if name == "xone":
            return words["xone"].format(words["list"].join(parts))
        joiner = words["or"] if name == "or" else words["and"]
        return f"({joiner.join(parts)})"
    operand = constraint.left_operand
    expected = operand_text(operand, constraint.right_operand, language)
    # These have one value, and "is required" reads better in words of its own.
    required = constraint.operator is Operator.EQ and expected == "required"
    if operand in _REQUIRED and required:
        return _REQUIRED[operand][language]
    own = own_clause(operand, constraint.operator, expected, language)
    if own is not None:
        return own
    phrase = relation(operand, constraint.operator, expected, language)
    return words["is"].format(label(operand, language), phrase)
