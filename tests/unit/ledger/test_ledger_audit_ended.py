"""The end of an agreement is recorded by both parties, or it is missed."""

from __future__ import annotations

import pytest

from ledger.crossmatch import AGREEMENT_ENDED
from ledger.entry import EntryType

from .space import A_H, AGREEMENT, Participant, Space, only


@pytest.fixture
def space() -> Space:
    return Space()


def end(party: Participant, peer: Participant) -> int:
    provider = party if peer.did.startswith("did:web:consumer") else peer
    return party.write(
        EntryType.NEGOTIATED,
        peer=peer.did,
        corr=f"{AGREEMENT}-{provider.did}",
        agreement_h=A_H,
        outcome=AGREEMENT_ENDED,
    )


def test_an_end_that_both_parties_record_is_no_finding(space: Space) -> None:
    end(space.bank, space.consumer)
    end(space.consumer, space.bank)
    assert space.audit().ok


def test_an_end_that_only_one_party_records_is_missed_on_the_other_side(space: Space) -> None:
    at = end(space.bank, space.consumer)
    finding = only(space.audit())
    assert (finding.code, finding.origin) == ("record-missing", space.consumer.origin)
    assert f"Entry {at} of {space.bank.origin} records that" in finding.sentence
    assert f"{space.bank.did} and {space.consumer.did} ended agreement" in finding.sentence
    assert space.audit(settled_before="2026-11-25T08:00:03.000Z").ok


def test_a_record_of_the_end_does_not_stand_for_the_beginnings(space: Space) -> None:
    end(space.bank, space.consumer)
    end(space.consumer, space.bank)
    space.bank.sealed, space.bank.commitments_ = space.bank.sealed[1:], space.bank.commitments_[1:]
    space.bank.anchors = []
    finding = only(space.audit())
    assert (finding.code, finding.origin) == ("record-missing", space.bank.origin)
    assert "concluded agreement" in finding.sentence
