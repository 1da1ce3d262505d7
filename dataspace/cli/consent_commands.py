"""Commands of a trustee about the consents of the people whose records it holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.cli.signed_files import (
    WHOSE,
    KeysOption,
    LocalOption,
    OnlineOption,
    known_keys,
    write_json,
)
from dataspace.cli.vault_commands import identifier_from_stdin
from dataspace.client import Client
from dataspace.errors import InputRejected

app = typer.Typer(help="Consents of people whose records are here.", no_args_is_help=True)


@app.command()
@reported
def give(
    dataset: Annotated[str, typer.Argument(help="the dataset their record is in")],
    column: Annotated[list[str], typer.Option(help="a column it is about; repeatable")],
    purpose: Annotated[list[str], typer.Option(help="a purpose; repeatable")],
    recipient: Annotated[list[str], typer.Option(help="a participant's DID, or * for anyone")],
    days: Annotated[int, typer.Option(help="for how many days from now", min=1, max=36500)] = 365,
    separate: Annotated[
        list[str] | None,
        typer.Option(help="a sensitive column consented to separately; repeatable"),
    ] = None,
    guardian: Annotated[
        str | None, typer.Option(help="for a child: who consents, such as mother")
    ] = None,
    guardian_reference: Annotated[
        str, typer.Option(help="where it is kept what was checked of the guardian")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="where to write the signed file for the person")
    ] = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Record a consent and print its receipt. The person's identifier is read from stdin.

    Example: echo ID | dataspace consent give health --column resident_id --purpose research
             --recipient did:web:institute.example --out receipt.json
    """
    body = {
        "subject": identifier_from_stdin(),
        "columns": column,
        "purposes": purpose,
        "recipients": recipient,
        "expires_at": (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds"),
        "separate_consent": separate or [],
        "guardian": {"relationship": guardian, "reference": guardian_reference}
        if guardian
        else None,
    }
    with Client.of_home(home) as node:
        given = node.call("POST", f"/api/datasets/{dataset}/consents", body)
    if out is not None:
        if "signed" not in given:
            raise InputRejected(
                f"the receipt is {given['receipt']}, unsigned: only a vault signs receipts",
                remedy="keep the records in a vault",
            )
        write_json(out, given["signed"])
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


@app.command("list")
@reported
def list_(
    dataset: Annotated[str, typer.Argument(help="a dataset of a vault")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """The consents of one person in a vault. The identifier is read from stdin."""
    with Client.of_home(home) as node:
        body = {"subject": identifier_from_stdin()}
        found = node.call("POST", f"/api/datasets/{dataset}/consents/search", body)

    def render() -> None:
        for one in found:
            state = "withdrawn" if one["withdrawn"] else f"until {one['expires_at']}"
            say(
                f"{one['receipt']} {state}: {', '.join(one['columns'])} for "
                f"{', '.join(one['purposes'])} to {', '.join(one['recipients'])}"
            )

    show(found, as_json, render)


@app.command()
@reported
def verify(
    file: Annotated[Path, typer.Argument(help="a receipt's file")],
    key: KeysOption = None,
    online: OnlineOption = False,
    local: LocalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Verify a consent's receipt, with no node. Ends with 1 if it does not hold.

    Whether it was withdrawn since, only a file made after that says.
    """
    from dataspace.statements import verify_statements

    found = verify_statements(
        file, known_keys(key, online=online, local=local), online=online, local=local
    ).to_json()
    receipt = found["receipt"]
    if receipt is None:
        raise InputRejected(
            "this is an erasure's file", remedy=f"run: dataspace erasure verify {file}"
        )

    def render() -> None:
        say(f"{found['did']} signed this receipt", head="valid:", style="green")
        say(f"  key: {found['thumbprint']}, {WHOSE[found['key_known_by']]}")
        columns = ", ".join(one["pii_type"] for one in receipt["pii_information"])
        say(f"  {columns} for {', '.join(receipt['purposes'])}")
        say(f"  to {', '.join(receipt['recipients'])}, until {receipt['event']['valid_until']}")
        if found["withdrawal"] is not None:
            say(f"  withdrawn at {found['withdrawal']['event']['event_time']}")

    show(found, as_json, render)
