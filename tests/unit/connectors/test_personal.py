import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from connectors.errors import InputRejected
from connectors.personal import Consent, ConsentBook, append_consent, withdraw
from connectors.source import ConsentedSource, open_source
from connectors.use import Use

PERSON = "11010519491231002X"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
READ = ("resident_id", "cost_cents")
PURPOSE, RECIPIENT = "public-health-research", "did:web:institute.example"


def receipt(**changes: object) -> Consent:
    fields: dict[str, object] = {
        "receipt_id": "r1",
        "subject": PERSON,
        "columns": ("resident_id", "cost_cents"),
        "purposes": (PURPOSE,),
        "recipients": (RECIPIENT,),
        "given_at": NOON - timedelta(days=1),
        "expires_at": NOON + timedelta(days=1),
    }
    return Consent.model_validate({**fields, **changes})


def covered(consent: Consent, *, at: datetime = NOON) -> bool:
    return ConsentBook([consent]).covers(PERSON, READ, PURPOSE, RECIPIENT, at)


def test_a_consent_covers_the_use_it_was_given_for() -> None:
    assert covered(receipt())
    assert covered(receipt(recipients=("*",)))
    assert covered(receipt(withdrawn_at=NOON + timedelta(seconds=1)))


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "440303198506120047"},
        {"columns": ("resident_id",)},
        {"columns": ("*",)},
        {"purposes": ("insurance-pricing",)},
        {"purposes": ("*",)},
        {"recipients": ("did:web:other.example",)},
        {"given_at": NOON + timedelta(seconds=1)},
        {"expires_at": NOON},
        {"withdrawn_at": NOON},
        {"withdrawn_at": NOON - timedelta(hours=1)},
    ],
)
def test_a_consent_covers_nothing_else(changes: dict[str, object]) -> None:
    assert not covered(receipt(**changes))


def test_two_consents_do_not_add_up_to_one() -> None:
    book = ConsentBook(
        [receipt(columns=("resident_id",)), receipt(receipt_id="r2", columns=("cost_cents",))]
    )
    assert not book.covers(PERSON, READ, PURPOSE, RECIPIENT, NOON)
    assert book.covers(PERSON, ["cost_cents"], PURPOSE, RECIPIENT, NOON)


def test_the_moment_of_giving_is_covered_and_that_of_withdrawing_is_not() -> None:
    consent = receipt(given_at=NOON, withdrawn_at=NOON + timedelta(hours=1))
    assert covered(consent, at=NOON)
    assert covered(consent, at=NOON + timedelta(hours=1, microseconds=-1))
    assert not covered(consent, at=NOON + timedelta(hours=1))


def test_reading_no_column_is_covered_by_nothing() -> None:
    assert not ConsentBook([receipt()]).covers(PERSON, [], PURPOSE, RECIPIENT, NOON)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(InputRejected, match="needs a time zone"):
        ConsentBook([]).covers(PERSON, READ, PURPOSE, RECIPIENT, datetime(2026, 5, 1))  # noqa: DTZ001


def test_a_receipt_whose_times_run_backwards_is_no_receipt() -> None:
    with pytest.raises(ValueError, match="expires_at must be later"):
        receipt(expires_at=NOON - timedelta(days=1))
    with pytest.raises(ValueError, match="withdrawn_at must not be earlier"):
        receipt(withdrawn_at=NOON - timedelta(days=2))


def test_given_and_withdrawn_consents_are_kept_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "consents.jsonl"
    append_consent(path, receipt())
    append_consent(path, receipt(receipt_id="r2", subject="440303198506120047"))
    withdraw(path, "r1", NOON)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = [Consent.model_validate_json(line) for line in path.read_text().splitlines()]
    assert lines == [
        receipt(withdrawn_at=NOON),
        receipt(receipt_id="r2", subject="440303198506120047"),
    ]
    book = ConsentBook.load(path)
    assert book.covers(PERSON, READ, PURPOSE, RECIPIENT, NOON - timedelta(seconds=1))
    assert not book.covers(PERSON, READ, PURPOSE, RECIPIENT, NOON)


def test_a_second_withdrawal_never_moves_the_first_one_later(tmp_path: Path) -> None:
    path = tmp_path / "consents.jsonl"
    append_consent(path, receipt())
    withdraw(path, "r1", NOON)
    withdraw(path, "r1", NOON + timedelta(hours=1))
    assert Consent.model_validate_json(path.read_text()).withdrawn_at == NOON
    withdraw(path, "r1", NOON - timedelta(hours=1))
    assert Consent.model_validate_json(path.read_text()).withdrawn_at == NOON - timedelta(hours=1)


def test_receipts_given_at_the_same_moment_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "consents.jsonl"
    receipts = [receipt(receipt_id=f"r{n}") for n in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: append_consent(path, one), receipts))
    ids = {Consent.model_validate_json(line).receipt_id for line in path.read_text().splitlines()}
    assert ids == {f"r{n}" for n in range(20)}
    assert not [left for left in tmp_path.iterdir() if left.name.startswith(".consents.jsonl.tmp")]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "consents.jsonl"
    append_consent(path, receipt())
    before, names = path.read_bytes(), sorted(tmp_path.iterdir())

    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("connectors.personal.os.fsync", power_cut)
    with pytest.raises(KeyboardInterrupt):
        withdraw(path, "r1", NOON)
    assert (path.read_bytes(), sorted(tmp_path.iterdir())) == (before, names)


def test_impossible_changes_of_a_consent_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "consents.jsonl"
    with pytest.raises(InputRejected, match=r"there is no file consents\.jsonl"):
        withdraw(path, "r1", NOON)
    append_consent(path, receipt())
    with pytest.raises(InputRejected, match="already holds a receipt of that id"):
        append_consent(path, receipt())
    with pytest.raises(InputRejected, match="holds no receipt of that id"):
        withdraw(path, "r9", NOON)
    with pytest.raises(InputRejected, match="cannot be withdrawn before it was given"):
        withdraw(path, "r1", NOON - timedelta(days=9))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "c.jsonl, line 2: the receipt: json invalid"),
        (b"[]", "c.jsonl, line 2: the receipt: model"),
        (b'{"receipt_id": "secret"}', "c.jsonl, line 2: subject: missing"),
        (receipt().model_dump_json().encode(), "c.jsonl, line 2: the receipt's id occurs twice"),
        (
            receipt(receipt_id="r2").model_dump_json().replace("Z", "").encode(),
            "c.jsonl, line 2: given_at: timezone aware",
        ),
        (b'{"x": "' + b"y" * 70_000, "c.jsonl, line 2: the receipt: json invalid"),
    ],
)
def test_a_broken_receipt_is_named_by_line_without_its_content(
    tmp_path: Path, line: bytes, message: str
) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(receipt().model_dump_json().encode() + b"\n" + line + b"\n")
    with pytest.raises(InputRejected) as refused:
        ConsentBook.load(path)
    assert message in str(refused.value)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    (tmp_path / "health.csv").write_text(
        "resident_id,cost_cents,diagnosis\n"
        "110105 19491231 002x,100,a\n"
        "440303198506120047,200,b\n"
        "110105491231002,300,c\n"
        ",400,d\n"
        "110105194912310021,500,e\n",
        encoding="utf-8",
    )
    append_consent(tmp_path / "consents.jsonl", receipt())
    return tmp_path


def url(vault: Path) -> str:
    return f"personal+file:{vault}/health.csv?consents={vault}/consents.jsonl&subject=resident_id"


def consented(vault: Path, *columns: str, at: datetime = NOON) -> list[tuple[object, ...]]:
    source = open_source(url(vault))
    assert isinstance(source, ConsentedSource)
    return [
        row
        for batch in source.scan_consented(columns, Use(PURPOSE, RECIPIENT, at))
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    ]


def test_only_rows_of_consenting_people_are_read_in_every_spelling(vault: Path) -> None:
    assert consented(vault, "cost_cents", "resident_id") == [
        ("100", "110105 19491231 002x"),
        ("300", "110105491231002"),
    ]
    assert consented(vault, "cost_cents") == [("100",), ("300",)]


def test_a_column_outside_the_consent_yields_no_row(vault: Path) -> None:
    assert consented(vault, "resident_id", "diagnosis") == []


def test_a_withdrawal_takes_effect_at_the_next_read(vault: Path) -> None:
    before = open_source(url(vault)).version()
    withdraw(vault / "consents.jsonl", "r1", NOON)
    assert consented(vault, "cost_cents") == []
    assert open_source(url(vault)).version() != before


def test_the_version_of_personal_data_follows_the_rows_too(vault: Path) -> None:
    before = open_source(url(vault)).version()
    with (vault / "health.csv").open("a") as file:
        file.write(f"{PERSON},1,z\n")
    after = open_source(url(vault)).version()
    assert before != after
    assert after.startswith("sha256:")


def test_a_plain_scan_of_personal_data_is_refused(vault: Path) -> None:
    with pytest.raises(InputRejected, match="personal data, which are only read under consent"):
        open_source(url(vault)).scan(["cost_cents"])


def test_a_plain_file_is_no_consented_source(vault: Path) -> None:
    assert not isinstance(open_source(str(vault / "health.csv")), ConsentedSource)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "needs the options consents= (the receipts) and subject=.*found none"),
        ("?subject=resident_id", "found subject"),
        ("?consents={vault}/consents.jsonl&subject=resident_id&key=1", "found consents, key"),
        ("?consents={vault}/no.jsonl&subject=resident_id", "there is no file no.jsonl"),
        ("?consents={vault}/consents.jsonl&subject=resident_id&canonicaliser=x", "canonicaliser x"),
    ],
)
def test_incomplete_options_are_refused(vault: Path, query: str, message: str) -> None:
    address = f"personal+file:{vault}/health.csv{query.format(vault=vault)}"
    with pytest.raises(InputRejected) as refused:
        open_source(address)
    assert all(part in str(refused.value) for part in message.split(".*"))


def test_a_subject_column_that_is_not_there_is_refused(vault: Path) -> None:
    with pytest.raises(InputRejected, match=r"health\.csv has no column person; its columns are"):
        open_source(url(vault).replace("=resident_id", "=person")).schema()


def test_another_identifier_can_be_the_subject(vault: Path) -> None:
    (vault / "health.csv").write_text("key,cost_cents\n P-1 ,5\np-2,6\n")
    consents = vault / "consents.jsonl"
    consents.write_text(receipt(subject="p-1").model_dump_json() + "\n")
    source = open_source(url(vault).replace("=resident_id", "=key") + "&canonicaliser=text/1")
    assert isinstance(source, ConsentedSource)
    (batch,) = source.scan_consented(["cost_cents"], Use(PURPOSE, RECIPIENT, NOON))
    assert batch.to_pydict() == {"cost_cents": ["5"]}
    assert json.loads(consents.read_text())["subject"] == "p-1"
