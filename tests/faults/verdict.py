"""Is everything as it must be after the storm? Rules over pictures, each a function.

A rule yields a finding for everything that is not so. Rules know no database and no process: the
tests plant each defect and see it named.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.party import Party
from dataspace.web.management import PLANNED as BACKGROUND
from tests.faults import city
from tests.faults.load import Asked, result_matches
from tests.faults.picture import Picture, Row
from tests.faults.plan import CONSUMER

# As negotiations, agreements and transfers have it; computations have roles of their own.
PROVIDER = Party.PROVIDER.value
OVER = ("FINALIZED", "TERMINATED", "COMPLETED", "REFUSED", "FAILED")
# Processes that always wait for their time.
PLANNED = (*BACKGROUND, "expire-negotiation", "expire-computation", "gather-providers")


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it must be."""

    rule: str
    node: str
    sentence: str


@dataclass(frozen=True)
class Scene:
    """All pictures by name of their node, and what the owners asked for."""

    pictures: Mapping[str, Picture]
    asked: Sequence[Asked]

    def by_did(self, did: str) -> Picture | None:
        return next((one for one in self.pictures.values() if one.did == did), None)


Rule = Callable[[Scene], Iterator[Finding]]


def judge(scene: Scene) -> list[Finding]:
    """What every rule finds."""
    return [finding for rule in RULES for finding in rule(scene)]


def unfinished(scene: Scene) -> list[Finding]:
    """What is still under way: everything must come to an end, or wait for a person."""
    return [*_open_processes(scene), *_open_work(scene), *_unanchored(scene)]


def _open_work(scene: Scene) -> Iterator[Finding]:
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
    theirs = _counterpart(peer.negotiations, row) if peer else None
    return row["waiting"] is not None or (theirs is not None and theirs["waiting"] is not None)


def _open_processes(scene: Scene) -> Iterator[Finding]:
    for picture in scene.pictures.values():
        for row in picture.processes:
            if row["state"] == "ready" and row["kind"] not in PLANNED:
                why = f"{row['kind']} for {row['subject']} still waits: {row['last_error']}"
                yield Finding("process-waits", picture.name, why)


def _failed_processes(scene: Scene) -> Iterator[Finding]:
    for picture in scene.pictures.values():
        for row in picture.processes:
            if row["state"] == "failed" and not _explained(scene, picture, row):
                why = f"{row['kind']} for {row['subject']} failed: {row['last_error']}"
                yield Finding("process-failed", picture.name, why)


def _explained(scene: Scene, picture: Picture, process: Row) -> bool:
    """Whether a message came too late for a process that has since ended on both sides: each may
    end it while the other's word is on its way."""
    rows = [*picture.negotiations, *picture.transfers]
    about = next((row for row in rows if row["pid"] == process["subject"]), None)
    if process["kind"] != "deliver" or about is None or about["state"] != "TERMINATED":
        return False
    peer = scene.by_did(about["peer"])
    theirs = _counterpart([*peer.negotiations, *peer.transfers], about) if peer else None
    return theirs is None or theirs["state"] == "TERMINATED"


def _unanchored(scene: Scene) -> Iterator[Finding]:
    for picture in scene.pictures.values():
        if not picture.anchors or picture.anchors[-1] != picture.log_size:
            newest = picture.anchors[-1] if picture.anchors else 0
            yield Finding(
                "unanchored", picture.name, f"{picture.log_size} entries, {newest} anchored"
            )


def _counterpart(rows: Sequence[Row], row: Row) -> Row | None:
    """The other side's row of the same process."""
    for one in rows:
        if one["peer_pid"] == row["pid"] or one["pid"] == row["peer_pid"]:
            return one
    return None


def _sides_agree(scene: Scene) -> Iterator[Finding]:
    """Both sides of a negotiation and of a transfer know one another and have the same state."""
    for picture in scene.pictures.values():
        for table in ("negotiations", "transfers"):
            for row in getattr(picture, table):
                peer = scene.by_did(row["peer"])
                if peer is None:
                    continue
                theirs = _counterpart(getattr(peer, table), row)
                what = f"{table[:-1]} {row['pid']}"
                if theirs is None:
                    if row["peer_pid"] is not None or row["state"] != "TERMINATED":
                        sentence = f"{what} is {row['state']} and {peer.name} does not know it"
                        yield Finding("one-sided", picture.name, sentence)
                elif theirs["state"] != row["state"]:
                    sentence = f"{what} is {row['state']}, at {peer.name} {theirs['state']}"
                    yield Finding("sides-differ", picture.name, sentence)


def _agreements_agree(scene: Scene) -> Iterator[Finding]:
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


def _signatures_verify(scene: Scene) -> Iterator[Finding]:
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


def _evidence_of_agreements(scene: Scene) -> Iterator[Finding]:
    for picture in scene.pictures.values():
        told = [one for one in picture.entries if one["type"] == "negotiated"]
        wanted: Counter[tuple[str, str]] = Counter()
        for row in picture.agreements:
            wanted[row["id"], "finalized"] += 1
            if row["ended_at"] is not None:
                wanted[row["id"], "ended"] += 1
        found = Counter((one["corr"], one["outcome"]) for one in told)
        yield from _same(picture, "evidence-agreement", wanted, found)


def _evidence_of_orders(scene: Scene) -> Iterator[Finding]:
    """One entry for every order sent or received, decision and end, and none without its event."""
    for picture in scene.pictures.values():
        about = [one for one in picture.entries if one.get("order_h")]
        parts: dict[str, int] = Counter(
            row["order_h"] for row in picture.transfers if row["computation"]
        )
        wanted: Counter[tuple[str, str]] = Counter()
        for order, times in parts.items():
            wanted["ordered", order] = times
        for row in picture.computations:
            times = parts[row["order_h"]] if row["role"] == "consumer" else 1
            if row["status"] == "COMPLETED":
                wanted["completed", row["order_h"]] = times
            elif row["status"] in OVER:
                wanted[row["status"].lower(), row["order_h"]] = 1
        kept = ("ordered", "completed", "refused", "failed")
        found = Counter((one["type"], one["order_h"]) for one in about if one["type"] in kept)
        yield from _same(picture, "evidence-order", wanted, found)
        decided = Counter(one["order_h"] for one in about if one["type"] == "decided")
        for order, times in decided.items():
            if times > 1 or order not in parts:
                sentence = f"order {order} was decided {times} times, for {parts[order]} transfers"
                yield Finding("decided-twice", picture.name, sentence)
        for row in picture.computations:
            if row["role"] != "consumer" and decided[row["order_h"]] != 1:
                sentence = f"order {row['order_h']} ran and was decided {decided[row['order_h']]}x"
                yield Finding("ran-undecided", picture.name, sentence)


def _uses_counted(scene: Scene) -> Iterator[Finding]:
    """A provider's count of uses is the number of its permits, and covers what was completed."""
    for picture in scene.pictures.values():
        permits = Counter(
            one["corr"]
            for one in picture.entries
            if one["type"] == "decided" and one.get("decision") == "permit"
        )
        completed: Counter[str] = Counter()
        for row in picture.transfers:
            if row["role"] == PROVIDER and row["state"] == "COMPLETED":
                completed[row["agreement"]] += 1
        for row in picture.agreements:
            if row["role"] != PROVIDER:
                continue
            uses, allowed, done = row["use_count"], permits[row["id"]], completed[row["id"]]
            if uses != allowed or uses < done:
                yield Finding(
                    "uses-counted",
                    picture.name,
                    f"agreement {row['id']}: {uses} uses counted, {allowed} permitted, {done} done",
                )


def _rows_came_once(scene: Scene) -> Iterator[Finding]:
    """Both sides have evidence of rows that moved, once, with the same commitment."""
    commitments: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for picture in scene.pictures.values():
        accessed = [one for one in picture.entries if one["type"] == "accessed"]
        moved = [row for row in picture.transfers if row["moved"] is not None]
        if len(accessed) != len(moved) and not picture.deliveries:
            sentence = f"{len(moved)} transfers moved rows, {len(accessed)} entries say so"
            yield Finding("evidence-rows", picture.name, sentence)
        for one in accessed:
            for commitment in one.get("outputs_c") or ():
                commitments[commitment].append((picture.name, one["outcome"]))
    for commitment, told in commitments.items():
        if len(told) != len(set(told)):
            sentence = f"the same rows are told twice: {commitment}"
            yield Finding("rows-twice", told[0][0], sentence)
    for picture in scene.pictures.values():
        for row in picture.transfers:
            if row["computation"] or row["state"] != "COMPLETED":
                continue
            if row["moved"] is None:
                sentence = f"transfer {row['pid']} is COMPLETED and moved nothing"
                yield Finding("rows-missing", picture.name, sentence)


def _consents_told(scene: Scene) -> Iterator[Finding]:
    for picture in scene.pictures.values():
        if not picture.consents:
            continue
        # Those that were there before the node are told by nobody.
        ours = [one for one in picture.consents if not one["receipt_id"].startswith("given-")]
        wanted = Counter(
            {
                ("consent_given", ""): len(ours),
                ("consent_withdrawn", ""): sum(bool(one.get("withdrawn_at")) for one in ours),
            }
        )
        found = Counter(
            (one["type"], "") for one in picture.entries if one["type"].startswith("consent_")
        )
        yield from _same(picture, "evidence-consent", wanted, found)


def _anchored_once(scene: Scene) -> Iterator[Finding]:
    for picture in scene.pictures.values():
        for size, times in Counter(picture.anchors).items():
            if times > 1:
                sentence = f"size {size} was anchored {times} times"
                yield Finding("anchored-twice", picture.name, sentence)
        if list(picture.anchors) != sorted(picture.anchors):
            yield Finding("anchored-backwards", picture.name, f"{list(picture.anchors)}")
        positions = [one["position"] for one in picture.entries]
        if positions != list(range(picture.log_size)):
            sentence = f"{len(positions)} entries for a log of {picture.log_size}"
            yield Finding("log-gaps", picture.name, sentence)


def _asked_came_out(scene: Scene) -> Iterator[Finding]:
    """What an owner was answered is there, and ended as it must, with the true result."""
    for asked in scene.asked:
        for told in asked.told:
            if told.startswith(("harness:", "refused:")):
                yield Finding("owner", asked.node, f"{asked.work} {asked.number}: {told}")
        row = _row_of(scene, asked)
        if asked.process is None or asked.path == "":
            continue
        if row is None:
            sentence = f"{asked.work} {asked.number} was accepted as {asked.process} and is gone"
            yield Finding("lost", asked.node, sentence)
            continue
        state = row.get("state", row.get("status"))
        if asked.must and state in OVER and state not in asked.must:
            sentence = f"{asked.work} {asked.number} ended {state}: {row.get('reason')}"
            yield Finding("ended-otherwise", asked.node, sentence)
        if state == "FAILED" and not row["reason"]:
            yield Finding("unexplained", asked.node, f"{asked.work} {asked.number} failed")
        if state == "COMPLETED":
            yield from _true(asked, row)


def _true(asked: Asked, row: Row) -> Iterator[Finding]:
    if "status" in row:
        if not result_matches(asked.work, row["value"], asked.value):
            sentence = f"{asked.work} {asked.number} ({asked.process}) has a wrong result"
            yield Finding("result-wrong", asked.node, sentence)
    elif row["moved"] is not None and row["moved"]["sha256"] != asked.value:
        sentence = f"{asked.work} {asked.number}: other rows came than are there"
        yield Finding("result-wrong", asked.node, sentence)


def _row_of(scene: Scene, asked: Asked) -> Row | None:
    picture = scene.pictures[asked.node]
    table = asked.path.split("/")[2] if asked.path else ""
    rows: Sequence[Row] = getattr(picture, table, ())
    return next((row for row in rows if row.get("pid", row.get("id")) == asked.process), None)


def _nothing_unasked(scene: Scene) -> Iterator[Finding]:
    """No request led to two processes: there are no more than were answered, or went unanswered."""
    picture = scene.pictures[CONSUMER]
    wanted: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for asked in scene.asked:
        table = {"pull": "transfers", "push": "transfers"}.get(asked.work, "")
        if asked.work in city.COMPUTED:
            table = "computations"
        elif asked.dataset in city.OFFERS and not table:
            table = "negotiations"
        if not table:
            continue
        wanted[table] += 1
        unknown[table] += asked.process is None
    there = {
        "negotiations": len(picture.negotiations) - 2 * len(city.PROVIDERS),
        "transfers": sum(not row["computation"] for row in picture.transfers),
        "computations": len(picture.computations),
    }
    for table, number in there.items():
        if not wanted[table] - unknown[table] <= number <= wanted[table]:
            sentence = f"{number} {table}, {wanted[table]} asked for, {unknown[table]} unanswered"
            yield Finding("asked-once", CONSUMER, sentence)


def _leftovers(scene: Scene) -> Iterator[Finding]:
    for picture in scene.pictures.values():
        for path in picture.leftovers:
            yield Finding("leftover", picture.name, path)


def _logs_quiet(scene: Scene) -> Iterator[Finding]:
    """No traceback, no internal error, nobody's row in a log."""
    for picture in scene.pictures.values():
        seen: set[str] = set()
        for line in picture.log_lines:
            if city.PERSON in line:
                yield Finding("person-in-log", picture.name, "a line names a person of the data")
            trouble = _trouble(line)
            if trouble and trouble not in seen:
                seen.add(trouble)
                yield Finding("log", picture.name, trouble)


def _trouble(line: str) -> str | None:
    if not line.startswith("{"):
        return line[:300] if "Traceback" in line or "Error" in line else None
    try:
        event = json.loads(line)
    except ValueError:
        # A killed process may have written half of its last line.
        return None
    if "exception" in event:
        last = str(event["exception"]).strip().splitlines()
        where = [text.strip() for text in last if text.strip().startswith("File ")]
        place = where[-1][-120:] if where else ""
        return f"{event.get('event')}: {last[-1][:200] if last else ''} at {place}"
    return None


def _same(
    picture: Picture, rule: str, wanted: Counter[tuple[str, str]], found: Counter[tuple[str, str]]
) -> Iterator[Finding]:
    for key in sorted(wanted | found):
        if wanted[key] != found[key]:
            what = " ".join(part for part in key if part)
            sentence = f"{what}: {wanted[key]} happened, {found[key]} entries"
            yield Finding(rule, picture.name, sentence)


RULES: tuple[Rule, ...] = (
    _open_work,
    _open_processes,
    _failed_processes,
    _unanchored,
    _sides_agree,
    _agreements_agree,
    _signatures_verify,
    _evidence_of_agreements,
    _evidence_of_orders,
    _uses_counted,
    _rows_came_once,
    _consents_told,
    _anchored_once,
    _asked_came_out,
    _nothing_unasked,
    _leftovers,
    _logs_quiet,
)
