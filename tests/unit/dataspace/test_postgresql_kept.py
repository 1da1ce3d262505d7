"""Backups, upgrades and examinations of a node on PostgreSQL."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel, select

from dataspace.backups import archive as archive_module
from dataspace.backups import databases
from dataspace.backups.databases import log_state, reading
from dataspace.backups.making import make_backup
from dataspace.backups.restoring import restore_backup, verify_backup
from dataspace.doctor.examination import examine
from dataspace.doctor.finding import Level
from dataspace.errors import InputRejected, Unavailable
from dataspace.home import Home, create_home
from dataspace.node import Node
from dataspace.store.engine import Store
from dataspace.store.tables import ZoneListRow
from dataspace.store.upgrading import revisions
from ledger.entry import EntryType
from tests.servers_databases import Database, connect_postgresql, postgresql
from tests.unit.dataspace.schema_examples import differences, fill, upgrade

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgresql")]
VALUES = {"name": "Firm", "kind": "enterprise", "url": "http://127.0.0.1:8907", "port": 8907}
NewDatabase = Callable[[], str]


@pytest.fixture(scope="module")
def server() -> Iterator[Database]:
    with postgresql() as running:
        yield running


@pytest.fixture
def new_database(server: Database) -> NewDatabase:
    """Makes an empty database and gives its address."""

    def make() -> str:
        name = f"d{secrets.token_hex(4)}"
        with connect_postgresql(server, "postgres", "postgres") as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER owner TEMPLATE template0")
        password = server.password("owner")
        return f"postgresql+psycopg://owner:{password}@127.0.0.1:{server.port}/{name}"

    return make


@pytest.fixture
def home(new_database: NewDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(archive_module, "SCRYPT_N", 2**8)
    made = create_home(tmp_path / "firm", {**VALUES, "database": new_database()})
    node = Node(made)
    with node.store.transaction() as tx:
        for _ in range(5):
            node.evidence.record(tx, EntryType.PUBLISHED)
    node.evidence.checkpoint()
    node.store.close()
    return made


def test_rows_of_every_revision_are_upgraded_and_read(new_database: NewDatabase) -> None:
    url = new_database()
    engine = sa.create_engine(url)
    for revision in revisions():
        upgrade(engine, revision)
        fill(engine, revision)
    assert differences(engine) == []
    engine.dispose()
    store = Store(url)
    store.migrate()
    with store.transaction() as tx:
        for mapper in SQLModel._sa_registry.mappers:
            found = len(tx.exec(select(mapper.class_)).all())
            logged = mapper.local_table.name in ("log_state", "log_node", "entry", "checkpoint")
            assert found or logged or mapper.class_ is ZoneListRow, mapper.class_
    store.close()


def test_a_dump_restored_into_an_empty_database_is_the_same_node(
    home: Home, new_database: NewDatabase, tmp_path: Path
) -> None:
    node = Node(home)
    made = make_backup(home, tmp_path, "passphrase")
    with node.store.transaction() as tx:
        node.evidence.record(tx, EntryType.PUBLISHED)
    node.store.close()
    assert made.manifest.database == "postgresql"
    assert made.manifest.log is not None
    assert made.manifest.log.size == 5
    verify_backup(made.path, "passphrase")
    password = sa.make_url(home.database_url).password
    assert password is not None
    assert password.encode() not in made.path.read_bytes()
    with pytest.raises(InputRejected, match="PostgreSQL"):
        restore_backup(made.path, tmp_path / "again", "passphrase")
    with pytest.raises(InputRejected, match="tables already"):
        restore_backup(made.path, tmp_path / "again", "passphrase", database=home.database_url)
    assert not (tmp_path / "again").exists()
    url = new_database()
    restored = restore_backup(made.path, tmp_path / "again", "passphrase", database=url)
    assert restored.home.database_url == url
    with reading(url) as connection:
        assert log_state(connection, restored.home) == made.manifest.log
    again = Node(restored.home)
    assert (again.did, again.evidence.size()) == (node.did, 5)
    again.store.close()


def test_programs_that_are_absent_or_older_are_named(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(databases, "_version", lambda _: 9)
        with pytest.raises(InputRejected, match="pg_dump is of version 9"):
            make_backup(home, tmp_path, None)
        patch.setattr(databases, "glob", lambda _: [])
        patch.setattr(databases.shutil, "which", lambda _: None)
        with pytest.raises(InputRejected, match="pg_dump is not installed"):
            make_backup(home, tmp_path, None)
    assert not list(tmp_path.glob("*.dataspace-backup"))


def test_a_server_that_is_away_is_said_so(home: Home, tmp_path: Path) -> None:
    gone = home.database_url.rpartition("/")[0] + "/nosuch"
    away = create_home(tmp_path / "away", {**VALUES, "database": gone})
    with pytest.raises(Unavailable, match="cannot be opened"):
        make_backup(away, tmp_path, None)


def test_the_doctor_looks_at_every_row(home: Home) -> None:
    found = {one.check: one for one in examine(home.path)}
    assert found["database"].level is Level.OK
    assert found["evidence"].sentence.startswith("5 entries")
    with sa.create_engine(home.database_url).begin() as connection:
        connection.execute(sa.text("DELETE FROM entry WHERE position = 1"))
    found = {one.check: one for one in examine(home.path)}
    assert found["evidence"].sentence == "entry 1 is missing from the log"
