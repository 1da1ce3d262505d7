"""One space of real processes for all whole-node tests: operator, three providers, consumer."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from dataspace.client import ENDED, Client
from dataspace.demo.space import LocalSpace, RunningNode
from dataspace.home import Home
from dataspace.identity.did import did_of_key
from dataspace.identity.keys import SigningKey
from dataspace.identity.tokens import Identity, issue_token
from dataspace.settings import ParticipantKind
from privacy.kinds import KINDS
from tests.servers_databases import postgresql

if TYPE_CHECKING:
    from .replicated_town import Town

ROOT = Path(__file__).resolve().parents[2]
PURPOSE = "public-health-research"
RESIDENT_ID = {"name": "resident_id", "role": "identifier", "canonicaliser": "resident-id/1"}
DISTRICT = {"name": "district", "role": "group"}


@dataclass
class City:
    """The running space with its data, offers and one agreement for each dataset."""

    space: LocalSpace
    data: Path
    regulator: Home
    agreements: dict[str, str] = field(default_factory=dict)

    def node(self, name: str) -> RunningNode:
        return self.space.nodes[name]

    @property
    def consumer(self) -> Client:
        return self.node("institute").client

    def ended_at(self, name: str, computation: str) -> dict[str, Any]:
        """A computation as a participant has it once its own part has ended: the consumer may have
        the result before the others have its signature."""
        return self.node(name).client.poll(
            f"/api/computations/{computation}", lambda one: one["status"] in ENDED, 60.0
        )

    def compute(self, kind: str, datasets: list[str], **options: Any) -> Any:
        asked = {"purpose": PURPOSE, "timeout_s": 120.0, **options}
        return self.consumer.compute(kind, [self.agreements[name] for name in datasets], **asked)


def terms(**changes: Any) -> dict[str, Any]:
    return {
        "computations": list(KINDS),
        "purposes": [PURPOSE],
        "min_cohort": 5,
        "not_after": (datetime.now(UTC) + timedelta(days=30)).isoformat(timespec="seconds"),
        **changes,
    }


def publish_city(city: City) -> None:
    data = city.data
    consents = f"consents={data / 'consents.jsonl'}&subject=resident_id"
    for node, dataset, source, value in (
        ("civil-affairs", "residents", str(data / "residents.csv"), "subsidy_cents"),
        ("insurer", "contracts", str(data / "contracts.csv"), "amount_cents"),
        (
            "health-trust",
            "health",
            f"personal+file:{data / 'health.csv'}?{consents}",
            "cost_cents",
        ),
    ):
        columns = [RESIDENT_ID, {"name": value, "role": "value"}, DISTRICT]
        city.node(node).client.publish(dataset, source, columns, terms=terms())
        url = city.node(node).url
        city.agreements[dataset] = city.consumer.negotiate(url, dataset)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two workers: one runs everything that shares the city, the other the demos and the tour."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            shares = "city" in getattr(item, "fixturenames", ())
            item.add_marker(pytest.mark.xdist_group("city" if shares else "demo"))


@pytest.fixture(scope="session")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    directory = tmp_path_factory.mktemp("space")
    data = directory / "data"
    script = ROOT / "examples" / "quickstart" / "residents.py"
    subprocess.run(
        [sys.executable, str(script), "--out", str(data), "--seed", "11", "--people", "900"],
        check=True,
        capture_output=True,
    )
    with LocalSpace(directory, settings={"post_quantum": True}) as space:
        space.found(
            {
                "civil-affairs": ParticipantKind.GOVERNMENT,
                "insurer": ParticipantKind.ENTERPRISE,
                "health-trust": ParticipantKind.PERSONAL,
                "institute": ParticipantKind.CONSUMER,
            }
        )
        built = City(space, data, space.add_regulator("regulator"))
        publish_city(built)
        yield built


@pytest.fixture(scope="session")
def replicated_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Town"]:
    from .replicated_town import Town

    with ExitStack() as stack:
        server = stack.enter_context(postgresql())
        yield Town(tmp_path_factory.mktemp("town"), server, stack)


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(trust_env=False, timeout=30.0) as client:
        yield client


@pytest.fixture
def token_from(city: City) -> Callable[..., str]:
    """Tokens as the institute's node would make them, for any audience and any moment."""
    node = city.node("institute")
    identity = Identity.of(node.did, node.home.signing_key())
    sqlite = node.home.path / "node.sqlite"
    membership = _membership(sqlite)

    def make(audience: str, *, now: int | None = None, member: bool = True) -> str:
        return issue_token(
            identity,
            audience=audience,
            now=int(time.time()) if now is None else now,
            membership=membership if member else None,
        )

    return make


@pytest.fixture
def stranger() -> Identity:
    """An identity nobody invited."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    return Identity.of(did_of_key(SigningKey.of(key).jwk), key)


def _membership(database: Path) -> str:
    import sqlite3

    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        found = connection.execute("SELECT value FROM setting WHERE name = 'membership'")
        return str(found.fetchone()[0])
