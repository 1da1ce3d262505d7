"""The official conformance kits, run against this connector.

    ./run tck [--part dsp|dcp] [--times N] [--keep DIR] [--kit DIR]

`dsp` is the Dataspace Protocol's kit, `dcp` that of the Decentralized Claims Protocol
(`claims_kit`). Each part proves its set-up with the kit's own peer first, then plays every case
against a node of ours, demands that exactly the expected cases ran, and ends with a line such as
`65 passed, 0 failed`. The kits need Java 17 or later (a JDK) and Maven; where they cannot be had
that is said, and it ends with 0. Their own exit code is always 0 and they are silent about a case
that they leave out, so their output is read.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from dataspace.home import free_port
from tests.conformance.archives import HERE, Missing, fetch_archives, verify_java
from tests.conformance.cases import expected_cases
from tests.conformance.claims_kit import fetch_claims_archives, play_claims
from tests.conformance.outcome import Outcome, closing_line, findings, read_outcome
from tests.conformance.settings import write_settings
from tests.conformance.starting import await_answer, new_directory, running

PARTS: Final = ("dsp", "dcp")
# A case that fails waits a quarter of a minute for each thing that does not happen.
KIT_S: Final = 1800
# The kit's own connector answers without the pause that the kit needs to make itself ready, so on a
# busy machine it misses one of its own messages now and then. Ours pauses, and has one try.
SET_UP_TRIES: Final = 3


def run_kit(archives: Path, work: Path, *, connector: str | None) -> Outcome:
    """Play all cases against the node at `connector`, or against the kit's own.

    Leaves the settings and all that the kit printed in the directory `work`.
    """
    settings, printed = work / "kit.properties", work / "kit.log"
    write_settings(settings, kit_port=free_port(), connector=connector)
    command = ["java", "-cp", f"{archives}/*", str(HERE / "RunKit.java"), str(settings)]
    with printed.open("w", encoding="utf-8") as log:
        try:
            subprocess.run(command, stdout=log, stderr=log, timeout=KIT_S, check=False, cwd=work)
        except subprocess.TimeoutExpired:
            log.write(f"\nthe kit was ended after {KIT_S} seconds\n")
    return read_outcome(printed.read_text(encoding="utf-8", errors="replace"))


def run_against_us(archives: Path, work: Path) -> Outcome:
    """Start a new node of ours that plays by the script, and run the kit against it."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tests.conformance.connector", str(work / "home"), str(port)]
    with running(command, work / "connector.log") as node:
        await_answer(node, f"{address}/health")
        return run_kit(archives, work, connector=address)


def _print_findings(outcome: Outcome) -> bool:
    """Whether there is nothing to print."""
    found = findings(outcome, expected_cases())
    for one in found:
        print(one)
    return not found


def play(archives: Path, work: Path, times: int) -> bool:
    """Prove the set-up, then run all cases `times` times; whether every run was all well."""
    if not any(_set_up_works(archives, work, number) for number in range(1, SET_UP_TRIES + 1)):
        print("the set-up does not work here, so nothing was found out about this connector")
        return False
    well = True
    for number in range(1, times + 1):
        print(f"the kit against this connector, run {number} of {times}", flush=True)
        began = time.monotonic()
        outcome = run_against_us(archives, new_directory(work / f"run-{number}"))
        well = _print_findings(outcome) and well
        print(f"in {time.monotonic() - began:.0f} s")
        print(closing_line(outcome), flush=True)
    return well


def _set_up_works(archives: Path, work: Path, number: int) -> bool:
    print(f"the kit against its own connector, try {number}", flush=True)
    own = new_directory(work / f"own-{number}")
    return _print_findings(run_kit(archives, own, connector=None))


def _part(name: str, kit: Path | None, work: Path, times: int) -> bool:
    """Play one part; whether all was well. One whose kit cannot be had is left out, and said."""
    try:
        verify_java()
        fetch, played = (
            (fetch_archives, play) if name == "dsp" else (fetch_claims_archives, play_claims)
        )
        archives = (kit or fetch()).resolve()
    except Missing as err:
        print(f"skipped: {err}")
        return True
    return played(archives, work, times)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run tck")
    parser.add_argument("--part", choices=PARTS, help="one of the kits; otherwise both")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="run all cases N times")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep settings and logs there")
    parser.add_argument(
        "--kit", type=Path, metavar="DIR", help="the part's archives, instead of Maven's"
    )
    asked = parser.parse_args()
    if asked.times < 1:
        parser.error(f"--times: expected 1 or more, got {asked.times}")
    if asked.kit is not None and asked.part is None:
        parser.error("--kit: say whose archives they are with --part")
    if asked.kit is not None and not any(asked.kit.glob("*.jar")):
        parser.error(f"--kit: there are no archives (*.jar) in {asked.kit}")
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
        work = (asked.keep or Path(scratch)).resolve()
        parts = [asked.part] if asked.part else PARTS
        # All of them, so that a failure in one does not hide what is in the other.
        well = [_part(name, asked.kit, work, asked.times) for name in parts]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
