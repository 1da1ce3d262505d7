"""The phrases that decisions and policies are put into words with, English and Chinese.

`contracts.wording` says which phrase is used when; `fill` puts values into their places.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from string import Formatter
from types import MappingProxyType
from typing import Final, Literal

from contracts.comparison import Why
from contracts.odrl import Operator
from contracts.profile import Grade, Operand

Language = Literal["en", "zh"]

# Between a Chinese and a Latin letter stands a space, whichever of them is the value's.
_CHINESE: Final = r"[\u4e00-\u9fff]"
_LATIN: Final = r"[A-Za-z0-9\[\]]"
_TOUCHING: Final = re.compile(f"{_CHINESE}{_LATIN}|{_LATIN}{_CHINESE}")


def fill(phrase: str, *values: object) -> str:
    """`phrase` with `values` in its places `{}` or `{0}`, apart from it as Chinese is printed."""
    text, number = "", 0
    for literal, place in _pieces(phrase):
        text = _beside(text, literal)
        if place is not None:
            text = _beside(text, str(values[int(place) if place else number]))
            number += 1
    return text


@lru_cache(maxsize=512)
def _pieces(phrase: str) -> list[tuple[str, str | None]]:
    return [(literal, place) for literal, place, _, _ in Formatter().parse(phrase)]


def _beside(text: str, more: str) -> str:
    return f"{text} {more}" if _TOUCHING.match(text[-1:] + more[:1]) else text + more


Phrases = Mapping[Language, Mapping[str, str]]

SEPARATOR: Final[Mapping[Language, str]] = {"en": ", ", "zh": "、"}

# A comparison without its subject: `at least 20`.
RELATIONS: Final[Phrases] = MappingProxyType(
    {
        "en": {
            Operator.EQ: "{}",
            Operator.NEQ: "other than {}",
            Operator.GT: "more than {}",
            Operator.GTEQ: "at least {}",
            Operator.LT: "less than {}",
            Operator.LTEQ: "at most {}",
            Operator.IS_ANY_OF: "one of {}",
            Operator.IS_NONE_OF: "none of {}",
            Operator.IS_ALL_OF: "all of {}",
            Operator.IS_A: "a kind of {}",
            Operator.IS_PART_OF: "within {}",
            Operator.HAS_PART: "a whole that contains {}",
        },
        "zh": {
            Operator.EQ: "为{}",
            Operator.NEQ: "不为{}",
            Operator.GT: "超过{}",
            Operator.GTEQ: "不小于{}",
            Operator.LT: "小于{}",
            Operator.LTEQ: "不超过{}",
            Operator.IS_ANY_OF: "为{}之一",
            Operator.IS_NONE_OF: "不为{}中的任何一个",
            Operator.IS_ALL_OF: "同时为{}",
            Operator.IS_A: "属于{}类",
            Operator.IS_PART_OF: "在{}范围内",
            Operator.HAS_PART: "包含{}",
        },
    }
)
# The same for operands whose order has words of its own.
OWN_RELATIONS: Final[Mapping[Language, Mapping[str, Mapping[str, str]]]] = MappingProxyType(
    {
        "en": {
            Operand.DATE_TIME: {
                Operator.GT: "after {}",
                Operator.GTEQ: "{} or later",
                Operator.LT: "before {}",
                Operator.LTEQ: "{} or earlier",
            },
        },
        "zh": {
            Operand.DATE_TIME: {
                Operator.GT: "晚于{}",
                Operator.GTEQ: "不早于{}",
                Operator.LT: "早于{}",
                Operator.LTEQ: "不晚于{}",
            },
            Operand.GRADE: {
                Operator.GT: "高于{}",
                Operator.GTEQ: "不低于{}",
                Operator.LT: "低于{}",
                Operator.LTEQ: "不高于{}",
            },
        },
    }
)
# Clauses of which the whole reads better in words of its own: `rows leave only after: name:drop`.
OWN_CLAUSES: Final[Mapping[Language, Mapping[str, Mapping[str, str]]]] = MappingProxyType(
    {
        "en": {Operand.RELEASE: {Operator.IS_ALL_OF: "rows leave only after: {}"}},
        "zh": {Operand.RELEASE: {Operator.IS_ALL_OF: "数据行只有经过以下出域处理才能离开：{}"}},
    }
)
# What was found, where `it is {}` says too little; and that nothing was.
OWN_FINDINGS: Final[Mapping[Language, Mapping[str, tuple[str, str]]]] = MappingProxyType(
    {
        "en": {Operand.RELEASE: ("the provider applies {}", "the provider applies none")},
        "zh": {Operand.RELEASE: ("提供方所作的处理为{}", "提供方不作任何处理")},
    }
)
# English demands by `must be` before the relation; Chinese has a word for each.
DEMANDS_ZH: Final[Mapping[str, str]] = MappingProxyType(
    {
        Operator.EQ: "必须是{}",
        Operator.NEQ: "不得是{}",
        Operator.GT: "必须超过{}",
        Operator.GTEQ: "不得小于{}",
        Operator.LT: "必须小于{}",
        Operator.LTEQ: "不得超过{}",
        Operator.IS_ANY_OF: "必须是{}之一",
        Operator.IS_NONE_OF: "不得是{}中的任何一个",
        Operator.IS_ALL_OF: "必须同时是{}",
        Operator.IS_A: "必须属于{}类",
        Operator.IS_PART_OF: "必须在{}范围内",
        Operator.HAS_PART: "必须包含{}",
    }
)
OWN_DEMANDS_ZH: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        Operand.DATE_TIME: {
            Operator.GT: "必须晚于{}",
            Operator.GTEQ: "不得早于{}",
            Operator.LT: "必须早于{}",
            Operator.LTEQ: "不得晚于{}",
        },
        Operand.GRADE: {
            Operator.GT: "必须高于{}",
            Operator.GTEQ: "不得低于{}",
            Operator.LT: "必须低于{}",
            Operator.LTEQ: "不得高于{}",
        },
    }
)
# For operators that have no meaning here, such as the protocol's `term-lteq`.
OTHER_RELATION: Final[Mapping[Language, str]] = {"en": "“{0}” {1}", "zh": "满足“{0}” {1}"}
OTHER_DEMAND_ZH: Final = "必须满足“{0}” {1}"
# What to ask for, where the consumer can choose: the noun is the first, the value the second.
CHOICES: Final[Phrases] = MappingProxyType(
    {
        "en": {
            Operator.EQ: "the {} {}",
            Operator.NEQ: "a {} other than {}",
            Operator.IS_ANY_OF: "one of the {}s {}",
            Operator.IS_NONE_OF: "a {} other than {}",
            Operator.IS_ALL_OF: "the {} {}",
            Operator.IS_A: "a {} within {}",
            Operator.IS_PART_OF: "a {} within {}",
            Operator.HAS_PART: "a {} that contains {}",
        },
        "zh": {
            Operator.EQ: "{1}",
            Operator.NEQ: "{1}以外的{0}",
            Operator.IS_ANY_OF: "{1}之一",
            Operator.IS_NONE_OF: "{1}以外的{0}",
            Operator.IS_ALL_OF: "{1}",
            Operator.IS_A: "{1}范围内的{0}",
            Operator.IS_PART_OF: "{1}范围内的{0}",
            Operator.HAS_PART: "包含{1}的{0}",
        },
    }
)
NOUNS: Final[Phrases] = MappingProxyType(
    {
        "en": {
            Operand.PURPOSE: "purpose",
            Operand.COMPUTATION: "computation",
            Operand.SPATIAL: "region",
        },
        "zh": {
            Operand.PURPOSE: "用途",
            Operand.COMPUTATION: "计算方式",
            Operand.SPATIAL: "地域",
        },
    }
)

# Operands of which a policy can only say that they are required.
REQUIRED: Final[Phrases] = MappingProxyType(
    {
        "en": {
            Operand.CONSENT: "Separate consent is required",
            Operand.APPROVAL: "A person's approval is required",
        },
        "zh": {
            Operand.CONSENT: "须取得数据主体的单独同意",
            Operand.APPROVAL: "须经提供方人工审批",
        },
    }
)
GIVEN: Final[Phrases] = MappingProxyType(
    {
        "en": {
            Operand.CONSENT: "there is separate consent",
            Operand.APPROVAL: "a person has approved",
        },
        "zh": {Operand.CONSENT: "已取得单独同意", Operand.APPROVAL: "已通过人工审批"},
    }
)
# As a value, and as the end of a sentence.
STATES: Final[Mapping[Language, Mapping[tuple[str, bool], tuple[str, str]]]] = MappingProxyType(
    {
        "en": {
            (Operand.CONSENT, True): ("given", "it is given"),
            (Operand.CONSENT, False): ("not given", "it is not given"),
            (Operand.APPROVAL, True): ("given", "it is given"),
            (Operand.APPROVAL, False): ("declined", "it was declined"),
        },
        "zh": {
            (Operand.CONSENT, True): ("已取得", "已经取得"),
            (Operand.CONSENT, False): ("未取得", "尚未取得"),
            (Operand.APPROVAL, True): ("已批准", "已获批准"),
            (Operand.APPROVAL, False): ("已拒绝", "已被拒绝"),
        },
    }
)
# Why a fact is missing, by operand; "" for all others.
MISSING: Final[Phrases] = MappingProxyType(
    {
        "en": {
            "": "the request does not say",
            Operand.GRADE: "the data has no grade",
            Operand.RECIPIENT_ROLE: "no membership credential says what the consumer is",
            Operand.RECIPIENT_ZONE: "no current list of its members is at hand",
            Operand.CONSENT: "nothing says whether there is consent",
            Operand.APPROVAL: "nobody has decided yet",
            Operand.APPROVERS: "nobody has decided yet",
            Operand.EPSILON_BUDGET: "the request does not ask for noise with an epsilon above zero",
            Operand.RELEASE: "no rows leave in a computation",
            Operand.CONTENT_VERSION: "nobody has read which it is",
        },
        "zh": {
            "": "请求未作说明",
            Operand.GRADE: "该数据没有分级",
            Operand.RECIPIENT_ROLE: "没有成员凭证载明使用方的类型",
            Operand.RECIPIENT_ZONE: "手头没有该园区有效的成员名单",
            Operand.CONSENT: "无法确认是否已经取得",
            Operand.APPROVAL: "尚未有人作出决定",
            Operand.APPROVERS: "尚未有人作出决定",
            Operand.EPSILON_BUDGET: "请求未要求 epsilon 大于零的加噪",
            Operand.RELEASE: "计算中没有数据行离开",
            Operand.CONTENT_VERSION: "尚未读取数据的版本",
        },
    }
)
WHY_ZH: Final[Mapping[str, str]] = MappingProxyType(
    {
        Why.NO_SUCH_OPERATOR: "这类值没有该运算符",
        Why.NOT_A_CODE: "策略中的值不是 GB/T 2260 代码",
        Why.NOT_A_REGION: "地域须与策略一样使用 GB/T 2260 代码",
        Why.ONLY_REQUIRED: "策略在此只能规定为 required",
        Why.NOT_ONE_TEXT: "策略在此须以文本写明一个值",
        Why.NOT_TEXTS: "策略在此须以文本列出各个值",
        Why.NOT_A_NUMBER: "策略中的值不是数字",
        Why.NOT_A_MOMENT: "策略中的值不是带时区的日期时间",
        Why.NO_SUCH_MOMENT: "策略中的日期时间不存在",
        Why.NOT_A_GRADE: "分级须为 general、important 或 core",
        Why.UNREAD: "其中有本空间不读取的属性",
    }
)
# GB/T 43697-2024 names its grades in Chinese.
GRADES_ZH: Final[Mapping[str, str]] = MappingProxyType(
    {
        Grade.GENERAL: "一般（general）",
        Grade.IMPORTANT: "重要（important）",
        Grade.CORE: "核心（core）",
    }
)
ACTIONS_ZH: Final[Mapping[str, str]] = MappingProxyType({"use": "使用", "delete": "删除"})

REMEDIES: Final[Phrases] = MappingProxyType(
    {
        "en": {
            "terms": "Ask the provider to publish terms in the profile of this space.",
            "own agreement": "Negotiate an agreement of your own.",
            "inherited": "Ask the provider to write the inherited rules into the policy itself.",
            "overlap": "Negotiate terms whose permissions and prohibitions exclude one another.",
            "action": "Ask for an action the policy permits.",
            "prohibited": "Negotiate terms without this prohibition.",
            "outside": "Ask for a use outside the prohibition.",
            "outside where": "Ask for a use outside the prohibition, where {} is {}.",
            "choose": "Ask for {1}.",
            "choose or negotiate": "Ask for {1}, or negotiate an agreement for this one.",
            "choose code": "Ask for {1}, as a GB/T 2260 code.",
            "cohort": "Ask again with a minimum cohort of {}.",
            "spent": "Negotiate a new agreement; the uses under this one are spent.",
            "when": "Ask when {} is {}, or negotiate a new agreement.",
            "wait": "Wait until {}.",
            "wait after": "Wait until after {}.",
            "ended": "Negotiate a new agreement; the time of this one ended at {}.",
            "grade": "Ask the provider; the grade of this data is outside what the policy covers.",
            "no grade": "Ask the provider to grade the data.",
            "epsilon": "Ask with a smaller epsilon; spent budget does not come back.",
            "no epsilon": "Ask for noise, with an epsilon above zero.",
            "other budget": "Negotiate a new agreement, with a budget of its own.",
            "role": "Only a participant whose kind is {} can use this data.",
            "zone": "Only a member of {} can use this data.",
            "other zone": "Only a participant whose zones are {} can use this data.",
            "no zone list": "Try again when the provider has the operator's list of the members.",
            "consent": "The people concerned have to give separate consent first.",
            "approve": "Ask the provider to approve the agreement.",
            "more approve": "Ask more people at the provider to approve the agreement.",
            "declined": "Negotiate other terms; the provider has declined these.",
            "rows": "Ask for the rows themselves, without a computation.",
            "version": "The data have changed; negotiate an agreement about them as they are now, "
            "or ask the provider for the version that this one covers.",
            "release": "Ask the provider; it does less to the rows than these terms demand.",
        },
        "zh": {
            "terms": "请提供方使用本空间的配置文件发布条款。",
            "own agreement": "请自行协商一份协议。",
            "inherited": "请提供方把继承的规则直接写入策略。",
            "overlap": "请协商许可与禁止互不重叠的条款。",
            "action": "请改为请求策略许可的动作。",
            "prohibited": "请协商不含该禁止的条款。",
            "outside": "请改为请求不受该禁止限制的使用。",
            "outside where": "请改为请求不受该禁止限制的使用，即{}{}。",
            "choose": "请在请求中把{0}写明为{1}。",
            "choose or negotiate": "请把{0}改为{1}，或就本次{0}另行协商协议。",
            "choose code": "请在请求中把{0}写明为{1}，以 GB/T 2260 代码表示。",
            "cohort": "请重新请求，并使最小群体人数{}。",
            "spent": "请协商新的协议；本协议的使用次数已经用完。",
            "when": "请在{}满足要求（{}）时请求，或协商新的协议。",
            "wait": "请等到{}。",
            "wait after": "请等到{}之后。",
            "ended": "请协商新的协议；本协议的使用期限已于{}结束。",
            "grade": "请联系提供方；该数据的分级不在策略范围之内。",
            "no grade": "请提供方为该数据定级。",
            "epsilon": "请使用更小的 epsilon；已消耗的预算不会恢复。",
            "no epsilon": "请要求加噪，且 epsilon 大于零。",
            "other budget": "请协商新的协议，使用其自身的预算。",
            "role": "只有接收方类型{}，才能使用该数据。",
            "zone": "只有接收方所属园区{}，才能使用该数据。",
            "other zone": "只有接收方所属园区{}，才能使用该数据。",
            "no zone list": "请待提供方取得运营者的成员名单后再试。",
            "consent": "须先取得数据主体的单独同意。",
            "approve": "请提供方审批该协议。",
            "more approve": "请提供方更多的工作人员审批该协议。",
            "declined": "请协商其他条款；提供方已拒绝当前条款。",
            "rows": "请改为请求数据行本身，而不是计算。",
            "version": "数据已变化；请就现有数据协商新的协议，或请提供方提供本协议涵盖的版本。",
            "release": "请联系提供方；其所作的处理少于条款的要求。",
        },
    }
)

SENTENCES: Final[Phrases] = MappingProxyType(
    {
        "en": {
            "profile known": "The policy is written in the profile {}, which this space "
            "understands.",
            "profile": "The policy is written in the profile {}, which this space does not know.",
            "assignee same": "The terms are for {}, who asks.",
            "assignee": "The terms are for {}, not the participant who asks.",
            "inheritance": "The policy inherits from {}, which this space does not hold; "
            "what is written there may prohibit this.",
            "unread": "There are terms here that this space does not read: {}.",
            "prohibit": "Where a permission meets a prohibition, the prohibition wins.",
            "perm": "The policy lets permissions override prohibitions; in this space the "
            "prohibition wins all the same.",
            "invalid": "The policy is void where a permission and a prohibition can both apply; "
            "no two of them can.",
            "void": "The policy is void: it says so where a permission and a prohibition can both "
            "apply, and {} and {} can.",
            "conflict": "The policy settles conflicts by {}, which this space does not know.",
            "no permission": "The policy has no permission for the action {}.",
            "permits freely": "The policy's {} permits {}: without conditions.",
            "permits": "The policy's {0} permits {1}: its conditions hold, {2} of {2}.",
            "does not permit": "The policy's {} does not permit {}: {} of its {} conditions hold.",
            "stays away": "The policy's {} of {} does not apply here.",
            "prohibits": "The policy prohibits {}.",
            "prohibits here": "The policy prohibits {} here: {}.",
            "may prohibit": "The policy's {} of {} cannot be ruled out: {}.",
            "join": "Of {} conditions {} has to hold; {} hold{}.",
            "and open": " and {} cannot be judged",
            "warning": "The prohibition holds when {} is {}",
            "warning given": "The prohibition holds when {}",
            "met": "{}, and {}.",
            "unmet": "{}; {}.",
            "it is": "it is {}",
            "it is none": "it is none",
            "unknown operand": "this space does not know that operand",
            "or": "at least one",
            "xone": "exactly one",
            "and": "every one",
            "none": "none",
            "object": "an object",
            "empty": "an empty list",
            "allowed": "Allowed. ",
            "refused": "Refused. ",
        },
        "zh": {
            "profile known": "策略使用配置文件{}，本空间能够识别。",
            "profile": "策略使用配置文件{}，本空间无法识别。",
            "assignee same": "条款面向{}，即请求方。",
            "assignee": "条款面向{}，而不是请求方。",
            "inheritance": "策略继承自{}，本空间没有该策略，其中可能禁止本次使用。",
            "unread": "此处有本空间不读取的条款：{}。",
            "prohibit": "许可与禁止冲突时，以禁止为准。",
            "perm": "策略规定许可优先于禁止；本空间仍以禁止为准。",
            "invalid": "许可与禁止可能同时适用时，策略即告无效；现无此情形。",
            "void": "策略无效：策略规定许可与禁止可能同时适用时其无效，而{}与{}可能同时适用。",
            "conflict": "策略规定的冲突处理方式{}无法识别。",
            "no permission": "策略没有许可“{}”这一动作。",
            "permits freely": "策略的{}许可“{}”，不附条件。",
            "permits": "策略的{}许可“{}”：{}项条件全部成立。",
            "does not permit": "策略的{0}不许可“{1}”：{3}项条件中有{2}项成立。",
            "stays away": "策略的{}禁止“{}”，在此不适用。",
            "prohibits": "策略禁止“{}”。",
            "prohibits here": "策略在此禁止“{}”：{}。",
            "may prohibit": "无法排除策略的{}（禁止“{}”）：{}。",
            "join": "{}项条件中须{}成立；现有{}项成立{}。",
            "and open": "，{}项无法判定",
            "warning": "禁止的条件是{}{}",
            "warning given": "禁止的条件是{}",
            "met": "{}，{}。",
            "unmet": "{}；{}。",
            "it is": "实际为{}",
            "it is none": "实际为无",
            "unknown operand": "本空间无法识别该约束项",
            "or": "至少一项",
            "xone": "恰有一项",
            "and": "全部",
            "none": "无",
            "object": "一个对象",
            "empty": "空列表",
            "allowed": "允许。",
            "refused": "拒绝。",
        },
    }
)
