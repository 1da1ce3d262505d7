"""Verifying a backup without its node, and restoring it.

Everything in the file is checked in a first reading, before the first byte is written; the second
one writes into a directory beside the home, which gets the home's name once all is on the disk.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

from dataspace.backups.archive import Opened, Taker, read_archive
from dataspace.backups.databases import (
    is_postgresql,
    log_state,
    reading,
    restore_postgresql,
    schema_revision,
)
from dataspace.backups.making import DUMP, NODE_DATABASE, sync_directory
from dataspace.backups.manifest import Manifest
from dataspace.errors import InputRejected, Unavailable
from dataspace.home import Home
from dataspace.rewind import Standing, stand_on_chain
from dataspace.settings import SETTINGS_FILE
from dataspace.store.upgrading import newest_revision

_DATABASE_SETTING = re.compile(r"(?m)^\s*database\s*=.*\n?")


@dataclass(frozen=True)
class Restored:
    """A home that was restored, and how its log stands to what the chain has of it; None where the
    chain could not be asked."""

    home: Home
    manifest: Manifest
    standing: Standing | None


def verify_backup(path: Path, passphrase: str | None) -> Opened:
    """Read a backup from end to end and check all of it. Raises InputRejected."""
    opened = read_archive(path, passphrase, lambda _: _ignore)
    names = {file.path for file in opened.manifest.files}
    needed = {"sqlite": NODE_DATABASE, "postgresql": DUMP}.get(opened.manifest.database)
    for name in (SETTINGS_FILE, "keys/signing.pem", *([needed] if needed else [])):
        if name not in names:
            raise InputRejected(
                f"the backup lacks {name}", remedy="take another backup: this one cannot be used"
            )
    return opened


def restore_backup(
    path: Path, target: Path, passphrase: str | None, *, database: str | None = None
) -> Restored:
    """Make the home `target` of a backup; `database` is where a PostgreSQL dump goes.

    The home must not exist or be empty. Raises InputRejected and leaves nothing behind.
    """
    target = target.expanduser().resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputRejected(f"{target} is not empty", remedy="restore into a new directory")
    manifest = verify_backup(path, passphrase).manifest
    _verify_version(manifest)
    _verify_database(manifest, database)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _beside(target) as work:
        again = read_archive(path, passphrase, _Writing(work).taker_of)
        if again.manifest != manifest:
            raise InputRejected("the backup changed while it was read", remedy="copy it first")
        _place_database(manifest, work, database)
        _verify_restored(Home(work), again, database)
        # Until here a failure leaves nothing; from here on the home is whole.
        if target.exists():
            target.rmdir()
        work.rename(target)
        sync_directory(target.parent)
    home = Home(target)
    return Restored(home, manifest, _standing(home))


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".restoring", dir=target.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Writing:
    """Writes the files of a backup below a directory that was empty."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def taker_of(self, name: str) -> Taker:
        path = self._root / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Nothing is there yet, so nothing is followed or overwritten.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        file = os.fdopen(descriptor, "wb")

        def take(piece: bytes | None) -> None:
            if piece is not None:
                file.write(piece)
                return
            file.flush()
            os.fsync(file.fileno())
            file.close()

        return take


def _verify_version(manifest: Manifest) -> None:
    newest = newest_revision()
    if manifest.schema_revision is not None and manifest.schema_revision > newest:
        raise InputRejected(
            f"the backup is of a later version (schema {manifest.schema_revision}, this one has "
            f"{newest})",
            remedy=f"restore it with version {manifest.product} or a newer one",
        )


def _verify_database(manifest: Manifest, database: str | None) -> None:
    if manifest.database == "postgresql" and database is None:
        raise InputRejected(
            "the backup holds a PostgreSQL database",
            remedy="make an empty one and give --database postgresql://…",
        )
    if database is None:
        return
    if manifest.database != "postgresql" or not is_postgresql(database):
        raise InputRejected(
            "a database is given for a backup of PostgreSQL only, and must be PostgreSQL",
            remedy="leave --database out",
        )


def _place_database(manifest: Manifest, work: Path, database: str | None) -> None:
    """Put the database in place, and have node.toml name it."""
    settings = work / SETTINGS_FILE
    text = _DATABASE_SETTING.sub("", settings.read_text(encoding="utf-8"))
    if database is not None:
        restore_postgresql(database, work / DUMP)
        (work / DUMP).unlink()
        escaped = database.replace("\\", "\\\\").replace('"', '\\"')
        # Before any table: a bare name belongs to the one above it.
        text = f'database = "{escaped}"\n{text}'
    tomllib.loads(text)
    settings.write_text(text, encoding="utf-8")


def _verify_restored(home: Home, opened: Opened, database: str | None) -> None:
    """The restored home must be the one the manifest tells of, by its key and by its log."""
    manifest = opened.manifest
    if home.signing_key().thumbprint != opened.key:
        raise InputRejected(
            "the manifest was not signed with the key that is in the backup",
            remedy="take another copy of the backup: this one was put together by somebody",
        )
    if manifest.database == "none":
        return
    url = database or f"sqlite:///{home.path / NODE_DATABASE}"
    with reading(url) as connection:
        state, revision = log_state(connection, home), schema_revision(connection)
    if revision != manifest.schema_revision or state != manifest.log:
        raise InputRejected(
            "the database in the backup is not the one its manifest tells of",
            remedy="take another copy of the backup",
        )


def _standing(home: Home) -> Standing | None:
    """How the restored log stands to the chain; None for a home without a log, or out of reach."""
    if home.settings.url is None:
        return None
    try:
        with reading(home.database_url) as connection:
            return stand_on_chain(connection, home)
    except Unavailable:
        return None


def _ignore(_: bytes | None) -> None:
    """Nothing is kept in the first reading."""


def told_database(url: str) -> str:
    """A database's address without its password."""
    return make_url(url).render_as_string(hide_password=True)
