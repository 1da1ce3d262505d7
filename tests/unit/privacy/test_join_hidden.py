"""Sums over a cohort whose size neither provider learns."""

import json
import secrets
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest

from privacy import join_sides
from privacy.at_most import is_at_most, let_compare
from privacy.buckets import PARTS, place
from privacy.computation import (
    CONSUMER,
    MAX_IDENTIFIER_CHARACTERS,
    ConsumerSecrets,
    Inputs,
    Parameters,
    RoleContext,
)
from privacy.errors import InputRejected, ProtocolViolation, Withheld
from privacy.join_hidden import (
    CENTRE,
    DUMMIES,
    PRIVATE_SUM_HIDDEN,
    WEIGHTS,
    draw_added,
    dummies,
    fillers,
)
from privacy.paillier import generate_keypair
from privacy.role import Outcome, Receive, Send, receive, run_in_memory
from privacy.spool import MemorySpool
from privacy.wire import COUNT_BYTES

KEY = generate_keypair()
LEFT, RIGHT = "left", "right"
PARTIES = (LEFT, RIGHT, CONSUMER)
NAMES = tuple(f"id-{i}" for i in range(16))
ROWS = {
    LEFT: Inputs(NAMES[4:]),
    RIGHT: Inputs((*NAMES[:10], NAMES[9]), (*range(-5, 5), 1)),
    CONSUMER: Inputs(),
}
# id-4 to id-9 are common, with values -1, 0, 1, 2, 3 and 4 + 1.
RESULT = {"count": 6, "sum": "10"}


def roles_of(min_cohort=2, *, rows=ROWS, spools=None, epsilon=None, groups=(), **given):
    parameters = Parameters(min_cohort, KEY.public_key.to_hex(), groups, epsilon, given)
    return {
        party: PRIVATE_SUM_HIDDEN.start(
            party,
            PARTIES,
            rows[party],
            parameters,
            ConsumerSecrets(KEY) if party == CONSUMER else None,
            spool=spools[party] if spools else None,
        )
        for party in PARTIES
    }


def new_spools():
    return {party: MemorySpool() for party in PARTIES}


def watching(role, frames):
    payload = None
    try:
        while True:
            step = role.send(payload)
            if isinstance(step, Send):
                frames.append(step)
            payload = yield step
    except StopIteration as ended:
        return ended.value


def changing(role, name, change):
    payload = None
    try:
        while True:
            step = role.send(payload)
            payload = yield step
            if isinstance(step, Receive) and step.name == name:
                payload = change(payload)
    except StopIteration as ended:
        return ended.value


def test_neither_provider_is_told_a_number_and_left_sees_the_count_with_what_right_added():
    spools = new_spools()
    outcomes = run_in_memory(roles_of(spools=spools))
    assert outcomes[CONSUMER].value == RESULT
    assert outcomes[LEFT] == Outcome(None, {"rows": 12, "distinct": 12, "duplicates": 0})
    assert outcomes[RIGHT] == Outcome(None, {"rows": 11, "distinct": 10, "duplicates": 1})
    seen = int.from_bytes(spools[LEFT].get("with-dummies.totals-0")[:COUNT_BYTES], "big")
    assert seen == RESULT["count"] + sum(json.loads(spools[RIGHT].get("added")))


def test_the_cohort_is_judged_on_the_true_count(monkeypatch):
    monkeypatch.setattr(join_sides, "BUCKET_ELEMENTS", 8)
    assert run_in_memory(roles_of(6))[CONSUMER].value == RESULT
    with pytest.raises(Withheld, match="ds:minCohort"):
        run_in_memory(roles_of(7))


def test_what_right_sends_has_the_same_size_whatever_it_added(monkeypatch):
    sizes = set()
    for number in (0, CENTRE, DUMMIES):
        monkeypatch.setattr("privacy.join_hidden.draw_added", lambda _, number=number: number)
        frames = []
        roles = roles_of()
        roles[RIGHT] = watching(roles[RIGHT], frames)
        assert run_in_memory(roles)[CONSUMER].value == RESULT
        sizes.add(tuple(len(frame.payload) for frame in frames))
    assert len(sizes) == 1


def test_one_person_changes_the_odds_by_at_most_two_but_for_a_chance_of_2_to_the_minus_40():
    total = sum(WEIGHTS)
    assert len(WEIGHTS) == DUMMIES + 1
    for one, other in pairwise(WEIGHTS):
        assert max(one, other) == 2 * min(one, other)
    # Seen with one person more, only the lowest and the highest number have no counterpart.
    assert Fraction(WEIGHTS[0], total) == Fraction(WEIGHTS[-1], total) < Fraction(1, 2**40)


def test_numbers_are_drawn_with_these_weights_exactly():
    total, below = sum(WEIGHTS), 0
    size = (total.bit_length() + 7) // 8
    for number, weight in enumerate(WEIGHTS):
        for edge in (below, below + weight - 1):
            assert draw_added(lambda _, edge=edge: edge.to_bytes(size, "big")) == number
        below += weight
    # What is beyond is drawn again.
    draws = iter([total.to_bytes(size, "big"), bytes(size)])
    assert draw_added(lambda _: next(draws)) == 0


@pytest.mark.parametrize("of", [1, 4, 64])
def test_every_bucket_has_its_dummies_which_no_row_can_be(of):
    buckets = dummies(of)
    assert [len(set(bucket)) for bucket in buckets] == [DUMMIES] * of
    for number, bucket in enumerate(buckets):
        assert {place(name) * of // PARTS for name in bucket} == {number}
        assert all(len(name) > MAX_IDENTIFIER_CHARACTERS for name in bucket)
    wanted = [number % 5 for number in range(of)]
    found = [place(name) * of // PARTS for name in fillers(wanted, secrets.token_bytes)]
    assert [found.count(number) for number in range(of)] == wanted


def test_a_run_over_several_buckets_goes_on_with_the_same_number_added(monkeypatch):
    monkeypatch.setattr(join_sides, "BUCKET_ELEMENTS", 8)
    spools, frames = new_spools(), []

    def stopping(role):
        payload = None
        try:
            while True:
                step = role.send(payload)
                if isinstance(step, Send) and step.name == "verdict":
                    raise ProtocolViolation("the machine stopped")
                payload = yield step
        finally:
            role.close()

    roles = roles_of(spools=spools)
    with pytest.raises(ProtocolViolation, match="the machine stopped"):
        run_in_memory(roles | {LEFT: stopping(roles[LEFT])})
    added = spools[RIGHT].get("added")
    assert len(json.loads(added)) == 2
    roles = roles_of(spools=spools, rows=dict.fromkeys(PARTIES, Inputs()))
    roles[LEFT] = watching(roles[LEFT], frames)
    assert run_in_memory(roles)[CONSUMER].value == RESULT
    assert spools[RIGHT].get("added") == added
    assert [frame.name for frame in frames] == [
        "size",
        "hello",
        "resumed",
        "threshold",
        "result",
        "verdict",
    ]


def test_a_peer_that_compares_another_number_of_elements_than_it_said_is_refused():
    roles = roles_of()
    one_less = len(ROWS[RIGHT].identifiers) - 2
    roles[LEFT] = changing(roles[LEFT], "size", lambda _: one_less.to_bytes(8, "big"))
    with pytest.raises(ProtocolViolation, match="compares a set of another size"):
        run_in_memory(roles)
    roles = roles_of()
    roles[LEFT] = changing(roles[LEFT], "size", lambda _: (2**30).to_bytes(8, "big"))
    with pytest.raises(ProtocolViolation, match="right announced 1073741824 identifiers"):
        run_in_memory(roles)


def test_sets_below_the_minimum_end_it_before_anything_is_masked():
    frames = []
    roles = roles_of(11)
    roles[RIGHT] = watching(roles[RIGHT], frames)
    with pytest.raises(Withheld):
        run_in_memory(roles)
    assert [frame.name for frame in frames] == ["size"]


def test_groups_are_refused_as_left_would_count_them():
    with pytest.raises(InputRejected, match="private-sum/2 has groups"):
        roles_of(groups=("east",))
    with pytest.raises(InputRejected, match="no setting 'groupsOf'"):
        roles_of(groupsOf=LEFT)


def test_a_noisy_count_decides_and_is_what_is_told():
    asked = {"epsilon": Decimal(10), "statistics": ["count"]}
    spools = new_spools()
    told = run_in_memory(roles_of(2, spools=spools, **asked))[CONSUMER].value["count"]
    [noise] = json.loads(spools[LEFT].get("with-dummies.noise"))
    assert told == 6 + noise
    # The threshold for 8 is 9: noise of 3 has odds below e^-30.
    with pytest.raises(Withheld):
        run_in_memory(roles_of(8, **asked))


def context_of(party):
    parameters = Parameters(0)
    return RoleContext(party, PARTIES, Inputs(), parameters, None, secrets.token_bytes)


def compared(number, limit, most):
    roles = {
        LEFT: is_at_most(context_of(LEFT), limit, most, RIGHT),
        RIGHT: let_compare(context_of(RIGHT), number, most, LEFT),
    }
    return run_in_memory(roles)[LEFT]


@pytest.mark.parametrize("limit", [-5, -1, 0, 1, 3, 9])
def test_a_number_is_found_at_most_the_limit_exactly_when_it_is(limit):
    assert [compared(number, limit, 3) for number in range(4)] == [n <= limit for n in range(4)]


def test_the_comparison_sends_as_much_whatever_the_limit():
    def sent(limit):
        frames = []
        run_in_memory(
            {
                LEFT: watching(is_at_most(context_of(LEFT), limit, 5, RIGHT), frames),
                RIGHT: let_compare(context_of(RIGHT), 2, 5, LEFT),
            }
        )
        return [len(frame.payload) for frame in frames]

    assert sent(-3) == sent(2) == sent(50)


def test_a_comparison_with_too_few_points_or_out_of_order_is_refused():
    def answering(change):
        def right():
            points = yield from receive(LEFT, "threshold", 10**6)
            yield Send(LEFT, "number", b"\x00\x00\x00\x01" + points[4:37])
            records = sorted(points[at + 1 : at + 33] for at in range(4, len(points), 33))
            yield Send(LEFT, "compared", change(records))

        return right()

    def encode(records):
        return len(records).to_bytes(4, "big") + b"".join(records)

    for change, reason in [
        (lambda r: encode(r[1:]), "4 records, 5 expected"),
        (lambda r: encode(r[::-1]), "out of order"),
    ]:
        with pytest.raises(ProtocolViolation, match=reason):
            run_in_memory(
                {LEFT: is_at_most(context_of(LEFT), 1, 4, RIGHT), RIGHT: answering(change)}
            )
