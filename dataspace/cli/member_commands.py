"""Commands about the members of a space, for its operator."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.client import Client
from dataspace.identity.standing import Standing
from dataspace.moments import utc_text
from dataspace.settings import ParticipantKind

app = typer.Typer(
    help="Members of the space: who is in it, suspend, reinstate, revoke.", no_args_is_help=True
)

Did = Annotated[str, typer.Argument(metavar="DID", help="the participant, such as did:web:…")]
Reason = Annotated[str, typer.Option(help="why; kept by the operator, shown to nobody else")]
_STYLES = {"active": "green", "suspended": "yellow", "revoked": "red"}


@app.command("list")
@reported
def list_(
    kind: Annotated[
        list[ParticipantKind] | None, typer.Option(help="only of this kind; repeatable")
    ] = None,
    status: Annotated[
        list[Standing] | None, typer.Option(help="only with this status; repeatable")
    ] = None,
    zone: Annotated[str | None, typer.Option(help="only members of this zone")] = None,
    text: Annotated[str | None, typer.Option(help="in the name or the identifier")] = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Operator only: the members, in the order in which they joined."""
    from dataspace.members import MAX_A_PAGE

    query: list[tuple[str, str]] = [("kind", one.value) for one in kind or ()]
    query += [("status", one.value) for one in status or ()]
    query += [(name, value) for name, value in (("zone", zone), ("text", text)) if value]
    found: list[dict[str, Any]] = []
    with Client.of_home(home) as node:
        # Pages end with one that is not full.
        while len(found) % MAX_A_PAGE == 0:
            after = [("after", found[-1]["did"])] if found else []
            page = node.call("GET", f"/api/members?{urlencode([*query, *after])}")
            found += page
            if not page:
                break

    def render() -> None:
        for one in found:
            say(f"({one['kind']}, {one['status']})  {one['did']}", head=one["name"], style="bold")

    show(found, as_json, render)


@app.command("show")
@reported
def show_(did: Did, home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Operator only: one member, its status and why, and its credentials."""
    with Client.of_home(home) as node:
        found = node.call("GET", f"/api/members/{quote(did, safe='')}")
    show(found, as_json, lambda: _render(found))


@app.command()
@reported
def suspend(did: Did, reason: Reason, home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Operator only: let nobody take a participant for a member until it is reinstated."""
    _change(did, "suspensions", reason, home, as_json)


@app.command()
@reported
def reinstate(
    did: Did, reason: Reason, home: HomeOption = HOME, as_json: JsonOption = False
) -> None:
    """Operator only: end a suspension."""
    _change(did, "reinstatements", reason, home, as_json)


@app.command()
@reported
def revoke(did: Did, reason: Reason, home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Operator only: end a membership for good.

    Other nodes refuse the participant as soon as they have a newer status list: after a twelfth of
    a list's life as a rule, and after all of it (status_list_lifetime_s) at the latest.
    """
    _change(did, "revocations", reason, home, as_json)


@app.command()
@reported
def refresh(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Fetch the operator's status lists now, and not only when they are due. For every node."""
    with Client.of_home(home) as node:
        found = node.call("POST", "/api/status-lists/refreshes")

    def render() -> None:
        for one in found:
            say(
                f"counts until {utc_text(one['expires_at'])}",
                head=f"{'/'.join(one['purposes'])}  {one['url']}",
            )

    show(found, as_json, render)


def _change(did: str, act: str, reason: str, home: Any, as_json: bool) -> None:
    with Client.of_home(home) as node:
        found = node.call("POST", f"/api/members/{quote(did, safe='')}/{act}", {"reason": reason})
    show(found, as_json, lambda: _render(found))


def _render(found: dict[str, Any]) -> None:
    say(f"({found['kind']})  {found['did']}", head=found["name"], style="bold")
    since = f" since {utc_text(found['status_since'])}" if found["status_since"] else ""
    say(f"{since.strip()}", head=found["status"], style=_STYLES[found["status"]])
    if found["status_reason"]:
        say(f"  reason: {found['status_reason']}")
    if found["zones"]:
        say(f"  zones: {', '.join(found['zones'])}")
    issued = found["credentials_issued"]
    say(f"  joined {utc_text(found['joined_at'])}, {issued} credentials issued")
    if found["credential_expires_at"]:
        say(f"  the newest ends {utc_text(found['credential_expires_at'])}")
