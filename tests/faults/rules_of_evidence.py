"""Rules: every event has its evidence once, nothing happened twice, and all is anchored."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.faults.scene import OVER, PROVIDER, Finding, Scene, same


def unanchored(scene: Scene) -> Iterator[Finding]:
    for picture in scene.pictures.values():
        if not picture.anchors or picture.anchors[-1] != picture.log_size:
            newest = picture.anchors[-1] if picture.anchors else 0
            yield Finding(
                "unanchored", picture.name, f"{picture.log_size} entries, {newest} anchored"
            )


def evidence_of_agreements(scene: Scene) -> Iterator[Finding]:
    for picture in scene.pictures.values():
        told = [one for one in picture.entries if one["type"] == "negotiated"]
        wanted: Counter[tuple[str, str]] = Counter()
        for row in picture.agreements:
            wanted[row["id"], "finalized"] += 1
            if row["ended_at"] is not None:
                wanted[row["id"], "ended"] += 1
        found = Counter((one["corr"], one["outcome"]) for one in told)
        yield from same(picture, "evidence-agreement", wanted, found)


def evidence_of_orders(scene: Scene) -> Iterator[Finding]:
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
        yield from same(picture, "evidence-order", wanted, found)
        decided = Counter(one["order_h"] for one in about if one["type"] == "decided")
        for order, times in decided.items():
            if times > 1 or order not in parts:
                sentence = f"order {order} was decided {times} times, for {parts[order]} transfers"
                yield Finding("decided-twice", picture.name, sentence)
        for row in picture.computations:
            if row["role"] != "consumer" and decided[row["order_h"]] != 1:
                sentence = f"order {row['order_h']} ran and was decided {decided[row['order_h']]}x"
                yield Finding("ran-undecided", picture.name, sentence)


def uses_counted(scene: Scene) -> Iterator[Finding]:
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


def rows_came_once(scene: Scene) -> Iterator[Finding]:
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


def consents_told(scene: Scene) -> Iterator[Finding]:
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
        yield from same(picture, "evidence-consent", wanted, found)


def anchored_once(scene: Scene) -> Iterator[Finding]:
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
