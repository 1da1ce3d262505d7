"""Bringing entries that a restored database lacks back into the log, from a copy of the log.

The copy may be anybody's: nothing of it is believed. Its checkpoint must be signed by this node's
log key, its commitments must give that checkpoint's root and begin with the log as it is here, and
the chain's newest anchor must be the root of as many of them. Then the missing commitments are
appended, with bodies where the copy has them and they open. The log is whole again; agreements and
computations that only the lost part of the database held are not.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from dataspace.backups.databases import settings_in
from dataspace.chain_access import ChainAccess
from dataspace.errors import InputRejected, ProtocolViolation, Unavailable
from dataspace.evidence import origin_of_url
from dataspace.home import Home
from dataspace.log_readers import HttpLog
from dataspace.rewind import Head, anchored_head
from dataspace.store.engine import Store
from dataspace.store.log_store import SqlNodeStore, append_commitments
from dataspace.store.tables import CheckpointRow
from ledger.audit import LogReader
from ledger.checkpoint import (
    Checkpoint,
    NoteSigner,
    NoteVerifier,
    parse_checkpoint,
    verify_checkpoint,
)
from ledger.entry import SealedEntry, open_entry
from ledger.errors import LedgerError
from ledger.export import export_log
from ledger.log import Log, MemoryNodeStore
from ledger.note import split_note

PAGE = 1000
# A log of a hundred million entries takes 6 GB as hashes in memory: more is not read here.
MAX_ENTRIES = 100_000_000


@dataclass(frozen=True)
class Recovered:
    """How many entries the log had and has, and how many of those that came have their content."""

    before: int
    after: int
    with_content: int


def recover_log(home: Home, copy: LogReader) -> Recovered:
    """Append what `copy` has beyond this log. The node must not run.

    Raises InputRejected and ProtocolViolation, and Unavailable while the chain does not answer.
    """
    origin = origin_of_url(home.url)
    note, checkpoint = _own_checkpoint(home, copy, origin)
    commitments = _commitments(copy, checkpoint)
    store = Store(home.database_url)
    try:
        store.migrate()
        head = _anchored(home, store, origin)
        with store.transaction() as tx:
            ours = Log(SqlNodeStore(tx))
            before, root = ours.size, ours.root()
            _verify_extends(checkpoint, commitments, before=before, root=root, head=head)
            shown = _entries(copy, commitments, before)
            append_commitments(tx, commitments[before:], shown)
            tx.add(
                CheckpointRow(
                    size=checkpoint.size,
                    root=checkpoint.root,
                    note=note,
                    block=_block(head, checkpoint),
                    created_at=time.time(),
                )
            )
    finally:
        store.close()
    return Recovered(before, checkpoint.size, sum(one is not None for one in shown))


def mirror_log(log: HttpLog, directory: Path) -> int:
    """Keep a copy of the public part of a log: its checkpoint and commitments. Returns its size."""
    note = log.checkpoint()
    size = parse_checkpoint(split_note(note)[0]).size
    if size > MAX_ENTRIES:
        raise ProtocolViolation(f"the log claims {size} entries, at most {MAX_ENTRIES} are read")
    export_log(directory, note, log.commitments(0, size), None)
    return size


def _own_checkpoint(home: Home, copy: LogReader, origin: str) -> tuple[str, Checkpoint]:
    """The copy's checkpoint, if our log key, present or earlier, has signed it."""
    note = copy.checkpoint()
    refused: LedgerError | None = None
    for key in (home.log_key(), *home.retired_log_keys()):
        try:
            verifier = NoteVerifier.parse(NoteSigner(origin, key).vkey)
            checkpoint = verify_checkpoint(note, verifier, origin)
        except LedgerError as err:
            refused = err
            continue
        if checkpoint.size > MAX_ENTRIES:
            raise InputRejected(f"the copy has more than {MAX_ENTRIES} entries")
        return note, checkpoint
    raise InputRejected(
        "the copy's checkpoint is not signed by this log's key",
        remedy="use a copy of this node's own log",
    ) from refused


def _commitments(copy: LogReader, checkpoint: Checkpoint) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < checkpoint.size:
        page = copy.commitments(len(found), min(checkpoint.size, len(found) + PAGE))
        if not page:
            raise InputRejected(
                f"the copy has {len(found)} entries of the {checkpoint.size} in its checkpoint",
                remedy="use a whole copy",
            )
        found += page
    return found


def _verify_extends(
    checkpoint: Checkpoint,
    commitments: list[bytes],
    *,
    before: int,
    root: bytes,
    head: Head | None,
) -> None:
    copied = Log(MemoryNodeStore())
    copied.extend(commitments)
    if copied.root() != checkpoint.root:
        raise InputRejected("the copy's entries do not give the root of its checkpoint")
    if checkpoint.size <= before:
        raise InputRejected(
            f"the copy has {checkpoint.size} entries, no more than the {before} there are",
            remedy="use a newer copy",
        )
    if copied.root(before) != root:
        raise InputRejected(
            "the copy does not begin with the log as it is here: entries were written since",
            remedy="restore the backup again, and recover before the node is started",
        )
    if head is None:
        return
    if head.size > checkpoint.size:
        raise InputRejected(
            f"the copy has {checkpoint.size} entries, but {head.size} are anchored",
            remedy="use a newer copy: with this one the log would still be too short",
        )
    if copied.root(head.size) != head.root:
        raise InputRejected("the copy is not the log that was anchored", remedy="use another copy")


def _entries(copy: LogReader, commitments: list[bytes], start: int) -> list[SealedEntry | None]:
    """The content of the entries from `start` on, None for each that the copy does not show."""
    shown: list[SealedEntry | None] = []
    while start + len(shown) < len(commitments):
        at = start + len(shown)
        page = copy.entries(at, min(len(commitments), at + PAGE))
        if not page:
            break
        shown += page
    shown += [None] * (len(commitments) - start - len(shown))
    for entry, commitment in zip(shown, commitments[start:], strict=True):
        if entry is not None:
            open_entry(entry.body, entry.salt, commitment)
    return shown


def _anchored(home: Home, store: Store, origin: str) -> Head | None:
    with store.transaction() as tx:
        space = settings_in(tx.connection(), "space.")
    if not {"rpc_url", "contract"} <= space.keys():
        raise InputRejected("this node has not joined a space, so nothing is anchored")
    access = ChainAccess.of(home.settings, home.account_key())
    try:
        return anchored_head(access.open(space["rpc_url"], space["contract"]), origin)
    except LedgerError as err:
        raise Unavailable("the chain does not answer", remedy="try again when it does") from err


def _block(head: Head | None, checkpoint: Checkpoint) -> int | None:
    """The block of the anchor at exactly this size, which is not made again."""
    return head.block if head is not None and head.size == checkpoint.size else None
