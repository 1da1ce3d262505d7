"""What is kept before a database is upgraded, and which revision this version writes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import make_url

BUSY_TIMEOUT_S = 30.0


def migrations() -> Config:
    """Alembic's configuration of this version's migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


@cache
def revisions() -> tuple[str, ...]:
    """Every revision of the schema, the first one first."""
    script = ScriptDirectory.from_config(migrations())
    return tuple(reversed([one.revision for one in script.walk_revisions()]))


def newest_revision() -> str:
    """The revision that this version's nodes write."""
    return revisions()[-1]


def keep_before_upgrade(url: str) -> Path | None:
    """Copy a SQLite database that is about to be upgraded to `NAME.before-REVISION`, readable by
    its owner only; the copy of an earlier upgrade is removed then. Returns where, None where there
    is nothing to upgrade or to copy.

    A migration happens whole or not at all; the copy is for an owner who wants to go back to the
    earlier version. One that was interrupted is made again.
    """
    name = make_url(url).database
    if not url.startswith("sqlite") or not name or not Path(name).is_file():
        return None
    path = Path(name)
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as old:
        try:
            found = old.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            # No tables yet.
            return None
        # A revision that is not ours is a later version's, which is refused elsewhere.
        if found is None or found[0] not in revisions() or found[0] == newest_revision():
            return None
        kept = path.with_name(f"{path.name}.before-{newest_revision()}")
        fresh = path.with_name(f".{kept.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        with closing(sqlite3.connect(fresh, isolation_level=None)) as new:
            old.backup(new)
            new.execute("PRAGMA journal_mode=DELETE")
        fresh.replace(kept)
    for earlier in path.parent.glob(f"{path.name}.before-*"):
        if earlier != kept:
            earlier.unlink()
    return kept
