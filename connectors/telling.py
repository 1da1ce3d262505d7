"""What the name of a column and its cells tell about what it holds.

Nothing here is certain: a name can lie and a sample is a sample. Every sign says why, in English
and Chinese, so that the person who confirms a class need not guess what the rule saw.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from stdnum import luhn

from connectors.identifiers import InvalidIdentifier, canonicalise

# No cell that tells anything is longer; a longer one would cost time to match.
_MAX_LETTERS: Final = 200
# Of the filled cells sampled, the share that must tell the same before the column does.
SHARE: Final = 0.5
# PIPL article 28: everything about children younger than this is sensitive.
MINOR_YEARS: Final = 14


class Holds(StrEnum):
    """What a column can be seen to hold."""

    IDENTIFIER = "identifier"
    QUASI_IDENTIFIER = "quasi-identifier"
    SENSITIVE_PERSONAL = "sensitive-personal"
    PLACE = "place"
    OPEN = "open"


@dataclass(frozen=True)
class Sign:
    """What a column holds, and what tells it."""

    holds: Holds
    reason: str
    reason_zh: str


def sign_of_cells(cells: Sequence[str]) -> Sign | None:
    """What more than half of these filled cells are, by the first rule that sees it."""
    if not cells:
        return None
    cells = [cell[:_MAX_LETTERS] for cell in cells]
    for rule in _CELL_RULES:
        if sum(map(rule.is_one, cells)) > SHARE * len(cells) and rule.of_all(cells):
            return Sign(
                rule.holds,
                f"more than half of the cells are {rule.what}",
                f"超过半数的单元格为{rule.what_zh}",
            )
    return None


def sign_of_name(name: str) -> Sign | None:
    """What a column of this name probably holds, the most delicate first."""
    words = _words(name)
    spelled = f" {' '.join(words)} "
    lowered = name.strip().lower()
    for rule in _NAME_RULES:
        if rule.english.search(spelled) or any(part in lowered for part in rule.chinese):
            return Sign(rule.holds, f"its name speaks of {rule.what}", f"列名涉及{rule.what_zh}")
    if words[-1:] == ["name"] and (len(words) < 2 or words[-2] not in _THINGS_WITH_NAMES):
        return Sign(Holds.IDENTIFIER, "its name speaks of people's names", "列名涉及姓名")
    if lowered in _OPEN_NAMES:
        return Sign(Holds.OPEN, "a column of this name says nothing of people", "列名与个人无关")
    return None


def sign_of_minors(name: str, cells: Sequence[str], today: datetime.date) -> Sign | None:
    """Whether ages or dates of birth tell that most of these people are children."""
    spelled, lowered = f" {' '.join(_words(name))} ", name.lower()
    if _AGE.search(spelled) or "年龄" in lowered:
        ages = [int(cell) if re.fullmatch(r"[0-9]{1,3}", cell) else None for cell in cells]
    elif _BORN.search(spelled) or "出生" in lowered or "生日" in lowered:
        ages = [_age(cell, today) for cell in cells]
    else:
        return None
    young = sum(age is not None and age < MINOR_YEARS for age in ages)
    if young <= SHARE * len(cells):
        return None
    return Sign(
        Holds.SENSITIVE_PERSONAL,
        f"more than half of the people are younger than {MINOR_YEARS}",
        f"超过半数的人未满{MINOR_YEARS}周岁",
    )


def _age(cell: str, today: datetime.date) -> int | None:
    found = re.match(r"([0-9]{4})[-/.年]?([0-9]{1,2})[-/.月]?([0-9]{1,2})", cell)
    if found is None:
        return None
    try:
        born = datetime.date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return None
    if born > today:
        return None
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


# ---- cells --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _CellRule:
    holds: Holds
    what: str
    what_zh: str
    is_one: Callable[[str], bool]
    # What only the cells together can show.
    of_all: Callable[[Sequence[str]], bool] = lambda cells: True


def _canonical(canonicaliser: str) -> Callable[[str], bool]:
    def is_one(cell: str) -> bool:
        try:
            canonicalise(canonicaliser, cell)
        except InvalidIdentifier:
            return False
        return True

    return is_one


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda cell: compiled.fullmatch(cell.strip()) is not None


def _is_bank_card(cell: str) -> bool:
    digits = re.sub(r"[\s-]", "", cell)
    return re.fullmatch(r"[0-9]{16,19}", digits) is not None and bool(luhn.is_valid(digits))


def _is_person(cell: str) -> bool:
    text = cell.strip()
    return (
        re.fullmatch(r"[\u4e00-\u9fff]{2,4}", text) is not None
        and (text[0] in _SURNAMES or text[:2] in _DOUBLE_SURNAMES)
        and text[-1] not in "区县市镇乡村路街省州局院校所站园店"
    )


def _is_place(cell: str) -> bool:
    found = re.fullmatch(
        r"(?:POINT\s*\(\s*|\(|\[)?(-?[0-9]{1,3}\.[0-9]{3,})[\s,]+(-?[0-9]{1,3}\.[0-9]{3,})[)\]]?",
        cell.strip(),
    )
    return found is not None and max(abs(float(found[1])), abs(float(found[2]))) <= 180


def _mostly_distinct(cells: Sequence[str]) -> bool:
    return len(set(cells)) > SHARE * len(cells)


def _has_subcodes(cells: Sequence[str]) -> bool:
    # A01 is a shelf as well as typhoid fever; A01.0 is not.
    return any("." in cell for cell in cells)


_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
# The hundred commonest, which four people of five have.
_SURNAMES = frozenset(
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈"
    "姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
)
_DOUBLE_SURNAMES = frozenset({"欧阳", "上官", "司马", "诸葛", "司徒", "东方", "皇甫", "尉迟"})

_CELL_RULES: Final = (
    _CellRule(Holds.IDENTIFIER, "identity numbers", "身份证号码", _canonical("resident-id/1")),
    _CellRule(Holds.SENSITIVE_PERSONAL, "bank card numbers", "银行卡号", _is_bank_card),
    _CellRule(
        Holds.SENSITIVE_PERSONAL,
        "codes of diseases (ICD-10)",
        "疾病编码（ICD-10）",
        _matches(r"[A-TV-Z][0-9]{2}(\.[0-9xX]{1,4}([A-Z0-9+*]{0,4}))?"),
        _has_subcodes,
    ),
    _CellRule(Holds.IDENTIFIER, "mobile numbers", "手机号码", _canonical("mobile/1")),
    _CellRule(
        Holds.IDENTIFIER,
        "unified social credit codes, which name organisations",
        "统一社会信用代码（标识组织）",
        _canonical("uscc/1"),
    ),
    _CellRule(
        Holds.IDENTIFIER,
        "number plates",
        "车牌号",
        _matches(rf"[{_PROVINCES}][A-Z][·•\s-]?[A-HJ-NP-Z0-9]{{4,5}}[A-HJ-NP-Z0-9挂学警港澳]"),
    ),
    _CellRule(
        Holds.IDENTIFIER,
        "numbers of passports or travel permits",
        "护照或通行证号码",
        _matches(r"(E[A-HJ-NP-Z]?[0-9]{7,8}|[DGSP][0-9]{8}|[HM][0-9]{8,10})"),
    ),
    _CellRule(
        Holds.IDENTIFIER,
        "e-mail addresses",
        "电子邮箱地址",
        _matches(r"[^@\s]{1,64}@[^@\s]+\.[A-Za-z]{2,}"),
    ),
    _CellRule(Holds.IDENTIFIER, "names of people", "姓名", _is_person, _mostly_distinct),
    _CellRule(
        Holds.QUASI_IDENTIFIER,
        "addresses",
        "地址",
        _matches(
            r".{0,20}[省市区县旗镇乡村社道].{1,40}[0-9０-９一二三四五六七八九十].{0,9}[号栋幢室组楼].{0,20}"
            r"|[0-9]+[A-Za-z]? .{2,60}([Rr](oa)?d|[Ss]t(reet)?|[Aa]ve(nue)?|[Ll]ane)\.?(,.{0,60})?"
        ),
    ),
    _CellRule(Holds.PLACE, "coordinates", "坐标", _is_place),
)


# ---- names --------------------------------------------------------------------------------------


def _words(name: str) -> list[str]:
    """The English words of a name: `BirthDate`, `birth_date` and `birth date` are two."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.findall(r"[a-z]+[0-9]*|[0-9]+", parted.lower())


@dataclass(frozen=True)
class _NameRule:
    holds: Holds
    what: str
    what_zh: str
    english: re.Pattern[str]
    chinese: tuple[str, ...]


def _rule(holds: Holds, what: str, what_zh: str, english: str, chinese: str) -> _NameRule:
    """`english` are alternatives of whole words, `chinese` parts of the name."""
    return _NameRule(holds, what, what_zh, re.compile(rf" (?:{english}) "), tuple(chinese.split()))


_AGE: Final = re.compile(r" (?:age|ages) ")
_BORN: Final = re.compile(r" (?:birth|birthday|birthdate|born|dob) ")
_OPEN_NAMES: Final = frozenset({"unit", "currency", "license", "licence", "单位", "币种"})
# What is not a person and has a name: `district name` is no identifier.
_THINGS_WITH_NAMES: Final = frozenset(
    "file table column field dataset product item brand model company enterprise organisation "
    "organization department bureau agency school hospital shop store street road site station "
    "park building bridge river project event species city district county town village province "
    "country region division community zone grid category type group stop line route".split()
)

# The first that matches decides, the most delicate first. PIPL article 28 lists what is sensitive.
_NAME_RULES: Final = (
    _rule(
        Holds.SENSITIVE_PERSONAL,
        "health",
        "医疗健康",
        r"diagnos[a-z]*|diseases?|illness|medical|medication|health|icd[0-9]*|prescriptions?|"
        r"symptoms?|allerg[a-z]*|disabilit[a-z]*|hiv|genetic[a-z]*|dna|blood type|blood group",
        "诊断 疾病 健康 病 处方 用药 症状 过敏 残疾 血型 基因 医疗",
    ),
    _rule(
        Holds.SENSITIVE_PERSONAL,
        "religion",
        "宗教信仰",
        r"relig[a-z]*|faith",
        "宗教 信仰",
    ),
    _rule(
        Holds.SENSITIVE_PERSONAL,
        "biometrics",
        "生物识别",
        r"biometr[a-z]*|finger[a-z]*|faces?|facial|face id|iris|voiceprint",
        "指纹 人脸 虹膜 声纹 生物识别",
    ),
    _rule(
        Holds.SENSITIVE_PERSONAL,
        "accounts and income",
        "金融账户与收入",
        r"bank|account|accounts|iban|income|incomes|salary|salaries|wages?|card (?:no|number)",
        "账户 账号 银行 收入 工资 卡号 存款",
    ),
    _rule(
        Holds.SENSITIVE_PERSONAL,
        "children",
        "未成年人",
        r"minors?|child|children|guardians?|pupils?|infants?",
        "未成年 儿童 监护 婴幼儿",
    ),
    _rule(
        Holds.SENSITIVE_PERSONAL,
        "where people were",
        "行踪轨迹",
        r"track|tracks|trajector[a-z]*|whereabouts",
        "轨迹 行踪",
    ),
    _rule(
        Holds.SENSITIVE_PERSONAL,
        "offences",
        "违法犯罪",
        r"criminal[a-z]*|convictions?|offen[cs]es?",
        "犯罪 前科",
    ),
    _rule(
        Holds.IDENTIFIER,
        "what names one person",
        "个人标识",
        r"(?:resident|citizen|identity|person|personal|patient|social security|id card|driver|"
        r"driving|passport)(?: card| licence| license)? ?(?:id|no|number|code)|id ?card|ssn|"
        r"(?:first|last|full|family|given|sur)(?:name| name)|surname|passport|plate|"
        r"plate (?:no|number)|licen[cs]e plate|wechat|imei|imsi|vin",
        "身份证 姓名 护照 社保号 证件号 车牌 微信",
    ),
    _rule(
        Holds.IDENTIFIER,
        "how to reach one person",
        "联系方式",
        r"phones?|mobile|telephone|tel|cellphone|e?mail|e mail",
        "手机 电话 邮箱 联系方式",
    ),
    _rule(
        Holds.PLACE,
        "coordinates",
        "坐标",
        r"lat|lon|lng|latitude|longitude|coordinates?|gps|geom|geometry",
        "经度 纬度 坐标",
    ),
    _rule(
        Holds.QUASI_IDENTIFIER,
        "where somebody lives or what somebody is",
        "居住地或个人特征",
        r"district|division|street|address|post|postcode|postal|zip|community|village|age|ages|"
        r"sex|born|birth|birthday|birthdate|dob|gender|occupation|profession|nationality|"
        r"ethnic[a-z]*|marital|education",
        "区 街道 地址 邮编 年龄 性别 出生 生日 职业 民族 籍贯 学历 婚姻",
    ),
)
