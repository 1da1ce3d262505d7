"""What the clients ask for, drawn from a seed: the same seed gives every client the same work."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tests.faults.plan import OPERATOR, PROVIDERS

CONSUMERS = ("institute", "clinic")
NODES = (OPERATOR, *PROVIDERS, *CONSUMERS)
TRUST = "health-trust"


class Work(StrEnum):
    """One sort of thing a client asks for, from its first request to its last answer."""

    NEGOTIATION = "negotiation"
    CATALOGUE = "catalogue"
    SEARCH = "search"
    STATUS = "status"
    LISTS = "lists"
    PULL = "rows pulled"
    INTERSECTION = "psi/2"
    TOTALS = "aggregate/2"
    SUM = "private-sum/2"
    CONSENT = "consent"
    EVIDENCE = "evidence"
    PROOF = "proof"
    TILES = "tiles"


# How often each comes: people look more often than they agree, and agree more often than they
# compute.
MIX: dict[Work, int] = {
    Work.NEGOTIATION: 12,
    Work.CATALOGUE: 12,
    Work.SEARCH: 12,
    Work.STATUS: 14,
    Work.LISTS: 2,
    Work.PULL: 6,
    Work.INTERSECTION: 3,
    Work.TOTALS: 2,
    Work.SUM: 2,
    Work.CONSENT: 5,
    Work.EVIDENCE: 10,
    Work.PROOF: 10,
    Work.TILES: 10,
}


@dataclass(frozen=True)
class Asked:
    """One piece of work: by which consumer, of which provider, and a number to vary it by."""

    work: Work
    consumer: str
    provider: str
    number: int


def plan(seed: int, client: int) -> Iterator[Asked]:
    """What one client does, without an end. Clients serve the consumers in turn."""
    rng = random.Random(f"load {seed} {client}")
    works, weights = list(MIX), list(MIX.values())
    consumer = CONSUMERS[client % len(CONSUMERS)]
    number = 0
    while True:
        number += 1
        (work,) = rng.choices(works, weights)
        yield Asked(work, consumer, rng.choice(PROVIDERS), client * 10**6 + number)
