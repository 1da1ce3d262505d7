"""Why something waits, or why it ended: facts in, explanation out.

Nothing here reads a database or a clock. The words are in `wait_words`; the tests hold both against
every kind of process, and against every state of the two state machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from contracts.negotiation import TABLE as NEGOTIATION_TABLE
from contracts.negotiation import NegotiationMessage, NegotiationState
from contracts.party import Party
from contracts.transfer import TransferState
from contracts.transfer_strategy import PULL
from dataspace.moments import time_or_none, zulu_at
from dataspace.operations import wait_words
from dataspace.operations.wait_words import DELIVER, Act, On


class Outcome(StrEnum):
    """Whether something goes on."""

    WAITS = "waits"
    ENDED = "ended"
    STANDS = "stands"


@dataclass(frozen=True)
class Tried:
    """What a durable process has done about it: how often, what came of the last attempt, and when
    the next one is (UNIX seconds; None: being done now, or none follows)."""

    attempts: int
    last_error: str | None
    next_at: float | None
    gives_up_at: float | None


@dataclass(frozen=True)
class Explanation:
    """In plain words: what is waited for, since when, on whom, and what would move it."""

    id: str
    what: str
    state: str
    outcome: Outcome
    sentence: str
    since: float
    on: On
    # The participant that is waited for, where it is one.
    peer: str | None = None
    tried: Tried | None = None
    acts: tuple[Act, ...] = ()
    clause: str | None = None
    remedy: str | None = None

    def to_json(self) -> dict[str, Any]:
        tried = self.tried
        return {
            "id": self.id,
            "what": self.what,
            "state": self.state,
            "outcome": self.outcome.value,
            "sentence": self.sentence,
            "since": zulu_at(self.since),
            "on": self.on.value,
            "peer": self.peer,
            "tried": None
            if tried is None
            else {
                "attempts": tried.attempts,
                "last_error": tried.last_error,
                "next_at": time_or_none(tried.next_at),
                "gives_up_at": time_or_none(tried.gives_up_at),
            },
            "would_move_it": [{"act": one.words, "command": one.command} for one in self.acts],
            "clause": self.clause,
            "remedy": self.remedy,
        }


@dataclass(frozen=True)
class Work:
    """A durable process, as its row says."""

    id: int
    kind: str
    subject: str
    state: str
    due_at: float
    created_at: float
    give_up_at: float
    attempts: int = 0
    lease_until: float = 0.0
    target: str = ""
    last_error: str | None = None

    def tried(self, now: float) -> Tried:
        waits = self.state == "ready" and self.lease_until <= now
        return Tried(
            self.attempts,
            self.last_error,
            self.due_at if waits else None,
            self.give_up_at if self.state == "ready" else None,
        )


@dataclass(frozen=True)
class Exchange:
    """A negotiation or a transfer, as its row says; `format` and `computation` of transfers."""

    id: str
    role: Party
    peer: str
    state: str
    updated_at: float
    waiting: str | None = None
    deadline_at: float | None = None
    reason: str | None = None
    clause: str | None = None
    remedy: str | None = None
    format: str = ""
    computation: str = ""


@dataclass(frozen=True)
class Calculation:
    """A computation, as its row says; `step` is where its role is, while it runs here."""

    id: str
    status: str
    is_consumer: bool
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    step: str | None = None
    reason: str | None = None
    clause: str | None = None
    remedy: str | None = None
    # Providers whose transfers have not started; only the consumer knows of them.
    missing: tuple[str, ...] = ()


def explain_work(work: Work, now: float) -> Explanation:
    """Why a durable process waits, or how it ended."""
    words = wait_words.of_kind(work.kind)
    peer = work.target.removeprefix("rows at ") or None
    tried = work.tried(now)
    told = partial(Explanation, id=str(work.id), what="process", state=work.state, tried=tried)
    if work.state == "done":
        sentence = f"{words.does}: done after {_times(work.attempts)}."
        return told(outcome=Outcome.ENDED, sentence=sentence, since=work.due_at, on=On.NOBODY)
    if work.state == "failed":
        sentence = f"{words.does}: given up after {_times(work.attempts)}. {_said(work.last_error)}"
        return told(
            outcome=Outcome.ENDED,
            sentence=sentence,
            since=work.due_at,
            on=On.NOBODY,
            peer=peer,
            acts=words.after_failure,
        )
    on, acts = words.on, words.acts
    if work.lease_until > now:
        sentence, on, acts = f"{words.does}: a worker does it now.", On.WORKER, ()
    elif work.last_error is not None:
        sentence = (
            f"{words.does}: tried {_times(work.attempts)}, and will be tried again. "
            f"{_said(work.last_error)}"
        )
    elif work.due_at > now:
        sentence, on, acts = f"{words.does}: planned for its time.", On.TIME, ()
    else:
        sentence, on, acts = f"{words.does}: due, and waits for a free worker.", On.WORKER, ()
    return told(
        outcome=Outcome.WAITS,
        sentence=sentence,
        since=work.created_at,
        on=on,
        peer=peer,
        acts=acts,
    )


def whose_move(state: NegotiationState) -> Party | None:
    """The party whose word the negotiation waits for, by the protocol's own table; None where it
    has ended."""
    parties = {
        party
        for (before, party, message) in NEGOTIATION_TABLE
        if before is state and message is not NegotiationMessage.TERMINATE
    }
    return parties.pop() if len(parties) == 1 else None


def explain_negotiation(one: Exchange, works: Sequence[Work], now: float) -> Explanation:
    """Why a negotiation waits, or why it ended."""
    state = NegotiationState(one.state)
    words = wait_words.NEGOTIATION[state]
    if state is NegotiationState.TERMINATED:
        return _ended(one, "negotiation", words.sentence)
    if state is NegotiationState.FINALIZED:
        return _stands(one, "negotiation", words.sentence)
    if one.waiting is not None:
        return _waits(
            one,
            "negotiation",
            f"It waits for a person here: {one.waiting}",
            On.PERSON,
            wait_words.for_person(one.id),
        )
    held_up = _held_up(one, "negotiation", works, now)
    if held_up is not None:
        return held_up
    if whose_move(state) is one.role:
        acts = wait_words.end_negotiation(one.id)
        return _waits(one, "negotiation", words.ours, On.US, acts)
    until = "" if one.deadline_at is None else f" It has until {zulu_at(one.deadline_at)}."
    sentence = words.theirs.format(peer=one.peer) + until
    return _waits(
        one, "negotiation", sentence, On.PEER, wait_words.silent_peer(one.peer, one.id), one.peer
    )


def explain_transfer(one: Exchange, works: Sequence[Work], now: float) -> Explanation:
    """Why a transfer waits, or why it ended."""
    state = TransferState(one.state)
    words = wait_words.TRANSFER[state]
    if state is TransferState.TERMINATED:
        return _ended(one, "transfer", words.sentence)
    if state is TransferState.COMPLETED:
        return _stands(one, "transfer", words.sentence, outcome=Outcome.ENDED)
    held_up = _held_up(one, "transfer", works, now)
    if held_up is not None:
        return held_up
    if state is TransferState.REQUESTED:
        if one.role is Party.PROVIDER:
            return _waits(one, "transfer", words.ours, On.US, ())
        sentence = words.theirs.format(peer=one.peer)
        acts = wait_words.silent_provider(one.peer, one.id)
        return _waits(one, "transfer", sentence, On.PEER, acts, one.peer)
    if state is TransferState.SUSPENDED:
        return _waits(one, "transfer", words.ours, On.PERSON, wait_words.resume(one.id))
    if one.computation:
        acts = wait_words.look_at_computation(one.computation)
        return _waits(one, "transfer", wait_words.IS_COMPUTATION, On.US, acts)
    # STARTED: whoever moves the rows is who fetches or who pushes.
    mover = Party.CONSUMER if one.format == PULL else Party.PROVIDER
    if mover is one.role:
        return _waits(one, "transfer", words.ours, On.US, wait_words.end_transfer(one.id))
    sentence = words.theirs.format(peer=one.peer)
    return _waits(one, "transfer", sentence, On.PEER, wait_words.end_transfer(one.id), one.peer)


def explain_computation(one: Calculation, works: Sequence[Work], now: float) -> Explanation:
    """Why a computation waits, or why it ended."""
    words = wait_words.COMPUTATION[one.status]
    told = partial(Explanation, id=one.id, what="computation", state=one.status)
    if one.status in wait_words.ENDED_COMPUTATION:
        reason = f" {_said(one.reason)}" if one.reason else ""
        return told(
            outcome=Outcome.ENDED,
            sentence=f"{words}{reason}",
            since=one.finished_at or one.created_at,
            on=On.NOBODY,
            acts=wait_words.again(one.status),
            clause=one.clause,
            remedy=one.remedy,
        )
    waits = partial(told, outcome=Outcome.WAITS, acts=wait_words.cancel(one.id))
    if one.status == "RUNNING":
        step = one.step or "preparing"
        on = On.PEER if step.startswith("wait for") else On.WORKER
        sentence = f"{words} Its step: {step}."
        return waits(sentence=sentence, since=one.started_at or 0.0, on=on)
    run = next((work for work in works if work.kind == wait_words.RUN), None)
    if run is not None:
        tried = run.tried(now)
        return waits(sentence=wait_words.QUEUED, since=run.created_at, on=On.WORKER, tried=tried)
    names = ", ".join(one.missing)
    sentence = f"{words} Not yet from {names}." if names else words
    peer = one.missing[0] if one.missing else None
    return waits(sentence=sentence, since=one.created_at, on=On.PEER, peer=peer)


def _held_up(one: Exchange, what: str, works: Sequence[Work], now: float) -> Explanation | None:
    """What a durable process of it says, where one has not done its part; None where all have."""
    waiting = [work for work in works if work.state == "ready" and not _is_only_planned(work, now)]
    if not waiting:
        return None
    first = min(waiting, key=lambda work: work.id)
    told = explain_work(first, now)
    acts = told.acts
    if first.kind == DELIVER:
        acts = (*acts, *wait_words.end(what, one.id))
    return Explanation(
        id=one.id,
        what=what,
        state=one.state,
        outcome=Outcome.WAITS,
        sentence=told.sentence,
        since=told.since,
        on=told.on,
        peer=told.peer,
        tried=told.tried,
        acts=acts,
    )


def _is_only_planned(work: Work, now: float) -> bool:
    """A deadline that waits for its time holds nothing up."""
    return work.attempts == 0 and work.due_at > now


def _waits(
    one: Exchange,
    what: str,
    sentence: str,
    on: On,
    acts: tuple[Act, ...],
    peer: str | None = None,
) -> Explanation:
    return Explanation(
        id=one.id,
        what=what,
        state=one.state,
        outcome=Outcome.WAITS,
        sentence=sentence,
        since=one.updated_at,
        on=on,
        peer=peer,
        acts=acts,
    )


def _ended(one: Exchange, what: str, sentence: str) -> Explanation:
    return Explanation(
        id=one.id,
        what=what,
        state=one.state,
        outcome=Outcome.ENDED,
        sentence=f"{sentence} {_said(one.reason)}".rstrip(),
        since=one.updated_at,
        on=On.NOBODY,
        peer=one.peer,
        clause=one.clause,
        remedy=one.remedy,
    )


def _stands(
    one: Exchange, what: str, sentence: str, *, outcome: Outcome = Outcome.STANDS
) -> Explanation:
    return Explanation(
        id=one.id,
        what=what,
        state=one.state,
        outcome=outcome,
        sentence=sentence,
        since=one.updated_at,
        on=On.NOBODY,
        peer=one.peer,
    )


def _said(text: str | None) -> str:
    """An error or a reason as a sentence of its own."""
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
