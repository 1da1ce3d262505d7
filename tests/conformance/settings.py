"""The properties file that the kit is started with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from contracts.profile import CONTEXT_URL, context_document
from dataspace.identity.did import did_of_url
from dataspace.protocol import BASE
from tests.conformance.cases import named_in_settings
from tests.conformance.connector import SIGNALS, TOKEN

# How long the kit waits for each thing that has to happen.
WAIT_S: Final = 15
# Nobody is asked there: the kit wants the addresses of a connector even where it brings its own.
NOWHERE: Final = "http://127.0.0.1:1"


def write_settings(path: Path, *, kit_port: int, connector: str | None) -> None:
    """Write the settings to `path`, and beside it the context that they refer to.

    `kit_port` is where the kit listens. `connector` is our node's address; None has the kit play
    against its own connector, which makes up what the cases are about.
    """
    address = connector or NOWHERE
    # The kit fetches no JSON-LD context, and cannot expand a term whose context it was not given.
    context = path.with_name("context.jsonld")
    context.write_text(json.dumps(context_document()), encoding="utf-8")
    lines = {
        "dataspacetck.debug": "true",
        "dataspacetck.ansi": "false",
        "dataspacetck.launcher": "org.eclipse.dataspacetck.dsp.system.DspSystemLauncher",
        "dataspacetck.host": "127.0.0.1",
        "dataspacetck.port": str(kit_port),
        "dataspacetck.callback.address": f"http://127.0.0.1:{kit_port}",
        "dataspacetck.dsp.local.connector": "true" if connector is None else "false",
        "dataspacetck.dsp.default.wait": str(WAIT_S),
        "dataspacetck.dsp.connector.agent.id": did_of_url(address),
        "dataspacetck.dsp.connector.http.base.url": address,
        "dataspacetck.dsp.connector.http.url": f"{address}{BASE}",
        "dataspacetck.dsp.connector.http.headers.authorization": f"Bearer {TOKEN}",
        "dataspacetck.dsp.connector.negotiation.initiate.url": f"{address}{SIGNALS}/negotiations",
        "dataspacetck.dsp.connector.transfer.initiate.url": f"{address}{SIGNALS}/transfers",
        "dataspacetck.dsp.jsonld.context.city.path": str(context),
        "dataspacetck.dsp.jsonld.context.city.uri": CONTEXT_URL,
        **({} if connector is None else named_in_settings()),
    }
    write_properties(path, lines)


def write_properties(path: Path, settings: Mapping[str, str]) -> None:
    """Write a properties file."""
    written = "".join(f"{name}={_escaped(value)}\n" for name, value in settings.items())
    path.write_text(written, encoding="latin-1")


def _escaped(value: str) -> str:
    """A value as a properties file has it: a backslash would begin an escape."""
    return value.replace("\\", "\\\\")
