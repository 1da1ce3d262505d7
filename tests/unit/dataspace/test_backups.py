"""A backup is whole or refused, made while the node writes, and becomes the same node again."""

import json
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest

from dataspace.backups import archive as archive_module
from dataspace.backups.archive import MAGIC, ArchiveWriter, read_archive
from dataspace.backups.databases import log_state, reading
from dataspace.backups.making import make_backup
from dataspace.backups.manifest import (
    BackedFile,
    LogState,
    Manifest,
    SignedManifest,
    sign_manifest,
    verify_path,
)
from dataspace.backups.restoring import restore_backup, verify_backup
from dataspace.errors import InputRejected
from dataspace.home import Home, create_home
from dataspace.identity.keys import SigningAlgorithm, SigningKey
from dataspace.node import Node
from dataspace.sealed_stream import CHUNK_BYTES, TAG_BYTES, OpeningReader, SealingWriter
from dataspace.store.tables import DatasetRow
from ledger.entry import EntryType

PASSPHRASE = "a long passphrase"
VALUES = {"name": "Firm", "kind": "enterprise", "url": "http://127.0.0.1:8901", "port": 8901}
KEY, SALTED = b"\x05" * 32, b"context"


@pytest.fixture(autouse=True)
def quick_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "SCRYPT_N", 2**8)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = create_home(tmp_path / "firm", VALUES)
    node = Node(made)
    with node.store.transaction() as tx:
        for _ in range(3):
            node.evidence.record(tx, EntryType.PUBLISHED)
    node.evidence.checkpoint()
    node.store.close()
    (made.path / "received").mkdir(exist_ok=True)
    (made.path / "received" / "rows.csv").write_text("resident_id\n1\n")
    (made.path / "received" / ".more.partial").write_text("half")
    (made.path / "cache" / "x").mkdir(parents=True)
    return made


def state_of(home: Home) -> LogState:
    with reading(home.database_url) as connection:
        return log_state(connection, home)


def content(path: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(path)): one.read_bytes()
        for one in sorted(path.rglob("*"))
        if one.is_file() and not one.name.startswith((".", "node.sqlite", "last-backup"))
    }


def test_a_backup_restored_elsewhere_is_the_same_node(home: Home, tmp_path: Path) -> None:
    made = make_backup(home, tmp_path, PASSPHRASE)
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert made.manifest.log == state_of(home)
    assert made.manifest.log is not None
    assert made.manifest.log.size == 3
    assert {"path": "cache", "why": "masked sets of computations; made again at the next one"} in [
        one.model_dump() for one in made.manifest.left_out
    ]
    opened = verify_backup(made.path, PASSPHRASE)
    assert opened.manifest == made.manifest
    assert opened.key == home.signing_key().thumbprint
    restored = restore_backup(made.path, tmp_path / "again", PASSPHRASE)
    assert restored.standing is None
    assert content(restored.home.path) == content(home.path)
    assert state_of(restored.home) == made.manifest.log
    modes = {one.stat().st_mode & 0o077 for one in restored.home.path.rglob("*")}
    assert modes == {0}
    node = Node(restored.home)
    assert (node.did, node.evidence.size()) == (made.manifest.did, 3)
    node.store.close()


def test_nothing_of_the_node_is_readable_in_a_backup(home: Home, tmp_path: Path) -> None:
    made = make_backup(home, tmp_path, PASSPHRASE)
    written = made.path.read_bytes()
    for secret in (home.account_key(), home.api_key(), "resident_id", "signing.pem", "Firm"):
        assert secret.encode() not in written
    plain = make_backup(home, tmp_path / "plain", None)
    assert b"signing.pem" in plain.path.read_bytes()


def test_an_altered_cut_or_extended_backup_is_refused_before_anything_is_written(
    home: Home, tmp_path: Path
) -> None:
    whole = make_backup(home, tmp_path / "b", PASSPHRASE).path.read_bytes()
    step = len(whole) // 9
    broken = [whole[:-1], whole + b"\0", whole[: -CHUNK_BYTES - TAG_BYTES], b"", MAGIC]
    broken += [
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), step)
    ]
    for number, altered in enumerate(broken):
        path = tmp_path / f"broken-{number}"
        path.write_bytes(altered)
        with pytest.raises(InputRejected):
            restore_backup(path, tmp_path / "made", PASSPHRASE)
        assert not (tmp_path / "made").exists()
    assert not list(tmp_path.glob(".made*"))


@pytest.mark.parametrize("passphrase", [None, "another passphrase"])
def test_without_its_passphrase_a_backup_does_not_open(
    passphrase: str | None, home: Home, tmp_path: Path
) -> None:
    made = make_backup(home, tmp_path, PASSPHRASE)
    with pytest.raises(InputRejected, match="passphrase"):
        verify_backup(made.path, passphrase)


def test_a_home_that_is_not_empty_is_not_restored_into(home: Home, tmp_path: Path) -> None:
    made = make_backup(home, tmp_path, PASSPHRASE)
    with pytest.raises(InputRejected, match="not empty"):
        restore_backup(made.path, home.path, PASSPHRASE)


def test_a_backup_of_a_later_version_is_refused(home: Home, tmp_path: Path) -> None:
    with closing(sqlite3.connect(home.path / "node.sqlite")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    made = make_backup(home, tmp_path, PASSPHRASE)
    with pytest.raises(InputRejected, match="later version"):
        restore_backup(made.path, tmp_path / "again", PASSPHRASE)


def test_a_damaged_database_is_not_backed_up(home: Home, tmp_path: Path) -> None:
    path = home.path / "node.sqlite"
    written = bytearray(path.read_bytes())
    for at in range(4096 * 4, len(written), 4096 * 3):
        written[at : at + 64] = b"\xff" * 64
    path.write_bytes(written)
    with pytest.raises(InputRejected, match=r"copied|damaged"):
        make_backup(home, tmp_path / "b", PASSPHRASE)
    assert not [one for one in (tmp_path / "b").glob("*") if one.is_file()]


def test_a_backup_while_entries_are_written_holds_one_state(home: Home, tmp_path: Path) -> None:
    node, stop = Node(home), threading.Event()

    def write() -> None:
        while not stop.is_set():
            with node.store.transaction() as tx:
                node.evidence.record(tx, EntryType.PUBLISHED)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            made = make_backup(home, tmp_path / f"b{number}", None)
            # Its size, its root and its entries are of one moment, or this raises.
            restored = restore_backup(made.path, tmp_path / f"r{number}", None)
            with closing(sqlite3.connect(restored.home.path / "node.sqlite")) as database:
                entries = database.execute("SELECT count(*) FROM entry").fetchone()[0]
            assert made.manifest.log is not None
            assert entries == made.manifest.log.size >= 3
    finally:
        stop.set()
        writer.join()
        node.store.close()


def test_what_was_killed_halfway_leaves_no_backup_under_its_name(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        make_backup(home, tmp_path / "b" / "x.backup", PASSPHRASE)
    assert list((tmp_path / "b").iterdir()) == []
    assert not (home.path / ".backup-work").exists()


def test_vaults_and_receipts_outside_of_the_home_are_named(home: Home, tmp_path: Path) -> None:
    node = Node(home)
    sources = [
        "vault:/elsewhere/vault",
        f"personal+file:/d.csv?consents={tmp_path}/c.jsonl&subject=a",
    ]
    with node.store.transaction() as tx:
        for source in sources:
            tx.add(
                DatasetRow(
                    id=source[:5],
                    title="t",
                    source=source,
                    columns=[],
                    grade="general",
                    offer={},
                    content_version="v",
                    created_at=1.0,
                )
            )
    node.store.close()
    told = {one.path for one in make_backup(home, tmp_path, None).manifest.left_out}
    assert {"/elsewhere/vault", f"{tmp_path}/c.jsonl"} <= told


# ---- archives that nobody's node made -----------------------------------------------------------

Build = Callable[[ArchiveWriter], None]


def forged(path: Path, build: Build, *, files: list[BackedFile] | None = None) -> Path:
    """A backup put together by hand and signed by its maker."""
    with path.open("wb") as file:
        writer = ArchiveWriter(file, None)
        build(writer)
        manifest = Manifest(
            product="1",
            made_at="now",
            name="n",
            kind="enterprise",
            did="did:web:a",
            url=None,
            founder=False,
            database="none",
            schema_revision=None,
            log=None,
            files=tuple(files if files is not None else writer.files),
            left_out=(),
        )
        writer.finish(sign_manifest(manifest, SigningKey.generate(SigningAlgorithm.ED25519)))
    return path


def raw_file(name: str, size: int, body: bytes) -> Build:
    def build(writer: ArchiveWriter) -> None:
        header = json.dumps({"path": name, "size": size}).encode()
        writer._file.write(b"F" + len(header).to_bytes(4, "big") + header + body)

    return build


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/x",
        "a/../../x",
        "a//b",
        "",
        ".",
        "a/./b",
        "a\\b",
        "a\0b",
        "x" * 300,
        "a/" * 20 + "b",
    ],
)
def test_a_path_out_of_the_home_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputRejected):
        verify_path(name)
    path = forged(tmp_path / "b", raw_file(name, 1, b"x"))
    with pytest.raises(InputRejected):
        restore_backup(path, tmp_path / "home", None)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["b"]


def twice(writer: ArchiveWriter) -> None:
    for _ in range(2):
        writer.add("keys/a", BytesIO(b"x"), 1)


def file_as_folder(writer: ArchiveWriter) -> None:
    writer.add("a", BytesIO(b"x"), 1)
    writer.add("a/b", BytesIO(b"x"), 1)


def folder_as_file(writer: ArchiveWriter) -> None:
    writer.add("a/b", BytesIO(b"x"), 1)
    writer.add("a", BytesIO(b"x"), 1)


@pytest.mark.parametrize(
    "build",
    [
        twice,
        file_as_folder,
        folder_as_file,
        raw_file("a", 1 << 41, b"short"),
        raw_file("a", -1, b""),
        lambda writer: writer._file.write(b"F\xff\xff\xff\xff"),
        lambda writer: writer._file.write(b"L\0\0\0\1x"),
    ],
)
def test_what_claims_more_than_it_is_or_one_name_twice_is_refused(
    build: Build, tmp_path: Path
) -> None:
    with pytest.raises(InputRejected):
        read_archive(forged(tmp_path / "b", build), None, lambda _: lambda _: None)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_FILES", 5)

    def many(writer: ArchiveWriter) -> None:
        for number in range(6):
            writer.add(f"f{number}", BytesIO(b""), 0)

    with pytest.raises(InputRejected, match="more than 5 files"):
        read_archive(forged(tmp_path / "b", many), None, lambda _: lambda _: None)


def test_files_other_than_the_signed_ones_are_refused(tmp_path: Path) -> None:
    def one(writer: ArchiveWriter) -> None:
        writer.add("a", BytesIO(b"x"), 1)

    with pytest.raises(InputRejected, match="not those of its manifest"):
        read_archive(forged(tmp_path / "b", one, files=[]), None, lambda _: lambda _: None)


def test_a_manifest_signed_by_another_key_than_the_nodes_is_refused(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SigningKey.generate(SigningAlgorithm.ES256)
    with monkeypatch.context() as patch:
        patch.setattr(Home, "signing_key", lambda _: other)
        made = make_backup(home, tmp_path, None)
    verify_backup(made.path, None)
    with pytest.raises(InputRejected, match="not signed with the key"):
        restore_backup(made.path, tmp_path / "again", None)
    assert not (tmp_path / "again").exists()


def test_a_manifest_that_was_changed_is_refused() -> None:
    manifest = Manifest(
        product="1",
        made_at="now",
        name="n",
        kind="enterprise",
        did="did:web:a",
        url=None,
        founder=False,
        database="none",
        schema_revision=None,
        log=None,
        files=(),
        left_out=(),
    )
    signed = sign_manifest(manifest, SigningKey.generate(SigningAlgorithm.ES256))
    assert signed.verified() == manifest
    changed = SignedManifest(
        text=signed.text.replace("did:web:a", "did:web:b"),
        key=signed.key,
        signature=signed.signature,
    )
    with pytest.raises(InputRejected):
        changed.verified()


# ---- the seal -----------------------------------------------------------------------------------


def sealed(plain: bytes) -> bytes:
    file = BytesIO()
    writer = SealingWriter(file, KEY, SALTED)
    for at in range(0, len(plain), 50_000):
        writer.write(plain[at : at + 50_000])
    writer.close()
    return file.getvalue()


def opened(content: bytes) -> bytes:
    reader, found = OpeningReader(BytesIO(content), KEY, SALTED, told="it"), bytearray()
    while piece := reader.read(70_001):
        found += piece
    return bytes(found)


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]
)
def test_what_was_sealed_opens_as_it_was(size: int) -> None:
    plain = bytes(range(256)) * (size // 256 + 1)
    assert opened(sealed(plain[:size])) == plain[:size]


def test_chunks_cannot_be_left_out_exchanged_repeated_or_cut() -> None:
    whole, chunk = sealed(b"x" * (3 * CHUNK_BYTES)), CHUNK_BYTES + TAG_BYTES
    first, second, third = whole[:chunk], whole[chunk : 2 * chunk], whole[2 * chunk :]
    for altered in (
        first + second,
        second + third,
        second + first + third,
        first + first + third,
        first + second + third[:-1],
        whole + third,
        b"",
    ):
        with pytest.raises(InputRejected):
            opened(altered)
