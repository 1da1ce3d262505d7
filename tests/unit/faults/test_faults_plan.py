"""A storm is what its seed says: the same load, the same faults, the same mishaps."""

from itertools import islice

from tests.faults.plan import GROUPS, KILLS, NODES, Kind, Possible, Work, rounds
from tests.faults.requests import Fates, Mishap, fate, named

EVERYTHING = Possible(
    kinds=tuple(kind for group in GROUPS.values() for kind in group),
    clocks=("insurer",),
    disks=("health-trust",),
    partitions=("insurer",),
    databases=("institute",),
)


def test_one_seed_gives_one_plan_and_another_another() -> None:
    first, again = (list(islice(rounds(7, EVERYTHING), 30)) for _ in range(2))
    assert first == again
    assert first != list(islice(rounds(8, EVERYTHING), 30))


def test_a_long_plan_has_every_kind_of_work_and_of_fault() -> None:
    plan = list(islice(rounds(1, EVERYTHING), 120))
    assert {one.work for round_ in plan for one in round_.operations} == set(Work)
    assert {one.kind for round_ in plan for one in round_.faults} == set(Kind)
    assert {one.node for round_ in plan for one in round_.faults if one.kind in KILLS} == set(NODES)


def test_what_a_space_does_not_allow_is_not_planned() -> None:
    plain = Possible(kinds=EVERYTHING.kinds)
    planned = {one.kind for round_ in islice(rounds(1, plain), 60) for one in round_.faults}
    assert planned == {*KILLS, Kind.AWAY, Kind.FROZEN}
    for round_ in islice(rounds(1, EVERYTHING), 60):
        for one in round_.faults:
            assert one.kind is not Kind.CLOCK or (one.node == "insurer" and one.clock_s)


def test_a_round_without_kills_still_breaks_something() -> None:
    clocks = Possible(kinds=(Kind.CLOCK,), clocks=("insurer",))
    assert all(one.faults for one in islice(rounds(3, clocks), 20))


def test_a_request_is_named_without_what_differs_from_run_to_run() -> None:
    pid = "9c1d7c10-3f5e-4a55-8f5e-d9d0a4d0e001"
    assert named("POST", f"/transfers/{pid}/start?x=1") == "POST /transfers/*/start"
    assert named("PUT", f"/compute/{pid}/left/3/0") == "PUT /compute/*/left/*/*"
    assert named("POST", f"/negotiations/urn:uuid:{pid}/events") == "POST /negotiations/*/events"


def test_the_same_request_meets_the_same_in_every_run() -> None:
    met = [Fates(5).draw("insurer", "POST", "/chain") for _ in range(2)]
    assert met[0] == met[1] == fate(5, "insurer", "POST /chain", 1)
    fates = Fates(5)
    drawn = [fates.draw("insurer", "PUT", f"/compute/{n}/a/{n}/0").mishap for n in range(3000)]
    assert set(drawn) == set(Mishap)
    assert drawn.count(Mishap.NONE) > 1800
