"""A masked set that is kept between runs: what it answers, what it costs, what breaks it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from secrets import token_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.cached import CACHED, Sizes, start_cached
from privacy.cached.files import (
    CONSUMER_STATE,
    PREFIX,
    SENDER_STATE,
    ConsumerState,
    SenderState,
    Table,
    load_state,
)
from privacy.cached.frames import ANSWER, CHANGED, HELLO, SAME
from privacy.computation import CONSUMER, CheckedRows, Inputs, Parameters, RoleContext
from privacy.disclosure import released
from privacy.errors import PrivacyError, ProtocolViolation, Withheld
from privacy.masking import MaskingKey
from privacy.role import Outcome, Progress, Receive, Role, Send, run_in_memory
from privacy.spool import Cache, MemorySpool, Sealing
from privacy.wire import COUNT_BYTES, encode_bits, encode_points, parse_bits
from privacy.workers import InThisThread

SENDER = "sender"
# So small that a dozen rows can be mixed, and frames are several.
SMALL = Sizes(mixed=4, recent_share=2, frame=7)
PEOPLE = [f"person-{number}" for number in range(24)]
QUERY = [*PEOPLE[2:6], "stranger", "nobody"]
FIRST_TIME = {"masked", "raised", "query", "result", "hello"}
UNCHANGED = {"query", "result", "hello"}
CHANGED_ROWS = {"leaving", "recent", "left", "raised", "query", "result", "hello"}


@dataclass
class Pair:
    """Two parties that meet again and again, each with its cache."""

    caches: dict[str, Cache] = field(default_factory=lambda: {SENDER: Cache(), CONSUMER: Cache()})
    frames: list[Send] = field(default_factory=list)

    def role(self, party: str, rows, min_cohort: int = 0, version: str | None = None) -> Role:
        if not hasattr(rows, "batches"):
            rows = Inputs(tuple(rows))
        context = RoleContext(
            party,
            (SENDER, CONSUMER),
            rows,
            Parameters(min_cohort),
            None,
            token_bytes,
            InThisThread(),
            MemorySpool(),
            replace(self.caches[party], version=version if party == SENDER else None),
        )
        return self.recorded(start_cached(context, SMALL))

    def recorded(self, role: Role) -> Role:
        payload = None
        try:
            while True:
                step = role.send(payload)
                if isinstance(step, Send):
                    self.frames.append(step)
                payload = yield step
        except StopIteration as ended:
            return ended.value
        finally:
            role.close()

    def meet(self, rows, query: Sequence[str] = QUERY, **how) -> dict[str, Outcome]:
        self.frames.clear()
        return run_in_memory(
            {SENDER: self.role(SENDER, rows, **how), CONSUMER: self.role(CONSUMER, query, **how)}
        )

    def ask(self, rows, query: Sequence[str] = QUERY, **how) -> list[str]:
        """Meet; what the consumer got, which must be what both say."""
        outcomes = self.meet(rows, query, **how)
        value = outcomes[CONSUMER].value
        assert outcomes[SENDER].value == {"count": value["count"]}
        assert value["count"] == len(value["identifiers"])
        return value["identifiers"]

    def names(self) -> set[str]:
        return {frame.name for frame in self.frames}

    def records(self, name: str) -> int:
        """How many records went in frames of that name."""
        return sum(
            int.from_bytes(frame.payload[:COUNT_BYTES], "big")
            for frame in self.frames
            if frame.name == name
        )


def common(rows: Sequence[str], query: Sequence[str] = QUERY) -> list[str]:
    return sorted(set(rows) & set(query))


@pytest.fixture
def pair() -> Pair:
    """Two that have met once over PEOPLE."""
    pair = Pair()
    assert pair.ask(PEOPLE, version="1") == common(PEOPLE)
    assert pair.names() == FIRST_TIME
    return pair


class Unreadable:
    def batches(self) -> Iterator[Inputs]:
        raise AssertionError("these rows need not be read")


class InBatches:
    def __init__(self, rows: Sequence[str], size: int) -> None:
        self._rows, self._size = rows, size

    def batches(self) -> Iterator[Inputs]:
        for start in range(0, len(self._rows), self._size):
            yield Inputs(tuple(self._rows[start : start + self._size]))


# --- What the second time costs -------------------------------------------------------------------


def test_the_second_time_only_the_query_goes_over_the_wire(pair: Pair) -> None:
    other = ["person-7", "person-8", "stranger"]
    assert pair.ask(PEOPLE, other, version="1") == ["person-7", "person-8"]
    assert pair.names() == UNCHANGED
    assert pair.records("query") == 3


def test_rows_of_the_same_version_are_not_read_again(pair: Pair) -> None:
    assert pair.ask(Unreadable(), version="1") == common(PEOPLE)
    assert pair.names() == UNCHANGED


@pytest.mark.parametrize("version", [None, "2"])
def test_the_same_rows_under_another_version_or_none_are_recognised(pair: Pair, version) -> None:
    assert pair.ask(InBatches(PEOPLE, 5), version=version) == common(PEOPLE)
    assert pair.names() == UNCHANGED
    if version is not None:
        assert pair.ask(Unreadable(), version=version) == common(PEOPLE)


def test_rows_in_another_order_and_twice_are_the_same_set(pair: Pair) -> None:
    outcomes = pair.meet([*reversed(PEOPLE), *PEOPLE[:3]])
    assert pair.names() == UNCHANGED
    assert outcomes[SENDER].report == {
        "rows": 27, "distinct": 24, "duplicates": 3, "masked": 0
    }  # fmt: skip


def test_progress_adds_up_to_its_total(pair: Pair) -> None:
    for rows, query in ((PEOPLE, QUERY), (PEOPLE[1:], QUERY), ([*PEOPLE, "new"], QUERY)):
        told: dict[str, list[Progress]] = {SENDER: [], CONSUMER: []}

        def watched(party: str, role: Role, told=told):
            payload = None
            try:
                while True:
                    step = role.send(payload)
                    if isinstance(step, Progress):
                        told[party].append(step)
                    payload = yield step
            except StopIteration as ended:
                return ended.value

        run_in_memory(
            {
                SENDER: watched(SENDER, pair.role(SENDER, rows)),
                CONSUMER: watched(CONSUMER, pair.role(CONSUMER, query)),
            }
        )
        for steps in told.values():
            assert sum(step.done for step in steps) == sum(step.total or 0 for step in steps) > 0


# --- Rows that change -----------------------------------------------------------------------------


def test_an_added_row_is_masked_alone_and_found(pair: Pair) -> None:
    rows = [*PEOPLE, "stranger"]
    outcomes = pair.meet(rows)
    assert outcomes[CONSUMER].value["identifiers"] == common(rows)
    assert outcomes[SENDER].report["masked"] == 1
    assert pair.names() == CHANGED_ROWS
    assert pair.ask(rows) == common(rows)
    assert pair.names() == UNCHANGED


def test_a_removed_row_is_found_no_more(pair: Pair) -> None:
    rows = [person for person in PEOPLE if person != "person-3"]
    assert pair.ask(rows) == common(rows)
    assert pair.names() == CHANGED_ROWS
    assert pair.ask(PEOPLE) == common(PEOPLE)


@pytest.mark.parametrize("rows", [[*PEOPLE, "stranger"], PEOPLE[1:], ["x", *PEOPLE[1:]]])
def test_what_moves_is_mixed_with_rows_that_stay(pair: Pair, rows) -> None:
    pair.ask(rows)
    assert pair.records("leaving") == pair.records("left") >= SMALL.mixed
    assert pair.records("recent") >= SMALL.mixed


def test_the_recent_part_gets_a_new_key_with_every_change(pair: Pair) -> None:
    keys = set()
    for changes in range(1, 4):
        pair.ask([*PEOPLE, *map(str, range(changes))])
        assert pair.names() - {"leaving", "left"} == CHANGED_ROWS - {"leaving", "left"}
        cache = pair.caches[CONSUMER]
        keys.add(load_state(cache, CONSUMER_STATE, ConsumerState).recent_scalar)
    assert len(keys) == 3


def test_a_set_that_is_mostly_new_is_done_afresh_under_new_keys(pair: Pair) -> None:
    before = load_state(pair.caches[SENDER], SENDER_STATE, SenderState)
    rows = [*PEOPLE[:12], *(f"new-{number}" for number in range(20)), "stranger"]
    assert pair.ask(rows) == common(rows)
    assert pair.names() == FIRST_TIME
    after = load_state(pair.caches[SENDER], SENDER_STATE, SenderState)
    assert before.scalar != after.scalar
    assert before.hash_key != after.hash_key


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, 30), max_size=31), st.sets(st.integers(0, 34))),
        min_size=1,
        max_size=4,
    )
)
def test_however_the_rows_change_the_answer_is_the_plain_intersection(steps) -> None:
    pair = Pair()
    rows = set(range(20))
    for changed, query in steps:
        # A few at a time, so that changes are mixed in and not always done afresh.
        rows ^= set(sorted(changed)[:3])
        named, asked = [str(number) for number in rows], [str(number) for number in query]
        assert pair.ask(named, asked) == common(named, asked)


# --- A cache that is lost or broken ---------------------------------------------------------------


@pytest.mark.parametrize("party", [SENDER, CONSUMER])
def test_when_either_side_has_lost_its_cache_all_is_done_afresh(pair: Pair, party: str) -> None:
    pair.caches[party] = Cache()
    assert pair.ask(PEOPLE, version="1") == common(PEOPLE)
    assert pair.names() == FIRST_TIME
    assert pair.ask(Unreadable(), version="1") == common(PEOPLE)


def damaged(content: bytes) -> list[bytes | None]:
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    return [None, b"", content[:-1], content + b"\0", flipped]


def test_a_damaged_file_never_changes_an_answer(pair: Pair) -> None:
    pair.ask([*PEOPLE, "one"])
    now = [*PEOPLE[1:], "one", "stranger"]
    kept = {party: dict(cache.files._files) for party, cache in pair.caches.items()}
    tried = 0
    for party, cache in pair.caches.items():
        for name in kept[party]:
            assert name.startswith(PREFIX)
            for content in damaged(bytes(kept[party][name])):
                for each, files in kept.items():
                    pair.caches[each].files._files = dict(files)
                cache.files.remove(name)
                if content is not None:
                    cache.files.put(name, content)
                assert pair.ask(now) == common(now)
                assert pair.names() == FIRST_TIME
                tried += 1
    assert tried == 25


def test_a_cache_sealed_under_another_key_is_not_used(pair: Pair) -> None:
    cache = pair.caches[CONSUMER]
    pair.caches[CONSUMER] = replace(cache, sealing=Sealing.under(bytes(32), b""))
    assert pair.ask(PEOPLE) == common(PEOPLE)
    assert pair.names() == FIRST_TIME


def test_secret_keys_lie_nowhere_in_the_files(pair: Pair) -> None:
    sender = load_state(pair.caches[SENDER], SENDER_STATE, SenderState)
    consumer = load_state(pair.caches[CONSUMER], CONSUMER_STATE, ConsumerState)
    secret = [sender.scalar, sender.hash_key, consumer.base_scalar]
    assert not any(key.hex() in repr((sender, consumer)) for key in secret)
    for cache in pair.caches.values():
        for name in cache.files.names():
            content = cache.files.get(name)
            assert not any(key in content or key.hex().encode() in content for key in secret)
            assert not any(person.encode() in content for person in PEOPLE)


def test_a_run_that_dies_between_the_two_sides_costs_time_and_nothing_else(pair: Pair) -> None:
    before = dict(pair.caches[SENDER].files._files)
    rows = [*PEOPLE, "stranger"]
    pair.ask(rows)
    # The consumer remembers the change, the sender does not.
    pair.caches[SENDER].files._files = before
    assert pair.ask(rows) == common(rows)
    assert pair.names() == FIRST_TIME


# --- The cohort -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("min_cohort", "last"), [(5, "result"), (100, "hello")])
def test_a_withheld_result_leaves_the_cache_usable(pair: Pair, min_cohort: int, last: str) -> None:
    for rows in (PEOPLE, [*PEOPLE, "new"]):
        with pytest.raises(Withheld):
            pair.meet(rows, min_cohort=min_cohort)
        assert pair.frames[-1].name == last
        assert pair.frames[-1].payload == b"\0"
    assert pair.ask(PEOPLE, min_cohort=4) == common(PEOPLE)
    assert "masked" not in pair.names()


def test_a_first_run_that_is_withheld_has_filled_the_cache() -> None:
    pair = Pair()
    with pytest.raises(Withheld):
        pair.meet(PEOPLE, min_cohort=5)
    assert pair.ask(PEOPLE, min_cohort=4) == common(PEOPLE)
    assert pair.names() == UNCHANGED


def test_matches_in_both_parts_count_together(pair: Pair) -> None:
    rows = [*PEOPLE, "stranger"]
    assert pair.ask(rows, min_cohort=5) == common(rows)
    with pytest.raises(Withheld):
        pair.meet(rows, min_cohort=6)


# --- Peers that do not follow the protocol --------------------------------------------------------


def changing(role: Role, name: str, change: Callable[[bytes], bytes]) -> Role:
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
    finally:
        role.close()


def violated(
    pair: Pair, party: str, name: str, change: Callable[[bytes], bytes], rows=PEOPLE
) -> str:
    """What `party` says of its peer when its frame `name` comes changed."""
    roles = {each: pair.role(each, rows if each == SENDER else QUERY) for each in pair.caches}
    roles[party] = changing(roles[party], name, change)
    with pytest.raises(ProtocolViolation) as caught:
        run_in_memory(roles)
    return str(caught.value)


@pytest.mark.parametrize("answer", [(SAME, 0, 0), (CHANGED, 4, 8)])
def test_an_unknown_consumer_is_not_told_that_it_is_known(answer) -> None:
    said = violated(Pair(), CONSUMER, "hello", lambda _: released(ANSWER.pack(*answer)))
    assert "does not follow" in said


@pytest.mark.parametrize("answer", [(CHANGED, 3, 8), (CHANGED, 4, 3), (CHANGED, 21, 8)])
def test_the_consumer_refuses_changes_in_a_small_company(pair: Pair, answer) -> None:
    said = violated(pair, CONSUMER, "hello", lambda _: released(ANSWER.pack(*answer)))
    assert "moves less than 4 rows" in said


def test_sets_beyond_the_limit_are_refused_unread(pair: Pair) -> None:
    said = violated(pair, SENDER, "hello", lambda _: HELLO.pack(2_000_001, bytes(32)))
    assert "announced 2000001 identifiers" in said
    answer = released(ANSWER.pack(2, 2**63, 0))
    assert "announced" in violated(pair, CONSUMER, "hello", lambda _: answer)


def test_a_point_and_its_inverse_do_not_count_twice(pair: Pair) -> None:
    def doubled(payload: bytes) -> bytes:
        points = [payload[i : i + 33] for i in range(COUNT_BYTES, len(payload), 33)]
        inverse = {bytes([5 - point[0]]) + point[1:] for point in points[:3]}
        return encode_points(sorted({*points[:3], *inverse}))

    # Of the six asked about four are in the set, so at least one of three is.
    assert "twice" in violated(pair, SENDER, "query", doubled)


def test_records_that_were_never_in_the_set_cannot_leave_it(pair: Pair) -> None:
    def invented(payload: bytes) -> bytes:
        return payload[:-16] + b"\xff" * 16

    assert "not there" in violated(pair, SENDER, "left", invented, rows=PEOPLE[1:])


def test_the_consumers_points_come_not_back_as_the_senders(pair: Pair) -> None:
    key = MaskingKey(load_state(pair.caches[CONSUMER], CONSUMER_STATE, ConsumerState).base_scalar)
    copied = key.mask(QUERY[:1])

    def with_copy(payload: bytes) -> bytes:
        points = [payload[i : i + 33] for i in range(COUNT_BYTES, len(payload), 33)]
        return encode_points(sorted([*points[1:], *copied]))

    said = violated(pair, CONSUMER, "leaving", with_copy, rows=PEOPLE[1:])
    assert "masked points back" in said


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\xff", "not 2"),
        (b"\xfc\xfc", "no set can have"),
        (b"\x00\x01", "no list of 6 bits"),
    ],
)
def test_results_that_no_set_can_have_are_refused(pair: Pair, body: bytes, said: str) -> None:
    rows = [*PEOPLE, "stranger"]
    pair.ask(rows)
    assert said in violated(pair, CONSUMER, "result", lambda _: released(body), rows=rows)


def test_a_violation_leaves_nothing_that_later_answers_wrongly(pair: Pair) -> None:
    violated(pair, SENDER, "left", lambda payload: payload[::-1], rows=PEOPLE[1:])
    assert pair.ask(PEOPLE[1:]) == common(PEOPLE[1:])


# --- Its parts ------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), max_size=40))
def test_bits_read_back_as_written(bits: list[bool]) -> None:
    assert parse_bits(encode_bits(bits), SENDER, len(bits)) == bits


@given(st.sets(st.binary(min_size=3, max_size=3), max_size=40), st.binary(min_size=3, max_size=3))
def test_a_table_has_what_is_in_it_and_nothing_else(records: set[bytes], other: bytes) -> None:
    table = Table.of(sorted(records), 3)
    assert list(table) == sorted(records)
    assert all(table.has(record) for record in records)
    assert table.has(other) == (other in records)


def test_the_kind_takes_rows_that_are_checked_as_they_come() -> None:
    rows = CheckedRows(InBatches([*PEOPLE, ""], 5), ("identifier",), (), 100)
    with pytest.raises(PrivacyError, match="1 rows are empty"):
        Pair().meet(rows)
    assert CACHED.caches
    assert not CACHED.resumable
