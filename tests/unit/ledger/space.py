"""A space whose participants keep logs and can be made to cheat, for tests of the auditor."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.anchors import Anchor, RegisteredLog
from ledger.audit import Finding, Report, audit
from ledger.checkpoint import Checkpoint, NoteSigner, sign_note
from ledger.entry import Entry, EntryType, SealedEntry, canonical, seal, uuid7
from ledger.merkle import root_hash

START = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
AGREEMENT = "urn:uuid:agreement-1"
A_H, ORDER, TRANSCRIPT = "a" * 64, "b" * 64, "c" * 64


class Participant:
    """A participant that keeps its log, and can be made to cheat."""

    def __init__(self, name: str) -> None:
        self.did = f"did:web:{name}.city.example"
        self.origin = f"{name}.city.example/tlog"
        seed = name.encode().ljust(32, b".")[:32]
        self.signer = NoteSigner(self.origin, Ed25519PrivateKey.from_private_bytes(seed))
        self.sealed: list[SealedEntry | None] = []
        self.commitments_: list[bytes] = []
        self.anchors: list[Anchor] = []
        self.shows_bodies = True
        self.revoked = False

    def write(self, kind: EntryType, **fields: Any) -> int:
        at = START + timedelta(seconds=len(self.sealed))
        entry = Entry(
            log=fields.pop("log", self.origin),
            id=uuid7(at, sha256(self.did.encode()).digest()[:10]),
            ts=at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            type=kind,
            actor=fields.pop("actor", self.did),
            **fields,
        )
        self.put(seal(entry, len(self.sealed).to_bytes(16)))
        return len(self.sealed) - 1

    def put(self, sealed: SealedEntry) -> None:
        self.sealed.append(sealed)
        self.commitments_.append(sealed.commitment)

    def anchor(self) -> None:
        size = len(self.commitments_)
        root = root_hash(self.commitments_)
        self.anchors.append(Anchor(size, root, 10 + len(self.anchors), 1_795_000_000))

    def replace_body(self, index: int, **changes: Any) -> SealedEntry:
        """Another body for this entry, under the salt it had."""
        sealed = self.sealed[index]
        assert sealed is not None
        entry = Entry.model_validate_json(sealed.body).model_copy(update=changes)
        return replace(sealed, body=canonical(entry))

    # What a reader of the log sees.

    def checkpoint(self) -> str:
        head = Checkpoint(self.origin, len(self.commitments_), root_hash(self.commitments_))
        return sign_note(head.body(), [self.signer])

    def commitments(self, start: int, end: int) -> list[bytes]:
        return self.commitments_[start:end]

    def entries(self, start: int, end: int) -> list[SealedEntry | None] | None:
        return self.sealed[start:end] if self.shows_bodies else None


class Space:
    """A consumer and two providers that concluded an agreement and completed an order."""

    def __init__(self) -> None:
        self.consumer, self.water, self.bank = map(Participant, ("consumer", "water", "bank"))
        self.all = [self.consumer, self.water, self.bank]
        for provider in (self.water, self.bank):
            corr = f"{AGREEMENT}-{provider.did}"
            both = {"corr": corr, "agreement_h": A_H}
            self.consumer.write(EntryType.NEGOTIATED, peer=provider.did, **both)
            provider.write(EntryType.NEGOTIATED, peer=self.consumer.did, **both)
        for provider in (self.water, self.bank):
            self.consumer.write(EntryType.ORDERED, peer=provider.did, order_h=ORDER)
            provider.write(
                EntryType.DECIDED, peer=self.consumer.did, order_h=ORDER, decision="permit"
            )
        for party in self.all:
            party.write(EntryType.COMPLETED, order_h=ORDER, transcript_h=TRANSCRIPT)
            party.anchor()

    def logs(self) -> list[RegisteredLog]:
        return [
            RegisteredLog(p.origin, f"0x{at}", p.signer.vkey, f"https://{p.origin}", p.revoked)
            for at, p in enumerate(self.all)
        ]

    def anchors(self, origin: str) -> list[Anchor]:
        return next(p.anchors for p in self.all if p.origin == origin)

    def audit(self, **options: Any) -> Report:
        return audit(self, {p.origin: p for p in self.all}, **options)


def only(report: Report) -> Finding:
    assert len(report.findings) == 1, [finding.sentence for finding in report.findings]
    assert not report.ok
    return report.findings[0]
