"""The SDK: a node as a Python object.

    from dataspace.client import Client

    node = Client.of_home("consumer")
    agreement = node.negotiate("http://127.0.0.1:8001", "residents")
    result = node.compute(
        "psi/1", [agreement], purpose="research", own=("screening.csv", "resident_id")
    )
    print(result.value)

Calls raise `ApiError` with the node's sentence and remedy; a computation that a participant
refused raises `Refused`, which also carries the clause; one that broke raises `Failed`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeAlias

import httpx2

from dataspace.home import Home
from dataspace.settings import SETTINGS_FILE, ParticipantKind
from dataspace.tls import ca_of_environment, trust_for

FIRST_LOOK_S = 0.02
LONGEST_LOOK_S = 0.5
# Who asks too often waits so long for its turn, and is told so after that.
PATIENCE_S = 30.0
# A Retry-After of more digits is no number of seconds that anybody waits.
MAX_DIGITS = 6
ENDED = ("COMPLETED", "REFUSED", "FAILED")

# A file with its identifier column, or {"source", "identifier", "value", "group", "decimals"}.
OwnData: TypeAlias = tuple[str | Path, str] | Mapping[str, Any]


class ApiError(Exception):
    """The node refused a call: its sentence, what to do about it, and the HTTP status.

    `after_s` is in how many seconds the node wants to be asked again, where it said so.
    """

    def __init__(
        self, sentence: str, *, remedy: str | None, status: int, after_s: float | None = None
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.remedy = remedy
        self.status = status
        self.after_s = after_s


class Failed(Exception):
    """A computation that was permitted ended without a result: something broke or stayed away."""

    def __init__(self, sentence: str, *, remedy: str | None, computation: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.remedy = remedy
        self.computation = computation


class Refused(Exception):
    """A contract, or the minimum cohort, did not allow what was asked for.

    `clause` is the path of the clause that refused it, where one did; `refused_by` the participant.
    """

    def __init__(
        self,
        sentence: str,
        *,
        clause: str | None = None,
        remedy: str | None = None,
        refused_by: str | None = None,
        computation: str | None = None,
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.clause = clause
        self.remedy = remedy
        self.refused_by = refused_by
        self.computation = computation


class Waiting(Exception):
    """A negotiation goes on when a person of one side has decided; nothing is wrong."""

    def __init__(self, sentence: str, *, negotiation: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.negotiation = negotiation


class HeldBack(Exception):
    """What was asked for needs a second person, and waits for one; nothing has been done yet."""

    def __init__(self, sentence: str, *, request: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.request = request


@dataclass(frozen=True)
class Result:
    """A finished computation: what the consumer learned, and what proves how it came about."""

    id: str
    kind: str
    value: Mapping[str, Any]
    seconds: float
    transcript_sha256: str
    order_sha256: str
    signatures: Mapping[str, str]
    # About our own rows, such as how many were given twice; None where we brought none.
    report: Mapping[str, int] | None = None
    # Whether the identifiers are too many for the value: `Client.identifiers` reads them.
    attached: bool = False


class Client:
    """One node, spoken to by its owner."""

    def __init__(
        self, url: str, api_key: str, *, timeout_s: float = 60.0, ca: Path | None = None
    ) -> None:
        """`ca`: the authorities by which the node's certificate is known; else the machine's."""
        self.url = url.rstrip("/")
        self.ca = ca or ca_of_environment()
        # How often the node asked us to wait, and we did.
        self.waits = 0
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {api_key}"},
            timeout=timeout_s,
            trust_env=False,
            verify=trust_for(self.url, self.ca),
        )

    @classmethod
    def of_home(cls, home: str | Path) -> Self:
        """The running node whose home directory this is, with the key that is read from there.

        `DATASPACE_API_KEY` is used in place of the home's own; whoever may not read the home says
        with `DATASPACE_URL` where the node is.
        """
        key, url = os.environ.get("DATASPACE_API_KEY"), os.environ.get("DATASPACE_URL")
        if key and url and not (Path(home).expanduser() / SETTINGS_FILE).exists():
            return cls(url, key)
        opened = Home(Path(home))
        return cls(opened.url, key or opened.api_key(), ca=opened.settings.tls_ca)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the owner's API. Raises ApiError, or HeldBack where it takes two persons.

        Who asks too often (429) is asked to wait, which is done here and the call repeated: the
        node has done nothing yet. A 503 is told with its `after_s`: what was asked for may have
        happened.
        """
        until = time.monotonic() + PATIENCE_S
        while True:
            response = self._send(method, path, body)
            wait_s = _asked_to_wait(response)
            if response.status_code != 429 or wait_s is None:
                break
            if time.monotonic() + wait_s > until:
                break
            self.waits += 1
            time.sleep(wait_s)
        held = response.headers.get("held-request")
        if held is not None:
            raise HeldBack(response.json()["detail"], request=held)
        if response.status_code < 300:
            return response.json()
        raise _api_error(response)

    def _send(self, method: str, path: str, body: Any) -> httpx2.Response:
        try:
            return self._http.request(method, path, json=body)
        except httpx2.HTTPError as err:
            raise ApiError(
                f"no node answers at {self.url}",
                remedy="start it: dataspace serve --home HOME",
                status=0,
            ) from err

    def status(self) -> dict[str, Any]:
        """Who the node is, whether it has joined, how its evidence stands."""
        found: dict[str, Any] = self.call("GET", "/api/status")
        return found

    def kinds(self) -> list[dict[str, Any]]:
        """The computations and what each party learns in them."""
        found: list[dict[str, Any]] = self.call("GET", "/api/kinds")
        return found

    def invite(self, kind: ParticipantKind | str, zones: Sequence[str] = ()) -> str:
        """Operator's node only: a code with which one participant of this kind can join.

        Its credential will name `zones`: industry parks, free-trade zones or groups.
        """
        asked = {"kind": str(kind), "zones": list(zones)}
        return str(self.call("POST", "/api/invitations", asked)["invitation"])

    def join(self, invitation: str) -> None:
        """Join the space with an operator's invitation; returns when the node is a member."""
        self.call("POST", "/api/join", {"invitation": invitation})
        self.wait_until(lambda status: bool(status["joined"]))

    def publish(
        self,
        dataset: str,
        source: str | Path,
        columns: Sequence[Mapping[str, Any]],
        *,
        title: str | None = None,
        description: str = "",
        grade: str = "general",
        formats: Sequence[str] = (),
        terms: Mapping[str, Any] | None = None,
        policy: Mapping[str, Any] | None = None,
        **described: Any,
    ) -> dict[str, Any]:
        """Publish a dataset: {"dataset": its catalogue entry, "quality": reports per identifier,
        "remarks": what is odd about it, "classes": what its columns hold, "proposed_grade"}.

        `columns` are {"name", "role": identifier | value | group, "canonicaliser", "scale"};
        `terms` are {"computations", "purposes", "min_cohort", "not_after", "max_uses",
        "recipient_kinds"}; `policy` in its place is ODRL, or {"use": ready policies, "with": their
        parameters}. `formats` lets the rows themselves leave: HttpData-PULL, HttpData-PUSH.
        `described` is the rest of `dataspace.publication.Publication`: title_zh, description_zh,
        theme, division, frequency, where, blocks, confirmed, legal_basis.
        """
        body = {
            "id": dataset,
            "title": title or dataset,
            "description": description,
            "source": str(source),
            "columns": [dict(column) for column in columns],
            "grade": grade,
            "formats": list(formats),
            "terms": dict(terms) if terms else None,
            "policy": dict(policy) if policy else None,
            **described,
        }
        found: dict[str, Any] = self.call("POST", "/api/datasets", body)
        return found

    def versions(self, dataset: str) -> list[dict[str, Any]]:
        """The states of a dataset that were noticed, the newest first: {"number", "version",
        "noticed_at"}."""
        found: list[dict[str, Any]] = self.call("GET", f"/api/datasets/{dataset}/versions")
        return found

    def check_dataset(self, dataset: str) -> dict[str, Any]:
        """Look at a dataset's source now: {"dataset", "version", "number", "changed",
        "checked_at"}."""
        found: dict[str, Any] = self.call("POST", f"/api/datasets/{dataset}/check")
        return found

    def withdraw(self, dataset: str) -> None:
        """Offer a dataset no longer; agreements about it go on."""
        self.call("POST", f"/api/datasets/{dataset}/withdrawal")

    def catalog(self, url: str, filter_: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """The catalogue of the node at `url`, in the protocol's JSON; `filter_` in its language."""
        asked = {"url": url, "filter": [dict(one) for one in filter_]}
        found: dict[str, Any] = self.call("POST", "/api/catalog", asked)
        return found

    def search(
        self,
        filter_: Sequence[Mapping[str, Any]] = (),
        *,
        kinds: Sequence[ParticipantKind] = (),
        providers: Sequence[str] = (),
        offset: int = 0,
        limit: int = 20,
    ) -> dict[str, Any]:
        """What fits of the catalogues of the whole space, as the node read them last.

        `filter_` is one of `contracts.filters`; `kinds` and `providers` (DIDs) say whose data.
        Returns `total`, `complete`, `facets` and `hits`, each with `url` and `dataset`.
        """
        asked = {
            "filter": [dict(one) for one in filter_],
            "kinds": [kind.value for kind in kinds],
            "providers": list(providers),
            "offset": offset,
            "limit": limit,
        }
        found: dict[str, Any] = self.call("POST", "/api/federation/search", asked)
        return found

    def participants(self) -> dict[str, Any]:
        """Whose catalogues the node reads for searches, and how that went the last time."""
        found: dict[str, Any] = self.call("GET", "/api/federation/nodes")
        return found

    def negotiate(
        self,
        provider: str,
        dataset: str,
        *,
        offer: str | None = None,
        policy: Mapping[str, Any] | None = None,
        reuse: bool = False,
        timeout_s: float = 60.0,
    ) -> str:
        """Negotiate an agreement and return its id.

        `policy` proposes other terms than the offer's; `reuse` takes an agreement in force on the
        same terms. Raises Refused with the provider's reason and clause, and Waiting where a person
        of either side has to decide.
        """
        body = {
            "provider": provider,
            "dataset": dataset,
            "offer": offer,
            "policy": dict(policy) if policy else None,
            "reuse": reuse,
        }
        begun = self.call("POST", "/api/negotiations", body)
        return self.agreement_of(begun["id"], timeout_s=timeout_s)

    def agreement_of(self, negotiation: str, *, timeout_s: float = 60.0) -> str:
        """Wait for the end of a negotiation; its agreement's id. Raises as `negotiate` does."""
        found = self.poll(
            f"/api/negotiations/{negotiation}",
            lambda one: one["state"] in ("FINALIZED", "TERMINATED") or bool(one["needs_person"]),
            timeout_s,
        )
        if found["state"] == "TERMINATED":
            raise Refused(
                found["reason"] or "the negotiation ended",
                clause=found["clause"],
                remedy=found["remedy"],
                refused_by=found["peer"],
            )
        if found["needs_person"]:
            raise Waiting(found["waits_for"], negotiation=negotiation)
        return str(found["agreement"])

    def negotiations(self, *, waiting: bool = False) -> list[dict[str, Any]]:
        """The newest thousand negotiations; with `waiting` of those that wait for a person here."""
        query = "?waiting=true" if waiting else ""
        found: list[dict[str, Any]] = self.call("GET", f"/api/negotiations{query}")
        return found

    def approve(self, negotiation: str, *, declined: bool = False) -> dict[str, Any]:
        """Approve (or decline) a negotiation that waits for a person here."""
        approval = "DECLINED" if declined else "APPROVED"
        path = f"/api/negotiations/{negotiation}/approval"
        found: dict[str, Any] = self.call("POST", path, {"approval": approval})
        return found

    def offer(self, consumer: str, dataset: str) -> str:
        """Offer a dataset of this node to a consumer unasked; the negotiation's id."""
        asked = {"consumer": consumer, "dataset": dataset}
        return str(self.call("POST", "/api/negotiations/offers", asked)["id"])

    def agreements(self) -> list[dict[str, Any]]:
        """The newest thousand agreements, as consumer or as provider."""
        found: list[dict[str, Any]] = self.call("GET", "/api/agreements")
        return found

    def compute(
        self,
        kind: str,
        agreements: Sequence[str],
        *,
        purpose: str,
        min_cohort: int | None = None,
        spatial: str | None = None,
        columns: Mapping[str, Mapping[str, str]] | None = None,
        groups: Sequence[str] = (),
        own: OwnData | None = None,
        parameters: Mapping[str, Any] | None = None,
        epsilon: str | None = None,
        deadline_s: float | None = None,
        timeout_s: float = 600.0,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> Result:
        """Order a computation and wait for its result. Raises Refused with the clause, or Failed.

        `own` is (file, identifier column) of this node's own data, for kinds in which the consumer
        takes part with data, or {"source", "identifier", "value", "group", "decimals"}; `columns`
        maps an agreement to {role: column} where a dataset publishes more than one fitting column;
        `spatial` is the division (GB/T 2260 code) the use is about, where a contract wants to know;
        `parameters` are the kind's own, `epsilon` the privacy loss of a noisy result, as a decimal
        number; `deadline_s` is how long the parties may take, `timeout_s` how long we wait here.
        `on_progress` is given what `events` yields.
        """
        body = _request(
            kind,
            agreements,
            purpose=purpose,
            min_cohort=min_cohort,
            spatial=spatial,
            columns=columns,
            groups=groups,
            own=own,
            parameters=parameters,
            epsilon=epsilon,
            deadline_s=deadline_s,
        )
        begun = self.call("POST", "/api/computations", body)
        if on_progress is not None:
            for event in self.events(begun["id"], timeout_s=timeout_s):
                on_progress(event)
        return self.result_of(begun["id"], timeout_s=timeout_s)

    def result_of(self, computation: str, *, timeout_s: float = 600.0) -> Result:
        """Wait for the end of a computation; its result. Raises as `compute` does."""
        found = self.poll(
            f"/api/computations/{computation}", lambda one: one["status"] in ENDED, timeout_s
        )
        refusal = found["refusal"] or {}
        reason = refusal.get("reason") or "the computation ended without a result"
        if found["status"] == "FAILED":
            raise Failed(reason, remedy=refusal.get("remedy"), computation=found["id"])
        if found["status"] == "REFUSED":
            raise Refused(
                reason,
                clause=refusal.get("clause"),
                remedy=refusal.get("remedy"),
                refused_by=refusal.get("refused_by"),
                computation=found["id"],
            )
        return Result(
            id=found["id"],
            kind=found["kind"],
            value=found["value"],
            seconds=round(found["finished_at"] - found["created_at"], 3),
            transcript_sha256=found["transcript_sha256"],
            order_sha256=found["order_sha256"],
            signatures=found["signatures"],
            report=found.get("report"),
            attached=found.get("attachment") is not None,
        )

    def identifiers(self, computation: str) -> Iterator[str]:
        """The identifiers of a result that has too many of them for its value. Raises ApiError."""
        path = f"/api/computations/{computation}/identifiers"
        with self._http.stream("GET", path) as answer:
            if answer.status_code >= 300:
                answer.read()
                raise _api_error(answer)
            for line in answer.iter_lines():
                yield str(json.loads(line))

    def estimate(
        self,
        kind: str,
        agreements: Sequence[str],
        *,
        sizes: Mapping[str, int],
        purpose: str = "estimate",
        **asked: Any,
    ) -> dict[str, Any]:
        """What a computation would take and tell; nothing is ordered.

        `sizes` maps each agreement to the rows of its dataset; the other arguments are those of
        `compute`. Returns {"seconds", "parties": {role: {"seconds", "sent_bytes",
        "received_bytes", "memory_bytes", "learns"}}, "epsilon", …}.
        """
        body = _request(kind, agreements, purpose=purpose, **asked) | {"sizes": dict(sizes)}
        found: dict[str, Any] = self.call("POST", "/api/computations/estimate", body)
        return found

    def cancel(self, computation: str) -> dict[str, Any]:
        """End a computation before its time, at every participant."""
        path = f"/api/computations/{computation}/cancellation"
        found: dict[str, Any] = self.call("POST", path)
        return found

    def computations(self) -> list[dict[str, Any]]:
        """The newest thousand computations this node takes part in."""
        found: list[dict[str, Any]] = self.call("GET", "/api/computations")
        return found

    def computation(self, computation: str) -> dict[str, Any]:
        """One computation: its status, and its value or why there is none."""
        found: dict[str, Any] = self.call("GET", f"/api/computations/{computation}")
        return found

    def events(self, computation: str, *, timeout_s: float = 600.0) -> Iterator[dict[str, Any]]:
        """Yield where a computation is whenever that has changed, until it has ended.

        Each is {"id", "status", "step", "done_units", "total_units", "rate_per_s", "seconds_left",
        "sent_bytes", "received_bytes"}; the last one has a final status. A node that goes away is
        looked for again. Raises ApiError for an unknown computation, and TimeoutError.
        """
        deadline = time.monotonic() + timeout_s
        path, last_id = f"/api/computations/{computation}/events", ""
        # A wrong id, or a node that is not there at all, is an error and nothing to wait for.
        self.computation(computation)
        while True:
            try:
                with self._http.stream("GET", path, headers={"last-event-id": last_id}) as answer:
                    answer.raise_for_status()
                    for event_id, event in _server_sent(answer.iter_lines()):
                        last_id = event_id
                        yield {"id": computation, **event}
                        if event["status"] in ENDED:
                            return
                        _verify_in_time(path, deadline, timeout_s)
            except httpx2.HTTPError:
                # The node stops, or the line broke: the computation may well go on.
                time.sleep(LONGEST_LOOK_S)
            _verify_in_time(path, deadline, timeout_s)

    def fetch_chain(self, target: BinaryIO) -> None:
        """Write the embedded chain's file, as it is now, into `target`. Raises ApiError."""
        with self._http.stream("GET", "/api/chain") as answer:
            if answer.status_code != 200:
                answer.read()
                raise _api_error(answer)
            for piece in answer.iter_bytes():
                target.write(piece)

    def wait_until(
        self, condition: Callable[[dict[str, Any]], bool], *, timeout_s: float = 60.0
    ) -> dict[str, Any]:
        """Poll the node's status until `condition` holds. Raises TimeoutError."""
        return self.poll("/api/status", condition, timeout_s)

    def poll(
        self, path: str, done: Callable[[dict[str, Any]], bool], timeout_s: float
    ) -> dict[str, Any]:
        """GET `path` until `done` holds for the answer, and return it. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        pause_s = FIRST_LOOK_S
        while True:
            found: dict[str, Any] = self.call("GET", path)
            if done(found):
                return found
            _verify_in_time(path, deadline, timeout_s)
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_LOOK_S)


def _api_error(answer: httpx2.Response) -> ApiError:
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    return ApiError(
        str(problem.get("detail") or f"the node answered {answer.status_code}"),
        remedy=problem.get("remedy"),
        status=answer.status_code,
        after_s=_asked_to_wait(answer),
    )


def _asked_to_wait(answer: httpx2.Response) -> float | None:
    """The seconds that an answer asks its reader to wait, None where it asks for nothing."""
    asked = answer.headers.get("retry-after", "")
    return float(asked) if asked.isdecimal() and len(asked) <= MAX_DIGITS else None


def _request(
    kind: str,
    agreements: Sequence[str],
    *,
    purpose: str,
    min_cohort: int | None = None,
    spatial: str | None = None,
    columns: Mapping[str, Mapping[str, str]] | None = None,
    groups: Sequence[str] = (),
    own: OwnData | None = None,
    parameters: Mapping[str, Any] | None = None,
    epsilon: str | None = None,
    deadline_s: float | None = None,
) -> dict[str, Any]:
    """The body that orders a computation."""
    return {
        "kind": kind,
        "agreements": list(agreements),
        "purpose": purpose,
        "min_cohort": min_cohort,
        "spatial": spatial,
        "columns": {key: dict(value) for key, value in (columns or {}).items()},
        "groups": list(groups),
        "own": None if own is None else _own(own),
        "parameters": dict(parameters or {}),
        "epsilon": epsilon,
        "deadline_s": deadline_s,
    }


def _own(own: OwnData) -> dict[str, Any]:
    named = dict(own) if isinstance(own, Mapping) else {"source": own[0], "identifier": own[1]}
    # The node may have been started in another directory.
    return named | {"source": str(Path(named["source"]).expanduser().resolve())}


def _server_sent(lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The (id, JSON data) of each event of a stream; comments keep it alive and say nothing."""
    event_id, told = "", ""
    for line in lines:
        name, _, value = line.partition(":")
        if name == "id":
            event_id = value.strip()
        elif name == "data":
            told += value.strip()
        elif not line and told:
            yield event_id, json.loads(told)
            told = ""


def _verify_in_time(path: str, deadline: float, timeout_s: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"{path} did not finish within {timeout_s:.0f} seconds")
