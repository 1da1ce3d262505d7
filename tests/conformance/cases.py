"""The kit's cases: how many there are in each group, and what each is about at our node.

A case is named after its group, section and number (`CN_C:02-05`). The kit's settings name the
dataset or agreement that a case is about; that name is all by which our script tells cases apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

# Cases in the sections of each group. MET and CAT: metadata and catalogue; CN and TP: negotiation
# and transfer with our node as the provider; CN_C and TP_C: with our node as the consumer.
SECTIONS: Final[Mapping[str, Sequence[int]]] = {
    "MET": (1,),
    "CAT": (3,),
    "CN": (4, 7, 4),
    "CN_C": (4, 6, 6),
    "TP": (5, 5, 6),
    "TP_C": (5, 5, 6),
}
# Switched off in the kit itself: the consumer suspends, resumes and completes. Our own tests of
# transfers have them.
SWITCHED_OFF: Final = frozenset({"TP:02-04", "TP_C:02-04"})

# What a name in the kit's settings begins with.
_SUBJECTS: Final[Mapping[str, str]] = {
    "CAT": "CAT",
    "CN": "ACN",
    "CN_C": "ACNC",
    "TP": "ATP",
    "TP_C": "ATPC",
}
# The case that asks for a dataset which is not there.
ABSENT: Final = "CAT0103"
FORMAT: Final = "HttpData-PULL"


def _numbers(group: str) -> list[tuple[int, int]]:
    return [
        (section, number)
        for section, size in enumerate(SECTIONS[group], start=1)
        for number in range(1, size + 1)
    ]


def expected_cases() -> frozenset[str]:
    """The ids of all cases that have to run and pass."""
    named = {
        f"{group}:{section:02}-{number:02}"
        for group in SECTIONS
        for section, number in _numbers(group)
    }
    return frozenset(named - SWITCHED_OFF)


def subjects(group: str) -> list[str]:
    """The datasets (of CAT, CN, CN_C) or agreements (of TP, TP_C) that the group's cases name."""
    return [f"{_SUBJECTS[group]}{section:02}{number:02}" for section, number in _numbers(group)]


def offer_id(dataset: str) -> str:
    """The id of a dataset's offer. One case has its offer's id fixed in the kit, in this form."""
    return f"CD123:{dataset}:456"


def named_in_settings() -> dict[str, str]:
    """The kit's settings that say what each case is about."""
    settings = {}
    for group, prefix in _SUBJECTS.items():
        for section, number in _numbers(group):
            case, subject = f"{group}_{section:02}_{number:02}", f"{prefix}{section:02}{number:02}"
            if group.startswith("TP"):
                settings[f"{case}_AGREEMENTID"] = subject
                settings[f"{case}_FORMAT"] = FORMAT
                continue
            settings[f"{case}_DATASETID"] = subject
            if group == "CN":
                settings[f"{case}_OFFERID"] = offer_id(subject)
    return settings
