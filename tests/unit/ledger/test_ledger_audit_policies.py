"""What an auditor may ask beyond consistency: promptness, witnesses, keys, agreements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_account import Account

from ledger.anchors import Anchor, RotationRecord
from ledger.audit import Check, Fact, Finding, audit
from ledger.checkpoint import Checkpoint, NoteSigner, sign_note
from ledger.cosignature import CosignatureVerifier, Cosigner
from ledger.entry import EntryType
from ledger.errors import ChainRefused, InputRejected
from ledger.merkle import root_hash
from ledger.note import NoteSignature

from .space import START, Participant, Space, only

WRITTEN = int(START.timestamp())
COSIGNERS = [
    Cosigner(f"witness{n}.example", Ed25519PrivateKey.from_private_bytes(bytes([n + 1]) * 32))
    for n in range(2)
]
WITNESSES = [CosignatureVerifier.parse(one.vkey) for one in COSIGNERS]


@pytest.fixture
def space() -> Space:
    return Space()


def anchor_at(party: Participant, timestamp: int) -> None:
    size = len(party.commitments_)
    party.anchors.append(Anchor(size, root_hash(party.commitments_), 30, timestamp))


def promptly(space: Space) -> None:
    for party in space.all:
        party.anchors = []
        anchor_at(party, WRITTEN + 60)


def test_entries_anchored_in_time_are_no_finding(space: Space) -> None:
    promptly(space)
    report = space.audit(max_anchor_delay_s=60)
    assert report.ok
    assert Check("anchor-delay", 11, 11) in report.checks
    assert Check("anchor-delay", 0, 11) in space.audit().checks


def test_the_oldest_entry_under_a_late_anchor_is_named(space: Space) -> None:
    promptly(space)
    for _ in range(3):
        space.water.write(EntryType.PUBLISHED)
    anchor_at(space.water, WRITTEN + 200)
    finding = only(space.audit(max_anchor_delay_s=100))
    assert (finding.code, finding.origin, finding.index) == ("anchor-late", space.water.origin, 3)
    assert (
        "entry 3 of 2026-11-25T08:00:03.000Z was anchored on 2026-11-25 08:03:20 UTC in block"
        in (finding.sentence)
    )
    assert "197 s after it was written, at most 100 s are allowed" in finding.sentence


def test_an_entry_still_waiting_is_late_by_now_and_no_longer_once_anchored(space: Space) -> None:
    promptly(space)
    space.water.write(EntryType.PUBLISHED)
    options: dict[str, Any] = {"max_anchor_delay_s": 60}
    assert space.audit(**options).ok
    assert space.audit(now_s=WRITTEN + 63, **options).ok
    waiting = space.audit(now_s=WRITTEN + 64, **options)
    assert only(waiting).code == "anchor-late"
    assert "entry 3 of 2026-11-25T08:00:03.000Z is not anchored yet, 61 s after" in (
        waiting.findings[0].sentence
    )
    anchor_at(space.water, WRITTEN + 62)
    assert space.audit(now_s=WRITTEN + 99, state=waiting.state, **options).ok


def test_a_late_anchor_stays_found_by_the_next_audit(space: Space) -> None:
    promptly(space)
    first = space.audit(max_anchor_delay_s=59)
    assert {finding.code for finding in first.findings} == {"anchor-late"}
    second = space.audit(max_anchor_delay_s=59, state=first.state)
    assert second.findings == first.findings
    assert second.logs[0].resumed_from == 5


def cosign(party: Participant, *cosigners: Cosigner) -> None:
    head = Checkpoint(party.origin, len(party.commitments_), root_hash(party.commitments_))
    note = sign_note(head.body(), [party.signer, *(one.at(WRITTEN) for one in cosigners)])
    party.checkpoint = lambda: note  # type: ignore[method-assign]


def test_too_few_cosignatures_are_a_finding_with_their_number(space: Space) -> None:
    cosign(space.consumer, *COSIGNERS)
    cosign(space.water, COSIGNERS[1])
    cosign(space.bank, *COSIGNERS)
    assert space.audit(witnesses=WITNESSES, require_witnesses=1).ok
    report = space.audit(witnesses=WITNESSES, require_witnesses=2)
    finding = only(report)
    assert (finding.code, finding.origin) == ("cosignatures-missing", space.water.origin)
    assert "has 1 cosignatures of known witnesses" in finding.sentence
    assert report.logs[0].witnesses == ("witness0.example", "witness1.example")
    assert Check("witnesses", 3, 3) in report.checks
    assert Check("witnesses", 0, 3) in space.audit().checks


def test_a_forged_cosignature_is_a_finding_even_when_none_is_required(space: Space) -> None:
    forged = NoteSignature(COSIGNERS[0].name, COSIGNERS[0].key_id, bytes(7) + b"\x01" + bytes(64))
    note = space.water.checkpoint() + forged.line
    space.water.checkpoint = lambda: note  # type: ignore[method-assign]
    finding = only(space.audit(witnesses=WITNESSES))
    assert (finding.code, finding.origin) == ("cosignature-invalid", space.water.origin)


def test_more_cosignatures_than_witnesses_cannot_be_asked_for(space: Space) -> None:
    with pytest.raises(InputRejected, match="3 cosignatures are required"):
        space.audit(witnesses=WITNESSES, require_witnesses=3)


class WithKeys(Space):
    """A space whose chain tells the keys a log has had: the water works' changed at size 3."""

    def __init__(self) -> None:
        super().__init__()
        self.old = self.water.signer
        self.new = NoteSigner(
            self.water.origin, Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
        )
        self.water.signer = self.new

    def key_history(self, origin: str) -> list[RotationRecord]:
        assert origin == self.water.origin
        return [RotationRecord(self.old.vkey, 0, 1), RotationRecord(self.new.vkey, 3, 12)]

    def show(self, size: int, signer: NoteSigner) -> None:
        root = root_hash(self.water.commitments_[:size])
        note = sign_note(Checkpoint(self.water.origin, size, root).body(), [signer])
        self.water.checkpoint = lambda: note  # type: ignore[method-assign]


def test_an_old_keys_checkpoint_is_good_while_it_is_the_one_anchored_before_the_rotation() -> None:
    space = WithKeys()
    space.show(3, space.old)
    assert space.audit().ok
    space.water.write(EntryType.PUBLISHED)
    space.show(4, space.new)
    assert space.audit().ok


def test_an_old_key_cannot_sign_what_was_not_anchored_before_the_rotation() -> None:
    space = WithKeys()
    space.water.write(EntryType.PUBLISHED)
    space.show(4, space.old)
    finding = only(space.audit())
    assert (finding.code, finding.origin) == ("key-retired", space.water.origin)
    assert "signed by a key replaced at 3 entries, and was not anchored before" in finding.sentence


def test_an_endpoint_that_tells_no_earlier_keys_does_not_end_the_audit() -> None:
    space = WithKeys()

    def refused(origin: str) -> list[RotationRecord]:
        raise ChainRefused("RpcError", "the chain refused: method not supported")

    space.key_history = refused  # type: ignore[method-assign]
    space.show(3, space.old)
    finding = only(space.audit())
    assert finding.code == "checkpoint-unsigned"
    assert "earlier keys are not told: RpcError" in finding.sentence


def test_an_audit_against_the_contract_follows_a_rotation(
    served: Any, new_key: Callable[[], str]
) -> None:
    space, registrar = WithKeys(), served.deploy()
    owners = {}
    for party in space.all:
        key = new_key()
        owner = owners[party.origin] = served.open(registrar, key)
        signer = space.old if party is space.water else party.signer
        registrar.register(
            party.origin, Account.from_key(key).address, signer.vkey, f"https://{party.origin}"
        )
        size = len(party.commitments_)
        owner.submit(owner.prepare_anchor(party.origin, size, root_hash(party.commitments_)))
    readers = {party.origin: party for party in space.all}
    owners[space.water.origin].rotate(space.water.origin, space.new.vkey)
    space.show(3, space.old)
    assert audit(registrar, readers).ok
    space.water.write(EntryType.PUBLISHED)
    space.show(4, space.old)
    assert only(audit(registrar, readers)).code == "key-retired"
    space.show(4, space.new)
    assert audit(registrar, readers).ok


AGREED = {"permission": [{"constraint": "at most once"}], "id": "urn:uuid:agreement-2"}
AGREED_H = sha256(rfc8785.dumps(AGREED)).hexdigest()


class Showing(Participant):
    """A participant that shows the text of its agreements."""

    shown: Any = AGREED

    def agreement(self, agreement_h: str) -> dict[str, Any] | None:
        if agreement_h != AGREED_H:
            return None
        if isinstance(self.shown, Exception):
            raise self.shown
        return self.shown


@pytest.fixture
def agreed(space: Space) -> Space:
    """The water works used an agreement twice; the bank shows its text."""
    showing = Showing("bank")
    showing.__dict__.update(space.bank.__dict__)
    space.bank = space.all[2] = showing
    for party, peer in ((space.consumer, space.bank), (space.bank, space.consumer)):
        party.write(EntryType.NEGOTIATED, peer=peer.did, corr="two", agreement_h=AGREED_H)
    for order in ("4", "5"):
        space.consumer.write(EntryType.ORDERED, peer=space.bank.did, order_h=order * 64)
        space.bank.write(EntryType.DECIDED, corr="two", order_h=order * 64, decision="permit")
    return space


def once(agreement_h: str, document: Mapping[str, Any], uses: Sequence[Fact]) -> Iterable[Finding]:
    assert document == AGREED
    assert [use.ts for use in uses] == sorted(use.ts for use in uses)
    permits = [use for use in uses if use.decision == "permit"]
    for use in permits[1:]:
        sentence = f"Agreement {agreement_h[:8]} allows one use, entry {use.index} is another."
        yield Finding("budget-overspent", use.origin, use.index, sentence)


def test_a_judge_sees_every_use_of_an_agreement_beside_its_text(agreed: Space) -> None:
    report = agreed.audit(judge=once)
    finding = only(report)
    assert (finding.code, finding.origin, finding.index) == (
        "budget-overspent",
        agreed.bank.origin,
        5,
    )
    # Of the other agreement nobody shows the text, so it was not judged, and the report says so.
    assert Check("agreements-judged", 1, 2) in report.checks
    assert Check("agreements-judged", 0, 2) in agreed.audit().checks


def test_uses_of_an_earlier_audit_are_judged_with_the_new_ones(agreed: Space) -> None:
    for party in agreed.all:
        party.anchor()
    state = agreed.audit().state
    agreed.bank.write(EntryType.DECIDED, corr="two", order_h="6" * 64, decision="permit")
    codes = [(f.code, f.index) for f in agreed.audit(judge=once, state=state).findings]
    assert codes == [("budget-overspent", 5), ("budget-overspent", 6)]


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        (AGREED | {"permission": []}, "agreement-altered"),
        (ValueError("private words"), "agreement-unreadable"),
        ({"number": float("nan")}, "agreement-unreadable"),
    ],
)
def test_a_text_that_is_not_the_one_recorded_is_never_judged(
    agreed: Space, monkeypatch: pytest.MonkeyPatch, shown: object, code: str
) -> None:
    monkeypatch.setattr(Showing, "shown", shown)
    finding = only(agreed.audit(judge=once))
    assert (finding.code, finding.origin) == (code, agreed.bank.origin)
    assert "private words" not in finding.sentence


def test_the_options_do_not_disturb_an_audit_of_copies(space: Space) -> None:
    readers = {p.origin: p for p in space.all}
    assert audit(space, readers, judge=once, max_anchor_delay_s=1e9, now_s=WRITTEN).ok
