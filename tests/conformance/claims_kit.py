"""The second part of `./run tck`: the claims protocol's official kit against this node.

Proves the set-up with the kit playing all parts itself, then plays its four sections, each against
a new node of ours in the part that the section is about: verifier, holder (twice), issuer.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from dataspace.home import free_port
from dataspace.identity.did import did_of_url
from tests.conformance.archives import HERE, fetch_archives
from tests.conformance.claims_cases import (
    CASES,
    ISSUING,
    PRESENTING,
    STORING,
    VERIFIER,
    expected_claims_cases,
)
from tests.conformance.claims_connector import CLIENT, CORRELATION, SECRET, TRIGGER
from tests.conformance.outcome import Outcome, closing_line, findings, joined, read_outcome, without
from tests.conformance.settings import write_properties
from tests.conformance.starting import await_answer, new_directory, running

POM: Final = HERE / "claims-pom.xml"
# A case takes a second at most, but for those that wait ten for what does not come.
KIT_S: Final = 600
SET_UP_TRIES: Final = 2
# The kit's own credential service refuses this, as the draft had it, while its case follows the
# final text: in the releases after the draft it fails against itself.
NOT_OF_ITSELF: Final = frozenset({f"{PRESENTING}:cs_05_04_01_02_invalidScopeEscalationRequest"})
LAUNCHER: Final = "org.eclipse.dataspacetck.dcp.system.DcpSystemLauncher"


def fetch_claims_archives() -> Path:
    """The directory with the claims kit. Raises Missing where Maven cannot get it."""
    return fetch_archives(POM)


def is_draft(archives: Path) -> bool:
    """Whether this kit is from before the protocol's final text (`draft`)."""
    return any("-RC" in one.name for one in archives.glob("dcp-system-*.jar"))


def _properties(section: str | None, node: str, kit: str) -> dict[str, str]:
    """The kit's settings; without a section the kit plays all parts itself."""
    port = kit.rpartition(":")[2]
    common = {
        "dataspacetck.debug": "true",
        "dataspacetck.ansi": "false",
        "dataspacetck.launcher": LAUNCHER,
        "dataspacetck.host": "127.0.0.1",
        "dataspacetck.port": port,
        "dataspacetck.callback.address": kit,
        "dataspacetck.credentials.correlation.id": CORRELATION,
    }
    did = did_of_url(node)
    match section:
        case "presentation.verifier":
            ours = {
                "dataspacetck.did.verifier": did,
                "dataspacetck.vpp.trigger.endpoint": f"{node}{TRIGGER}",
            }
        case "presentation.cs" | "issuance.cs":
            ours = {
                "dataspacetck.did.holder": did,
                "dataspacetck.sts.url": f"{node}/claims",
                "dataspacetck.sts.client.id": CLIENT,
                "dataspacetck.sts.client.secret": SECRET,
            }
        case "issuance.issuer":
            ours = {"dataspacetck.did.issuer": did}
        case _:
            ours = {}
    return common | ours


def _run(archives: Path, work: Path, settings: dict[str, str], sections: list[str]) -> Outcome:
    """Play the sections; leaves the settings and all that the kit printed in `work`."""
    properties, printed = work / "kit.properties", work / "kit.log"
    write_properties(properties, settings)
    runner = str(HERE / "RunClaimsKit.java")
    command = ["java", "-cp", f"{archives}/*", runner, str(properties), *sections]
    with printed.open("w", encoding="utf-8") as log:
        try:
            subprocess.run(command, stdout=log, stderr=log, timeout=KIT_S, check=False, cwd=work)
        except subprocess.TimeoutExpired:
            log.write(f"\nthe kit was ended after {KIT_S} seconds\n")
    return read_outcome(printed.read_text(encoding="utf-8", errors="replace"))


def _play_section(archives: Path, work: Path, section: str) -> Outcome:
    node, kit = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    port = node.rpartition(":")[2]
    command = [sys.executable, "-m", "tests.conformance.claims_connector"]
    command += [str(work / "home"), port, section, kit]
    command += ["--draft"] if is_draft(archives) else []
    with running(command, work / "node.log") as process:
        await_answer(process, f"{node}/health")
        if section in (VERIFIER, ISSUING):
            # Members are known once the space is founded.
            await_answer(process, f"{node}/operator/space")
        return _run(archives, work, _properties(section, node, kit), [section])


def play_claims(archives: Path, work: Path, times: int) -> bool:
    """Prove the set-up, then play all sections `times` times; whether every run was all well."""
    if is_draft(archives):
        print("this kit is older than the protocol's final text: see tests/conformance/draft.py")
    if not any(_set_up_works(archives, work, number) for number in range(1, SET_UP_TRIES + 1)):
        print("the set-up does not work here, so nothing was found out about this node")
        return False
    well = True
    for number in range(1, times + 1):
        print(f"the claims kit against this node, run {number} of {times}", flush=True)
        began, outcomes = time.monotonic(), []
        for section in (VERIFIER, PRESENTING, STORING, ISSUING):
            directory = new_directory(work / f"claims-{number}-{section}")
            outcome = _play_section(archives, directory, section)
            well = _print_findings(outcome, expected_claims_cases(section)) and well
            print(f"{section}: {len(outcome.passed)} of {len(CASES[section])}", flush=True)
            outcomes.append(outcome)
        print(f"in {time.monotonic() - began:.0f} s")
        print(closing_line(joined(outcomes)), flush=True)
    return well


def _set_up_works(archives: Path, work: Path, number: int) -> bool:
    print(f"the claims kit against itself, try {number}", flush=True)
    directory = new_directory(work / f"claims-own-{number}")
    kit = f"http://127.0.0.1:{free_port()}"
    outcome = _run(archives, directory, _properties(None, kit, kit), list(CASES))
    expected = frozenset[str]().union(*(expected_claims_cases(one) for one in CASES))
    unfit = frozenset() if is_draft(archives) else NOT_OF_ITSELF
    return _print_findings(without(outcome, unfit), expected - unfit)


def _print_findings(outcome: Outcome, expected: frozenset[str]) -> bool:
    found = findings(outcome, expected)
    for one in found:
        print(one)
    return not found
