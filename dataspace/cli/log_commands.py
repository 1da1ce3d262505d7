"""Commands of a node's owner about its own evidence: look, prove, export, erase, change the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.client import Client

app = typer.Typer(help="This node's evidence log.", no_args_is_help=True)


@app.command("show")
@reported
def log_show(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """This node's own evidence entries."""
    from ledger.entry import SealedEntry

    with Client.of_home(home) as node:
        sealed = node.call("GET", "/api/log")
    bodies = [json.loads(SealedEntry.parse(one).body) if one else None for one in sealed]

    def render() -> None:
        for index, body in enumerate(bodies):
            words = (
                "erased"
                if body is None
                else " ".join(
                    str(body.get(key, ""))
                    for key in ("ts", "type", "kind", "decision", "clause", "outcome", "peer")
                )
            )
            say(f"{index:5} {words}")

    show(bodies, as_json, render)


@app.command("export")
@reported
def log_export(
    directory: Annotated[Path, typer.Argument(help="where to write the copy")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Write a copy of this node's log, bodies included, that can be audited from disk."""
    from dataspace.auditing import export_node_log

    with Client.of_home(home) as node:
        size = export_node_log(node, directory)
    show(
        {"directory": str(directory), "entries": size},
        as_json,
        lambda: say(f"{size} entries in {directory}"),
    )


@app.command()
@reported
def prove(
    index: Annotated[int, typer.Argument(help="the entry's index; see: dataspace log show", min=0)],
    directory: Annotated[Path, typer.Option("--out", help="where to write the files")] = Path(),
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Hand out one entry with its proof: three files that verify without this node.

    entry-N.json is the record, entry-N.tlog-proof its proof, entry-N.anchor.json where the chain
    holds the root. Whoever has them runs: dataspace audit verify
    """
    with Client.of_home(home) as node:
        given = node.call("GET", f"/api/log/{index}")
    directory.mkdir(parents=True, exist_ok=True)
    contents = {
        "entry": (f"entry-{index}.json", json.dumps(given["entry"], indent=2) + "\n"),
        "proof": (f"entry-{index}.tlog-proof", given["proof"]),
        "anchor": (f"entry-{index}.anchor.json", json.dumps(given["anchor"], indent=2) + "\n"),
    }
    paths: dict[str, str] = {}
    for what, (name, content) in contents.items():
        path = (directory / name).resolve()
        path.write_text(content, encoding="utf-8")
        paths[what] = str(path)
    show(paths, as_json, lambda: say("\n".join(paths.values())))


@app.command()
@reported
def erase(
    index: Annotated[int, typer.Argument(help="the entry's index; see: dataspace log show", min=0)],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Destroy an entry's content for good. Its commitment stays, so every proof still holds."""
    if not yes:
        typer.confirm(f"Destroy the content of entry {index}? It cannot be undone", abort=True)
    with Client.of_home(home) as node:
        node.call("POST", f"/api/log/{index}/erasure")
    show({"erased": index}, as_json, lambda: say(f"entry {index} is erased"))


@app.command()
@reported
def rotate(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """Give the log a new key: recorded in the log under the old key, and on the chain."""
    with Client.of_home(home) as node:
        node.call("POST", "/api/log/rotation")
        status = node.wait_until(lambda status: not status["log"]["rotating"])
    vkey = status["log"]["vkey"]
    show({"vkey": vkey}, as_json, lambda: say(vkey))
