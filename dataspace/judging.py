"""The auditor's judge: asks every agreement again about every use that was decided under it.

It needs the agreement's text, the signed order, and the facts in the decision's own entry, and it
must come to the decision that was recorded. Earlier permits are counted from the log itself, so a
provider that let a budget be overspent is found although it kept no count. A privacy budget is
spent under all agreements about a dataset together, so each entry says what was spent before; from
one to the next that must have grown by what was permitted, or it is found to be understated.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

from contracts.errors import ContractError
from contracts.evaluation import Facts, Request, decide
from contracts.odrl import Agreement
from contracts.order import ComputationOrder, order_hash, read_unverified_order
from contracts.planning import approvers_required, required_release
from contracts.transfer_strategy import RAW_FORMATS
from contracts.wire import read_model
from dataspace.computing.permission import request_of
from dataspace.protocol.leaving import request_for_rows
from dataspace.sight import version_in
from dataspace.zones.recipients import zones_told
from ledger.audit import Fact, Finding, LogReader
from ledger.crossmatch import AGREEMENT_ENDED
from ledger.entry import Entry, EntryType, open_entry
from ledger.errors import LedgerError


@runtime_checkable
class OrderReader(Protocol):
    """A log reader that also shows the text of orders."""

    def order(self, order_h: str) -> str | None:
        """The signed order whose SHA-256 this is, or None."""


class AgreementJudge:
    """A `ledger.audit.Judge` over these readers."""

    def __init__(self, readers: Mapping[str, LogReader]) -> None:
        self._readers = readers
        self._accounts: dict[tuple[str, str, str], list[_Spending]] = defaultdict(list)

    def __call__(
        self, agreement_h: str, document: Mapping[str, Any], facts: Sequence[Fact]
    ) -> Iterable[Finding]:
        """Findings about the uses of one agreement, whose text is `document`."""
        try:
            agreement = read_model(Agreement, document)
        except ContractError:
            yield from self._unreadable(agreement_h, facts)
            return
        permits: dict[str, int] = defaultdict(int)
        ends = _ends(facts)
        for fact in facts:
            if fact.type is not EntryType.DECIDED:
                continue
            yield from self._judge(agreement, fact, permits[fact.origin])
            yield from _after_end(fact, ends.get(fact.origin))
            if fact.decision == "permit":
                permits[fact.origin] += 1

    def _judge(self, agreement: Agreement, fact: Fact, earlier: int) -> Iterator[Finding]:
        reader = self._readers.get(fact.origin)
        entry = _entry(reader, fact)
        request = _request(reader, fact)
        if entry is None or request is None:
            sentence = (
                f"Log {fact.origin}: the decision in entry {fact.index} cannot be replayed, "
                "because its order or its own record is not shown."
            )
            yield Finding("decision-not-replayable", fact.origin, fact.index, sentence)
            return
        # An ended agreement, a mismatch of columns or a membership that was revoked is refused
        # before the policy is asked.
        before = fact.clause is not None and fact.clause.startswith(
            ("order.", "agreement.", "membership.")
        )
        if before and fact.decision != "permit":
            return
        if request.epsilon is not None:
            yield from self._understated(agreement, fact, entry, request)
        facts = _facts(entry, earlier, _release(agreement, fact))
        # As many people as the terms demand, or there were no agreement.
        facts = replace(facts, approvers=approvers_required(agreement))
        decision = decide(agreement, request, facts)
        if decision.allowed == (fact.decision == "permit"):
            return
        verdict = "permits it" if decision.allowed else f"refuses it: {decision.reason}"
        sentence = (
            f"Log {fact.origin}: entry {fact.index} records the decision {fact.decision} about a "
            f"use, but the agreement {verdict}"
        )
        code = "decision-differs" if decision.allowed else "use-not-allowed"
        yield Finding(code, fact.origin, fact.index, sentence)

    def _understated(
        self, agreement: Agreement, fact: Fact, entry: Entry, request: Request
    ) -> Iterator[Finding]:
        """The entry against its neighbours among those about the same budget, under whichever
        agreement; agreements come in any order, so each entry is held against both sides."""
        permitted = request.epsilon if fact.decision == "permit" else None
        mine = _Spending(fact.index, _spent_before(entry), permitted or Decimal(0))
        account = self._accounts[fact.origin, agreement.target or "", request.assignee]
        place = bisect_left(account, mine.index, key=lambda each: each.index)
        account.insert(place, mine)
        for earlier, later in pairwise(account[max(0, place - 1) : place + 2]):
            if later.before < earlier.before + earlier.permitted:
                sentence = (
                    f"Log {fact.origin}: entry {later.index} takes less of the privacy budget to "
                    f"be spent than entry {earlier.index} of the same log leaves."
                )
                yield Finding("budget-understated", fact.origin, later.index, sentence)

    def _unreadable(self, agreement_h: str, facts: Sequence[Fact]) -> Iterator[Finding]:
        first = facts[0]
        sentence = f"Log {first.origin}: the text of agreement {agreement_h} is no agreement."
        yield Finding("agreement-unreadable", first.origin, first.index, sentence)


@dataclass(frozen=True)
class _Spending:
    """One decision about a budget: what was spent before it, and what it permitted to spend."""

    index: int
    before: Decimal
    permitted: Decimal


def _spent_before(entry: Entry) -> Decimal:
    """What the entry says was spent before. Nothing said is nothing spent."""
    # The shortest text of a float is the decimal that was written: budgets have 6 decimals and
    # stay far below a thousand million.
    return Decimal(repr(entry.privacy_spend or 0.0))


def _ends(facts: Sequence[Fact]) -> dict[str, int]:
    """Where each log that says so first says that the agreement was ended."""
    ends: dict[str, int] = {}
    for fact in facts:
        if fact.type is EntryType.NEGOTIATED and fact.outcome == AGREEMENT_ENDED:
            ends[fact.origin] = min(fact.index, ends.get(fact.origin, fact.index))
    return ends


def _after_end(fact: Fact, end: int | None) -> Iterator[Finding]:
    """A decision against what its own log says of the agreement's end (at index `end`)."""
    over = end is not None and end < fact.index
    if over and fact.decision == "permit":
        sentence = (
            f"Log {fact.origin}: entry {fact.index} permits a use, but entry {end} of the same log "
            "says that the agreement was ended."
        )
        yield Finding("use-after-end", fact.origin, fact.index, sentence)
    if not over and fact.decision != "permit" and (fact.clause or "").startswith("agreement."):
        sentence = (
            f"Log {fact.origin}: entry {fact.index} refuses a use because the agreement was ended, "
            "but no earlier entry of the same log says so."
        )
        yield Finding("decision-differs", fact.origin, fact.index, sentence)


def _entry(reader: LogReader | None, fact: Fact) -> Entry | None:
    if reader is None:
        return None
    try:
        shown = reader.entries(fact.index, fact.index + 1)
        sealed = shown[0] if shown else None
        if sealed is None:
            return None
        return open_entry(sealed.body, sealed.salt, sealed.commitment)
    except LedgerError:
        return None


def _request(reader: object, fact: Fact) -> Request | None:
    """What was asked: by the signed order, or for rows that left by the record itself."""
    if fact.order_h is None and fact.kind in RAW_FORMATS and fact.peer is not None:
        return request_for_rows(fact.peer, fact.kind, fact.purpose)
    order = _order(reader, fact)
    return None if order is None else request_of(order)


def _order(reader: object, fact: Fact) -> ComputationOrder | None:
    if not isinstance(reader, OrderReader) or fact.order_h is None:
        return None
    text = reader.order(fact.order_h)
    if text is None or order_hash(text) != fact.order_h:
        return None
    try:
        return read_unverified_order(text)
    except ContractError:
        return None


def _release(agreement: Agreement, fact: Fact) -> tuple[str, ...] | None:
    """By which rules the rows were to be treated; None where no rows leave.

    No entry says it, because the agreement does: a provider applies what the terms demand, or gives
    no row, so that whoever holds the text derives the same rules. An entry could only repeat them;
    whether they were kept to is seen in the rows, by the consumer that has them.
    """
    if fact.order_h is not None or fact.kind not in RAW_FORMATS:
        return None
    return required_release(agreement, fact.kind)


def _facts(entry: Entry, earlier: int, release: tuple[str, ...] | None) -> Facts:
    return Facts(
        now=datetime.fromisoformat(entry.ts),
        use_count=earlier,
        recipient_role=entry.recipients[0] if entry.recipients else None,
        recipient_zones=zones_told(entry.recipients),
        approved=True,
        grade=entry.categories[0] if entry.categories else None,
        consent=True if entry.legal_basis == "consent" else None,
        epsilon_spent=_spent_before(entry),
        release=release,
        content_version=version_in(entry.inputs_c),
    )
