import pytest

from connectors.errors import ConnectorError
from dataspace.errors import InputRejected
from dataspace.publication import ColumnSpec, checked_column, verify_columns_exist

KEY = ColumnSpec(name="name+born", role="identifier", canonicaliser="name/1+date/1")


def test_a_key_of_several_columns_is_published_where_each_of_them_exists() -> None:
    assert checked_column(KEY) == KEY
    verify_columns_exist([KEY], ["name", "born"], source="people.csv")
    with pytest.raises(ConnectorError, match=r"people\.csv has no column born"):
        verify_columns_exist([KEY], ["name", "cost"], source="people.csv")


def test_a_key_is_refused_unless_every_column_of_it_has_a_canonicaliser() -> None:
    with pytest.raises(InputRejected, match="there is no canonicaliser 'name/1\\+birthday/1'"):
        checked_column(KEY.model_copy(update={"canonicaliser": "name/1+birthday/1"}))
    text = KEY.model_copy(update={"canonicaliser": "text/1"})
    with pytest.raises(ConnectorError, match=r"column name\+born has 2 part\(s\)"):
        verify_columns_exist([text], ["name", "born"], source="people.csv")


def test_only_an_identifier_joins_columns() -> None:
    value = ColumnSpec(name="name+born", role="value")
    with pytest.raises(ConnectorError, match=r"people\.csv has no column name\+born"):
        verify_columns_exist([value], ["name", "born"], source="people.csv")
