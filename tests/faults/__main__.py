"""`./run faults`: see `--help`."""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from dataspace.auditing import AuditPolicy, audit_space
from dataspace.client import ApiError
from ledger.chain import Registry
from ledger.errors import ChainUnavailable
from tests.faults import city
from tests.faults.load import Load
from tests.faults.picture import Picture, take
from tests.faults.plan import CONSUMER, GROUPS, NODES, Kind, Possible, rounds
from tests.faults.planting import DEFECTS, plant
from tests.faults.proxy import Proxy
from tests.faults.requests import Fates
from tests.faults.scene import Finding, Scene
from tests.faults.space import FaultySpace, Layout
from tests.faults.strikes import Strikes
from tests.faults.verdict import judge, unfinished

# A round begins when no more operations than these are under way, or after a while.
MAX_UNDER_WAY = 12
ROUND_S = 25.0
# When nothing breaks any more, everything comes to its end within this, what the owners wait for
# and what the nodes do together; whoever still waits then is a finding.
SETTLE_S = 240.0
SETTLE_SHORT_S = 180.0
# The nodes get at least this after the owners, whose threads end within a request of theirs.
LEAST_SETTLE_S = 60.0
LEAVE_S = 30.0
LOOK_S = 1.0
# How often it is told what is still awaited.
TELL_S = 30.0
TOLD = 5
SHOWN = 40


@dataclass
class Told:
    """What a run did and found, as `--json` writes it."""

    seed: int
    command: str
    kills: int = 0
    rounds: int = 0
    operations: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    mishaps: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    not_here: list[str] = field(default_factory=list)
    findings: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0


def main(arguments: list[str] | None = None) -> int:
    """Run a storm; 0 when the verdict finds nothing, 1 otherwise."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = options.seed if options.seed is not None else secrets.randbelow(10**6)
    told = Told(seed, _command(options, seed))
    print(f"seed {seed}: to repeat, {told.command}", flush=True)
    directory = Path(options.keep).resolve() if options.keep else _temporary()
    directory.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    findings, strikes, proxy = _run(options, seed, directory, told)
    told.seconds = round(time.monotonic() - begun, 1)
    told.findings = [asdict(one) for one in findings]
    if options.json:
        text = json.dumps(told.__dict__, indent=2, ensure_ascii=False) + "\n"
        Path(options.json).write_text(text, encoding="utf-8")
    _summary(told)
    if findings:
        _failure(findings, strikes, proxy, directory, told)
        return 1
    print(f"everything is as it must be, after {told.seconds:.0f} s")
    if not options.keep:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run faults",
        description="Real nodes under a mixed load while processes are killed and everything "
        "around them breaks; at the end, a verdict. The same seed gives the same load and faults; "
        "which instruction a fault meets is up to the machine.",
    )
    parser.add_argument("--seed", type=int, help="repeat this plan; a new one otherwise")
    parser.add_argument("--kills", type=int, help="end after so many kills (200; --short: 15)")
    parser.add_argument("--minutes", type=float, default=60.0, help="or after so long (60)")
    parser.add_argument(
        "--database", choices=("sqlite", "postgresql", "mixed"), default="mixed", help="(mixed)"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=sorted(GROUPS),
        help="only these kinds of faults; repeatable",
    )
    parser.add_argument(
        "--short", action="store_true", help="15 kills and the proxy, SQLite: for every build"
    )
    parser.add_argument("--keep", metavar="DIR", help="homes and logs go here and stay")
    parser.add_argument("--json", metavar="FILE", help="what happened, as JSON")
    parser.add_argument(
        "--break",
        dest="defects",
        action="append",
        default=[],
        choices=sorted(DEFECTS),
        help="plant this defect after the storm: the run must end with 1 and name it; repeatable",
    )
    options = parser.parse_args(arguments)
    if options.short:
        options.only = options.only or ["kills", "proxy"]
        options.database = "sqlite"
    options.only = options.only or sorted(GROUPS)
    if options.kills is None:
        options.kills = 15 if options.short else 200
    return options


def _command(options: argparse.Namespace, seed: int) -> str:
    words = ["./run faults", f"--seed {seed}", f"--kills {options.kills}"]
    words += [f"--database {options.database}", *(f"--only {one}" for one in options.only)]
    if options.minutes != 60.0:
        words.append(f"--minutes {options.minutes:g}")
    return " ".join(words)


def _temporary() -> Path:
    return Path(tempfile.mkdtemp(prefix="dataspace-faults-"))


def _layout(options: argparse.Namespace) -> Layout:
    databases = {
        "sqlite": (),
        "mixed": ("civil-affairs", CONSUMER),
        "postgresql": NODES,
    }[options.database]
    return Layout(
        clocks=("insurer", CONSUMER) if "clock" in options.only else (),
        disks=("health-trust",) if "disk" in options.only else (),
        networks=("insurer",) if "partition" in options.only else (),
        databases=tuple(databases),
    )


def _possible(options: argparse.Namespace, space: FaultySpace) -> Possible:
    kinds: list[Kind] = [kind for name in options.only for kind in GROUPS[name]]
    nodes = space.nodes.values()
    return Possible(
        kinds=tuple(kinds),
        clocks=tuple(node.name for node in nodes if node.clock),
        disks=tuple(node.name for node in nodes if node.disk),
        partitions=tuple(node.name for node in nodes if node.network),
        databases=tuple(space.layout.databases) if space.server else (),
    )


def _run(
    options: argparse.Namespace, seed: int, directory: Path, told: Told
) -> tuple[list[Finding], Strikes, Proxy]:
    proxy = Proxy(Fates(seed))
    data = city.make(directory / "data", seed)
    with FaultySpace(directory, proxy, _layout(options), print) as space:
        space.found()
        load = Load(space, data)
        load.prepare()
        told.not_here = space.not_here
        for reason in space.not_here:
            print(f"not here: {reason}", flush=True)
        strikes = Strikes(space, load)
        proxy.active = "proxy" in options.only
        try:
            _storm(options, seed, space, load, strikes, told)
            settle_s = SETTLE_SHORT_S if options.short else SETTLE_S
            findings = _calm(space, load, strikes, data, options.defects, settle_s)
        except (TimeoutError, SQLAlchemyError, ChainUnavailable, ApiError) as err:
            findings = [Finding("not-back", "", f"{type(err).__name__}: {err}")]
            findings += [Finding("harness", "", trouble) for trouble in strikes.trouble]
        told.kills, told.operations = strikes.kills, len(load.asked)
        told.faults = {str(kind): number for kind, number in sorted(strikes.done.items())}
        told.mishaps = {str(kind): number for kind, number in sorted(proxy.counted.items())}
        asked = [asdict(one) for one in load.asked]
        (directory / "asked.json").write_text(json.dumps(asked, indent=1), encoding="utf-8")
        findings += [Finding("leftover-process", "", left) for left in space.stop()]
    proxy.close()
    return findings, strikes, proxy


def _storm(
    options: argparse.Namespace,
    seed: int,
    space: FaultySpace,
    load: Load,
    strikes: Strikes,
    told: Told,
) -> None:
    until = time.monotonic() + options.minutes * 60
    wanted = options.kills if any(name == "kills" for name in options.only) else None
    for one in rounds(seed, _possible(options, space)):
        if time.monotonic() > until or (wanted is not None and strikes.kills >= wanted):
            return
        if wanted is None and one.number >= options.kills // 3:
            return
        for operation in one.operations:
            load.begin(operation)
        for fault in one.faults:
            strikes.begin(fault)
        strikes.wait()
        space.all_back()
        told.rounds += 1
        pace = time.monotonic() + ROUND_S
        while load.under_way() > MAX_UNDER_WAY and time.monotonic() < pace:
            time.sleep(0.1)
        print(
            f"round {one.number}: {strikes.kills} kills, {load.under_way()} of "
            f"{len(load.asked)} operations under way",
            flush=True,
        )


def _calm(
    space: FaultySpace,
    load: Load,
    strikes: Strikes,
    data: city.Data,
    defects: list[str],
    settle_s: float,
) -> list[Finding]:
    """Everything is mended; what has begun comes to its end; then the verdict."""
    space.proxy.active = False
    strikes.mend_everything()
    space.all_back()
    print("everything is back; waiting for what is under way", flush=True)
    until = time.monotonic() + settle_s
    while (hanging := load.wait(min(TELL_S, until - time.monotonic()))) and (
        time.monotonic() < until
    ):
        _tell_awaited(hanging)
    load.give_up()
    load.wait(LEAVE_S)
    scene = _settled(space, load, strikes, data, max(until, time.monotonic() + LEAST_SETTLE_S))
    findings = judge(scene)
    for defect in defects:
        findings += _planted(space, scene, data, defect)
    findings += [Finding("owner-waits", "", name) for name in hanging]
    findings += [Finding("harness", "", trouble) for trouble in strikes.trouble]
    findings += _audited(space)
    return findings


def _planted(space: FaultySpace, scene: Scene, data: city.Data, defect: str) -> list[Finding]:
    """What the verdict finds of a defect, of which there was nothing before. Raises LookupError
    where it does not."""
    rule = DEFECTS[defect].rule
    before = set(judge(replace(scene, pictures=_pictures(space, data))))
    plant(space, data, defect)
    found = [
        one for one in judge(replace(scene, pictures=_pictures(space, data))) if one not in before
    ]
    if rule not in {one.rule for one in found}:
        raise LookupError(f"{defect} was planted, and the verdict does not find {rule}")
    print(f"planted {defect}: found, as {rule}", flush=True)
    return found


def _settled(
    space: FaultySpace, load: Load, strikes: Strikes, data: city.Data, until: float
) -> Scene:
    told_at = time.monotonic()
    while True:
        try:
            struck = frozenset(strikes.done)
            scene = Scene(_pictures(space, data), load.asked, struck)
            open_ = unfinished(scene)
            if not open_ or time.monotonic() > until:
                return scene
            if time.monotonic() - told_at > TELL_S:
                told_at = time.monotonic()
                _tell_awaited([f"{one.rule} at {one.node}: {one.sentence}" for one in open_])
        except (SQLAlchemyError, ChainUnavailable, ApiError):
            if time.monotonic() > until:
                raise
        time.sleep(LOOK_S)


def _tell_awaited(names: list[str]) -> None:
    more = f", and {len(names) - TOLD} more" if len(names) > TOLD else ""
    print(f"still awaited: {'; '.join(names[:TOLD])}{more}", flush=True)


def _pictures(space: FaultySpace, data: city.Data) -> dict[str, Picture]:
    registry = Registry(*space.chain())
    found = {}
    for node in space.nodes.values():
        origin = f"{node.url.removeprefix('http://')}/tlog"
        anchors = [anchor.size for anchor in registry.anchors(origin)]
        consents = data.consents if node.name == "health-trust" else None
        found[node.name] = take(node, anchors=anchors, consents=consents)
    return found


def _audited(space: FaultySpace) -> list[Finding]:
    try:
        report = audit_space(*space.chain(), (), space.regulator, policy=AuditPolicy())
    except (ChainUnavailable, ApiError) as err:
        return [Finding("audit", "", f"it cannot be made: {type(err).__name__}: {err}")]
    return [Finding("audit", one.origin, f"{one.code}: {one.sentence}") for one in report.findings]


def _summary(told: Told) -> None:
    print(
        f"\n{told.kills} kills in {told.rounds} rounds over {told.operations} operations, "
        f"{told.seconds:.0f} s"
    )
    for title, counted in (("faults", told.faults), ("requests", told.mishaps)):
        if counted:
            listed = ", ".join(f"{name} {number}" for name, number in counted.items())
            print(f"{title}: {listed}")


def _failure(
    findings: list[Finding], strikes: Strikes, proxy: Proxy, directory: Path, told: Told
) -> None:
    print("\nthe last faults:")
    for line in [*list(strikes.recent)[-12:], *list(proxy.recent)[-8:]]:
        print(f"  {line}")
    by_rule = Counter(one.rule for one in findings)
    listed = ", ".join(f"{rule} {number}" for rule, number in by_rule.most_common())
    print(f"\n{len(findings)} findings: {listed}")
    shown: Counter[str] = Counter()
    for one in findings:
        shown[one.rule] += 1
        if shown[one.rule] <= SHOWN:
            print(f"  {one.rule}  {one.node}: {one.sentence}")
    print(f"homes, logs and what was asked: {directory}")
    print(f"again: {told.command}")


if __name__ == "__main__":
    sys.exit(main())
