"""The evidence log, computed anew from its entries."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from dataspace.backups.databases import StoredNodes
from dataspace.doctor.finding import Finding, Findings, error, ok
from dataspace.errors import InputRejected
from dataspace.evidence import origin_of_url
from dataspace.home import Home
from ledger.checkpoint import NoteSigner, NoteVerifier, verify_checkpoint
from ledger.entry import open_entry
from ledger.errors import LedgerError
from ledger.log import Log
from ledger.merkle import Frontier, leaf_hash

PAGE = 1000
REMEDY = "keep the home as it is, restore the newest backup, and let the regulator know"


def look_at_evidence(home: Home, connection: Connection) -> Findings:
    """Every entry opens to its commitment, the commitments give the root that the log keeps, and
    the newest checkpoint is signed over such a root."""
    origin = origin_of_url(home.url)
    newest = connection.execute(
        text("SELECT size, root, note FROM checkpoint ORDER BY size DESC LIMIT 1")
    ).first()
    wanted = newest.size if newest is not None else None
    try:
        nodes = StoredNodes(connection)
        recomputed = _recompute(connection, origin, nodes.size(), at=wanted)
        kept = Log(nodes).root()
    except (InputRejected, LedgerError) as err:
        yield error("evidence", str(err), REMEDY)
        return
    if recomputed.root != kept:
        yield error("evidence", "the entries do not give the root that the log keeps", REMEDY)
        return
    told = f"{nodes.size()} entries give the log's root"
    erased = f", {recomputed.erased} of them erased" if recomputed.erased else ""
    yield ok("evidence", told + erased)
    if newest is not None:
        yield _checkpoint(home, origin, newest.note, newest.size, recomputed.root_at)


@dataclass(frozen=True)
class _Recomputed:
    """What comes of reading all entries: their root, the one at a size, how many are erased."""

    root: bytes
    root_at: bytes | None
    erased: int


def _recompute(connection: Connection, origin: str, size: int, *, at: int | None) -> _Recomputed:
    """Read every entry, in pages. Raises LedgerError and InputRejected naming the first that is
    missing, does not open, or is of another log."""
    frontier, position, erased = Frontier(), 0, 0
    root_at = frontier.root() if at == 0 else None
    query = text(
        "SELECT position, commitment, body, salt FROM entry WHERE position >= :start "
        "ORDER BY position LIMIT :page"
    )
    while position < size:
        rows = connection.execute(query, {"start": position, "page": PAGE}).all()
        if not rows:
            break
        for row in rows:
            if row.position != position:
                raise InputRejected(f"entry {position} is missing from the log")
            _verify_entry(row.position, row.commitment, row.body, row.salt, origin)
            erased += row.body is None
            frontier.append(leaf_hash(bytes(row.commitment)))
            position += 1
            if position == at:
                root_at = frontier.root()
    if position != size:
        raise InputRejected(f"the log says {size} entries and has {position}")
    return _Recomputed(frontier.root(), root_at, erased)


def _verify_entry(
    position: int, commitment: bytes, body: bytes | None, salt: bytes | None, origin: str
) -> None:
    if body is None or salt is None:
        return
    try:
        entry = open_entry(bytes(body), bytes(salt), bytes(commitment))
    except LedgerError as err:
        raise InputRejected(f"entry {position} does not open to its commitment") from err
    if entry.log != origin:
        raise InputRejected(f"entry {position} is of another log, {entry.log}")


def _checkpoint(home: Home, origin: str, note: str, size: int, root: bytes | None) -> Finding:
    vkeys = [NoteSigner(origin, key).vkey for key in (home.log_key(), *home.retired_log_keys())]
    for vkey in vkeys:
        try:
            checkpoint = verify_checkpoint(note, NoteVerifier.parse(vkey), origin)
        except LedgerError:
            continue
        if (checkpoint.size, checkpoint.root) == (size, root):
            return ok("checkpoint", f"the newest checkpoint, of {size} entries, is the log's")
        return error("checkpoint", "the newest checkpoint has another root than the log", REMEDY)
    return error("checkpoint", "the newest checkpoint is signed by no key of this log", REMEDY)
