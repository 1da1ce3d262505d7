"""What an examination finds: one sentence for each thing it looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How bad it is. An error keeps the node from doing what it promises; a warning will."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and what helps where it is not well."""

    check: str
    level: Level
    sentence: str
    remedy: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Findings = Iterator[Finding]


def ok(check: str, sentence: str) -> Finding:
    return Finding(check, Level.OK, sentence)


def warning(check: str, sentence: str, remedy: str) -> Finding:
    return Finding(check, Level.WARNING, sentence, remedy)


def error(check: str, sentence: str, remedy: str) -> Finding:
    return Finding(check, Level.ERROR, sentence, remedy)
