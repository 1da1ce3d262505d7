"""A node's settings as it reads them. None of these needs a running node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dataspace.cli.shared import EXIT_ERROR, HOME, HomeOption, JsonOption, reported, say, show
from dataspace.errors import InputRejected

if TYPE_CHECKING:
    from dataspace.operations.effective import Configuration

app = typer.Typer(help="A node's settings: what they come to, where they come from.")
BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"


@app.command(name="show")
@reported
def show_settings(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Every setting with its value and where that comes from; secrets are masked."""
    from dataspace.operations.effective import read_configuration

    found = read_configuration(home, os.environ)

    def render() -> None:
        for one in found.effective:
            say(f"= {one.value!s}  ({one.source})", head=one.name, style="bold")
        _render_remarks(found)

    show(_to_json(found), as_json, render)


@app.command()
@reported
def check(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Say what is wrong with the settings: unknown, unusable, contradictory. Ends with 1 where the
    node would not start or could not work."""
    from dataspace.operations.effective import read_configuration

    found = read_configuration(home, os.environ)

    def render() -> None:
        _render_remarks(found)
        if not found.remarks:
            say("nothing to remark")

    show({"usable": found.usable, "remarks": _to_json(found)["remarks"]}, as_json, render)
    if not found.usable:
        raise typer.Exit(EXIT_ERROR)


@app.command()
@reported
def table(
    write: Annotated[
        Path | None, typer.Option(help="put it between the marks in this file")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The settings as a table in Markdown, as the documentation has it."""
    from dataspace.operations.effective import settings_table

    made = settings_table()
    if write is not None:
        text = write.read_text(encoding="utf-8")
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise InputRejected(f"{write} has no marks {BEGIN} and {END}")
        write.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", encoding="utf-8")
    show({"table": made}, as_json, lambda: print(made))


def _to_json(found: Configuration) -> dict[str, object]:
    return {
        "usable": found.usable,
        "settings": [one.to_json() for one in found.effective],
        "remarks": [one.to_json() for one in found.remarks],
    }


def _render_remarks(found: Configuration) -> None:
    for one in found.remarks:
        say(one.sentence, head=f"{one.level}:", style="yellow")
        say(f"  remedy: {one.remedy}")
