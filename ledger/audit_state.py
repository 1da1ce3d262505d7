"""What an audit remembers for the next one, as JSON.

Of each log: the tree as of its newest anchor that was verified, the facts of its records up to
there, and the newest head it signed. The next audit reads on from there; should the log no longer
continue that tree, it is read again from the beginning. A log that still signs the right tree and
shows others wrong old entries is not noticed by going on: audit without a state now and then. The
state is believed as it is: keep it
where nobody but the auditor can write. It holds what records say, also of those erased since.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ledger.errors import InputRejected
from ledger.facts import Fact, facts_from_json, facts_to_json
from ledger.report import Finding

VERSION = 1
ID_BYTES = 16


@dataclass(frozen=True)
class LogState:
    """A log as far as it has been audited: `size` entries, covered by its anchor number `anchors`.

    `peaks` are the tree's perfect subtrees, widest first; `ids` 16 bytes for each record's id;
    `findings` those about entries, which will not be read again. `seen_size` and `seen_root` are
    the newest head, which may be beyond. `max_anchor_delay_s` is what its entries were checked for.
    """

    size: int
    peaks: tuple[bytes, ...]
    anchors: int
    opened: int
    erased: int
    shown: bool
    ids: bytes
    facts: tuple[Fact, ...]
    findings: tuple[Finding, ...]
    seen_size: int
    seen_root: bytes
    max_anchor_delay_s: float | None


NOTHING_READ = LogState(
    size=0,
    peaks=(),
    anchors=0,
    opened=0,
    erased=0,
    shown=True,
    ids=b"",
    facts=(),
    findings=(),
    seen_size=0,
    seen_root=b"",
    max_anchor_delay_s=None,
)


@dataclass(frozen=True)
class AuditState:
    """The state of each log, by origin."""

    logs: Mapping[str, LogState] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "v": VERSION,
            "logs": {origin: _to_json(log) for origin, log in self.logs.items()},
        }

    @staticmethod
    def parse(value: object) -> AuditState:
        """The reverse of `to_json`. Raises InputRejected."""
        try:
            if not isinstance(value, Mapping) or value["v"] != VERSION:
                raise InputRejected(
                    f"expected an audit state of version {VERSION}: audit once without a state"
                )
            logs = {origin: _parse(origin, log) for origin, log in value["logs"].items()}
            return AuditState(logs)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as err:
            raise InputRejected(
                "the audit state is damaged: audit once without a state to make a new one"
            ) from err


def _to_json(log: LogState) -> dict[str, Any]:
    return {
        "size": log.size,
        "peaks": [peak.hex() for peak in log.peaks],
        "anchors": log.anchors,
        "opened": log.opened,
        "erased": log.erased,
        "shown": log.shown,
        "ids": base64.b64encode(log.ids).decode(),
        "facts": facts_to_json(log.facts),
        "findings": [asdict(finding) for finding in log.findings],
        "seen_size": log.seen_size,
        "seen_root": log.seen_root.hex(),
        "max_anchor_delay_s": log.max_anchor_delay_s,
    }


def _parse(origin: str, value: Mapping[str, Any]) -> LogState:
    state = LogState(
        size=value["size"],
        peaks=tuple(bytes.fromhex(peak) for peak in value["peaks"]),
        anchors=value["anchors"],
        opened=value["opened"],
        erased=value["erased"],
        shown=value["shown"],
        ids=base64.b64decode(value["ids"], validate=True),
        facts=tuple(facts_from_json(value["facts"], origin)),
        findings=tuple(Finding(**finding) for finding in value["findings"]),
        seen_size=value["seen_size"],
        seen_root=bytes.fromhex(value["seen_root"]),
        max_anchor_delay_s=value["max_anchor_delay_s"],
    )
    # A frontier has one peak for each bit of its size.
    if state.size.bit_count() != len(state.peaks) or len(state.ids) % ID_BYTES:
        raise ValueError("peaks or ids do not fit the size")
    return state
