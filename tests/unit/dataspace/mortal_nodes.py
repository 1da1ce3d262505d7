"""Two nodes in one process of which one dies at a commit of the test's choice, and comes back.

A node that has died does nothing any more: its next transaction, in whichever thread, raises what
no handler catches, and its peer cannot reach it. What it had committed is in its database, and the
node made anew over the same home has nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from sqlmodel import Session, select

from contracts.odrl import Offer
from dataspace.errors import Unavailable
from dataspace.home import Home, create_home
from dataspace.identity.did import Resolver
from dataspace.node import Node
from dataspace.peers import Visitor
from dataspace.protocol import Behaviour
from dataspace.settings import ParticipantKind
from dataspace.store.engine import Store
from dataspace.store.tables import DatasetRow, NegotiationRow, ProcessRow
from dataspace.web.app import create_app

from .transfer_nodes import CONSUMER_URL, DATASET, NAME, PROVIDER_URL, Neighbours

# A party that meets an ended computation waits half a minute to hear why it ended.
PATIENCE_S = 60.0


class Dead(BaseException):
    """What ends the threads of a node that has died."""


class Moment(Enum):
    """Where at a commit a node dies: all of it is kept, or nothing."""

    BEFORE = "before"
    AFTER = "after"


class MortalStore(Store):
    """A store whose process ends at the commit that `dies_at` counts down to."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.commits = 0
        self.dies_at: tuple[int, Moment] | None = None
        self.dead = threading.Event()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        if self.dead.is_set():
            raise Dead
        moment = None
        with super().transaction() as tx:
            yield tx
            if self.dead.is_set():
                raise Dead
            self.commits += 1
            if self.dies_at is not None and self.commits == self.dies_at[0]:
                moment = self.dies_at[1]
            if moment is Moment.BEFORE:
                self.dead.set()
                raise Dead
        if moment is Moment.AFTER:
            self.dead.set()
            raise Dead


class Townsfolk(Neighbours):
    """Peers whose DID documents are read from their applications, and who die with their node."""

    def recognise(self, authorization: str | None) -> Visitor:
        visitor = super().recognise(authorization)
        # Whoever was authenticated by a real token is known.
        self.resolver.keys(visitor.member.did)
        # Each side gives and takes, which not every kind of participant may.
        return replace(visitor, member=replace(visitor.member, kind=ParticipantKind.ENTERPRISE))

    def send(self, method: str, url: str, *, to: str, **sent: Any) -> Any:
        if self._store.dead.is_set():  # type: ignore[attr-defined]
            raise Dead
        answer = super().send(method, url, to=to, **sent)
        if self._store.dead.is_set():  # type: ignore[attr-defined]
            raise Dead
        return answer


class _Door:
    """The application of a node while it lives; in the place of one that has died, nobody."""

    def __init__(self, life: Callable[[], Life]) -> None:
        self._life = life

    def request(self, *arguments: Any, **named: Any) -> Any:
        return self._through(lambda client: client.request(*arguments, **named))

    def _through(self, call: Callable[[TestClient], Any]) -> Any:
        life = self._life()
        if life.store.dead.is_set():
            raise Unavailable("nobody is there")
        try:
            answer = call(life.client)
        except (Dead, CancelledError):
            raise Unavailable("the connection broke") from None
        except RuntimeError:
            # The event loop under the application ended with the node.
            if life.store.dead.is_set():
                raise Unavailable("the connection broke") from None
            raise
        if life.store.dead.is_set():
            raise Unavailable("the connection broke")
        return answer


@dataclass
class Life:
    """A node from its start to its death."""

    node: Node
    client: TestClient

    @property
    def store(self) -> MortalStore:
        assert isinstance(self.node.store, MortalStore)
        return self.node.store


@dataclass
class Mortal:
    """One node over all its lives."""

    home: Home
    others: dict[str, Mortal] = field(default_factory=dict)
    life: Life = field(init=False)

    def live(self) -> None:
        """A life of its own memory, over what the last one left."""
        node = Node(self.home, behaviour=Behaviour(pause_s=0.0), peers=Townsfolk)
        # There is no chain to anchor in, and so nobody to witness for.
        node.witnessing.befriend = lambda *_: None  # type: ignore[method-assign]
        node.evidence.schedule_anchor = lambda *_, **__: None  # type: ignore[method-assign]
        self.life = Life(node, TestClient(create_app(node), raise_server_exceptions=False))

    def begin(self) -> None:
        node = self.life.node
        other = next(iter(self.others.values()))
        node.peers.resolver = Resolver(_Fetching(other), local=True)  # type: ignore[arg-type]
        node.running.recover()
        node.transfers.recover()
        node.engine.start()

    def die_at(self, commit: int, moment: Moment) -> None:
        store = self.life.store
        store.dies_at = store.commits + commit, moment

    def end(self) -> None:
        self.life.store.dead.set()
        with suppress(Dead):
            self.life.node.engine.stop()
        self.life.node.workers.close()


class _Fetching:
    """An HTTP client that reads from one node only."""

    def __init__(self, of: Mortal) -> None:
        self._of = of

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of.life.client, name)


@dataclass
class Couple:
    provider: Mortal
    consumer: Mortal

    @property
    def both(self) -> tuple[Mortal, Mortal]:
        return self.provider, self.consumer

    def revive_the_dead(self) -> bool:
        """Start again whoever has died; whether anybody had."""
        died = [one for one in self.both if one.life.store.dead.is_set()]
        for one in died:
            one.end()
            one.live()
            one.begin()
        return bool(died)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until it holds; whoever dies meanwhile is started again."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self.revive_the_dead()
            try:
                if condition():
                    return
            except Dead:
                continue
            assert time.monotonic() < deadline, self.standing()
            time.sleep(0.005)

    def standing(self) -> str:
        """What each side has not done, for whoever reads why a test failed."""
        told: list[tuple[Any, ...]] = []
        undone = select(ProcessRow).where(ProcessRow.state != "done")
        open_talks = select(NegotiationRow).where(NegotiationRow.state != "FINALIZED")
        for one in self.both:
            with one.life.node.store.transaction() as tx:
                told += [(row.kind, row.state, row.last_error) for row in tx.exec(undone).all()]
                told += [(row.state, row.reason) for row in tx.exec(open_talks).all()]
        return f"it did not happen in time: {told}"


@contextmanager
def couple(directory: Path, rows: Path, columns: list[dict[str, Any]]) -> Iterator[Couple]:
    """A provider with a dataset of these rows and a consumer, both at work."""

    def mortal(url: str) -> Mortal:
        values = {"name": "n", "kind": "enterprise", "url": url, "operator": "http://127.0.0.1:9"}
        return Mortal(create_home(directory / url.rpartition(":")[2], values))

    made = Couple(mortal(PROVIDER_URL), mortal(CONSUMER_URL))
    for one, other in (made.both, made.both[::-1]):
        one.live()
        one.others[other.home.url] = other
        Neighbours.applications[one.life.node.did] = _Door(lambda one=one: one.life)  # type: ignore
    provider = made.provider.life.node
    offer = Offer.model_validate(
        {"@id": "offer:rows", "permission": [{"action": "use"}], "assigner": provider.did}
    )
    with provider.store.transaction() as tx:
        tx.add(
            DatasetRow(
                id=DATASET,
                title="Rows",
                source=str(rows),
                columns=columns or [NAME],
                grade="general",
                offer=offer.to_json(),
                formats=[],
                classification="confirmed",
                content_version="1",
                created_at=1.0,
            )
        )
    for one in made.both:
        one.begin()
    try:
        yield made
    finally:
        for one in made.both:
            one.end()
