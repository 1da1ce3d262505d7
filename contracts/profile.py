"""Our ODRL profile: the operands policies of this space may use, and what each one means.

`purpose`, `count`, `dateTime` and `spatial` keep their ODRL meaning; those under `ds:` are defined
here. A decision refuses every operand that is not in `OPERANDS`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

DS: Final = "https://w3id.org/city-dataspace/ns/v1#"
PREFIX: Final = "ds:"
ODRL: Final = "http://www.w3.org/ns/odrl/2/"
PROFILE: Final = "https://w3id.org/city-dataspace/ns/v1"
CONTEXT_URL: Final = "https://w3id.org/city-dataspace/ns/v1/context.jsonld"
DCT: Final = "http://purl.org/dc/terms/"
DCAT: Final = "http://www.w3.org/ns/dcat#"


class Operand(StrEnum):
    """The left operands a policy of this space may constrain."""

    PURPOSE = "purpose"
    COMPUTATION = "ds:computation"
    MIN_COHORT = "ds:minCohort"
    COUNT = "count"
    DATE_TIME = "dateTime"
    SPATIAL = "spatial"
    GRADE = "ds:grade"
    EPSILON_BUDGET = "ds:epsilonBudget"
    RECIPIENT_ROLE = "ds:recipientRole"
    RECIPIENT_ZONE = "ds:recipientZone"
    CONSENT = "ds:consent"
    APPROVAL = "ds:approval"
    APPROVERS = "ds:approvers"
    RELEASE = "ds:release"
    CONTENT_VERSION = "ds:contentVersion"


class Grade(StrEnum):
    """How grave a leak would be, GB/T 43697-2024: general 一般, important 重要, core 核心."""

    GENERAL = "general"
    IMPORTANT = "important"
    CORE = "core"


# From harmless to grave; `ds:grade lteq important` compares places in this order.
GRADE_ORDER: Final = (Grade.GENERAL, Grade.IMPORTANT, Grade.CORE)


class ValueKind(StrEnum):
    """How an operand's values are compared."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"
    REGION = "region"
    GRADE = "grade"
    # Several texts at once: what somebody belongs to, what is done to rows.
    SET = "set"
    # Given or not given; a policy can only require it.
    CONSENT = "consent"


@dataclass(frozen=True)
class Meaning:
    """What an operand stands for, how its values compare, and a sentence in each language."""

    kind: ValueKind
    label_en: str
    label_zh: str
    doc_en: str
    doc_zh: str


OPERANDS: Final[Mapping[str, Meaning]] = MappingProxyType(
    {
        Operand.PURPOSE: Meaning(
            ValueKind.TEXT,
            "the purpose",
            "用途",
            "Why the data is used, as the consumer declares it in the signed order.",
            "数据的使用目的，由使用方在签名的计算指令中声明。",
        ),
        Operand.COMPUTATION: Meaning(
            ValueKind.TEXT,
            "the computation",
            "计算方式",
            "The kind of computation that may run on the data, such as private-sum/1.",
            "允许在数据上运行的计算类型，例如 private-sum/1。",
        ),
        Operand.MIN_COHORT: Meaning(
            ValueKind.NUMBER,
            "the minimum cohort",
            "最小群体人数",
            "Results about fewer people than this are held back.",
            "涉及人数少于该值的结果不予披露。",
        ),
        Operand.COUNT: Meaning(
            ValueKind.NUMBER,
            "the number of uses",
            "使用次数",
            "How many times the data may be used, the use being decided on included.",
            "数据可使用的次数，包含本次使用。",
        ),
        Operand.DATE_TIME: Meaning(
            ValueKind.TIME,
            "the date and time",
            "日期时间",
            "When the data may be used; a moment with its time zone.",
            "数据可使用的时间，须带时区。",
        ),
        Operand.SPATIAL: Meaning(
            ValueKind.REGION,
            "the region",
            "地域",
            "The region the use is about, as a GB/T 2260 code; 44 contains 4403.",
            "使用所涉及的行政区划代码（GB/T 2260），44 包含 4403。",
        ),
        Operand.GRADE: Meaning(
            ValueKind.GRADE,
            "the grade of the data",
            "数据分级",
            "The grade of the data under GB/T 43697-2024: general, important or core.",
            "依据 GB/T 43697-2024 的数据分级：一般、重要、核心。",
        ),
        Operand.EPSILON_BUDGET: Meaning(
            ValueKind.NUMBER,
            "the privacy budget",
            "隐私预算",
            "The sum of epsilon over all uses with noise, the use being decided on included.",
            "所有加噪使用的 epsilon 之和，包含本次使用。",
        ),
        Operand.RECIPIENT_ROLE: Meaning(
            ValueKind.TEXT,
            "the recipient's role",
            "接收方类型",
            "The kind of participant the consumer is, as its membership credential says.",
            "使用方的参与者类型，以其成员凭证为准。",
        ),
        Operand.RECIPIENT_ZONE: Meaning(
            ValueKind.SET,
            "the recipient's zone",
            "接收方所属园区",
            "The industry parks, trade zones or groups on whose current lists the consumer stands.",
            "使用方现列名其中的产业园区、自贸区或分组。",
        ),
        Operand.CONSENT: Meaning(
            ValueKind.CONSENT,
            "consent",
            "个人同意",
            "The people the data is about have given separate consent to this use.",
            "数据主体已就该使用给予单独同意。",
        ),
        Operand.APPROVAL: Meaning(
            ValueKind.CONSENT,
            "a person's approval",
            "人工审批",
            "A person at the provider has approved the agreement.",
            "提供方的工作人员已审批该协议。",
        ),
        Operand.APPROVERS: Meaning(
            ValueKind.NUMBER,
            "the number of people who approve",
            "审批人数",
            "How many different people at the provider have approved the agreement.",
            "提供方已有多少名不同的工作人员审批该协议。",
        ),
        Operand.RELEASE: Meaning(
            ValueKind.SET,
            "what is done before rows leave",
            "出域处理",
            "What the provider does to rows before they leave, each step a rule such as name:drop.",
            "数据行离开前提供方所作的处理，每一步为一条规则，例如 name:drop。",
        ),
        Operand.CONTENT_VERSION: Meaning(
            ValueKind.TEXT,
            "the version of the data",
            "数据版本",
            "The state the data are in when they are used, as the provider names it: sha256:….",
            "使用时数据所处的状态，以提供方给出的 sha256:… 表示。",
        ),
    }
)


# What catalogues and messages of this space say under our prefix besides the operands.
DESCRIPTIONS: Final = (
    "columns",
    "name",
    "role",
    "class",
    "canonicaliser",
    "scale",
    "values",
    "classification",
    "legalBasis",
    "blocks",
    "division",
    "grid",
    "quality",
    "rows",
    "valid",
    "blank",
    "invalid",
    "duplicates",
)
MESSAGE_TERMS: Final = ("order", "purpose", "signature", "postQuantumSignature")
# ODRL's terms that our policies use and the protocol's context leaves out.
_ODRL_OPERANDS: Final = (Operand.PURPOSE, Operand.COUNT, Operand.DATE_TIME, Operand.SPATIAL)
_ODRL_DUTIES: Final = ("remedy", "consequence")
_ODRL_STRATEGIES: Final = ("perm", "prohibit", "invalid")
# Of ODRL's actions those that duties and prohibitions of data spaces name; `use` is defined there.
_ODRL_ACTIONS: Final = (
    "aggregate",
    "anonymize",
    "attribute",
    "delete",
    "derive",
    "distribute",
    "inform",
    "obtainConsent",
    "reproduce",
    "sell",
    "transfer",
)


def context_document() -> dict[str, Any]:
    """The JSON-LD 1.1 context served at CONTEXT_URL: our terms, and ODRL's that we use.

    It is named after the protocol's own context, which defines the rest of ODRL where policies
    stand and leaves these undefined.
    """
    ours = [operand.value for operand in Operand if operand.startswith(PREFIX)]
    ours += [f"{PREFIX}{name}" for name in (*DESCRIPTIONS, *MESSAGE_TERMS)]
    named = (*_ODRL_OPERANDS, *_ODRL_ACTIONS, *_ODRL_STRATEGIES)
    lists = (f"{PREFIX}columns", f"{PREFIX}values", f"{PREFIX}quality")
    return {
        "@context": {
            "@version": 1.1,
            "ds": DS,
            "dct": DCT,
            "dcat": DCAT,
            # A word of a vocabulary under its own term becomes an IRI of that vocabulary.
            "dcat:theme": _vocabulary(f"{DCAT}theme", "theme"),
            "dct:accrualPeriodicity": _vocabulary(f"{DCT}accrualPeriodicity", "frequency"),
            **{name: DS + name.removeprefix(PREFIX) for name in ours},
            **{
                name: {"@id": DS + name.removeprefix(PREFIX), "@container": "@set"}
                for name in lists
            },
            **{str(name): ODRL + name for name in named},
            **{
                name: {"@id": ODRL + name, "@type": "@id", "@container": "@set"}
                for name in _ODRL_DUTIES
            },
            "conflict": {"@id": f"{ODRL}conflict", "@type": "@vocab"},
            "inheritFrom": {"@id": f"{ODRL}inheritFrom", "@type": "@id"},
        }
    }


def _vocabulary(term: str, folder: str) -> dict[str, Any]:
    return {"@id": term, "@type": "@vocab", "@context": {"@vocab": f"{PROFILE}/{folder}/"}}


# Long ways to spell a term, and what its short form begins with here.
LONG_FORMS: Final = ("odrl:", ODRL, DS)
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


def short_term(text: str) -> str:
    """A term of ODRL or of ours by its short name, however it is spelled; other text as it is.

    `odrl:use` and `http://www.w3.org/ns/odrl/2/use` are `use`; our IRIs become `ds:` names.
    """
    for form in LONG_FORMS:
        if text.startswith(form) and _NAME.fullmatch(text, len(form)):
            return (PREFIX if form is DS else "") + text[len(form) :]
    return text


def uses_our_terms(value: object) -> bool:
    """Whether JSON `value` has a name or a text under our prefix, or is written in our profile.

    It needs our context then.
    """
    if isinstance(value, str):
        return value.startswith(PREFIX) or value == PROFILE
    if isinstance(value, Mapping):
        return any(uses_our_terms(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple):
        return any(uses_our_terms(item) for item in value)
    return False
