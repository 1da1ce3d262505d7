"""The owners at work: what was asked of the nodes, and what was answered or not.

How they ask is in `asking`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from tests.faults import city
from tests.faults.asking import BACK_S, DEADLINE_S, LOOK_S, Asked, Asking, NoAnswer, Refused
from tests.faults.plan import CONSUMER, Operation, Work
from tests.faults.space import FaultySpace

ENDED = ("FINALIZED", "TERMINATED", "COMPLETED", "REFUSED", "FAILED")


class Load:
    """Runs operations in threads; `asked` is what came of them."""

    def __init__(self, space: FaultySpace, data: city.Data) -> None:
        self._space = space
        self._ask = Asking(space)
        self._data = data
        self._truth = data.truth()
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        # Agreements made before anything breaks: (provider, dataset) -> id.
        self.standing: dict[tuple[str, str], str] = {}

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
            target=self._run,
            args=(operation,),
            name=f"operation {operation.number}, {operation.work} with {operation.provider}",
            daemon=True,
        )
        self._threads.append(thread)
        thread.start()

    def next_request_to(self, node: str) -> threading.Event:
        """Set when the next request of an owner is about to go to `node`."""
        return self._ask.next_request_to(node)

    def give_up(self) -> None:
        """Nobody waits for an answer any more."""
        self._ask.ending.set()

    def under_way(self) -> int:
        return sum(thread.is_alive() for thread in self._threads)

    def wait(self, timeout_s: float) -> list[str]:
        """Wait for all operations; the names of those that go on."""
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return [thread.name for thread in self._threads if thread.is_alive()]

    def _run(self, operation: Operation) -> None:
        asked = Asked(operation.number, operation.work.value, CONSUMER, provider=operation.provider)
        with self._lock:
            self.asked.append(asked)
        try:
            _STEPS[operation.work](self, asked)
        except NoAnswer:
            asked.unknown += 1
        except Refused as err:
            asked.told.append(f"refused: {err}")
        except Exception as err:
            asked.told.append(f"harness: {type(err).__name__}: {err}")

    # ---- negotiations -----------------------------------------------------------------------

    def _negotiate(self, asked: Asked, dataset: str, **more: Any) -> str:
        asked.dataset = dataset
        body = {"provider": self._space[asked.provider].url, "dataset": dataset, **more}
        begun = self._ask.once(CONSUMER, "POST", "/api/negotiations", body)
        asked.process, asked.path = begun["id"], f"/api/negotiations/{begun['id']}"
        return asked.path

    def _agree(self, asked: Asked) -> None:
        path = self._negotiate(asked, "open")
        asked.must = ("FINALIZED",)
        self._ask.seen(CONSUMER, path, _ended)

    def _counter(self, asked: Asked) -> None:
        path = self._negotiate(asked, "strict", policy=city.LOOSER)
        found = self._ask.seen(CONSUMER, path, lambda one: one["needs_person"] or _ended(one))
        if not _ended(found):
            self._approve(CONSUMER, path)
        asked.must = ("FINALIZED",)
        self._ask.seen(CONSUMER, path, _ended)

    def _refused(self, asked: Asked) -> None:
        path = self._negotiate(asked, "closed")
        asked.must = ("TERMINATED",)
        self._ask.seen(CONSUMER, path, _ended)

    def _approved(self, asked: Asked, *, declined: bool = False) -> None:
        path = self._negotiate(asked, "asks")
        self._ask.seen(CONSUMER, path, lambda one: one["needs_person"] or _ended(one))
        pid = self._theirs(asked)
        self._approve(asked.provider, f"/api/negotiations/{pid}", declined=declined)
        asked.must = ("TERMINATED",) if declined else ("FINALIZED",)
        self._ask.seen(CONSUMER, path, _ended)

    def _declined(self, asked: Asked) -> None:
        self._approved(asked, declined=True)

    def _offer(self, asked: Asked) -> None:
        asked.node, asked.dataset = asked.provider, "open"
        body = {"consumer": self._space[CONSUMER].url, "dataset": "open"}
        begun = self._ask.once(asked.provider, "POST", "/api/negotiations/offers", body)
        asked.process, asked.path = begun["id"], f"/api/negotiations/{begun['id']}"
        ours = self._counterpart(CONSUMER, asked.provider, begun["id"])
        self._approve(CONSUMER, f"/api/negotiations/{ours}")
        asked.must = ("FINALIZED",)
        self._ask.seen(asked.provider, asked.path, _ended)

    def _end_negotiation(self, asked: Asked) -> None:
        path = self._negotiate(asked, "asks")
        self._ask.until_done(
            CONSUMER,
            f"{path}/termination",
            {"reason": "We found another source."},
            done=lambda sentence: "TERMINATED" in sentence,
        )
        asked.must = ("TERMINATED",)
        self._ask.seen(CONSUMER, path, _ended)

    def _end_agreement(self, asked: Asked) -> None:
        path = self._negotiate(asked, "open")
        asked.must = ("FINALIZED",)
        asked.agreement = self._ask.seen(CONSUMER, path, _ended)["agreement"]
        if asked.agreement is not None:
            self._ask.until_done(
                CONSUMER,
                f"/api/agreements/{asked.agreement}/end",
                {"reason": "We are done."},
                done=lambda sentence: "ended already" in sentence,
            )

    def _approve(self, node: str, path: str, *, declined: bool = False) -> None:
        word = "DECLINED" if declined else "APPROVED"
        self._ask.until_done(
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
        while not self._ask.ending.is_set() and time.monotonic() < until:
            found = peer_pid(self._space[node].database, self._space[peer].did, pid)
            if found is not None:
                return found
            time.sleep(LOOK_S)
        raise NoAnswer

    # ---- rows -------------------------------------------------------------------------------

    def _pull(self, asked: Asked, format_: str = city.PULL) -> None:
        asked.dataset = "rows"
        body = {
            "agreement": self.standing[asked.provider, "rows"],
            "format": format_,
            "purpose": city.PURPOSE,
        }
        begun = self._ask.once(CONSUMER, "POST", "/api/transfers", body)
        asked.process, asked.path = begun["id"], f"/api/transfers/{begun['id']}"
        asked.must, asked.value = ("COMPLETED",), self._truth.rows_sha256
        self._ask.seen(CONSUMER, asked.path, _ended)

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
        begun = self._ask.once(CONSUMER, "POST", "/api/computations", body)
        asked.process, asked.path = begun["id"], f"/api/computations/{begun['id']}"
        # It may fail, saying why: some kinds keep their secrets in memory.
        asked.must, asked.value = ("COMPLETED", "FAILED"), value
        self._ask.seen(CONSUMER, asked.path, _ended)

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
        receipt = self._ask.once(asked.node, "POST", "/api/datasets/open/consents", body)["receipt"]
        asked.process = receipt
        self._ask.once(asked.node, "POST", f"/api/datasets/open/consents/{receipt}/withdrawal")
        asked.told.append("withdrawn")

    def _publish(self, asked: Asked) -> None:
        asked.node, asked.dataset = asked.provider, f"extra-{asked.number}"
        source = str(self._data.file("released"))
        body = city.publication(asked.dataset, source, city.policy(city.KINDS_ALLOWED))
        self._ask.once(asked.node, "POST", "/api/datasets", body)
        asked.told.append("published")
        self._ask.until_done(
            asked.node,
            f"/api/datasets/{asked.dataset}/withdrawal",
            None,
            done=lambda sentence: "withdrawn" in sentence,
        )
        asked.told.append("withdrawn")

    def _rotate(self, asked: Asked) -> None:
        asked.node = asked.provider
        self._ask.once(asked.node, "POST", "/api/log/rotation")


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
