"""A space of real nodes with data, agreements and two consumers, to be put under load."""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

import httpx2
from sqlalchemy import Engine, text

from dataspace.demo.space import LocalSpace, RunningNode
from dataspace.settings import ParticipantKind
from tests.faults import city
from tests.faults.picture import engine_of
from tests.faults.plan import PROVIDERS
from tests.faults.space import KINDS
from tests.faults.worlds import DatabaseServer, database_server
from tests.load.plan import CONSUMERS, NODES

# As a node has it when nobody sets it; the demonstration's space is more impatient.
ANCHOR_INTERVAL_S = 2.0
WORKER_PROCESSES = 1
# Besides those of `city.OFFERS`, so that catalogues have some length.
MORE_DATASETS = 12
# A computation of them takes a processor the better part of a second.
LARGE, LARGE_PEOPLE = "large", 3000
FLOODED, FLOODER = PROVIDERS[0], CONSUMERS[0]
CRAWL_INTERVAL_S = 30.0
SEARCHABLE_S = 60.0


class LoadedSpace:
    """Nodes, data and standing agreements; `with` starts and stops everything."""

    def __init__(self, directory: Path, *, seed: int, database: str) -> None:
        self.directory = directory
        self.data = city.make(directory / "data", seed)
        # Somebody's large set, which one provider has rows about.
        self.large = city.make(directory / "large", seed + 1, people=LARGE_PEOPLE)
        self._stack = ExitStack()
        self._database = database
        self._urls: dict[str, str] = {}
        self._http = self._stack.enter_context(httpx2.Client(trust_env=False, timeout=60.0))
        # (consumer, provider, dataset) -> agreement.
        self.agreements: dict[tuple[str, str, str], str] = {}

    def __enter__(self) -> Self:
        self._stack.__enter__()
        try:
            own: dict[str, dict[str, Any]] = {name: {} for name in NODES}
            if self._database == "postgresql":
                server: DatabaseServer = self._stack.enter_context(database_server())
                for name in NODES:
                    self._urls[name] = own[name]["database"] = server.new_database(name)
            settings = {
                "anchor_interval_s": ANCHOR_INTERVAL_S,
                "worker_processes": WORKER_PROCESSES,
                "crawl_interval_s": CRAWL_INTERVAL_S,
            }
            self.space = self._stack.enter_context(
                LocalSpace(self.directory, settings=settings, settings_of=own)
            )
            kinds = {name: KINDS[name] for name in PROVIDERS}
            self.space.found(kinds | dict.fromkeys(CONSUMERS, ParticipantKind.CONSUMER))
            self._publish()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __getitem__(self, name: str) -> RunningNode:
        return self.space.nodes[name]

    def database(self, name: str) -> Engine:
        """A node's database, to look into."""
        path = self[name].home.path / "node.sqlite"
        return engine_of(self._urls.get(name, f"sqlite:///{path}"))

    def _publish(self) -> None:
        city.write_consents(self.data, *(self[name].did for name in CONSUMERS))
        for provider in PROVIDERS:
            for body in city.publications(self.data, provider):
                self[provider].client.call("POST", "/api/datasets", body)
            released = str(self.data.file("released"))
            for number in range(MORE_DATASETS):
                terms = city.policy(city.KINDS_ALLOWED)
                body = city.publication(f"table-{number}", released, terms)
                self[provider].client.call("POST", "/api/datasets", body)
            for consumer in CONSUMERS:
                for dataset in ("people", "rows"):
                    made = self[consumer].client.negotiate(self[provider].url, dataset)
                    self.agreements[consumer, provider, dataset] = made
        large = city.publication(LARGE, str(self.large.file(FLOODED)), city.OFFERS["people"][0])
        self[FLOODED].client.call("POST", "/api/datasets", large)
        made = self[FLOODER].client.negotiate(self[FLOODED].url, LARGE)
        self.agreements[FLOODER, FLOODED, LARGE] = made
        for consumer in CONSUMERS:
            self[consumer].client.call("POST", "/api/federation/refreshes")
        until = time.monotonic() + SEARCHABLE_S
        while any(self[name].client.search(limit=1)["total"] == 0 for name in CONSUMERS):
            if time.monotonic() > until:
                raise TimeoutError("the catalogues were not read in time")
            time.sleep(0.2)

    def metrics(self, name: str) -> str:
        """What a node tells a scraper."""
        home = self[name].home
        key = {"authorization": f"Bearer {home.api_key()}"}
        answer = self._http.get(f"{home.url}/metrics", headers=key)
        answer.raise_for_status()
        return answer.text

    # ---- sizes ------------------------------------------------------------------------------

    def database_bytes(self, name: str) -> int:
        """What a node's database holds: its pages, whether they are still in the log or not."""
        if name in self._urls:
            with self.database(name).connect() as connection:
                found = connection.execute(text("SELECT pg_database_size(current_database())"))
                return int(found.scalar() or 0)
        path = self[name].home.path / "node.sqlite"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (size,) = connection.execute("PRAGMA page_size").fetchone()
        return int(pages * size)

    def wal_bytes(self, name: str) -> int:
        """How long SQLite's write-ahead log is at this moment; 0 on PostgreSQL."""
        path = self[name].home.path / "node.sqlite-wal"
        return path.stat().st_size if path.exists() else 0
