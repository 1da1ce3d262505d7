"""A vault: whose rows are read, who is told, and what somebody sees who copies or alters it."""

import json
import sqlite3
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from connectors.conditions import Comparison, Condition
from connectors.errors import InputRejected, Unavailable
from connectors.source import ConsentedSource, open_source
from connectors.vault_import import read_export
from connectors.vault_keys import KEY_FILE, Access, code_bytes, new_access_code
from connectors.vault_making import create_vault, rotate_key
from connectors.vault_people import Destroyed
from connectors.vault_store import DATABASE

from .vault_examples import (
    ANN,
    BOB,
    CID,
    CONSUMER,
    NOON,
    Example,
    example,
    given,
    number,
    trustee,
    use,
)

ROWS = [
    (ANN, "Nanshan", "J10", "120"),
    (BOB, "Futian", "I25", "88"),
    (ANN, "Nanshan", "K29", "31"),
]


@pytest.fixture
def held(tmp_path: Path) -> Example:
    made = example(tmp_path)
    made.bring(ROWS)
    return made


def certified(destroyed: Destroyed) -> str:
    return f"certificate of {destroyed.pseudonym}"


def test_only_those_who_consent_are_read_with_all_their_rows(held: Example) -> None:
    assert held.read() == []
    held.give(ANN)
    assert held.read("district", "resident_id") == [("Nanshan", ANN), ("Nanshan", ANN)]


@pytest.mark.parametrize(
    "change", [{"purpose": "advertising"}, {"recipient": "did:web:other"}], ids=str
)
def test_another_purpose_or_recipient_sees_nobody(held: Example, change: dict[str, str]) -> None:
    held.give(ANN)
    assert held.read(**change) == []


def test_a_sensitive_column_needs_separate_consent(held: Example) -> None:
    held.give(ANN, "resident_id", "diagnosis")
    assert held.read("diagnosis") == []
    held.give(ANN, "resident_id", "diagnosis", separate=("diagnosis",))
    assert held.read("diagnosis") == [("J10",), ("K29",)]


def test_what_conditions_look_at_must_be_covered_too(held: Example) -> None:
    held.give(ANN)
    vault = open_source(f"vault:{held.folder}")
    assert isinstance(vault, ConsentedSource)

    def rows(column: str, value: str) -> int:
        where = (Condition(column, Comparison.EQ, (value,)),)
        return sum(one.num_rows for one in vault.scan_consented(["resident_id"], use(), where))

    assert rows("district", "Nanshan") == 2
    assert rows("district", "Futian") == 0
    assert rows("cost", "120") == 0


def test_a_consent_ends_with_its_time_and_with_its_withdrawal(held: Example) -> None:
    receipt = held.give(ANN, days=1)
    assert held.read(at=NOON + timedelta(days=1, seconds=-1))
    assert not held.read(at=NOON + timedelta(days=1))
    held.withdraw(receipt)
    # Permitted before, read after: the withdrawal counts.
    assert not held.read(at=NOON - timedelta(seconds=0))


def test_a_withdrawal_counts_between_two_batches_of_one_reading(
    held: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.vault_scan.BATCH_PEOPLE", 1)
    held.give(ANN)
    receipt = held.give(BOB)
    batches = held.vault.scan_consented(["resident_id"], use())
    assert next(batches).num_rows == 2
    held.withdraw(receipt)
    assert list(batches) == []


def test_a_withdrawal_while_a_batch_is_prepared_has_it_read_anew(
    held: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.give(ANN)
    receipts = [held.give(BOB)]
    from connectors.traces import UseWriter

    sealing = UseWriter.traces

    def meanwhile(writer: UseWriter, keys: list[bytes]) -> object:
        if receipts:
            held.withdraw(receipts.pop())
        return sealing(writer, keys)

    monkeypatch.setattr(UseWriter, "traces", meanwhile)
    assert held.read() == [(ANN,), (ANN,)]


def test_records_imported_during_a_reading_end_it(
    held: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.vault_scan.BATCH_PEOPLE", 1)
    held.give(ANN)
    held.give(BOB)
    batches = held.vault.scan_consented(["resident_id"], use())
    next(batches)
    held.bring([(CID, "Luohu", "", "1")])
    with pytest.raises(Unavailable, match="imported"):
        next(batches)


def test_people_with_many_records_come_in_several_batches_and_get_one_trace(
    held: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.vault_scan.BATCH_ROWS", 2)
    held.bring([(ANN, "Nanshan", "J10", str(cost)) for cost in range(5)])
    code = held.people.enrol(ANN)
    held.give(ANN, "resident_id", "cost")
    held.give(BOB, "resident_id", "cost")
    assert [row[0] for row in held.read("cost")] == ["0", "1", "2", "3", "4", "88"]
    access = held.people.access(code)
    assert access is not None
    assert len(held.people.uses(access)) == 1


def test_a_plain_scan_is_refused(held: Example) -> None:
    with pytest.raises(InputRejected, match="only read under consent"):
        held.vault.scan(["resident_id"])


# ---- imports -----------------------------------------------------------------------------------


def test_an_import_replaces_the_rows_of_its_people_and_keeps_their_consents(held: Example) -> None:
    held.give(ANN, "resident_id", "cost")
    held.give(BOB, "resident_id", "cost")
    report = held.bring([(ANN, "Nanshan", "J10", "7"), (CID, "Luohu", "", "1")])
    assert (report.people_added, report.people_replaced, report.records) == (1, 1, 2)
    assert held.read("cost") == [("7",), ("88",)]


def test_the_same_import_again_changes_nothing(held: Example) -> None:
    before = held.vault.version()
    assert held.bring(ROWS).unchanged
    assert held.vault.version() == before


def test_rows_without_a_valid_identifier_are_told_masked_and_not_kept(tmp_path: Path) -> None:
    made = example(tmp_path)
    wrong = ANN[:-1] + ("0" if ANN[-1] != "0" else "1")
    report = made.bring([*ROWS, (wrong, "Futian", "", "1"), ("", "Futian", "", "2")])
    assert (report.rows, report.records) == (5, 3)
    assert report.quality["invalid"] == {"check-digit": 1}
    assert report.quality["blank"] == 1
    assert wrong not in str(report.quality)
    assert made.people.counts()["people"] == 2


def test_an_import_that_fails_leaves_nothing(held: Example) -> None:
    before = held.vault.version(), held.people.counts()
    file = held.folder.parent / "ragged.csv"
    file.write_text(f"resident_id,district,diagnosis,cost\n{CID},a,b,1\n{ANN},a\n")
    from connectors.vault_import import import_records

    with pytest.raises(InputRejected):
        import_records(held.vault, open_source(str(file)), NOON)
    assert (held.vault.version(), held.people.counts()) == before


def test_other_columns_are_refused(held: Example) -> None:
    with pytest.raises(InputRejected, match="other columns"):
        held.bring([(ANN, "x")], columns=("resident_id", "blood"))


def test_a_personal_export_is_imported(held: Example) -> None:
    from connectors.vault_import import import_records

    record = {"district": "Longhua", "diagnosis": None, "cost": "5"}
    export = {
        "format": "city-dataspace-personal-export/1",
        "subject": CID,
        "provenance": "clinic",
        "records": [record],
    }
    content = json.dumps(export).encode()
    import_records(held.vault, read_export(content, subject="resident_id"), NOON)
    shown = held.people.record(CID, NOON)
    assert dict(zip(shown.columns, shown.rows[0], strict=True)) == {"resident_id": CID, **record}
    assert shown.provenance.startswith("clinic, ")
    with pytest.raises(InputRejected, match="records"):
        read_export(b'{"subject": "x"}', subject="resident_id")


# ---- children and the deceased -----------------------------------------------------------------


def test_a_child_needs_a_guardian_until_it_is_fourteen(tmp_path: Path) -> None:
    made = example(tmp_path)
    child = number(date(2012, 12, 1))
    report = made.bring([(child, "Nanshan", "", "1")])
    assert (report.children, report.minors) == (1, 1)
    with pytest.raises(InputRejected, match="guardian"):
        made.give(child)
    made.give(child, guardian=True)
    assert made.read() == [(child,)]


def test_a_consent_of_a_child_without_guardian_never_covers(tmp_path: Path) -> None:
    made = example(tmp_path)
    child = number(date(2012, 12, 1))
    made.bring([(child, "Nanshan", "", "1")])
    # At fourteen it may consent itself, and is read only at times from then on.
    grown = datetime(2026, 12, 2, 4, tzinfo=UTC)
    made.give(child, at=grown)
    assert made.read(at=grown) == [(child,)]
    assert made.read(at=grown - timedelta(days=2)) == []


def test_the_deceased_are_read_no_more_and_give_no_consent(tmp_path: Path) -> None:
    made = example(tmp_path)
    columns = ("resident_id", "死亡日期")
    made.bring([(ANN, ""), (BOB, "2026-12-24"), (CID, "否")], columns=columns)
    for who in (ANN, BOB, CID):
        made.give(who, "resident_id")
    assert made.read() == [(ANN,), (BOB,), (CID,)]
    assert made.read(at=NOON + timedelta(days=26)) == [(ANN,), (CID,)]
    made.bring([(ANN, "是")], columns=columns)
    assert made.read() == [(BOB,), (CID,)]
    with pytest.raises(InputRejected, match="has died"):
        made.give(ANN, "resident_id")


# ---- traces ------------------------------------------------------------------------------------


def test_people_see_who_used_their_data_and_nobody_elses_uses(held: Example) -> None:
    held.give(ANN)
    held.give(BOB)
    held.read("resident_id")
    codes = {who: held.people.enrol(who) for who in (ANN, BOB)}
    held.read("district", at=NOON + timedelta(hours=1))
    held.withdraw(held.consents.consents(BOB)[0].receipt_id)
    held.read("resident_id", at=NOON + timedelta(hours=2), agreement="urn:uuid:other")

    def uses(who: str) -> list[tuple[str, ...]]:
        access = held.people.access(codes[who])
        assert access is not None
        return [one.columns for one in held.people.uses(access)]

    # Those from before the enrolment too; the newest first.
    assert uses(ANN) == [("resident_id",), ("district",), ("resident_id",)]
    assert uses(BOB) == [("district",), ("resident_id",)]
    told = held.people.uses(held.people.access(codes[ANN]))[0]  # type: ignore[arg-type]
    assert (told.recipient, told.purpose, told.agreement, told.computation, told.at) == (
        CONSUMER,
        "research",
        "urn:uuid:other",
        "psi/1",
        NOON + timedelta(hours=2),
    )


def test_the_regulator_sees_all_uses_with_pseudonyms_and_no_other_key_does(held: Example) -> None:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    held.give(ANN)
    held.give(BOB)
    held.read()
    (seen,) = held.people.regulators_uses(held.regulator)
    names = {held.people.record(who, NOON).pseudonym for who in (ANN, BOB)}
    assert set(seen.people) == names
    assert seen.use.recipient == CONSUMER
    with pytest.raises(InputRejected, match="not the regulator's key"):
        held.people.regulators_uses(X25519PrivateKey.generate())


def test_a_trace_is_on_the_disk_before_its_row_is_handed_out(held: Example) -> None:
    held.give(ANN)
    batches = held.vault.scan_consented(["resident_id"], use())
    next(batches)
    with sqlite3.connect(held.folder / DATABASE) as db:
        assert db.execute("SELECT COUNT(*) FROM trace").fetchone() == (1,)


def test_the_disk_shows_neither_people_nor_terms_nor_uses(held: Example) -> None:
    held.give(ANN, "resident_id", "diagnosis", separate=("diagnosis",))
    code = held.people.enrol(ANN)
    held.read("diagnosis")
    held.people.erase(BOB, certified)
    content = b"".join(path.read_bytes() for path in held.folder.iterdir())
    for text in (ANN, BOB, "Nanshan", "J10", "diagnosis", CONSUMER, "research", code):
        assert text.encode() not in content
    assert held.folder.stat().st_mode & 0o777 == 0o700
    assert (held.folder / KEY_FILE).stat().st_mode & 0o777 == 0o600


# ---- access codes ------------------------------------------------------------------------------


def test_codes_are_read_however_they_are_typed() -> None:
    code = new_access_code()
    plain = code.replace("-", "").lower()
    assert code_bytes(code) == code_bytes(f" {plain} ")
    assert code_bytes(plain.replace("0", "o").replace("1", "l")) == code_bytes(code)
    for wrong in ("", "x", code[:-1], code + "0", "Z" * 26, "é" * 26, "0" * 5000):
        assert code_bytes(wrong) is None


def test_a_code_opens_its_own_person_in_its_own_vault_until_it_is_replaced(
    held: Example, tmp_path: Path
) -> None:
    code = held.people.enrol(ANN)
    access = held.people.access(code)
    assert access is not None
    assert held.people.record(access, NOON).subject == ANN
    assert held.people.access(new_access_code()) is None
    other = example(tmp_path / "other")
    other.bring(ROWS)
    assert other.people.access(code) is None
    held.people.enrol(ANN)
    assert held.people.access(code) is None
    with pytest.raises(InputRejected, match="nobody"):
        held.people.record(access, NOON)


def test_nobody_withdraws_anothers_consent(held: Example) -> None:
    receipt = held.give(ANN)
    access = held.people.access(held.people.enrol(BOB))
    with pytest.raises(InputRejected, match="no consent of that receipt"):
        held.consents.withdraw(receipt, held.trustee, NOON, by=access)
    assert held.read()


def test_a_withdrawn_receipt_stays_withdrawn(held: Example) -> None:
    receipt = held.give(ANN)
    assert held.withdraw(receipt) == held.withdraw(receipt, NOON + timedelta(days=1))
    # What was given again is another consent with another receipt.
    assert held.give(ANN) != receipt
    for wrong in ("x", "00000000-0000-4000-8000-000000000000"):
        with pytest.raises(InputRejected, match="no consent of that receipt"):
            held.withdraw(wrong)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (given("blood"), "no column blood"),
        (given(days=0), "end later"),
    ],
    ids=["column", "time"],
)
def test_a_consent_that_cannot_hold_is_refused(held: Example, terms: object, message: str) -> None:
    with pytest.raises(InputRejected, match=message):
        held.consents.give(ANN, terms, held.trustee, NOON)  # type: ignore[arg-type]


# ---- erasure -----------------------------------------------------------------------------------


def test_after_an_erasure_nothing_of_the_person_is_left_and_others_stay(held: Example) -> None:
    access = held.people.access(held.people.enrol(ANN))
    held.give(ANN)
    held.give(BOB)
    held.read()
    pseudonym = held.people.record(ANN, NOON).pseudonym
    with sqlite3.connect(held.folder / DATABASE) as db:
        sealed = db.execute(
            "SELECT wrapped, head FROM person WHERE pseudonym = ?", (bytes.fromhex(pseudonym),)
        ).fetchone()
    assert held.people.erase(ANN, certified) == f"certificate of {pseudonym}"
    assert held.read() == [(BOB,)]
    for who in (ANN, access):
        with pytest.raises(InputRejected, match="nobody"):
            held.people.record(who, NOON)  # type: ignore[arg-type]
    content = b"".join(path.read_bytes() for path in held.folder.iterdir())
    assert not any(part in content for part in sealed)
    # The regulator still sees that the use was.
    assert pseudonym in held.people.regulators_uses(held.regulator)[1].people


def test_the_erased_are_not_imported_again_and_keep_their_certificate(held: Example) -> None:
    certificate = held.people.erase(ANN, certified)
    report = held.bring([(ANN, "Nanshan", "", "9"), (CID, "Luohu", "", "1")])
    assert (report.erased_left_out, report.records) == (1, 1)
    assert held.people.erase(ANN, certified) == certificate
    with pytest.raises(InputRejected, match="nobody"):
        held.give(ANN)


def test_an_erasure_without_its_certificate_does_not_happen(held: Example) -> None:
    def fails(destroyed: Destroyed) -> str:
        raise RuntimeError("no signature")

    held.give(ANN)
    with pytest.raises(RuntimeError):
        held.people.erase(ANN, fails)
    assert held.read()


# ---- who copies or alters it -------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE record SET sealed = (SELECT sealed FROM record WHERE person = 2) "
        "WHERE person = 1 AND seq = 0",
        "UPDATE record SET seq = 5 WHERE person = 1 AND seq = 1",
        "UPDATE person SET head = (SELECT head FROM person WHERE id = 2) WHERE id = 1",
        "UPDATE person SET wrapped = (SELECT wrapped FROM person WHERE id = 2) WHERE id = 1",
        "UPDATE person SET head_version = head_version + 1 WHERE id = 1",
        "UPDATE record SET sealed = zeroblob(40)",
        "UPDATE terms SET sealed = zeroblob(60)",
        "UPDATE person SET public = zeroblob(32)",
    ],
    ids=["swap", "move", "head", "key", "version", "zero", "terms", "public"],
)
def test_what_was_swapped_or_altered_is_noticed(held: Example, statement: str) -> None:
    held.give(ANN)
    held.give(BOB)
    with sqlite3.connect(held.folder / DATABASE) as db:
        db.execute(statement)
    with pytest.raises(InputRejected, match="altered"):
        held.read()


def test_a_copy_of_the_database_opens_with_no_other_key(held: Example, tmp_path: Path) -> None:
    other = create_vault(tmp_path / "copy", subject="resident_id")
    held.give(ANN)
    held.vault.store.scrub()
    (other.folder / DATABASE).write_bytes((held.folder / DATABASE).read_bytes())
    with pytest.raises(InputRejected, match="not the one it is sealed with"):
        other.schema()
    (other.folder / KEY_FILE).unlink()
    with pytest.raises(InputRejected, match="the vault's key"):
        other.schema()


def test_a_vault_that_others_may_enter_is_not_opened(held: Example) -> None:
    held.folder.chmod(0o755)
    with pytest.raises(InputRejected, match="chmod 700"):
        open_source(f"vault:{held.folder}")


def test_the_key_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from connectors.vault_keys import new_key_text

    monkeypatch.setenv("THE_VAULTS_KEY", new_key_text())
    made = example(tmp_path, key_reference="env:THE_VAULTS_KEY")
    made.bring(ROWS)
    assert not (made.folder / KEY_FILE).exists()
    assert open_source(f"vault:{made.folder}?secret=env:THE_VAULTS_KEY").schema().names
    monkeypatch.setenv("THE_VAULTS_KEY", "short")
    with pytest.raises(InputRejected, match="32 bytes"):
        made.vault.schema()


def test_a_new_key_opens_everything_and_the_old_one_nothing(held: Example) -> None:
    held.give(ANN)
    old = (held.folder / KEY_FILE).read_text()
    assert rotate_key(held.vault) == 2
    assert held.read() == [(ANN,), (ANN,)]
    assert held.bring([(CID, "Luohu", "", "1")]).people_added == 1
    (held.folder / KEY_FILE).write_text(old)
    with pytest.raises(InputRejected, match="not the one"):
        held.read()


@pytest.mark.parametrize("url", ["vault:relative", "vault://host/abs", "vault:/nowhere?x=1"])
def test_addresses_that_name_no_vault_are_refused(url: str) -> None:
    with pytest.raises(InputRejected):
        open_source(url)


def test_a_folder_becomes_a_vault_once(held: Example) -> None:
    with pytest.raises(InputRejected, match="already is a vault"):
        create_vault(held.folder, subject="resident_id")
    for wrong in ("zz", "00", "00" * 32):
        with pytest.raises(InputRejected, match="X25519"):
            create_vault(held.folder.parent / "b", subject="x", regulator_key=wrong)


def test_an_empty_vault_says_what_to_do(tmp_path: Path) -> None:
    made = example(tmp_path)
    with pytest.raises(InputRejected, match="dataspace vault import"):
        made.vault.schema()
    assert made.people.access(new_access_code()) is None
    assert Access.of(bytes(16), bytes(16)).locator != Access.of(bytes(16), b"\1" * 16).locator
    assert trustee().did.startswith("did:")


@pytest.mark.parametrize("table", ["trace", "traced", "use"])
def test_an_altered_trace_is_noticed(held: Example, table: str) -> None:
    code = held.people.enrol(ANN)
    held.give(ANN)
    held.read()
    column = "wrapped" if table == "trace" else "sealed"
    with sqlite3.connect(held.folder / DATABASE) as db:
        (content,) = db.execute(f"SELECT {column} FROM {table}").fetchone()
        altered = bytes([content[0] ^ 1]) + content[1:]
        db.execute(f"UPDATE {table} SET {column} = ?", (altered,))
    access = held.people.access(code)
    assert access is not None
    everybody = table == "traced"
    with pytest.raises(InputRejected, match="altered"):
        held.people.regulators_uses(held.regulator) if everybody else held.people.uses(access)
