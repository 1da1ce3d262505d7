"""Leases of process rows: the statements by which replicas share one table of work.

A lease names its replica, ends at `lease_until`, and has a fence: `attempts`, which each lease
raises. Every statement that follows from a lease names its fence, so that it changes nothing once
the row has been leased anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, func
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, or_, select, update

from dataspace.steady_time import CLOCKS_DIFFER_S
from dataspace.store.tables import ProcessRow

LEASE_S = 120.0
MAX_CANDIDATES = 64


@dataclass(frozen=True)
class Outcome:
    """What came of a leased process: done, or due again."""

    id: int
    fence: int
    due_at: float | None = None
    error: str | None = None


def _at_the_head_of_its_lane() -> ColumnElement[bool]:
    """One row of a lane does not start before the earlier ones are done."""
    earlier = aliased(ProcessRow)
    blocked = (
        select(col(earlier.id))
        .where(
            col(earlier.state) == "ready",
            col(earlier.lane) == col(ProcessRow.lane),
            col(earlier.id) < col(ProcessRow.id),
        )
        .exists()
    )
    return or_(col(ProcessRow.lane) == "", ~blocked)


# The statements of a turn, built once: SQLAlchemy takes ten times as long to build them as SQLite
# to run them.
_ROWS: Any = ProcessRow.__table__  # type: ignore[attr-defined]
_IS_READY = _ROWS.c.state == "ready"
_DUE = (
    select(*_ROWS.c)
    .where(
        _IS_READY,
        or_(
            _ROWS.c.due_at <= bindparam("now"),
            # What a clock wrote that is ahead, by that clock.
            (_ROWS.c.created_at > bindparam("now")) & (_ROWS.c.due_at <= bindparam("wall")),
        ),
        _ROWS.c.lease_until <= bindparam("now"),
        _ROWS.c.target.not_in(bindparam("full", expanding=True)),
        _ROWS.c.kind.not_in(bindparam("busy", expanding=True)),
        _ROWS.c.bound_to.in_(bindparam("mine", expanding=True)),
        _at_the_head_of_its_lane(),
    )
    .order_by(_ROWS.c.due_at, _ROWS.c.id)
    .limit(MAX_CANDIDATES)
)
_FOLLOWING = (
    select(_ROWS.c.due_at)
    .where(_IS_READY, _ROWS.c.due_at > bindparam("now"))
    .order_by(_ROWS.c.due_at)
    .limit(1)
)
_LEASE = (
    update(_ROWS)
    .where(_ROWS.c.id.in_(bindparam("ids", expanding=True)))
    .values(
        lease_until=bindparam("until"),
        leased_by=bindparam("me"),
        attempts=_ROWS.c.attempts + 1,
    )
)
# Only the row as it was leased: a later lease is another's.
_AS_LEASED = (_ROWS.c.id == bindparam("of")) & (_ROWS.c.attempts == bindparam("fence")) & _IS_READY
_DONE = update(_ROWS).where(_AS_LEASED).values(state="done", lease_until=0.0, leased_by="")
_AGAIN = (
    update(_ROWS)
    .where(_AS_LEASED)
    .values(
        due_at=bindparam("at"),
        lease_until=0.0,
        leased_by="",
        last_error=func.coalesce(bindparam("why"), _ROWS.c.last_error),
    )
)
_RENEW = update(_ROWS).where(_AS_LEASED).values(lease_until=bindparam("until"))
# A lease that nobody works on: its commit came through although the answer was lost, or what came
# of the work could not be written.
_LOST = (
    update(_ROWS)
    .where(
        _IS_READY,
        _ROWS.c.leased_by == bindparam("me"),
        _ROWS.c.lease_until > 0,
        _ROWS.c.id.not_in(bindparam("in_hand", expanding=True)),
    )
    .values(lease_until=0.0, leased_by="")
)


# What is from further ahead than clocks differ, a wrong one wrote.
_NOW: Any = bindparam("now")
_FROM_THE_FUTURE = (
    update(_ROWS)
    .where(_IS_READY, _ROWS.c.created_at > _NOW + CLOCKS_DIFFER_S)
    .values(
        due_at=_NOW + (_ROWS.c.due_at - _ROWS.c.created_at),
        give_up_at=_NOW + (_ROWS.c.give_up_at - _ROWS.c.created_at),
        created_at=_NOW,
    )
)
_BEGUN_AND_FAR = (
    update(_ROWS)
    .where(
        _IS_READY,
        _ROWS.c.attempts > 0,
        _ROWS.c.lease_until == 0.0,
        _ROWS.c.due_at > _NOW + CLOCKS_DIFFER_S,
    )
    .values(due_at=_NOW)
)
_TRIED_AND_FAR = _BEGUN_AND_FAR.where(_ROWS.c.last_error.is_not(None))


def set_right(database: Connection, now: float, *, seen: bool) -> None:
    """After a wall clock that was ahead: what was written by it waits no longer than it was to.

    What was begun and is due later than any back-off is called once; where it had asked to be
    called that late, it asks again. Where the clock was not `seen` to be set back, as at a start,
    only what had failed is called.
    """
    database.execute(_FROM_THE_FUTURE, {"now": now})
    database.execute(_BEGUN_AND_FAR if seen else _TRIED_AND_FAR, {"now": now})


def due_rows(
    database: Connection,
    now: float,
    *,
    wall: float,
    full: Sequence[str],
    busy: Sequence[str],
    mine: Sequence[str],
) -> Sequence[Row[Any]]:
    """At most `MAX_CANDIDATES` rows that can be leased: not for a peer that is `full`, of no kind
    that is `busy`, and bound to one of `mine`.

    `wall` is what the wall clock says, which may have jumped ahead of `now`.
    """
    asked = {"now": now, "wall": wall, "full": list(full), "busy": list(busy), "mine": list(mine)}
    return database.execute(_DUE, asked).all()


def next_due_at(database: Connection, now: float) -> float | None:
    """When the next row after these is due."""
    found = database.execute(_FOLLOWING, {"now": now}).scalar()
    return None if found is None else float(found)


def lease(database: Connection, ids: Sequence[int], *, by: str, now: float) -> None:
    database.execute(_LEASE, {"ids": list(ids), "until": now + LEASE_S, "me": by})


def renew(database: Connection, in_hand: Mapping[int, int], *, by: str, now: float) -> None:
    """Renew the leases of what is in hand (ids and fences), and give back the others of `by`, of
    which nobody knows."""
    database.execute(_LOST, {"me": by, "in_hand": list(in_hand)})
    if in_hand:
        until = now + LEASE_S
        database.execute(
            _RENEW,
            [{"of": id_, "fence": fence, "until": until} for id_, fence in in_hand.items()],
        )


def write_outcomes(database: Connection, outcomes: Sequence[Outcome]) -> None:
    done = [{"of": one.id, "fence": one.fence} for one in outcomes if one.due_at is None]
    if done:
        database.execute(_DONE, done)
    again = [
        {"of": one.id, "fence": one.fence, "at": one.due_at, "why": one.error}
        for one in outcomes
        if one.due_at is not None
    ]
    if again:
        database.execute(_AGAIN, again)


def give_back_leases(tx: Session, replica: str, *, bound: bool) -> None:
    """Let others do at once what `replica` has leased, and with `bound` also what only it could
    do: whatever it had in its memory is gone."""
    leased = _IS_READY & (_ROWS.c.lease_until > 0) & (_ROWS.c.leased_by == replica)
    # Among them only those that a version without replicas left.
    unnamed = _IS_READY & (_ROWS.c.lease_until > 0) & (_ROWS.c.leased_by == "")
    connection = tx.connection()
    connection.execute(
        update(_ROWS).where(or_(leased, unnamed)).values(lease_until=0.0, leased_by="")
    )
    if bound:
        connection.execute(
            update(_ROWS).where(_IS_READY, _ROWS.c.bound_to == replica).values(bound_to="")
        )
