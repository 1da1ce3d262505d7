"""Commands about the versions of a dataset: look at its source now, list what was noticed."""

from __future__ import annotations

from typing import Annotated

import typer

from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.client import Client

app = typer.Typer()

DatasetArgument = Annotated[str, typer.Argument(help="its id in the catalogue")]


@app.command("check")
@reported
def check(dataset: DatasetArgument, home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Look at a dataset's source now: has it changed, is it still what was published?"""
    with Client.of_home(home) as node:
        found = node.check_dataset(dataset)

    def render() -> None:
        head, style = ("changed", "yellow") if found["changed"] else ("unchanged", "green")
        say(f"{dataset}, version {found['number']}: {found['version']}", head=head, style=style)

    show(found, as_json, render)


@app.command("versions")
@reported
def versions(
    dataset: DatasetArgument, home: HomeOption = HOME, as_json: JsonOption = False
) -> None:
    """The states of a dataset that were noticed, the newest first."""
    with Client.of_home(home) as node:
        found = node.versions(dataset)

    def render() -> None:
        for one in found:
            say(f"{one['noticed_at']}  {one['version']}", head=str(one["number"]), style="bold")

    show(found, as_json, render)
