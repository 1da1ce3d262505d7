"""Files on their way: whole or not there, and no others' business."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataspace.errors import ProtocolViolation, Unavailable
from dataspace.protocol import transit
from dataspace.protocol.transit import Digesting, Incoming, fresh_file, sweep

ABC = "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:"
OTHER = "sha-256=:" + "A" * 43 + "=:"


def test_a_file_has_its_name_when_it_is_whole_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "received" / "x.csv"
    with fresh_file(path) as file:
        file.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_that_broke_off_leaves_the_earlier_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"earlier")

    def break_off() -> None:
        with fresh_file(path) as file:
            file.write(b"half")
            raise Unavailable("it broke off")

    with pytest.raises(Unavailable):
        break_off()
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("x.csv", b"earlier")]


def test_what_a_killed_node_left_half_written_is_swept_away(tmp_path: Path) -> None:
    whole = tmp_path / "x.csv"
    whole.write_bytes(b"whole")
    (tmp_path / ".x.csv.1.part").write_bytes(b"half")
    sweep(tmp_path)
    sweep(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == [whole]


@given(st.lists(st.binary(max_size=50)))
def test_a_digest_is_that_of_the_pieces_together(pieces: list[bytes]) -> None:
    digesting = Digesting()
    for piece in pieces:
        digesting.feed(piece)
    whole = b"".join(pieces)
    assert digesting.to_json() == {
        "bytes": len(whole),
        "sha256": hashlib.sha256(whole).hexdigest(),
    }


def incoming(tmp_path: Path) -> Incoming:
    file = (tmp_path / "x").open("wb")
    taken = Incoming(file)
    taken.write(b"ab")
    taken.write(b"c")
    file.close()
    return taken


@pytest.mark.parametrize(
    "claimed", [None, "", ABC, f"sha-512=:x:, {ABC}", ABC.replace("sha-256", "SHA-256"), "md5=:x:"]
)
def test_a_digest_that_fits_or_is_not_given_is_taken(tmp_path: Path, claimed: str | None) -> None:
    incoming(tmp_path).verify(claimed)


@pytest.mark.parametrize("claimed", [OTHER, f"{ABC}, {OTHER}", "sha-256=:x:", "sha-256="])
def test_a_digest_that_does_not_fit_is_worth_another_try(tmp_path: Path, claimed: str) -> None:
    with pytest.raises(Unavailable, match="do not have the digest"):
        incoming(tmp_path).verify(claimed)


def test_a_peer_cannot_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transit, "MAX_BYTES", 4)
    taken = incoming(tmp_path)
    with pytest.raises(ProtocolViolation, match="more than 4 bytes"):
        taken.write(b"de")
