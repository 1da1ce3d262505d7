"""Commands about transfers: get the rows of an agreement, and steer what is under way."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from contracts.transfer_strategy import PULL, PUSH
from dataspace.cli.return_commands import print_deliveries
from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.client import Client, Refused
from dataspace.errors import Unavailable

app = typer.Typer(
    help="Get rows under an agreement; suspend, resume, end transfers.", no_args_is_help=True
)


class Format(StrEnum):
    """Who calls whom: we fetch from the provider, or it sends to us."""

    pull = PULL
    push = PUSH


AgreementArgument = Annotated[str, typer.Argument(help="the agreement's id")]
TransferArgument = Annotated[str, typer.Argument(help="the transfer's id")]
FormatOption = Annotated[
    Format, typer.Option("--format", help="fetch the rows, or have the provider send them")
]
PurposeOption = Annotated[str | None, typer.Option(help="what for: the contract is asked about it")]
ReasonOption = Annotated[str, typer.Option(help="a sentence for the other side")]


@app.command()
@reported
def start(
    agreement: AgreementArgument,
    purpose: PurposeOption = None,
    format_: FormatOption = Format.pull,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Ask the provider for the rows and print the transfer's id, without waiting for them."""
    with Client.of_home(home) as node:
        begun = _begin(node, agreement, purpose, format_)
    show(begun, as_json, lambda: print(begun["id"]))


@app.command()
@reported
def fetch(
    agreement: AgreementArgument,
    purpose: PurposeOption = None,
    format_: FormatOption = Format.pull,
    timeout: Annotated[float, typer.Option(help="seconds to wait for the rows")] = 600.0,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Get the rows of an agreement and print the file they are in. Ends with 3 when refused.

    The file is a CSV in the node's home, readable by its owner only.

    Example: dataspace transfer fetch AGREEMENT --purpose public-health-research
    """
    with Client.of_home(home) as node:
        begun = _begin(node, agreement, purpose, format_)
        found = node.poll(
            f"/api/transfers/{begun['id']}",
            lambda one: one["state"] in ("COMPLETED", "TERMINATED"),
            timeout,
        )
    if found["clause"]:
        raise Refused(
            found["reason"],
            clause=found["clause"],
            remedy=found["remedy"],
            refused_by=found["peer"],
        )
    if found["moved"] is None:
        raise Unavailable(
            found["reason"] or "the transfer ended before the rows had come",
            remedy=found["remedy"] or "fetch again, or ask the provider",
        )
    show(found, as_json, lambda: print(found["moved"]["file"]))


@app.command("list")
@reported
def list_(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """All transfers, newest first: rows, and the parts of computations."""
    with Client.of_home(home) as node:
        found = node.call("GET", "/api/transfers")

    def render() -> None:
        if not found:
            say("there are no transfers")
        for one in found:
            _print(one)

    show(found, as_json, render)


@app.command("show")
@reported
def show_(transfer: TransferArgument, home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """One transfer: where it stands, why, and what it moved."""
    with Client.of_home(home) as node:
        found = node.call("GET", f"/api/transfers/{transfer}")

    def render() -> None:
        _print(found)
        print_deliveries(found["deliveries"])

    show(found, as_json, render)


@app.command()
@reported
def suspend(
    transfer: TransferArgument,
    reason: ReasonOption = "The owner has asked for it.",
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Interrupt a transfer: no rows, and no step of its computation, until it is resumed."""
    _steer(transfer, "suspension", {"reason": reason}, home, as_json)


@app.command()
@reported
def resume(
    transfer: TransferArgument, home: HomeOption = HOME, as_json: JsonOption = False
) -> None:
    """Go on with a suspended transfer."""
    _steer(transfer, "resumption", None, home, as_json)


@app.command()
@reported
def complete(
    transfer: TransferArgument, home: HomeOption = HOME, as_json: JsonOption = False
) -> None:
    """Say that a transfer of rows is done."""
    _steer(transfer, "completion", None, home, as_json)


@app.command()
@reported
def end(
    transfer: TransferArgument,
    reason: ReasonOption = "The owner has asked for it.",
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """End a transfer, and the computation it belongs to."""
    _steer(transfer, "termination", {"reason": reason}, home, as_json)


def _begin(node: Client, agreement: str, purpose: str | None, format_: Format) -> dict[str, Any]:
    asked = {"agreement": agreement, "format": format_.value, "purpose": purpose}
    begun: dict[str, Any] = node.call("POST", "/api/transfers", asked)
    return begun


def _steer(
    transfer: str, what: str, body: dict[str, str] | None, home: Path, as_json: bool
) -> None:
    with Client.of_home(home) as node:
        found = node.call("POST", f"/api/transfers/{transfer}/{what}", body)
    show(found, as_json, lambda: _print(found))


def _print(one: dict[str, Any]) -> None:
    style = {"COMPLETED": "green", "TERMINATED": "red"}.get(one["state"], "yellow")
    say(f"{one['id']}  {one['format']}  {one['peer']}", head=one["state"], style=style)
    if one["moved"]:
        count = f"{one['moved']['rows']} rows, " if "rows" in one["moved"] else ""
        say(f"  moved: {count}{one['moved']['bytes']} bytes, sha256 {one['moved']['sha256']}")
        if "file" in one["moved"]:
            say(f"  file: {one['moved']['file']}")
    for name in ("reason", "clause", "remedy"):
        if one[name]:
            say(f"  {name}: {one[name]}")
