from pathlib import Path

import pytest

from connectors.addresses import parse_address
from connectors.errors import InputRejected

KNOWN = ("table", "secret")


def test_an_address_is_taken_apart() -> None:
    address = parse_address("POSTGRESQL://n%40de@db.example:5433/ci%20ty?table=a%26b", known=KNOWN)
    assert (address.scheme, address.user, address.host) == ("postgresql", "n@de", "db.example")
    assert (address.port, address.path, address.options) == (5433, "/ci ty", {"table": "a&b"})
    assert address.secret() is None


def test_options_of_a_web_address_stand_in_its_fragment() -> None:
    url = "json+https://host/items?kind=1&kind=2#table=t"
    address = parse_address(url, known=KNOWN, in_fragment=True)
    assert address.options == {"table": "t"}
    assert address.parts.query == "kind=1&kind=2"


def test_an_address_without_user_host_and_port_has_none() -> None:
    address = parse_address("sqlite:///a.db?table=", known=KNOWN)
    assert (address.user, address.host, address.port) == (None, None, None)
    assert address.options == {"table": ""}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:hunter2@h/d?table=t", "must not hold a password"),
        ("postgresql://u:@h/d?table=t", "must not hold a password"),
        ("postgresql://h:99999/d", "malformed"),
        ("postgresql://h:port/d", "malformed"),
        ("postgresql://[::1/d", "malformed"),
        ("postgresql://h/d?table=a&table=b", "given twice"),
        ("postgresql://h/d?tabel=a", "no option tabel; it takes secret, table"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_and_not_repeated(url: str, said: str) -> None:
    with pytest.raises(InputRejected, match=said) as refused:
        parse_address(url, known=KNOWN)
    assert "hunter2" not in str(refused.value)


def test_a_secret_is_read_anew_every_time(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("one\n")
    path.chmod(0o600)
    address = parse_address(f"mysql://u@h/d?secret=file:{path}", known=KNOWN)
    assert address.secret() == "one"
    path.write_text("two\n")
    assert address.secret() == "two"


def test_what_is_shown_of_an_address_holds_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CITY_DB", "hunter2")
    address = parse_address("mysql://u@h/d?secret=env:CITY_DB", known=KNOWN)
    assert address.secret() == "hunter2"
    assert "hunter2" not in repr(address)
