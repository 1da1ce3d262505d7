"""Rules: what the owners asked for came out, once and truly, and nothing is left behind."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from tests.faults import city
from tests.faults.asking import Asked
from tests.faults.load import result_matches
from tests.faults.picture import Row
from tests.faults.plan import CONSUMER, Kind
from tests.faults.scene import OVER, Finding, Scene

# What a node says whose clock, or whose peer's, is wrong by more than tokens forgive.
UNTIMELY: Final = re.compile(r"\d+ seconds (in the future|ago)|issued in the future|expired at ")


def asked_came_out(scene: Scene) -> Iterator[Finding]:
    """What an owner was answered is there, and ended as it must, with the true result."""
    for asked in scene.asked:
        for told in asked.told:
            if told.startswith(("harness:", "refused:")) and not _untimely(scene, told):
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
            if not _untimely(scene, sentence):
                yield Finding("ended-otherwise", asked.node, sentence)
        if state == "FAILED" and not row["reason"]:
            yield Finding("unexplained", asked.node, f"{asked.work} {asked.number} failed")
        if state == "COMPLETED":
            yield from _true(asked, row)


def _untimely(scene: Scene, sentence: str) -> bool:
    """Whether it says that clocks differ, and they did."""
    return Kind.CLOCK in scene.struck and UNTIMELY.search(sentence) is not None


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


def nothing_unasked(scene: Scene) -> Iterator[Finding]:
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


def leftovers(scene: Scene) -> Iterator[Finding]:
    for picture in scene.pictures.values():
        for path in picture.leftovers:
            yield Finding("leftover", picture.name, path)


def logs_quiet(scene: Scene) -> Iterator[Finding]:
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
