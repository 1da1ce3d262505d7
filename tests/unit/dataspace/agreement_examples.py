"""Agreements of a provider's node, for tests about how they stand, end and are proved."""

import itertools
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contracts.odrl import Agreement
from dataspace.home import create_home
from dataspace.node import Node
from dataspace.store.tables import AgreementRow

NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)
OWN, PEER = "did:web:127.0.0.1%3A8001", "did:web:127.0.0.1%3A8009"
numbers = itertools.count(1)

Clauses = list[dict[str, Any]]


def clause(left: str, operator: str, right: str) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


def until(moment: datetime, operator: str = "lteq") -> dict[str, Any]:
    return clause("dateTime", operator, moment.isoformat())


ONCE = clause("count", "lteq", "1")
COHORT = clause("ds:minCohort", "gteq", "20")


def row(*permissions: Clauses, **changes: Any) -> AgreementRow:
    """An agreement about `residents` that this node, if it is the one of the fixture, provides."""
    provider = changes.pop("provider", OWN)
    consumer = changes.pop("consumer", PEER)
    agreement = Agreement.model_validate(
        {
            "@id": f"urn:uuid:{next(numbers)}",
            "@type": "Agreement",
            "target": "residents",
            "assigner": provider,
            "assignee": consumer,
            "timestamp": "2026-11-25T08:00:00Z",
            "permission": [
                {"action": "use", "constraint": each} for each in permissions or [[COHORT]]
            ],
        }
    )
    fields: dict[str, Any] = {
        "id": agreement.id,
        "role": "PROVIDER",
        "provider": provider,
        "consumer": consumer,
        "dataset": "residents",
        "document": agreement.to_json(),
        "document_h": "a" * 64,
        "negotiation": f"urn:uuid:negotiation-{agreement.id}",
        "finalized_at": time.time(),
    }
    return AgreementRow(**(fields | changes))


def bureau(home: Path) -> Node:
    """The node whose agreements these are; it is not started."""
    values = {
        "name": "Bureau",
        "kind": "government",
        "url": "http://127.0.0.1:8001",
        "operator": "http://127.0.0.1:8000",
    }
    return Node(create_home(home, values))
