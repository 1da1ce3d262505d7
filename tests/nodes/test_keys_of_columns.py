"""Keys of several columns between real nodes: published by one side, asked for by the other."""

from pathlib import Path

import pytest

from dataspace.client import ApiError

from .conftest import City, terms

KEY = {"name": "name+born", "role": "identifier", "canonicaliser": "name/1+date/1"}
FAMILY, GIVEN = "张王李赵周", "伟芳娜敏静"


def test_people_match_by_name_and_day_of_birth_however_both_are_written(
    city: City, tmp_path: Path
) -> None:
    people = [(family, given) for family in FAMILY for given in GIVEN]
    theirs, own = tmp_path / "theirs.csv", tmp_path / "own.csv"
    theirs.write_text(
        "name,born\n" + "".join(f"{a}{b},1990-01-{n + 1:02d}\n" for n, (a, b) in enumerate(people)),
        encoding="utf-8",
    )
    # The first twenty, otherwise written; then people born a day later.
    own.write_text(
        "who,when\n"
        + "".join(f" {a} {b},1990/1/{n + 1}\n" for n, (a, b) in enumerate(people[:20]))
        + "".join(f"{a}{b},1990年2月{n + 1}日\n" for n, (a, b) in enumerate(people)),
        encoding="utf-8",
    )
    provider = city.node("civil-affairs")
    provider.client.publish("keys", theirs, [KEY], terms=terms())
    city.agreements["keys"] = city.consumer.negotiate(provider.url, "keys")
    result = city.compute("psi/1", ["keys"], own=(own, "who+when"))
    expected = {f"{a}{b}\x1f1990-01-{n + 1:02d}" for n, (a, b) in enumerate(people[:20])}
    assert set(result.value["identifiers"]) == expected


def test_a_key_whose_columns_and_canonicalisers_differ_in_number_is_not_published(
    city: City, tmp_path: Path
) -> None:
    path = tmp_path / "people.csv"
    path.write_text("name,born\n张伟,1990-01-01\n", encoding="utf-8")
    with pytest.raises(ApiError, match=r"has 2 part\(s\) and the canonicaliser name/1 1"):
        city.node("civil-affairs").client.publish(
            "wrong-keys", path, [{**KEY, "canonicaliser": "name/1"}], terms=terms()
        )
