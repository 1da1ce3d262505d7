"""Routes for whoever waits for a computation, or wonders what it would take: the estimate before,
the progress while it runs, and its end before its time."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from dataspace.access.permissions import Permission
from dataspace.computing.asking import EstimateRequest, question_of
from dataspace.computing.estimates import ASSUMED, costs_here, estimate
from dataspace.computing.running import TERMINAL
from dataspace.node import Node
from dataspace.store.tables import ComputationRow
from dataspace.web.access import CurrentNode, Needs
from privacy.kinds import kind as kind_named

# How often a computation is looked at, and the least time between two events about it.
LOOK_S = 0.05
EVENT_S = 0.2
# A rate is that of the last seconds: a protocol has phases of different speed.
RATE_OVER_S = 10.0

router = APIRouter(prefix="/api/computations", tags=["owner's API"])


class ProgressEvent(BaseModel):
    """Where a computation is. Units are elements masked, raised, encrypted or added at this node;
    the total is 0, and the seconds left unknown, until the protocol has told how many there are."""

    model_config = ConfigDict(frozen=True)

    status: str
    step: str
    done_units: int
    total_units: int
    sent_bytes: int
    received_bytes: int
    rate_per_s: float | None = None
    seconds_left: float | None = None


class Pace:
    """How fast units of work get done, and when they will all be."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def of(self, event: ProgressEvent, at_s: float) -> ProgressEvent:
        """The event with its rate and the time left; `at_s` must not go backwards."""
        if self._seen and event.done_units < self._seen[-1][1]:
            # It began again after a crash.
            self._seen.clear()
        while self._seen and self._seen[0][0] < at_s - RATE_OVER_S:
            self._seen.popleft()
        self._seen.append((at_s, event.done_units))
        since_s, before = self._seen[0]
        if at_s <= since_s or event.done_units <= before:
            return event
        rate = (event.done_units - before) / (at_s - since_s)
        left = event.total_units - event.done_units
        return event.model_copy(
            update={
                "rate_per_s": round(rate, 1),
                "seconds_left": round(left / rate, 1) if event.total_units else None,
            }
        )


def _existing(node: CurrentNode, computation: str) -> ComputationRow:
    """Raises NotFound before a stream has begun, so that it is an answer of its own."""
    return node.computations.get(computation)


def _look(node: Node, computation: str) -> ProgressEvent:
    row = node.computations.get(computation)
    found = node.computations.progress(row)
    return ProgressEvent(
        status=row.status,
        step=found["step"],
        done_units=found["done_units"],
        total_units=found["total_units"],
        sent_bytes=found["sent_bytes"],
        received_bytes=found["received_bytes"],
    )


@router.get(
    "/{computation}/events",
    response_class=EventSourceResponse,
    dependencies=[Needs(Permission.COMPUTATION_READ)],
)
async def events(
    node: CurrentNode,
    row: Annotated[ComputationRow, Depends(_existing)],
    last_event_id: Annotated[str | None, Header()] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `progress` at most five a second, when something has changed, and at
    last one `ended` with the final status.

    Whoever comes again with `Last-Event-ID` is told how it stands now; what it missed is past.
    """
    given = last_event_id or ""
    number = int(given) if given.isdecimal() and len(given) < 10 else 0
    pace, told, told_at = Pace(), None, 0.0
    while True:
        now = await run_in_threadpool(_look, node, row.id)
        at_s = time.monotonic()
        ended = now.status in TERMINAL
        if ended or (now != told and at_s - told_at >= EVENT_S):
            number += 1
            told, told_at = now, at_s
            yield ServerSentEvent(
                data=pace.of(now, at_s), event="ended" if ended else "progress", id=str(number)
            )
        if ended:
            return
        await asyncio.sleep(LOOK_S)


@router.post("/{computation}/cancellation", dependencies=[Needs(Permission.COMPUTATION_CANCEL)])
def cancel(node: CurrentNode, computation: str) -> dict[str, str]:
    """End a computation before its time, here and at every other participant."""
    row = node.computations.cancel(computation)
    return {"id": row.id, "status": row.status}


@router.post("/estimate", dependencies=[Needs(Permission.COMPUTATION_ORDER)])
def estimate_computation(node: CurrentNode, asked: EstimateRequest) -> dict[str, Any]:
    """What a computation would take and tell, as far as it can be said before it runs: time, bytes,
    memory, budget, and what each party would learn. Nothing is ordered."""
    kind = kind_named(asked.kind)
    found = estimate(
        kind, question_of(node, kind, asked), workers=node.workers.count, costs=costs_here()
    )
    parties = {role: asdict(party) for role, party in found.parties.items()}
    return {
        **asdict(replace(found, parties={})),
        "parties": parties,
        "epsilon": None if found.epsilon is None else str(found.epsilon),
        "assumed": {"workers_here": node.workers.count, **ASSUMED},
    }
