import pyarrow as pa
import pytest

from connectors.classification import ColumnClass, Grade, Handling, offerable, propose_classes
from connectors.errors import InputRejected


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
    assert propose_classes(sample.schema, sample) == {
        "k": ColumnClass.IDENTIFIER,
        "telephone": ColumnClass.IDENTIFIER,
        "name": ColumnClass.IDENTIFIER,
        "district": ColumnClass.QUASI_IDENTIFIER,
        "age_band": ColumnClass.QUASI_IDENTIFIER,
        "diagnosis_group": ColumnClass.SENSITIVE_PERSONAL,
        "amount_cents": ColumnClass.BUSINESS,
        "contract_no": ColumnClass.BUSINESS,
        "currency": ColumnClass.OPEN,
        "身份证号": ColumnClass.IDENTIFIER,
    }


def test_a_column_that_was_not_sampled_is_classed_by_its_name() -> None:
    schema = pa.schema([("resident_id", pa.string()), ("x", pa.int64())])
    sample = pa.record_batch({"x": pa.array([1, 2], pa.int64())})
    assert propose_classes(schema, sample) == {
        "resident_id": ColumnClass.IDENTIFIER,
        "x": ColumnClass.BUSINESS,
    }
