"""Canonical names, dates, plates, passports, mailboxes and areas, and keys of several columns."""

import pyarrow as pa
import pytest

from connectors.errors import InputRejected
from connectors.identifiers import (
    ColumnReader,
    InvalidIdentifier,
    canonicalise,
    columns_of,
    parts_of,
    verify_key,
)


def reason_of(canonicaliser: str, value: str) -> str:
    with pytest.raises(InvalidIdentifier) as refused:
        canonicalise(canonicaliser, value)
    return refused.value.reason


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("张三", "张三"),
        (" 张\u3000三 ", "张三"),
        ("張三", "張三"),
        ("阿依古丽•买买提", "阿依古丽·买买提"),
        ("阿依古丽 ・ 买买提", "阿依古丽·买买提"),
        ("阿依古丽．买买提", "阿依古丽·买买提"),
        ("阿依古丽｡买买提", "阿依古丽·买买提"),
        ("ＪＯＨＮ\u00a0  Smith", "john smith"),
        ("Anne‐Marie O’Neill", "anne-marie o'neill"),
        ("J. R. Smith Jr.", "j. r. smith jr"),
        ("葛\U000e0100城", "葛城"),
        ("〇一", "〇一"),
    ],
)
def test_a_name_has_one_spelling(written: str, canonical: str) -> None:
    assert canonicalise("name/1", written) == canonical


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "blank"),
        ("无", "blank"),
        (" · ", "blank"),
        ("!?", "characters"),
        ("张三2", "characters"),
        ("440305199001011234", "characters"),
        ("张\ue000", "characters"),
        ("4.40E+17", "scientific-notation"),
    ],
)
def test_what_is_no_name_is_refused_with_its_reason(value: str, reason: str) -> None:
    assert reason_of("name/1", value) == reason


def test_traditional_and_simplified_names_stay_different() -> None:
    assert canonicalise("name/1", "后羿") != canonicalise("name/1", "後羿")


@pytest.mark.parametrize(
    "written",
    [
        "1990-01-05",
        "19900105",
        "1990/1/5",
        "1990.01.05",
        "1990年1月5日",
        "１９９０－１－５",
        " '1990 - 01 - 05",
        "1990-01-05 00:00:00",
        "1990-01-05T00:00:00Z",
        "1990/1/5 00:00",
    ],
)
def test_a_day_has_one_spelling(written: str) -> None:
    assert canonicalise("date/1", written) == "1990-01-05"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "blank"),
        ("NULL", "blank"),
        ("05/01/1990", "date"),
        ("1/5/90", "date"),
        ("900105", "date"),
        ("32878", "date"),
        ("1990-02-30", "date"),
        ("0000-01-01", "date"),
        ("1990-01-05 13:00:00", "date"),
        ("1990 1 105", "date"),
        ("3.2E+4", "scientific-notation"),
    ],
)
def test_a_day_that_can_be_read_in_two_ways_is_refused(value: str, reason: str) -> None:
    assert reason_of("date/1", value) == reason


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("粤B·12345", "粤B12345"),
        ("粤B•12345", "粤B12345"),
        ("粤b 1234a", "粤B1234A"),
        ("粵Ｂ－１２３４５", "粤B12345"),
        ("粤BD12345", "粤BD12345"),
        ("京A·DF2345", "京ADF2345"),
        ("粤B12345D", "粤B12345D"),
        ("粤Z·1234港", "粤Z1234港"),
        ("粤Z1234澳", "粤Z1234澳"),
        ("沪A·1234学", "沪A1234学"),
        ("沪A1234學", "沪A1234学"),
        ("京A·1234警", "京A1234警"),
        ("鲁B1234挂", "鲁B1234挂"),
        ("沪A1234领", "沪A1234领"),
        ("使 014578", "使014578"),
        ("川X·0119应急", "川X0119应急"),
    ],
)
def test_a_plate_has_one_spelling(written: str, canonical: str) -> None:
    assert canonicalise("plate/1", written) == canonical


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "blank"),
        ("·", "blank"),
        ("粤B1234", "length"),
        ("粤B1234567890", "length"),
        ("粤B1234O", "characters"),
        ("粤B1234I", "characters"),
        ("粤112345", "characters"),
        ("AB12345", "characters"),
        ("粤BX12345", "characters"),
        ("WJ01X1234", "characters"),
        ("粤B1234挂学", "characters"),
    ],
)
def test_what_is_no_plate_is_refused_with_its_reason(value: str, reason: str) -> None:
    assert reason_of("plate/1", value) == reason


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("E12345678", "E12345678"),
        ("ea 1234567", "EA1234567"),
        ("Ｇ１２３４５６７８", "G12345678"),
        # The specimens of ICAO 9303, parts 4 and 5.
        ("L898902C3", "L898902C3"),
        ("D23145890", "D23145890"),
        ("C01X00T47", "C01X00T47"),
        ("AB123456<", "AB123456"),
    ],
)
def test_a_passport_number_has_one_spelling(written: str, canonical: str) -> None:
    assert canonicalise("passport/1", written) == canonical


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "blank"),
        ("E1234", "length"),
        ("440305199001011234", "length"),
        ("PASSPORT", "characters"),
        ("E1234567/", "characters"),
        ("护照1234567", "characters"),
        ("1.2E+8", "scientific-notation"),
    ],
)
def test_what_is_no_passport_number_is_refused_with_its_reason(value: str, reason: str) -> None:
    assert reason_of("passport/1", value) == reason


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("Zhang.San+news@Example.COM", "zhang.san+news@example.com"),
        (" zhang＠example。cn ", "zhang@example.cn"),
        ("张三@例子.中国", "张三@xn--fsqu00a.xn--fiqs8s"),
        ("x@xn--fsqu00a.xn--fiqs8s", "x@xn--fsqu00a.xn--fiqs8s"),
        ("x@Straße.de", "x@xn--strae-oqa.de"),
        ("o'neill_7@mail.example.org", "o'neill_7@mail.example.org"),
    ],
)
def test_a_mailbox_has_one_spelling(written: str, canonical: str) -> None:
    assert canonicalise("email/1", written) == canonical


def test_dots_and_tags_of_a_mailbox_are_never_dropped() -> None:
    forms = {canonicalise("email/1", f"{local}@example.com") for local in ("a.b", "ab", "ab+c")}
    assert len(forms) == 3


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "blank"),
        ("无", "blank"),
        ("zhang", "characters"),
        ("a b@example.com", "characters"),
        (".a@example.com", "characters"),
        ('"a b"@example.com', "characters"),
        ("a@@example.com", "characters"),
        ("a@example", "domain"),
        ("a@-example.com", "domain"),
        ("a@exa_mple.com", "domain"),
        ("a@127.0.0.1", "domain"),
        ("a@example.com.", "domain"),
        ("a@", "domain"),
        ("x" * 65 + "@example.com", "length"),
    ],
)
def test_what_is_no_mailbox_is_refused_with_its_reason(value: str, reason: str) -> None:
    assert reason_of("email/1", value) == reason


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("44", "440000"),
        ("4403", "440300"),
        ("440305", "440305"),
        ("440305000000", "440305"),
        ("440305000", "440305"),
        ("440305007", "440305007"),
        ("440305007000", "440305007"),
        ("４４０３０５ ００７ ００１", "440305007001"),
        ("440305000001", "440305000001"),
    ],
)
def test_an_area_is_named_by_the_shortest_code_that_says_it(written: str, canonical: str) -> None:
    assert canonicalise("area/1", written) == canonical


@pytest.mark.parametrize(
    ("value", "reason"),
    [("", "blank"), ("44030", "length"), ("99", "division"), ("44030A", "characters")],
)
def test_what_is_no_area_is_refused_with_its_reason(value: str, reason: str) -> None:
    assert reason_of("area/1", value) == reason


KEY = "name/1+date/1"


def test_a_key_joins_its_parts_after_each_is_canonical() -> None:
    key = canonicalise(KEY, (" 张 三", "1990/1/5"))
    assert key == "张三\x1f1990-01-05"
    assert canonicalise(KEY, key) == key


def test_no_two_keys_run_together() -> None:
    assert canonicalise("text/1+text/1", ("a b", "c")) != canonicalise(
        "text/1+text/1", ("a", "b c")
    )
    assert canonicalise("text/1+text/1", ("a\x1fb", "c")) == "a b\x1fc"


def test_a_key_lacks_what_its_first_unusable_part_lacks() -> None:
    with pytest.raises(InvalidIdentifier) as refused:
        canonicalise(KEY, ("张三", "yesterday"))
    assert (refused.value.canonicaliser, refused.value.reason) == (KEY, "date")
    reader = ColumnReader(KEY, column="name+born")
    rows = reader.feed(
        pa.array(["张三", "李四", None, "王五2", " 张三"]),
        ["1990-01-05", "yesterday", "1990-01-05", "", "19900105"],
    )
    assert rows == ["张三\x1f1990-01-05", None, None, None, "张三\x1f1990-01-05"]
    report = reader.report()
    assert (report.rows, report.valid, report.blank, report.duplicates) == (5, 2, 1, 1)
    assert report.invalid == {"characters": 1, "date": 1}
    assert report.examples == ("row 2, date: ****", "row 4, characters: ****")


@pytest.mark.parametrize(
    ("canonicaliser", "value", "message"),
    [
        (KEY, "张三", r"name/1\+date/1 takes 2 value\(s\), got 1"),
        ("text/1", ("a", "b"), r"text/1 takes 1 value\(s\), got 2"),
        ("name/1+birthday/1", ("a", "b"), "no canonicaliser birthday/1; use one of"),
        ("+".join(["text/1"] * 6), ("a",) * 6, "at most 5 parts, 6 canonicalisers are joined"),
        ("text/1+", ("a", "b"), "there is no canonicaliser ; use one of"),
    ],
)
def test_a_key_that_does_not_fit_is_refused(
    canonicaliser: str, value: str | tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputRejected, match=message):
        canonicalise(canonicaliser, value)


def test_a_column_that_is_really_called_so_comes_before_the_columns_it_would_join() -> None:
    assert columns_of("name+born", ["name", "born"]) == ("name", "born")
    assert columns_of("name+born", ["name", "born", "name+born"]) == ("name+born",)
    assert columns_of("name", ["born"]) == ("name",)


def test_every_column_of_a_key_has_a_canonicaliser() -> None:
    verify_key(KEY, ("name", "born"))
    assert parts_of(KEY) == ("name/1", "date/1")
    with pytest.raises(InputRejected, match=r"column name\+born has 2 part\(s\)"):
        verify_key("text/1", ("name", "born"))


def test_numbers_that_became_floating_point_are_identifiers_while_all_digits_are_there() -> None:
    reader = ColumnReader("mobile/1", column="phone")
    whole = pa.array([13800138000.0, None, float("nan"), 4.40305199001011e17])
    assert reader.feed(whole) == ["+8613800138000", None, None, None]
    assert reader.report().invalid == {"scientific-notation": 1}
