"""With a passphrase, rows of people lie on the disk as nothing that says anything."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlmodel import select

from dataspace import secret_files
from dataspace.computing.spools import result_name
from dataspace.errors import InputRejected
from dataspace.home import Home, create_home
from dataspace.node import Node
from dataspace.protocol.rows_in import RowsIn, Sending
from dataspace.sealed_rows import RowSealing, is_sealed_file, pieces
from dataspace.sealed_stream import CHUNK_BYTES
from dataspace.sealing_homes import seal_home
from dataspace.store.tables import ComputationRow, TransferRow
from tests.nodes.command_line import dataspace

OLD, NEW = "the passphrase of the home", "the one that comes after"
ORDER = "018f0000-0000-7000-8000-000000000001"
PERSON = "440301199001011234"
VALUES = {"name": "Firm", "kind": "consumer", "url": "http://127.0.0.1:8905", "port": 8905}


@pytest.fixture(autouse=True)
def quick_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_files, "SCRYPT_N", 2**4)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("DATASPACE_PASSPHRASE", OLD)
    return create_home(tmp_path / "firm", VALUES)


@pytest.fixture
def node(home: Home) -> Iterator[Node]:
    made = Node(home)
    yield made
    made.store.close()


def computation() -> ComputationRow:
    return ComputationRow(
        id=ORDER,
        kind="psi/1",
        role="consumer",
        consumer="did:web:a",
        purpose="p",
        order_jws="",
        order_h="",
        status="COMPLETED",
        value={"identifiers": [PERSON]},
        created_at=1.0,
    )


def transfer() -> TransferRow:
    return TransferRow(
        pid="urn:uuid:018f0000-0000-7000-8000-000000000002",
        role="CONSUMER",
        peer="did:web:b",
        callback="http://127.0.0.1:1/dsp",
        agreement="urn:uuid:a",
        format="HttpData-PULL",
        state="STARTED",
        computation="",
        order_jws="",
        order_h="",
        data_address={"endpoint": "http://127.0.0.1:1", "token": "a-bearer-token"},
        created_at=1.0,
        updated_at=1.0,
    )


def live_a_little(node: Node) -> Path:
    """A result, rows that came, an address with a token; returns where the rows are."""
    with node.store.transaction() as tx:
        tx.add(computation())
        tx.add(transfer())
    spool = node.running.spools.open(ORDER)
    spool.put("long", json.dumps(PERSON).encode() + b"\n")
    node.running.spools.keep_result(ORDER, "long")
    node.running.spools.discard(ORDER)
    rows = RowsIn(node)
    with rows.receiving(transfer(), Sending(None)) as incoming:
        incoming.write(f"resident_id\n{PERSON}\n".encode())
    return rows.path(transfer(), None)


def on_disk(home: Home, text: str) -> list[str]:
    """The files of the home in which `text` can be read."""
    return sorted(
        path.name
        for path in home.path.rglob("*")
        if path.is_file() and text.encode() in path.read_bytes()
    )


def test_nothing_of_rows_results_and_tokens_can_be_read_on_the_disk(node: Node) -> None:
    path = live_a_little(node)
    assert on_disk(node.home, PERSON) == []
    assert on_disk(node.home, "a-bearer-token") == []
    assert is_sealed_file(path)
    with node.store.transaction() as tx:
        assert tx.exec(select(ComputationRow)).one().value == {"identifiers": [PERSON]}
        address = tx.exec(select(TransferRow)).one().data_address
        assert address is not None
        assert address["token"] == "a-bearer-token"
    with node.rows.opened(node.running.spools.result(ORDER), result_name(ORDER)) as reading:
        assert json.loads(b"".join(pieces(reading))) == PERSON


def test_without_a_passphrase_they_lie_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATASPACE_PASSPHRASE", raising=False)
    node = Node(create_home(tmp_path / "open", VALUES))
    path = live_a_little(node)
    node.store.close()
    assert path.read_text() == f"resident_id\n{PERSON}\n"
    assert f"{ORDER}.jsonl" in on_disk(node.home, PERSON)


def test_the_owner_opens_a_file_by_a_command(node: Node, tmp_path: Path) -> None:
    path = live_a_little(node)
    where, out = ("--home", node.home.path), tmp_path / "rows.csv"
    shown = dataspace("open", path, *where)
    assert shown.stdout == f"resident_id\n{PERSON}\n"
    assert dataspace("open", path, "--out", out, *where).returncode == 0
    assert out.read_text() == f"resident_id\n{PERSON}\n"
    assert out.stat().st_mode & 0o777 == 0o600
    again = dataspace("open", path, "--out", out, *where)
    assert again.returncode != 0


def test_files_that_were_exchanged_or_altered_do_not_open(node: Node) -> None:
    path = live_a_little(node)
    result = node.running.spools.result(ORDER)
    rows, long = path.read_bytes(), result.read_bytes()
    result.write_bytes(rows)
    exchanged = dataspace("open", result, "--home", node.home.path)
    assert exchanged.returncode == 1
    assert PERSON not in exchanged.stdout + exchanged.stderr
    # Its name is in it, and cannot be changed either.
    result.write_bytes(rows.replace(b"received/", b"results//"))
    assert dataspace("open", result, "--home", node.home.path).returncode == 1
    result.write_bytes(long[:-1] + bytes([long[-1] ^ 1]))
    with pytest.raises(InputRejected), node.rows.opened(result) as reading:
        list(pieces(reading))


def test_a_value_opens_in_its_own_column_with_its_own_key_only() -> None:
    sealing = RowSealing(b"\x01" * 32, seals=True)
    sealed = sealing.seal_value({"a": [1]}, "computation.value")
    assert sealing.open_value(sealed, "computation.value") == {"a": [1]}
    assert sealing.open_value({"a": [1]}, "computation.value") == {"a": [1]}
    for other, column in (
        (sealing, "transfer.data_address"),
        (RowSealing(b"\x02" * 32, seals=True), "computation.value"),
    ):
        with pytest.raises(InputRejected):
            other.open_value(sealed, column)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES * 2 + 5])
def test_a_file_opens_as_it_was(size: int, tmp_path: Path) -> None:
    path, content = tmp_path / "f", os.urandom(size)
    path.write_bytes(content)
    sealing = RowSealing(b"\x01" * 32, seals=True)
    sealing.seal_file(path, "f")
    assert size < CHUNK_BYTES or content[:64] not in path.read_bytes()
    with sealing.opened(path, "f") as reading:
        assert b"".join(pieces(reading)) == content


def test_a_home_of_before_is_sealed_whole_and_then_gets_another_passphrase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATASPACE_PASSPHRASE", raising=False)
    home = create_home(tmp_path / "firm", VALUES)
    node = Node(home)
    path = live_a_little(node)
    node.store.close()
    api_key = home.api_key()
    (home.path / "node.sqlite.before-0008").write_text(PERSON)
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text(OLD)
    new.write_text(NEW)
    where = ("--home", home.path, "--json")
    sealed = dataspace("seal", "--passphrase-file", old, *where)
    assert sealed.returncode == 0, sealed.stderr
    assert json.loads(sealed.stdout) == {"keys": 5, "files": 2, "values": 2}
    for secret in (PERSON, "a-bearer-token", api_key, "PRIVATE KEY"):
        assert on_disk(home, secret) == [], secret
    # As a kill left it: one key under the new passphrase, the others not yet.
    secret_files.reseal_secret(home.path / "keys" / "log.pem", OLD, NEW)
    wrong = dataspace("seal", "--passphrase-file", new, *where)
    assert wrong.returncode == 1
    changed = dataspace("seal", "--passphrase-file", new, "--old-passphrase-file", old, *where)
    assert changed.returncode == 0, changed.stderr
    monkeypatch.setenv("DATASPACE_PASSPHRASE", OLD)
    with pytest.raises(InputRejected, match="passphrase"):
        Node(Home(home.path))
    monkeypatch.setenv("DATASPACE_PASSPHRASE", NEW)
    again = Node(Home(home.path))
    with again.store.transaction() as tx:
        assert tx.exec(select(ComputationRow)).one().value == {"identifiers": [PERSON]}
    again.store.close()
    assert dataspace("open", path, "--home", home.path).stdout == f"resident_id\n{PERSON}\n"


def test_a_home_without_a_root_key_is_not_sealed_by_half(home: Home) -> None:
    (home.path / "keys" / "root.key").unlink()
    before = (home.path / "keys" / "log.pem").read_bytes()
    with pytest.raises(InputRejected, match="root key"):
        seal_home(home, OLD, NEW)
    assert (home.path / "keys" / "log.pem").read_bytes() == before


def test_a_value_is_sealed_in_the_database_file_itself(node: Node) -> None:
    live_a_little(node)
    node.store.close()
    with closing(sqlite3.connect(node.home.path / "node.sqlite")) as database:
        (text,) = database.execute("SELECT value FROM computation").fetchone()
    assert list(json.loads(text)) == ["sealed/1"]
