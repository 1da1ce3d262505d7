"""The story the demonstration tells: publish, find, agree, compute, be refused, audit, tamper."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import rfc8785

from connectors.personal import ConsentBook
from dataspace.auditing import export_node_log
from dataspace.client import Refused
from dataspace.demo import truth
from dataspace.demo.screen import Screen
from dataspace.demo.space import LocalSpace, RunningNode
from dataspace.errors import NodeError
from dataspace.home import Home
from dataspace.settings import ParticipantKind
from privacy.kinds import KINDS

PURPOSE = "public-health-research"
REFUSED_PURPOSE = "marketing"
MIN_COHORT = 20
RESIDENT_ID = "resident-id/1"


@dataclass
class Told:
    """What happened, as `--json` writes it."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    agreements: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    refusal: dict[str, Any] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)
    tamper: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def wrong(self) -> list[str]:
        """Everything that did not come out as it must; empty when the demonstration holds."""
        found = [
            f"{one['kind']} gave another value than the plain computation"
            for one in self.results
            if one["value"] != one["expected"]
        ]
        if not self.refusal.get("clause"):
            found.append("the use that the contract does not allow was not refused with its clause")
        if not self.audit.get("ok"):
            found.append("the audit found something in the untouched logs")
        if not self.tamper.get("finding"):
            found.append("the audit did not find the altered entry")
        return found

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "ok": not self.wrong, "wrong": self.wrong}


class Story:
    """Runs the steps over a space; each step shows what it did and keeps it in `told`."""

    def __init__(
        self, space: LocalSpace, data: Path, screen: Screen, *, min_cohort: int = MIN_COHORT
    ) -> None:
        self.space = space
        self.data = data
        self.screen = screen
        self.min_cohort = min_cohort
        self.told = Told()
        self.regulator: Home | None = None

    def timed(self, name: str, step: Callable[[], None]) -> None:
        begun = time.monotonic()
        step()
        self.told.timings[name] = round(time.monotonic() - begun, 3)

    def node(self, name: str) -> RunningNode:
        return self.space.nodes[name]

    def start_nodes(self, participants: dict[str, ParticipantKind]) -> None:
        self.screen.heading("A space begins", "one process a participant, each with its own keys")
        self.space.found(participants)
        self.regulator = self.space.add_regulator("regulator")
        for node in self.space.nodes.values():
            described = {
                "name": node.name,
                "kind": str(node.home.settings.kind),
                "did": node.did,
                "url": node.url,
                "pid": node.process.pid if node.process else None,
            }
            self.told.nodes.append(described)
        self.screen.nodes(self.told.nodes)

    def publish(
        self,
        node: str,
        dataset: str,
        source: str,
        columns: list[dict[str, Any]],
        title: str,
        **described: Any,
    ) -> None:
        """Publish with the demo's terms and show the data's quality where it may be seen."""
        terms = {
            "computations": list(KINDS),
            "purposes": [PURPOSE],
            "min_cohort": self.min_cohort,
            "not_after": (datetime.now(UTC) + timedelta(days=30)).isoformat(timespec="seconds"),
            "max_uses": 50,
        }
        made = self.node(node).client.publish(
            dataset, source, columns, title=title, terms=terms, **described
        )
        self.screen.published(node, title, made)

    def agree(self, consumer: str, offers: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Find each (node, dataset) in its catalogue and negotiate; returns dataset → agreement."""
        self.screen.heading("Contracts", "found in the catalogues, negotiated over the protocol")
        client = self.node(consumer).client
        agreed: dict[str, str] = {}
        for provider, dataset in offers:
            url = self.node(provider).url
            found = [one["@id"] for one in client.catalog(url).get("dataset", [])]
            if dataset not in found:
                raise NodeError(f"{dataset} is not in the catalogue of {provider}")
            begun = time.monotonic()
            agreed[dataset] = client.negotiate(url, dataset)
            seconds = round(time.monotonic() - begun, 3)
            record = {
                "dataset": dataset,
                "provider": provider,
                "id": agreed[dataset],
                "seconds": seconds,
            }
            self.told.agreements.append(record)
            self.screen.agreed(record)
        return agreed

    def compute(
        self,
        consumer: str,
        kind: str,
        agreements: Sequence[str],
        expected: Mapping[str, Any],
        *,
        title: str,
        own: tuple[Path, str] | None = None,
    ) -> None:
        """Run one computation and put its value beside the plain truth."""
        result = self.node(consumer).client.compute(kind, agreements, purpose=PURPOSE, own=own)
        value = dict(result.value)
        record = {
            "kind": kind,
            "title": title,
            "value": value,
            "expected": dict(expected),
            "seconds": result.seconds,
            "learned": dict(KINDS[kind].leakage),
            "transcript_sha256": result.transcript_sha256,
        }
        self.told.results.append(record)
        self.screen.result(record)

    def be_refused(self, consumer: str, kind: str, agreements: Sequence[str]) -> None:
        """Ask for a use the contract does not allow, and show the clause that refused it."""
        self.screen.heading("A refusal", f"the same computation, for {REFUSED_PURPOSE}")
        try:
            self.node(consumer).client.compute(kind, agreements, purpose=REFUSED_PURPOSE)
        except Refused as refusal:
            self.told.refusal = {
                "kind": kind,
                "purpose": REFUSED_PURPOSE,
                "reason": refusal.sentence,
                "clause": refusal.clause,
                "remedy": refusal.remedy,
                "refused_by": refusal.refused_by,
            }
        self.screen.refusal(self.told.refusal)

    def audit(self) -> None:
        """An auditor's process, given the chain's address and the logs' URLs, verifies all."""
        self.screen.heading("The regulator", "trusts no server: only the chain and mathematics")
        self.space.wait_until_anchored()
        urls = [f"{node.url}/tlog" for node in self.space.nodes.values()]
        code, told = self._run_auditor(urls)
        self.told.audit = {"ok": code == 0, **told}
        self.screen.audit(self.told.audit)

    def tamper(self, victim: str) -> None:
        """Alter one entry in a copy of one log, and let the auditor find it."""
        copy = self.space.directory / "tampered-log"
        export_node_log(self.node(victim).client, copy)
        index, before, after = _alter_one_entry(copy / "entries.jsonl")
        code, told = self._run_auditor([str(copy)])
        named = [
            one
            for one in told.get("findings", [])
            if one["code"] == "entry-altered" and one["index"] == index
        ]
        self.told.tamper = {
            "log": victim,
            "index": index,
            "field": "purpose",
            "from": before,
            "to": after,
            "finding": named[0]["sentence"] if code != 0 and named else None,
        }
        self.screen.tamper(self.told.tamper)

    def _run_auditor(self, logs: list[str]) -> tuple[int, dict[str, Any]]:
        assert self.regulator is not None
        status = self.space.operator.client.status()["space"]
        command = [
            *(sys.executable, "-m", "dataspace.cli", "audit", "--json"),
            *("--rpc", status["rpc_url"], "--contract", status["contract"]),
            *("--home", str(self.regulator.path)),
        ]
        for log in logs:
            command += ["--log", log]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        try:
            return done.returncode, json.loads(done.stdout)
        except ValueError as err:
            raise NodeError(f"the auditor failed: {done.stderr.strip()[-500:]}") from err


def tell_city(space: LocalSpace, data: Path, screen: Screen) -> Told:
    """The main story: civil affairs, an insurer, a trustee of health records, an institute."""
    story = Story(space, data, screen)
    story.timed(
        "start",
        lambda: story.start_nodes(
            {
                "civil-affairs": ParticipantKind.GOVERNMENT,
                "insurer": ParticipantKind.ENTERPRISE,
                "health-trust": ParticipantKind.PERSONAL,
                "institute": ParticipantKind.CONSUMER,
            }
        ),
    )
    story.timed("publish", lambda: _publish_city(story))
    agreed: dict[str, str] = {}
    offers = [("civil-affairs", "residents"), ("insurer", "contracts"), ("health-trust", "health")]
    story.timed("negotiate", lambda: agreed.update(story.agree("institute", offers)))
    story.timed("compute", lambda: _compute_city(story, agreed))
    refused = [agreed["health"], agreed["contracts"]]
    story.timed("refuse", lambda: story.be_refused("institute", "private-sum/2", refused))
    story.timed("audit", story.audit)
    story.timed("tamper", lambda: story.tamper("insurer"))
    return story.told


def _publish_city(story: Story) -> None:
    story.screen.heading("Data with offers", "rows stay where they are; terms are published")
    data = story.data
    identifier = {"name": "resident_id", "role": "identifier", "canonicaliser": RESIDENT_ID}
    district = {"name": "district", "role": "group"}
    story.publish(
        "civil-affairs",
        "residents",
        str(data / "residents.csv"),
        [identifier, {"name": "subsidy_cents", "role": "value"}, district],
        "Residents 居民",
        theme="grassroots-governance",
        frequency="daily",
        legal_basis="statutory-duty",
    )
    story.publish(
        "insurer",
        "contracts",
        str(data / "contracts.csv"),
        [identifier, {"name": "amount_cents", "role": "value"}, district],
        "Insurance contracts 保险合同",
        theme="economy",
        frequency="monthly",
        legal_basis="contract",
    )
    health, consents = data / "health.csv", data / "consents.jsonl"
    story.publish(
        "health-trust",
        "health",
        f"personal+file:{health}?consents={consents}&subject=resident_id",
        [identifier, {"name": "cost_cents", "role": "value"}, district],
        "Health records under consent 健康档案",
        theme="health",
        frequency="irregular",
        legal_basis="consent",
    )


def _compute_city(story: Story, agreed: Mapping[str, str]) -> None:
    story.screen.heading("Computing together", "figures beside the plain truth")
    data, now = story.data, datetime.now(UTC)
    consumer = story.node("institute").did
    residents, contracts = truth.rows(data / "residents.csv"), truth.rows(data / "contracts.csv")
    book = ConsentBook.load(data / "consents.jsonl")

    def health(*columns: str) -> list[truth.Row]:
        return truth.consented(
            truth.rows(data / "health.csv"),
            book,
            subject="resident_id",
            columns=columns,
            purpose=PURPOSE,
            recipient=consumer,
            at=now,
        )

    registered = truth.people(residents, "resident_id", RESIDENT_ID)
    patients = truth.people(health("resident_id"), "resident_id", RESIDENT_ID)
    screened = truth.people(truth.rows(data / "screening.csv"), "resident_id", RESIDENT_ID)
    story.compute(
        "institute",
        "psi-cardinality/2",
        [agreed["residents"], agreed["health"]],
        {"count": len(registered & patients)},
        title="How many registered residents have health records?",
    )
    found = sorted(registered & screened)
    story.compute(
        "institute",
        "psi/2",
        [agreed["residents"]],
        {"count": len(found), "identifiers": found},
        title="Which people on our own screening list are registered?",
        own=(data / "screening.csv", "resident_id"),
    )
    story.compute(
        "institute",
        "private-sum/2",
        [agreed["health"], agreed["contracts"]],
        truth.joined_sum(
            patients,
            contracts,
            column="resident_id",
            canonicaliser=RESIDENT_ID,
            value=lambda row: int(row["amount_cents"]),
        ),
        title="For how much are the patients insured, together?",
    )
    parts = [
        (residents, "district", "subsidy_cents"),
        (contracts, "district", "amount_cents"),
        (health("cost_cents", "district"), "district", "cost_cents"),
    ]
    groups = sorted({row["district"] for found_rows, _, _ in parts for row in found_rows})
    story.compute(
        "institute",
        "aggregate/1",
        [agreed["residents"], agreed["contracts"], agreed["health"]],
        truth.grouped(parts, groups=groups, min_cohort=MIN_COHORT),
        title="Subsidy, insurance and cost by district, over three providers",
    )


def _alter_one_entry(entries: Path) -> tuple[int, str, str]:
    """Change the purpose in one entry's body of an exported log; returns index, before, after."""
    lines = entries.read_text(encoding="utf-8").splitlines()
    for index, line in enumerate(lines):
        sealed = json.loads(line)
        body = json.loads(base64.b64decode(sealed["body"])) if sealed else {}
        if body.get("type") == "decided" and body.get("decision") == "deny":
            before, after = body["purpose"], PURPOSE
            body["purpose"] = after
            sealed["body"] = base64.b64encode(rfc8785.dumps(body)).decode()
            lines[index] = json.dumps(sealed, ensure_ascii=False)
            entries.write_text("\n".join(lines) + "\n", encoding="utf-8")
            return index, before, after
    raise NodeError("the log has no refusal to alter")
