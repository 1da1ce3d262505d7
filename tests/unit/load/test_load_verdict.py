"""The verdict finds each thing that a run must not show, and nothing in one that shows none."""

from dataclasses import replace

import pytest

from tests.load.fairness import Catalogues, Computations, Concurrency
from tests.load.figures import Growth
from tests.load.verdict import Ended, Measured, judge

FLAT = Growth(first=200.0, last=201.0, a_minute=0.2)
GOOD = Measured(
    errors={},
    told=(),
    operations=1000,
    memory={"a": FLAT},
    threads={"a": Growth(40, 41, 0.1)},
    files={"a": Growth(50, 52, 0.1)},
    wal_mb={"a": 4.5},
    workers={"a": 1},
    worker_processes=1,
    ended=Ended({"a": 0}, {"a": 0}, {"a": 0}, 3.0),
    computations=Computations(
        orders=40,
        alone_s=[0.4],
        among_s=[1.0, 1.5],
        other_waits_s=[0.2, 0.5],
        flood_waits_s=[0.1, 9.0],
        round_s=2.0,
        flood_s=12.0,
        concurrency=Concurrency(running=13, of_one=12, workers=1),
    ),
    catalogues=Catalogues(requests=200, waits=3, alone_s=[0.2], among_s=[0.4]),
)


def test_a_good_run_is_found_good() -> None:
    assert judge(GOOD) == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"errors": {"psi/2": 1}}, "1 x psi/2"),
        ({"operations": 0}, "nothing was done"),
        ({"harness": ("a flood: TimeoutError",)}, "a flood"),
        ({"memory": {"a": Growth(200, 230, 6.0)}}, "a grew by 30.0 MB"),
        ({"threads": {"a": Growth(40, 60, 4.0)}}, "20 more threads"),
        ({"files": {"a": Growth(50, 90, 8.0)}}, "40 more open files"),
        ({"wal_mb": {"a": 90.0}}, "write-ahead log of a"),
        ({"workers": {"a": 2}}, "a had 2 workers"),
        ({"ended": Ended({"a": 2}, {"a": 0}, {"a": 0}, 60.0)}, "2 messages of a"),
        ({"ended": Ended({"a": 0}, {"a": 7}, {"a": 0}, 60.0)}, "7 entries of a"),
        ({"ended": Ended({"a": 0}, {"a": 0}, {"a": 1}, 60.0)}, "1 processes of a"),
        ({"catalogues": Catalogues(9, 0, [0.2], [3.0])}, "15.0 times as long"),
    ],
)
def test_each_defect_is_named(changed: dict[str, object], named: str) -> None:
    found = judge(replace(GOOD, **changed))  # type: ignore[arg-type]
    assert len(found) == 1
    assert named in found[0]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"other_waits_s": [4.4]}, "waited 2.2 rounds"),
        ({"among_s": [1.0, 4.4]}, "took 2.0 rounds more"),
        ({"concurrency": Concurrency(33, 12, 1)}, "33 computations"),
        ({"concurrency": Concurrency(20, 13, 1)}, "13 of one consumer"),
        ({"concurrency": Concurrency(12, 12, 2)}, "2 workers ran"),
    ],
)
def test_each_unfairness_is_named(changed: dict[str, object], named: str) -> None:
    assert GOOD.computations is not None
    flood = replace(GOOD.computations, **changed)  # type: ignore[arg-type]
    found = judge(replace(GOOD, computations=flood))
    assert len(found) == 1
    assert named in found[0]
