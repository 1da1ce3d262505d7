"""What lies in the home: keys and their modes, room on the disk, certificates, files and rows that
belong together, the last backup."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from sqlalchemy import Connection, text

from dataspace.backups.making import LAST
from dataspace.doctor.finding import Finding, Findings, error, ok, warning
from dataspace.errors import InputRejected
from dataspace.home import Home
from dataspace.secret_files import read_secret

MEGABYTE = 1024 * 1024
DAY_S = 86400.0
# A backup older than this is told; a certificate that ends sooner, too.
BACKUP_DAYS, CERTIFICATE_DAYS = 7.0, 21.0
# Files that are told by name; the rest is counted.
MAX_NAMED = 5
_RECEIVED = "/received/"


def look_at_files(home: Home) -> Findings:
    """Everything that can be seen without the database."""
    yield from _keys(home)
    yield _modes(home)
    yield _disk(home)
    yield from _certificate(home)
    yield _backup(home)


def look_at_rows_and_files(home: Home, connection: Connection) -> Findings:
    """Files that no row names, and rows whose files are gone."""
    transfers = connection.execute(text("SELECT state, moved FROM transfer")).all()
    deliveries = connection.execute(text("SELECT moved FROM delivery")).scalars().all()
    results = set(
        connection.execute(
            text("SELECT id FROM computation WHERE attachment IS NOT NULL")
        ).scalars()
    )
    running = set(
        connection.execute(text("SELECT id FROM computation WHERE finished_at IS NULL")).scalars()
    )
    told = [*(moved for _, moved in transfers), *deliveries]
    named = {_in_home(home, name) for moved in told for name in _received_in(moved)}
    # What the owner moved elsewhere is gone on purpose, so it is told as it is and no error.
    gone = [path for path in sorted(named) if not path.exists()]
    gone += [path for id in results if not (path := home.path / "results" / f"{id}.jsonl").exists()]
    orphans = [
        path
        for path in _regular(home.path / "received")
        if path not in named and not path.name.startswith(".")
    ]
    orphans += [path for path in _regular(home.path / "results") if path.stem not in results]
    orphans += [
        path
        for path in (home.path / "spool").glob("*")
        if path.is_dir() and path.name not in running
    ]
    if not any(state in ("REQUESTED", "STARTED", "SUSPENDED") for state, _ in transfers):
        orphans += list(_regular(home.path / "outgoing"))
    yield _told("files", home, orphans, "no row names", "look at them, and remove them if you may")
    yield _told("rows", home, gone, "are named by rows and gone", "nothing, if you moved them")


def _keys(home: Home) -> Findings:
    """Every key file opens and is its owner's alone."""
    broken = False
    for path in sorted((home.path / "keys").glob("*")):
        if path.name.startswith("."):
            continue
        try:
            read_secret(path)
        except InputRejected as err:
            broken = True
            yield error("keys", str(err), err.remedy or "restore it from your backup")
    for name, load in (
        ("signing.pem", home.signing_key),
        ("log.pem", home.log_key),
        ("account.key", home.account_key),
        ("api.key", home.api_key),
    ):
        try:
            load()
        except (InputRejected, ValueError) as err:
            broken = True
            remedy = getattr(err, "remedy", None) or "restore it from your backup"
            yield error("keys", f"the key {name} does not open", remedy)
    if not broken:
        yield ok("keys", "every key opens and is readable by its owner only")


def _modes(home: Home) -> Finding:
    names = [".", "keys", "received", "results", "spool", "cache", "outgoing"]
    names += ["node.sqlite", "node.sqlite-wal", "chain.sqlite"]
    open_to_others = [
        name
        for name in names
        if (home.path / name).exists() and (home.path / name).stat().st_mode & 0o077
    ]
    # What lies in a directory that nobody else may enter is nobody else's.
    if "." not in open_to_others:
        return ok("permissions", "the home can be entered by its owner only")
    return error(
        "permissions",
        f"others can read in the home: {', '.join(open_to_others)}",
        f"run: chmod -R go-rwx {home.path}",
    )


def _disk(home: Home) -> Finding:
    free, floor = shutil.disk_usage(home.path).free, home.settings.disk_floor_mb * MEGABYTE
    told = f"{free // MEGABYTE:,} MB are free where the home is"
    if free < floor:
        return error("disk", told, "make room: nothing new is begun with so little")
    if free < 4 * floor:
        return warning("disk", told, "make room soon")
    return ok("disk", told)


def _certificate(home: Home) -> Findings:
    path = home.settings.tls_certificate
    if path is None:
        return
    try:
        ends = min(
            one.not_valid_after_utc for one in x509.load_pem_x509_certificates(path.read_bytes())
        )
    except (OSError, ValueError):
        yield error("certificate", "the TLS certificate cannot be read", "see tls_certificate")
        return
    days = (ends - datetime.now(UTC)).total_seconds() / DAY_S
    told = f"the TLS certificate ends on {ends.date().isoformat()}"
    if days < 0:
        yield error("certificate", told, "renew it: no peer accepts it any more")
    elif days < CERTIFICATE_DAYS:
        yield warning("certificate", told, "renew it")
    else:
        yield ok("certificate", told)


def _backup(home: Home) -> Finding:
    remedy = "make one now and then: dataspace backup --to DIRECTORY"
    try:
        last = json.loads((home.path / LAST).read_text(encoding="utf-8"))
        made_at = datetime.fromisoformat(last["made_at"])
    except FileNotFoundError:
        return warning("backup", "no backup of this home has been made", remedy)
    except (OSError, ValueError, KeyError, TypeError):
        return warning("backup", "when the last backup was made cannot be read", remedy)
    days = (time.time() - made_at.timestamp()) / DAY_S
    told = f"the last backup was made {last['made_at']}"
    return warning("backup", told, remedy) if days > BACKUP_DAYS else ok("backup", told)


def _received_in(moved: Any) -> Iterator[str]:
    """The file in what is said of rows that were moved here; JSON comes as text from SQLite."""
    told = json.loads(moved) if isinstance(moved, str) else moved
    if isinstance(told, dict) and _RECEIVED in str(told.get("file", "")):
        yield str(told["file"])


def _in_home(home: Home, name: str) -> Path:
    """Where a received file is, also in a home that was restored elsewhere."""
    return home.path / "received" / name.rpartition(_RECEIVED)[2]


def _regular(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


def _told(check: str, home: Home, paths: list[Path], what: str, remedy: str) -> Finding:
    if not paths:
        return ok(check, "files and rows belong together")
    shown = ", ".join(str(path.relative_to(home.path)) for path in paths[:MAX_NAMED])
    more = f" and {len(paths) - MAX_NAMED} more" if len(paths) > MAX_NAMED else ""
    return warning(check, f"{len(paths)} files {what}: {shown}{more}", remedy)
