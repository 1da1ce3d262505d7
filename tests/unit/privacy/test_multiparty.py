"""What the computations over three or more sets promise beyond equalling their reference."""

import pickle
import random
import secrets
from collections.abc import Callable
from itertools import combinations
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import PrivacyError, ProtocolViolation, Withheld
from privacy.kinds import CONSUMER, Inputs, Kind, Parameters
from privacy.masking import GROUP_ORDER, MaskingKey
from privacy.multiparty import MULTI_CARDINALITY, MULTI_INTERSECTION
from privacy.ring import SHORT_BYTES, route
from privacy.role import Outcome, Progress, Receive, Role, Send, run_in_memory
from privacy.wire import encode_number, encode_points, parse_points

few = settings(max_examples=8, deadline=None)
BOTH_KINDS = pytest.mark.parametrize("kind", [MULTI_CARDINALITY, MULTI_INTERSECTION])
LETTERS = "abcdefgh"
sets_of_letters = st.lists(st.sampled_from(LETTERS), min_size=1, max_size=9)


def start_all(kind: Kind, sets: list, *, min_cohort: int = 2, **ports) -> dict[str, Role]:
    """Start every party; `sets` are those of the providers, and last the consumer's if it has one.

    `ports` are party to keyword arguments of `Kind.start`.
    """
    has_own = bool(kind.columns_of(CONSUMER))
    parties = kind.roles(len(sets) - has_own)
    inputs = dict(zip(parties, map(tuple, sets), strict=False))
    return {
        party: kind.start(
            party,
            parties,
            Inputs(inputs.get(party, ())),
            Parameters(min_cohort),
            None,
            **ports.get(party.replace("-", "_"), {}),
        )
        for party in parties
    }


def watching(party: str, role: Role, frames: list[tuple[str, Send]]):
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


def recorded(
    roles: dict[str, Role],
) -> tuple[dict[str, Outcome | PrivacyError], list[tuple[str, Send]]]:
    """Run roles to their ends; return their outcomes or errors and every frame with its sender."""
    frames: list[tuple[str, Send]] = []
    return run_in_memory({p: watching(p, role, frames) for p, role in roles.items()}), frames


def changing(role: Role, name: str, change: Callable[[bytes], bytes], *, sender: str = ""):
    """Change the payload a role receives under `name`, from `sender` if given."""
    payload = None
    try:
        while True:
            step = role.send(payload)
            payload = yield step
            if isinstance(step, Receive) and step.name == name and sender in ("", step.sender):
                payload = change(payload)
    except StopIteration as ended:
        return ended.value


# --- Results -------------------------------------------------------------------------------------


@few
@given(sets=st.lists(sets_of_letters, min_size=3, max_size=5))
def test_the_count_is_that_of_the_plain_intersection(sets):
    outcomes = run_in_memory(start_all(MULTI_CARDINALITY, sets, min_cohort=0))
    count = len(set.intersection(*map(set, sets)))
    assert outcomes[CONSUMER].value == outcomes["provider-1"].value == {"count": count}
    assert {outcomes[f"provider-{n}"].value for n in range(2, len(sets) + 1)} == {None}


@few
@given(sets=st.lists(sets_of_letters, min_size=3, max_size=5))
def test_the_consumer_gets_those_of_its_identifiers_that_everyone_has(sets):
    outcomes = run_in_memory(start_all(MULTI_INTERSECTION, sets, min_cohort=0))
    common = sorted(set.intersection(*map(set, sets)))
    assert outcomes[CONSUMER].value == {"count": len(common), "identifiers": common}
    assert outcomes["provider-2"].value == {"count": len(common)}
    assert outcomes["provider-1"].value is None


def test_eight_sets_can_be_compared():
    sets = [f"abc{LETTERS[n]}" for n in range(8)]
    for kind in (MULTI_CARDINALITY, MULTI_INTERSECTION):
        assert run_in_memory(start_all(kind, sets))[CONSUMER].value["count"] == 3


@BOTH_KINDS
def test_repetitions_count_once_and_are_told_to_their_owner_alone(kind):
    outcomes = run_in_memory(start_all(kind, ["abbbc", "abc", "abcc"]))
    assert outcomes["provider-1"].report == {"rows": 5, "distinct": 3, "duplicates": 2}
    assert outcomes[CONSUMER].report == (
        {"rows": 4, "distinct": 3, "duplicates": 1} if kind is MULTI_INTERSECTION else {}
    )


class Elsewhere:
    """Workers in another process, as far as a piece can tell."""

    count = 2

    def __init__(self) -> None:
        self.elements = 0

    def map(self, work, pieces):
        for piece in pieces:
            work, piece = pickle.loads(pickle.dumps((work, piece)))
            done = work(piece)
            self.elements += len(done)
            yield done


@BOTH_KINDS
def test_all_curve_work_is_done_by_the_workers_and_adds_up_to_the_announced_total(kind):
    sets = ["abcd", "bcde", "cdef"]
    parties = kind.roles(3 - bool(kind.columns_of(CONSUMER)))
    pools = {party.replace("-", "_"): {"workers": Elsewhere()} for party in parties}
    steps: dict[str, list[Progress]] = {party: [] for party in parties}

    def noting(party: str, role: Role):
        payload = None
        try:
            while True:
                step = role.send(payload)
                if isinstance(step, Progress):
                    steps[party].append(step)
                payload = yield step
        except StopIteration as ended:
            return ended.value

    roles = start_all(kind, sets, **pools)
    run_in_memory({party: noting(party, role) for party, role in roles.items()})
    for party in parties:
        done = sum(step.done for step in steps[party])
        announced = [step.total for step in steps[party] if step.total is not None]
        assert done == pools[party.replace("-", "_")]["workers"].elements
        assert announced == ([done] if done else [])


# --- What is seen --------------------------------------------------------------------------------


def test_a_set_goes_backwards_once_around_and_rests_after_its_owner():
    ring = ("provider-1", "provider-2", "provider-3")
    assert route("provider-2", ring) == ("provider-2", "provider-1", "provider-3")
    assert route("consumer", ring) == ("consumer", "provider-1", "provider-3", "provider-2")


SEAL = "seal"


def on_the_way(owner: str, providers: tuple[str, ...]) -> list[tuple[str, str, frozenset[str]]]:
    """Sender, receiver and keys of every frame with the set of `owner`; last, where it rests."""
    way = route(owner, providers)
    hops = []
    for number, sender in enumerate(way):
        keys = set(way[: number + 1])
        if owner == CONSUMER and number > 0:
            keys.add(SEAL)
        receiver = way[number + 1] if number + 1 < len(way) else sender
        hops.append((sender, receiver, frozenset(keys)))
    return hops


def seen_by(coalition: set[str], providers: tuple[str, ...]) -> dict[frozenset[str], set[str]]:
    """What a coalition of parties of `psi-multi/1` can compare: names of sets, by the keys of
    others that they are under. `S&` is the running intersection, of whatever length."""
    everyone = frozenset(providers)
    known = coalition | ({SEAL} if providers[0] in coalition else set())
    seen: dict[frozenset[str], set[str]] = {}
    for owner in (*providers, CONSUMER):
        for sender, receiver, keys in on_the_way(owner, providers):
            if coalition & {sender, receiver}:
                seen.setdefault(keys - known, set()).add(owner)
    for where, keys in (
        (everyone, everyone),
        ({providers[0], CONSUMER}, everyone | {SEAL}),
        ({providers[1], CONSUMER}, everyone | {SEAL, CONSUMER}),
    ):
        if coalition & where:
            seen.setdefault(keys - known, set()).add("S&")
    return seen


def test_every_set_is_under_the_keys_of_those_it_has_passed_and_the_consumers_is_sealed():
    # With this, what can be compared with what follows from the route alone: see the next test.
    parties = MULTI_INTERSECTION.roles(4)
    ports = {name: {"random_bytes": random.Random(name).randbytes} for name in parties}
    ports = {name.replace("-", "_"): port for name, port in ports.items()}
    _, frames = recorded(start_all(MULTI_INTERSECTION, ["abc"] * 5, **ports))
    drawn = {name: random.Random(name) for name in parties}
    scalars = {name: int.from_bytes(source.randbytes(32)) for name, source in drawn.items()}
    scalars[SEAL] = int.from_bytes(drawn["provider-1"].randbytes(32))
    for owner in parties:
        for sender, receiver, keys in on_the_way(owner, parties[:-1])[:-1]:
            product = prod(scalars[key] for key in keys) % GROUP_ORDER
            expected = set(MaskingKey(product.to_bytes(32)).mask("abc"))
            [sent] = [
                set(parse_points(f.payload, ""))
                for s, f in frames
                if (s, f.to, f.name) == (sender, receiver, f"set-of-{owner}")
            ]
            assert sent == expected


@pytest.mark.parametrize("count", range(2, 8))
def test_a_provider_compares_what_rests_with_it_and_the_gate_the_result(count):
    providers = MULTI_INTERSECTION.roles(count)[:-1]
    for number, name in enumerate(providers):
        compared = [names for names in seen_by({name}, providers).values() if len(names) > 1]
        gate = [{CONSUMER, "S&"}] if number == 1 else []
        assert sorted(map(sorted, compared)) == sorted(
            map(sorted, [{providers[number - 1], "S&"}, *gate])
        )


@pytest.mark.parametrize("count", range(2, 8))
def test_the_consumer_needs_the_first_provider_and_one_more_to_compare_its_set_with_others(count):
    providers = MULTI_INTERSECTION.roles(count)[:-1]
    coalitions = [{name} for name in providers]
    coalitions += [set(two) for two in combinations(providers[1:], 2)]
    for coalition in coalitions:
        # Their own sets they know anyway; the gate can always tell the result.
        known = coalition | {CONSUMER} | ({"S&"} if providers[1] in coalition else set())
        for names in seen_by(coalition | {CONSUMER}, providers).values():
            assert CONSUMER not in names or names <= known
    # The claim is not an empty one.
    if count > 2:
        three = seen_by({CONSUMER, *providers[:2]}, providers).values()
        assert any({CONSUMER, providers[-1]} <= names for names in three)


def test_every_stop_but_those_of_the_consumers_set_sends_points_in_ascending_order():
    _, frames = recorded(start_all(MULTI_INTERSECTION, ["abcdefghijklmnopqrst"] * 4))
    for sender, frame in frames:
        if frame.name.startswith("set-of-"):
            points = parse_points(frame.payload, "")
            kept = frame.name == "set-of-consumer" and sender != CONSUMER
            assert (points == sorted(points)) != kept


@BOTH_KINDS
def test_the_running_intersection_has_the_size_of_the_smallest_set_whatever_is_in_it(kind):
    def sizes(sets: list[str]) -> list[tuple[str, int]]:
        _, frames = recorded(start_all(kind, sets, min_cohort=0))
        return sorted((sender, len(f.payload)) for sender, f in frames if f.name == "common")

    assert sizes(["abcd", "abc", "abcde", "ab"]) == sizes(["abcd", "efg", "habcd", "ef"])


def test_a_running_intersection_holds_what_is_common_and_strangers():
    _, frames = recorded(start_all(MULTI_CARDINALITY, ["abcd", "cde", "cdxyz"]))
    first, second = (
        {f.payload[i : i + SHORT_BYTES] for i in range(4, len(f.payload), SHORT_BYTES)}
        for _, f in frames
        if f.name == "common"
    )
    assert (len(first), len(second), len(first & second)) == (4, 3, 2)


def test_the_consumer_of_a_cardinality_is_sent_one_number_and_nothing_else():
    _, frames = recorded(start_all(MULTI_CARDINALITY, ["abcd", "bcd", "cde"]))
    assert [(s, f.name, f.payload) for s, f in frames if f.to == CONSUMER] == [
        ("provider-1", "result", b"\x01" + encode_number(2))
    ]


def test_the_consumer_of_an_intersection_is_sent_one_bit_for_each_of_its_identifiers():
    _, frames = recorded(start_all(MULTI_INTERSECTION, ["abcd", "bcd", "cdefghabx"]))
    to_consumer = {f.name: len(f.payload) for _, f in frames if f.to == CONSUMER}
    assert to_consumer == {"begin": 1, "common": 4 + 3 * 33, "result": 1 + 2}


# --- Disclosure ----------------------------------------------------------------------------------


@BOTH_KINDS
@pytest.mark.parametrize("small", [0, 1, 2])
def test_a_set_below_the_cohort_ends_the_run_before_a_point_is_sent(kind, small):
    sets = ["abcd", "abcd", "abcd"]
    sets[small] = "a"
    outcomes, frames = recorded(start_all(kind, sets))
    assert {type(outcome) for outcome in outcomes.values()} == {Withheld}
    assert {f.name for _, f in frames if f.to != CONSUMER} == {"size"}
    assert [f.payload for _, f in frames if f.to == CONSUMER] == [b"\x00"]


@BOTH_KINDS
def test_below_the_cohort_the_gate_sends_no_result_but_one_byte_to_everyone(kind):
    outcomes, frames = recorded(start_all(kind, ["abcx", "abcy", "abcz"], min_cohort=4))
    assert {type(outcome) for outcome in outcomes.values()} == {Withheld}
    last = [f.payload for _, f in frames if f.name in ("result", "verdict")]
    assert last == [b"\x00"] * len(kind.roles(3 - bool(kind.columns_of(CONSUMER)))[1:])


def test_a_consumer_refuses_a_count_below_the_cohort_or_beyond_any_set():
    for count, reason in [(1, "below the agreed minimum"), (2**40, "count above")]:
        roles = start_all(MULTI_CARDINALITY, ["abc"] * 3)
        result = b"\x01" + encode_number(count)
        roles[CONSUMER] = changing(roles[CONSUMER], "result", lambda _, r=result: r)
        with pytest.raises(ProtocolViolation, match=f"provider-1 .*{reason}"):
            run_in_memory(roles)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (b"\x01\x80", "released a cohort below the agreed minimum"),
        (b"\x01\xf8", "more common elements than there can be"),
        (b"\x01\xf1", "no list of 5 bits"),
        (b"\x01", "no list of 5 bits"),
    ],
)
def test_a_consumer_refuses_flags_that_no_honest_gate_sends(flags, reason):
    roles = start_all(MULTI_INTERSECTION, ["abc", "abcd", "abcde"])
    roles[CONSUMER] = changing(roles[CONSUMER], "result", lambda _: flags)
    with pytest.raises(ProtocolViolation, match=f"provider-2 .*{reason}"):
        run_in_memory(roles)


def test_invented_points_do_not_reach_the_cohort():
    roles = start_all(MULTI_INTERSECTION, ["abcd"] * 3)
    invented = sorted(secrets.token_bytes(SHORT_BYTES) for _ in range(4))
    made_up = (4).to_bytes(4, "big") + b"".join(invented)
    roles["provider-2"] = changing(roles["provider-2"], "raised", lambda _: made_up)
    outcomes, _ = recorded(roles)
    assert {type(outcome) for outcome in outcomes.values()} == {Withheld}


def test_a_set_swapped_on_its_way_matches_nothing():
    # Whoever passes a set on does not know its owner's key, so it cannot put people into it.
    invented = sorted(MaskingKey.generate(secrets.token_bytes).mask("abcd"))
    roles = start_all(MULTI_CARDINALITY, ["abcd"] * 4, min_cohort=0)
    roles["provider-1"] = changing(
        roles["provider-1"], "set-of-provider-3", lambda _: encode_points(invented)
    )
    assert run_in_memory(roles)[CONSUMER].value == {"count": 0}


# --- Peers that do not follow the protocol -------------------------------------------------------


@BOTH_KINDS
def test_a_set_of_another_size_than_announced_is_a_violation(kind):
    roles = start_all(kind, ["abc"] * 3)
    fewer = sorted(MaskingKey.generate(secrets.token_bytes).mask("ab"))
    roles["provider-1"] = changing(
        roles["provider-1"], "set-of-provider-2", lambda _: encode_points(fewer)
    )
    with pytest.raises(ProtocolViolation, match="provider-2 sent 2 records, 3 expected"):
        run_in_memory(roles)


def test_an_announced_size_beyond_any_set_is_a_violation():
    roles = start_all(MULTI_CARDINALITY, ["abc"] * 3)
    roles["provider-1"] = changing(
        roles["provider-1"], "size", lambda _: encode_number(2**40), sender="provider-3"
    )
    with pytest.raises(ProtocolViolation, match="provider-3 announced more than 1000000"):
        run_in_memory(roles)


def test_points_out_of_order_are_a_violation():
    roles = start_all(MULTI_CARDINALITY, ["abc"] * 3)
    roles["provider-3"] = changing(
        roles["provider-3"],
        "set-of-provider-2",
        lambda payload: encode_points(parse_points(payload, "")[::-1]),
    )
    with pytest.raises(ProtocolViolation, match="provider-1 sent points out of order"):
        run_in_memory(roles)


def test_the_consumers_set_with_a_point_twice_is_a_violation():
    def repeat(payload: bytes) -> bytes:
        first, *others = parse_points(payload, "")
        return encode_points([first, first, *others[1:]])

    roles = start_all(MULTI_INTERSECTION, ["abc"] * 3)
    roles["provider-1"] = changing(roles["provider-1"], "set-of-consumer", repeat)
    with pytest.raises(ProtocolViolation, match="consumer sent the same point twice"):
        run_in_memory(roles)


def test_a_peer_that_sends_our_points_back_as_anothers_is_refused():
    roles = start_all(MULTI_CARDINALITY, ["abc"] * 3)
    own: list[bytes] = []
    roles["provider-3"] = changing(
        roles["provider-3"], "set-of-provider-1", lambda payload: own.append(payload) or payload
    )
    roles["provider-1"] = changing(roles["provider-1"], "set-of-provider-3", lambda _: own[0])
    with pytest.raises(ProtocolViolation, match="provider-2 sent masked points back as its own"):
        run_in_memory(roles)


def test_a_first_provider_that_sends_the_consumer_its_own_points_is_refused():
    roles = start_all(MULTI_INTERSECTION, ["abc"] * 3)
    own: list[bytes] = []
    roles["provider-1"] = changing(
        roles["provider-1"], "set-of-consumer", lambda payload: own.append(payload) or payload
    )
    roles[CONSUMER] = changing(roles[CONSUMER], "common", lambda _: own[0])
    with pytest.raises(ProtocolViolation, match="provider-1 sent masked points back as its own"):
        run_in_memory(roles)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: p[:4] + p[4:20] * 3, "out of order or twice"),
        (lambda p: p[:-1], "3 records of 16 were announced"),
        (lambda p: b"\0\0\0\2" + p[4:-16], "2 records, 3 expected"),
    ],
)
def test_a_running_intersection_of_another_form_is_a_violation(change, reason):
    roles = start_all(MULTI_CARDINALITY, ["abc"] * 3)
    roles["provider-1"] = changing(roles["provider-1"], "common", change)
    with pytest.raises(ProtocolViolation, match=f"provider-3 sent .*{reason}"):
        run_in_memory(roles)
