"""Commands of a trustee about the consents of the people whose records it holds."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.client import Client

app = typer.Typer(help="Consents of people whose records are here.", no_args_is_help=True)


@app.command()
@reported
def give(
    dataset: Annotated[str, typer.Argument(help="the dataset their record is in")],
    column: Annotated[list[str], typer.Option(help="a column it is about; repeatable")],
    purpose: Annotated[list[str], typer.Option(help="a purpose; repeatable")],
    recipient: Annotated[list[str], typer.Option(help="a participant's DID, or * for anyone")],
    days: Annotated[int, typer.Option(help="for how many days from now", min=1, max=36500)] = 365,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Record a consent and print its receipt. The person's identifier is read from stdin.

    It stands in no command line, and so in no shell's history.

    Example: echo ID | dataspace consent give health --column resident_id --purpose research
             --recipient did:web:institute.example
    """
    if sys.stdin.isatty():
        subject = typer.prompt("identifier of the person", hide_input=True)
    else:
        subject = sys.stdin.readline().strip()
    expires_at = datetime.now(UTC) + timedelta(days=days)
    body = {
        "subject": subject,
        "columns": column,
        "purposes": purpose,
        "recipients": recipient,
        "expires_at": expires_at.isoformat(timespec="seconds"),
    }
    with Client.of_home(home) as node:
        given = node.call("POST", f"/api/datasets/{dataset}/consents", body)
    show(given, as_json, lambda: say(given["receipt"]))


@app.command()
@reported
def withdraw(
    dataset: Annotated[str, typer.Argument(help="the dataset the record is in")],
    receipt: Annotated[str, typer.Argument(help="the receipt of the consent")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Withdraw a consent. No later use sees that person's record through it."""
    with Client.of_home(home) as node:
        done = node.call("POST", f"/api/datasets/{dataset}/consents/{receipt}/withdrawal")
    show(done, as_json, lambda: say(f"withdrawn {receipt}"))
