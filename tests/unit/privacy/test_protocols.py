"""What single protocols promise beyond equalling their reference."""

import secrets
from collections.abc import Callable

import pytest

from privacy.errors import InputRejected, PrivacyError, ProtocolViolation, Withheld
from privacy.kinds import CONSUMER, ConsumerSecrets, Inputs, Kind, Parameters, kind
from privacy.masking import MaskingKey
from privacy.paillier import PrivateKey, pack, unpack
from privacy.role import Outcome, Receive, Role, Send, receive, run_in_memory, send
from privacy.wire import (
    encode_points,
    parse_number,
    parse_point_set,
    parse_points,
)

ALICE, BOB = ("a", "b", "c", "d", "e"), ("c", "d", "e", "f", "g", "h")


def start_all(
    of: Kind,
    inputs: dict[str, Inputs],
    *,
    min_cohort: int = 2,
    key: PrivateKey | None = None,
    groups: tuple[str, ...] = (),
) -> dict[str, Role]:
    inputs = {**inputs, CONSUMER: inputs.get(CONSUMER, Inputs())}
    parties = of.roles(len(inputs) - 1)
    n_hex = key.public_key.to_hex() if key else None
    parameters = Parameters(min_cohort, n_hex, groups)
    owner = ConsumerSecrets(key) if key else None
    return {
        party: of.start(
            party, parties, inputs[party], parameters, owner if party == CONSUMER else None
        )
        for party in parties
    }


def recorded(
    roles: dict[str, Role],
) -> tuple[dict[str, Outcome | PrivacyError], list[tuple[str, Send]]]:
    """Run roles to their ends; return their outcomes or errors and every frame with its sender."""
    frames: list[tuple[str, Send]] = []

    def watching(party: str, role: Role):
        payload = None
        try:
            while True:
                step = role.send(payload)
                if isinstance(step, Send):
                    frames.append((party, step))
                payload = yield step
        except StopIteration as ended:
            return ended.value
        except PrivacyError as error:
            return error

    return run_in_memory({p: watching(p, role) for p, role in roles.items()}), frames


def changing(role: Role, name: str, change: Callable[[bytes], bytes]):
    """Change the payload a role receives under `name`."""
    payload = None
    try:
        while True:
            step = role.send(payload)
            payload = yield step
            if isinstance(step, Receive) and step.name == name:
                payload = change(payload)
    except StopIteration as ended:
        return ended.value


def names(frames: list[tuple[str, Send]]) -> list[tuple[str, str, str]]:
    return sorted((sender, frame.to, frame.name) for sender, frame in frames)


# --- psi-cardinality/1 ---------------------------------------------------------------------------


def cardinality(left=ALICE, right=BOB, min_cohort: int = 2) -> dict[str, Role]:
    inputs = {"left": Inputs(left), "right": Inputs(right)}
    return start_all(kind("psi-cardinality/1"), inputs, min_cohort=min_cohort)


def test_the_consumer_of_a_cardinality_is_sent_one_number_and_nothing_else():
    outcomes, frames = recorded(cardinality())
    to_consumer = [frame for _, frame in frames if frame.to == CONSUMER]
    assert [frame.name for frame in to_consumer] == ["result"]
    assert to_consumer[0].payload == b"\x01" + (3).to_bytes(8, "big")
    assert outcomes == {
        "left": Outcome({"count": 3}),
        "right": Outcome(None),
        CONSUMER: Outcome({"count": 3}),
    }


def test_points_are_sent_in_ascending_order_so_that_left_cannot_tell_which_are_common():
    _, frames = recorded(cardinality())
    for _, frame in frames:
        if frame.name in ("masked", "raised"):
            body = frame.payload[1:] if frame.name == "raised" else frame.payload
            assert len(parse_point_set(body, "peer")) in (5, 6)


def test_every_run_masks_under_fresh_keys():
    points: set[bytes] = set()
    for _ in range(3):
        _, frames = recorded(cardinality())
        points |= {p for _, f in frames if f.name == "masked" for p in parse_points(f.payload, "")}
    assert len(points) == 3 * (len(ALICE) + len(BOB))


def test_right_refuses_a_set_too_small_for_the_cohort_and_raises_nothing():
    outcomes, frames = recorded(cardinality(left=("c",)))
    assert {type(outcome) for outcome in outcomes.values()} == {Withheld}
    assert [f.payload for s, f in frames if (s, f.name) == ("right", "raised")] == [b"\x00"]


def test_repeating_an_identifier_does_not_reach_the_cohort():
    outcomes, _ = recorded(cardinality(left=("c",) * 9, right=("c",) * 9))
    assert {type(outcome) for outcome in outcomes.values()} == {Withheld}


def test_a_peer_that_sends_our_points_back_as_its_own_is_refused():
    def reflecting() -> Role:
        yield from send("left", "masked", (yield from receive("left", "masked", 10**6)))
        return Outcome(None)

    with pytest.raises(ProtocolViolation, match="right sent masked points back as its own"):
        run_in_memory(cardinality() | {"right": reflecting()})


def test_repeated_points_are_refused():
    point = MaskingKey.generate(secrets.token_bytes).mask(["a"])[0]
    roles = cardinality()
    roles["right"] = changing(roles["right"], "masked", lambda _: encode_points([point] * 5))
    with pytest.raises(ProtocolViolation, match="left sent points out of order or twice"):
        run_in_memory(roles)


def test_a_consumer_refuses_a_count_below_the_cohort_or_beyond_any_set():
    for count, reason in [(1, "below the agreed minimum"), (2**40, "count above")]:
        roles = cardinality()
        result = b"\x01" + count.to_bytes(8, "big")
        roles[CONSUMER] = changing(roles[CONSUMER], "result", lambda _, r=result: r)
        with pytest.raises(ProtocolViolation, match=reason):
            run_in_memory(roles)


# --- psi/1 ---------------------------------------------------------------------------------------


def intersection(sender=BOB, consumer=ALICE, min_cohort: int = 2) -> dict[str, Role]:
    inputs = {"sender": Inputs(sender), CONSUMER: Inputs(consumer)}
    return start_all(kind("psi/1"), inputs, min_cohort=min_cohort)


def test_the_consumer_gets_its_common_identifiers_sorted_and_the_sender_only_their_number():
    outcomes, _ = recorded(intersection(consumer=("e", "x", "c", "e", "d")))
    assert outcomes[CONSUMER] == Outcome({"count": 3, "identifiers": ["c", "d", "e"]})
    assert outcomes["sender"] == Outcome({"count": 3})


def test_below_the_cohort_the_sender_never_sends_the_raised_set():
    outcomes, frames = recorded(intersection(min_cohort=4))
    assert {type(outcome) for outcome in outcomes.values()} == {Withheld}
    assert [f.payload for _, f in frames if f.name == "result"] == [b"\x00"]


def test_a_consumer_with_too_few_identifiers_is_refused_before_it_gets_anything():
    outcomes, frames = recorded(intersection(consumer=("c",)))
    assert {type(outcome) for outcome in outcomes.values()} == {Withheld}
    assert [f.payload for s, f in frames if s == "sender"] == [b"\x00"]


def test_invented_points_do_not_reach_the_cohort():
    invented = sorted(MaskingKey.generate(secrets.token_bytes).mask(BOB))
    roles = intersection()
    roles["sender"] = changing(roles["sender"], "raised", lambda _: encode_points(invented))
    outcomes, _ = recorded(roles)
    assert {type(outcome) for outcome in outcomes.values()} == {Withheld}


def test_a_raised_set_of_another_size_is_a_violation():
    invented = sorted(MaskingKey.generate(secrets.token_bytes).mask(BOB[:-1]))
    roles = intersection()
    roles["sender"] = changing(roles["sender"], "raised", lambda _: encode_points(invented))
    with pytest.raises(ProtocolViolation, match="consumer sent 5 records, 6 expected"):
        run_in_memory(roles)


# --- private-sum/1 -------------------------------------------------------------------------------


def private_sum(key: PrivateKey, values: tuple[int, ...], min_cohort: int = 2) -> dict[str, Role]:
    inputs = {"left": Inputs(ALICE), "right": Inputs(BOB[: len(values)], values)}
    return start_all(kind("private-sum/1"), inputs, min_cohort=min_cohort, key=key)


def test_the_sum_is_over_common_identifiers_only_and_left_sees_just_the_count(private_key):
    outcomes, _ = recorded(private_sum(private_key, (-10, 2**62, 3, 1000, 1000, 1000)))
    assert outcomes[CONSUMER] == Outcome({"sum": 2**62 - 7, "count": 3})
    assert outcomes["left"] == Outcome({"count": 3})
    assert outcomes["right"] == Outcome(None)


def test_several_rows_of_one_identifier_are_one_member_of_the_cohort(private_key):
    inputs = {"left": Inputs(("c", "d")), "right": Inputs(("c",) * 4 + ("d",), (1, 2, 3, 4, 50))}
    of = kind("private-sum/1")
    outcomes, frames = recorded(start_all(of, inputs, key=private_key))
    assert outcomes[CONSUMER] == Outcome({"sum": 60, "count": 2})
    pairs = next(frame.payload for _, frame in frames if frame.name == "pairs")
    assert len(pairs) == 1 + 4 + 2 * (33 + 512)
    outcomes, _ = recorded(start_all(of, inputs, min_cohort=3, key=private_key))
    assert {type(outcome) for outcome in outcomes.values()} == {Withheld}


def test_extreme_rows_add_up_beyond_64_bits(private_key):
    top = 2**63 - 1
    inputs = {"left": Inputs(("c", "d")), "right": Inputs(("c", "c", "d"), (top, top, top))}
    outcomes, _ = recorded(start_all(kind("private-sum/1"), inputs, key=private_key))
    assert outcomes[CONSUMER] == Outcome({"sum": 3 * top, "count": 2})


def test_the_ciphertext_of_the_sum_is_not_the_product_of_those_that_right_sent(private_key):
    _, frames = recorded(private_sum(private_key, (1, 2, 3)))
    pairs = next(frame.payload for _, frame in frames if frame.name == "pairs")[5:]
    result = next(frame.payload for _, frame in frames if frame.name == "result")
    public_key = private_key.public_key
    sent = [
        public_key.parse_ciphertext(pairs[i + 33 : i + 545], "right")
        for i in range(0, len(pairs), 545)
    ]
    assert public_key.encode(public_key.add_all(sent)) != result[9:]
    assert private_key.decrypt(public_key.parse_ciphertext(result[9:], "left")) == 6
    assert parse_number(result[1:9], "left") == 3


@pytest.mark.parametrize("value", [2**63, -(2**63), True, 1.5])
def test_a_value_out_of_bounds_names_the_column_and_not_the_value(private_key, value):
    with pytest.raises(InputRejected, match="column value: 1 rows are not integers") as caught:
        private_sum(private_key, (1, value, 3))
    assert str(value) not in str(caught.value)


def test_a_consumer_refuses_sums_no_rows_can_have(private_key):
    public_key = private_key.public_key
    for count, total in [(0, 5), (3, 2**90), (2**30, 1)]:
        body = count.to_bytes(8, "big") + public_key.encode(public_key.encrypt_plain(total))
        roles = private_sum(private_key, (1, 2, 3), min_cohort=0)
        roles[CONSUMER] = changing(roles[CONSUMER], "result", lambda _, b=body: b"\x01" + b)
        with pytest.raises(ProtocolViolation, match="no rows can have"):
            run_in_memory(roles)


# --- aggregate/1 ---------------------------------------------------------------------------------

GROUPS = ("east", "west", "north")


def aggregate(key: PrivateKey, parts: list[dict[str, tuple[int, ...]]], min_cohort: int = 2):
    inputs = {
        f"provider-{i}": Inputs(
            values=tuple(value for values in part.values() for value in values),
            groups=tuple(group for group, values in part.items() for _ in values),
        )
        for i, part in enumerate(parts, 1)
    }
    of = kind("aggregate/1")
    return start_all(of, inputs, min_cohort=min_cohort, key=key, groups=GROUPS)


PARTS = [
    {"east": (1, 2), "west": (-5, -6)},
    {"east": (10, 20, 30), "west": (7,)},
    {"east": (), "west": (8, 9)},
]


def test_a_group_one_provider_holds_back_is_missing_from_the_total_and_named(private_key):
    outcomes, _ = recorded(aggregate(private_key, PARTS))
    assert outcomes.pop(CONSUMER) == Outcome(
        {
            "groups": {"east": {"sum": 63, "count": 5}, "north": {"sum": 0, "count": 0}},
            "withheld": ["west"],
        }
    )
    assert set(outcomes.values()) == {Outcome(None)}


def test_what_went_round_for_a_withheld_group_is_gone_from_the_ring(private_key):
    _, frames = recorded(aggregate(private_key, PARTS))
    public_key = private_key.public_key
    carried = []
    for _, frame in frames:
        if frame.name == "totals":
            west = public_key.parse_ciphertext(frame.payload[3 + 512 : 3 + 1024], "provider")
            count, shifted = unpack(private_key.decrypt(west), 128, 2)
            carried.append((frame.payload[:3], count, shifted - 2**100))
    assert carried == [(b"\x00\x00\x00", 2, -11), (b"\x00\x01\x00", 0, 0)]


def test_the_consumer_is_sent_the_end_of_the_ring_only_and_no_withheld_group(private_key):
    _, frames = recorded(aggregate(private_key, PARTS))
    assert names(frames) == [
        ("provider-1", "provider-2", "totals"),
        ("provider-2", "provider-3", "totals"),
        ("provider-3", CONSUMER, "result"),
        ("provider-3", "provider-1", "verdict"),
        ("provider-3", "provider-2", "verdict"),
    ]
    result = next(frame.payload for _, frame in frames if frame.name == "result")
    assert len(result) == 1 + 3 + 2 * 512


def test_sixteen_providers_with_extreme_rows_never_flow_over(private_key):
    low = -(2**63) + 1
    parts = [{"east": (low,) * 3, "west": (-low,) * 3, "north": (low, -low)}] * 16
    outcomes, _ = recorded(aggregate(private_key, parts))
    assert outcomes[CONSUMER].value["groups"] == {
        "east": {"sum": 48 * low, "count": 48},
        "west": {"sum": -48 * low, "count": 48},
        "north": {"sum": 0, "count": 32},
    }


def test_when_every_group_is_withheld_nobody_gets_a_result(private_key):
    parts = [{"east": (1,), "west": (2,)}, {"north": (3,)}]
    outcomes, frames = recorded(aggregate(private_key, parts))
    assert {type(outcome) for outcome in outcomes.values()} == {Withheld}
    assert [frame.payload for _, frame in frames if frame.to == CONSUMER] == [b"\x00"]


def test_rows_of_foreign_groups_are_rejected_by_number(private_key):
    with pytest.raises(InputRejected, match="column group: 2 rows belong to no group"):
        aggregate(private_key, [{"east": (1,), "moon": (1, 2)}, {}])


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ((), "1 to 4096 groups"),
        (("a", "a"), "names one twice"),
        (("",), "1 to 256 characters"),
        (tuple(map(str, range(4097))), "1 to 4096 groups"),
    ],
)
def test_a_list_of_groups_that_cannot_be_used_is_rejected(private_key, groups, reason):
    inputs = {"provider-1": Inputs(), "provider-2": Inputs()}
    with pytest.raises(InputRejected, match=reason):
        start_all(kind("aggregate/1"), inputs, key=private_key, groups=groups)


def test_a_consumer_refuses_totals_no_rows_can_have(private_key):
    public_key = private_key.public_key
    offset = 3 * 2**100
    bad = [
        (pack((1, 5 + offset), 128), "below the agreed minimum"),
        (pack((0, 5 + offset), 128), "no rows can have"),
        (pack((2**60, 5 + offset), 128), "no rows can have"),
        (pack((2, offset + 2**64 + 1), 128), "no rows can have"),
        (-1, "no packed total"),
        (2**256, "no packed total"),
    ]
    for packed, reason in bad:
        forged = b"\x01\x00\x01\x01" + public_key.encode(public_key.encrypt_plain(packed))
        roles = aggregate(private_key, PARTS)
        roles[CONSUMER] = changing(roles[CONSUMER], "result", lambda _, f=forged: f)
        with pytest.raises(ProtocolViolation, match=reason):
            run_in_memory(roles)


def test_a_released_result_without_any_group_is_a_violation(private_key):
    roles = aggregate(private_key, PARTS)
    roles[CONSUMER] = changing(roles[CONSUMER], "result", lambda _: b"\x01\x01\x01\x01")
    with pytest.raises(ProtocolViolation, match="every group is withheld"):
        run_in_memory(roles)


# --- inputs and the registry ---------------------------------------------------------------------


@pytest.mark.parametrize("identifier", ["", "x" * 1025, "\ud800"])
def test_identifiers_that_cannot_be_masked_are_rejected_by_number(identifier):
    with pytest.raises(InputRejected, match="column identifier: 2 rows"):
        cardinality(left=("a", identifier, identifier))


def test_columns_of_different_lengths_are_rejected(private_key):
    inputs = {"left": Inputs(ALICE), "right": Inputs(BOB, (1, 2))}
    with pytest.raises(InputRejected, match=r"differ in length: \{'identifier': 6, 'value': 2\}"):
        start_all(kind("private-sum/1"), inputs, key=private_key)


def test_more_rows_than_one_run_takes_are_rejected(private_key):
    too_many = ("a",) * 200_001
    inputs = {"left": Inputs(too_many), "right": Inputs()}
    with pytest.raises(InputRejected, match="at most 200000 rows"):
        start_all(kind("private-sum/1"), inputs, key=private_key)


def test_inputs_do_not_show_their_rows():
    shown = repr(Inputs(("13800138000",), (424242,), ("ward-7",)))
    assert shown == "Inputs(1 identifiers, 1 values, 1 groups)"


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(InputRejected, match=r"'psi/9'; known: aggregate-partial/1, aggregate/1, "):
        kind("psi/9")
