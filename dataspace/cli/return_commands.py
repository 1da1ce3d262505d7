"""Commands about returns 回流: rows or totals of a division that go to its bureau regularly."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.client import Client
from dataspace.moments import utc_text

app = typer.Typer(
    help="Give bureaus the rows or totals of their own division regularly (回流).",
    no_args_is_help=True,
)

ReturnArgument = Annotated[str, typer.Argument(metavar="RETURN", help="the return's id")]
ReasonOption = Annotated[str, typer.Option(help="a sentence for the other side")]


@app.command()
@reported
def add(
    dataset: Annotated[str, typer.Argument(help="a dataset of this node with blocks")],
    to: Annotated[str, typer.Option("--to", help="the bureau: its DID, or its node's address")],
    division: Annotated[str, typer.Option(help="its division's code (GB/T 2260): 440305")],
    every: Annotated[float, typer.Option(help="seconds from one delivery to the next")],
    grid: Annotated[str | None, typer.Option(help="only cells whose codes begin so")] = None,
    totals: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="totals of this column, and no rows")
    ] = None,
    by: Annotated[
        str, typer.Option(metavar="COLUMNS", help="their groups; the next level down if left out")
    ] = "",
    least: Annotated[int, typer.Option("--min", help="rows a group must have")] = 20,
    rule: Annotated[
        list[str] | None, typer.Option(metavar="RULE", help="also: phone:mask(3,4); repeatable")
    ] = None,
    purpose: Annotated[str, typer.Option(help="what the bureau may use it for")] = (
        "local-governance"
    ),
    not_after: Annotated[datetime | None, typer.Option(help="until when; UTC")] = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Offer a bureau its division's rows or totals; deliveries begin when it has asked for them.

    Example: dataspace return add events --to http://bureau:8001 --division 440305 --every 3600
    --totals people --min 20
    """
    asked: dict[str, Any] = {
        "dataset": dataset,
        "to": to,
        "division": division,
        "grid": grid,
        "every_s": every,
        "totals": totals,
        "by": [name.strip() for name in by.split(",") if name.strip()],
        "least": least,
        "rules": rule or [],
        "purpose": purpose,
        "not_after": None if not_after is None else f"{not_after.isoformat()}Z",
    }
    with Client.of_home(home) as node:
        made = node.call("POST", "/api/returns", asked)
    show(made, as_json, lambda: print(made["id"]))


@app.command("list")
@reported
def list_(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """All returns this node gives, newest first."""
    with Client.of_home(home) as node:
        found = node.call("GET", "/api/returns")

    def render() -> None:
        if not found:
            say("there are no returns")
        for one in found:
            _print(one)

    show(found, as_json, render)


@app.command("show")
@reported
def show_(name: ReturnArgument, home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """One return with its deliveries."""
    with Client.of_home(home) as node:
        found = node.call("GET", f"/api/returns/{name}")

    def render() -> None:
        _print(found)
        print_deliveries(found["deliveries"])

    show(found, as_json, render)


@app.command()
@reported
def pause(
    name: ReturnArgument,
    reason: ReasonOption = "The owner has asked for it.",
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Deliver nothing until the return is resumed."""
    _steer(name, "pause", {"reason": reason}, home, as_json)


@app.command()
@reported
def resume(name: ReturnArgument, home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Go on with a return; what was due meanwhile is delivered once."""
    _steer(name, "resume", None, home, as_json)


@app.command()
@reported
def end(
    name: ReturnArgument,
    reason: ReasonOption = "The owner has asked for it.",
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """End a return for good, or withdraw its offer."""
    _steer(name, "end", {"reason": reason}, home, as_json)


def print_deliveries(deliveries: list[dict[str, Any]]) -> None:
    """One line for each: its number, when it was due, when it came, and what came."""
    for one in deliveries:
        moved = one["moved"] or {}
        due = utc_text(one["due_at"])
        came = "under way" if one["finished_at"] is None else f"came {utc_text(one['finished_at'])}"
        say(f"  delivery {one['number']}: due {due}, {came}")
        if moved:
            count = f"{moved['rows']} rows, " if "rows" in moved else ""
            say(f"    {count}{moved['bytes']} bytes, sha256 {moved['sha256']}")
        if "file" in moved:
            say(f"    file: {moved['file']}")


def _steer(name: str, what: str, body: dict[str, str] | None, home: Path, as_json: bool) -> None:
    with Client.of_home(home) as node:
        found = node.call("POST", f"/api/returns/{name}/{what}", body)
    show(found, as_json, lambda: _print(found))


def _print(one: dict[str, Any]) -> None:
    style = {"running": "green", "stopped": "red", "declined": "red"}.get(one["state"], "yellow")
    say(f"{one['id']}  {one['dataset']} → {one['to']}", head=one["state"], style=style)
    say(f"  division {one['division']}, every {one['every_s']:g} s, {one['delivered']} delivered")
    if one["next_due_at"] is not None and one["state"] == "running":
        say(f"  next: {utc_text(one['next_due_at'])}")
    for name in ("agreement", "transfer", "reason", "clause", "remedy"):
        if one[name]:
            say(f"  {name}: {one[name]}")
