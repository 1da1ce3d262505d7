"""An audit goes on where the last one stopped, and notices when the log does not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ledger.anchors import Anchor
from ledger.audit import AuditState, Report, audit
from ledger.entry import Entry, EntryType, SealedEntry, commitment_of, seal
from ledger.errors import InputRejected

from .space import ORDER, TRANSCRIPT, Participant, Space, only


@pytest.fixture
def space() -> Space:
    return Space()


def stored(report: Report) -> AuditState:
    """The state as it comes back from a file."""
    assert report.state is not None
    return AuditState.parse(json.loads(json.dumps(report.state.to_json())))


def extend(party: Participant, entries: int, *, anchored: bool = True) -> None:
    for _ in range(entries):
        party.write(EntryType.PUBLISHED)
    if anchored:
        party.anchor()


class Counting:
    """A reader that counts what it is asked for."""

    def __init__(self, party: Participant) -> None:
        self.party, self.read = party, 0
        self.checkpoint = party.checkpoint
        self.entries = party.entries

    def commitments(self, start: int, end: int) -> list[bytes]:
        self.read += end - start
        return self.party.commitments(start, end)


def test_a_second_audit_reads_only_what_is_new(space: Space) -> None:
    extend(space.water, 600)
    state = stored(space.audit())
    extend(space.water, 5)
    extend(space.water, 2, anchored=False)
    reader = Counting(space.water)
    report = audit(space, {p.origin: p for p in space.all} | {space.water.origin: reader})
    assert reader.read == 610
    reader = Counting(space.water)
    resumed = audit(
        space, {p.origin: p for p in space.all} | {space.water.origin: reader}, state=state
    )
    assert reader.read == 7
    assert resumed.ok
    assert resumed.logs[1].resumed_from == 603
    assert replace(resumed.logs[1], resumed_from=0) == report.logs[1]
    assert resumed.checks == report.checks


def test_states_of_a_chain_of_audits_equal_that_of_one(space: Space) -> None:
    state = None
    for _ in range(4):
        extend(space.bank, 3)
        extend(space.bank, 1, anchored=False)
        report = space.audit(state=state)
        assert report.ok
        state = stored(report)
    assert state == stored(space.audit())


def test_nothing_new_is_still_consistent(space: Space) -> None:
    report = space.audit(state=stored(space.audit()))
    assert report.ok
    assert [log.resumed_from for log in report.logs] == [5, 3, 3]


def test_what_was_found_about_an_entry_is_found_again_without_reading_it(space: Space) -> None:
    space.water.sealed[1] = space.water.replace_body(1, decision="deny")
    first = space.audit()
    extend(space.water, 2)
    second = space.audit(state=stored(first))
    assert second.findings == first.findings
    assert "entry-altered" in {finding.code for finding in second.findings}
    assert second.logs[1].resumed_from == 3


def test_records_of_both_audits_are_matched_with_one_another(space: Space) -> None:
    state = stored(space.audit())
    space.bank.write(EntryType.REFUSED, order_h=ORDER, clause="permission[0]")
    space.bank.anchor()
    codes = {finding.code for finding in space.audit(state=state).findings}
    assert codes == {"refused-but-completed"}


def test_a_record_repeated_from_before_is_found(space: Space) -> None:
    state = stored(space.audit())
    repeated = space.bank.sealed[0]
    assert repeated is not None
    space.bank.put(repeated)
    finding = only(space.audit(state=state))
    assert (finding.code, finding.index) == ("entry-repeated", 3)


def rewrite(party: Participant, index: int) -> None:
    sealed = seal(Entry.model_validate_json(party.replace_body(index).body), b"another salt 16b")
    party.sealed[index], party.commitments_[index] = sealed, sealed.commitment


def test_an_old_entry_rewritten_since_is_found_by_the_anchor(space: Space) -> None:
    extend(space.water, 3)
    state = stored(space.audit())
    rewrite(space.water, 4)
    extend(space.water, 1, anchored=False)
    report = space.audit(state=state)
    finding = only(report)
    assert (finding.code, finding.index) == ("history-rewritten", 3)
    assert "at least one of the entries 3 to 5 was changed" in finding.sentence


def test_an_entry_rewritten_before_it_was_anchored_is_found_by_the_head_seen_before(
    space: Space,
) -> None:
    extend(space.water, 3, anchored=False)
    state = stored(space.audit())
    rewrite(space.water, 4)
    space.water.anchor()
    finding = only(space.audit(state=state))
    assert (finding.code, finding.index) == ("history-rewritten", 3)
    assert finding.sentence.endswith("than the one that an earlier audit saw signed.")
    assert space.audit().ok


def test_unanchored_entries_removed_since_are_found_by_the_head_seen_before(space: Space) -> None:
    extend(space.water, 3, anchored=False)
    state = stored(space.audit())
    del space.water.sealed[5:], space.water.commitments_[5:]
    finding = only(space.audit(state=state))
    assert (finding.code, finding.index) == ("log-rewound", 5)
    assert "an earlier audit saw a signed head of 6: entries 5 to 5 were removed" in (
        finding.sentence
    )


def test_the_evidence_against_a_log_survives_the_audit_that_found_it(space: Space) -> None:
    extend(space.water, 3, anchored=False)
    state = stored(space.audit())
    del space.water.sealed[5:], space.water.commitments_[5:]
    again = stored(space.audit(state=state))
    assert only(space.audit(state=again)).code == "log-rewound"


def test_a_chain_that_lost_its_anchors_is_noticed_once(space: Space) -> None:
    extend(space.water, 3)
    state = stored(space.audit())
    space.water.anchors = []
    space.water.anchor()
    report = space.audit(state=state)
    assert only(report).code == "anchors-changed"
    assert "the chain was reset, or is another one" in report.findings[0].sentence
    assert space.audit(state=stored(report)).ok


def test_bodies_shown_for_the_first_time_are_all_read(space: Space) -> None:
    space.water.shows_bodies = False
    state = stored(space.audit())
    space.water.shows_bodies = True
    report = space.audit(state=state)
    assert (report.logs[1].entries_opened, report.logs[1].resumed_from) == (3, 0)


def test_a_log_that_cannot_be_read_now_keeps_its_state(space: Space) -> None:
    state = stored(space.audit())
    readers = {p.origin: p for p in (space.consumer, space.bank)}
    report = audit(space, readers, state=state)
    assert only(report).code == "log-unreachable"
    assert stored(report).logs[space.water.origin] == state.logs[space.water.origin]


def test_another_limit_of_delay_reads_everything_again(space: Space) -> None:
    state = stored(space.audit())
    report = space.audit(state=state, max_anchor_delay_s=1e9)
    assert [log.resumed_from for log in report.logs] == [0, 0, 0]


def test_a_head_seen_before_is_compared_also_when_everything_is_read_again(space: Space) -> None:
    extend(space.water, 3, anchored=False)
    state = stored(space.audit())
    rewrite(space.water, 4)
    assert only(space.audit(state=state, max_anchor_delay_s=1e9)).code == "history-rewritten"


def test_a_malformed_commitment_and_a_malformed_record_stay_found(space: Space) -> None:
    body, salt = b'{"v":1}', bytes(16)
    space.water.put(SealedEntry(body, salt, commitment_of(body, salt)))
    space.water.anchor()
    first = space.audit()
    assert only(space.audit(state=stored(first))).code == "entry-malformed"


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: None,
        lambda value: {},
        lambda value: value | {"v": 2},
        lambda value: value | {"logs": 3},
        lambda value: value | {"logs": {"o": {}}},
        lambda value: with_log(value, size=4),
        lambda value: with_log(value, ids="AA=="),
        lambda value: with_log(value, facts={"texts": [], "rows": [[0, None, *[5] * 13]]}),
        lambda value: with_log(value, facts={"texts": [], "rows": [[0, None]]}),
        lambda value: with_log(value, findings=[{"code": "x"}]),
        lambda value: with_log(value, seen_root="zz"),
    ],
)
def test_a_damaged_state_is_refused(space: Space, damage: Any) -> None:
    state = space.audit().state
    assert state is not None
    with pytest.raises(InputRejected, match="audit once without a state"):
        AuditState.parse(damage(state.to_json()))


def with_log(value: dict[str, Any], **changes: object) -> dict[str, Any]:
    origin, log = next(iter(value["logs"].items()))
    return value | {"logs": {origin: log | changes}}


def test_an_order_completed_in_the_second_part_needs_its_permit_from_either(space: Space) -> None:
    space.water.write(EntryType.DECIDED, order_h="7" * 64, decision="permit")
    space.water.anchor()
    state = stored(space.audit())
    space.water.write(EntryType.COMPLETED, order_h="7" * 64, transcript_h=TRANSCRIPT)
    space.water.write(EntryType.COMPLETED, order_h="6" * 64, transcript_h=TRANSCRIPT)
    finding = only(space.audit(state=state))
    assert (finding.code, finding.index) == ("completed-without-permit", 5)


def test_an_anchor_made_between_two_audits_at_a_size_already_read_is_compared(
    space: Space,
) -> None:
    extend(space.water, 4, anchored=False)
    state = stored(space.audit())
    space.water.anchors.append(Anchor(5, bytes(32), 99, 1_795_000_000))
    finding = only(space.audit(state=state))
    assert (finding.code, finding.index) == ("history-rewritten", 3)
