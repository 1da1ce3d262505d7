"""What every canonicaliser does first, and how it refuses."""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from typing import Final

# No identifier is longer; a longer cell is a broken file, and would cost time to normalise.
MAX_VALUE_CHARACTERS: Final = 256


class Reason(StrEnum):
    """Why a value is no identifier."""

    BLANK = "blank"
    SCIENTIFIC_NOTATION = "scientific-notation"
    LENGTH = "length"
    CHARACTERS = "characters"
    DIVISION = "division"
    DATE = "date"
    CHECK_DIGIT = "check-digit"
    NOT_MOBILE = "not-mobile"
    DOMAIN = "domain"


class NotUsableError(Exception):
    """A rule's refusal; whoever applies the rule adds which one it was."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


# What people and spreadsheets put into or around a number: white space, characters without width,
# dashes, and the mark that makes a spreadsheet keep a cell as text.
_INVISIBLE = "\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"
DASHES: Final = "\\-\u2010-\u2015\u2212"
QUOTES: Final = "'`\u2018\u2019\""
DIRT: Final = re.compile(rf"[\s{_INVISIBLE}{DASHES}{QUOTES}]+")
INVISIBLES: Final = re.compile(rf"[{_INVISIBLE}]+")
SPACES: Final = re.compile(r"\s+")
# 4.40E+17 is what a spreadsheet leaves of an 18-digit number: most digits are gone for good.
SCIENTIFIC: Final = re.compile(r"[0-9](\.[0-9]+)?e\+?[0-9]{1,3}")
BLANK_WORDS: Final = frozenset(
    {"", "/", ".", "null", "none", "nan", "n/a", "#n/a", "\\n", "无", "空"}
)


def bare(value: str) -> str:
    """`value` in NFKC without dirt. Raises for blanks and for damaged numbers."""
    stripped = DIRT.sub("", unicodedata.normalize("NFKC", value))
    lowered = stripped.lower()
    if lowered in BLANK_WORDS:
        raise NotUsableError(Reason.BLANK)
    # The sign of the exponent may be gone with the dashes; digits before it are few either way.
    if SCIENTIFIC.fullmatch(lowered):
        raise NotUsableError(Reason.SCIENTIFIC_NOTATION)
    return stripped


def folded(value: str) -> str:
    """`value` in NFKC, case folded, without outer white space, inner runs of it one space.

    Raises for blanks and for damaged numbers.
    """
    # Folding can undo normalisation and the other way round; two rounds settle every known
    # character, and the loop makes idempotence hold by construction.
    text, before = value, None
    while text != before:
        before = text
        text = INVISIBLES.sub("", unicodedata.normalize("NFKC", text)).casefold()
        text = SPACES.sub(" ", text).strip()
    if text in BLANK_WORDS or not DIRT.sub("", text):
        raise NotUsableError(Reason.BLANK)
    if "." in text and SCIENTIFIC.fullmatch(text):
        raise NotUsableError(Reason.SCIENTIFIC_NOTATION)
    return text


def masked(value: str) -> str:
    """Two characters from each end of a long value, nothing of a short one."""
    stripped = DIRT.sub("", unicodedata.normalize("NFKC", value[:MAX_VALUE_CHARACTERS]))
    if len(stripped) < 10:
        return "****"
    shown = [c if c.isascii() and c.isalnum() else "*" for c in stripped[:2] + stripped[-2:]]
    return f"{shown[0]}{shown[1]}****…**{shown[2]}{shown[3]}"
