"""The owners at work: what was asked of the nodes, and what was answered or not.

Every operation goes through the owner's API as the SDK does. A request whose answer did not come is
not repeated where a repetition would be a second one: it is noted as unknown, and may have had its
effect or not. Steps that can be repeated are, until the node says that they are done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2

from dataspace.client import ApiError
from tests.faults import city
from tests.faults.plan import CONSUMER, Operation, Work
from tests.faults.space import FaultySpace

# A node that was killed is back within this; what its owner asks waits for it.
BACK_S = 120.0
LOOK_S = 0.25
DEADLINE_S = 90.0
ENDED = ("FINALIZED", "TERMINATED", "COMPLETED", "REFUSED", "FAILED")


@dataclass
class Asked:
    """One operation as its owner knows it.

    `process` is the id of what it began, None where the answer to that never came; `must` is the
    state it has to end in, with what that must give in `value`.
    """

    number: int
    work: str
    node: str
    path: str = ""
    process: str | None = None
    dataset: str = ""
    provider: str = ""
    must: tuple[str, ...] = ()
    value: Any = None
    agreement: str | None = None
    unknown: int = 0
    told: list[str] = field(default_factory=list)


class _NoAnswer(Exception):
    """A request that cannot be repeated was not answered, or never will be."""


class _Refused(Exception):
    """The node's answer is no."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Load:
    """Runs operations in threads; `asked` is what came of them."""

    def __init__(self, space: FaultySpace, data: city.Data) -> None:
        self._space = space
        self._data = data
        self._truth = data.truth()
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        # Agreements made before anything breaks: (provider, dataset) -> id.
        self.standing: dict[tuple[str, str], str] = {}
        self._sent: dict[str, threading.Event] = {}
        self.ending = threading.Event()

    # ---- before anything breaks -------------------------------------------------------------

    def prepare(self) -> None:
        """Publish everything, agree about it, and compute once what will be computed again."""
        city.write_consents(self._data, self._space[CONSUMER].did)
        for provider in city.PROVIDERS:
            with self._space[provider].client() as client:
                for body in city.publications(self._data, provider):
                    client.call("POST", "/api/datasets", body)
            with self._space[CONSUMER].client() as consumer:
                for dataset in ("people", "rows"):
                    url = self._space[provider].url
                    made = consumer.negotiate(url, dataset, timeout_s=BACK_S)
                    self.standing[provider, dataset] = made

    # ---- running ----------------------------------------------------------------------------

    def begin(self, operation: Operation) -> None:
        thread = threading.Thread(
            target=self._run, args=(operation,), name=f"operation {operation.number}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def under_way(self) -> int:
        return sum(thread.is_alive() for thread in self._threads)

    def wait(self, timeout_s: float) -> list[str]:
        """Wait for all operations; the names of those that go on."""
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return [thread.name for thread in self._threads if thread.is_alive()]

    def next_request_to(self, node: str) -> threading.Event:
        """Set when the next request of an owner is about to go to `node`."""
        with self._lock:
            return self._sent.setdefault(node, threading.Event())

    def _run(self, operation: Operation) -> None:
        asked = Asked(operation.number, operation.work.value, CONSUMER, provider=operation.provider)
        with self._lock:
            self.asked.append(asked)
        try:
            _STEPS[operation.work](self, asked)
        except _NoAnswer:
            asked.unknown += 1
        except _Refused as err:
            asked.told.append(f"refused: {err}")
        except Exception as err:
            asked.told.append(f"harness: {type(err).__name__}: {err}")

    # ---- asking -----------------------------------------------------------------------------

    def _once(self, node: str, method: str, path: str, body: Any = None) -> Any:
        """A request that must not be repeated once it may have arrived. Raises _NoAnswer, _Refused.

        A node that is down has not had it, and one that says 503 has done nothing.
        """
        until = time.monotonic() + BACK_S
        while True:
            self._signal(node)
            with self._space[node].client() as client:
                try:
                    return client.call(method, path, body)
                except ApiError as err:
                    down = isinstance(err.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
                    if not down and err.status != 503:
                        if err.status == 0:
                            raise _NoAnswer from err
                        raise _Refused(err.status, err.sentence) from err
            if self.ending.is_set() or time.monotonic() > until:
                raise _NoAnswer
            time.sleep(LOOK_S)

    def _until_done(self, node: str, path: str, body: Any, *, done: Callable[[str], bool]) -> None:
        """A POST that is repeated until it was answered; `done` knows the refusal that tells that
        an earlier one had its effect."""
        until = time.monotonic() + BACK_S
        while not self.ending.is_set():
            self._signal(node)
            with self._space[node].client() as client:
                try:
                    client.call("POST", path, body)
                    return
                except ApiError as err:
                    if err.status not in (0, 503):
                        if done(err.sentence):
                            return
                        raise _Refused(err.status, err.sentence) from err
            if time.monotonic() > until:
                raise _NoAnswer
            time.sleep(LOOK_S)
        raise _NoAnswer

    def _seen(self, node: str, path: str, condition: Callable[[Any], bool]) -> Any:
        """What a GET answers once that fulfils the condition. Raises _NoAnswer after a while."""
        until = time.monotonic() + BACK_S + DEADLINE_S
        while not self.ending.is_set() and time.monotonic() < until:
            with self._space[node].client() as client:
                try:
                    found = client.call("GET", path)
                    if condition(found):
                        return found
                except ApiError as err:
                    if err.status not in (0, 503):
                        raise _Refused(err.status, err.sentence) from err
            time.sleep(LOOK_S)
        raise _NoAnswer

    def _signal(self, node: str) -> None:
        with self._lock:
            event = self._sent.pop(node, None)
        if event is not None:
            event.set()

    # ---- negotiations -----------------------------------------------------------------------

    def _negotiate(self, asked: Asked, dataset: str, **more: Any) -> str:
        asked.dataset = dataset
        body = {"provider": self._space[asked.provider].url, "dataset": dataset, **more}
        begun = self._once(CONSUMER, "POST", "/api/negotiations", body)
        asked.process, asked.path = begun["id"], f"/api/negotiations/{begun['id']}"
        return asked.path

    def _agree(self, asked: Asked) -> None:
        path = self._negotiate(asked, "open")
        asked.must = ("FINALIZED",)
        self._seen(CONSUMER, path, _ended)

    def _counter(self, asked: Asked) -> None:
        path = self._negotiate(asked, "strict", policy=city.LOOSER)
        found = self._seen(CONSUMER, path, lambda one: one["needs_person"] or _ended(one))
        if not _ended(found):
            self._approve(CONSUMER, path)
        asked.must = ("FINALIZED",)
        self._seen(CONSUMER, path, _ended)

    def _refused(self, asked: Asked) -> None:
        path = self._negotiate(asked, "closed")
        asked.must = ("TERMINATED",)
        self._seen(CONSUMER, path, _ended)

    def _approved(self, asked: Asked, *, declined: bool = False) -> None:
        path = self._negotiate(asked, "asks")
        self._seen(CONSUMER, path, lambda one: one["needs_person"] or _ended(one))
        pid = self._theirs(asked)
        self._approve(asked.provider, f"/api/negotiations/{pid}", declined=declined)
        asked.must = ("TERMINATED",) if declined else ("FINALIZED",)
        self._seen(CONSUMER, path, _ended)

    def _declined(self, asked: Asked) -> None:
        self._approved(asked, declined=True)

    def _offer(self, asked: Asked) -> None:
        asked.node, asked.dataset = asked.provider, "open"
        body = {"consumer": self._space[CONSUMER].url, "dataset": "open"}
        begun = self._once(asked.provider, "POST", "/api/negotiations/offers", body)
        asked.process, asked.path = begun["id"], f"/api/negotiations/{begun['id']}"
        ours = self._counterpart(CONSUMER, asked.provider, begun["id"])
        self._approve(CONSUMER, f"/api/negotiations/{ours}")
        asked.must = ("FINALIZED",)
        self._seen(asked.provider, asked.path, _ended)

    def _end_negotiation(self, asked: Asked) -> None:
        path = self._negotiate(asked, "asks")
        self._until_done(
            CONSUMER,
            f"{path}/termination",
            {"reason": "We found another source."},
            done=lambda sentence: "TERMINATED" in sentence,
        )
        asked.must = ("TERMINATED",)
        self._seen(CONSUMER, path, _ended)

    def _end_agreement(self, asked: Asked) -> None:
        path = self._negotiate(asked, "open")
        asked.must = ("FINALIZED",)
        asked.agreement = self._seen(CONSUMER, path, _ended)["agreement"]
        if asked.agreement is not None:
            self._until_done(
                CONSUMER,
                f"/api/agreements/{asked.agreement}/end",
                {"reason": "We are done."},
                done=lambda sentence: "ended already" in sentence,
            )

    def _approve(self, node: str, path: str, *, declined: bool = False) -> None:
        word = "DECLINED" if declined else "APPROVED"
        self._until_done(
            node,
            f"{path}/approval",
            {"approval": word},
            done=lambda sentence: "waits for nobody" in sentence,
        )

    def _theirs(self, asked: Asked) -> str:
        assert asked.process is not None
        return self._counterpart(asked.provider, CONSUMER, asked.process)

    def _counterpart(self, node: str, peer: str, pid: str) -> str:
        """The other side's name for a negotiation, which its API does not show."""
        from tests.faults.picture import peer_pid

        until = time.monotonic() + BACK_S
        while not self.ending.is_set() and time.monotonic() < until:
            found = peer_pid(self._space[node].database, self._space[peer].did, pid)
            if found is not None:
                return found
            time.sleep(LOOK_S)
        raise _NoAnswer

    # ---- rows -------------------------------------------------------------------------------

    def _pull(self, asked: Asked, format_: str = city.PULL) -> None:
        asked.dataset = "rows"
        body = {
            "agreement": self.standing[asked.provider, "rows"],
            "format": format_,
            "purpose": city.PURPOSE,
        }
        begun = self._once(CONSUMER, "POST", "/api/transfers", body)
        asked.process, asked.path = begun["id"], f"/api/transfers/{begun['id']}"
        asked.must, asked.value = ("COMPLETED",), self._truth.rows_sha256
        self._seen(CONSUMER, asked.path, _ended)

    def _push(self, asked: Asked) -> None:
        self._pull(asked, city.PUSH)

    # ---- computations -----------------------------------------------------------------------

    def _compute(self, asked: Asked, providers: tuple[str, ...], value: Any, **more: Any) -> None:
        body = {
            "kind": asked.work,
            "agreements": [self.standing[one, "people"] for one in providers],
            "purpose": city.PURPOSE,
            "deadline_s": DEADLINE_S,
            **more,
        }
        begun = self._once(CONSUMER, "POST", "/api/computations", body)
        asked.process, asked.path = begun["id"], f"/api/computations/{begun['id']}"
        # It may fail, saying why: some kinds keep their secrets in memory.
        asked.must, asked.value = ("COMPLETED", "FAILED"), value
        self._seen(CONSUMER, asked.path, _ended)

    def _intersection(self, asked: Asked) -> None:
        found = self._truth.intersection[asked.provider]
        value = {"count": len(found), "identifiers": found}
        parameters = {"bucketElements": 1024}
        self._compute(asked, (asked.provider,), value, own=self._own(), parameters=parameters)

    def _sum(self, asked: Asked) -> None:
        pair = (asked.provider, city.other(asked.provider))
        self._compute(asked, pair, self._truth.sums[pair])

    def _totals(self, asked: Asked) -> None:
        pair = (asked.provider, city.other(asked.provider))
        self._compute(asked, pair, self._truth.totals[pair])

    def _many(self, asked: Asked) -> None:
        pair = (asked.provider, city.other(asked.provider))
        found = self._truth.many[pair]
        self._compute(asked, pair, {"count": len(found), "identifiers": found}, own=self._own())

    def _own(self) -> dict[str, str]:
        return {"source": str(self._data.file("own")), "identifier": "person"}

    # ---- the rest ---------------------------------------------------------------------------

    def _consent(self, asked: Asked) -> None:
        """Somebody who is in no table consents, and takes it back."""
        asked.node = asked.provider = "health-trust"
        body = {
            "subject": f"{city.PERSON}-new-{asked.number}",
            "columns": ["person"],
            "purposes": [city.PURPOSE],
            "recipients": [self._space[CONSUMER].did],
            "expires_at": "2036-01-01T00:00:00+00:00",
        }
        receipt = self._once(asked.node, "POST", "/api/datasets/open/consents", body)["receipt"]
        asked.process = receipt
        self._once(asked.node, "POST", f"/api/datasets/open/consents/{receipt}/withdrawal")
        asked.told.append("withdrawn")

    def _publish(self, asked: Asked) -> None:
        asked.node, asked.dataset = asked.provider, f"extra-{asked.number}"
        source = str(self._data.file("released"))
        body = city.publication(asked.dataset, source, city.policy(city.KINDS_ALLOWED))
        self._once(asked.node, "POST", "/api/datasets", body)
        asked.told.append("published")
        self._until_done(
            asked.node,
            f"/api/datasets/{asked.dataset}/withdrawal",
            None,
            done=lambda sentence: "withdrawn" in sentence,
        )
        asked.told.append("withdrawn")

    def _rotate(self, asked: Asked) -> None:
        asked.node = asked.provider
        self._once(asked.node, "POST", "/api/log/rotation")


_STEPS: dict[Work, Callable[[Load, Asked], None]] = {
    Work.AGREE: Load._agree,
    Work.COUNTER: Load._counter,
    Work.REFUSED: Load._refused,
    Work.APPROVE: Load._approved,
    Work.DECLINE: Load._declined,
    Work.OFFER: Load._offer,
    Work.END_NEGOTIATION: Load._end_negotiation,
    Work.END_AGREEMENT: Load._end_agreement,
    Work.PULL: Load._pull,
    Work.PUSH: Load._push,
    Work.INTERSECTION: Load._intersection,
    Work.SUM: Load._sum,
    Work.TOTALS: Load._totals,
    Work.MANY: Load._many,
    Work.CONSENT: Load._consent,
    Work.PUBLISH: Load._publish,
    Work.ROTATE: Load._rotate,
}


def _ended(one: Any) -> bool:
    return one.get("state", one.get("status")) in ENDED


def result_matches(work: str, value: Any, expected: Any) -> bool:
    """Whether a computation's value is what is true."""
    if work == "aggregate/2":
        return city.cells(value) == {key: tuple(pair) for key, pair in expected.items()}
    return {key: value.get(key) for key in expected} == expected
