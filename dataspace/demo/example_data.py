"""The seeded residents, made by the script in `examples/quickstart`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dataspace.errors import InputRejected, NodeError

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "quickstart" / "residents.py"
SEED = 7


def generate_residents(directory: Path) -> None:
    """Write residents.csv, contracts.csv, health.csv, consents.jsonl and screening.csv."""
    if not SCRIPT.exists():
        raise InputRejected(
            "the example data's generator is not here: the demo runs from a clone of the project",
            remedy="clone the project and run ./run demo, or give your own --left and --right",
        )
    command = [sys.executable, str(SCRIPT), "--out", str(directory), "--seed", str(SEED)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NodeError(f"the example data could not be made: {done.stderr.strip()[-300:]}")
