"""Nobody waits behind another's hundred orders, and no place stays empty while somebody waits."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from dataspace.computing.queue import Waiting, choose_next, has_room


def waiting(*consumers: str) -> list[Waiting]:
    """One order each, in this order of coming, called by consumer and number."""
    return [Waiting(f"{one}{place}", one, float(place)) for place, one in enumerate(consumers)]


def test_first_come_is_first_served_within_one_consumer() -> None:
    later_first = list(reversed(waiting("a", "a", "a")))
    assert choose_next(later_first, [], most=2, most_a_consumer=2) == ("a0", "a1")


def test_one_order_does_not_wait_behind_another_consumers_many() -> None:
    queue = waiting("a", "a", "a", "a", "b")
    assert choose_next(queue, [], most=3, most_a_consumer=3) == ("a0", "b4", "a1")


def test_who_has_less_running_goes_first_though_it_came_later() -> None:
    assert choose_next(waiting("a", "b"), ["a"], most=2, most_a_consumer=2) == ("b1",)


def test_a_consumer_at_its_bound_waits_and_leaves_room_to_others() -> None:
    assert choose_next(waiting("a", "b"), ["a", "a"], most=9, most_a_consumer=2) == ("b1",)


def test_nothing_begins_where_as_many_run_as_may() -> None:
    assert choose_next(waiting("a"), ["b", "b"], most=2, most_a_consumer=5) == ()
    # More run than may, after the bound was lowered: they end by themselves.
    assert choose_next(waiting("a"), ["b", "b"], most=1, most_a_consumer=1) == ()


names = st.sampled_from("abcd")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(names, st.floats(0, 9)), max_size=12),
    st.lists(names, max_size=6),
    st.integers(1, 8),
    st.integers(1, 4),
)
def test_places_are_used_and_shared(
    orders: list[tuple[str, float]], running: list[str], most: int, most_a_consumer: int
) -> None:
    queue = [Waiting(str(place), who, since) for place, (who, since) in enumerate(orders)]
    chosen = choose_next(queue, running, most=most, most_a_consumer=most_a_consumer)
    by_id = {one.id: one for one in queue}
    begun = [by_id[each] for each in chosen]
    left = [one for one in queue if one.id not in chosen]
    after = Counter(running) + Counter(one.consumer for one in begun)

    assert len(set(chosen)) == len(chosen)
    assert not begun or after.total() <= most
    assert all(after[one.consumer] <= most_a_consumer for one in begun)
    # Nothing that could begin is left.
    assert after.total() >= most or all(after[one.consumer] >= most_a_consumer for one in left)
    for one in left:
        # Nobody who came later from the same consumer went before it.
        assert all(
            (other.since, other.id) < (one.since, one.id)
            for other in begun
            if other.consumer == one.consumer
        )
        # Nobody got a place who then has two more than the one who waits, unless it has its bound.
        assert all(after[other.consumer] <= after[one.consumer] + 1 for other in begun) or (
            after[one.consumer] >= most_a_consumer
        )
    # Who asks in another order gets the same.
    assert choose_next(queue[::-1], running, most=most, most_a_consumer=most_a_consumer) == chosen


def test_a_queue_that_one_has_filled_is_open_to_who_waits_for_nothing() -> None:
    full = ["flooder"] * 6
    assert not has_room(full, "flooder", most=10, most_a_consumer=6)
    assert has_room(full, "other", most=10, most_a_consumer=6)
    # Filled by several: each further one may still wait with one order, and with no more.
    filled = ["a"] * 5 + ["b"] * 5
    assert not has_room(filled, "a", most=10, most_a_consumer=6)
    assert has_room(filled, "other", most=10, most_a_consumer=6)
    assert not has_room([*filled, "other"], "other", most=10, most_a_consumer=6)


def test_a_queue_with_room_is_open_to_all() -> None:
    assert has_room(["a", "b"], "a", most=10, most_a_consumer=6)
    assert has_room([], "a", most=10, most_a_consumer=6)
