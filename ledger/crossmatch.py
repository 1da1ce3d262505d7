"""Do the records of different participants tell the same story?

Every agreement and every order leaves records in more than one log. Each rule here looks at the
records that could be opened and says which of them contradict or miss one another. What two
parties leave out together cannot be seen from their records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from ledger.entry import EntryType
from ledger.facts import Fact
from ledger.report import Finding

# What a provider's record of an order says in `outcome`; the consumer's says ORDER_SENT.
ORDER_RECEIVED, ORDER_SENT = "received", "sent"
# What a party's record of an agreement says in `outcome` once it is over before its time.
AGREEMENT_ENDED = "ended"


@dataclass(frozen=True)
class ReadableLog:
    """A log whose bodies were shown from beginning to end; `erased` of them are gone."""

    origin: str
    erased: int


def match(
    facts: Sequence[Fact], readable: Mapping[str, ReadableLog], settled_before: str | None
) -> list[Finding]:
    """What the records of all logs say against one another.

    A missing record is only held against a log that was read from beginning to end, and only for
    records older than `settled_before` (an RFC 3339 time as records have it; None: all), since
    the other side may be about to write its own.
    """
    homes = _homes(facts, readable)
    findings = list(_agreements(facts, readable, homes, settled_before))
    by_order: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        if fact.order_h is not None:
            by_order[fact.order_h].append(fact)
    for order_h, about in by_order.items():
        findings += _transcripts(order_h, about)
        findings += _permissions(order_h, about, readable)
        findings += _order_records(order_h, about, readable, homes, settled_before)
        findings += _refusals(order_h, about)
    return findings


def _agreements(
    facts: Sequence[Fact],
    readable: Mapping[str, ReadableLog],
    homes: Mapping[str, str],
    settled_before: str | None,
) -> Iterator[Finding]:
    by_agreement: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        if fact.type is EntryType.NEGOTIATED and fact.corr is not None:
            by_agreement[fact.corr].append(fact)
    for corr, sides in by_agreement.items():
        first = sides[0]
        for other in sides[1:]:
            if other.agreement_h != first.agreement_h:
                yield Finding(
                    "agreement-differs",
                    other.origin,
                    other.index,
                    f"Agreement {corr} has two texts: {_where(first)} has hash "
                    f"{first.agreement_h}, {_where(other)} has hash "
                    f"{other.agreement_h}.",
                )
        # One side's record of the end is missed apart from its record of the beginning.
        ends = [fact for fact in sides if fact.outcome == AGREEMENT_ENDED]
        beginnings = [fact for fact in sides if fact.outcome != AGREEMENT_ENDED]
        yield from _one_sided(corr, "concluded", beginnings, readable, homes, settled_before)
        yield from _one_sided(corr, "ended", ends, readable, homes, settled_before)


def _one_sided(
    corr: str,
    what: str,
    told: Sequence[Fact],
    readable: Mapping[str, ReadableLog],
    homes: Mapping[str, str],
    settled_before: str | None,
) -> Iterator[Finding]:
    """What one party records about an agreement and the other, whose log was read, does not."""
    actors = {fact.actor for fact in told}
    for fact in told:
        peer = fact.peer
        home = None if peer is None else homes.get(peer)
        settled = settled_before is None or fact.ts < settled_before
        if home is None or peer in actors or home not in readable or not settled:
            continue
        yield Finding(
            "record-missing",
            home,
            None,
            f"{_where(fact, first=True)} records that {fact.actor} and {peer} {what} "
            f"agreement {corr}, but the log of {peer} has no record of it"
            f"{_erasures(readable[home])}.",
        )


def _transcripts(order_h: str, about: Iterable[Fact]) -> Iterator[Finding]:
    completed = [
        fact for fact in about if fact.type is EntryType.COMPLETED and fact.transcript_h is not None
    ]
    for other in completed[1:]:
        if other.transcript_h != completed[0].transcript_h:
            yield Finding(
                "transcript-differs",
                other.origin,
                other.index,
                f"The participants of order {order_h} saw different computations: "
                f"{_where(completed[0])} has transcript {completed[0].transcript_h}, "
                f"{_where(other)} has transcript {other.transcript_h}.",
            )


def _permissions(
    order_h: str, about: Sequence[Fact], readable: Mapping[str, ReadableLog]
) -> Iterator[Finding]:
    """A log that completed an order it did not place acted as a provider: it needs a permit."""
    # Both sides record an order; the provider's record says that it was received.
    consumers = {
        fact.origin
        for fact in about
        if fact.type is EntryType.ORDERED and fact.outcome != ORDER_RECEIVED
    }
    permits: dict[str, int] = {}
    for fact in about:
        if fact.type is EntryType.DECIDED and fact.decision == "permit":
            permits[fact.origin] = min(fact.index, permits.get(fact.origin, fact.index))
    for fact in about:
        log = readable.get(fact.origin)
        if fact.type is not EntryType.COMPLETED or fact.origin in consumers or log is None:
            continue
        permit = permits.get(fact.origin)
        if permit is None or permit > fact.index:
            yield Finding(
                "completed-without-permit",
                fact.origin,
                fact.index,
                f"{_where(fact, first=True)} records that order {order_h} was completed, but no "
                f"earlier entry of this log records a decision that permits it{_erasures(log)}.",
            )


def _order_records(
    order_h: str,
    about: Sequence[Fact],
    readable: Mapping[str, ReadableLog],
    homes: Mapping[str, str],
    settled_before: str | None,
) -> Iterator[Finding]:
    """What one side's record of an order implies in the other side's log.

    Who completed an order with a provider needs that provider's decision; who decided about an
    order needs the consumer's record of having sent it.
    """
    decided = {fact.actor for fact in about if fact.type is EntryType.DECIDED}
    sent = {
        fact.actor
        for fact in about
        if fact.type is EntryType.ORDERED and fact.outcome != ORDER_RECEIVED
    }
    for fact in about:
        settled = settled_before is None or fact.ts < settled_before
        home = homes.get(fact.peer or "")
        if fact.peer is None or home is None or home not in readable or not settled:
            continue
        if fact.type is EntryType.COMPLETED and fact.actor in sent and fact.peer not in decided:
            missing = "has no record of having decided about it"
        elif fact.type is EntryType.DECIDED and fact.peer not in sent:
            missing = "has no record of having sent it"
        else:
            continue
        did = "completed" if fact.type is EntryType.COMPLETED else "decided about"
        yield Finding(
            "record-missing",
            home,
            None,
            f"{_where(fact, first=True)} records that {fact.actor} {did} order {order_h} of or "
            f"with {fact.peer}, but the log of {fact.peer} {missing}{_erasures(readable[home])}.",
        )


def _refusals(order_h: str, about: Sequence[Fact]) -> Iterator[Finding]:
    refused = next((fact for fact in about if fact.type is EntryType.REFUSED), None)
    if refused is None:
        return
    for fact in about:
        if fact.type is EntryType.COMPLETED:
            yield Finding(
                "refused-but-completed",
                fact.origin,
                fact.index,
                f"Order {order_h} was refused according to {_where(refused)}, yet {_where(fact)} "
                "records that it was completed.",
            )


def _homes(facts: Iterable[Fact], readable: Mapping[str, ReadableLog]) -> dict[str, str]:
    """Which log belongs to which participant.

    A did:web names the host, and a log's origin is an address there; that also finds the log of a
    participant who left out every record. Others are known by the records they have written.
    """
    homes: dict[str, str] = {}
    named: set[str] = set()
    for fact in facts:
        homes.setdefault(fact.actor, fact.origin)
        named |= {fact.actor, *([fact.peer] if fact.peer else [])}
    for participant in named:
        if participant.startswith("did:web:"):
            address = "/".join(map(unquote, participant.removeprefix("did:web:").split(":")))
            own = [o for o in readable if o == address or o == f"{address}/tlog"]
            if own:
                homes[participant] = own[0]
    return homes


def _where(fact: Fact, *, first: bool = False) -> str:
    """The place of a record; `first` when it begins a sentence."""
    return f"{'Entry' if first else 'entry'} {fact.index} of {fact.origin}"


def _erasures(log: ReadableLog) -> str:
    if log.erased == 0:
        return ""
    return f" (unless it is among the {log.erased} erased entries of that log)"
