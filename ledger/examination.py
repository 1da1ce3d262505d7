"""One log under examination: what it shows is recomputed and held against what it committed to.

The log is read once, in pages, from the beginning or from where an earlier audit stopped. Each
entry goes into the tree, and at every size that the chain, or an earlier audit, has a root for, the
roots are compared. Memory grows with the records that must be matched, not with the bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ledger.anchors import Anchor, RegisteredLog, RotationRecord
from ledger.audit_state import NOTHING_READ, LogState
from ledger.checkpoint import Checkpoint, NoteVerifier, verify_checkpoint
from ledger.cosignature import CosignatureVerifier, verify_cosignatures
from ledger.entry import COMMITMENT_BYTES
from ledger.errors import (
    ChainRefused,
    InvalidCheckpoint,
    InvalidNote,
    RetiredKey,
    TooFewCosignatures,
)
from ledger.lateness import Lateness
from ledger.marks import Marks, range_words, when_words
from ledger.merkle import Frontier, fold_peaks, leaf_hash
from ledger.records import LogReader, Records, why_words
from ledger.report import Finding, LogSummary
from ledger.rotation import verify_with_history

PAGE = 500
# An owner may claim any size; reading stops here and says so.
MAX_ENTRIES = 100_000_000


@dataclass(frozen=True)
class Policy:
    """What is asked of a log beyond consistency.

    An entry must be anchored within `max_anchor_delay_s` of its own time (`now_s`, UNIX time, is
    for those not anchored yet); `require_witnesses` of `witnesses` must have cosigned.
    """

    max_anchor_delay_s: float | None = None
    now_s: float | None = None
    witnesses: Sequence[CosignatureVerifier] = ()
    require_witnesses: int = 0


@dataclass(frozen=True)
class OnChain:
    """What the chain says about a log; `key_history` is asked only when the present key fails."""

    log: RegisteredLog
    anchors: Sequence[Anchor]
    key_history: Callable[[], Sequence[RotationRecord]] | None


def examine(
    chain: OnChain,
    reader: LogReader | None,
    policy: Policy,
    before: LogState | None,
    texts: dict[str, str],
) -> Examination:
    """Examine a log, from where `before` stopped if the log still continues that."""
    start = before if before is not None and _covers(before, reader, policy) else None
    examination = Examination(chain, policy, before, start, texts)
    if reader is None:
        examination.report("log-unreachable", None, "nobody gave the audit access to it")
        return examination
    examination.run(reader)
    if start is not None and examination.departed:
        # Read whole, the log shows where it departed from what it was.
        examination = Examination(chain, policy, before, None, texts)
        examination.run(reader)
    return examination


def _covers(before: LogState, reader: LogReader | None, policy: Policy) -> bool:
    """Whether the earlier audit asked all of the old entries that is asked now."""
    if before.max_anchor_delay_s != policy.max_anchor_delay_s:
        return False
    # Bodies that were kept from us then may be shown now.
    return before.shown or reader is None or not _shows(reader)


class Examination:
    """A log as far as it has been read, with what was found.

    `earlier` is what an earlier audit knows of the log, `start` the same if reading goes on from
    there, None to read from the beginning.
    """

    def __init__(
        self,
        chain: OnChain,
        policy: Policy,
        earlier: LogState | None,
        start: LogState | None,
        texts: dict[str, str],
    ) -> None:
        self.log = chain.log
        self.findings: list[Finding] = []
        self.size = 0
        self.resumed_from = start.size if start else 0
        self.witnesses: tuple[str, ...] = ()
        self.departed = False
        self._chain = chain
        self._policy = policy
        self._earlier = earlier
        self._frontier = Frontier(start.size, start.peaks) if start else Frontier()
        # Findings about entries outlive this audit: an entry is not read a second time.
        self._lasting: list[Finding] = list(start.findings) if start else []
        seen = (earlier.seen_size, earlier.seen_root) if earlier else None
        self._marks = Marks(chain.anchors, seen, after=self.resumed_from)
        lateness = Lateness(chain.anchors, policy.max_anchor_delay_s, self.resumed_from)
        self.records = Records(chain.log.origin, start, lateness, texts, self)
        # The log as of its newest anchor, and whether that may be gone on from.
        self._at_anchor = start
        self._verified_head: Checkpoint | None = None
        self._interrupted = False

    @property
    def read(self) -> int:
        return self._frontier.size

    @property
    def complete(self) -> bool:
        """Whether every body was shown, so that a missing record is really missing."""
        records = self.records
        told = records.opened + records.erased
        return records.shown and self.read > 0 and told == self.read == self.size

    @property
    def anchors(self) -> Sequence[Anchor]:
        return self._chain.anchors

    @property
    def anchors_compared(self) -> int:
        return sum(anchor.size <= self.read for anchor in self._chain.anchors)

    def report(self, code: str, index: int | None, why: str, *, lasting: bool = False) -> None:
        finding = Finding(code, self.log.origin, index, f"Log {self.log.origin}: {why}.")
        self.findings.append(finding)
        if lasting:
            self._lasting.append(finding)

    def run(self, reader: LogReader) -> None:
        self.findings += self._lasting
        checkpoint = self._checkpoint(reader)
        anchored = self._anchored_size()
        self.size = anchored if checkpoint is None else checkpoint.size
        if self.size > MAX_ENTRIES:
            self.report("log-too-large", None, f"it claims {self.size} entries, too many to read")
            return
        continues = self._continues_the_anchors()
        if self.resumed_from > 0 and (self.size < self.resumed_from or not continues):
            self.departed = True
            return
        if not continues and self._earlier is not None:
            self.report(
                "anchors-changed",
                None,
                f"an earlier audit saw its anchor of {self._earlier.size} entries, which the chain "
                "does not have in that place: the chain was reset, or is another one",
            )
        self._read(reader)
        self.records.tell_unanchored(self._policy.now_s)
        if self._check_history(checkpoint) and self.read == self.size:
            self._verified_head = checkpoint

    def state(self) -> LogState | None:
        """What the next audit goes on from: what was verified now, or else what was before."""
        head = self._verified_head
        if head is None:
            return self._earlier
        nothing = replace(NOTHING_READ, max_anchor_delay_s=self._policy.max_anchor_delay_s)
        kept = self._at_anchor or nothing
        return replace(kept, seen_size=head.size, seen_root=head.root)

    def summary(self) -> LogSummary:
        anchored = self._anchored_size()
        return LogSummary(
            origin=self.log.origin,
            owner=self.log.owner,
            revoked=self.log.revoked,
            size=self.size,
            entries_read=self.read,
            anchors=len(self._chain.anchors),
            anchored_size=anchored,
            unanchored=max(0, self.size - anchored),
            entries_shown=self.records.shown and self.read > 0,
            entries_opened=self.records.opened,
            entries_erased=self.records.erased,
            resumed_from=self.resumed_from,
            witnesses=self.witnesses,
        )

    # The signed head

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
            self.report("log-unreachable", None, f"it shows no checkpoint: {why_words(err)}")
            return None
        try:
            return self._verified(note, verifier)
        except RetiredKey as err:
            self.report("key-retired", None, str(err))
        except InvalidNote as err:
            self.report(
                "checkpoint-unsigned",
                None,
                f"its checkpoint is not signed with the key registered on the chain: {err}",
            )
        except InvalidCheckpoint as err:
            self.report("checkpoint-invalid", None, f"what it signed is not its checkpoint: {err}")
        return None

    def _verified(self, note: str, verifier: NoteVerifier) -> Checkpoint:
        """The checkpoint by the log's present key, or by an earlier one that may still vouch."""
        try:
            checkpoint = verify_checkpoint(note, verifier, self.log.origin)
        except InvalidNote as unsigned:
            if self._chain.key_history is None:
                raise
            try:
                history = self._chain.key_history()
            except ChainRefused as err:
                # Some endpoints give no events. The other logs must still be audited.
                raise InvalidNote(f"{unsigned}; earlier keys are not told: {err}") from err
            checkpoint, verifier = verify_with_history(
                note, self.log.origin, history, self._chain.anchors
            )
        self._check_witnesses(note, verifier)
        return checkpoint

    def _check_witnesses(self, note: str, verifier: NoteVerifier) -> None:
        policy = self._policy
        try:
            cosigned = verify_cosignatures(
                note, verifier, policy.witnesses, policy.require_witnesses
            )
            self.witnesses = tuple(one.name for one in cosigned)
        except TooFewCosignatures as err:
            self.report("cosignatures-missing", None, str(err))
        except InvalidNote as err:
            self.report("cosignature-invalid", None, f"its checkpoint carries a bad one: {err}")

    # Reading

    def _read(self, reader: LogReader) -> None:
        """Read all commitments and the bodies shown, comparing roots at every mark."""
        stop = min(self._anchored_size(), self.size)
        if self._marks.next_size == self.read:
            self._marks.compare(self._frontier.root())
        while True:
            if self.read == stop and self.read > 0:
                self._keep()
            if self.read >= self.size:
                return
            # A page ends at the newest anchor, because the next audit goes on from there.
            end = min(self.read + PAGE, stop if self.read < stop else self.size)
            page = self._page(reader, end)
            if page is None:
                self._interrupted = True
                return
            start = self.read
            for commitment in page:
                self._frontier.append(leaf_hash(commitment))
                if self._frontier.size == self._marks.next_size:
                    self._marks.compare(self._frontier.root())
            self.records.open(reader, start, page)

    def _page(self, reader: LogReader, end: int) -> list[bytes] | None:
        try:
            page = list(reader.commitments(self.read, end))[: end - self.read]
        except Exception as err:
            self.report(
                "log-unreachable", self.read, f"reading stopped at {self.read}: {why_words(err)}"
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
                lasting=True,
            )
        return page

    # History

    def _anchored_size(self) -> int:
        return self._chain.anchors[-1].size if self._chain.anchors else 0

    def _continues_the_anchors(self) -> bool:
        """Whether the anchor that the earlier audit went up to is still where it was."""
        earlier = self._earlier
        if earlier is None or earlier.anchors == 0:
            return True
        if earlier.anchors > len(self._chain.anchors):
            return False
        anchor = self._chain.anchors[earlier.anchors - 1]
        return (anchor.size, anchor.root) == (earlier.size, fold_peaks(earlier.peaks))

    def _check_history(self, checkpoint: Checkpoint | None) -> bool:
        """Report what the roots say; True when they all agree."""
        before = len(self.findings)
        newest = self._chain.anchors[-1] if self._chain.anchors else None
        if checkpoint is not None and newest is not None and newest.size > checkpoint.size:
            self.report(
                "log-rewound",
                checkpoint.size,
                f"it shows {checkpoint.size} entries, but it anchored {newest.size} entries "
                f"{when_words(newest)}: entries {checkpoint.size} to {newest.size - 1} were "
                "removed",
            )
        elif checkpoint is not None and self._earlier is not None:
            seen = self._earlier.seen_size
            if checkpoint.size < seen:
                self.report(
                    "log-rewound",
                    checkpoint.size,
                    f"it shows {checkpoint.size} entries, but an earlier audit saw a signed head "
                    f"of {seen}: entries {checkpoint.size} to {seen - 1} were removed",
                )
        if self._marks.broken is not None:
            start, end, words = self._marks.broken
            self.report(
                "history-rewritten",
                start,
                f"{range_words(start, end)} changed after it was recorded: the log now gives "
                f"another root than the one {words}",
            )
        if (
            checkpoint is not None
            and self.read == self.size
            and self._frontier.root() != checkpoint.root
        ):
            self.report(
                "root-differs",
                self._marks.good,
                f"{range_words(self._marks.good, checkpoint.size)} not what its owner signed: the "
                "commitments shown give another root than the checkpoint",
            )
        agreed = len(self.findings) == before
        self.departed = not agreed
        return agreed

    # For the next audit

    def _keep(self) -> None:
        """Note the tree and the facts as they are at the newest anchor."""
        self.records.close(self.read)
        if self._interrupted or self.records.interrupted:
            return
        self._at_anchor = replace(
            NOTHING_READ,
            size=self.read,
            peaks=tuple(self._frontier.peaks),
            anchors=len(self._chain.anchors),
            opened=self.records.opened,
            erased=self.records.erased,
            shown=self.records.shown,
            ids=bytes(self.records.id_bytes),
            facts=tuple(self.records.facts),
            findings=tuple(self._lasting),
            max_anchor_delay_s=self._policy.max_anchor_delay_s,
        )


def _shows(reader: LogReader) -> bool:
    """Whether bodies are shown; the audit itself will report a reader that fails."""
    try:
        return reader.entries(0, 1) is not None
    except Exception:
        return False
