"""`./run load`: see `--help`."""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.faults.plan import PROVIDERS
from tests.faults.worlds import NotHere
from tests.load import bare, fairness, report, stages
from tests.load.clients import WRONG
from tests.load.figures import Growth, growth
from tests.load.plan import NODES
from tests.load.report import Told
from tests.load.space import WORKER_PROCESSES, LoadedSpace
from tests.load.verdict import Measured, judge

IDLE_S, SHORT_IDLE_S = 30.0, 10.0
ORDERS, SHORT_ORDERS = 40, 24
SHORT_S = 60.0
SHORT_TIMES = 3

Measure = TypeVar("Measure")


def main(arguments: list[str] | None = None) -> int:
    """Run the load; 0 when the verdict finds nothing, 1 otherwise, 3 where it cannot be run."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = Path(options.keep).resolve() if options.keep else _temporary()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        told = _run(options, directory)
    except NotHere as err:
        print(f"not run: {err}")
        return 3
    finally:
        if not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        text = json.dumps(report.as_json(told), indent=2, ensure_ascii=False) + "\n"
        Path(options.json).write_text(text, encoding="utf-8")
    print(report.as_text(told))
    return 1 if told.findings else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run load",
        description="Real nodes under a sustained mixed load: latencies, errors, memory, fairness "
        "and what each piece of work costs; at the end, a verdict.",
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="of mixed load (5)")
    parser.add_argument("--clients", type=int, default=6, help="in closed loops (6)")
    parser.add_argument("--seed", type=int, help="repeat this work; other work otherwise")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument(
        "--short", action="store_true", help=f"{SHORT_S:g} s of mixed load, less of everything"
    )
    parser.add_argument("--json", metavar="FILE", help="everything that was measured, as JSON")
    parser.add_argument("--keep", metavar="DIR", help="homes and logs go here and stay")
    options = parser.parse_args(arguments)
    if not 0 < options.minutes <= 24 * 60:
        parser.error("--minutes: expected more than 0, and a day at most")
    if not 1 <= options.clients <= 64:
        parser.error("--clients: expected 1 to 64")
    if options.seed is None:
        options.seed = secrets.randbelow(10**6)
    return options


def _temporary() -> Path:
    return Path(tempfile.mkdtemp(prefix="dataspace-load-"))


def _run(options: argparse.Namespace, directory: Path) -> Told:
    begun = time.monotonic()
    say = _teller(begun)
    seconds = SHORT_S if options.short else 60 * options.minutes
    say(f"seed {options.seed}, {options.database}: bare peers, then the nodes start")
    broken: list[str] = []
    floor = bare.measure(directory / "bare")
    with LoadedSpace(directory, seed=options.seed, database=options.database) as space:
        stages.settle(space)
        say("idle")
        idle = stages.idle(space, SHORT_IDLE_S if options.short else IDLE_S)
        say("each work alone")
        times = SHORT_TIMES if options.short else stages.TIMES_ALONE
        alone = stages.alone(space, idle, times)
        say(f"mixed, {options.clients} clients, {seconds:g} s")
        mixed = stages.mixed(space, seed=options.seed, clients=options.clients, seconds=seconds)
        ended = stages.settle(space)
        say("a flood of computations")
        orders = SHORT_ORDERS if options.short else ORDERS
        computed = _or_broken(broken, lambda: fairness.flood_of_computations(space, orders))
        say("a flood of catalogue requests")
        read = _or_broken(broken, lambda: fairness.flood_of_catalogues(space))
        stages.settle(space)
        say("small requests, as the bare server had them")
        node = space[PROVIDERS[0]].home
        node_requests = bare.of_a_node(node.url, "/health", node.api_key())
    done, looks = mixed.done, mixed.watched
    measured = Measured(
        errors={work.value: count for work, count in done.errors.items()},
        told=tuple(done.told),
        operations=done.count,
        memory=_growth(mixed, "rss_mb"),
        threads=_growth(mixed, "threads"),
        files=_growth(mixed, "files"),
        wal_mb={name: looks.most(name, "wal_mb") for name in NODES},
        workers={name: looks.most(name, "workers") for name in NODES},
        worker_processes=WORKER_PROCESSES,
        ended=ended,
        computations=computed,
        catalogues=read,
        harness=tuple(broken),
    )
    return Told(
        seed=options.seed,
        command=_command(options),
        options={**vars(options), "keep": None, "json": None},
        idle=idle,
        alone={work.value: one for work, one in alone.items()},
        mixed=mixed,
        computations=computed,
        catalogues=read,
        bare=floor,
        node_requests=node_requests,
        measured=measured,
        findings=judge(measured),
        seconds=time.monotonic() - begun,
    )


def _or_broken(broken: list[str], stage: Callable[[], Measure]) -> Measure | None:
    """What the stage measured, or None with why it has not: the run is a failure then."""
    try:
        return stage()
    except (*WRONG, ValueError) as err:
        broken.append(f"a flood: {type(err).__name__}: {err}")
        return None


def _growth(mixed: stages.Mixed, what: str) -> dict[str, Growth]:
    return {name: growth(mixed.watched.series(name, what)) for name in NODES}


def _teller(begun: float) -> Callable[[str], None]:
    def say(sentence: str) -> None:
        print(f"{time.monotonic() - begun:6.0f} s  {sentence}", flush=True)

    return say


def _command(options: argparse.Namespace) -> str:
    words = ["./run load", f"--seed {options.seed}", f"--clients {options.clients}"]
    words.append("--short" if options.short else f"--minutes {options.minutes:g}")
    words.append(f"--database {options.database}")
    return " ".join(words)


if __name__ == "__main__":
    sys.exit(main())
