"""What nobody needs any more is forgotten, a bounded number of rows at a time, and nothing else."""

import time
from pathlib import Path

import pytest
from sqlmodel import select

from dataspace import tidying
from dataspace.processes import Process
from dataspace.store.engine import Store
from dataspace.store.tables import ProcessRow, ReceivedRow, ReplayRow
from dataspace.tidying import (
    EVERY_S,
    KEEP_ANSWERS_S,
    KEEP_DONE_S,
    KEEP_FAILED_S,
    REPLAY_MARGIN_S,
    Tidying,
)


def test_the_old_goes_in_bounded_turns_and_the_rest_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "MAX_ROWS_A_TURN", 2)
    store, now = Store(f"sqlite:///{tmp_path / 'node.sqlite'}"), time.time()
    store.migrate()
    ages = {"done": KEEP_DONE_S, "failed": KEEP_FAILED_S, "ready": 10 * KEEP_FAILED_S}
    with store.transaction() as tx:
        for state, kept_s in ages.items():
            for number in range(5):
                for age_s, kind in ((kept_s + 60, "old"), (kept_s - 60, "new")):
                    created = {"created_at": now - age_s, "due_at": now, "give_up_at": now}
                    row = {"kind": kind, "subject": f"{state} {number}", "state": state}
                    tx.add(ProcessRow(payload={}, **row, **created))
        for jti, left_s in (("old", -REPLAY_MARGIN_S - 60), ("new", -REPLAY_MARGIN_S + 60)):
            tx.add(ReplayRow(issuer="did:x", jti=jti, expires_at=now + left_s))
        for message, age_s in (("old", KEEP_ANSWERS_S + 60), ("new", KEEP_ANSWERS_S - 60)):
            told = {"status": 200, "body": "", "received_at": now - age_s}
            tx.add(ReceivedRow(peer="did:x", message_id=message, **told))
    transactions: list[float] = []
    store.on_transaction(transactions.append)
    later = Tidying(store)._tidy(Process(1, "tidy", "tidy", {}, 1, now))
    assert later.after_s == EVERY_S
    # Five rows of each of two states in turns of two, and one turn for each other table.
    assert len(transactions) == 3 + 3 + 1 + 1
    with store.transaction() as tx:
        left = {(row.state, row.kind) for row in tx.exec(select(ProcessRow)).all()}
        assert left == {("done", "new"), ("failed", "new"), ("ready", "new"), ("ready", "old")}
        assert tx.exec(select(ReplayRow.jti)).all() == ["new"]
        assert tx.exec(select(ReceivedRow.message_id)).all() == ["new"]
    store.close()
