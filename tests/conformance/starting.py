"""Starting nodes under test, and waiting for them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx2

from tests.conformance.archives import HERE

ROOT: Final = HERE.parents[1]
# On a machine that is busy with much else, Python takes most of a minute to import a node.
START_S: Final = 180
STOP_S: Final = 30


@contextmanager
def running(command: list[str], printed: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives as long as the block; what it prints is kept."""
    with printed.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def await_answer(process: subprocess.Popen[bytes], address: str) -> None:
    """Return once `address` is answered with 200. Ends the program where that does not happen."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx2.get(address, trust_env=False).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.2)
    raise SystemExit("the node under test did not start: see its log (--keep DIR)")


def new_directory(wanted: Path) -> Path:
    """Make a directory that was not there. Ends the program where it was."""
    try:
        wanted.mkdir(parents=True)
    except FileExistsError as err:
        raise SystemExit(f"{wanted} exists: name a directory without earlier logs") from err
    return wanted
