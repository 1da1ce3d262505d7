"""What is proposed for columns and datasets, with the reason, and what grades allow."""

from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from connectors.classification import (
    MANY_PEOPLE,
    MANY_SENSITIVE,
    ClassProposal,
    ColumnClass,
    Grade,
    Handling,
    offerable,
    propose_classes,
    propose_grade,
)
from connectors.errors import InputRejected

TODAY = date(2026, 11, 30)
IDENTIFIER, QUASI = ColumnClass.IDENTIFIER, ColumnClass.QUASI_IDENTIFIER
SENSITIVE, BUSINESS, OPEN = (
    ColumnClass.SENSITIVE_PERSONAL,
    ColumnClass.BUSINESS,
    ColumnClass.OPEN,
)


def test_grades_allow_less_the_more_a_leak_would_harm() -> None:
    assert offerable(Grade.GENERAL) == {Handling.COMPUTE, Handling.DOWNLOAD}
    assert offerable(Grade.IMPORTANT) == {Handling.COMPUTE}
    with pytest.raises(InputRejected, match="data graded core \\(核心\\) are never offered"):
        offerable(Grade.CORE)


def test_grades_carry_the_names_of_the_standard() -> None:
    assert [(grade.value, grade.chinese) for grade in Grade] == [
        ("general", "一般"),
        ("important", "重要"),
        ("core", "核心"),
    ]


def proposed(name: str, *cells: Any, beside: str = "x") -> ClassProposal:
    sample = pa.table({name: list(cells), beside: [None] * len(cells)})
    return propose_classes(sample.schema, sample, today=TODAY)[name]


def test_names_and_cells_tell_the_class_of_a_column() -> None:
    sample = pa.table(
        {
            "k": ["11010519491231002X", "", None],
            "telephone": ["13800138000", "+86 13800138000", "x"],
            "name": ["张三", "李四", "王五"],
            "district": ["南山区"] * 3,
            "age_band": ["18-34"] * 3,
            "diagnosis_group": ["其他"] * 3,
            "amount_cents": ["1", "2", "3"],
            "contract_no": ["HT1", "HT2", "HT3"],
            "currency": ["CNY"] * 3,
            "身份证号": ["", "", ""],
        }
    )
    found = propose_classes(sample.schema, sample)
    assert {name: one.column_class for name, one in found.items()} == {
        "k": IDENTIFIER,
        "telephone": IDENTIFIER,
        "name": IDENTIFIER,
        "district": QUASI,
        "age_band": QUASI,
        "diagnosis_group": SENSITIVE,
        "amount_cents": BUSINESS,
        "contract_no": BUSINESS,
        "currency": OPEN,
        "身份证号": IDENTIFIER,
    }


@pytest.mark.parametrize(
    ("cells", "expected", "reason", "reason_zh"),
    [
        (("11010519491231002X",), IDENTIFIER, "identity numbers", "身份证号码"),
        (("13800138000",), IDENTIFIER, "mobile numbers", "手机号码"),
        (("91440300708461136T",), IDENTIFIER, "unified social credit codes", "统一社会信用代码"),
        (("粤B12345", "粤B·D12345"), IDENTIFIER, "number plates", "车牌号"),
        (("E12345678", "G12345678"), IDENTIFIER, "passports", "护照"),
        (("li@example.org",), IDENTIFIER, "e-mail addresses", "电子邮箱"),
        (("张三", "欧阳娜娜", "李四"), IDENTIFIER, "names of people", "姓名"),
        (("4111 1111 1111 1111", "6222021234567890128"), SENSITIVE, "bank card", "银行卡号"),
        (("E11.900", "I10", "J45.0"), SENSITIVE, "codes of diseases", "疾病编码"),
        (("深圳市南山区科技园路12号",), QUASI, "addresses", "地址"),
        (("12 Baker Street, London",), QUASI, "addresses", "地址"),
        (("113.93041, 22.53332", "POINT (113.930 22.533)"), QUASI, "coordinates", "坐标"),
    ],
)
def test_cells_tell_whatever_their_column_is_called(
    cells: tuple[str, ...], expected: ColumnClass, reason: str, reason_zh: str
) -> None:
    found = proposed("c7", *cells)
    assert found.column_class is expected
    assert found.reason.startswith("more than half of the cells are ")
    assert reason in found.reason
    assert found.reason_zh.startswith("超过半数的单元格为")
    assert reason_zh in found.reason_zh


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DiseaseCode", SENSITIVE),
        ("religion", SENSITIVE),
        ("face_template", SENSITIVE),
        ("bank_account", SENSITIVE),
        ("月收入", SENSITIVE),
        ("child_no", SENSITIVE),
        ("行踪", SENSITIVE),
        ("resident_id", IDENTIFIER),
        ("personNo", IDENTIFIER),
        ("full_name", IDENTIFIER),
        ("customer_name", IDENTIFIER),
        ("车牌", IDENTIFIER),
        ("district_name", QUASI),
        ("birthDate", QUASI),
        ("民族", QUASI),
        ("latitude", QUASI),
        ("company_name", BUSINESS),
        ("surface_m2", BUSINESS),
        ("suicide_squad", BUSINESS),
        ("accountable", BUSINESS),
        ("litres", BUSINESS),
        ("单位", OPEN),
    ],
)
def test_names_are_read_by_whole_words_and_by_characters(name: str, expected: ColumnClass) -> None:
    found = proposed(name)
    assert found.column_class is expected
    assert found.reason
    assert found.reason_zh


@pytest.mark.parametrize(
    "cells",
    [
        ("1234567890123456", "2234567890123456", "3234567890123456"),
        ("A01", "B12", "C07"),
        ("南山区", "福田区", "白云区"),
        ("高新区", "高新区", "黄埔区"),
        ("2026-01-01", "2026-01-02"),
        ("12.5", "113.2"),
        ("张三",) * 5,
    ],
)
def test_what_only_looks_like_it_is_business_data(cells: tuple[str, ...]) -> None:
    assert proposed("c7", *cells).column_class is BUSINESS


def test_half_of_the_cells_are_not_enough() -> None:
    assert proposed("c7", "13800138000", "none of it").column_class is BUSINESS
    assert proposed("c7", "13800138000", "13800138001", "x").column_class is IDENTIFIER


def test_ages_and_dates_of_birth_tell_of_children() -> None:
    young = proposed("age", "7", "9", "41")
    assert (young.column_class, young.reason) == (
        SENSITIVE,
        "more than half of the people are younger than 14",
    )
    assert "未满14周岁" in young.reason_zh
    assert proposed("age", "17", "29", "41").column_class is QUASI
    assert (
        proposed("出生日期", "2019-03-01", "2013年1月2日", "1980-01-01").column_class is SENSITIVE
    )
    assert proposed("birth_date", "20121130", "20121130").column_class is QUASI
    assert proposed("birth_date", "20121201", "20121201").column_class is SENSITIVE


def test_coordinates_beside_an_identifier_are_where_a_person_was() -> None:
    found = proposed("latitude", beside="phone")
    assert found.column_class is SENSITIVE
    assert "where a person was" in found.reason
    assert "行踪" in found.reason_zh


def test_a_column_that_was_not_sampled_is_classed_by_its_name() -> None:
    schema = pa.schema([("resident_id", pa.string()), ("x", pa.int64())])
    sample = pa.record_batch({"x": pa.array([1, 2], pa.int64())})
    found = propose_classes(schema, sample)
    assert found["resident_id"].column_class is IDENTIFIER
    assert found["resident_id"].reason == "its name speaks of what names one person"
    assert found["x"].column_class is BUSINESS
    assert found["x"].reason == "neither its name nor its cells tell of people"


def classes(*held: ColumnClass) -> dict[str, ClassProposal]:
    return {f"c{number}": ClassProposal(one, "r", "因") for number, one in enumerate(held)}


@pytest.mark.parametrize(
    ("held", "rows", "grade"),
    [
        ((IDENTIFIER, BUSINESS), MANY_PEOPLE - 1, Grade.GENERAL),
        ((IDENTIFIER, BUSINESS), MANY_PEOPLE, Grade.IMPORTANT),
        ((IDENTIFIER, SENSITIVE), MANY_SENSITIVE - 1, Grade.GENERAL),
        ((IDENTIFIER, SENSITIVE), MANY_SENSITIVE, Grade.IMPORTANT),
        ((BUSINESS, QUASI), 10 * MANY_PEOPLE, Grade.GENERAL),
        ((IDENTIFIER, SENSITIVE), None, Grade.GENERAL),
    ],
)
def test_a_grade_is_proposed_by_how_many_people_the_data_are_about(
    held: tuple[ColumnClass, ...], rows: int | None, grade: Grade
) -> None:
    found = propose_grade(classes(*held), rows=rows)
    assert found.grade is grade
    assert found.reason
    assert any("一" <= letter <= "鿿" for letter in found.reason_zh)


def test_long_cells_cost_no_time_and_tell_nothing() -> None:
    assert proposed("c7", "区" * 100_000, "1 " * 100_000).column_class is BUSINESS
