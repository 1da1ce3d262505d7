"""Properties of canonicalisers, values, files and consents that hold for every input."""

import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum.cn import ric, uscc

from connectors import delimited
from connectors.errors import InputRejected
from connectors.identifiers import (
    ColumnReader,
    InvalidIdentifier,
    canonicalise,
    canonicalise_column,
    canonicalisers,
)
from connectors.identifiers.settled import SETTLED
from connectors.personal import Consent, ConsentBook, PersonalFile, append_consent, withdraw
from connectors.source import open_source
from connectors.use import Use
from connectors.values import parse_integers

USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
# What may stand before, between and after the characters of a number without changing it.
DIRT = [" ", "\t", "\u3000", "\u00a0", "\u200b", "\ufeff", "-", "－", "—"]
FULL_WIDTH = str.maketrans(
    {chr(code): chr(code + 0xFEE0) for code in range(ord("!"), ord("~") + 1) if code != ord("-")}
)


@st.composite
def resident_ids(draw: st.DrawFn) -> str:
    division = draw(st.sampled_from(["440305", "110105", "310115", "650102", "810000"]))
    born = draw(st.dates(date(1900, 1, 1), date(2026, 1, 1)))
    body = f"{division}{born:%Y%m%d}{draw(st.integers(1, 995)):03d}"
    return body + ric.calc_check_digit(body + "0")


@st.composite
def credit_codes(draw: st.DrawFn) -> str:
    organisation = "".join(draw(st.lists(st.sampled_from(USCC_ALPHABET), min_size=9, max_size=9)))
    body = draw(st.sampled_from(["91", "12", "51", "93"])) + "440305" + organisation
    return body + uscc.calc_check_digit(body + "0")


mobiles = st.integers(0, 99_999_999).map(lambda n: f"+86138{n:08d}")
divisions = st.integers(0, 9999).map(lambda n: f"44{n:04d}")
communities = st.integers(0, 999_999_999).map(lambda n: f"440{n:09d}")
han_names = st.text("阿依古丽买提张三李四王欧阳後后", min_size=2, max_size=6)
names = han_names | st.text("abcdefgxyz", min_size=2, max_size=12).filter(
    lambda name: name not in ("nan", "null", "none")
)
days_of_birth = st.dates(date(1850, 1, 1), date(2099, 12, 31)).map(date.isoformat)
plates = st.tuples(
    st.sampled_from("京粤沪新"),
    st.sampled_from("ABCDEFGHJ"),
    st.text("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", min_size=5, max_size=5)
    | st.integers(0, 99_999).map(lambda n: f"D{n:05d}")
    | st.integers(0, 99_999).map(lambda n: f"{n:05d}F")
    | st.tuples(st.integers(0, 9999), st.sampled_from("警学挂港澳领")).map(
        lambda parts: f"{parts[0]:04d}{parts[1]}"
    ),
).map("".join)
passports = st.integers(0, 9_999_999).map(lambda n: f"EA{n:07d}") | st.integers(0, 99_999_999).map(
    lambda n: f"G{n:08d}"
)
emails = st.tuples(
    st.from_regex(r"[a-z0-9]{1,8}(\.[a-z0-9+_]{1,5})?", fullmatch=True),
    st.sampled_from(["example.com", "mail.example.cn", "xn--fsqu00a.xn--fiqs8s"]),
).map("@".join)
VALID = {
    "resident-id/1": resident_ids(),
    "uscc/1": credit_codes(),
    "mobile/1": mobiles,
    "division/1": divisions,
    "text/1": st.text("abcxyz0123456789_-", min_size=2, max_size=20).filter(
        lambda text: text not in ("nan", "null", "none") and text.strip("-") != ""
    ),
    "area/1": communities.filter(lambda code: not code.endswith("000")) | divisions,
    "name/1": names,
    "date/1": days_of_birth,
    "plate/1": plates,
    "passport/1": passports,
    "email/1": emails,
}
# What each takes for the same: case and width everywhere; spaces and marks between the characters
# of a number, but only around words.
INSIDE = ("resident-id/1", "uscc/1", "mobile/1", "division/1", "area/1", "plate/1", "passport/1")


def test_every_canonicaliser_has_its_properties_tested() -> None:
    assert set(VALID) == set(canonicalisers())


named_identifiers = st.sampled_from(sorted(VALID)).flatmap(
    lambda name: st.tuples(st.just(name), VALID[name])
)


@st.composite
def soiled(draw: st.DrawFn, number: str, name: str = "resident-id/1") -> str:
    text = draw(st.sampled_from([number, number.lower(), number.upper()]))
    text = text.translate(FULL_WIDTH) if draw(st.booleans()) else text
    dirt = DIRT if name in INSIDE else [" ", "\u3000", "\u200b"]
    for _ in range(draw(st.integers(0, 4))):
        places = st.integers(0, len(text)) if name in INSIDE else st.sampled_from([0, len(text)])
        at = draw(places)
        text = text[:at] + draw(st.sampled_from(dirt)) + text[at:]
    return text


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_spellings_of_one_day_or_name_are_equal(data: st.DataObject) -> None:
    day = data.draw(st.dates(date(1850, 1, 1), date(2099, 12, 31)))
    marks = data.draw(st.sampled_from(["/", ".", " - ", "－"]))
    numeric = (f"{day.year}", f"{day.month}", f"{day.day}")
    spellings = [f"{day:%Y%m%d}", marks.join(numeric), f"{day} 00:00:00", "{}年{}月{}日"]
    written = data.draw(st.sampled_from(spellings)).format(*numeric)
    assert canonicalise("date/1", written) == day.isoformat()
    one, other = data.draw(han_names), data.draw(han_names)
    first, second = (data.draw(st.sampled_from([*"·•・‧．.", " · "])) for _ in range(2))
    assert canonicalise("name/1", one + first + other) == canonicalise(
        "name/1", one + second + other
    )


@given(named_identifiers)
def test_a_valid_identifier_is_its_own_canonical_form(named: tuple[str, str]) -> None:
    name, number = named
    assert canonicalise(name, number) == number


@given(named_identifiers, st.data())
def test_dirt_never_changes_an_identifier(named: tuple[str, str], data: st.DataObject) -> None:
    name, number = named
    assert canonicalise(name, data.draw(soiled(number, name))) == number


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(VALID)), st.data())
def test_no_two_valid_identifiers_become_one(name: str, data: st.DataObject) -> None:
    one, other = data.draw(VALID[name]), data.draw(VALID[name])
    forms = [canonicalise(name, data.draw(soiled(number, name))) for number in (one, other)]
    assert (forms[0] == forms[1]) == (one == other)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(sorted(VALID)), min_size=2, max_size=3), st.data())
def test_a_key_is_the_same_where_every_part_is(parts: list[str], data: st.DataObject) -> None:
    joined = "+".join(parts)
    one, other = ([data.draw(VALID[name]) for name in parts] for _ in range(2))
    key = canonicalise(
        joined, [data.draw(soiled(part, name)) for name, part in zip(parts, one, strict=True)]
    )
    assert key == canonicalise(joined, key) == "\x1f".join(one)
    assert (key == canonicalise(joined, other)) == (one == other)


# Cells that a rule settles at a glance, nearly does, and does not: what is found for a whole column
# must be what the rule says of each.
@st.composite
def near(draw: st.DrawFn, name: str) -> str | None:
    cell = draw(VALID[name])
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(cell)))
        change = draw(st.sampled_from(["", "0", "9", "x", "X", "/", ":", "１", "\n", "é", " "]))
        cell = cell[:at] + change + cell[at + draw(st.integers(0, 1)) :]
    return draw(st.sampled_from([cell, cell, cell, None, "", "nan", "A" * 18, "1" * 300]))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(SETTLED)), st.integers(0, 3), st.booleans(), st.data())
def test_a_column_read_at_once_is_its_cells_read_one_by_one(
    name: str, skipped: int, large: bool, data: st.DataObject
) -> None:
    cells = data.draw(st.lists(near(name), max_size=12))
    kind = pa.large_string() if large else pa.string()
    at_once = ColumnReader(name, column="c").feed(pa.array(cells, kind)[skipped:])
    one_by_one: list[str | None] = []
    for cell in cells[skipped:]:
        try:
            one_by_one.append(canonicalise(name, cell or ""))
        except InvalidIdentifier:
            one_by_one.append(None)
    assert at_once == one_by_one


@pytest.mark.parametrize("step", [37, pytest.param(1, marks=pytest.mark.slow)])
def test_a_mobile_number_is_recognised_by_its_first_five_digits(step: int) -> None:
    for prefix in range(10_000, 20_000, step):
        # Each prefix a number may have, with ends that look like other things.
        ends = ("000000", "999999", f"{prefix * 7919 % 1_000_000:06d}")
        written = [f"{prefix}{end}" for end in ends]
        at_once = ColumnReader("mobile/1", column="c").feed(pa.array(written))
        _, report = canonicalise_column("mobile/1", [f"{number} " for number in written])
        assert report.valid in (0, 3), prefix
        assert sum(one is not None for one in at_once) == report.valid, prefix


@given(st.sampled_from(canonicalisers()), st.text(max_size=40))
def test_canonicalising_is_idempotent_and_fails_only_with_a_reason(name: str, value: str) -> None:
    canonical, report = canonicalise_column(name, [value])
    if canonical == [None]:
        assert report.blank or sum(report.invalid.values()) == 1
    else:
        once = canonicalise(name, value)
        assert canonical == [once]
        assert canonicalise(name, once) == once


@given(st.text(max_size=20))
def test_text_ignores_case_and_the_amount_of_space(value: str) -> None:
    def form(text: str) -> str:
        try:
            return canonicalise("text/1", text)
        except InvalidIdentifier as err:
            return f"refused: {err.reason}"

    assert form(f"  {value}\t") == form(value)
    assert form(value.casefold()) == form(value)


@given(resident_ids(), resident_ids(), st.data())
def test_two_people_never_become_one(one: str, other: str, data: st.DataObject) -> None:
    forms = [canonicalise("resident-id/1", data.draw(soiled(number))) for number in (one, other)]
    assert (forms[0] == forms[1]) == (one == other)


@given(resident_ids(), st.integers(0, 16), st.integers(1, 9))
def test_a_single_wrong_digit_is_never_someone_else(number: str, at: int, shift: int) -> None:
    wrong = number[:at] + str((int(number[at]) + shift) % 10) + number[at + 1 :]
    _, report = canonicalise_column("resident-id/1", [wrong])
    assert report.valid == 0


@given(resident_ids().filter(lambda number: number[6:8] == "19"))
def test_the_old_form_of_a_number_is_the_same_person(number: str) -> None:
    assert canonicalise("resident-id/1", number[:6] + number[8:17]) == number


@given(st.lists(st.one_of(st.none(), resident_ids(), st.text(max_size=20)), max_size=30))
def test_the_report_accounts_for_every_row(values: list[str | None]) -> None:
    canonical, report = canonicalise_column("resident-id/1", values)
    found = [number for number in canonical if number is not None]
    assert report.rows == len(values) == len(canonical)
    assert report.valid == len(found)
    assert report.duplicates == len(found) - len(set(found))
    assert report.blank + report.valid + sum(report.invalid.values()) == report.rows


@given(st.integers(-(2**63) + 1, 2**63 - 1), st.integers(0, 9))
def test_a_scaled_value_reads_back(number: int, scale: int) -> None:
    digits = str(abs(number)).rjust(scale + 1, "0")
    point = len(digits) - scale
    text = digits[:point] + (f".{digits[point:]}" if scale else "")
    signed = f"-{text}" if number < 0 else text
    assert parse_integers([signed], column_name="n", scale=scale) == [number]


@given(st.text(max_size=12), st.integers(0, 3))
def test_text_is_a_value_only_where_python_agrees(text: str, scale: int) -> None:
    try:
        (number,) = parse_integers([text], column_name="n", scale=scale)
    except InputRejected:
        return
    assert number == round(float(text.strip()) * 10**scale)


@settings(max_examples=75, deadline=None)
@given(
    st.binary(max_size=200)
    | st.text('ab,;"\n\r\t {}[]:01张', max_size=60).map(lambda text: text.encode("utf-8")),
    st.sampled_from(["csv", "jsonl", "parquet"]),
)
def test_rubbish_is_read_or_refused_and_never_anything_else(content: bytes, ending: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{ending}"
        path.write_bytes(content)
        source = open_source(str(path))
        refused, count = "", 0
        try:
            names = source.schema().names
            count = sum(batch.num_rows for batch in source.scan(names[:1]))
        except InputRejected as err:
            refused = str(err)
    assert path.name in refused or count > 0


cells = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\u2028\u2029\x85\ufeff"),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(cells, cells), min_size=1, max_size=10),
    st.sampled_from(["utf-8", "utf-8-sig"]),
    st.sampled_from([",", "\t", ";", "|"]),
)
def test_delimited_text_reads_back_as_written(
    rows: list[tuple[str, str]], encoding: str, delimiter: str
) -> None:
    quoted = [delimiter.join('"' + c.replace('"', '""') + '"' for c in row) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes("\n".join([f"a{delimiter}b", *quoted]).encode(encoding))
        batches = list(open_source(str(path)).scan(["a", "b"]))
    assert [tuple(row.values()) for batch in batches for row in batch.to_pylist()] == rows


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.text("a\u00e9张😀", max_size=4).map(str.encode)
        | st.sampled_from(
            [b"\x80", b"\xe5\xbc", b"\xf0\x9f\x98", b"\xc3", b"\xff", b"\xed\xa0\x80"]
        ),
        max_size=6,
    ).map(b"".join),
    st.integers(4, 9),
)
def test_text_read_in_blocks_is_utf_8_where_it_is_as_a_whole(content: bytes, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(content)
        with mock.patch.object(delimited, "_READ_BYTES", size):
            try:
                content.decode("utf-8")
            except UnicodeDecodeError:
                with pytest.raises(UnicodeDecodeError):
                    delimited._quotes_of_utf_8(path)
            else:
                assert delimited._quotes_of_utf_8(path) == 0


START = datetime(2026, 1, 1, tzinfo=UTC)
PEOPLE = ("11010519491231002X", "440303198506120047", "440104195602290056")
COLUMNS = ("id", "cost", "diagnosis")
days = st.integers(0, 20).map(lambda n: START + timedelta(days=n))


@st.composite
def consents(draw: st.DrawFn, receipt_id: str) -> Consent:
    given_at = draw(days)
    withdrawn = draw(st.none() | st.integers(0, 10))
    return Consent(
        receipt_id=receipt_id,
        subject=draw(st.sampled_from(PEOPLE)),
        columns=tuple(draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=3))),
        purposes=tuple(draw(st.lists(st.sampled_from(["care", "research"]), min_size=1))),
        recipients=(draw(st.sampled_from(["*", "did:web:a", "did:web:b"])),),
        given_at=given_at,
        expires_at=given_at + timedelta(days=draw(st.integers(1, 10))),
        withdrawn_at=None if withdrawn is None else given_at + timedelta(days=withdrawn),
    )


@settings(max_examples=40, deadline=None)
@given(st.data(), days, st.sampled_from(["care", "research"]))
def test_no_row_appears_without_a_consent_in_force_for_this_use(
    data: st.DataObject, at: datetime, purpose: str
) -> None:
    receipts = [data.draw(consents(f"r{n}")) for n in range(data.draw(st.integers(0, 5)))]
    asked = data.draw(st.lists(st.sampled_from(COLUMNS), min_size=1, unique=True))
    with tempfile.TemporaryDirectory() as folder:
        rows = [f"{person},{n},x" for n, person in enumerate(PEOPLE * 2)]
        (Path(folder) / "h.csv").write_text("\n".join(["id,cost,diagnosis", *rows]))
        path = Path(folder) / "c.jsonl"
        path.write_text("".join(f"{r.model_dump_json()}\n" for r in receipts))
        source = open_source(f"personal+file:{folder}/h.csv?consents={path}&subject=id")
        assert isinstance(source, PersonalFile)
        shown = sum(
            batch.num_rows for batch in source.scan_consented(asked, Use(purpose, "did:web:a", at))
        )
    willing = {
        receipt.subject
        for receipt in receipts
        if receipt.given_at <= at < receipt.expires_at
        and not (receipt.withdrawn_at is not None and receipt.withdrawn_at <= at)
        and purpose in receipt.purposes
        and receipt.recipients[0] in ("*", "did:web:a")
        and all(column in receipt.columns for column in asked)
    }
    assert shown == 2 * len(willing)


@settings(max_examples=20, deadline=None)
@given(st.data(), days)
def test_after_a_withdrawal_nothing_of_that_receipt_is_covered(
    data: st.DataObject, at: datetime
) -> None:
    receipt = data.draw(consents("r1"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.jsonl"
        append_consent(path, receipt)
        withdraw(path, "r1", max(at, receipt.given_at))
        book = ConsentBook.load(path)
    later = max(at, receipt.given_at) + timedelta(days=data.draw(st.integers(0, 30)))
    for purpose in receipt.purposes:
        assert not book.covers(receipt.subject, receipt.columns, purpose, "did:web:a", later)
