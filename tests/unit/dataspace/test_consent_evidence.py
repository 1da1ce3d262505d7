"""A consent and its evidence come about together, whichever commit was the last of a life."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest
from sqlmodel import select

from connectors.errors import InputRejected
from connectors.personal import receipt_state
from connectors.receipts import ReceiptState
from connectors.source import open_source
from connectors.vault_consents import VaultConsents
from connectors.vault_import import import_records
from connectors.vault_making import create_vault
from dataspace.consent_evidence import TELL
from dataspace.consents import ConsentGiven
from dataspace.errors import Unavailable
from dataspace.node import Node
from dataspace.processes import Process
from dataspace.store.tables import EntryRow, ProcessRow
from ledger.entry import EntryType, open_entry

from .mortal_nodes import Dead, Moment, MortalStore
from .transfer_nodes import DATASET, PROVIDER_URL, make_node, publish

PERSON = "person-1"
GIVEN = ConsentGiven(
    subject=PERSON,
    columns=("person",),
    purposes=("research",),
    recipients=("did:web:consumer",),
    expires_at=datetime.now(UTC) + timedelta(days=30),
)
# Looking the dataset up, writing the intention down, and the evidence.
COMMITS = 3


@dataclass
class Trustee:
    """A node that holds records under consent, and can die."""

    node: Node
    place: Path
    in_vault: bool

    @property
    def store(self) -> MortalStore:
        assert isinstance(self.node.store, MortalStore)
        return self.node.store

    def state(self, receipt: str) -> ReceiptState:
        if self.in_vault:
            source = open_source(f"vault:{self.place}")
            return VaultConsents(source).state(receipt)  # type: ignore[arg-type]
        return receipt_state(self.place, receipt)

    def told(self) -> Counter[EntryType]:
        with self.store.transaction() as tx:
            rows = tx.exec(select(EntryRow)).all()
        return Counter(open_entry(row.body, row.salt, row.commitment).type for row in rows)

    def pending(self) -> list[ProcessRow]:
        with self.store.transaction() as tx:
            found = select(ProcessRow).where(ProcessRow.kind == TELL, ProcessRow.state == "ready")
            return list(tx.exec(found).all())

    def dies_at(self, commit: int, moment: Moment) -> None:
        self.store.dies_at = self.store.commits + commit, moment

    def lives_again(self) -> None:
        """As at a start, and then as half a minute later."""
        self.store.dead.clear()
        self.store.dies_at = None
        self.node.consent_evidence.recover()

    def half_a_minute_later(self) -> None:
        tell = self.node.consent_evidence.handlers()[TELL].handle
        for row in self.pending():
            tell(Process(row.id or 0, row.kind, row.subject, row.payload, 1, row.created_at))


@pytest.fixture(params=["file", "vault"])
def trustee(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Trustee]:
    monkeypatch.setattr("dataspace.node.Store", MortalStore)
    records = tmp_path / "records.csv"
    records.write_text(f"person\n{PERSON}\n")
    place = tmp_path / request.param
    if request.param == "vault":
        vault = create_vault(place, subject="person", canonicaliser="text/1")
        import_records(vault, open_source(str(records)), datetime.now(UTC))
        source = f"vault:{place}"
    else:
        place.touch(mode=0o600)
        source = f"personal+file:{records}?consents={place}&subject=person&canonicaliser=text/1"
    node = make_node(tmp_path, PROVIDER_URL)
    publish(node, source, consumer="did:web:consumer")
    yield Trustee(node, place, request.param == "vault")
    node.store.close()


def test_a_consent_has_its_entry_whichever_commit_was_the_last_of_a_life(trustee: Trustee) -> None:
    kept = 0
    for commit, moment in product(range(1, COMMITS + 1), Moment):
        trustee.dies_at(commit, moment)
        with pytest.raises(Dead):
            trustee.node.consents.give(DATASET, GIVEN)
        trustee.lives_again()
        states = [trustee.state(row.subject) for row in _intended(trustee)]
        kept += commit == COMMITS
        # Before anything is read under it, and not only when the process finds it.
        assert states.count(ReceiptState.GIVEN) == kept
        assert trustee.told()[EntryType.CONSENT_GIVEN] == kept
    trustee.half_a_minute_later()
    assert trustee.told()[EntryType.CONSENT_GIVEN] == kept
    assert trustee.pending() == []


def test_a_withdrawal_has_its_entry_whichever_commit_was_the_last_of_a_life(
    trustee: Trustee,
) -> None:
    every = product(range(1, COMMITS + 1), Moment)
    for given, (commit, moment) in enumerate(every, start=1):
        receipt = trustee.node.consents.give(DATASET, GIVEN)["receipt"]
        trustee.dies_at(commit, moment)
        with pytest.raises(Dead):
            trustee.node.consents.withdraw(DATASET, receipt)
        trustee.lives_again()
        ended = trustee.state(receipt) is ReceiptState.WITHDRAWN
        assert ended == (commit == COMMITS)
        assert trustee.told()[EntryType.CONSENT_WITHDRAWN] == given - 1 + ended
        # Its owner was not answered, and asks again; and then once more.
        trustee.node.consents.withdraw(DATASET, receipt)
        trustee.half_a_minute_later()
        trustee.node.consents.withdraw(DATASET, receipt)
        assert trustee.state(receipt) is ReceiptState.WITHDRAWN
        assert trustee.told()[EntryType.CONSENT_WITHDRAWN] == given
        assert trustee.told()[EntryType.CONSENT_GIVEN] == given


def test_what_is_refused_is_not_told(trustee: Trustee) -> None:
    unknown = GIVEN.model_copy(update={"columns": ("other",)})
    with pytest.raises(InputRejected):
        trustee.node.consents.give(DATASET, unknown)
    with pytest.raises(InputRejected):
        trustee.node.consents.withdraw(DATASET, "00000000-0000-0000-0000-000000000000")
    assert trustee.told().total() == 0
    assert trustee.pending() == []


def test_a_consent_that_the_full_disk_kept_from_the_evidence_is_told_later(
    trustee: Trustee, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = trustee.node.evidence.record

    def full(*_: object, **__: object) -> int:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(trustee.node.evidence, "record", full)
    receipt = trustee.node.consents.give(DATASET, GIVEN)["receipt"]
    with suppress(Unavailable):
        trustee.half_a_minute_later()
    assert [row.subject for row in trustee.pending()] == [receipt]
    monkeypatch.setattr(trustee.node.evidence, "record", record)
    trustee.half_a_minute_later()
    assert trustee.told()[EntryType.CONSENT_GIVEN] == 1


def test_the_intention_names_nobody(trustee: Trustee) -> None:
    trustee.node.consents.give(DATASET, GIVEN)
    (row,) = _intended(trustee)
    assert PERSON not in f"{row.subject} {row.payload}"


def _intended(trustee: Trustee) -> Iterator[ProcessRow]:
    with trustee.store.transaction() as tx:
        yield from tx.exec(select(ProcessRow).where(ProcessRow.kind == TELL)).all()
