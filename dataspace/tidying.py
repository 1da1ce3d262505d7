"""Forgetting what is no longer needed: finished work and answers nobody will ask for again."""

from __future__ import annotations

import time

from sqlmodel import col, delete

from dataspace.processes import Handler, Later, Process, is_kept, schedule
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
FOR_EVER_S = 100 * 365 * 86400.0


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
        with self._store.transaction() as tx:
            forgotten = now - REPLAY_MARGIN_S
            tx.exec(delete(ReplayRow).where(col(ReplayRow.expires_at) < forgotten))
            tx.exec(delete(ReceivedRow).where(col(ReceivedRow.received_at) < now - KEEP_ANSWERS_S))
            tx.exec(
                delete(ProcessRow).where(
                    col(ProcessRow.state) == "done", col(ProcessRow.created_at) < now - KEEP_DONE_S
                )
            )
        return Later(EVERY_S)
