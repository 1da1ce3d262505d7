"""Commands about a node itself: make it, run it, let others in, see how it is."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from dataspace.cli.shared import HOME, HomeOption, JsonOption, reported, say, show
from dataspace.client import Client
from dataspace.errors import InputRejected
from dataspace.home import Home, create_home, free_port
from dataspace.identity.keys import SigningAlgorithm
from dataspace.sealing_suites import SealingSuite
from dataspace.secret_files import node_passphrase
from dataspace.settings import ParticipantKind

app = typer.Typer()


@app.command()
@reported
def init(
    name: Annotated[str, typer.Option(help="what people call this participant")],
    kind: Annotated[ParticipantKind, typer.Option(help="what it is in the space")],
    home: HomeOption = HOME,
    port: Annotated[
        int | None, typer.Option(help="port to listen on; a free one is chosen otherwise")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="address peers use; http://127.0.0.1:PORT otherwise")
    ] = None,
    found: Annotated[
        bool, typer.Option("--found", help="found a new space: this node is its operator too")
    ] = False,
    operator: Annotated[
        str | None, typer.Option(help="address of the operator of the space to join")
    ] = None,
    invitation: Annotated[
        str | None, typer.Option(help="the operator's invitation (or - to read it from stdin)")
    ] = None,
    chain: Annotated[
        str | None, typer.Option(help="with --found: use this EVM JSON-RPC, not our own chain")
    ] = None,
    signing_algorithm: Annotated[
        SigningAlgorithm, typer.Option(help="what the node signs with")
    ] = SigningAlgorithm.ED25519,
    sealing_suite: Annotated[
        SealingSuite,
        typer.Option(help="with what secrets and rows are sealed where there is a passphrase"),
    ] = SealingSuite.AES,
    as_json: JsonOption = False,
) -> None:
    """Make a node's home: its settings, its keys (0600) and its identity.

    The founder:      dataspace init --home bureau --name "Civil Affairs" --kind government --found
    Everybody else:   dataspace init --home firm --name "Insurer" --kind enterprise
                      --operator http://127.0.0.1:8001 --invitation CODE
    """
    if not found and operator is None:
        raise InputRejected(
            "a node joins a space by its operator, or founds one",
            remedy="give --operator URL --invitation CODE, or --found",
        )
    regulator = kind is ParticipantKind.REGULATOR
    port = None if regulator else port or free_port()
    values: dict[str, Any] = {
        "name": name,
        "kind": kind.value,
        "url": None if regulator else (url or f"http://127.0.0.1:{port}"),
        "port": port,
        "founder": found,
        "operator": operator,
        "chain": chain,
    }
    code = sys.stdin.readline().strip() if invitation == "-" else invitation
    if sealing_suite is not SealingSuite.AES and node_passphrase() is None:
        raise InputRejected(
            "nothing is sealed without a passphrase, with whatever suite",
            remedy="set DATASPACE_PASSPHRASE_FILE",
        )
    made = create_home(
        home, values, invitation=code, algorithm=signing_algorithm, sealing=sealing_suite
    )
    did = _did(made)
    if regulator:
        from dataspace.outbound import outbound_client
        from dataspace.regulator import join_as_regulator

        with outbound_client(made.settings.tls_ca) as http:
            join_as_regulator(made, http)

    def render() -> None:
        say(str(made.path), head="made", style="green")
        say(f"  identity {did}")
        serve_it = f"dataspace serve --home {home}"
        next_step = f"dataspace audit --home {home} --help" if regulator else serve_it
        say(f"  next     {next_step}")

    show({"home": str(made.path), "did": did, "url": made.settings.url}, as_json, render)


@app.command()
@reported
def join(
    invitation: Annotated[str, typer.Option(help="the operator's invitation (- for stdin)")],
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Join the space of a running node's operator, where init was not given the invitation."""
    code = sys.stdin.readline().strip() if invitation == "-" else invitation
    with Client.of_home(home) as node:
        node.join(code)
    show({"joined": True}, as_json, lambda: print("joined"))


@app.command()
@reported
def serve(home: HomeOption = HOME) -> None:
    """Run the node until Ctrl-C. Its API is described at URL/openapi.json."""
    from dataspace.server import serve_home

    serve_home(Home(home))


@app.command()
@reported
def invite(
    kind: Annotated[ParticipantKind, typer.Option(help="what the invited participant is")],
    zone: Annotated[
        list[str] | None,
        typer.Option(help="an industry park, free-trade zone or group it belongs to; repeatable"),
    ] = None,
    home: HomeOption = HOME,
    as_json: JsonOption = False,
) -> None:
    """Operator only: a code with which one participant of this kind can join the space."""
    with Client.of_home(home) as node:
        code = node.invite(kind, zone or ())
    show({"invitation": code}, as_json, lambda: print(code))


def _did(home: Home) -> str:
    from dataspace.identity.did import did_of_key, did_of_url

    if home.settings.url is None:
        return did_of_key(home.signing_key().jwk)
    return did_of_url(home.settings.url)
