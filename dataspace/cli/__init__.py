"""The command line. Every command teaches by --help, prints JSON with --json, and ends with 0, or
with 1 and one sentence and its remedy on stderr; 2 is a wrong command line, 3 a refused use, 4 a
negotiation or an act that waits for a person.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dataspace import __version__
from dataspace.cli import (
    access_commands,
    agreement_commands,
    audit_commands,
    collect_command,
    computation_commands,
    compute_command,
    config_commands,
    consent_commands,
    credential_commands,
    dataset_commands,
    finding_commands,
    key_commands,
    log_commands,
    maintenance_commands,
    member_commands,
    negotiation_commands,
    node_commands,
    policy_commands,
    recovery_commands,
    return_commands,
    sealing_commands,
    source_commands,
    status_commands,
    transfer_commands,
    use_commands,
    vault_commands,
    version_commands,
    zone_commands,
)
from dataspace.cli.shared import out, use_key_file

app = typer.Typer(
    name="dataspace",
    help="A node of a trusted city data space: publish data under contract, compute together "
    "without showing it, and prove what was done.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
# In the order in which a newcomer meets them.
for _commands in (
    node_commands.app,
    status_commands.app,
    dataset_commands.app,
    finding_commands.app,
    use_commands.app,
    compute_command.app,
):
    app.add_typer(_commands)
source_commands.app.add_typer(collect_command.app)
app.add_typer(source_commands.app, name="source")
dataset_commands.dataset_app.add_typer(version_commands.app)
app.add_typer(dataset_commands.dataset_app, name="dataset")
app.add_typer(policy_commands.app, name="policy")
app.add_typer(negotiation_commands.app, name="negotiation")
app.add_typer(agreement_commands.app, name="agreement")
app.add_typer(transfer_commands.app, name="transfer")
app.add_typer(return_commands.app, name="return")
app.add_typer(computation_commands.app, name="computation")
app.add_typer(consent_commands.app, name="consent")
app.add_typer(vault_commands.app, name="vault")
app.add_typer(vault_commands.erasure_app, name="erasure")
app.add_typer(zone_commands.app, name="zone")
app.add_typer(credential_commands.app, name="credential")
log_commands.app.add_typer(recovery_commands.app)
app.add_typer(config_commands.app, name="config")
app.add_typer(member_commands.app, name="member")
app.add_typer(key_commands.app, name="key")
app.add_typer(log_commands.app, name="log")
app.add_typer(maintenance_commands.app)
app.add_typer(sealing_commands.app)
app.add_typer(maintenance_commands.backup_app, name="backup")
app.add_typer(audit_commands.app, name="audit")
app.add_typer(access_commands.app, name="access")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            envvar="DATASPACE_API_KEY_FILE",
            help="use the key in this file, not the home's own (or set DATASPACE_API_KEY)",
        ),
    ] = None,
) -> None:
    if key_file is not None:
        use_key_file(context, key_file)
    if version:
        out.print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        out.print(context.get_help())
        raise typer.Exit


def main() -> None:
    """Entry point of the `dataspace` command."""
    app()
