"""Finding what an id names, and the rows that explain it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from sqlmodel import Session, col, or_, select

from contracts.party import Party
from contracts.transfer import TransferState
from dataspace.errors import NotFound
from dataspace.evidence import ANCHOR
from dataspace.operations.explaining import (
    Calculation,
    Exchange,
    Explanation,
    Outcome,
    Work,
    explain_computation,
    explain_negotiation,
    explain_transfer,
    explain_work,
)
from dataspace.operations.wait_words import Act, On
from dataspace.processes import newest_unfinished
from dataspace.store.tables import (
    AgreementRow,
    ComputationRow,
    NegotiationRow,
    ProcessRow,
    ReturnRow,
    TransferRow,
)
from privacy.kinds import CONSUMER

# Waiting processes of one subject that are looked at, and ids that are like the one asked for.
MAX_WORKS: Final = 32
StepOf = Callable[[str], str | None]


def why(tx: Session, id: str, *, step_of: StepOf = lambda _: None) -> Explanation:
    """Why what `id` names waits, or why it ended: a negotiation, transfer, computation, return or
    agreement, by this node's id or the peer's; the number of a durable process; or `anchor`.

    `step_of` says where a computation is that runs in this process. Raises NotFound.
    """
    now = time.time()
    for explain in (_negotiation, _transfer, _return, _agreement):
        found = explain(tx, id, now)
        if found is not None:
            return found
    computation = tx.get(ComputationRow, id)
    if computation is not None:
        return _computation(tx, computation, step_of(id), now)
    row = newest_unfinished(tx, ANCHOR) if id == ANCHOR else _process(tx, id)
    if row is not None:
        return explain_work(work_of(row), now)
    if id == ANCHOR:
        return Explanation(
            id=ANCHOR,
            what="process",
            state="done",
            outcome=Outcome.STANDS,
            sentence="Every entry of the evidence log is anchored; nothing is waited for.",
            since=now,
            on=On.NOBODY,
        )
    raise NotFound(
        "nothing at this node has that id",
        remedy="give the id of a negotiation, transfer, computation, return or agreement, the "
        "number of a process in dataspace status, or: anchor",
    )


def work_of(row: ProcessRow) -> Work:
    """A process's row as an explanation reads it."""
    return Work(
        id=row.id or 0,
        kind=row.kind,
        subject=row.subject,
        state=row.state,
        due_at=row.due_at,
        created_at=row.created_at,
        give_up_at=row.give_up_at,
        attempts=row.attempts,
        lease_until=row.lease_until,
        target=row.target,
        last_error=row.last_error,
    )


def _works(tx: Session, subject: str) -> list[Work]:
    waiting = (
        select(ProcessRow)
        .where(ProcessRow.subject == subject, ProcessRow.state == "ready")
        .order_by(col(ProcessRow.id))
        .limit(MAX_WORKS)
    )
    return [work_of(row) for row in tx.exec(waiting).all()]


def _process(tx: Session, id: str) -> ProcessRow | None:
    # Twenty digits are more than a database counts to.
    return tx.get(ProcessRow, int(id)) if id.isascii() and id.isdigit() and len(id) < 19 else None


def _negotiation(tx: Session, id: str, now: float) -> Explanation | None:
    wanted = select(NegotiationRow).where(
        or_(NegotiationRow.pid == id, col(NegotiationRow.peer_pid) == id)
    )
    row = tx.exec(wanted.limit(1)).first()
    if row is None:
        return None
    one = Exchange(
        id=row.pid,
        role=Party(row.role),
        peer=row.peer,
        state=row.state,
        updated_at=row.updated_at,
        waiting=row.waiting,
        deadline_at=row.deadline_at,
        reason=row.reason,
        clause=row.clause,
        remedy=row.remedy,
    )
    return explain_negotiation(one, _works(tx, row.pid), now)


def _transfer(tx: Session, id: str, now: float) -> Explanation | None:
    wanted = select(TransferRow).where(or_(TransferRow.pid == id, col(TransferRow.peer_pid) == id))
    row = tx.exec(wanted.limit(1)).first()
    if row is None:
        return None
    one = Exchange(
        id=row.pid,
        role=Party(row.role),
        peer=row.peer,
        state=row.state,
        updated_at=row.updated_at,
        reason=row.reason,
        clause=row.clause,
        remedy=row.remedy,
        format=row.format,
        computation=row.computation,
    )
    return explain_transfer(one, _works(tx, row.pid), now)


def _computation(tx: Session, row: ComputationRow, step: str | None, now: float) -> Explanation:
    missing = select(TransferRow.peer).where(
        TransferRow.computation == row.id,
        TransferRow.role == Party.CONSUMER.value,
        TransferRow.state == TransferState.REQUESTED.value,
    )
    one = Calculation(
        id=row.id,
        status=row.status,
        is_consumer=row.role == CONSUMER,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        step=step,
        reason=row.reason,
        clause=row.clause,
        remedy=row.remedy,
        missing=tuple(tx.exec(missing.limit(MAX_WORKS)).all()),
    )
    return explain_computation(one, _works(tx, row.id), now)


def _return(tx: Session, id: str, now: float) -> Explanation | None:
    row = tx.get(ReturnRow, id)
    if row is None:
        return None
    tell = partial(Explanation, id=id, what="return", peer=row.consumer)
    ending = Act("end it", f"dataspace return end {id}")
    if row.ended_at is not None:
        return tell(
            state="ended",
            outcome=Outcome.ENDED,
            sentence="The return has ended; nothing more is delivered.",
            since=row.ended_at,
            on=On.NOBODY,
        )
    if row.transfer is None:
        told = _negotiation(tx, row.negotiation, now)
        if told is not None:
            return replace(told, id=id, what="return", acts=(*told.acts, ending))
    works = _works(tx, row.transfer or id)
    tried = next((work for work in works if work.last_error is not None), None)
    if tried is not None:
        told = explain_work(tried, now)
        return replace(told, id=id, what="return", peer=row.consumer, acts=(*told.acts, ending))
    due = row.next_due_at
    sentence = (
        "The receiver has not asked for the rows yet."
        if row.transfer is None
        else "The next delivery is made when it is due."
    )
    return tell(
        state="waiting" if row.transfer is None else "delivering",
        outcome=Outcome.WAITS,
        sentence=sentence,
        since=row.created_at if due is None else due - row.every_s,
        on=On.PEER if row.transfer is None else On.TIME,
        acts=(ending,),
    )


def _agreement(tx: Session, id: str, now: float) -> Explanation | None:
    row = tx.get(AgreementRow, id)
    if row is None:
        return None
    peer = row.consumer if row.role == Party.PROVIDER.value else row.provider
    tell = partial(Explanation, id=id, what="agreement", peer=peer)
    works = [work for work in _works(tx, id) if work.attempts]
    if works:
        told = explain_work(works[0], now)
        return replace(told, id=id, what="agreement", peer=peer)
    if row.ended_at is not None:
        return tell(
            state="ended",
            outcome=Outcome.ENDED,
            sentence=f"It was ended by {row.ended_by}. {row.ended_reason or ''}".rstrip(),
            since=row.ended_at,
            on=On.NOBODY,
        )
    return tell(
        state="in force",
        outcome=Outcome.STANDS,
        sentence="Both sides have signed it; nothing is waited for.",
        since=row.finalized_at,
        on=On.NOBODY,
        acts=(Act("see what it allows", f"dataspace agreement show {id}"),),
    )
