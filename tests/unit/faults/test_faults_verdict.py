"""The verdict finds nothing in a space that is as it must be, and names every defect planted."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from joserfc.jwk import OKPKey

from contracts.odrl import Agreement
from contracts.signature import sign_agreement
from tests.faults.asking import Asked
from tests.faults.picture import Picture
from tests.faults.plan import CONSUMER, Kind
from tests.faults.scene import Scene
from tests.faults.verdict import judge

ORDER, COMMITMENT = "a" * 64, "c" * 64
PROVIDER_KEY, CONSUMER_KEY = (OKPKey.generate_key("Ed25519") for _ in range(2))
DIDS = {"insurer": "did:web:insurer", CONSUMER: "did:web:institute"}


def agreement() -> dict[str, Any]:
    document = Agreement.model_validate(
        {
            "@id": "urn:uuid:agreed",
            "@type": "Agreement",
            "target": "people",
            "assigner": DIDS["insurer"],
            "assignee": DIDS[CONSUMER],
            "timestamp": "2026-06-01T00:00:00Z",
            "permission": [{"action": "use"}],
        }
    )
    kids = {role: f"{DIDS[name]}#k" for role, name in SIDES}
    keys = {"provider": PROVIDER_KEY, "consumer": CONSUMER_KEY}
    return {
        "id": "urn:uuid:agreed",
        "provider": DIDS["insurer"],
        "consumer": DIDS[CONSUMER],
        "document": document.to_json(),
        "document_h": "d" * 64,
        "use_count": 2,
        "ended_at": None,
        "keys": {kids[role]: keys[role].as_dict(private=False) for role in keys},
        **{
            f"{role}_signature": sign_agreement(document, keys[role], kids[role], "Ed25519")
            for role in keys
        },
    }


SIDES = (("provider", "insurer"), ("consumer", CONSUMER))


def side(role: str, name: str, agreed: dict[str, Any]) -> Picture:
    """One node after one agreement, one computation and one transfer of rows."""
    other = CONSUMER if role == "provider" else "insurer"
    mine, theirs = (f"{role}-", "consumer-" if role == "provider" else "provider-")
    agreed_id, ours = agreed["id"], role.upper()

    def process(pid: str, **fields: Any) -> dict[str, Any]:
        return {"pid": mine + pid, "peer_pid": theirs + pid, "peer": DIDS[other], **fields}

    permit = [{"type": "decided", "decision": "permit", "corr": agreed["id"]}]
    entries: list[dict[str, Any]] = [
        {"type": "negotiated", "corr": agreed["id"], "outcome": "finalized"},
        {"type": "ordered", "order_h": ORDER, "corr": agreed["id"]},
        *([{**permit[0], "order_h": ORDER}, permit[0]] if role == "provider" else []),
        {"type": "completed", "order_h": ORDER},
        {"type": "accessed", "outcome": "sent" if mine else "", "outputs_c": [COMMITMENT]},
    ]
    entries[-1]["outcome"] = "sent" if role == "provider" else "received"
    moved = {"sha256": "e" * 64}
    computed = {"role": "right" if role == "provider" else "consumer", "order_h": ORDER}
    return Picture(
        name=name,
        did=DIDS[name],
        origin=f"{name}/tlog",
        negotiations=[
            process("n", state="FINALIZED", role=ours, waiting=None, agreement=agreed_id)
        ],
        agreements=[{**agreed, "role": ours, "negotiation": f"{mine}n"}],
        transfers=[
            process(
                pid,
                state="COMPLETED",
                role=role.upper(),
                agreement=agreed["id"],
                moved=what,
                **more,
            )
            for pid, what, more in (
                ("c", None, {"computation": "c1", "order_h": ORDER}),
                ("r", moved, {"computation": "", "order_h": ""}),
            )
        ],
        computations=[
            {"id": "c1", "status": "COMPLETED", "value": {"count": 3}, "reason": None, **computed}
        ],
        processes=[
            {"state": "done", "kind": "deliver", "subject": "s", "last_error": None},
            {"state": "ready", "kind": "tidy", "subject": "s", "last_error": None},
        ],
        entries=[{"position": number, **entry} for number, entry in enumerate(entries)],
        log_size=len(entries),
        anchors=(2, len(entries)),
        log_lines=['{"event": "node started"}'],
    )


@pytest.fixture(scope="module")
def calm() -> Scene:
    agreed = agreement()
    asked = [
        Asked(
            0, "psi/2", CONSUMER, "/api/computations/c1", "c1", must=("COMPLETED",),
            value={"count": 3},
        ),
        Asked(
            1, "pull", CONSUMER, "/api/transfers/consumer-r", "consumer-r", "rows",
            must=("COMPLETED",), value="e" * 64,
        ),
    ]  # fmt: skip
    return Scene({name: side(role, name, agreed) for role, name in SIDES}, asked)


def changed(scene: Scene, name: str, **fields: Any) -> Scene:
    pictures = {**scene.pictures, name: replace(scene.pictures[name], **fields)}
    return replace(scene, pictures=pictures)


def with_row(scene: Scene, name: str, table: str, index: int, **fields: Any) -> Scene:
    rows = [dict(row) for row in getattr(scene.pictures[name], table)]
    rows[index] |= fields
    return changed(scene, name, **{table: rows})


def without_entry(scene: Scene, name: str, type_: str, *, positions: bool) -> Scene:
    kept = [one for one in scene.pictures[name].entries if one["type"] != type_]
    if positions:
        kept = [{**one, "position": number} for number, one in enumerate(kept)]
    return changed(scene, name, entries=kept, log_size=len(kept), anchors=(len(kept),))


def rules(scene: Scene) -> set[str]:
    # One agreement of this scene was made with the others before the storm.
    return {one.rule for one in judge(scene)} - {"asked-once"}


def test_nothing_is_found_where_everything_is_as_it_must_be(calm: Scene) -> None:
    assert rules(calm) == set()


WITHDRAWN = [{"type": "consent_withdrawn", "position": 0}]
UNTIMELY = "refused: the peer refused it: the token was issued 45 seconds in the future"

DEFECTS: dict[str, tuple[str, Callable[[Scene], Scene]]] = {
    "a state on one side": (
        "sides-differ",
        lambda scene: with_row(scene, "insurer", "transfers", 1, state="TERMINATED"),
    ),
    "a process that nobody knows": (
        "one-sided",
        lambda scene: with_row(scene, CONSUMER, "negotiations", 0, pid="x", peer_pid="y"),
    ),
    "work that waits": (
        "process-waits",
        lambda scene: with_row(scene, CONSUMER, "processes", 0, state="ready"),
    ),
    "work that failed": (
        "process-failed",
        lambda scene: with_row(scene, CONSUMER, "processes", 0, state="failed"),
    ),
    "a run that hangs": (
        "unfinished",
        lambda scene: with_row(scene, "insurer", "computations", 0, status="RUNNING"),
    ),
    "another text of an agreement": (
        "agreement-differs",
        lambda scene: with_row(scene, "insurer", "agreements", 0, document_h="f" * 64),
    ),
    "a signature of something else": (
        "signature",
        lambda scene: with_row(scene, "insurer", "agreements", 0, provider_signature="e30..e30"),
    ),
    "an agreement made twice": (
        "agreed-twice",
        lambda scene: changed(
            scene, CONSUMER, agreements=[*scene.pictures[CONSUMER].agreements] * 2
        ),
    ),
    "an agreement that is gone": (
        "agreement-missing",
        lambda scene: changed(scene, CONSUMER, agreements=[]),
    ),
    "an end told by one side": (
        "agreement-ended-once",
        lambda scene: with_row(scene, CONSUMER, "agreements", 0, ended_at=1.0),
    ),
    "no evidence of an agreement": (
        "evidence-agreement",
        lambda scene: without_entry(scene, CONSUMER, "negotiated", positions=True),
    ),
    "no evidence of a result": (
        "evidence-order",
        lambda scene: without_entry(scene, "insurer", "completed", positions=True),
    ),
    "a run nobody decided about": (
        "ran-undecided",
        lambda scene: without_entry(scene, "insurer", "decided", positions=True),
    ),
    "an entry dropped from the log": (
        "log-gaps",
        lambda scene: without_entry(scene, CONSUMER, "ordered", positions=False),
    ),
    "a use that is not counted": (
        "uses-counted",
        lambda scene: with_row(scene, "insurer", "agreements", 0, use_count=1),
    ),
    "no evidence of rows that moved": (
        "evidence-rows",
        lambda scene: without_entry(scene, "insurer", "accessed", positions=True),
    ),
    "rows told twice": (
        "rows-twice",
        lambda scene: changed(
            scene,
            "insurer",
            entries=[*scene.pictures["insurer"].entries, scene.pictures["insurer"].entries[-1]],
        ),
    ),
    "an anchor made twice": (
        "anchored-twice",
        lambda scene: changed(scene, CONSUMER, anchors=(2, 2, 4)),
    ),
    "an entry that is not anchored": (
        "unanchored",
        lambda scene: changed(scene, CONSUMER, anchors=(2,)),
    ),
    "a wrong result": (
        "result-wrong",
        lambda scene: with_row(scene, CONSUMER, "computations", 0, value={"count": 4}),
    ),
    "other rows than were given": (
        "result-wrong",
        lambda scene: with_row(scene, CONSUMER, "transfers", 1, moved={"sha256": "f" * 64}),
    ),
    "a request that is gone": (
        "lost",
        lambda scene: changed(scene, CONSUMER, computations=[]),
    ),
    "an end that must not be": (
        "ended-otherwise",
        lambda scene: with_row(scene, CONSUMER, "computations", 0, status="REFUSED", reason="no"),
    ),
    "a consent that the evidence does not tell of": (
        "evidence-consent",
        lambda scene: changed(scene, "insurer", consents=[{"receipt_id": "r"}]),
    ),
    "a withdrawal that the evidence does not tell of": (
        "evidence-consent",
        lambda scene: changed(
            scene, "insurer", consents=[{"receipt_id": "given-1"}], entries=WITHDRAWN
        ),
    ),
    "an end of which nothing says why": (
        "unexplained",
        lambda scene: with_row(scene, CONSUMER, "negotiations", 0, state="TERMINATED"),
    ),
    "a refusal by a clock although none was wrong": (
        "owner",
        lambda scene: replace(scene, asked=[replace(scene.asked[0], told=[UNTIMELY])]),
    ),
    "something left behind": (
        "leftover",
        lambda scene: changed(scene, CONSUMER, leftovers=("spool/c1",)),
    ),
    "a person in a log": (
        "person-in-log",
        lambda scene: changed(scene, "insurer", log_lines=["zqperson000000001 is not known"]),
    ),
    "a traceback in a log": (
        "log",
        lambda scene: changed(scene, "insurer", log_lines=["Traceback (most recent call last):"]),
    ),
}


@pytest.mark.parametrize("defect", list(DEFECTS))
def test_a_planted_defect_is_named(calm: Scene, defect: str) -> None:
    rule, plant = DEFECTS[defect]
    assert rule in rules(plant(calm))


def test_more_processes_than_were_asked_for_are_found(calm: Scene) -> None:
    twice = changed(calm, CONSUMER, computations=[*calm.pictures[CONSUMER].computations] * 2)
    found = [one.sentence for one in judge(twice) if one.rule == "asked-once"]
    assert "2 computations, 1 asked for, 0 unanswered" in found


def test_a_word_that_crossed_the_end_of_its_transfer_is_no_finding(calm: Scene) -> None:
    over = calm
    for name in ("insurer", CONSUMER):
        over = with_row(over, name, "transfers", 0, state="TERMINATED")
    late = {"state": "failed", "kind": "deliver", "subject": "provider-c", "last_error": "late"}
    assert "process-failed" not in rules(changed(over, "insurer", processes=[late]))


def test_a_refusal_that_names_a_clock_which_was_wrong_is_no_finding(calm: Scene) -> None:
    refused = replace(calm, asked=[replace(calm.asked[0], told=[UNTIMELY])])
    assert "owner" not in rules(replace(refused, struck=frozenset({Kind.CLOCK})))


def test_what_waits_for_a_person_is_explained_by_it(calm: Scene) -> None:
    waits = with_row(calm, CONSUMER, "negotiations", 0, state="OFFERED", waiting="person")
    waits = with_row(waits, "insurer", "negotiations", 0, state="OFFERED")
    said = {"sentence": "It waits.", "on": "a person here"}
    for name, on in ((CONSUMER, "a person here"), ("insurer", "a peer")):
        pid = waits.pictures[name].negotiations[0]["pid"]
        waits = changed(waits, name, explained={pid: {**said, "on": on}})
    assert rules(waits).isdisjoint({"unexplained", "unfinished", "sides-differ"})
    idle = {waits.pictures[CONSUMER].negotiations[0]["pid"]: {**said, "on": "nobody"}}
    assert "unexplained" in rules(changed(waits, CONSUMER, explained=idle))


def test_a_run_that_failed_and_says_why_is_no_finding(calm: Scene) -> None:
    late = {"state": "failed", "kind": "run-computation", "subject": "c1", "last_error": "late"}
    assert "process-failed" in rules(changed(calm, "insurer", processes=[late]))
    told = with_row(calm, "insurer", "computations", 0, status="FAILED", reason="order: expired")
    assert "process-failed" not in rules(changed(told, "insurer", processes=[late]))


def test_signatures_that_a_failed_part_takes_no_more_are_no_finding(calm: Scene) -> None:
    left = {"state": "failed", "kind": "hand-out-signatures", "subject": "c1", "last_error": "no"}
    assert "process-failed" in rules(changed(calm, CONSUMER, processes=[left]))
    told = with_row(calm, "insurer", "computations", 0, status="FAILED", reason="it was restarted")
    assert "process-failed" not in rules(changed(told, CONSUMER, processes=[left]))
