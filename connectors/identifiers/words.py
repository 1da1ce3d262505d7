"""Rules for what is written in letters: names, e-mail, plates, passports, dates, anything else."""

from __future__ import annotations

import datetime
import re
import unicodedata
from functools import lru_cache

import idna

from connectors.identifiers.spelling import (
    BLANK_WORDS,
    DASHES,
    DIRT,
    INVISIBLES,
    QUOTES,
    SCIENTIFIC,
    SPACES,
    NotUsableError,
    Reason,
    bare,
    folded,
)

# What `text/1` leaves as it is, but for words that stand for nothing: most columns hold no others.
_PLAIN_TEXT = re.compile(r"[a-z0-9][a-z0-9_-]*")

_HAN = "\u2e80-\u2fdf\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af"
_PLAIN_HAN = re.compile(r"[\u4e00-\u9fa5]{2,20}")
# The dot between the parts of a name such as 阿依古丽·买买提, in the spellings of input methods
# and old systems; the full stop stands for it between Han characters only.
_DOTS = "\u00b7\u2022\u2027\u2219\u22c5\u30fb\u0387\u16eb\u25cf\u2024"
_DOT = re.compile(rf"\s*[{_DOTS}]\s*|(?<=[{_HAN}])\s*[.。]\s*(?=[{_HAN}])")
_SPACE_OF_HAN = re.compile(rf"(?<=[{_HAN}])\s+(?=[{_HAN}])")
# Digits, controls, and characters of a private range, which mean another name in another system.
_NOT_IN_NAMES = frozenset({"Nd", "No", "Cc", "Cf", "Co", "Cs"})
# Which drawing of one and the same character is meant.
_VARIATIONS = re.compile(r"[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_NAME_DASHES = re.compile(rf"\s*[{DASHES}]\s*")
_NAME_QUOTES = re.compile(rf"[{QUOTES}]")

_LOCAL_PART = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*")
# RFC 5321: 64 octets before the @, 254 in all.
_LOCAL_PART_BYTES, _EMAIL_BYTES = 64, 254

_PLATE_PROVINCES = "京津冀晋蒙辽吉黑沪苏浙皖闽赣鲁豫鄂湘粤桂琼渝川贵云藏陕甘青宁新"
# As a system with traditional characters writes them.
_SIMPLIFIED = str.maketrans(
    "晉遼滬蘇閩贛魯粵瓊貴雲陝寧學領掛應", "晋辽沪苏闽赣鲁粤琼贵云陕宁学领挂应"
)
_PLATE_DIRT = re.compile(rf"[{_DOTS}.．]")
# GA 36: after the province a letter for the office; then five characters without I and O, or four
# and what the vehicle is for, or the six of a new-energy vehicle, whose letter stands first on a
# small one and last on a large one.
_PLATE = re.compile(
    rf"[{_PLATE_PROVINCES}][A-Z]"
    r"([A-HJ-NP-Z0-9]{5}|[A-HJ-NP-Z0-9]{4}(警|学|挂|港|澳|领|应急)"
    r"|[A-HJK][A-HJ-NP-Z0-9][0-9]{4}|[0-9]{5}[A-HJK])"
    r"|使[0-9]{6}"
)
_PLATE_CHARACTERS = range(7, 10)

# ICAO 9303 keeps nine characters for the number of a document, with `<` after a shorter one.
_PASSPORT = re.compile(r"(?=.*[0-9].*[0-9].*[0-9])[A-Z0-9]{6,9}")

_DATE = re.compile(
    r"([0-9]{4})(?:([0-9]{2})([0-9]{2})|([/.])([0-9]{1,2})\4([0-9]{1,2})"
    r"|年([0-9]{1,2})月([0-9]{1,2})日?)"
)
_MIDNIGHT = re.compile(r"[T ]00:00(:00(\.0+)?)?(Z|\+00:00)?$")
_ANY_DASH = re.compile(rf"[{DASHES}]")
_AROUND_MARKS = re.compile(r" ?([-/.年月日]) ?")


def text(value: str) -> str:
    """Any other identifier: NFKC, case folded, outer white space gone, inner runs one space."""
    if _PLAIN_TEXT.fullmatch(value) and value not in BLANK_WORDS:
        return value
    return folded(value)


def name(value: str) -> str:
    """The name of a person: as `text`, without spaces between Han characters, one middle dot.

    Traditional and simplified characters stay different: 后 and 後 are two family names. A name has
    a letter and no digit.
    """
    if _PLAIN_HAN.fullmatch(value):
        return value
    spelled, before = value, None
    while spelled != before:
        before = spelled
        spelled = _DOT.sub("·", folded(_VARIATIONS.sub("", spelled)))
        spelled = _SPACE_OF_HAN.sub("", spelled)
        spelled = _NAME_DASHES.sub("-", _NAME_QUOTES.sub("'", spelled)).strip("·.-' ")
    if any(unicodedata.category(character) in _NOT_IN_NAMES for character in spelled):
        raise NotUsableError(Reason.CHARACTERS)
    if not any(character.isalpha() for character in spelled):
        raise NotUsableError(Reason.CHARACTERS)
    return spelled


def email(value: str) -> str:
    """A mailbox: in lower case, its domain as DNS writes it (IDNA 2008).

    The part before the @ is lower-cased, as every provider of mailboxes for people reads it; dots
    and what follows a plus sign stay: to some providers those are other mailboxes.
    """
    spelled, before = value, None
    while spelled != before:
        before = spelled
        spelled = INVISIBLES.sub("", unicodedata.normalize("NFKC", spelled)).strip().lower()
    if spelled in BLANK_WORDS or not DIRT.sub("", spelled):
        raise NotUsableError(Reason.BLANK)
    local, at, domain = spelled.rpartition("@")
    if not at or not _LOCAL_PART.fullmatch(local):
        raise NotUsableError(Reason.CHARACTERS)
    mailbox = f"{local}@{_domain(domain)}"
    if len(local.encode()) > _LOCAL_PART_BYTES or len(mailbox.encode()) > _EMAIL_BYTES:
        raise NotUsableError(Reason.LENGTH)
    return mailbox


@lru_cache(maxsize=4096)
def _domain(written: str) -> str:
    try:
        domain = idna.encode(written, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise NotUsableError(Reason.DOMAIN) from None
    if "." not in domain or domain.endswith(".") or domain.rpartition(".")[2].isdigit():
        raise NotUsableError(Reason.DOMAIN)
    return domain


def plate(value: str) -> str:
    """The plate of a vehicle registered in mainland China (GA 36), without dot and spaces.

    A large and a small vehicle may carry the same characters on plates of different colours: where
    both are in a table, the plate with the type of it is the key. Plates of the armed forces and
    temporary ones are none of these.
    """
    spelled = _PLATE_DIRT.sub("", bare(value)).upper().translate(_SIMPLIFIED)
    if not spelled:
        raise NotUsableError(Reason.BLANK)
    if len(spelled) not in _PLATE_CHARACTERS:
        raise NotUsableError(Reason.LENGTH)
    if not _PLATE.fullmatch(spelled):
        raise NotUsableError(Reason.CHARACTERS)
    return spelled


def passport(value: str) -> str:
    """The number of a travel document: six to nine letters and digits, three digits at least.

    Countries share numbers: where several are in a table, the number with the country is the key.
    """
    number = bare(value).upper().rstrip("<")
    if not 6 <= len(number) <= 9:
        raise NotUsableError(Reason.LENGTH)
    if not _PASSPORT.fullmatch(number):
        raise NotUsableError(Reason.CHARACTERS)
    return number


@lru_cache(maxsize=65_536)
def date(value: str) -> str:
    """A day as YYYY-MM-DD, from that, YYYYMMDD, YYYY/M/D, YYYY.M.D or YYYY年M月D日.

    A time is let go where it is midnight. Days that start with the day or the month, two-digit
    years and the running numbers of spreadsheets are refused: they can be read in two ways.
    """
    spelled = INVISIBLES.sub("", unicodedata.normalize("NFKC", value)).strip(" \t\r\n'\"`")
    spelled = _ANY_DASH.sub("-", SPACES.sub(" ", spelled))
    lowered = spelled.lower()
    if lowered in BLANK_WORDS or not DIRT.sub("", lowered):
        raise NotUsableError(Reason.BLANK)
    if SCIENTIFIC.fullmatch(lowered):
        raise NotUsableError(Reason.SCIENTIFIC_NOTATION)
    day = _AROUND_MARKS.sub(r"\1", _MIDNIGHT.sub("", spelled)).replace("-", "/")
    match = _DATE.fullmatch(day)
    if match is None:
        raise NotUsableError(Reason.DATE)
    parts = [int(part) for part in match.groups() if part and part.isdigit()]
    try:
        return datetime.date(*parts).isoformat()
    except ValueError:
        raise NotUsableError(Reason.DATE) from None
