"""How a node stands, and why something waits."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

import typer

from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.client import ApiError, Client

app = typer.Typer()
# Computations that are listed; the rest is in `dataspace computation list`.
SHOWN = 10
MEGABYTE = 1024 * 1024


@app.command()
@reported
def status(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Who this node is, how its evidence stands, what waits on whom, and what failed."""
    with Client.of_home(home) as node:
        found, computations = node.status(), _computations(node)

    def render() -> None:
        say(f"({found['kind']})  {found['did']}", head=found["name"], style="bold")
        _render_standing(found)
        for one in computations[:SHOWN]:
            say(f"  {one['kind']} {one['id']} {one['status']}")
        for trouble in found["datasets_in_trouble"]:
            say(f"  since {trouble['since']}: {trouble['sentence']}")
            _remedy(trouble["remedy"])
        for one in found["outboxes"]:
            if one["last_error"]:
                say(
                    f"  not reached since {one['since']}: {one['peer']}, {one['messages']} messages"
                )
        for one in found["waiting"]:
            say(f"  waiting on {one['on']}: {one['id']} {one['sentence']}")
        for one in found["failed"][:SHOWN]:
            say(f"  failed: {one['id']} {one['sentence']}")
        if found["waiting"] or found["failed"]:
            say("  more about one: dataspace why NUMBER")

    show({**found, "computations": computations}, as_json, render)


@app.command()
@reported
def why(
    id: Annotated[
        str,
        typer.Argument(
            help="a negotiation, transfer, computation, return or agreement; the number of a "
            "process in `dataspace status`; or: anchor"
        ),
    ],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """What something waits for: since when, on whom, what was tried, what would move it; or why it
    ended."""
    with Client.of_home(home) as node:
        found = node.call("GET", f"/api/why/{quote(id, safe='')}")

    def render() -> None:
        say(f"{found['id']}: {found['state']}", head=found["what"], style="bold")
        say(f"  {found['sentence']}")
        if found["outcome"] == "waits":
            say(f"  waits on {found['peer'] or found['on']} since {found['since']}")
        elif found["outcome"] == "ended":
            say(f"  ended {found['since']}")
        _render_tried(found["tried"])
        if found["clause"]:
            say(f"  clause: {found['clause']}")
        _remedy(found["remedy"])
        for act in found["would_move_it"]:
            command = f": {act['command']}" if act["command"] else ""
            say(f"  could help: {act['act']}{command}")

    show(found, as_json, render)


def _computations(node: Client) -> list[dict[str, Any]]:
    """The node's computations; none for somebody who may see how it stands and not those."""
    try:
        found: list[dict[str, Any]] = node.call("GET", "/api/computations")
    except ApiError as err:
        if err.status != HTTPStatus.FORBIDDEN:
            raise
        return []
    return found


def _render_standing(found: dict[str, Any]) -> None:
    say(f"  joined {'yes' if found['joined'] else 'not yet'}")
    log, capacity, ends = found["log"], found["capacity"], found["ends"]
    say(f"  evidence {log['size']} entries, {log['anchored']} anchored")
    say(f"  ready {'yes' if found['ready'] else 'no'}")
    for reason in found["unready"]:
        say(f"    {reason['sentence']}")
        _remedy(reason["remedy"])
    if found["chain_reachable"] is False:
        say("  the chain cannot be reached; entries are anchored when it is back")
    for name, end in ends.items():
        if end is not None:
            say(f"  {name} ends {end}")
    free = capacity["disk_free_bytes"]
    room = "" if free is None else f", {free // MEGABYTE} MB of disk free"
    running, queued = capacity["computations_running"], capacity["computations_queued"]
    most = capacity["computations_at_most"]
    say(f"  computations {running} running, {queued} queued, {most} at most{room}")
    versions = found["versions"]
    say(f"  version {versions['dataspace']}, schema {versions['schema']}")


def _render_tried(tried: dict[str, Any] | None) -> None:
    # Housekeeping that comes again and again has attempts and no error.
    if tried is None or not tried["last_error"]:
        return
    after = f", next at {tried['next_at']}" if tried["next_at"] else ""
    say(f"  tried {tried['attempts']} times{after}; last error: {tried['last_error']}")
    if tried["gives_up_at"]:
        say(f"  given up at {tried['gives_up_at']}")


def _remedy(remedy: str | None) -> None:
    if remedy:
        say(f"    remedy: {remedy}")
