"""Making a backup of a node, also while it runs.

In this order, so that what belongs together agrees after a restore: the embedded chain before the
log that is anchored in it (a chain that is behind gets the anchors again, one that is ahead would
say that the log was rewound); vaults after the certificates of erasures (a person that was erased
must not come back); files after the rows that name them. Keys may change while the database is
copied: then all begins anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from connectors.vault_store import DATABASE as VAULT_DATABASE
from dataspace import __version__
from dataspace.backups.archive import ArchiveWriter
from dataspace.backups.databases import (
    copy_sqlite,
    dump_postgresql,
    is_locked,
    is_postgresql,
    is_sqlite,
    log_state,
    reading,
    schema_revision,
    settings_in,
    sqlite_path,
)
from dataspace.backups.manifest import LeftOut, LogState, Manifest, sign_manifest
from dataspace.client import Client
from dataspace.errors import InputRejected, Unavailable
from dataspace.home import Home
from dataspace.identity.did import did_of_url
from dataspace.regulator import regulator_identity
from dataspace.settings import SETTINGS_FILE

SUFFIX = ".dataspace-backup"
LAST = "last-backup.json"
NODE_DATABASE, DUMP, CHAIN = "node.sqlite", "node.pgdump", "chain.sqlite"
WORK = ".backup-work"
ATTEMPTS = 3
# What the node makes again or what ends with the process; said in the manifest.
LEFT_OUT = {
    "spool": "what running computations keep; they end as FAILED at every participant",
    "outgoing": "rows that were being given; made again when they are asked for",
    "cache": "masked sets of computations; made again at the next one",
    "engine": "files of an engine that ran",
    "logs": "what processes printed",
}
_PARTIAL = re.compile(r"\..*\.(partial|new)|.*-(wal|shm|journal)|\.[^/]*")


@dataclass(frozen=True)
class Made:
    """A backup that lies at `path`."""

    path: Path
    size: int
    manifest: Manifest


@dataclass(frozen=True)
class _State:
    """What the copy of the database says."""

    revision: str | None = None
    log: LogState | None = None
    space: dict[str, str] | None = None
    sources: tuple[str, ...] = ()


def make_backup(home: Home, target: Path, passphrase: str | None) -> Made:
    """Write a backup of `home` to the file `target`, or into that directory; readable by its owner
    only and named once it is whole. `passphrase` None leaves it unsealed.

    Raises InputRejected, and Unavailable where the database is away.
    """
    now = datetime.now(UTC)
    if target.is_dir():
        target = target / f"{home.path.name}-{now.strftime('%Y%m%dT%H%M%S.%fZ')}{SUFFIX}"
    if target.exists():
        raise InputRejected(f"{target} is there already", remedy="give another name")
    with _alone(home) as work:
        for _ in range(ATTEMPTS):
            before = _keys_digest(home)
            state = _copy_databases(home, work)
            if _keys_digest(home) == before:
                break
        else:
            raise Unavailable("the keys are being changed", remedy="try again in a moment")
        manifest = _write(home, target, passphrase, state, work, now)
    made = Made(target, target.stat().st_size, manifest)
    _remember(home, made)
    return made


@contextmanager
def _alone(home: Home) -> Iterator[Path]:
    """A directory for copies of databases, inside the home, where they lie as they are anyhow; one
    backup of a home at a time, and nothing of an earlier one that was killed."""
    lock = os.open(home.path / ".backup-lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise Unavailable(
                "another backup of this home is being made", remedy="wait for it"
            ) from err
        work = home.path / WORK
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(mode=0o700)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)
    finally:
        os.close(lock)


def _copy_databases(home: Home, work: Path) -> _State:
    for old in work.iterdir():
        old.unlink()
    if home.settings.url is None:
        return _State()
    if home.chain_path.exists():
        _copy_chain(home, work / CHAIN)
    url = home.database_url
    if is_sqlite(url):
        copy_sqlite(sqlite_path(url), work / NODE_DATABASE)
        url = f"sqlite:///{work / NODE_DATABASE}"
    elif not is_postgresql(url):
        raise InputRejected("only SQLite and PostgreSQL are backed up", remedy="see `database`")
    try:
        with reading(url) as connection:
            if is_postgresql(url):
                dump_postgresql(url, connection, work / DUMP)
            revision = schema_revision(connection)
            sources = connection.execute(text("SELECT source FROM dataset")).scalars()
            return _State(
                revision,
                log_state(connection, home),
                settings_in(connection, "space."),
                tuple(sorted(set(sources))),
            )
    except SQLAlchemyError as err:
        raise InputRejected(
            "the database has no tables of a node yet", remedy="start the node once"
        ) from err


def _copy_chain(home: Home, target: Path) -> None:
    """The process that mines has its file for itself, so where one runs it makes the copy."""
    if is_locked(home.chain_path):
        fetched = target.with_name("chain-fetched")
        fetched.touch(mode=0o600)
        with Client.of_home(home.path) as node, fetched.open("wb") as file:
            node.fetch_chain(file)
        copy_sqlite(fetched, target)
        fetched.unlink()
    else:
        copy_sqlite(home.chain_path, target)


def _write(
    home: Home,
    target: Path,
    passphrase: str | None,
    state: _State,
    work: Path,
    now: datetime,
) -> Manifest:
    """Write everything under another name, and name it once it is on the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            archive = ArchiveWriter(file, passphrase)
            left_out = _add_all(archive, home, state, work)
            manifest = _manifest(home, state, archive, left_out, now)
            archive.finish(sign_manifest(manifest, home.signing_key()))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
        sync_directory(target.parent)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return manifest


def _manifest(
    home: Home,
    state: _State,
    archive: ArchiveWriter,
    left_out: Sequence[LeftOut],
    now: datetime,
) -> Manifest:
    url, settings = home.settings.url, home.settings
    names = {file.path for file in archive.files}
    return Manifest(
        product=__version__,
        made_at=now.isoformat(timespec="seconds"),
        name=settings.name,
        kind=settings.kind.value,
        did=did_of_url(url) if url else regulator_identity(home).did,
        url=url,
        founder=settings.founder,
        database="sqlite" if NODE_DATABASE in names else "postgresql" if DUMP in names else "none",
        schema_revision=state.revision,
        space=state.space or {},
        log=state.log,
        files=tuple(archive.files),
        left_out=tuple(left_out),
    )


def _add_all(archive: ArchiveWriter, home: Home, state: _State, work: Path) -> list[LeftOut]:
    left_out: list[LeftOut] = []
    vaults = _vaults(home, state, left_out)
    for vault in vaults:
        # After the database: see above.
        copy = work / f"vault-{secrets.token_hex(4)}"
        copy_sqlite(vault / VAULT_DATABASE, copy)
        _add(archive, copy, str((vault / VAULT_DATABASE).relative_to(home.path)))
        copy.unlink()
    for name in (CHAIN, NODE_DATABASE, DUMP):
        if (work / name).exists():
            _add(archive, work / name, name)
    copied = {home.chain_path, home.path / NODE_DATABASE, *(v / VAULT_DATABASE for v in vaults)}
    for path in _files_of(home, left_out):
        if path not in copied:
            try:
                _add(archive, path, str(path.relative_to(home.path)))
            except FileNotFoundError:
                # Moved away by its owner, or ended, since the directory was listed.
                left_out.append(LeftOut(path=_told(path, home), why="it was removed meanwhile"))
    return left_out


def _files_of(home: Home, left_out: list[LeftOut]) -> Iterator[Path]:
    """The regular files of the home, those the node makes again left out and told."""
    for entry in sorted(home.path.iterdir()):
        if entry.name in LEFT_OUT and entry.is_dir() and not entry.is_symlink():
            left_out.append(LeftOut(path=entry.name, why=LEFT_OUT[entry.name]))
        elif entry.name == LAST or _PARTIAL.fullmatch(entry.name):
            continue
        elif entry.is_symlink():
            left_out.append(LeftOut(path=entry.name, why="it is a link; what it leads to is not"))
        elif entry.is_dir():
            yield from _below(entry, home, left_out)
        elif entry.name.startswith("node.sqlite."):
            left_out.append(LeftOut(path=entry.name, why="the state before an upgrade"))
        else:
            yield entry


def _below(directory: Path, home: Home, left_out: list[LeftOut]) -> Iterator[Path]:
    for folder, _, names in os.walk(directory):
        for name in sorted(names):
            path = Path(folder) / name
            if _PARTIAL.fullmatch(name):
                continue
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                yield path
            else:
                left_out.append(LeftOut(path=_told(path, home), why="it is no regular file"))


def _vaults(home: Home, state: _State, left_out: list[LeftOut]) -> list[Path]:
    """Vaults inside the home; those outside, and other files that the node writes, are told."""
    inside: list[Path] = []
    for source in state.sources:
        parts = urlsplit(source)
        if parts.scheme == "vault":
            folder = Path(parts.path).resolve()
            if not folder.is_relative_to(home.path):
                left_out.append(LeftOut(path=str(folder), why="a vault outside of the home"))
            elif folder not in inside:
                inside.append(folder)
            secret = dict(parse_qsl(parts.query)).get("secret", "")
            if secret.startswith("file:") and not _lies_in(home, secret.removeprefix("file:")):
                left_out.append(LeftOut(path=secret[5:], why="the key of a vault, elsewhere"))
        elif parts.scheme == "personal+file":
            consents = dict(parse_qsl(parts.query)).get("consents", "")
            if consents and not _lies_in(home, consents):
                left_out.append(LeftOut(path=consents, why="receipts of consents, elsewhere"))
    return inside


def _lies_in(home: Home, path: str) -> bool:
    return Path(path).resolve().is_relative_to(home.path)


def _add(archive: ArchiveWriter, path: Path, name: str) -> None:
    # Not followed: what lies behind a link put here meanwhile is not the node's.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        archive.add(name, file, os.fstat(file.fileno()).st_size)


def _told(path: Path, home: Home) -> str:
    return str(path.relative_to(home.path))


def _keys_digest(home: Home) -> bytes:
    digest = hashlib.sha256()
    for path in sorted((home.path / "keys").glob("*")):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    digest.update((home.path / SETTINGS_FILE).read_bytes())
    return digest.digest()


def _remember(home: Home, made: Made) -> None:
    """For `dataspace doctor`, which says when the last one was made."""
    path = home.path / LAST
    told = {
        "made_at": made.manifest.made_at,
        "file": str(made.path),
        "size": made.size,
        "log_size": made.manifest.log.size if made.manifest.log else 0,
    }
    fresh = path.with_name(f".{LAST}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(told, file)
    fresh.replace(path)


def sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
