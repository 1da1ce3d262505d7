"""Ages and deaths as rules read them."""

from datetime import UTC, date, datetime, timedelta

import pytest

from connectors.people import (
    DIED_SOMETIME,
    Standing,
    birth_column,
    born_by_resident_id,
    day_of,
    death_column,
    full_years,
    last_birthday_of_age,
    parsed_day,
    parsed_death,
    standing,
)

NOON = datetime(2026, 11, 30, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("born", "expected"),
    [
        (date(2012, 11, 29), Standing(minor=True)),
        # The birthday itself does not complete the year.
        (date(2012, 11, 30), Standing(child=True, minor=True)),
        (date(2008, 11, 29), Standing()),
        (date(2008, 11, 30), Standing(minor=True)),
        (date(1906, 11, 29), Standing(deceased=True)),
        (date(1906, 11, 30), Standing()),
        (None, Standing()),
    ],
    ids=str,
)
def test_what_holds_at_an_age(born: date | None, expected: Standing) -> None:
    assert standing(born, None, NOON) == expected


def test_the_day_is_that_of_china() -> None:
    assert day_of(datetime(2026, 11, 30, 16, tzinfo=UTC)) == date(2026, 12, 1)
    born = date(2012, 11, 30)
    assert standing(born, None, datetime(2026, 11, 30, 15, 59, tzinfo=UTC)).child
    assert not standing(born, None, datetime(2026, 11, 30, 16, tzinfo=UTC)).child


def test_people_are_read_until_they_die() -> None:
    assert not standing(None, date(2026, 12, 1), NOON).deceased
    assert standing(None, date(2026, 11, 30), NOON).deceased
    assert standing(None, DIED_SOMETIME, NOON).deceased


@pytest.mark.parametrize("years", [14, 18, 120])
def test_the_last_birthday_of_an_age_is_where_the_age_begins(years: int) -> None:
    for day in (date(2024, 2, 28) + timedelta(days=n) for n in (0, 1, 2, 3, 300, 366, 367)):
        last = last_birthday_of_age(years, day)
        assert full_years(last, day) >= years
        assert full_years(last + timedelta(days=1), day) < years


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1980-01-31", date(1980, 1, 31)),
        ("1980/1/3", date(1980, 1, 3)),
        ("19800131", date(1980, 1, 31)),
        ("1980年1月31日", date(1980, 1, 31)),
        ("1980-01-31 00:00:00", date(1980, 1, 31)),
        ("1980-02-31", None),
        ("31.01.1980", None),
        ("", None),
        (None, None),
    ],
    ids=str,
)
def test_days_are_read_as_people_write_them(text: str | None, expected: date | None) -> None:
    assert parsed_day(text) == expected


@pytest.mark.parametrize("text", [None, "", " ", "0", "No", "否", "false", "在世", "/", "NULL"])
def test_the_living_are_not_marked(text: str | None) -> None:
    assert parsed_death(text) is None


@pytest.mark.parametrize("text", ["1", "yes", "是", "死亡", "?", "31.01.2020"])
def test_an_unclear_mark_is_a_death(text: str) -> None:
    assert parsed_death(text) == DIED_SOMETIME


def test_columns_are_found_by_their_names() -> None:
    assert birth_column(["id", "birth_place", "birth_date"]) == "birth_date"
    assert birth_column(["出生地", "出生日期"]) == "出生日期"
    assert birth_column(["born"]) == "born"
    assert birth_column(["stubborn", "deadline"]) is None
    assert death_column(["cause_of_death", "deceased"]) == "deceased"
    assert death_column(["死亡原因", "死亡日期"]) == "死亡日期"
    assert death_column(["deadline", "deathly"]) is None
    assert born_by_resident_id("440305198001021015") == date(1980, 1, 2)
