"""The auditor: registry and logs in, report out. No server is trusted.

Who registered which log under which key, and what it anchored, comes from the chain. Everything
else is what a log's owner chooses to show, so it is recomputed: the roots from the commitments,
the commitments from the bodies. Then the records of all participants are held against one another,
and, where the caller brings a judge, against the text of their agreements.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, Protocol, runtime_checkable

import rfc8785

from ledger.anchors import Anchor, RegisteredLog, RotationRecord
from ledger.audit_state import AuditState as AuditState
from ledger.cosignature import CosignatureVerifier
from ledger.crossmatch import ReadableLog, match
from ledger.errors import InputRejected
from ledger.examination import Examination, OnChain, Policy, examine
from ledger.export import DirectoryLog as DirectoryLog
from ledger.export import export_log as export_log
from ledger.facts import Fact as Fact
from ledger.records import LogReader
from ledger.report import Check as Check
from ledger.report import Finding as Finding
from ledger.report import LogSummary as LogSummary
from ledger.report import Report as Report

__all__ = [
    "AgreementReader",
    "AnchorReader",
    "AuditState",
    "Check",
    "DirectoryLog",
    "Fact",
    "Finding",
    "Judge",
    "KeyHistoryReader",
    "LogReader",
    "LogSummary",
    "Report",
    "audit",
    "export_log",
]

# Judges the uses of one agreement: its hash, its text, and every record about it in order of time.
# What is not as the agreement allows comes back as findings.
Judge = Callable[[str, Mapping[str, Any], Sequence[Fact]], Iterable[Finding]]


class AnchorReader(Protocol):
    """The chain's side, which `ledger.chain.Registry` gives."""

    def logs(self) -> Sequence[RegisteredLog]:
        """All registered logs."""

    def anchors(self, origin: str) -> Sequence[Anchor]:
        """The anchors of a log, oldest first."""


@runtime_checkable
class KeyHistoryReader(Protocol):
    """A chain's side that also knows the keys a log has had; `ledger.chain.Registry` does."""

    def key_history(self, origin: str) -> Sequence[RotationRecord]:
        """The keys of a log, oldest first."""


@runtime_checkable
class AgreementReader(Protocol):
    """A log reader that also shows the text of agreements."""

    def agreement(self, agreement_h: str) -> dict[str, Any] | None:
        """The agreement whose canonical JSON (RFC 8785) has this SHA-256, or None."""


def audit(
    anchors: AnchorReader,
    readers: Mapping[str, LogReader],
    *,
    settled_before: str | None = None,
    state: AuditState | None = None,
    max_anchor_delay_s: float | None = None,
    now_s: float | None = None,
    witnesses: Sequence[CosignatureVerifier] = (),
    require_witnesses: int = 0,
    judge: Judge | None = None,
) -> Report:
    """Check every registered log and match the records of all of them.

    `readers` are by origin. Records newer than `settled_before` (RFC 3339 in UTC with
    milliseconds) are not yet missed on the other side. With the `state` of an earlier report only
    what is new is read. Every entry must be anchored within `max_anchor_delay_s` of its own time,
    also those that are not yet at `now_s` (UNIX time), and every checkpoint cosigned by
    `require_witnesses` of the `witnesses`. `judge` is asked about every agreement whose text a
    reader shows.

    A log that cannot be read or does not verify is a finding, and the others are still checked.
    Raises ChainUnavailable or ChainRefused when the registry itself cannot be read, for without it
    there is nothing to check against.
    """
    if require_witnesses > len({witness.name for witness in witnesses}):
        raise InputRejected(
            f"{require_witnesses} cosignatures are required, but fewer witnesses are known"
        )
    policy = Policy(max_anchor_delay_s, now_s, witnesses, require_witnesses)
    examined = _examine_all(anchors, readers, policy, state)
    findings = [finding for one in examined for finding in one.findings]
    for origin in sorted(set(readers) - {one.log.origin for one in examined}):
        sentence = f"Log {origin} is not registered on the chain, so nothing vouches for it."
        findings.append(Finding("log-unregistered", origin, None, sentence))
    facts = [fact for one in examined for fact in one.records.facts]
    readable = {
        one.log.origin: ReadableLog(one.log.origin, one.records.erased)
        for one in examined
        if one.complete
    }
    findings += match(facts, readable, settled_before)
    judged, agreements = _judge(judge, facts, readers, findings)
    kept = {one.log.origin: one.state() for one in examined}
    return Report(
        logs=tuple(one.summary() for one in examined),
        findings=tuple(findings),
        checks=_checks(examined, policy, judged, agreements),
        state=AuditState({origin: log for origin, log in kept.items() if log is not None}),
    )


def _examine_all(
    anchors: AnchorReader,
    readers: Mapping[str, LogReader],
    policy: Policy,
    state: AuditState | None,
) -> list[Examination]:
    before = state.logs if state is not None else {}
    texts: dict[str, str] = {}
    examined = []
    for log in anchors.logs():
        history = (
            partial(anchors.key_history, log.origin)
            if isinstance(anchors, KeyHistoryReader)
            else None
        )
        chain = OnChain(log, list(anchors.anchors(log.origin)), history)
        examined.append(
            examine(chain, readers.get(log.origin), policy, before.get(log.origin), texts)
        )
    return examined


def _judge(
    judge: Judge | None,
    facts: Sequence[Fact],
    readers: Mapping[str, LogReader],
    findings: list[Finding],
) -> tuple[int, int]:
    """Ask the judge about every agreement; (how many it was asked about, how many there are)."""
    by_agreement: dict[str, list[Fact]] = defaultdict(list)
    # Both sides name an agreement by one id; not every record repeats its hash.
    hash_of = {f.corr: f.agreement_h for f in facts if f.corr and f.agreement_h}
    for fact in facts:
        agreement_h = fact.agreement_h or hash_of.get(fact.corr or "")
        if agreement_h is not None:
            by_agreement[agreement_h].append(fact)
    if judge is None:
        return 0, len(by_agreement)
    judged = 0
    for agreement_h, uses in by_agreement.items():
        document = _document(agreement_h, uses, readers, findings)
        if document is not None:
            judged += 1
            findings += judge(agreement_h, document, sorted(uses, key=lambda fact: fact.ts))
    return judged, len(by_agreement)


def _document(
    agreement_h: str,
    uses: Sequence[Fact],
    readers: Mapping[str, LogReader],
    findings: list[Finding],
) -> dict[str, Any] | None:
    """The text of an agreement from any party that shows it, if it is the text it was hashed as."""
    for origin in dict.fromkeys(fact.origin for fact in uses):
        reader: object = readers.get(origin)
        if not isinstance(reader, AgreementReader):
            continue
        # As with every reader: whatever it raises, the audit goes on.
        try:
            document: dict[str, Any] | None = reader.agreement(agreement_h)
            if document is None:
                continue
            shown_h = sha256(rfc8785.dumps(document)).hexdigest()
        except Exception as err:
            sentence = (
                f"Log {origin}: the text of agreement {agreement_h} cannot be read: "
                f"{type(err).__name__}."
            )
            findings.append(Finding("agreement-unreadable", origin, None, sentence))
            continue
        if shown_h == agreement_h:
            return document
        sentence = (
            f"Log {origin}: the text shown for agreement {agreement_h} has hash {shown_h}, so it "
            "is another text than the one recorded."
        )
        findings.append(Finding("agreement-altered", origin, None, sentence))
    return None


def _checks(
    examined: Sequence[Examination], policy: Policy, judged: int, agreements: int
) -> tuple[Check, ...]:
    size = sum(one.size for one in examined)
    opened = sum(one.records.opened for one in examined)
    with_policy = len(examined) if policy.require_witnesses else 0
    return (
        Check("logs-read", sum(one.read == one.size > 0 for one in examined), len(examined)),
        Check(
            "anchors-compared",
            sum(one.anchors_compared for one in examined),
            sum(len(one.anchors) for one in examined),
        ),
        Check("entries-opened", opened, size),
        Check("anchor-delay", 0 if policy.max_anchor_delay_s is None else opened, size),
        Check("witnesses", with_policy, len(examined)),
        Check("agreements-judged", judged, agreements),
    )
