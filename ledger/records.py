"""The records of a log as an auditor opens them: each against its commitment in the tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from ledger.audit_state import ID_BYTES, LogState
from ledger.entry import SealedEntry, commitment_of, open_entry
from ledger.errors import InvalidEntry, LedgerError
from ledger.facts import MATCHED_TYPES, Fact, fact_of
from ledger.lateness import Lateness


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


class Reporter(Protocol):
    """Takes findings about a log; a lasting one is about what will not be read again."""

    def report(self, code: str, index: int | None, why: str, *, lasting: bool = False) -> None: ...


class Records:
    """What has been opened so far: how many, the facts in them, the ids, and whether bodies are
    still shown. `interrupted` is True once some could not be read."""

    def __init__(
        self,
        origin: str,
        start: LogState | None,
        lateness: Lateness,
        texts: dict[str, str],
        report: Reporter,
    ) -> None:
        self.facts: list[Fact] = list(start.facts) if start else []
        self.opened = start.opened if start else 0
        self.erased = start.erased if start else 0
        self.shown = start.shown if start else True
        self.interrupted = False
        self.id_bytes = bytearray(start.ids if start else b"")
        self._ids = {
            int.from_bytes(self.id_bytes[at : at + ID_BYTES])
            for at in range(0, len(self.id_bytes), ID_BYTES)
        }
        self._origin = origin
        self._lateness = lateness
        self._texts = texts
        self._report = report

    def open(self, reader: LogReader, start: int, page: Sequence[bytes]) -> None:
        """Read the bodies of the entries from `start` on, whose commitments these are."""
        if not self.shown:
            return
        try:
            bodies = reader.entries(start, start + len(page))
        except Exception as err:
            self.shown, self.interrupted = False, True
            self._report.report(
                "entries-unreachable", start, f"it stopped showing entries: {why_words(err)}"
            )
            return
        if bodies is None:
            self.shown = False
            return
        if len(bodies) < len(page):
            self.interrupted = True
            self._report.report(
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
            why = f"the content shown for entry {index} is not what was recorded there"
            self._report.report("entry-altered", index, why, lasting=True)
            return
        try:
            entry = open_entry(sealed.body, sealed.salt, commitment)
        except InvalidEntry as err:
            why = f"entry {index} is not a valid record: {err}"
            self._report.report("entry-malformed", index, why, lasting=True)
            return
        self.opened += 1
        if entry.log != self._origin:
            why = f"entry {index} says it belongs to log {entry.log}"
            self._report.report("entry-foreign", index, why, lasting=True)
            return
        record_id = UUID(entry.id)
        if record_id.int in self._ids:
            why = f"entry {index} repeats record {entry.id}"
            self._report.report("entry-repeated", index, why, lasting=True)
            return
        self._ids.add(record_id.int)
        self.id_bytes += record_id.bytes
        self._tell(self._lateness.note(index, entry.ts), lasting=True)
        if entry.type in MATCHED_TYPES:
            self.facts.append(fact_of(self._origin, index, entry, self._texts))

    def close(self, size: int) -> None:
        """All records of the first `size` entries were read: tell of late anchors among them."""
        self._tell(self._lateness.close(size), lasting=True)

    def tell_unanchored(self, now_s: float | None) -> None:
        """Tell of a record that has waited too long for an anchor; the next audit asks again."""
        self._tell(self._lateness.unanchored(now_s), lasting=False)

    def _tell(self, late: Sequence[tuple[int, str]], *, lasting: bool) -> None:
        for index, why in late:
            self._report.report("anchor-late", index, why, lasting=lasting)


def why_words(err: Exception) -> str:
    """The reason in an exception, if it is one of ours; a foreign text could say anything."""
    return str(err) if isinstance(err, LedgerError) else type(err).__name__
