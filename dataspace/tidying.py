"""Forgetting what is no longer needed: finished work and answers nobody will ask for again."""

from __future__ import annotations

import time

from sqlalchemy import ColumnElement, delete, inspect, select, tuple_
from sqlmodel import SQLModel, and_, col

from dataspace.processes import FOR_EVER_S, Handler, Later, Process, is_kept, schedule
from dataspace.store.engine import Store
from dataspace.store.tables import ProcessRow, ReceivedRow, ReplayRow

TIDY = "tidy"
EVERY_S = 3600.0
# A peer gives a delivery up after ten minutes, so a repetition a week later is no repetition.
KEEP_ANSWERS_S = 7 * 86400.0
# A clock that is set back makes old tokens good again: those of the last hour are still known.
REPLAY_MARGIN_S = 3600.0
# Finished work is kept a while for whoever asks why something happened.
KEEP_DONE_S = 7 * 86400.0
# What could not be done is looked into by a person, who may be away.
KEEP_FAILED_S = 90 * 86400.0
# A transaction holds up every other one of the node, so that each removes only so many rows.
MAX_ROWS_A_TURN = 2000


class Tidying:
    """The process that prunes the node's tables once an hour."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def handlers(self) -> dict[str, Handler]:
        return {TIDY: Handler(self._tidy)}

    def begin(self) -> None:
        with self._store.transaction() as tx:
            if not is_kept(tx, TIDY, TIDY):
                schedule(tx, TIDY, TIDY, give_up_after_s=FOR_EVER_S)

    def _tidy(self, _: Process) -> Later:
        now = time.time()
        created = col(ProcessRow.created_at)
        old: tuple[tuple[type[SQLModel], ColumnElement[bool]], ...] = (
            (ReplayRow, col(ReplayRow.expires_at) < now - REPLAY_MARGIN_S),
            (ReceivedRow, col(ReceivedRow.received_at) < now - KEEP_ANSWERS_S),
            (ProcessRow, and_(col(ProcessRow.state) == "done", created < now - KEEP_DONE_S)),
            (ProcessRow, and_(col(ProcessRow.state) == "failed", created < now - KEEP_FAILED_S)),
        )
        for table, condition in old:
            while self._forget(table, condition) == MAX_ROWS_A_TURN:
                pass
        return Later(EVERY_S)

    def _forget(self, table: type[SQLModel], condition: ColumnElement[bool]) -> int:
        """Remove some of the rows that meet the condition; how many it were."""
        key = [*inspect(table).primary_key]
        some = select(*key).where(condition).limit(MAX_ROWS_A_TURN)
        with self._store.transaction() as tx:
            return tx.exec(delete(table).where(tuple_(*key).in_(some))).rowcount
