"""Commands of consumers: what can be computed, and agreeing on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dataspace.cli.policy_commands import written
from dataspace.cli.shared import (
    HOME,
    HomeOption,
    JsonOption,
    reported,
    say,
    show,
)
from dataspace.client import Client

app = typer.Typer()


@app.command()
@reported
def kinds(as_json: JsonOption = False) -> None:
    """The computations there are, and what each party learns in them."""
    from privacy.kinds import KINDS

    def render() -> None:
        for kind in KINDS.values():
            say(kind.title, head=kind.name, style="bold")
            for role, learns in kind.leakage.items():
                say(f"  {role}: {learns}")
            if kind.settings:
                say(f"  --set: {', '.join(kind.settings)}")

    described = [
        {"name": kind.name, "title": kind.title, "leakage": dict(kind.leakage)}
        for kind in KINDS.values()
    ]
    show(described, as_json, render)


@app.command()
@reported
def negotiate(
    provider: Annotated[str, typer.Argument(help="the provider's node, by URL or DID")],
    dataset: Annotated[str, typer.Argument(help="the dataset's id in its catalogue")],
    offer: Annotated[str | None, typer.Option(help="which offer, where there are several")] = None,
    policy: Annotated[
        Path | None, typer.Option(help="propose the terms of this file instead of the offer's")
    ] = None,
    reuse: Annotated[
        bool, typer.Option(help="take an agreement in force on the same terms, if there is one")
    ] = False,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Negotiate an agreement on a dataset's offer and print the agreement's id.

    Ends with 3 when refused, and with 4 when a person of either side has to decide first.
    """
    terms = written(policy) if policy is not None else None
    with Client.of_home(home) as node:
        agreement = node.negotiate(provider, dataset, offer=offer, policy=terms, reuse=reuse)
    show({"agreement": agreement}, as_json, lambda: print(agreement))


@app.command()
@reported
def agreements(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Every agreement this node has, as consumer or provider."""
    with Client.of_home(home) as node:
        found = node.agreements()

    def render() -> None:
        for one in found:
            say(
                f"{one['id']}  {one['dataset']}  {one['role'].lower()}  {one['provider']}",
            )

    show(found, as_json, render)
