"""What a catalogue says of a dataset in words that all nodes share, in English and Chinese.

On the wire these stand as they are named here, and our JSON-LD context makes IRIs of them:
`economy` under `dcat:theme` is `https://w3id.org/city-dataspace/ns/v1/theme/economy`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class Term:
    """A word of a vocabulary and what people call it; `note` says where it comes from."""

    name: str
    label_en: str
    label_zh: str
    note: str = ""


def _registry(*terms: Term) -> Mapping[str, Term]:
    return MappingProxyType({term.name: term for term in terms})


# The fields in which a city's data are used (智慧城市 and 数据要素 scenario lists).
THEMES: Final = _registry(
    Term("economy", "Economy", "经济运行"),
    Term("industry-city-integration", "Industry and city integration", "产城融合"),
    Term("city-management", "City management", "城市管理"),
    Term("public-safety", "Public safety", "公共安全"),
    Term("emergency-command", "Emergency command", "应急指挥"),
    Term("ecology", "Ecology", "生态环境"),
    Term("culture-tourism-sports", "Culture, tourism and sports", "文旅体育"),
    Term("education", "Education", "教育"),
    Term("transport", "Transport", "交通运输"),
    Term("grassroots-governance", "Grassroots governance", "基层治理"),
    Term("health", "Health", "卫生健康"),
    Term("energy", "Energy", "能源"),
    Term("green-low-carbon", "Green and low carbon", "绿色低碳"),
    Term("agriculture", "Agriculture", "农业农村"),
)

_EU: Final = "http://publications.europa.eu/resource/authority/frequency/"

# How often a dataset changes; `note` is the EU Vocabularies' IRI of the same.
FREQUENCIES: Final = _registry(
    Term("continuous", "continuously", "实时", f"{_EU}UPDATE_CONT"),
    Term("hourly", "every hour", "每小时", f"{_EU}HOURLY"),
    Term("daily", "every day", "每日", f"{_EU}DAILY"),
    Term("weekly", "every week", "每周", f"{_EU}WEEKLY"),
    Term("monthly", "every month", "每月", f"{_EU}MONTHLY"),
    Term("quarterly", "every three months", "每季度", f"{_EU}QUARTERLY"),
    Term("annual", "every year", "每年", f"{_EU}ANNUAL"),
    Term("irregular", "irregularly", "不定期", f"{_EU}IRREG"),
    Term("never", "never again", "不再更新", f"{_EU}NEVER"),
)

# Why personal data may be processed; `note` is the place in PIPL (个人信息保护法), article 13.
LEGAL_BASES: Final = _registry(
    Term("consent", "consent of the people", "个人同意", "13(1)"),
    Term(
        "contract", "a contract with the person, or managing staff", "订立、履行合同所必需", "13(2)"
    ),
    Term("statutory-duty", "a statutory duty", "履行法定职责或者法定义务", "13(3)"),
    Term(
        "public-health-emergency",
        "a public health emergency, or protecting life and property",
        "应对突发公共卫生事件或者紧急情况下保护生命健康和财产安全",
        "13(4)",
    ),
    Term(
        "news-public-interest",
        "news and supervision in the public interest",
        "为公共利益实施新闻报道、舆论监督",
        "13(5)",
    ),
    Term(
        "already-public", "data the person or the law has made public", "已公开的个人信息", "13(6)"
    ),
    Term("other-law", "another law or regulation", "法律、行政法规规定的其他情形", "13(7)"),
)
CONSENT: Final = "consent"

# What a column holds, as far as sharing cares (数据分类).
CLASSES: Final = _registry(
    Term("identifier", "identifier", "标识"),
    Term("quasi-identifier", "quasi-identifier", "准标识"),
    Term("sensitive-personal", "sensitive personal", "敏感个人信息"),
    Term("business", "business", "业务数据"),
    Term("open", "open", "公开"),
)

# Whether a person has looked at the classes of a dataset's columns.
PROPOSED: Final = "proposed"
CONFIRMED: Final = "confirmed"
