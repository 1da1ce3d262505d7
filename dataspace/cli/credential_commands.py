"""Commands about verifiable credentials: what this node holds, and asking an issuer for more."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.client import Client

app = typer.Typer(help="Verifiable credentials this node holds, by the claims protocol.")


@app.command("list")
@reported
def list_credentials(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """What this node holds, has asked for, and was offered.

    Example: dataspace credential list
    """
    with Client.of_home(home) as node:
        found = node.call("GET", "/api/credentials")
    show(found, as_json, lambda: _tell(found))


@app.command()
@reported
def request(
    types: Annotated[
        list[str] | None,
        typer.Argument(metavar="TYPE", help="such as MembershipCredential, which it is if none"),
    ] = None,
    issuer: Annotated[
        str | None, typer.Option(help="the issuer's DID; otherwise the operator of the space")
    ] = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Ask an issuer for credentials. They are delivered later: see `dataspace credential list`.

    Example: dataspace credential request MembershipCredential
    """
    asked: dict[str, Any] = {"issuer": issuer, **({"types": types} if types else {})}
    with Client.of_home(home) as node:
        made = node.call("POST", "/api/credentials/requests", asked)
    show(made, as_json, lambda: say(made["request"], head="asked", style="green"))


def _tell(found: dict[str, Any]) -> None:
    for one in found["held"]:
        until = one["expires_at"]
        ends = datetime.fromtimestamp(until, UTC).date().isoformat() if until else "no end"
        say(f"{one['type']} by {one['issuer']} (until {ends})", head="held", style="green")
    for one in found["requests"]:
        reason = f": {one['reason']}" if one["reason"] else ""
        say(f"{', '.join(one['types'])} of {one['issuer']}{reason}", head=one["status"].lower())
    for one in found["offers"]:
        say(f"{len(one['credentials'])} by {one['issuer']}", head="offered")
