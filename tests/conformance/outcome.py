"""What the kit printed, read: which cases passed, which failed and why, which never ran."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

ENDED: Final = "KIT ENDED"
MAX_REASON_CHARS: Final = 2_000
LAST_LINES: Final = 8
# CN_C:02-05 in the one kit, presentation.cs:cs_05_02_endpointDiscovery in the other.
_CASE: Final = re.compile(r"[A-Z_]+:\d\d-\d\d|[a-z]+\.[a-z]+:\w+")
_RESULT: Final = re.compile(rf"(SUCCESSFUL|FAILED|ABORTED): ({_CASE.pattern})\s*$")
_REASON: Final = "REASON: "


@dataclass(frozen=True)
class Outcome:
    """One run of the kit.

    `passed` and `failed` are ids of cases; a case that was told of twice has failed if it failed
    once. `reasons` is what the kit said of each failure, by the name it gave: a case's id and
    title, or a class whose cases could not begin. `broken_off` has the last lines of a kit that did
    not come to its end, and is None of one that did.
    """

    passed: frozenset[str]
    failed: frozenset[str]
    reasons: Mapping[str, str]
    broken_off: str | None


def read_outcome(printed: str) -> Outcome:
    """The outcome of a run from everything it printed."""
    results: dict[str, set[str]] = defaultdict(set)
    reasons: dict[str, str] = {}
    name = None
    lines = printed.splitlines()
    for line in lines:
        if line.startswith(_REASON):
            name = line.removeprefix(_REASON)
            reasons[name] = ""
        elif name is not None and line.startswith("  "):
            reasons[name] += f"{line.strip()}\n"
        else:
            name = None
            told = _RESULT.search(line)
            if told is not None:
                results[told[2]].add(told[1])
    passed = frozenset(case for case, told in results.items() if told == {"SUCCESSFUL"})
    return Outcome(
        passed=passed,
        failed=frozenset(results) - passed,
        reasons={name: reason.strip() for name, reason in reasons.items()},
        broken_off=None if ENDED in lines else "\n".join(lines[-LAST_LINES:]),
    )


def findings(outcome: Outcome, expected: frozenset[str]) -> list[str]:
    """Everything that keeps the outcome from being conformance, for a person; empty if nothing."""
    found = [f"FAILED {name}\n  {_shortened(why)}" for name, why in sorted(outcome.reasons.items())]
    with_reason = {case[0] for case in map(_CASE.match, outcome.reasons) if case}
    ran = outcome.passed | outcome.failed
    found += [f"FAILED {case}" for case in sorted(outcome.failed - with_reason)]
    if expected - ran:
        found.append(f"DID NOT RUN {' '.join(sorted(expected - ran))}")
    if ran - expected:
        found.append(f"NOT EXPECTED {' '.join(sorted(ran - expected))}")
    if outcome.broken_off is not None:
        found.append(f"THE KIT BROKE OFF\n  {_shortened(outcome.broken_off)}")
    return found


def without(outcome: Outcome, cases: frozenset[str]) -> Outcome:
    """The outcome of all other cases."""
    return Outcome(
        passed=outcome.passed - cases,
        failed=outcome.failed - cases,
        reasons={name: why for name, why in outcome.reasons.items() if name not in cases},
        broken_off=outcome.broken_off,
    )


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """Several runs of different cases as one."""
    broken = [one.broken_off for one in outcomes if one.broken_off is not None]
    return Outcome(
        passed=frozenset[str]().union(*(one.passed for one in outcomes)),
        failed=frozenset[str]().union(*(one.failed for one in outcomes)),
        reasons={name: why for one in outcomes for name, why in one.reasons.items()},
        broken_off="\n".join(broken) if broken else None,
    )


def closing_line(outcome: Outcome) -> str:
    """The line by which build servers tell what came of a run."""
    return f"{len(outcome.passed)} passed, {len(outcome.failed)} failed"


def _shortened(reason: str) -> str:
    cut = reason if len(reason) <= MAX_REASON_CHARS else f"{reason[:MAX_REASON_CHARS]} …"
    return cut.replace("\n", "\n  ")
