"""What an audit says, for a regulator to read and a program to parse."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ledger.audit_state import AuditState


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
    cover yet. `entries_shown` is False when the log's owner shows us no bodies. `resumed_from` is
    how many entries an earlier audit had read, which this one did not read again; `witnesses` are
    those known to us that cosigned its checkpoint.
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
    resumed_from: int = 0
    witnesses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """How much of one kind of checking was done: `done` of `total` things.

    `code` is one of `ledger.report.CHECKS`. Less than all is no finding, but it is for the reader
    of the report to know.
    """

    code: str
    done: int
    total: int


CHECKS = (
    # Logs read from beginning to end, of those registered.
    "logs-read",
    # Anchors whose root was recomputed, of those on the chain.
    "anchors-compared",
    # Entries whose body was opened, of those in the logs.
    "entries-opened",
    # Entries whose time was compared with that of their anchor.
    "anchor-delay",
    # Logs whose checkpoint was held against the policy of witnesses.
    "witnesses",
    # Agreements whose uses were judged by their text.
    "agreements-judged",
)


@dataclass(frozen=True)
class Report:
    """The outcome of an audit: every log it looked at, everything it found, what it checked.

    `state` is for the next audit to go on from; it is kept apart from the report's JSON.
    """

    logs: tuple[LogSummary, ...]
    findings: tuple[Finding, ...]
    checks: tuple[Check, ...] = ()
    state: AuditState | None = field(default=None, compare=False)

    @property
    def ok(self) -> bool:
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "logs": [asdict(log) for log in self.logs],
            "findings": [asdict(finding) for finding in self.findings],
            "checks": [asdict(check) for check in self.checks],
        }
