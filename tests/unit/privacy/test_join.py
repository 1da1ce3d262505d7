"""Sums over what two parties have in common: against plain Python, at every bound, and cheated."""

import pickle
import statistics
from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import join_sides
from privacy.computation import CONSUMER, ConsumerSecrets, Inputs, Parameters
from privacy.disclosure import RELEASED, WITHHELD
from privacy.errors import InputRejected, ProtocolViolation, Withheld
from privacy.join import ANSWER_FILE, PRIVATE_SUM_2, PRIVATE_SUM_OWN
from privacy.join_values import (
    MAX_IDENTIFIERS,
    MAX_VALUE_BITS,
    Question,
    noise_of,
    question_of,
    verify_possible,
    withheld_groups,
)
from privacy.noise import noisy_sum
from privacy.paillier import generate_keypair
from privacy.role import Progress, Receive, Send, run_in_memory
from privacy.spool import MemorySpool
from privacy.tables import decimal_text

KEY = generate_keypair()
PUBLIC = KEY.public_key
LEFT, RIGHT, PROVIDER = "left", "right", "provider"
GROUPS = ("east", "west", "north")
ASKED = ("count", "sum", "mean", "variance")


def parameters_of(min_cohort=0, *, groups=(), epsilon=None, **given) -> Parameters:
    return Parameters(min_cohort, PUBLIC.to_hex(), groups, epsilon, given)


def roles_of(kind, rows, parameters, *, spools=None, workers=None):
    parties = kind.roles(kind.providers[0])
    return {
        party: kind.start(
            party,
            parties,
            rows.get(party, Inputs()),
            parameters,
            ConsumerSecrets(KEY) if party == CONSUMER else None,
            workers=workers,
            spool=spools[party] if spools else None,
        )
        for party in parties
    }


def run(rows, parameters, kind=PRIVATE_SUM_2, **kept):
    return run_in_memory(roles_of(kind, rows, parameters, **kept))


def pair(left, right, *, left_groups=(), right_groups=()):
    """Left's identifiers and right's (identifier, value) rows."""
    names, values = zip(*right, strict=True) if right else ((), ())
    return {
        LEFT: Inputs(tuple(left), (), tuple(left_groups)),
        RIGHT: Inputs(tuple(names), tuple(values), tuple(right_groups)),
    }


ROWS = pair("abcdx", [("a", 1250), ("b", -300), ("c", 999), ("d", 4), ("d", -4), ("y", 7)])


def changing(role, name, change):
    """Change what `role` receives under `name`."""
    payload = None
    try:
        while True:
            step = role.send(payload)
            payload = yield step
            if isinstance(step, Receive) and step.name == name:
                payload = change(payload)
    except StopIteration as ended:
        return ended.value


def watching(role, frames):
    """Note every frame that `role` sends."""
    payload = None
    try:
        while True:
            step = role.send(payload)
            if isinstance(step, Send):
                frames.append(step)
            payload = yield step
    except StopIteration as ended:
        return ended.value


# --- The result ----------------------------------------------------------------------------------


def test_every_statistic_is_what_plain_python_computes():
    parameters = parameters_of(2, statistics=ASKED, decimals=2)
    outcomes = run(ROWS, parameters)
    values = [Decimal("12.50"), Decimal("-3.00"), Decimal("9.99"), Decimal("0.00")]
    assert outcomes[CONSUMER].value == {
        "count": 4,
        "sum": "19.49",
        "mean": "4.87250000",
        "variance": decimal_text(Fraction(statistics.variance(values)), 8),
    }
    assert outcomes[LEFT].value == {"count": 4}
    assert outcomes[RIGHT].value is None
    assert outcomes[RIGHT].report == {"rows": 6, "distinct": 5, "duplicates": 1}
    assert outcomes[CONSUMER].value == PRIVATE_SUM_2.reference(ROWS, parameters)


def test_only_what_is_asked_for_is_summed():
    assert run(ROWS, parameters_of())[CONSUMER].value == {"count": 4, "sum": "1949"}
    assert run(ROWS, parameters_of(statistics=["count"]))[CONSUMER].value == {"count": 4}
    assert Question(0, statistics=("count",)).of_value(5) == 1
    assert Question(0, statistics=("count", "mean")).moments == 2


def test_statistics_of_too_few_are_null():
    asked = parameters_of(statistics=ASKED)
    none = run(pair("ab", [("y", 7)]), asked)[CONSUMER].value
    assert none == {"count": 0, "sum": "0", "mean": None, "variance": None}
    one = run(pair("ab", [("a", 7)]), asked)[CONSUMER].value
    assert one == {"count": 1, "sum": "7", "mean": "7.000000", "variance": None}


def test_a_consumer_sums_its_own_values_over_what_a_provider_has():
    own = {PROVIDER: ROWS[LEFT], CONSUMER: ROWS[RIGHT]}
    outcomes = run(own, parameters_of(2), PRIVATE_SUM_OWN)
    assert outcomes[CONSUMER].value == {"count": 4, "sum": "1949"}
    assert outcomes[CONSUMER].report["duplicates"] == 1
    assert outcomes[PROVIDER].value == {"count": 4}


@pytest.mark.parametrize("side", [PROVIDER, CONSUMER])
def test_a_consumer_sums_its_own_values_by_groups_of_either_side(side):
    groups = ("east", "east", "west", "west")
    own = {
        PROVIDER: Inputs(tuple("abcd"), (), groups if side == PROVIDER else ()),
        CONSUMER: Inputs(tuple("abcd"), (1, 2, 3, 5), groups if side == CONSUMER else ()),
    }
    parameters = parameters_of(2, groups=GROUPS, groupsOf=side, statistics=["sum"])
    assert run(own, parameters, PRIVATE_SUM_OWN)[CONSUMER].value == {
        "count": 4,
        "sum": "11",
        "groups": {
            "east": {"count": 2, "sum": "3"},
            "west": {"count": 2, "sum": "8"},
            "north": {"count": 0, "sum": "0"},
        },
        "withheld": [],
    }


@st.composite
def grouped_rows(draw):
    """Rows of both, the side that has groups, and each identifier's group."""
    names = [f"id-{i}" for i in range(12)]
    group_of = {name: draw(st.sampled_from(GROUPS)) for name in names}
    left = draw(st.lists(st.sampled_from(names), max_size=14))
    value = st.one_of(st.integers(-5, 5), st.sampled_from([2**63 - 1, 1 - 2**63]))
    right = draw(st.lists(st.tuples(st.sampled_from(names), value), max_size=14))
    side = draw(st.sampled_from([LEFT, RIGHT]))
    return left, right, side, group_of


@settings(max_examples=10, deadline=None)
@given(drawn=grouped_rows(), min_cohort=st.integers(0, 3))
def test_groups_of_either_side_over_several_buckets_add_up_as_in_plain_python(drawn, min_cohort):
    left, right, side, group_of = drawn
    rows = pair(
        left,
        right,
        left_groups=[group_of[x] for x in left] if side == LEFT else (),
        right_groups=[group_of[x] for x, _ in right] if side == RIGHT else (),
    )
    parameters = parameters_of(min_cohort, groups=GROUPS, groupsOf=side, statistics=ASKED)
    values = defaultdict(int)
    for name, value in right:
        values[name] += value
    common = {name: value for name, value in values.items() if name in left}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(join_sides, "BUCKET_ELEMENTS", 4)
        if len(common) < min_cohort:
            with pytest.raises(Withheld, match="ds:minCohort"):
                run(rows, parameters)
            return
        result = run(rows, parameters)[CONSUMER].value
    assert result["sum"] == str(sum(common.values()))
    assert set(result["groups"]) | set(result["withheld"]) == set(GROUPS)
    for group, told in result["groups"].items():
        members = [Fraction(v) for name, v in common.items() if group_of[name] == group]
        assert told["count"] == len(members)
        assert told["sum"] == str(sum(members))
        if len(members) > 1:
            assert told["variance"] == decimal_text(statistics.variance(members), 6)
    small = [g for g in GROUPS if 0 < sum(group_of[x] == g for x in common) < min_cohort]
    assert set(small) <= set(result["withheld"])
    assert result == PRIVATE_SUM_2.reference(rows, parameters)


@given(counts=st.lists(st.integers(0, 12), min_size=1, max_size=8), min_cohort=st.integers(1, 8))
def test_the_total_less_the_groups_shown_tells_of_no_small_group(counts, min_cohort):
    if sum(counts) < min_cohort:
        return
    withheld = withheld_groups(counts, min_cohort)
    hidden = [count for count, hides in zip(counts, withheld, strict=True) if hides]
    assert all(
        hides for count, hides in zip(counts, withheld, strict=True) if 0 < count < min_cohort
    )
    assert not hidden or (len(hidden) > 1 and sum(hidden) >= min_cohort)
    # No more than needed: with every group large enough nothing is withheld.
    assert hidden or not any(0 < count < min_cohort for count in counts)


def test_the_next_smallest_group_is_withheld_with_a_single_small_one():
    assert withheld_groups([9, 1, 4, 0], 3) == [False, True, True, False]
    assert withheld_groups([9, 1, 1, 1], 3) == [False, True, True, True]
    assert withheld_groups([9, 1, 1, 5], 3) == [False, True, True, True]
    assert withheld_groups([9, 4, 0], 3) == [False, False, False]


def test_an_identifier_in_two_groups_is_refused():
    rows = pair("aa", [("a", 1)], left_groups=["east", "west"])
    parameters = parameters_of(groups=GROUPS, groupsOf=LEFT)
    with pytest.raises(InputRejected, match="more than one group"):
        run(rows, parameters)
    with pytest.raises(InputRejected, match="more than one group"):
        PRIVATE_SUM_2.reference(rows, parameters)


# --- Bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value_bits", [1, 32, 63, MAX_VALUE_BITS])
@pytest.mark.parametrize("epsilon", [None, Decimal(1)])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_greatest_possible_total_and_noise_stay_in_their_slots(value_bits, epsilon, sign):
    question = Question(0, statistics=ASKED, value_bits=value_bits, epsilon=epsilon)
    total = [MAX_IDENTIFIERS * bound for bound in question.bounds]
    total[1] *= sign
    if epsilon is not None:
        units = [1 << max(0, bound.bit_length() - 32) for bound in question.bounds]
        total = [a + sign * unit * (2**63 + 2) for a, unit in zip(total, units, strict=True)]
    plaintext = question.encode(total)
    assert question.decode(plaintext, LEFT) == tuple(total)
    assert abs(plaintext) <= PUBLIC.max_value
    assert sum(question.widths) <= 389


@given(
    st.lists(
        st.tuples(st.integers(0, 99), st.integers(-(2**70), 2**70), st.integers(0, 2**150)),
        max_size=5,
    )
)
def test_sums_of_packed_numbers_are_packed_sums(numbers):
    question = Question(0, statistics=ASKED)
    plaintext = sum(question.encode(each) for each in numbers)
    assert question.decode(plaintext, LEFT) == tuple(
        sum(each[slot] for each in numbers) for slot in range(3)
    )


def test_a_value_at_its_bound_is_summed_and_one_past_it_refused_before_anything_is_sent():
    parameters = parameters_of(valueBits=8)
    at = pair("ab", [("a", 200), ("a", 55), ("b", -255)])
    assert run(at, parameters)[CONSUMER].value == {"count": 2, "sum": "0"}
    past = pair("ab", [("a", 200), ("a", 56), ("b", 1)])
    frames = []
    roles = roles_of(PRIVATE_SUM_2, past, parameters)
    roles[RIGHT] = watching(roles[RIGHT], frames)
    with pytest.raises(InputRejected, match=r"column value: .* bound of 2\*\*8") as refused:
        run_in_memory(roles)
    assert frames == []
    assert "256" not in str(refused.value)
    with pytest.raises(InputRejected, match="column value"):
        PRIVATE_SUM_2.reference(past, parameters)


def test_no_64_bit_column_is_ever_refused_without_a_declared_bound():
    assert (MAX_IDENTIFIERS * (2**63 - 1)) >> MAX_VALUE_BITS == 0


# --- Going on after a crash ----------------------------------------------------------------------


def interrupted(roles, buckets):
    """Drive roles until left has taken so many buckets, then close them all, as a crash does."""

    def until(role):
        payload, seen = None, 0
        while seen < buckets:
            step = role.send(payload)
            payload = yield step
            # The frame of the next bucket shows that the one before it was taken and remembered.
            seen += isinstance(step, Send) and step.name == "masked"
        role.close()
        raise ProtocolViolation("the machine stopped")

    with pytest.raises(ProtocolViolation, match="the machine stopped"):
        run_in_memory(roles | {LEFT: until(roles[LEFT])})


def test_a_run_goes_on_from_the_last_finished_bucket(monkeypatch):
    monkeypatch.setattr(join_sides, "BUCKET_ELEMENTS", 4)
    names = [f"id-{i}" for i in range(14)]
    right = [(name, i * i - 50) for i, name in enumerate(names)]
    rows = pair(names[2:], right, right_groups=[GROUPS[i % 3] for i in range(14)])
    parameters = parameters_of(2, groups=GROUPS, groupsOf=RIGHT)
    spools = {party: MemorySpool() for party in (LEFT, RIGHT, CONSUMER)}
    interrupted(roles_of(PRIVATE_SUM_2, rows, parameters, spools=spools), 3)
    kept = [name for name in spools[LEFT].names() if name.startswith("totals-")]
    assert len(kept) == 2
    frames = []
    # The rows are not read again, but for nothing: a role that goes on has them in its spool.
    roles = roles_of(PRIVATE_SUM_2, pair((), ()), parameters, spools=spools)
    roles[LEFT] = watching(roles[LEFT], frames)
    result = run_in_memory(roles)[CONSUMER].value
    assert result == PRIVATE_SUM_2.reference(rows, parameters)
    assert result["count"] == 12
    assert sum(frame.name == "masked" for frame in frames) == 2


def test_noise_is_drawn_once_whatever_happens_afterwards():
    parameters = parameters_of(epsilon=Decimal(1), valueBits=8)
    spools = {party: MemorySpool() for party in (LEFT, RIGHT, CONSUMER)}
    results = [run(ROWS_OF_8_BITS, parameters, spools=spools)[CONSUMER].value for _ in range(2)]
    assert results[0] == results[1]


ROWS_OF_8_BITS = pair("abcdefgh", [(x, 100) for x in "abcdefgh"])


# --- Frames --------------------------------------------------------------------------------------


def test_the_consumer_is_sent_one_frame_with_ciphertexts_nobody_has_seen_before():
    frames, spools = [], {party: MemorySpool() for party in (LEFT, RIGHT, CONSUMER)}
    roles = roles_of(PRIVATE_SUM_2, ROWS, parameters_of(), spools=spools)
    roles[LEFT] = watching(roles[LEFT], frames)
    run_in_memory(roles)
    to_consumer = [frame.payload for frame in frames if frame.to == CONSUMER]
    assert len(to_consumer) == 1
    assert len(to_consumer[0]) == 1 + PUBLIC.ciphertext_bytes
    assert to_consumer[0][1:] not in spools[LEFT].get("totals-0")
    assert spools[LEFT].get(ANSWER_FILE) == to_consumer[0]


def test_work_is_done_in_pieces_that_can_be_sent_to_other_processes(monkeypatch):
    class Elsewhere:
        count = 2

        def __init__(self):
            self.works = set()

        def map(self, work, pieces):
            self.works.add(work.__name__)
            for piece in pieces:
                moved = pickle.loads(pickle.dumps((work, piece)))
                yield pickle.loads(pickle.dumps(moved[0](moved[1])))

    monkeypatch.setattr(join_sides, "ADDED_PIECE", 2)
    workers = Elsewhere()
    assert run(ROWS, parameters_of(), workers=workers)[CONSUMER].value["sum"] == "1949"
    assert {"encrypt_piece", "add_piece", "finish_piece", "mask_piece"} <= workers.works


@pytest.mark.parametrize(
    "number",
    [0, PUBLIC.n, PUBLIC.n**2, KEY.p, KEY.q * 7],
    ids=["zero", "modulus", "its square", "a prime", "a multiple of the other"],
)
@pytest.mark.parametrize("matched", [True, False])
def test_a_number_that_is_no_ciphertext_is_refused_whether_its_point_is_common_or_not(
    number, matched
):
    # Otherwise whether the run fails would tell right who is common.
    rows = pair("a" if matched else "b", [("a", 1)])
    encoded = number.to_bytes(PUBLIC.ciphertext_bytes, "big")
    roles = roles_of(PRIVATE_SUM_2, rows, parameters_of())
    roles[LEFT] = changing(roles[LEFT], "masked", lambda p: p[: -len(encoded)] + encoded)
    with pytest.raises(ProtocolViolation, match="right sent a number that is no ciphertext"):
        run_in_memory(roles)


def test_group_numbers_that_are_not_of_the_order_are_refused():
    rows = pair("ab", [("a", 1), ("b", 2)], right_groups=["east", "west"])
    roles = roles_of(PRIVATE_SUM_2, rows, parameters_of(groups=GROUPS, groupsOf=RIGHT))
    # A count of 4 bytes, a point of 33, then the group of the first identifier.
    roles[LEFT] = changing(roles[LEFT], "masked", lambda p: p[:37] + b"\x00\x03" + p[39:])
    with pytest.raises(ProtocolViolation, match="right sent a group number above the 3"):
        run_in_memory(roles)


def test_group_numbers_that_come_back_changed_are_refused():
    rows = pair("ab", [("a", 1), ("b", 2)], left_groups=["east", "west"])
    roles = roles_of(PRIVATE_SUM_2, rows, parameters_of(groups=GROUPS, groupsOf=LEFT))
    roles[LEFT] = changing(roles[LEFT], "raised", lambda p: p[:-2] + b"\x00\x02")
    with pytest.raises(ProtocolViolation, match="right did not send our group numbers back"):
        run_in_memory(roles)


def sealed(question, *totals, flags=b""):
    return (
        RELEASED
        + flags
        + b"".join(PUBLIC.encode(PUBLIC.encrypt_plain(question.encode(total))) for total in totals)
    )


@pytest.mark.parametrize(
    ("totals", "flags", "reason"),
    [
        ([(9, 5)], b"\x00\x00", "3 ciphertexts of 512 expected"),
        ([(9, 5)], b"\x00\x02", "no list of 2 flags"),
        ([(9, 5)], b"\x01", "no list of 2 flags"),
        ([(1, 5), (1, 5)], b"\x00\x01", "below the agreed minimum"),
        ([(9, 5), (1, 5)], b"\x00\x01", "below the agreed minimum"),
        ([(9, 5), (8, 5)], b"\x00\x01", "tell of a withheld group"),
        ([(9, 5), (5, 5)], b"\x00\x01", "tell of a withheld group"),
        ([(9, 5), (5, 3), (3, 2)], b"\x00\x00", "do not add up"),
        ([(9, 5), (5, 3), (5, 2)], b"\x00\x00", "that no rows can have"),
        ([(3, 3 * 2**84), (3, 0), (0, 0)], b"\x00\x00", "that no rows can have"),
        ([(2**22, 1), (3, 0), (0, 0)], b"\x00\x00", "that no rows can have"),
    ],
)
def test_a_consumer_refuses_what_could_not_or_should_not_have_been_sent(totals, flags, reason):
    parameters = parameters_of(3, groups=GROUPS[:2], groupsOf=LEFT)
    question = question_of(parameters, LEFT, RIGHT)
    with pytest.raises(ProtocolViolation, match=f"left (sent|released) .*{reason}"):
        run_in_memory(
            {
                CONSUMER: roles_of(PRIVATE_SUM_2, {}, parameters)[CONSUMER],
                LEFT: sending("result", sealed(question, *totals, flags=flags)),
            }
        )


def sending(name, payload):
    yield Send(CONSUMER, name, payload)


def test_a_consumer_refuses_more_than_the_slots_hold_and_moments_of_no_values():
    question = Question(0, statistics=ASKED)
    with pytest.raises(ProtocolViolation, match="not packed as agreed"):
        question.decode(1 << sum(question.widths), LEFT)
    for moments in [(2, 10, 49), (2, 1, -1), (-1, 0, 0), (0, 0, 1)]:
        with pytest.raises(ProtocolViolation, match="no rows can have"):
            verify_possible(question, [moments], [], LEFT)
    verify_possible(question, [(2, 10, 50)], [], LEFT)


def test_a_withheld_result_ends_all_three_without_a_number():
    frames = []
    roles = roles_of(PRIVATE_SUM_2, ROWS, parameters_of(5))
    roles[LEFT] = watching(roles[LEFT], frames)
    with pytest.raises(Withheld):
        run_in_memory(roles)
    assert [f.payload for f in frames if f.name in ("result", "verdict")] == [WITHHELD] * 2


# --- Settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "groups", "reason"),
    [
        ({"colour": 1}, (), "no setting 'colour'"),
        ({"statistics": ()}, (), "statistics is to be a list"),
        ({"statistics": "sum"}, (), "statistics is to be a list"),
        ({"statistics": ("sum", "median")}, (), "statistics is to be a list"),
        ({"valueBits": 85}, (), "valueBits is to be an integer from 1 to 84"),
        ({"valueBits": True}, (), "valueBits is to be"),
        ({"decimals": -1}, (), "decimals is to be"),
        ({}, GROUPS, "groupsOf is to be 'left' or 'right'"),
        ({"groupsOf": "consumer"}, GROUPS, "groupsOf is to be 'left' or 'right'"),
        ({"groupsOf": LEFT}, (), "there are no groups"),
        ({"groupsOf": LEFT}, tuple(map(str, range(65))), "at most 64 groups"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(given, groups, reason):
    with pytest.raises(InputRejected, match=reason):
        PRIVATE_SUM_2.verify_parameters(parameters_of(groups=groups, **given))


def test_a_column_of_groups_is_needed_where_the_order_takes_it_and_refused_elsewhere():
    parameters = parameters_of(groups=GROUPS, groupsOf=LEFT)
    with pytest.raises(InputRejected, match="column group: the order takes"):
        run(ROWS, parameters)
    both = pair("a", [("a", 1)], left_groups=["east"], right_groups=["east"])
    with pytest.raises(InputRejected, match="column group: the order does not take"):
        run(both, parameters)


# --- Noise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epsilon", "given", "reason"),
    [
        (Decimal(1), {}, "declare valueBits"),
        (Decimal("0.000001"), {"valueBits": 8}, "epsilon"),
        (Decimal(11), {"valueBits": 8}, "epsilon"),
    ],
)
def test_noise_needs_a_bound_and_an_epsilon_that_can_be_shared_out(epsilon, given, reason):
    with pytest.raises(InputRejected, match=reason):
        PRIVATE_SUM_2.verify_parameters(parameters_of(epsilon=epsilon, **given))


def test_epsilon_is_shared_by_the_moments_and_by_whole_and_groups():
    def share(groups=(), **given):
        parameters = parameters_of(groups=groups, epsilon=Decimal(6), valueBits=8, **given)
        return question_of(parameters, LEFT, RIGHT).epsilon

    assert share() == 3
    assert share(statistics=ASKED) == 2
    assert share(GROUPS, groupsOf=LEFT, statistics=ASKED) == 1


def test_a_noisy_result_is_near_the_true_one_and_cohorts_near_the_minimum_are_withheld():
    asked = {"epsilon": Decimal(10), "valueBits": 8, "statistics": ASKED}
    told = run(ROWS_OF_8_BITS, parameters_of(**asked))[CONSUMER].value
    # Shares of 10 / 3: the odds of being further off are below e^-60.
    assert abs(told["count"] - 8) < 20
    assert abs(int(told["sum"]) - 800) < 256 * 20
    with pytest.raises(Withheld):
        run(ROWS_OF_8_BITS, parameters_of(9, **asked))


def test_with_noise_every_group_goes_by_its_noisy_count():
    rows = pair(
        [f"id-{i}" for i in range(40)],
        [(f"id-{i}", 1) for i in range(40)],
        right_groups=["east"] * 39 + ["west"],
    )
    parameters = parameters_of(
        10, groups=GROUPS, epsilon=Decimal(10), valueBits=1, groupsOf=RIGHT, statistics=["count"]
    )
    told = run(rows, parameters)[CONSUMER].value
    # The small group and the empty one alike: whether it is empty is as private.
    assert told["withheld"] == ["west", "north"]
    assert set(told["groups"]) == {"east"}


def test_noise_of_large_bounds_leaves_no_digit_of_the_total_to_be_seen():
    question = Question(0, value_bits=63, epsilon=Decimal(1))
    unit = 2**31
    for byte in (0, 1, 200):
        uniform = int.from_bytes(bytes([byte] * 4), "big") % unit
        drawn = noise_of(question, bytes([byte]).__mul__)[1]
        assert (drawn + unit // 2) % unit == uniform
    assert noisy_sum(0, 2**63 - 1, Decimal(1)) % unit == 0
    assert noise_of(replace(question, epsilon=None), lambda n: bytes(n)) == (0, 0)


def test_progress_is_told_while_ciphertexts_are_made():
    role = roles_of(PRIVATE_SUM_2, ROWS, parameters_of(valueBits=12))[RIGHT]
    steps = [next(role) for _ in range(3)]
    assert any(isinstance(step, Progress) for step in steps)
    role.close()
