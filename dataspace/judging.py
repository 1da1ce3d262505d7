"""The auditor's judge: asks every agreement again about every use that was decided under it.

It needs the agreement's text, the signed order, and the facts in the decision's own entry, and it
must come to the decision that was recorded. Earlier permits are counted from the log itself, so a
provider that let a budget be overspent is found although it kept no count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from contracts.errors import ContractError
from contracts.evaluation import Facts
from contracts.odrl import Agreement
from contracts.order import ComputationOrder, order_hash, read_unverified_order
from contracts.wire import read_model
from dataspace.computing.permission import ask
from ledger.audit import Fact, Finding, LogReader
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
        for fact in facts:
            if fact.type is not EntryType.DECIDED:
                continue
            yield from self._judge(agreement, fact, permits[fact.origin])
            if fact.decision == "permit":
                permits[fact.origin] += 1

    def _judge(self, agreement: Agreement, fact: Fact, earlier: int) -> Iterator[Finding]:
        reader = self._readers.get(fact.origin)
        entry = _entry(reader, fact)
        order = _order(reader, fact)
        if entry is None or order is None:
            sentence = (
                f"Log {fact.origin}: the decision in entry {fact.index} cannot be replayed, "
                "because its order or its own record is not shown."
            )
            yield Finding("decision-not-replayable", fact.origin, fact.index, sentence)
            return
        # A mismatch of columns was decided before the policy was asked.
        if fact.clause and fact.clause.startswith("order."):
            return
        decision = ask(agreement, order, _facts(entry, earlier))
        if decision.allowed == (fact.decision == "permit"):
            return
        verdict = "permits it" if decision.allowed else f"refuses it: {decision.reason}"
        sentence = (
            f"Log {fact.origin}: entry {fact.index} records the decision {fact.decision} about a "
            f"use, but the agreement {verdict}"
        )
        code = "decision-differs" if decision.allowed else "use-not-allowed"
        yield Finding(code, fact.origin, fact.index, sentence)

    def _unreadable(self, agreement_h: str, facts: Sequence[Fact]) -> Iterator[Finding]:
        first = facts[0]
        sentence = f"Log {first.origin}: the text of agreement {agreement_h} is no agreement."
        yield Finding("agreement-unreadable", first.origin, first.index, sentence)


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


def _facts(entry: Entry, earlier: int) -> Facts:
    return Facts(
        now=datetime.fromisoformat(entry.ts),
        use_count=earlier,
        recipient_role=entry.recipients[0] if entry.recipients else None,
        grade=entry.categories[0] if entry.categories else None,
        consent=True if entry.legal_basis == "consent" else None,
    )
