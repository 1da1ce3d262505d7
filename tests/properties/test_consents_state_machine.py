"""Consents against a model of their own: whatever is given, withdrawn, expired, erased or imported,
in whatever order, a reading sees every row that is covered and no other."""

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run

from connectors.errors import InputRejected
from connectors.personal import Consent, append_consent, withdraw
from connectors.receipts import Given, Guardian, Terms
from connectors.source import open_source
from connectors.use import Use
from connectors.vault_consents import Trustee, VaultConsents
from connectors.vault_import import import_records
from connectors.vault_making import create_vault
from connectors.vault_people import VaultPeople

BEGIN = datetime(2026, 11, 30, 4, tzinfo=UTC)
COLUMNS = ("resident_id", "district", "diagnosis")
SENSITIVE = "diagnosis"
PURPOSES, RECIPIENTS = ("research", "planning"), ("did:web:a", "did:web:b")
# Somebody grown, and a child that turns fourteen within the days a machine may walk through.
BORN = (date(1970, 5, 6), date(2012, 12, 4))
GROWN_UP = datetime(2026, 12, 4, 16, tzinfo=UTC)


def number(born: date) -> str:
    body = f"440305{born:%Y%m%d}101"
    return body + "10X98765432"[2 * int(body, 13) % 11]


PEOPLE = tuple(number(born) for born in BORN)
CHILD = PEOPLE[1]
some = st.lists(st.sampled_from(COLUMNS), min_size=1, unique=True).map(tuple)


@dataclass
class Known:
    """A consent as the model remembers it."""

    receipt: str
    person: str
    columns: tuple[str, ...]
    separate: tuple[str, ...]
    purpose: str
    recipient: str
    given: datetime
    expires: datetime
    guardian: bool
    withdrawn: bool = False


@dataclass
class Model:
    """Who has which rows and consents; knows nothing of how they are kept."""

    now: datetime = BEGIN
    rows: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    consents: list[Known] = field(default_factory=list)
    erased: set[str] = field(default_factory=set)
    uses: dict[str, int] = field(default_factory=dict)

    def allowed(self, person: str, columns: tuple[str, ...], purpose: str, recipient: str) -> bool:
        return any(
            one.person == person
            and not one.withdrawn
            and one.given <= self.now < one.expires
            and set(columns) <= set(one.columns)
            and (SENSITIVE not in columns or SENSITIVE in one.separate)
            and (one.purpose, one.recipient) == (purpose, recipient)
            for one in self.consents
            if one.guardian or person != CHILD or self.now >= GROWN_UP or not self.ages
        )

    # Whether the source knows of ages: the vault does.
    ages: bool = True


class ConsentMachine(RuleBasedStateMachine):
    """What both sources share; `source`, `keep`, `end`, `bring` and `forget` are theirs."""

    ages = True

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.home = Path(self.directory.name)
        self.model = Model(ages=self.ages)
        self.count = 0

    def teardown(self) -> None:
        self.directory.cleanup()

    @initialize()
    def filled(self) -> None:
        self.begin()
        self.import_rows([(PEOPLE[0], "x"), (PEOPLE[0], "y"), (CHILD, "z")])

    def import_rows(self, rows: list[tuple[str, str]]) -> None:
        mine: dict[str, list[tuple[str, str]]] = {}
        for person, district in rows:
            mine.setdefault(person, []).append((district, f"{district}{self.count}"))
        self.count += 1
        for person, theirs in mine.items():
            if person not in self.model.erased:
                self.model.rows[person] = theirs
        self.bring(mine)

    @rule(rows=st.lists(st.tuples(st.sampled_from(PEOPLE), st.sampled_from("xyz")), min_size=1))
    def imports(self, rows: list[tuple[str, str]]) -> None:
        self.import_rows(rows[:4])

    @rule(
        person=st.sampled_from(PEOPLE),
        columns=some,
        separately=st.booleans(),
        purpose=st.sampled_from(PURPOSES),
        recipient=st.sampled_from(RECIPIENTS),
        hours=st.integers(1, 100),
        guardian=st.booleans(),
    )
    def gives(
        self,
        person: str,
        columns: tuple[str, ...],
        separately: bool,
        purpose: str,
        recipient: str,
        hours: int,
        guardian: bool,
    ) -> None:
        separate = (SENSITIVE,) if separately and SENSITIVE in columns else ()
        asked = Known(
            f"receipt-{self.count}-{len(self.model.consents)}",
            person,
            columns,
            separate,
            purpose,
            recipient,
            self.model.now,
            self.model.now + timedelta(hours=hours),
            guardian,
        )
        needs = self.ages and person == CHILD and self.model.now < GROWN_UP
        if person in self.model.erased or (needs and not guardian):
            with pytest.raises(InputRejected):
                self.keep(asked)
            return
        asked.receipt = self.keep(asked)
        self.model.consents.append(asked)

    @precondition(lambda self: self.model.consents)
    @rule(data=st.data())
    def withdraws(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(self.model.consents))
        if chosen.person in self.model.erased:
            with pytest.raises(InputRejected):
                self.end(chosen)
            return
        self.end(chosen)
        chosen.withdrawn = True

    @rule(hours=st.integers(1, 20))
    def time_passes(self, hours: int) -> None:
        self.model.now += timedelta(hours=hours)

    @precondition(lambda self: not self.model.erased)
    @rule(person=st.sampled_from(PEOPLE))
    def erases(self, person: str) -> None:
        if person in self.model.rows:
            self.forget(person)
            self.model.erased.add(person)
            self.model.rows.pop(person)

    @rule(columns=some, purpose=st.sampled_from(PURPOSES), recipient=st.sampled_from(RECIPIENTS))
    def reads(self, columns: tuple[str, ...], purpose: str, recipient: str) -> None:
        model = self.model
        use = Use(purpose, recipient, model.now, "agreement", "psi/1")
        source: Any = open_source(self.source)
        seen = [
            tuple(row.values())
            for batch in source.scan_consented(columns, use)
            for row in batch.to_pylist()
        ]
        expected = []
        for person, rows in model.rows.items():
            if model.allowed(person, columns, purpose, recipient):
                cells = [dict(zip(COLUMNS, (person, *row), strict=True)) for row in rows]
                expected += [tuple(cell[name] for name in columns) for cell in cells]
                model.uses[person] = model.uses.get(person, 0) + 1
        assert sorted(seen) == sorted(expected)

    @precondition(lambda self: self.model.consents)
    @rule(data=st.data(), change=st.sampled_from(["", "", "purpose", "recipient", "columns"]))
    def reads_about_what_was_given(self, data: st.DataObject, change: str) -> None:
        """A use that somebody has consented to at some time, or one that differs in one thing."""
        one = data.draw(st.sampled_from(self.model.consents))
        columns, purpose, recipient = one.columns, one.purpose, one.recipient
        if change == "purpose":
            purpose = next(other for other in PURPOSES if other != purpose)
        if change == "recipient":
            recipient = next(other for other in RECIPIENTS if other != recipient)
        if change == "columns":
            columns = data.draw(some)
        self.reads(columns, purpose, recipient)

    source: str

    def begin(self) -> None:
        raise NotImplementedError

    def keep(self, consent: Known) -> str:
        raise NotImplementedError

    def end(self, consent: Known) -> None:
        raise NotImplementedError

    def bring(self, rows: dict[str, list[tuple[str, str]]]) -> None:
        raise NotImplementedError

    def forget(self, person: str) -> None:
        raise NotImplementedError

    def write(self, path: Path, rows: dict[str, list[tuple[str, str]]]) -> None:
        lines = [",".join((who, *cells)) for who, theirs in rows.items() for cells in theirs]
        # A file without rows is none; this one belongs to nobody.
        path.write_text("\n".join([",".join(COLUMNS), *(lines or ["nobody,,"]), ""]))


class VaultMachine(ConsentMachine):
    def begin(self) -> None:
        self.regulator = X25519PrivateKey.generate()
        public = self.regulator.public_key().public_bytes_raw().hex()
        self.vault = create_vault(
            self.home / "v", subject="resident_id", sensitive=[SENSITIVE], regulator_key=public
        )
        self.source = f"vault:{self.vault.folder}"
        self.trustee = Trustee("did:web:t", lambda _, typ: f"signed {typ}", "https://t.example/me")
        self.people = VaultPeople(self.vault)

    def keep(self, consent: Known) -> str:
        terms = Terms(
            columns=consent.columns,
            purposes=(consent.purpose,),
            recipients=(consent.recipient,),
            separate_consent=consent.separate,
        )
        given = Given(
            terms=terms,
            expires_at=consent.expires,
            method="person",
            guardian=Guardian(relationship="r", reference="f") if consent.guardian else None,
        )
        kept = VaultConsents(self.vault).give(consent.person, given, self.trustee, self.model.now)
        return kept.receipt_id

    def end(self, consent: Known) -> None:
        VaultConsents(self.vault).withdraw(consent.receipt, self.trustee, self.model.now)

    def bring(self, rows: dict[str, list[tuple[str, str]]]) -> None:
        path = self.home / f"{self.count}.csv"
        self.write(path, rows)
        import_records(self.vault, open_source(str(path)), self.model.now)

    def forget(self, person: str) -> None:
        self.people.erase(person, lambda _: "certificate")

    @invariant()
    def every_use_is_traced_and_no_other(self) -> None:
        # Asked now and then only: the regulator reads everything.
        if not hasattr(self, "people") or sum(self.model.uses.values()) % 4 != 3:
            return
        told = self.people.regulators_uses(self.regulator)
        assert sum(len(one.people) for one in told) == sum(self.model.uses.values())


class FileMachine(ConsentMachine):
    ages = False

    def begin(self) -> None:
        self.data, self.book = self.home / "data.csv", self.home / "consents.jsonl"
        self.book.touch()
        self.source = (
            f"personal+file:{self.data}?consents={self.book}&subject=resident_id"
            f"&sensitive={SENSITIVE}"
        )

    def keep(self, consent: Known) -> str:
        if consent.person in self.model.erased:
            raise InputRejected("the owner of a file keeps no consents of people without rows")
        receipt = Consent(
            receipt_id=consent.receipt,
            subject=consent.person,
            columns=consent.columns,
            purposes=(consent.purpose,),
            recipients=(consent.recipient,),
            given_at=consent.given,
            expires_at=consent.expires,
            separate_consent=consent.separate,
        )
        append_consent(self.book, receipt)
        return consent.receipt

    def end(self, consent: Known) -> None:
        if consent.person in self.model.erased:
            raise InputRejected("the owner of a file keeps no consents of people without rows")
        withdraw(self.book, consent.receipt, self.model.now)

    def bring(self, rows: dict[str, list[tuple[str, str]]]) -> None:
        self.write(self.data, self.model.rows)

    def forget(self, person: str) -> None:
        self.write(self.data, {k: v for k, v in self.model.rows.items() if k != person})


def steps(examples: int, length: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=length,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


def test_a_vault_is_read_as_its_consents_say_and_no_row_more() -> None:
    run(VaultMachine, settings=steps(16, 20))


def test_a_file_is_read_as_its_consents_say_and_no_row_more() -> None:
    run(FileMachine, settings=steps(12, 20))


@pytest.mark.slow
@pytest.mark.parametrize("machine", [VaultMachine, FileMachine], ids=["vault", "file"])
def test_consents_hold_in_long_histories(machine: type[ConsentMachine]) -> None:
    run(machine, settings=steps(120, 60))
