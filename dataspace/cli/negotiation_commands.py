"""Commands about negotiations that wait for a person, or that the owner wants to steer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dataspace.cli.policy_commands import written
from dataspace.cli.shared import HOME, HomeOption, JsonOption, in_words, reported, say, show
from dataspace.client import Client

app = typer.Typer(help="Approve, decline, counter, end negotiations.", no_args_is_help=True)

NegotiationArgument = Annotated[str, typer.Argument(help="the negotiation's id")]
PolicyOption = Annotated[
    Path, typer.Option("--policy", help="a YAML or JSON file; see: dataspace policy new")
]


@app.command("list")
@reported
def list_(
    waiting: Annotated[bool, typer.Option(help="only what waits for a person here")] = False,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """All negotiations, newest first, with what each waits for."""
    with Client.of_home(home) as node:
        found = node.negotiations(waiting=waiting)

    def render() -> None:
        if not found:
            say("nothing waits" if waiting else "there are no negotiations")
        for one in found:
            _print(one)

    show(found, as_json, render)


@app.command("show")
@reported
def show_(
    negotiation: NegotiationArgument, home: HomeOption = HOME, as_json: JsonOption = False
) -> None:
    """One negotiation with both sides' terms in plain words."""
    with Client.of_home(home) as node:
        found = node.call("GET", f"/api/negotiations/{negotiation}")

    def render() -> None:
        _print(found)
        for name in ("requested", "offered"):
            if found[name]:
                say(f"  {name}:")
                for line in in_words(found[name]):
                    say(f"    {line}")

    show(found, as_json, render)


@app.command()
@reported
def approve(
    negotiation: NegotiationArgument, home: HomeOption = HOME, as_json: JsonOption = False
) -> None:
    """Approve what waits: the agreement as provider, or the other side's terms as consumer."""
    _decide(negotiation, "APPROVED", home, as_json)


@app.command()
@reported
def decline(
    negotiation: NegotiationArgument, home: HomeOption = HOME, as_json: JsonOption = False
) -> None:
    """Decline what waits; the negotiation ends."""
    _decide(negotiation, "DECLINED", home, as_json)


@app.command()
@reported
def counter(
    negotiation: NegotiationArgument,
    policy: PolicyOption,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Answer the other side's terms with terms of your own."""
    terms = written(policy)
    with Client.of_home(home) as node:
        found = node.call(
            "POST", f"/api/negotiations/{negotiation}/counter-offer", {"policy": terms}
        )
    show(found, as_json, lambda: _print(found))


@app.command()
@reported
def end(
    negotiation: NegotiationArgument,
    reason: Annotated[str, typer.Option(help="a sentence for the other side")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """End an unfinished negotiation."""
    with Client.of_home(home) as node:
        found = node.call(
            "POST", f"/api/negotiations/{negotiation}/termination", {"reason": reason}
        )
    show(found, as_json, lambda: _print(found))


@app.command()
@reported
def offer(
    consumer: Annotated[str, typer.Argument(help="the consumer's node, by URL or DID")],
    dataset: Annotated[str, typer.Argument(help="the id of a dataset of this node")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Offer a dataset to a consumer that has not asked; a person there answers."""
    with Client.of_home(home) as node:
        asked = {"consumer": consumer, "dataset": dataset}
        found = node.call("POST", "/api/negotiations/offers", asked)
    show(found, as_json, lambda: _print(found))


def _decide(negotiation: str, approval: str, home: Path, as_json: bool) -> None:
    with Client.of_home(home) as node:
        found = node.call(
            "POST", f"/api/negotiations/{negotiation}/approval", {"approval": approval}
        )
    show(found, as_json, lambda: _print(found))


def _print(one: dict[str, Any]) -> None:
    style = {"FINALIZED": "green", "TERMINATED": "red"}.get(one["state"], "yellow")
    say(f"{one['id']}  {one['dataset']}  {one['peer']}", head=one["state"], style=style)
    for name in ("waits_for", "reason", "clause", "remedy"):
        if one[name]:
            say(f"  {name.replace('_', ' ')}: {one[name]}")
    if one.get("approved_by"):
        say(f"  approved by: {', '.join(each['person'] for each in one['approved_by'])}")
