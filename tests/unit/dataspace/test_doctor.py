"""What is wrong with a home is found, named, and told with what helps."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dataspace.backups.making import make_backup
from dataspace.doctor import outside
from dataspace.doctor.examination import examine
from dataspace.doctor.finding import Finding, Level
from dataspace.home import Home, create_home
from dataspace.node import Node
from dataspace.store.tables import DatasetRow
from ledger.entry import EntryType

VALUES = {"name": "Firm", "kind": "enterprise", "url": "http://127.0.0.1:8903", "port": 8903}


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that has lived a little."""
    home = create_home(tmp_path_factory.mktemp("doctor") / "firm", VALUES)
    (home.path / "data.csv").write_text("resident_id,amount\n1,2\n")
    node = Node(home)
    with node.store.transaction() as tx:
        for _ in range(5):
            node.evidence.record(tx, EntryType.PUBLISHED)
        tx.add(
            DatasetRow(
                id="d",
                title="t",
                source=str(home.path / "data.csv"),
                columns=[{"name": "amount", "role": "value"}],
                source_schema=[["resident_id", "string"], ["amount", "string"]],
                grade="general",
                offer={},
                content_version="v",
                created_at=1.0,
            )
        )
    node.evidence.checkpoint()
    node.store.close()
    make_backup(home, home.path.parent, None)
    return home.path


@pytest.fixture
def home(well: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Nobody listens at its address, and that is asked once less for each look.
    monkeypatch.setattr(outside, "ASK_S", 0.5)
    path = Path(shutil.copytree(well, tmp_path / "firm"))
    with closing(sqlite3.connect(path / "node.sqlite")) as database, database:
        database.execute("UPDATE dataset SET source = ?", (str(path / "data.csv"),))
    return path


def worst(path: Path) -> dict[str, Finding]:
    """What is not well, by what was looked at."""
    return {one.check: one for one in examine(path) if one.level is not Level.OK}


# Such a home has not joined, and does not run.
EXPECTED = {"membership", "identity"}


def test_a_home_that_is_well_is_told_so(home: Path) -> None:
    found = list(examine(home))
    assert {one.check for one in found if one.level is not Level.OK} == EXPECTED
    assert {one.check for one in found} >= {
        "settings",
        "keys",
        "permissions",
        "disk",
        "backup",
        "database",
        "schema",
        "evidence",
        "checkpoint",
        "anchors",
        "processes",
        "files",
        "rows",
        "sources",
        "clock",
    }


Spoil = Callable[[Path], object]


def changed(statement: str) -> Spoil:
    def spoil(path: Path) -> None:
        with closing(sqlite3.connect(path / "node.sqlite")) as database, database:
            database.execute(statement)

    return spoil


def damage(path: Path) -> None:
    database = path / "node.sqlite"
    written = bytearray(database.read_bytes())
    for at in range(4096 * 2, len(written), 4096 * 2):
        written[at : at + 32] = b"\xff" * 32
    database.write_bytes(written)


def orphan(path: Path) -> None:
    (path / "results").mkdir()
    (path / "results" / f"{'0' * 8}-0000-4000-8000-{'0' * 12}.jsonl").write_text("x")


@pytest.mark.parametrize(
    ("check", "level", "spoil"),
    [
        ("settings", Level.ERROR, lambda path: (path / "node.toml").write_text("nothing = 1\n")),
        ("keys", Level.ERROR, lambda path: (path / "keys" / "log.pem").chmod(0o644)),
        ("keys", Level.ERROR, lambda path: (path / "keys" / "signing.pem").write_text("x")),
        ("keys", Level.ERROR, lambda path: (path / "keys" / "account.key").unlink()),
        ("permissions", Level.ERROR, lambda path: path.chmod(0o755)),
        ("backup", Level.WARNING, lambda path: (path / "last-backup.json").unlink()),
        (
            "backup",
            Level.WARNING,
            lambda path: (path / "last-backup.json").write_text(
                json.dumps({"made_at": "2020-01-01T00:00:00+00:00"})
            ),
        ),
        ("database", Level.ERROR, damage),
        ("database", Level.ERROR, lambda path: (path / "node.sqlite").write_text("no database")),
        ("database", Level.WARNING, lambda path: (path / "node.sqlite").unlink()),
        ("schema", Level.WARNING, changed("UPDATE alembic_version SET version_num = '0008'")),
        ("schema", Level.ERROR, changed("UPDATE alembic_version SET version_num = '9999'")),
        ("evidence", Level.ERROR, changed("DELETE FROM entry WHERE position = 2")),
        ("evidence", Level.ERROR, changed("UPDATE entry SET body = x'00' WHERE position = 1")),
        ("evidence", Level.ERROR, changed("UPDATE log_state SET size = 4")),
        (
            "evidence",
            Level.ERROR,
            changed("UPDATE entry SET body = NULL, salt = NULL, commitment = zeroblob(32)"),
        ),
        ("evidence", Level.ERROR, changed("UPDATE log_node SET value = zeroblob(32)")),
        (
            "checkpoint",
            Level.ERROR,
            changed("UPDATE checkpoint SET note = replace(note, '5', '4')"),
        ),
        (
            "processes",
            Level.WARNING,
            changed("UPDATE process SET state = 'failed', last_error = 'x'"),
        ),
        ("files", Level.WARNING, orphan),
        ("sources", Level.ERROR, lambda path: (path / "data.csv").unlink()),
        ("sources", Level.ERROR, lambda path: (path / "data.csv").write_text("resident_id\n1\n")),
    ],
)
def test_what_is_wrong_is_found(check: str, level: Level, spoil: Spoil, home: Path) -> None:
    spoil(home)
    found = worst(home)
    assert check in found, found
    assert found[check].level is level
    assert found[check].remedy
    assert found[check].sentence


def test_an_erased_entry_is_nothing_wrong(home: Path) -> None:
    changed("UPDATE entry SET body = NULL, salt = NULL WHERE position = 3")(home)
    assert worst(home).keys() == EXPECTED
    assert any("1 of them erased" in one.sentence for one in examine(home))


def test_it_writes_nothing(home: Path) -> None:
    with closing(sqlite3.connect(home / "node.sqlite")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    list(examine(home))
    after = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert {name for name in after if not name.name.endswith(("-shm", "-wal"))} == {
        name for name in before if not name.name.endswith(("-shm", "-wal"))
    }
    assert all(after[path] == content for path, content in before.items() if path in after)


def test_no_finding_tells_a_key(home: Path) -> None:
    secrets = [Home(home).account_key(), Home(home).api_key()]
    orphan(home)
    (home / "keys" / "signing.pem").write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n")
    told = json.dumps([one.to_json() for one in examine(home)])
    assert not any(secret in told for secret in [*secrets, "c2VjcmV0"])
