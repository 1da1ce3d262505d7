"""The Dataspace Protocol's official conformance kit, run against this connector.

    ./run tck [--times N] [--keep DIR] [--kit DIR]

Proves the set-up with the kit's own connector first, then plays every case against a node of ours,
demands that exactly the expected cases ran, and ends with `65 passed, 0 failed`. The kit needs
Java 17 or later (a JDK) and Maven; where they cannot be had it says so and ends with 0. Its own
exit code is always 0 and it is silent about a case that it leaves out, so its output is read.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import httpx2

from dataspace.settings import free_port
from tests.conformance.archives import HERE, Missing, fetch_archives, verify_java
from tests.conformance.cases import expected_cases
from tests.conformance.outcome import Outcome, closing_line, findings, read_outcome
from tests.conformance.settings import write_settings

ROOT: Final = HERE.parents[1]
# A case that fails waits a quarter of a minute for each thing that does not happen.
KIT_S: Final = 1800
START_S: Final = 60
# The kit's own connector answers without the pause that the kit needs to make itself ready, so on a
# busy machine it misses one of its own messages now and then. Ours pauses, and has one try.
SET_UP_TRIES: Final = 3
STOP_S: Final = 30


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
    with (work / "connector.log").open("w", encoding="utf-8") as log:
        node = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        try:
            _await_health(node, address)
            return run_kit(archives, work, connector=address)
        finally:
            node.terminate()
            try:
                node.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                node.kill()


def _await_health(node: subprocess.Popen[bytes], address: str) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and node.poll() is None:
        try:
            if httpx2.get(f"{address}/health", trust_env=False).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.2)
    raise SystemExit("the connector under test did not start: see connector.log (--keep DIR)")


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
        outcome = run_against_us(archives, _new_directory(work / f"run-{number}"))
        well = _print_findings(outcome) and well
        print(f"in {time.monotonic() - began:.0f} s")
        print(closing_line(outcome), flush=True)
    return well


def _set_up_works(archives: Path, work: Path, number: int) -> bool:
    print(f"the kit against its own connector, try {number}", flush=True)
    own = _new_directory(work / f"own-{number}")
    return _print_findings(run_kit(archives, own, connector=None))


def _new_directory(wanted: Path) -> Path:
    try:
        wanted.mkdir(parents=True)
    except FileExistsError as err:
        raise SystemExit(f"{wanted} exists: name a directory without earlier logs") from err
    return wanted


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run tck")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="run all cases N times")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep settings and logs there")
    parser.add_argument(
        "--kit", type=Path, metavar="DIR", help="the kit's archives, instead of Maven's"
    )
    asked = parser.parse_args()
    if asked.times < 1:
        parser.error(f"--times: expected 1 or more, got {asked.times}")
    if asked.kit is not None and not any(asked.kit.glob("*.jar")):
        parser.error(f"--kit: there are no archives (*.jar) in {asked.kit}")
    try:
        verify_java()
        archives = (asked.kit or fetch_archives()).resolve()
    except Missing as err:
        print(f"skipped: {err}")
        return 0
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
        return 0 if play(archives, (asked.keep or Path(scratch)).resolve(), asked.times) else 1


if __name__ == "__main__":
    sys.exit(main())
