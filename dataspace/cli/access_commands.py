"""Commands about who may use the node: keys, what people did, what waits for a second person."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dataspace.access.permissions import Role
from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.client import Client
from dataspace.home import Home
from dataspace.moments import utc_text

app = typer.Typer(
    help="Who may use this node: keys, acts, what needs a second person.", no_args_is_help=True
)
key_app = typer.Typer(help="Keys for people and their programs.", no_args_is_help=True)
app.add_typer(key_app, name="key")

RequestArgument = Annotated[str, typer.Argument(help="the id of what waits")]


@key_app.command()
@reported
def add(
    name: Annotated[str, typer.Option(help="what the key is for, such as a laptop")],
    role: Annotated[Role, typer.Option(help="what it may do")],
    person: Annotated[
        str | None, typer.Option(help="who holds it; two keys of one person approve once")
    ] = None,
    expires: Annotated[float | None, typer.Option(help="days until it ends; never otherwise")] = (
        None
    ),
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown this once and kept nowhere.

    Example: dataspace access key add --name laptop --person "Li Wei" --role approver --expires 90
    """
    asked = {"name": name, "person": person or name, "role": role.value, "expires_in_days": expires}
    with Client.of_home(home) as node:
        made = node.call("POST", "/api/access/keys", asked)

    def render() -> None:
        _print_key(made)
        say(made["key"], head="key")
        say("It is shown this once. Use it with --key-file FILE or DATASPACE_API_KEY.")

    show(made, as_json, render)


@key_app.command("list")
@reported
def list_(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Every key there has been, the newest first."""
    with Client.of_home(home) as node:
        found = node.call("GET", "/api/access/keys")

    def render() -> None:
        if not found:
            say("there are no keys but the one in the home's keys/api.key")
        for one in found:
            _print_key(one)

    show(found, as_json, render)


@key_app.command()
@reported
def revoke(
    key: Annotated[str, typer.Argument(help="the key's id, as the list shows it")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """End a key at once. Approvals given with it that still wait for another count no more."""
    with Client.of_home(home) as node:
        found = node.call("POST", f"/api/access/keys/{key}/revocation")
    show(found, as_json, lambda: _print_key(found))


@key_app.command("replace-home")
@reported
def replace_home(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Put a new key into the home's keys/api.key. It counts once the node is started again."""
    Home(home).replace_api_key()
    done = {"replaced": "keys/api.key", "counts": "once the node is started again"}
    show(done, as_json, lambda: say("keys/api.key is new; start the node again, and it counts"))


@app.command("self")
@reported
def self_(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Who the node takes you for, and what you may do."""
    with Client.of_home(home) as node:
        found = node.call("GET", "/api/access/self")

    def render() -> None:
        say(f"{found['person']}  {', '.join(found['roles']) or 'no role'}", head="you are")
        for one in found["permissions"]:
            say(f"  {one}")

    show(found, as_json, render)


@app.command()
@reported
def permissions(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Every permission, the roles that have it, and how many persons it takes."""
    with Client.of_home(home) as node:
        found = node.call("GET", "/api/access/permissions")

    def render() -> None:
        for one in found:
            two = "  two persons" if one["persons"] == 2 else ""
            say(f"{', '.join(one['roles'])}  ({one['nature']}){two}", head=one["permission"])

    show(found, as_json, render)


@app.command()
@reported
def acts(
    limit: Annotated[int, typer.Option(help="how many", min=1, max=1000)] = 50,
    before: Annotated[int | None, typer.Option(help="only acts before this entry", min=0)] = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Who did what to this node, the newest first, held against the evidence log."""
    query = f"limit={limit}" + ("" if before is None else f"&before={before}")
    with Client.of_home(home) as node:
        found = node.call("GET", f"/api/access/acts?{query}")

    def render() -> None:
        if not found:
            say("nobody has done anything that is recorded")
        for one in found:
            _print_act(one)

    show(found, as_json, render)


@app.command()
@reported
def requests(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """What waits, or waited, for a second person; the newest first."""
    with Client.of_home(home) as node:
        found = node.call("GET", "/api/access/requests")

    def render() -> None:
        if not found:
            say("nothing waits for a second person")
        for one in found:
            _print_request(one)

    show(found, as_json, render)


@app.command()
@reported
def approve(request: RequestArgument, home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Approve what another person asked for. It is done at once; what is printed is its answer."""
    with Client.of_home(home) as node:
        found = node.call("POST", f"/api/access/requests/{request}/approval")

    def render() -> None:
        say(request, head="done", style="green")
        if "key" in found:
            # A key that was asked for: it is shown this once, and now to you.
            say(found["key"], head="key")

    show(found, as_json, render)


@app.command()
@reported
def decline(request: RequestArgument, home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Decline what somebody asked for, or take back what you asked for yourself."""
    with Client.of_home(home) as node:
        found = node.call("POST", f"/api/access/requests/{request}/refusal")
    show(found, as_json, lambda: _print_request(found))


def _print_key(one: dict[str, Any]) -> None:
    style = {"valid": "green", "revoked": "red"}.get(one["state"], "yellow")
    say(
        f"{one['id']}  {one['role']}  {one['person']}  {one['name']}",
        head=one["state"],
        style=style,
    )
    for name in ("created_at", "expires_at", "revoked_at", "last_used_at"):
        if one[name] is not None:
            say(f"  {name.removesuffix('_at').replace('_', ' ')}: {utc_text(one[name])}")


def _print_act(one: dict[str, Any]) -> None:
    by = f", approved by {one['approved_by']}" if one.get("approved_by") else ""
    say(f"{one['at']}  {one['permission']}  {one['outcome']}", head=str(one["index"]))
    say(f"  {one['person']} ({one['credential']}){by}: {one['method']} {one['path']}")
    if one["matches"] is False:
        say("  this record is not the one its entry in the log was made for", style="red")
    elif one["matches"] is None:
        say("  its entry in the log was erased")


def _print_request(one: dict[str, Any]) -> None:
    style = {"done": "green", "waiting": "yellow"}.get(one["state"], "red")
    say(f"{one['id']}  {one['permission']}  {one['what']}", head=one["state"], style=style)
    say(f"  asked by {one['asked_by']}, {utc_text(one['asked_at'])}")
    if one["state"] == "waiting":
        say(f"  ends unless another approves before {utc_text(one['expires_at'])}")
    elif one["decided_by"]:
        say(f"  decided by {one['decided_by']}")
