"""What an audit says, for a regulator to read and a program to parse."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """Something that should not be so: which log, which entry if one is to blame, and why.

    `code` is stable and meant for programs, `sentence` for people. When a range is to blame,
    `index` is its first entry.
    """

    code: str
    origin: str
    index: int | None
    sentence: str


@dataclass(frozen=True)
class LogSummary:
    """One log in figures.

    `size` is what its checkpoint claims, `entries_read` how many commitments were shown,
    `anchored_size` how many entries the newest anchor covers, `unanchored` how many it does not
    cover yet. `entries_shown` is False when the log's owner shows us no bodies.
    """

    origin: str
    owner: str
    revoked: bool
    size: int
    entries_read: int
    anchors: int
    anchored_size: int
    unanchored: int
    entries_shown: bool
    entries_opened: int
    entries_erased: int


@dataclass(frozen=True)
class Report:
    """The outcome of an audit: every log it looked at, and everything it found."""

    logs: tuple[LogSummary, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "logs": [asdict(log) for log in self.logs],
            "findings": [asdict(finding) for finding in self.findings],
        }
