"""Rules: everything has ended or waits for a person, and both sides say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from dataspace.operations.wait_words import On
from dataspace.web.management import PLANNED as BACKGROUND
from tests.faults.picture import Picture, Row
from tests.faults.scene import OVER, PROVIDER, Finding, Scene, counterpart

# Processes that always wait for their time.
PLANNED = (*BACKGROUND, "expire-negotiation", "expire-computation", "gather-providers")


def open_work(scene: Scene) -> Iterator[Finding]:
    for picture in scene.pictures.values():
        for table in ("negotiations", "transfers", "computations"):
            for row in getattr(picture, table):
                state = row.get("state", row.get("status"))
                if state in OVER or (table == "negotiations" and _waits_for_person(scene, row)):
                    continue
                name = row.get("pid", row.get("id"))
                yield Finding("unfinished", picture.name, f"{table[:-1]} {name} is {state}")


def _waits_for_person(scene: Scene, row: Row) -> bool:
    peer = scene.by_did(row["peer"])
    theirs = counterpart(peer.negotiations, row) if peer else None
    return row["waiting"] is not None or (theirs is not None and theirs["waiting"] is not None)


def open_processes(scene: Scene) -> Iterator[Finding]:
    for picture in scene.pictures.values():
        for row in picture.processes:
            if row["state"] == "ready" and row["kind"] not in PLANNED:
                why = f"{row['kind']} for {row['subject']} still waits: {row['last_error']}"
                yield Finding("process-waits", picture.name, why)


def failed_processes(scene: Scene) -> Iterator[Finding]:
    for picture in scene.pictures.values():
        for row in picture.processes:
            if row["state"] == "failed" and not _explained(scene, picture, row):
                why = f"{row['kind']} for {row['subject']} failed: {row['last_error']}"
                yield Finding("process-failed", picture.name, why)


def _explained(scene: Scene, picture: Picture, process: Row) -> bool:
    """Whether a message came too late for a process that has since ended on both sides: each may
    end it while the other's word is on its way. Or a run failed that says why, as an order whose
    time was over before everything was back."""
    if process["kind"] == "hand-out-signatures":
        return _ended_without_them(scene, picture, process["subject"])
    if process["kind"] == "run-computation":
        runs = [row for row in picture.computations if row["id"] == process["subject"]]
        return any(row["status"] == "FAILED" and row["reason"] for row in runs)
    rows = [*picture.negotiations, *picture.transfers]
    about = next((row for row in rows if row["pid"] == process["subject"]), None)
    if process["kind"] != "deliver" or about is None or about["state"] != "TERMINATED":
        return False
    peer = scene.by_did(about["peer"])
    theirs = counterpart([*peer.negotiations, *peer.transfers], about) if peer else None
    return theirs is None or theirs["state"] == "TERMINATED"


def _ended_without_them(scene: Scene, picture: Picture, computation: str) -> bool:
    """Whether a provider's part failed, saying why, that the signatures were to be handed to."""
    orders = {row["order_h"] for row in picture.computations if row["id"] == computation}
    others = [
        row
        for other in scene.pictures.values()
        if other is not picture
        for row in other.computations
        if row["order_h"] in orders
    ]
    return any(row["status"] == "FAILED" and row["reason"] for row in others)


def sides_agree(scene: Scene) -> Iterator[Finding]:
    """Both sides of a negotiation and of a transfer know one another and have the same state."""
    for picture in scene.pictures.values():
        for table in ("negotiations", "transfers"):
            for row in getattr(picture, table):
                peer = scene.by_did(row["peer"])
                if peer is None:
                    continue
                theirs = counterpart(getattr(peer, table), row)
                what = f"{table[:-1]} {row['pid']}"
                if theirs is None:
                    if row["peer_pid"] is not None or row["state"] != "TERMINATED":
                        sentence = f"{what} is {row['state']} and {peer.name} does not know it"
                        yield Finding("one-sided", picture.name, sentence)
                elif theirs["state"] != row["state"]:
                    sentence = f"{what} is {row['state']}, at {peer.name} {theirs['state']}"
                    yield Finding("sides-differ", picture.name, sentence)


def agreements_agree(scene: Scene) -> Iterator[Finding]:
    """An agreement is the same on both sides, once, signed by both."""
    for picture in scene.pictures.values():
        made = Counter(row["negotiation"] for row in picture.agreements)
        for negotiation, times in made.items():
            if times > 1:
                sentence = f"negotiation {negotiation} led to {times} agreements"
                yield Finding("agreed-twice", picture.name, sentence)
        for row in picture.negotiations:
            if row["state"] == "FINALIZED" and row["pid"] not in made:
                sentence = f"negotiation {row['pid']} is FINALIZED without an agreement"
                yield Finding("agreement-missing", picture.name, sentence)
        for row in picture.agreements:
            peer = scene.by_did(row["consumer" if row["role"] == PROVIDER else "provider"])
            theirs = [one for one in peer.agreements if one["id"] == row["id"]] if peer else []
            if len(theirs) != 1:
                yield Finding(
                    "agreement-one-sided",
                    picture.name,
                    f"agreement {row['id']} is there {len(theirs)} times on the other side",
                )
                continue
            for field in ("document", "document_h", "provider_signature", "consumer_signature"):
                if theirs[0][field] != row[field] or row[field] is None:
                    sentence = f"agreement {row['id']}: {field} differs or is missing"
                    yield Finding("agreement-differs", picture.name, sentence)
            if (theirs[0]["ended_at"] is None) != (row["ended_at"] is None):
                sentence = f"agreement {row['id']} has ended on one side only"
                yield Finding("agreement-ended-once", picture.name, sentence)


def signatures_verify(scene: Scene) -> Iterator[Finding]:
    from joserfc.jwk import import_key

    from contracts.odrl import Agreement
    from contracts.signature import verify_agreement_signature

    for picture in scene.pictures.values():
        for row in picture.agreements:
            document = Agreement.model_validate(row["document"])
            keys: dict[str, Any] = row["keys"] or {}
            for role in ("provider", "consumer"):
                try:
                    verify_agreement_signature(
                        row[f"{role}_signature"] or "",
                        document,
                        row[role],
                        lambda kid: import_key(keys[kid]),  # noqa: B023
                    )
                except Exception as err:
                    sentence = f"agreement {row['id']}: the {role}'s signature: {err}"
                    yield Finding("signature", picture.name, sentence)


def explained_by_nodes(scene: Scene) -> Iterator[Finding]:
    """`dataspace why` says of everything that is not done why, and names a person where one is
    waited for."""
    for picture in scene.pictures.values():
        for table in ("negotiations", "transfers", "computations"):
            for row in getattr(picture, table):
                state, name = row.get("state", row.get("status")), row.get("pid", row.get("id"))
                if state in ("FINALIZED", "COMPLETED"):
                    continue
                why = picture.explained.get(name)
                what = f"{table[:-1]} {name} is {state}"
                if why is None or not why["sentence"]:
                    yield Finding("unexplained", picture.name, f"{what}, and nothing says why")
                elif state not in OVER and why["on"] not in (On.PERSON.value, On.PEER.value):
                    sentence = f"{what} and waits for {why['on']}: {why['sentence']}"
                    yield Finding("unexplained", picture.name, sentence)
