"""Every database that a released version left is upgraded, whole, and read by this one."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import Config
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlmodel import SQLModel, select

from dataspace.errors import InputRejected
from dataspace.store import engine as store_engine
from dataspace.store.engine import Store
from dataspace.store.log_store import SqlNodeStore
from dataspace.store.tables import (
    AgreementRow,
    CheckpointRow,
    DatasetRow,
    EntryRow,
    ZoneListRow,
)
from dataspace.store.upgrading import newest_revision, revisions
from ledger.checkpoint import NoteSigner, NoteVerifier, verify_checkpoint
from ledger.entry import open_entry
from ledger.log import Log
from tests.unit.dataspace.schema_examples import (
    ORIGIN,
    differences,
    fill,
    fill_log,
    kept,
    table_rows,
    upgrade,
)

SIGNER = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"\x07" * 32))


Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Growing:
    """A database that lived through every revision, and what was written at each."""

    path: Path
    written: dict[str, Rows]
    at: dict[str, Path]


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Growing:
    """Copies are kept of the two revisions that tests go back to."""
    directory = tmp_path_factory.mktemp("growing")
    path, written, at = directory / "node.sqlite", {}, {}
    database = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    for revision in revisions():
        upgrade(database, revision)
        written[revision] = fill(database, revision)
        if revision == "0001":
            fill_log(database, SIGNER)
        if revision in ("0003", "0005"):
            at[revision] = Path(shutil.copyfile(path, directory / f"{revision}.sqlite"))
    return Growing(path, written, at)


def test_the_newest_revision_is_what_the_tables_say(growing: Growing) -> None:
    assert differences(sa.create_engine(f"sqlite:///{growing.path}")) == []


def test_rows_that_any_revision_wrote_say_the_same_after_all_later_ones(growing: Growing) -> None:
    tables = {table for rows in growing.written.values() for table in rows}
    now = {table: table_rows(growing.path, table) for table in tables}
    lost = [
        (revision, table)
        for revision, rows in growing.written.items()
        for table, row in rows.items()
        if not kept(row, now[table])
    ]
    assert lost == []


def test_this_version_reads_them_all(growing: Growing, tmp_path: Path) -> None:
    path = Path(shutil.copyfile(growing.path, tmp_path / "node.sqlite"))
    store = Store(f"sqlite:///{path}")
    store.migrate()
    with store.transaction() as tx:
        for mapper in SQLModel._sa_registry.mappers:
            assert tx.exec(select(mapper.class_)).all() or mapper.class_ is ZoneListRow
        agreements = tx.exec(select(AgreementRow)).all()
        assert [row.id for row in agreements] == [
            f"urn:uuid:agreement-{revision}" for revision in revisions()
        ]
        assert {(row.use_count, row.document["@type"]) for row in agreements} == {(3, "Agreement")}
        assert tx.exec(select(DatasetRow)).all()[0].columns[0]["name"] == "resident_id"
        note, log = tx.exec(select(CheckpointRow)).one().note, Log(SqlNodeStore(tx))
        checkpoint = verify_checkpoint(note, NoteVerifier.parse(SIGNER.vkey), ORIGIN)
        assert (checkpoint.size, checkpoint.root) == (3, log.root())
        for row in tx.exec(select(EntryRow)).all():
            assert row.body is not None
            assert row.salt is not None
            assert open_entry(row.body, row.salt, row.commitment).log == ORIGIN
    store.close()


def test_zones_of_earlier_credentials_have_become_lists(growing: Growing) -> None:
    said = {(row["zone"], row["did"]) for row in table_rows(growing.path, "zone_member")}
    for revision in ("0002", "0003", "0004", "0005", "0006"):
        member = f"did:web:127.0.0.1%3A8002-{revision}"
        assert {("qianhai", member), ("nanshan", member)} <= said
    named = {row["name"] for row in table_rows(growing.path, "zone")}
    assert {"qianhai", "nanshan", "guangming"} <= named


def test_an_upgrade_keeps_the_database_as_it_was_and_only_the_last_one(
    growing: Growing, tmp_path: Path
) -> None:
    path = Path(shutil.copyfile(growing.at["0003"], tmp_path / "node.sqlite"))
    before = table_rows(path, "participant")
    (tmp_path / "node.sqlite.before-0003").write_bytes(b"of an earlier upgrade")
    store = Store(f"sqlite:///{path}")
    store.migrate()
    there = tmp_path / f"node.sqlite.before-{newest_revision()}"
    assert [one.name for one in tmp_path.glob("*.before-*")] == [there.name]
    assert table_rows(there, "participant") == before
    assert table_rows(there, "alembic_version") == [{"version_num": "0003"}]
    assert there.stat().st_mode & 0o777 == 0o600
    there.unlink()
    store.migrate()
    store.close()
    assert not there.exists()


def schema_of(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


FAILING = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", "{before}", None, None


def upgrade() -> None:
    op.create_table("half", sa.Column("id", sa.Integer(), primary_key=True))
    with op.batch_alter_table("agreement") as batch:
        batch.add_column(sa.Column("more", sa.String(), nullable=True))
    op.execute("DELETE FROM dataset")
    raise RuntimeError("the disk is full")


def downgrade() -> None:
    pass
"""


def failing_migrations(tmp_path: Path) -> Config:
    """This version's migrations, and one more that fails in its midst."""
    scripts = tmp_path / "migrations"
    shutil.copytree(Path(store_engine.__file__).parent / "migrations", scripts)
    failing = scripts / "versions" / "9999_fails.py"
    failing.write_text(FAILING.format(before=newest_revision()))
    config = Config()
    config.set_main_option("script_location", str(scripts))
    return config


def test_a_migration_that_fails_leaves_the_old_schema_and_its_rows(
    growing: Growing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copyfile(growing.at["0005"], tmp_path / "node.sqlite"))
    schema, datasets = schema_of(path), table_rows(path, "dataset")
    assert datasets
    store = Store(f"sqlite:///{path}")
    with monkeypatch.context() as patch:
        patch.setattr(store_engine, "migrations", lambda: failing_migrations(tmp_path))
        with pytest.raises(RuntimeError, match="the disk is full"):
            store.migrate()
    assert schema_of(path) == schema
    assert table_rows(path, "dataset") == datasets
    assert table_rows(path, "alembic_version") == [{"version_num": "0005"}]
    store.migrate()
    store.close()
    assert table_rows(path, "alembic_version") == [{"version_num": newest_revision()}]


def test_a_database_of_a_later_version_is_refused(growing: Growing, tmp_path: Path) -> None:
    path = Path(shutil.copyfile(growing.path, tmp_path / "node.sqlite"))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    store = Store(f"sqlite:///{path}")
    with pytest.raises(InputRejected, match="later version"):
        store.migrate()
    store.close()
    assert not list(tmp_path.glob("*.before-*"))
