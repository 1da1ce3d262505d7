"""The auditor: registry and logs in, report out. No server is trusted.

Who registered which log under which key, and what it anchored, comes from the chain. Everything
else is what a log's owner chooses to show, so it is recomputed: the roots from the commitments,
the commitments from the bodies. Then the records of all participants are held against one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from ledger.anchors import Anchor, RegisteredLog
from ledger.checkpoint import Checkpoint, NoteVerifier, verify_checkpoint
from ledger.crossmatch import MATCHED_TYPES, Fact, ReadableLog, match
from ledger.entry import COMMITMENT_BYTES, SealedEntry, commitment_of, open_entry
from ledger.errors import InvalidCheckpoint, InvalidEntry, InvalidNote, LedgerError
from ledger.export import DirectoryLog as DirectoryLog
from ledger.export import export_log as export_log
from ledger.merkle import Frontier, leaf_hash
from ledger.report import Finding as Finding
from ledger.report import LogSummary as LogSummary
from ledger.report import Report as Report

PAGE = 500
# An owner may claim any size; reading stops here and says so.
MAX_ENTRIES = 100_000_000


class LogReader(Protocol):
    """One log as its owner shows it, over HTTP or from a copy.

    `commitments` and `entries` may give fewer than asked for, but not none while there are more.
    """

    def checkpoint(self) -> str:
        """The newest signed note."""

    def commitments(self, start: int, end: int) -> list[bytes]:
        """Leaf data of the entries start … end-1."""

    def entries(self, start: int, end: int) -> list[SealedEntry | None] | None:
        """Bodies of the entries start … end-1, None for an erased one; None for no entitlement."""


class AnchorReader(Protocol):
    """The chain's side, which `ledger.chain.Registry` gives."""

    def logs(self) -> Sequence[RegisteredLog]:
        """All registered logs."""

    def anchors(self, origin: str) -> Sequence[Anchor]:
        """The anchors of a log, oldest first."""


def audit(
    anchors: AnchorReader,
    readers: Mapping[str, LogReader],
    *,
    settled_before: str | None = None,
) -> Report:
    """Check every registered log and match the records of all of them.

    `readers` are by origin. Records newer than `settled_before` (RFC 3339 in UTC with
    milliseconds) are not yet missed on the other side. A log that cannot be read or does not
    verify is a finding, and the others are still checked. Raises ChainUnavailable or ChainRefused
    when the registry itself cannot be read, for without it there is nothing to check against.
    """
    findings: list[Finding] = []
    summaries: list[LogSummary] = []
    facts: list[Fact] = []
    readable: dict[str, ReadableLog] = {}
    registered = list(anchors.logs())
    for log in registered:
        examination = _Examination(log, list(anchors.anchors(log.origin)))
        reader = readers.get(log.origin)
        if reader is None:
            examination.report("log-unreachable", None, "nobody gave the audit access to it")
        else:
            examination.run(reader)
        findings += examination.findings
        summaries.append(examination.summary())
        facts += examination.facts
        if examination.complete:
            readable[log.origin] = ReadableLog(log.origin, examination.erased)
    for origin in sorted(set(readers) - {log.origin for log in registered}):
        sentence = f"Log {origin} is not registered on the chain, so nothing vouches for it."
        findings.append(Finding("log-unregistered", origin, None, sentence))
    findings += match(facts, readable, settled_before)
    return Report(tuple(summaries), tuple(findings))


@dataclass
class _Examination:
    """One log under examination."""

    log: RegisteredLog
    anchors: list[Anchor]
    findings: list[Finding] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    # What the log claims; the anchors stand in for a checkpoint that cannot be used.
    size: int = 0
    read: int = 0
    opened: int = 0
    erased: int = 0
    shown: bool = True
    ids: set[str] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        """Whether every body was shown, so that a missing record is really missing."""
        return self.shown and self.read > 0 and self.opened + self.erased == self.read == self.size

    def report(self, code: str, index: int | None, why: str) -> None:
        self.findings.append(
            Finding(code, self.log.origin, index, f"Log {self.log.origin}: {why}.")
        )

    def run(self, reader: LogReader) -> None:
        checkpoint = self._checkpoint(reader)
        anchored = self.anchors[-1].size if self.anchors else 0
        self.size = anchored if checkpoint is None else checkpoint.size
        if self.size > MAX_ENTRIES:
            self.report("log-too-large", None, f"it claims {self.size} entries, too many to read")
            return
        wanted = {anchor.size for anchor in self.anchors} | {self.size}
        roots = self._read(reader, wanted)
        self._check_anchors(roots, checkpoint)
        if checkpoint is not None and self.read == self.size:
            self._check_root(roots, checkpoint)

    def summary(self) -> LogSummary:
        anchored = self.anchors[-1].size if self.anchors else 0
        return LogSummary(
            origin=self.log.origin,
            owner=self.log.owner,
            revoked=self.log.revoked,
            size=self.size,
            entries_read=self.read,
            anchors=len(self.anchors),
            anchored_size=anchored,
            unanchored=max(0, self.size - anchored),
            entries_shown=self.shown and self.read > 0,
            entries_opened=self.opened,
            entries_erased=self.erased,
        )

    def _checkpoint(self, reader: LogReader) -> Checkpoint | None:
        try:
            verifier = NoteVerifier.parse(self.log.vkey)
        except InvalidNote as err:
            self.report("key-unusable", None, f"its key on the chain is not usable: {err}")
            return None
        # A reader is somebody else's code over somebody else's network: whatever it raises, the
        # other logs must still be audited.
        try:
            note = reader.checkpoint()
        except Exception as err:
            self.report("log-unreachable", None, f"it shows no checkpoint: {_why(err)}")
            return None
        try:
            return verify_checkpoint(note, verifier, self.log.origin)
        except InvalidNote as err:
            self.report(
                "checkpoint-unsigned",
                None,
                f"its checkpoint is not signed with the key registered on the chain: {err}",
            )
        except InvalidCheckpoint as err:
            self.report("checkpoint-invalid", None, f"what it signed is not its checkpoint: {err}")
        return None

    def _read(self, reader: LogReader, wanted: set[int]) -> dict[int, bytes]:
        """Read all commitments and the bodies shown; the roots recomputed at the wanted sizes."""
        frontier = Frontier()
        roots = {0: frontier.root()} if 0 in wanted else {}
        while self.read < self.size:
            page = self._page(reader)
            if page is None:
                break
            for commitment in page:
                frontier.append(leaf_hash(commitment))
                if frontier.size in wanted:
                    roots[frontier.size] = frontier.root()
            self._open(reader, page)
            self.read = frontier.size
        return roots

    def _page(self, reader: LogReader) -> list[bytes] | None:
        end = min(self.size, self.read + PAGE)
        try:
            page = list(reader.commitments(self.read, end))[: end - self.read]
        except Exception as err:
            self.report(
                "log-unreachable", self.read, f"reading stopped at {self.read}: {_why(err)}"
            )
            return None
        if not page:
            self.report(
                "commitments-missing",
                self.read,
                f"it claims {self.size} entries but shows only {self.read}",
            )
            return None
        odd = next((i for i, value in enumerate(page) if len(value) != COMMITMENT_BYTES), None)
        if odd is not None:
            self.report(
                "commitment-malformed",
                self.read + odd,
                f"entry {self.read + odd} is not a commitment of {COMMITMENT_BYTES} bytes",
            )
        return page

    def _open(self, reader: LogReader, page: Sequence[bytes]) -> None:
        if not self.shown:
            return
        start = self.read
        try:
            bodies = reader.entries(start, start + len(page))
        except Exception as err:
            self.shown = False
            self.report("entries-unreachable", start, f"it stopped showing entries: {_why(err)}")
            return
        if bodies is None:
            self.shown = False
            return
        if len(bodies) < len(page):
            self.report(
                "entries-missing",
                start + len(bodies),
                f"it shows {len(bodies)} entries from {start} on where there are {len(page)}",
            )
        for offset, (sealed, commitment) in enumerate(zip(bodies, page, strict=False)):
            if sealed is None:
                self.erased += 1
            else:
                self._open_one(start + offset, sealed, commitment)

    def _open_one(self, index: int, sealed: SealedEntry, commitment: bytes) -> None:
        # The commitment that counts is the one in the tree, not the one shown with the body.
        if commitment_of(sealed.body, sealed.salt) != commitment:
            self.report(
                "entry-altered",
                index,
                f"the content shown for entry {index} is not what was recorded there",
            )
            return
        try:
            entry = open_entry(sealed.body, sealed.salt, commitment)
        except InvalidEntry as err:
            self.report("entry-malformed", index, f"entry {index} is not a valid record: {err}")
            return
        self.opened += 1
        if entry.log != self.log.origin:
            self.report("entry-foreign", index, f"entry {index} says it belongs to log {entry.log}")
            return
        if entry.id in self.ids:
            self.report("entry-repeated", index, f"entry {index} repeats record {entry.id}")
            return
        self.ids.add(entry.id)
        if entry.type in MATCHED_TYPES:
            self.facts.append(Fact(self.log.origin, index, entry))

    def _check_anchors(self, roots: Mapping[int, bytes], checkpoint: Checkpoint | None) -> None:
        newest = self.anchors[-1] if self.anchors else None
        if checkpoint is not None and newest is not None and newest.size > checkpoint.size:
            self.report(
                "log-rewound",
                checkpoint.size,
                f"it shows {checkpoint.size} entries, but it anchored {newest.size} entries "
                f"{_when(newest)}: entries {checkpoint.size} to {newest.size - 1} were removed",
            )
        good = 0
        for anchor in self.anchors:
            root = roots.get(anchor.size)
            if root is None:
                continue
            if root != anchor.root:
                self.report(
                    "history-rewritten",
                    good,
                    f"{_range(good, anchor.size)} changed after it was recorded: the log now gives "
                    f"another root than the one anchored {_when(anchor)}",
                )
                return
            good = anchor.size

    def _check_root(self, roots: Mapping[int, bytes], checkpoint: Checkpoint) -> None:
        if roots[checkpoint.size] == checkpoint.root:
            return
        good = max((a.size for a in self._agreeing(roots) if a.size <= checkpoint.size), default=0)
        self.report(
            "root-differs",
            good,
            f"{_range(good, checkpoint.size)} not what its owner signed: the commitments shown "
            "give another root than the checkpoint",
        )

    def _agreeing(self, roots: Mapping[int, bytes]) -> Iterator[Anchor]:
        return (anchor for anchor in self.anchors if roots.get(anchor.size) == anchor.root)


def _range(start: int, end: int) -> str:
    if end - start == 1:
        return f"entry {start} was"
    if end == start:
        return "the empty log was"
    return f"at least one of the entries {start} to {end - 1} was"


def _when(anchor: Anchor) -> str:
    moment = datetime.fromtimestamp(anchor.timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"on {moment} in block {anchor.block}"


def _why(err: Exception) -> str:
    """The reason in an exception, if it is one of ours; a foreign text could say anything."""
    return str(err) if isinstance(err, LedgerError) else type(err).__name__
