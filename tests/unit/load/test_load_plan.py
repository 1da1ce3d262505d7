"""The load is what its seed says."""

from itertools import islice

from tests.load.operations import STEPS
from tests.load.plan import CONSUMERS, MIX, Work, plan


def test_one_seed_gives_one_plan_and_another_another() -> None:
    first, again = (list(islice(plan(7, 0), 200)) for _ in range(2))
    assert first == again
    assert first != list(islice(plan(8, 0), 200))
    assert [one.work for one in first] != [one.work for one in islice(plan(7, 2), 200)]


def test_every_work_is_in_the_mix_and_can_be_done() -> None:
    assert set(MIX) == set(STEPS) == set(Work)
    assert {one.work for one in islice(plan(1, 0), 1000)} == set(Work)


def test_clients_serve_all_consumers_and_never_share_a_number() -> None:
    plans = [list(islice(plan(1, client), 100)) for client in range(4)]
    assert [{one.consumer for one in each} for each in plans] == [
        {CONSUMERS[client % len(CONSUMERS)]} for client in range(4)
    ]
    numbers = [one.number for each in plans for one in each]
    assert len(set(numbers)) == len(numbers)
