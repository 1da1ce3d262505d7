"""Fuzzing of everything that parses foreign bytes, and of every address of a node.

    ./run fuzz [--inputs N] [--seed N] [--only NAME ...] [--short] [--list]

Each target reads N altered inputs in a process of its own, under a bound of time and memory: it may
take an input or refuse it by a typed error. Anything else is a finding: another exception, a crash,
more than five seconds, more than 400 MiB. `apis` is schemathesis against every address of a node,
with the credentials of everybody who may call it. The same seed gives the same inputs, so a finding
is repeated with `--only TARGET --seed S --input NUMBER`. Ends with 1 where there was a finding.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

from tests.fuzz import apis
from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import MAX_SECONDS, Done, Finding, work

# Processes are forked from one that has imported every target.
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["tests.fuzz.worker"])
INPUTS, SHORT_INPUTS = 20_000, 400
# Targets that make keys, chains or whole files for each input read fewer.
DEAR = {
    "frames": 50,
    "workbooks": 20,
    "status-lists": 10,
    "addresses": 10,
    "csv": 4,
    "tsv": 4,
    "chain-requests": 4,
    "parquet": 4,
    "packed": 4,
    "policies": 4,
}
# Nothing printed for so long, many times what one input may take: it hangs.
HUNG_S = 6 * MAX_SECONDS
WARM_UP_S = 120.0
APIS = "apis"
KEPT = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV"})


@dataclass
class Report:
    """What came of a target."""

    name: str
    inputs: int = 0
    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)


def fuzz(name: str, seed: int, first: int, last: int) -> Report:
    """Have a process read the inputs `first` … `last`-1 of a target; after a crash or a hang
    another one goes on behind that input."""
    report, began = Report(name), time.monotonic()
    while first < last:
        reached = _run(report, seed, first, last)
        report.inputs += reached - first
        first = reached
    report.seconds = time.monotonic() - began
    return report


def _run(report: Report, seed: int, first: int, last: int) -> int:
    """One process; returns the number behind the last input that it read or died of."""
    ours, theirs = FORKS.Pipe()
    child = FORKS.Process(target=work, args=(report.name, seed, first, last, theirs))
    child.start()
    theirs.close()
    at: int | None = None
    done, silent = False, False
    while not done:
        patience_s = WARM_UP_S if at is None else HUNG_S
        if not ours.poll(patience_s):
            silent = True
            child.kill()
            break
        try:
            told = ours.recv()
        except EOFError:
            break
        if isinstance(told, Finding):
            report.findings.append(told)
        elif isinstance(told, Done):
            report.read, report.refused = report.read + told.read, report.refused + told.refused
            done = True
        else:
            at = told
    child.join()
    if done:
        return last
    why = f"silent for {patience_s:.0f} s" if silent else f"the process ended with {child.exitcode}"
    report.findings.append(Finding(at, why if at is not None else f"could not begin: {why}"))
    return last if at is None else at + 1


def _print(report: Report, seed: int) -> None:
    verdict = f"{len(report.findings)} findings" if report.findings else "nothing found"
    print(
        f"{report.name:18} {report.inputs:7} inputs, {report.read:6} read, "
        f"{report.refused:7} refused, {report.seconds:6.1f} s  {verdict}",
        flush=True,
    )
    for one in report.findings[:10]:
        print(f"  input {one.number} of seed {seed}: {one.what}")
        print(f"    begins {one.given[:120]!r}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run fuzz")
    parser.add_argument("--inputs", type=int, metavar="N", help=f"inputs a target ({INPUTS})")
    parser.add_argument("--seed", type=int, metavar="N", help="repeat an earlier run")
    parser.add_argument("--only", action="append", metavar="NAME", help="this target; repeatable")
    parser.add_argument("--input", type=int, metavar="NUMBER", help="this input alone")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_INPUTS} inputs a target")
    parser.add_argument("--list", action="store_true", help="name the targets")
    asked = parser.parse_args()
    if asked.list:
        for target in TARGETS.values():
            print(f"{target.name:18} {target.about}")
        print(f"{APIS:18} every address of a node, by schemathesis")
        return 0
    names = asked.only or [*TARGETS, APIS]
    unknown = sorted(set(names) - {*TARGETS, APIS})
    if unknown:
        parser.error(f"there is no target {unknown[0]}; see --list")
    seed = random.SystemRandom().randrange(2**32) if asked.seed is None else asked.seed
    inputs = asked.inputs or (SHORT_INPUTS if asked.short else INPUTS)
    # Sources look for secrets there; a fuzzed address finds none.
    for name in [name for name in os.environ if name not in KEPT]:
        del os.environ[name]
    print(f"seed {seed}, {inputs} inputs a target", flush=True)
    reports = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        running = []
        for name in names:
            if name == APIS:
                continue
            first = 0 if asked.input is None else asked.input
            last = max(1, inputs // DEAR.get(name, 1)) if asked.input is None else first + 1
            running.append(pool.submit(fuzz, name, seed, first, last))
        for one in running:
            reports.append(one.result())
            _print(reports[-1], seed)
    well = not any(report.findings for report in reports)
    if APIS in names:
        well = apis.fuzz_apis(seed, examples=max(2, inputs // 200)) and well
    total = sum(report.inputs for report in reports)
    found = sum(len(report.findings) for report in reports)
    print(f"{total} inputs, {found} findings; repeat with --seed {seed}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
