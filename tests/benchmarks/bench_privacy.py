"""Figures of private computation, each ratio against a peer measured in the same run.

    python tests/benchmarks/bench_privacy.py [--json] [--small] [--only PART]

Peers: openmined-psi called directly, phe, SecretFlow's sf-heu and spu, the last two in environments
of their own that are made for the run (they need the network, and spu 420 MB of disk).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import privacy_cached
import privacy_paillier
import privacy_sets
import privacy_spu
from ledger_figures import Figure


def parts(directory: Path, *, small: bool) -> dict[str, Callable[[], list[Figure]]]:
    share = 10 if small else 1
    return {
        "sets": lambda: privacy_sets.bench_time(directory, 100_000 // share, 1 if small else 2),
        "cached": lambda: privacy_cached.figures(small),
        "paillier": lambda: privacy_paillier.figures(small),
        "spu": lambda: privacy_spu.bench_spu(directory, 1_000_000 // share, 1 if small else 2),
        "memory": lambda: privacy_sets.bench_memory(directory, 2_000_000 // share),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--small", action="store_true", help="a tenth of the work, to try it out")
    parser.add_argument("--only", help="sets, cached, paillier, spu or memory")
    asked = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        every = parts(Path(scratch), small=asked.small)
        if asked.only is not None and asked.only not in every:
            sys.exit(
                f"bench privacy: there is no part {asked.only!r}; choose from: {', '.join(every)}"
            )
        for name, run in every.items():
            if asked.only in (None, name):
                print(f"measuring: {name}", file=sys.stderr)
                figures += run()
    if asked.json:
        print(json.dumps([asdict(one) for one in figures], indent=2))
        return
    for one in figures:
        aim = "" if one.met is None else f"  {one.aim} {'met' if one.met else 'MISSED'}"
        print(f"{one.name:64} {one.value:12,.3f} {one.unit}{aim}")


if __name__ == "__main__":
    main()
