"""Commands about the keys of a node's identity."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.client import Client
from dataspace.identity.keys import SigningAlgorithm
from dataspace.moments import utc_text

app = typer.Typer(
    help="Keys of this node's identity: what it signs with, and what it signed with before.",
    no_args_is_help=True,
)


@app.command("list")
@reported
def list_(home: HomeOption = HOME, as_json: JsonOption = False) -> None:
    """The keys, the newest first, and where each stands."""
    with Client.of_home(home) as node:
        found = node.call("GET", "/api/keys")
    show(found, as_json, lambda: _render(found))


@app.command()
@reported
def rotate(
    algorithm: Annotated[
        SigningAlgorithm | None,
        typer.Option(help="of the new key; that of the present one unless given"),
    ] = None,
    compromised: Annotated[
        bool,
        typer.Option(
            "--compromised",
            help="somebody else may have the present key: withdraw it now, and all it signed",
        ),
    ] = False,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Change the key that speaks for this node. The log's own key: dataspace log rotate-key.

    The new key is listed in the DID document first, and used once no peer can have an older
    document (key_announced_s); the old one authenticates for a while beside it (key_overlap_s), and
    stays listed, so that what it signed can be verified.
    """
    asked = {"algorithm": algorithm.value if algorithm else None, "compromised": compromised}
    with Client.of_home(home) as node:
        made = node.call("POST", "/api/keys/rotations", asked)
    told = "in use, the earlier one is withdrawn" if compromised else "announced"
    show(made, as_json, lambda: say(made["thumbprint"], head=told, style="green"))


@app.command()
@reported
def retire(
    thumbprint: Annotated[str, typer.Argument(metavar="THUMBPRINT", help="see: key list")],
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="take it off the document: its signatures are void")
    ] = False,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Let an earlier key authenticate no more from now on, without waiting for its time."""
    with Client.of_home(home) as node:
        found = node.call("POST", f"/api/keys/{thumbprint}/retirements", {"withdraw": withdraw})
    show(found, as_json, lambda: _render(found))


def _render(found: list[dict[str, Any]]) -> None:
    for one in found:
        say(f"{one['algorithm']}  {one['thumbprint']}", head=one["state"], style="bold")
        for what in ("announced", "used", "replaced", "retired", "withdrawn"):
            seconds = one[f"{what}_at"]
            if seconds is not None:
                at = utc_text(seconds)
                say(f"  {what} {at}")
