"""The data of the space, small and seeded, and the plain truth about it."""

from __future__ import annotations

import csv
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.faults.plan import PROVIDERS

PURPOSE = "public-health-research"
PROFILE = "https://w3id.org/city-dataspace/ns/v1"
MIN_COHORT = 5
# No word of the software begins like this, so that a person in a log is found.
PERSON = "zqperson"
GROUPS = ("north", "south", "west")
PULL, PUSH = "HttpData-PULL", "HttpData-PUSH"
COMPUTED = ("psi/2", "private-sum/2", "aggregate/2", "psi-multi/1")
IDENTIFIER = {"name": "person", "role": "identifier", "canonicaliser": "text/1"}
VALUE = {"name": "amount", "role": "value"}
GROUP = {"name": "district", "role": "group"}


@dataclass(frozen=True)
class Truth:
    """What honest computations must give, by kind (with the provider where it takes one)."""

    intersection: dict[str, list[str]]
    many: dict[tuple[str, str], list[str]]
    sums: dict[tuple[str, str], dict[str, Any]]
    totals: dict[tuple[str, str], dict[str, tuple[int, int]]]
    rows_sha256: str


@dataclass(frozen=True)
class Data:
    """The files, and what is true of them."""

    directory: Path
    tables: dict[str, list[tuple[str, int, str]]]
    own: list[str]

    def file(self, name: str) -> Path:
        return self.directory / f"{name}.csv"

    @property
    def consents(self) -> Path:
        return self.directory / "consents.jsonl"

    def truth(self) -> Truth:
        people = {name: {row[0] for row in rows} for name, rows in self.tables.items()}
        own = set(self.own)
        pairs = [(a, b) for a in PROVIDERS for b in PROVIDERS if a != b]
        return Truth(
            intersection={name: sorted(own & people[name]) for name in PROVIDERS},
            many={(a, b): sorted(own & people[a] & people[b]) for a, b in pairs},
            sums={(a, b): _joined(people[a], self.tables[b]) for a, b in pairs},
            totals={(a, b): _totals((self.tables[a], self.tables[b])) for a, b in pairs},
            rows_sha256=sha256(self.released().encode()).hexdigest(),
        )

    def released(self) -> str:
        """The rows that leave, as the data plane writes them."""
        lines = ['"person","amount"', *(f'"{p}","{a}"' for p, a, _ in self.tables["released"])]
        return "\n".join(lines) + "\n"


def make(directory: Path, seed: int, people: int = 300) -> Data:
    """Write the files. Identifiers look like nothing else."""
    rng = random.Random(f"city {seed}")
    directory.mkdir(parents=True, exist_ok=True)
    everybody = [f"{PERSON}{rng.randrange(10**9):09d}" for _ in range(people)]

    def table(share: float) -> list[tuple[str, int, str]]:
        chosen = rng.sample(everybody, int(len(everybody) * share))
        return [(one, rng.randrange(1, 10_000), rng.choice(GROUPS)) for one in chosen]

    tables = {name: table(0.6) for name in PROVIDERS} | {"released": table(0.2)}
    data = Data(directory, tables, rng.sample(everybody, people // 2))
    for name, rows in tables.items():
        _write(data.file(name), ("person", "amount", "district"), rows)
    _write(data.file("own"), ("person",), [(one,) for one in data.own])
    return data


def write_consents(data: Data, *recipients: str) -> None:
    """Everybody in the trust's records allows every column to these consumers."""
    now = datetime.now(UTC)
    with data.consents.open("w", encoding="utf-8") as target:
        for number, (person, _, _) in enumerate(data.tables["health-trust"]):
            receipt = {
                "receipt_id": f"given-{number}",
                "given_at": (now - timedelta(days=2)).isoformat(),
                "subject": person,
                "columns": ["person", "amount", "district"],
                "purposes": [PURPOSE],
                "recipients": list(recipients),
                "expires_at": (now + timedelta(days=90)).isoformat(),
            }
            target.write(json.dumps(receipt) + "\n")
    data.consents.chmod(0o600)


def clause(left: str, operator: str, right: Any) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


def policy(*clauses: dict[str, Any]) -> dict[str, Any]:
    return {"profile": PROFILE, "permission": [{"action": "use", "constraint": list(clauses)}]}


def cohort(least: int) -> dict[str, Any]:
    return clause("ds:minCohort", "gteq", str(least))


KINDS_ALLOWED = clause("ds:computation", "isAnyOf", list(COMPUTED))
FOR_RESEARCH = clause("purpose", "eq", PURPOSE)
APPROVAL = clause("ds:approval", "eq", "required")
ROWS = clause("ds:computation", "isAnyOf", [PULL, PUSH])
FOR_GOVERNMENT = clause("ds:recipientRole", "isAnyOf", ["government"])
# What every provider offers: by name, under which policy, and whether its rows leave.
OFFERS: dict[str, tuple[dict[str, Any], bool]] = {
    "people": (policy(KINDS_ALLOWED, FOR_RESEARCH, cohort(MIN_COHORT)), False),
    "open": (policy(KINDS_ALLOWED, cohort(MIN_COHORT)), False),
    "strict": (policy(KINDS_ALLOWED, cohort(20)), False),
    "asks": (policy(KINDS_ALLOWED, cohort(MIN_COHORT), APPROVAL), False),
    "closed": (policy(KINDS_ALLOWED, FOR_GOVERNMENT), False),
    "rows": (policy(ROWS, FOR_RESEARCH), True),
}
LOOSER = policy(KINDS_ALLOWED, cohort(MIN_COHORT))


def publications(data: Data, provider: str) -> Iterable[dict[str, Any]]:
    """The bodies that publish what a provider offers."""
    for name, (terms, leaves) in OFFERS.items():
        source = str(data.file("released" if leaves else provider))
        if provider == "health-trust" and not leaves:
            options = f"consents={data.consents}&subject=person&canonicaliser=text/1"
            source = f"personal+file:{source}?{options}"
        yield publication(name, source, terms, leaves=leaves)


def publication(
    name: str, source: str, terms: dict[str, Any], *, leaves: bool = False
) -> dict[str, Any]:
    return {
        "id": name,
        "title": name,
        "source": source,
        "columns": [IDENTIFIER, VALUE] if leaves else [IDENTIFIER, VALUE, GROUP],
        "formats": [PULL, PUSH] if leaves else [],
        "policy": terms,
        "confirmed": True,
        "legal_basis": "contract",
    }


def other(provider: str) -> str:
    """The provider that takes part besides this one, where two do."""
    return PROVIDERS[(PROVIDERS.index(provider) + 1) % len(PROVIDERS)]


def cells(value: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """The (count, sum) of every group of an aggregate/2's result."""
    return {
        one["group"][0] if isinstance(one["group"], list) else one["group"]: (
            int(one["count"]),
            int(one["sum"]),
        )
        for one in value["cells"]
    }


def _joined(left: set[str], right: Sequence[tuple[str, int, str]]) -> dict[str, Any]:
    shared = [amount for person, amount, _ in right if person in left]
    return {"count": len(shared), "sum": str(sum(shared))}


def _totals(parts: Sequence[list[tuple[str, int, str]]]) -> dict[str, tuple[int, int]]:
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for rows in parts:
        for _, amount, group in rows:
            found[group][0] += 1
            found[group][1] += amount
    return {group: (count, total) for group, (count, total) in found.items()}


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(header)
        writer.writerows(rows)
