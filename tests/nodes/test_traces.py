"""A whole computation is one trace over all its parties, and its spans hold no data."""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import pytest

from dataspace.demo.space import LocalSpace, RunningNode
from dataspace.settings import ParticipantKind

from .collector import Collected, Collector, collecting
from .conftest import PURPOSE, terms

SOON_S = 30.0
ID = {"name": "resident_id", "role": "identifier", "canonicaliser": "text/1"}
PROVIDERS = ("bureau", "insurer")


@dataclass
class Traced:
    """A space whose nodes all send their spans to one collector."""

    space: LocalSpace
    collector: Collector

    def node(self, name: str) -> RunningNode:
        return self.space.nodes[name]

    def spans_of(self, trace_id: str) -> list[Collected]:
        return [one for one in self.collector.spans if one.trace_id == trace_id]

    def until_complete(self, wanted: dict[str, set[str]]) -> tuple[list[Collected], set[str]]:
        """The spans of the newest order's trace once these of every node have come, and the names
        of those that have not in good time."""
        deadline = time.monotonic() + SOON_S
        while True:
            orders = [one for one in self.collector.spans if _is_order(one)]
            found = self.spans_of(orders[-1].trace_id) if orders else []
            come = {(one.node, one.name) for one in found}
            missing = {
                f"{name} of {did}"
                for did, names in wanted.items()
                for name in names
                if (did, name) not in come
            }
            whole = not missing and len(roots_of(found)) == 1
            if (whole and any(name == "anchor" for _, name in come)) or time.monotonic() > deadline:
                return found, missing
            time.sleep(0.1)

    def lines(self, name: str) -> list[dict[str, str]]:
        text = self.node(name).log_path.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def _is_order(one: Collected) -> bool:
    asked = one.attributes.get("http.route"), one.attributes.get("http.request.method")
    return asked == ("/api/computations", "POST")


def roots_of(found: list[Collected]) -> list[Collected]:
    """The spans whose parent is not among them."""
    known = {one.span_id for one in found}
    return [one for one in found if one.parent_id not in known]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    directory = tmp_path_factory.mktemp("traced")
    with collecting() as collector:
        settings = {"otel_endpoint": collector.url, "log_level": "debug"}
        with LocalSpace(directory / "space", settings=settings) as space:
            space.found(
                {
                    "bureau": ParticipantKind.GOVERNMENT,
                    "insurer": ParticipantKind.ENTERPRISE,
                    "institute": ParticipantKind.CONSUMER,
                }
            )
            made = Traced(space, collector)
            yield made


@pytest.fixture(scope="module")
def agreements(traced: Traced, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    data = tmp_path_factory.mktemp("rows")
    found = []
    for number, name in enumerate(PROVIDERS):
        path = data / f"{name}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["resident_id", "amount_cents"])
            writer.writerows([[f"SECRET-RESIDENT-{row}", 700_100 + row] for row in range(400)])
        value = [{"name": "amount_cents", "role": "value"}] if number else []
        traced.node(name).client.publish(f"rows-{name}", str(path), [ID, *value], terms=terms())
        institute = traced.node("institute").client
        found.append(institute.negotiate(traced.node(name).url, f"rows-{name}"))
    return found


@pytest.mark.slow
def test_one_trace_holds_the_spans_of_every_party(traced: Traced, agreements: list[str]) -> None:
    result = traced.node("institute").client.compute(
        "private-sum/2", agreements, purpose=PURPOSE, timeout_s=120.0
    )
    assert result.value["count"] == 400
    dids = {name: traced.node(name).did for name in (*PROVIDERS, "institute")}
    wanted = {
        "institute": {"POST", "deliver", "run-computation", "session", "transfer"},
        "bureau": {"decide-transfer", "decision", "session", "read source", "frames sent"},
        "insurer": {"decide-transfer", "decision", "session", "read source", "disclosure"},
    }
    found, missing = traced.until_complete({dids[name]: wanted[name] for name in wanted})
    assert not missing
    # One tree: every span but the order's own request has its parent in the trace.
    assert [one.attributes.get("http.route") for one in roots_of(found)] == ["/api/computations"]
    assert "anchor" in {one.name for one in found}
    assert all(one.began <= one.ended for one in found)
    # Frames are added up, and none is a span of its own.
    per_session = Counter((one.node, one.name) for one in found)
    assert per_session[dids["insurer"], "frames sent"] == 1
    assert not [one for one in found if one.attributes.get("http.route", "").startswith("/compute")]


@pytest.mark.slow
def test_no_span_and_no_line_holds_data_keys_or_tokens(
    traced: Traced, agreements: list[str]
) -> None:
    texts = [json.dumps(one.attributes) + one.name for one in traced.collector.spans]
    for node in traced.space.nodes.values():
        texts.append(node.log_path.read_text(encoding="utf-8"))
    assert agreements
    secrets = [node.home.api_key() for node in traced.space.nodes.values()]
    secrets += [node.home.account_key() for node in traced.space.nodes.values()]
    for text in texts:
        for hidden in ("SECRET-RESIDENT", "7001", "eyJ", "Bearer ", "BEGIN PRIVATE", *secrets):
            assert hidden not in text, hidden
    words = {name for one in traced.collector.spans for name in one.attributes}
    assert words <= {
        "http.request.method",
        "http.route",
        "http.response.status_code",
        "role",
        "attempt",
        "outcome",
        "busy_s",
        "error.type",
    }


@pytest.mark.slow
def test_lines_of_all_parties_are_found_by_one_trace(traced: Traced, agreements: list[str]) -> None:
    node = traced.node("institute")
    asked = {"kind": "psi-cardinality/2", "agreements": agreements, "purpose": "marketing"}
    headers = {
        "authorization": f"Bearer {node.home.api_key()}",
        "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01",
    }
    answer = httpx2.post(f"{node.url}/api/computations", json=asked, headers=headers)
    assert answer.status_code == 202
    deadline = time.monotonic() + SOON_S
    while True:
        found = {
            name
            for name in (*PROVIDERS, "institute")
            if any(line.get("trace") == "ab" * 16 for line in traced.lines(name))
        }
        if found == {*PROVIDERS, "institute"}:
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    lines = [line for name in PROVIDERS for line in traced.lines(name)]
    assert all("trace" in line and "node" in line for line in lines if line["event"] == "request")
