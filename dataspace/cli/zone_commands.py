"""Commands about zones: the operator's membership lists, and the policies that members share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from dataspace.cli.policy_commands import written
from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.client import Client
from dataspace.moments import utc_text

app = typer.Typer(help="Zones 产业数据专区: who is in one, and what its members share.")
policy_app = typer.Typer(help="Policies that members of a zone share.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")

ZoneName = Annotated[str, typer.Argument(metavar="ZONE", help="name of the zone")]
PolicyName = Annotated[str, typer.Argument(metavar="POLICY", help="name of the policy")]
Did = Annotated[str, typer.Argument(metavar="DID", help="the participant, such as did:web:…")]


@app.command()
@reported
def create(
    zone: Annotated[
        str,
        typer.Argument(
            metavar="ZONE", help="its name: lower-case letters, digits, Chinese characters"
        ),
    ],
    title: Annotated[str | None, typer.Option(help="what people see")] = None,
    title_zh: Annotated[str, typer.Option(help="the same in Chinese")] = "",
    about: Annotated[str, typer.Option(help="what the zone is for")] = "",
    steward: Annotated[
        str | None, typer.Option(help="DID of who keeps its policies besides the operator")
    ] = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Operator only: a new zone, without members.

    Example: dataspace zone create qianhai-ftz --title "Qianhai free-trade zone"
    """
    asked = {
        "name": zone,
        "title": title or zone,
        "title_zh": title_zh,
        "about": about,
        "steward": steward,
    }
    with Client.of_home(home) as node:
        made = node.call("POST", "/api/zones", asked)
    show(made, as_json, lambda: say(zone, head="created", style="green"))


@app.command("list")
@reported
def list_(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """The zones of the space."""
    with Client.of_home(home) as node:
        found = node.call("GET", "/api/zones")

    def render() -> None:
        for one in found:
            named = " · ".join(
                dict.fromkeys(name for name in (one["title"], one["title_zh"]) if name)
            )
            say(f"{named} ({_counted(one['members'], 'member')})", head=one["name"], style="bold")

    show(found, as_json, render)


@app.command("show")
@reported
def show_(zone: ZoneName, home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Who is in a zone now, as the operator's signed list says."""
    with Client.of_home(home) as node:
        found = node.call("GET", f"/api/zones/{_quoted(zone)}")

    def render() -> None:
        say(found["title"], head=found["zone"], style="bold")
        for line in (found["title_zh"], found["about"]):
            if line:
                say(f"  {line}")
        if found["steward"]:
            say(f"  steward {found['steward']}")
        for did in found["members"]:
            say(f"  {did}")
        until = utc_text(found["exp"])
        say(f"  {_counted(len(found['members']), 'member')}; the list counts until {until}")

    show(found, as_json, render)


@app.command()
@reported
def admit(zone: ZoneName, did: Did, home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Operator only: put a participant on a zone's list. Its credential follows in a moment."""
    with Client.of_home(home) as node:
        found = node.call("POST", f"/api/zones/{_quoted(zone)}/admissions", {"did": did})
    show(found, as_json, lambda: say(f"{did} to {zone}", head="admitted", style="green"))


@app.command()
@reported
def expel(zone: ZoneName, did: Did, home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Operator only: take a participant off a zone's list.

    Providers refuse it as soon as they have a newer list, at the latest when the lists they hold
    have ended (five minutes, if the operator has not set another life for them).
    """
    with Client.of_home(home) as node:
        found = node.call("POST", f"/api/zones/{_quoted(zone)}/expulsions", {"did": did})
    show(found, as_json, lambda: say(f"{did} from {zone}", head="expelled", style="yellow"))


@app.command()
@reported
def refresh(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Fetch the lists that this node's policies ask about now, and not only when they are due."""
    with Client.of_home(home) as node:
        found = node.call("POST", "/api/zone-lists/refreshes")

    def render() -> None:
        for one in found:
            until = utc_text(one["expires_at"])
            members = _counted(len(one["members"]), "member")
            say(f"{members}, counts until {until}", head=one["zone"], style="bold")

    show(found, as_json, render)


@policy_app.command("put")
@reported
def policy_put(
    zone: ZoneName,
    policy: PolicyName,
    file: Annotated[Path, typer.Argument(help="a policy in YAML or JSON")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Share a policy with the members of a zone; for the operator and the zone's steward.

    Parameters of ready policies that the file leaves out are given by whoever publishes under it.
    """
    asked = {"document": written(file)}
    with Client.of_home(home) as node:
        found = node.call("PUT", _policy_path(zone, policy), asked)
    told = f"{zone}/{policy}, number {found['number']}"
    show(found, as_json, lambda: say(told, head="shared", style="green"))


@policy_app.command("list")
@reported
def policy_list(zone: ZoneName, home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """The policies that members of a zone share, and which parameters each leaves open."""
    with Client.of_home(home) as node:
        found = node.call("GET", f"/api/zones/{_quoted(zone)}/policies")

    def render() -> None:
        for one in found:
            needs = ", ".join(one["open_parameters"])
            told = f"number {one['number']}" + (f", with --set for: {needs}" if needs else "")
            say(told, head=one["policy"], style="bold")

    show(found, as_json, render)


@policy_app.command("show")
@reported
def policy_show(
    zone: ZoneName, policy: PolicyName, home: HomeOption = HOME, as_json: JsonOption = False
) -> None:
    """One shared policy as it is now, with the operator's signature verified."""
    with Client.of_home(home) as node:
        found = node.call("GET", _policy_path(zone, policy))

    def render() -> None:
        say(f"number {found['number']}", head=f"{zone}/{policy}", style="bold")
        if found["open_parameters"]:
            say(f"  leaves open: {', '.join(found['open_parameters'])}")
        say(json.dumps(found["document"], ensure_ascii=False, indent=2))

    show(found, as_json, render)


@policy_app.command("check")
@reported
def policy_check(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Which of this node's datasets follow an older policy than their zone shares now."""
    with Client.of_home(home) as node:
        found = node.call("GET", "/api/zone-policies/followed")

    def render() -> None:
        for one in found:
            name = f"{one['zone']}/{one['policy']}"
            if one["outdated"]:
                told = f"follows {name} number {one['follows']}; the zone shares {one['current']}"
                say(told, head=one["dataset"], style="yellow")
            else:
                say(f"follows {name} as it is", head=one["dataset"], style="green")

    show(found, as_json, render)


def _policy_path(zone: str, policy: str) -> str:
    return f"/api/zones/{_quoted(zone)}/policies/{_quoted(policy)}"


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _counted(number: Any, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
