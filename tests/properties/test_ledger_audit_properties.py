"""However a log grows and however often it is audited, going on equals beginning again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.anchors import Anchor, RegisteredLog
from ledger.audit import AuditState, Report, audit
from ledger.checkpoint import Checkpoint, NoteSigner, sign_note
from ledger.entry import Entry, EntryType, SealedEntry, seal, uuid7
from ledger.merkle import root_hash

ORIGIN = "water.city.example/tlog"
SIGNER = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
START = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)


class OneLog:
    """A log with its chain."""

    def __init__(self) -> None:
        self.sealed: list[SealedEntry | None] = []
        self.leaves: list[bytes] = []
        self.made: list[Anchor] = []

    def write(self, kind: EntryType, order: int) -> None:
        at = START + timedelta(seconds=len(self.sealed))
        entry = Entry(
            log=ORIGIN,
            id=uuid7(at, bytes(10)),
            ts=at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            type=kind,
            actor="did:web:water.city.example",
            order_h=f"{order:064x}",
            decision="permit" if kind is EntryType.DECIDED else None,
        )
        sealed = seal(entry, len(self.sealed).to_bytes(16))
        self.sealed.append(sealed)
        self.leaves.append(sealed.commitment)

    def anchor(self) -> None:
        size = len(self.leaves)
        if not self.made or self.made[-1].size < size:
            when = int(START.timestamp()) + size + 5
            self.made.append(Anchor(size, root_hash(self.leaves), len(self.made) + 1, when))

    def logs(self) -> list[RegisteredLog]:
        return [RegisteredLog(ORIGIN, "0x1", SIGNER.vkey, "https://x", False)]

    def anchors(self, origin: str) -> list[Anchor]:
        return list(self.made)

    def checkpoint(self) -> str:
        head = Checkpoint(ORIGIN, len(self.leaves), root_hash(self.leaves))
        return sign_note(head.body(), [SIGNER])

    def commitments(self, start: int, end: int) -> list[bytes]:
        return self.leaves[start:end]

    def entries(self, start: int, end: int) -> list[SealedEntry | None] | None:
        return self.sealed[start:end]

    def audit(self, state: AuditState | None = None) -> Report:
        return audit(self, {ORIGIN: self}, state=state, max_anchor_delay_s=7)


KINDS = [EntryType.DECIDED, EntryType.COMPLETED, EntryType.REFUSED, EntryType.PUBLISHED]
steps = st.lists(
    st.sampled_from(["anchor", "audit"]) | st.tuples(st.sampled_from(KINDS), st.integers(0, 3)),
    max_size=40,
)


@given(steps)
@settings(deadline=None)
def test_an_audit_gone_on_with_finds_what_one_from_the_beginning_finds(
    taken: list[str | tuple[EntryType, int]],
) -> None:
    log, state = OneLog(), None
    for step in [*taken, "audit"]:
        if step == "anchor":
            log.anchor()
        elif step == "audit":
            resumed, whole = log.audit(state), log.audit()
            assert set(resumed.findings) == set(whole.findings)
            assert [replace(one, resumed_from=0) for one in resumed.logs] == list(whole.logs)
            assert resumed.checks == whole.checks
            assert resumed.state is not None
            state = AuditState.parse(json.loads(json.dumps(resumed.state.to_json())))
            assert whole.state is not None
            assert {**state.logs}[ORIGIN].peaks == whole.state.logs[ORIGIN].peaks
        else:
            assert not isinstance(step, str)
            log.write(*step)


@given(st.integers(2, 40), st.data())
@settings(deadline=None, max_examples=50)
def test_any_entry_rewritten_between_two_audits_is_found(size: int, data: st.DataObject) -> None:
    log = OneLog()
    for at in range(size):
        log.write(EntryType.PUBLISHED, at)
        if data.draw(st.booleans()):
            log.anchor()
    state = log.audit().state
    index = data.draw(st.integers(0, size - 1))
    log.leaves[index] = bytes(32)
    log.sealed[index] = None
    log.write(EntryType.PUBLISHED, 0)
    # Its new head does not continue the tree of the first audit, so everything is read again.
    report = log.audit(state)
    assert "history-rewritten" in {finding.code for finding in report.findings}
    assert report.logs[0].resumed_from == 0
