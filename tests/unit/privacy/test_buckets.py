"""Sets in buckets: each identifier once, every bucket filled to one size, nothing done twice."""

import random
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import privacy.buckets
from privacy.buckets import OwnSet, bucket_count, lay_out, padded_size, place
from privacy.computation import CONSUMER, Inputs, Kind, Parameters, RoleContext
from privacy.errors import InputRejected, PrivacyError, ProtocolViolation, Withheld
from privacy.intersection import BOTH, CARDINALITY_2, COUNT, INTERSECTION_2
from privacy.role import Progress, Receive, Role, Send, run_in_memory
from privacy.spool import MemorySpool
from privacy.workers import InThisThread

SMALL_BUCKETS = Parameters(min_cohort=0, settings={"bucketElements": 1024})


class Batches:
    """Rows that come a few at a time."""

    def __init__(self, *batches: Inputs) -> None:
        self._batches = batches

    def batches(self) -> Iterator[Inputs]:
        yield from self._batches


def laid_out(rows: Batches | Inputs, spool: MemorySpool | None = None, **changes: object) -> OwnSet:
    parameters = Parameters(0, **changes)  # type: ignore[arg-type]
    spool = spool or MemorySpool()
    context = RoleContext("left", ("left", "right", CONSUMER), rows, parameters, None, bytes)
    steps = lay_out(RoleContext(**{**vars(context), "spool": spool}))
    try:
        while True:
            assert isinstance(next(steps), Progress)
    except StopIteration as ended:
        return ended.value


def whole(own: OwnSet, of: int) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for number in range(of):
        bucket = own.bucket(number, of)
        assert not found.keys() & bucket.keys()
        found.update(bucket)
    return found


rows = st.lists(
    st.tuples(st.text("ab\0é张\n", min_size=1, max_size=3), st.integers(-(2**63) + 1, 2**63 - 1)),
    max_size=60,
)


@given(rows, st.sampled_from([0, 4, 1000]), st.sampled_from([1, 2, 8, 1024]))
@settings(deadline=None, max_examples=40)
def test_every_identifier_is_laid_out_once_with_its_total(drawn, small, of):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(privacy.buckets, "SMALL_SET", small)
        patch.setattr(privacy.buckets, "PARTS", 1024)
        batches = [Inputs((name,), (value,)) for name, value in drawn]
        own = laid_out(Batches(*batches))
    expected: Counter[str] = Counter()
    for name, value in drawn:
        expected[name] += value
    assert whole(own, of) == {name: (total, 0) for name, total in expected.items()}
    assert own.report() == {
        "rows": len(drawn),
        "distinct": len(expected),
        "duplicates": len(drawn) - len(expected),
    }


def test_an_identifier_in_two_groups_is_refused():
    two = Batches(Inputs(("a",), (1,), ("north",)), Inputs(("a",), (1,), ("south",)))
    with pytest.raises(InputRejected, match="column group: an identifier is in more than one"):
        laid_out(two, groups=("north", "south"))


def test_a_set_that_was_laid_out_is_not_read_again():
    spool = MemorySpool()
    first = laid_out(Inputs(("a", "b", "b")), spool)
    again = laid_out(Inputs(("nobody",)), spool)
    assert (again.count, again.rows) == (first.count, first.rows) == (2, 3)
    assert whole(again, 4) == whole(first, 4)


@pytest.mark.parametrize("count", [1024, 5000, 100_000])
def test_no_bucket_is_fuller_than_the_size_it_is_filled_to(count):
    of = bucket_count(count, 1024)
    fill = Counter(place(f"person-{n}") * of // 1024 for n in range(count))
    assert max(fill.values()) <= padded_size(count, of)


def test_filling_costs_little_where_buckets_are_large():
    assert padded_size(100, 1) == 100
    assert padded_size(10_000_000, 128) < 1.04 * 10_000_000 / 128
    # Never more than the whole set, however small the set is.
    assert padded_size(3, 1024) == 3


KINDS = (INTERSECTION_2, BOTH, COUNT, CARDINALITY_2)


def example(kind: Kind, size: int = 1200) -> dict[str, Inputs]:
    chooser = random.Random(5)
    parties = kind.roles(kind.providers[0])
    return {
        party: Inputs(tuple(f"p{chooser.randrange(size * 2)}" for _ in range(size)))
        if kind.columns_of(party)
        else Inputs()
        for party in parties
    }


def roles_of(kind, inputs, spools=None, workers=None) -> dict[str, Role]:
    parties = tuple(inputs)
    spools = spools or {party: MemorySpool() for party in parties}
    return {
        party: kind.start(
            party, parties, inputs[party], SMALL_BUCKETS, None, spool=spools[party], workers=workers
        )
        for party in parties
    }


class Counting(InThisThread):
    """Counts the elements of the pieces."""

    def __init__(self) -> None:
        self.elements = 0

    def map(self, work, pieces):
        for piece in pieces:
            done = work(piece)
            self.elements += len(done)
            yield done


@pytest.mark.parametrize("kind", [INTERSECTION_2, CARDINALITY_2], ids=lambda kind: kind.name)
def test_after_a_crash_only_unfinished_buckets_are_compared(kind):
    inputs = example(kind, 3000)
    spools = {party: MemorySpool() for party in inputs}
    first = Counting()
    roles = roles_of(kind, inputs, spools, first)
    victim = next(iter(inputs))

    def dying() -> Role:
        answer = None
        while True:
            step = roles[victim].send(answer)
            # It dies before it tells of the third bucket.
            if (
                isinstance(step, Send)
                and step.name == "masked"
                and "done-1-4" in spools[victim].names()
            ):
                roles[victim].close()
                raise ProtocolViolation("killed")
            answer = yield step

    with pytest.raises(PrivacyError):
        run_in_memory({**roles, victim: dying()})
    second = Counting()
    outcomes = run_in_memory(roles_of(kind, inputs, spools, second))
    assert outcomes[CONSUMER].value == kind.reference(inputs, SMALL_BUCKETS)
    # Both parties mask and raise: four units an element; two of four buckets were left.
    whole_run = 4 * 4 * padded_size(len(set(inputs[victim].identifiers)), 4)
    assert second.elements < 0.6 * whole_run


@pytest.mark.parametrize("kind", [INTERSECTION_2, BOTH], ids=lambda kind: kind.name)
def test_spools_of_different_runs_do_not_go_together(kind):
    inputs = example(kind, 1400)
    one, other = ({party: MemorySpool() for party in inputs} for _ in range(2))
    for spools in (one, other):
        run_in_memory(roles_of(kind, inputs, spools))
    mixed = {party: one[party] if party == CONSUMER else other[party] for party in inputs}
    with pytest.raises(ProtocolViolation, match="finished buckets that differ"):
        run_in_memory(roles_of(kind, inputs, mixed))


def test_both_learn_the_intersection_and_each_its_own_input():
    inputs = example(BOTH)
    outcomes = run_in_memory(roles_of(BOTH, inputs))
    assert outcomes["sender"].value == outcomes[CONSUMER].value
    for party, outcome in outcomes.items():
        assert outcome.report["rows"] == 1200
        assert outcome.report["distinct"] == len(set(inputs[party].identifiers))


def test_too_many_identifiers_for_a_value_are_an_attachment(monkeypatch):
    monkeypatch.setattr("privacy.intersection.MAX_IDENTIFIERS_IN_VALUE", 3)
    inputs = example(INTERSECTION_2, 1500)
    spools = {party: MemorySpool() for party in inputs}
    outcome = run_in_memory(roles_of(INTERSECTION_2, inputs, spools))[CONSUMER]
    expected = INTERSECTION_2.reference(inputs, SMALL_BUCKETS)
    assert outcome.value == {"count": expected["count"]}
    lines = spools[CONSUMER].get(outcome.attachment).decode().splitlines()
    assert sorted(line.strip('"') for line in lines) == expected["identifiers"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    ("name", "value"),
    [("bucketElements", 1023), ("falsePositiveBits", 65), ("bucketElements", "8"), ("buckets", 1)],
)
def test_settings_out_of_range_or_unknown_are_refused(kind, name, value):
    inputs = example(kind, 3)
    party = next(iter(inputs))
    with pytest.raises(InputRejected, match=f"parameters: .*{name}"):
        kind.start(party, tuple(inputs), inputs[party], Parameters(0, settings={name: value}), None)


def test_a_party_that_claims_more_than_anyone_may_bring_is_refused():
    def claiming() -> Role:
        yield Send("sender", "hello", (2**40).to_bytes(8, "big") + bytes(128))
        yield Receive("sender", "hello", 1000)

    inputs = example(INTERSECTION_2, 10)
    roles = roles_of(INTERSECTION_2, inputs)
    with pytest.raises(ProtocolViolation, match="consumer announced 1099511627776 identifiers"):
        run_in_memory({**roles, CONSUMER: claiming()})


@pytest.mark.parametrize("kind", [COUNT, CARDINALITY_2], ids=lambda kind: kind.name)
def test_a_count_with_noise_is_near_the_truth_and_the_cohort_is_judged_by_it(kind):
    pytest.importorskip("opendp")
    common = tuple(f"p{number}" for number in range(40))
    inputs = {
        p: Inputs(common) if kind.columns_of(p) else Inputs() for p in kind.roles(kind.providers[0])
    }

    def counted(min_cohort: int) -> int:
        parameters = Parameters(min_cohort, epsilon=Decimal(1))
        roles = {
            party: kind.start(party, tuple(inputs), rows, parameters, None)
            for party, rows in inputs.items()
        }
        return run_in_memory(roles)[CONSUMER].value["count"]

    # Noise beyond 25 has odds of e^-25.
    assert 15 <= counted(0) <= 65
    # 40 reaches 40, but not so surely that noise could not have made it of a smaller one.
    with pytest.raises(Withheld):
        counted(40)
