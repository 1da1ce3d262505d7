"""The auditor finds every tampering and names it, and finds nothing where nothing is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_account import Account

from ledger.anchors import RegisteredLog
from ledger.audit import DirectoryLog, Finding, audit, export_log
from ledger.checkpoint import Checkpoint, NoteSigner, sign_note
from ledger.crossmatch import ORDER_RECEIVED, ORDER_SENT
from ledger.entry import Entry, EntryType, SealedEntry, commitment_of, seal
from ledger.errors import ChainUnavailable, InputRejected
from ledger.merkle import root_hash

from .space import A_H, ORDER, TRANSCRIPT, Participant, Space, only


@pytest.fixture
def space() -> Space:
    return Space()


def test_an_honest_space_has_no_findings(space: Space) -> None:
    report = space.audit()
    assert report.ok
    assert report.findings == ()
    water = report.logs[1]
    assert (water.origin, water.size, water.anchored_size, water.unanchored) == (
        "water.city.example/tlog",
        3,
        3,
        0,
    )
    assert (water.entries_opened, water.entries_erased, water.anchors) == (3, 0, 1)


def test_entries_not_yet_anchored_are_a_figure_and_not_a_finding(space: Space) -> None:
    for _ in range(4):
        space.water.write(EntryType.PUBLISHED)
    report = space.audit()
    assert report.ok
    assert report.logs[1].unanchored == 4


def test_an_altered_body_is_named_by_its_index(space: Space) -> None:
    space.water.sealed[1] = space.water.replace_body(1, decision="deny")
    finding = report_of(space, "entry-altered")
    assert (finding.origin, finding.index) == (space.water.origin, 1)
    assert finding.sentence == (
        "Log water.city.example/tlog: the content shown for entry 1 is not what was recorded there."
    )


def report_of(space: Space, code: str) -> Finding:
    """The finding of this code among all."""
    found = [finding for finding in space.audit().findings if finding.code == code]
    assert len(found) == 1, space.audit().findings
    return found[0]


def test_a_body_with_a_commitment_of_its_own_is_altered_too(space: Space) -> None:
    forged = Participant("water")
    forged.write(EntryType.PUBLISHED)
    space.water.sealed[0] = forged.sealed[0]
    assert report_of(space, "entry-altered").index == 0


def test_a_rewritten_entry_is_found_by_the_anchor_although_log_and_signature_agree(
    space: Space,
) -> None:
    for _ in range(3):
        space.water.write(EntryType.PUBLISHED)
        space.water.anchor()
    forged = replace(space.water.replace_body(4, outcome="important"))
    resealed = seal(Entry.model_validate_json(forged.body), forged.salt)
    space.water.sealed[4], space.water.commitments_[4] = resealed, resealed.commitment
    finding = only(space.audit())
    assert (finding.code, finding.origin, finding.index) == (
        "history-rewritten",
        space.water.origin,
        4,
    )
    assert "entry 4 was changed after it was recorded" in finding.sentence
    assert re.search(r"anchored on 2026-11-\d\d .* UTC in block 12", finding.sentence)


def test_the_range_between_the_last_good_and_the_first_bad_anchor_is_named(space: Space) -> None:
    for _ in range(6):
        space.water.write(EntryType.PUBLISHED)
    space.water.anchor()
    space.water.write(EntryType.PUBLISHED)
    space.water.anchor()
    sealed = seal(Entry.model_validate_json(space.water.replace_body(5).body), b"another salt 16b")
    space.water.sealed[5], space.water.commitments_[5] = sealed, sealed.commitment
    finding = only(space.audit())
    assert "at least one of the entries 3 to 8 was changed" in finding.sentence
    assert finding.index == 3


def test_a_rewound_log_is_told_what_it_removed(space: Space) -> None:
    for _ in range(5):
        space.bank.write(EntryType.PUBLISHED)
    space.bank.anchor()
    del space.bank.sealed[4:], space.bank.commitments_[4:]
    finding = only(space.audit())
    assert (finding.code, finding.index) == ("log-rewound", 4)
    assert "shows 4 entries, but it anchored 8 entries" in finding.sentence
    assert "entries 4 to 7 were removed" in finding.sentence


def test_a_removed_entry_in_the_middle_is_found_by_the_anchor(space: Space) -> None:
    del space.bank.sealed[1], space.bank.commitments_[1]
    space.bank.write(EntryType.PUBLISHED)
    assert report_of(space, "history-rewritten").origin == space.bank.origin


def test_a_checkpoint_under_another_key_is_not_accepted(space: Space) -> None:
    stranger = Ed25519PrivateKey.from_private_bytes(bytes(32))
    honest = space.water.checkpoint
    space.water.signer, key = NoteSigner(space.water.origin, stranger), space.water.signer
    signed_by_stranger = honest()
    space.water.signer = key
    space.water.checkpoint = lambda: signed_by_stranger  # type: ignore[method-assign]
    finding = only(space.audit())
    assert finding.code == "checkpoint-unsigned"
    assert "not signed with the key registered on the chain" in finding.sentence


def test_a_checkpoint_of_another_origin_is_not_accepted(space: Space) -> None:
    head = Checkpoint(space.bank.origin, 3, root_hash(space.water.commitments_))
    note = sign_note(head.body(), [space.water.signer])
    space.water.checkpoint = lambda: note  # type: ignore[method-assign]
    finding = only(space.audit())
    assert finding.code == "checkpoint-invalid"
    assert f"got one of {space.bank.origin}" in finding.sentence


def test_commitments_that_do_not_give_the_signed_root_are_found(space: Space) -> None:
    space.water.write(EntryType.PUBLISHED)
    space.water.write(EntryType.PUBLISHED)
    note = space.water.checkpoint()
    space.water.checkpoint = lambda: note  # type: ignore[method-assign]
    space.water.commitments_[4] = bytes(32)
    root, altered = space.audit().findings[1], space.audit().findings[0]
    assert (altered.code, altered.index) == ("entry-altered", 4)
    assert (root.code, root.index) == ("root-differs", 3)
    assert "at least one of the entries 3 to 4 was not what its owner signed" in root.sentence


def test_commitments_held_back_are_found(space: Space) -> None:
    space.water.commitments = lambda start, end: []  # type: ignore[method-assign]
    finding = only(space.audit())
    assert (finding.code, finding.index) == ("commitments-missing", 0)
    assert "claims 3 entries but shows only 0" in finding.sentence


def test_short_pages_are_read_to_the_end(space: Space) -> None:
    honest = space.water.commitments_
    space.water.commitments = lambda start, end: honest[start : start + 1]  # type: ignore[method-assign]
    report = space.audit()
    assert report.ok
    assert report.logs[1].entries_opened == 3


def test_more_than_was_asked_for_is_cut_off(space: Space) -> None:
    honest = space.water.commitments_
    space.water.commitments = lambda start, end: [*honest, bytes(32)]  # type: ignore[method-assign]
    assert space.audit().ok


def test_bodies_held_back_in_the_middle_are_found(space: Space) -> None:
    honest = space.water.sealed
    space.water.entries = lambda start, end: honest[:2]  # type: ignore[method-assign]
    finding = only(space.audit())
    assert (finding.code, finding.index) == ("entries-missing", 2)


def test_a_log_that_shows_no_bodies_is_checked_as_far_as_it_goes(space: Space) -> None:
    space.water.shows_bodies = False
    report = space.audit()
    assert report.ok
    assert report.logs[1].entries_shown is False
    assert report.logs[1].entries_read == 3


def test_an_unreachable_log_is_a_finding_and_the_others_are_still_checked(space: Space) -> None:
    def broken(*_: object) -> Any:
        raise ConnectionResetError("secret internals of the network")

    space.water.checkpoint = broken  # type: ignore[method-assign]
    space.water.commitments = broken  # type: ignore[method-assign]
    space.bank.sealed[2] = space.bank.replace_body(2, outcome="other")
    findings = space.audit().findings
    assert [(finding.code, finding.origin) for finding in findings[:2]] == [
        ("log-unreachable", space.water.origin),
        ("log-unreachable", space.water.origin),
    ]
    assert findings[2].code == "entry-altered"
    assert not any("secret" in finding.sentence for finding in findings)


def test_a_log_nobody_can_read_and_a_reader_of_an_unregistered_log_are_findings(
    space: Space,
) -> None:
    stranger = Participant("stranger")
    readers = {p.origin: p for p in (space.consumer, space.bank, stranger)}
    codes = {(f.code, f.origin) for f in audit(space, readers).findings}
    assert codes == {
        ("log-unreachable", space.water.origin),
        ("log-unregistered", stranger.origin),
    }


def test_an_unusable_key_on_the_chain_is_a_finding(space: Space) -> None:
    logs = space.logs()
    space.logs = lambda: [replace(logs[0], vkey="nonsense"), *logs[1:]]  # type: ignore[method-assign]
    assert only(space.audit()).code == "key-unusable"


def test_a_reader_that_fails_at_the_bodies_is_a_finding(space: Space) -> None:
    def broken(*_: object) -> Any:
        raise InputRejected("the service said no")

    space.water.entries = broken  # type: ignore[method-assign]
    finding = only(space.audit())
    assert finding.code == "entries-unreachable"
    assert "the service said no" in finding.sentence


def test_an_entry_copied_from_another_log_or_repeated_is_found(space: Space) -> None:
    foreign = space.water.write(EntryType.PUBLISHED, log=space.bank.origin)
    repeated = space.bank.sealed[0]
    assert repeated is not None
    space.bank.put(repeated)
    findings = space.audit().findings
    assert [(f.code, f.origin, f.index) for f in findings] == [
        ("entry-foreign", space.water.origin, foreign),
        ("entry-repeated", space.bank.origin, 3),
    ]


def test_an_entry_that_opens_but_is_no_record_is_found(space: Space) -> None:
    body, salt = b'{"v":1}', bytes(16)
    space.water.put(SealedEntry(body, salt, commitment_of(body, salt)))
    finding = only(space.audit())
    assert (finding.code, finding.index) == ("entry-malformed", 3)


def test_a_commitment_of_another_length_is_found(space: Space) -> None:
    space.water.sealed.append(None)
    space.water.commitments_.append(b"short")
    assert only(space.audit()).code == "commitment-malformed"


def test_a_record_dropped_on_one_side_is_missed_by_name(space: Space) -> None:
    # The bank left the agreement out from the beginning: its log is consistent in itself.
    space.bank.sealed, space.bank.commitments_ = space.bank.sealed[1:], space.bank.commitments_[1:]
    space.bank.anchors = []
    finding = only(space.audit())
    assert (finding.code, finding.origin, finding.index) == (
        "record-missing",
        space.bank.origin,
        None,
    )
    assert "Entry 1 of consumer.city.example/tlog records that" in finding.sentence
    assert "the log of did:web:bank.city.example has no record of it." in finding.sentence


def test_a_participant_that_dropped_every_record_is_still_missed(space: Space) -> None:
    space.bank.sealed, space.bank.commitments_, space.bank.anchors = [], [], []
    space.bank.write(EntryType.PUBLISHED, actor="did:web:somebody.else")
    assert only(space.audit()).code == "record-missing"


def test_a_record_newer_than_the_settled_time_is_not_yet_missed(space: Space) -> None:
    space.bank.sealed, space.bank.commitments_ = space.bank.sealed[1:], space.bank.commitments_[1:]
    space.bank.anchors = []
    assert space.audit(settled_before="2026-11-25T08:00:01.000Z").ok
    assert not space.audit(settled_before="2026-11-25T08:00:01.001Z").ok


def test_a_participant_without_a_log_is_not_blamed_for_having_none(space: Space) -> None:
    space.consumer.write(
        EntryType.NEGOTIATED, peer="did:web:person.example", corr="other", agreement_h=A_H
    )
    assert space.audit().ok


def test_two_texts_of_one_agreement_are_found(space: Space) -> None:
    for party in (space.consumer, space.water):
        peer = space.water.did if party is space.consumer else space.consumer.did
        digest = ("d" if party is space.water else "e") * 64
        party.write(EntryType.NEGOTIATED, peer=peer, corr="second", agreement_h=digest)
    finding = only(space.audit())
    assert (finding.code, finding.origin, finding.index) == (
        "agreement-differs",
        space.water.origin,
        3,
    )
    assert "d" * 64 in finding.sentence
    assert "e" * 64 in finding.sentence


def test_two_transcripts_of_one_order_are_found(space: Space) -> None:
    for party in space.all:
        digest = ("f" if party is space.bank else "d") * 64
        if party is not space.consumer:
            party.write(EntryType.DECIDED, order_h="9" * 64, decision="permit")
        else:
            party.write(EntryType.ORDERED, order_h="9" * 64)
        party.write(EntryType.COMPLETED, order_h="9" * 64, transcript_h=digest)
    finding = only(space.audit())
    assert (finding.code, finding.origin) == ("transcript-differs", space.bank.origin)


@pytest.mark.parametrize("decision", [None, "deny"])
def test_a_provider_that_completes_without_a_permit_is_found(
    space: Space, decision: str | None
) -> None:
    order = "8" * 64
    if decision is not None:
        space.water.write(EntryType.DECIDED, order_h=order, decision=decision)
    completed = space.water.write(EntryType.COMPLETED, order_h=order, transcript_h=TRANSCRIPT)
    # A permit that comes afterwards does not help.
    space.water.write(EntryType.DECIDED, order_h=order, decision="permit")
    finding = only(space.audit())
    assert (finding.code, finding.index) == ("completed-without-permit", completed)
    assert finding.sentence.startswith(f"Entry {completed} of water.city.example/tlog records that")


def test_a_refused_order_that_was_completed_is_found(space: Space) -> None:
    space.bank.write(EntryType.REFUSED, order_h=ORDER, clause="permission[0]")
    findings = space.audit().findings
    assert {finding.code for finding in findings} == {"refused-but-completed"}
    assert [finding.origin for finding in findings] == [party.origin for party in space.all]
    assert "was refused according to entry 3 of bank.city.example/tlog" in findings[0].sentence


def test_an_erased_entry_is_a_figure_and_proofs_still_hold(space: Space) -> None:
    index = space.water.write(EntryType.PUBLISHED)
    space.water.anchor()
    space.water.sealed[index] = None
    report = space.audit()
    assert report.ok
    assert report.logs[1].entries_erased == 1


def test_a_missing_record_mentions_that_it_may_have_been_erased(space: Space) -> None:
    space.bank.sealed[0] = None
    sentence = report_of(space, "record-missing").sentence
    assert "(unless it is among the 1 erased entries of that log)" in sentence


def test_a_registry_that_cannot_be_read_stops_the_audit(space: Space) -> None:
    def away() -> list[RegisteredLog]:
        raise ChainUnavailable("the chain's endpoint does not answer")

    space.logs = away  # type: ignore[method-assign]
    with pytest.raises(ChainUnavailable):
        space.audit()


def test_the_report_is_plain_json(space: Space) -> None:
    space.water.sealed[1] = space.water.replace_body(1, decision="deny")
    told = json.loads(json.dumps(space.audit().to_json()))
    assert told["ok"] is False
    assert told["findings"][0]["code"] == "entry-altered"
    assert told["logs"][0]["origin"] == space.consumer.origin


# Copies in a directory.


def exported(party: Participant, directory: Path, entries: bool = True) -> DirectoryLog:
    export_log(directory, party.checkpoint(), party.commitments_, party.sealed if entries else None)
    return DirectoryLog(directory)


@pytest.fixture
def long_log(space: Space) -> Participant:
    for _ in range(600):
        space.water.write(EntryType.PUBLISHED)
    space.water.sealed[300] = None
    space.water.anchor()
    return space.water


def test_an_exported_copy_reads_as_the_log_it_was_made_from(
    long_log: Participant, tmp_path: Path
) -> None:
    copy = exported(long_log, tmp_path)
    assert copy.checkpoint() == long_log.checkpoint()
    for start, end in ((0, 603), (0, 1), (255, 257), (250, 520), (600, 700), (700, 800), (5, 5)):
        assert copy.commitments(start, end) == long_log.commitments(start, end)
        assert copy.entries(start, end) == long_log.entries(start, end)
    assert (tmp_path / "tile/entries/002.p/91").is_file()
    assert (tmp_path / "tile/0/001").stat().st_size == 8192
    assert (tmp_path / "tile/1/000.p/2").is_file()


def test_an_audit_of_copies_finds_what_an_audit_of_the_servers_finds(
    space: Space, long_log: Participant, tmp_path: Path
) -> None:
    readers = {p.origin: exported(p, tmp_path / p.origin) for p in space.all}
    assert audit(space, readers).to_json() == space.audit().to_json()
    assert audit(space, readers).ok


def test_a_copy_without_bodies_says_so(space: Space, tmp_path: Path) -> None:
    copy = exported(space.water, tmp_path, entries=False)
    assert copy.entries(0, 3) is None
    with pytest.raises(InputRejected, match="2 entries for 3 commitments"):
        export_log(tmp_path, "", space.water.commitments_, space.water.sealed[:2])


def damage_line(line: bytes) -> bytes:
    return line.replace(b'"salt": "', b'"salt": "AA')


@pytest.mark.parametrize(
    "damage",
    [damage_line, lambda line: b"[" * 50_000 + b"\n", lambda line: b"\xff\xfe\n", lambda _: b"\n"],
)
def test_a_damaged_line_of_a_copy_is_named_by_its_index(
    space: Space, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    readers = {p.origin: exported(p, tmp_path / p.origin) for p in space.all}
    path = tmp_path / space.water.origin / "entries.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[0] = damage(lines[0])
    path.write_bytes(b"".join(lines))
    altered = [f for f in audit(space, readers).findings if f.code == "entry-altered"]
    assert [(f.origin, f.index) for f in altered] == [(space.water.origin, 0)]


def test_every_flipped_byte_of_a_copied_bundle_is_found(space: Space, tmp_path: Path) -> None:
    readers = {p.origin: exported(p, tmp_path / p.origin) for p in space.all}
    path = tmp_path / space.water.origin / "tile/entries/000.p/3"
    content = path.read_bytes()
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        findings = audit(space, readers).findings
        assert {finding.origin for finding in findings} >= {space.water.origin}
    path.write_bytes(content)
    assert audit(space, readers).ok


def test_an_emptied_copy_is_a_finding(space: Space, tmp_path: Path) -> None:
    readers = {p.origin: exported(p, tmp_path / p.origin) for p in space.all}
    (tmp_path / space.water.origin / "checkpoint").unlink()
    finding = only(audit(space, readers))
    assert (finding.code, finding.origin) == ("log-unreachable", space.water.origin)


# And with the real chain.


def test_an_audit_against_the_contract_names_a_rewritten_entry(
    served: Any, new_key: Callable[[], str], space: Space
) -> None:
    registrar = served.deploy()
    for party in space.all:
        key = new_key()
        owner = served.open(registrar, key)
        registrar.register(
            party.origin, Account.from_key(key).address, party.signer.vkey, "https://x"
        )
        prepared = owner.prepare_anchor(
            party.origin, len(party.commitments_), root_hash(party.commitments_)
        )
        owner.submit(prepared)
    readers = {p.origin: p for p in space.all}
    assert audit(registrar, readers).ok
    forged = seal(
        Entry.model_validate_json(space.bank.replace_body(1, decision="deny").body), bytes(16)
    )
    space.bank.sealed[1], space.bank.commitments_[1] = forged, forged.commitment
    codes = [finding.code for finding in audit(registrar, readers).findings]
    assert codes == ["history-rewritten", "completed-without-permit"]


def test_a_provider_that_records_the_order_as_a_real_one_does_still_needs_a_permit(
    space: Space,
) -> None:
    order = "7" * 64
    space.consumer.write(EntryType.ORDERED, peer=space.water.did, order_h=order, outcome=ORDER_SENT)
    space.water.write(
        EntryType.ORDERED, peer=space.consumer.did, order_h=order, outcome=ORDER_RECEIVED
    )
    completed = space.water.write(EntryType.COMPLETED, order_h=order, transcript_h=TRANSCRIPT)
    finding = only(space.audit())
    assert (finding.code, finding.origin, finding.index) == (
        "completed-without-permit",
        space.water.origin,
        completed,
    )


def test_a_provider_that_keeps_quiet_about_a_completed_order_is_found(space: Space) -> None:
    order = "6" * 64
    sent = {"peer": space.water.did, "order_h": order}
    space.consumer.write(EntryType.ORDERED, outcome=ORDER_SENT, **sent)
    space.consumer.write(EntryType.COMPLETED, transcript_h=TRANSCRIPT, **sent)
    finding = only(space.audit())
    assert (finding.code, finding.origin) == ("record-missing", space.water.origin)


def test_a_consumer_that_keeps_quiet_about_an_order_it_sent_is_found(space: Space) -> None:
    space.water.write(EntryType.DECIDED, peer=space.consumer.did, order_h="5" * 64, decision="deny")
    finding = only(space.audit())
    assert (finding.code, finding.origin) == ("record-missing", space.consumer.origin)
