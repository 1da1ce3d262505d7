"""Every member of the registry, held against its plain reference, with and without faults."""

import functools
import hashlib
import inspect
import json
import secrets
from collections.abc import Callable, Iterable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import InputRejected, PrivacyError, ProtocolViolation, Withheld
from privacy.kinds import CONSUMER, KINDS, ConsumerSecrets, Inputs, Kind, Parameters
from privacy.paillier import PrivateKey, generate_keypair
from privacy.role import Outcome, Receive, Role, run_in_memory
from privacy.transcript import Transcribed, transcribed

PRIVATE_KEY: PrivateKey = generate_keypair()
GROUPS = ("north", "south", "新区")
EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
KEYED = [kind for kind in KINDS.values() if kind.needs_key]
# Curve and Paillier arithmetic takes tens of milliseconds an example, so most are for test-slow.
few = settings(max_examples=3, deadline=None)
many = settings(max_examples=40, deadline=None)

identifiers = st.lists(st.sampled_from(["a", "b", "c", "d", "张三", "é", " "]), max_size=6)
values = st.one_of(st.integers(-100, 100), st.integers(-(2**63) + 1, 2**63 - 1))


@st.composite
def rows(draw: st.DrawFn, columns: tuple[str, ...]) -> Inputs:
    names = draw(identifiers)
    if "identifier" not in columns and "value" not in columns:
        return Inputs()
    numbers = draw(st.lists(values, min_size=len(names), max_size=len(names)))
    groups = draw(st.lists(st.sampled_from(GROUPS), min_size=len(names), max_size=len(names)))
    return Inputs(
        tuple(names) if "identifier" in columns else (),
        tuple(numbers) if "value" in columns else (),
        tuple(groups) if "group" in columns else (),
    )


@st.composite
def computations(draw: st.DrawFn, kind: Kind) -> tuple[dict[str, Inputs], Parameters]:
    least, most = kind.providers
    parties = kind.roles(draw(st.integers(least, min(most, 4))))
    inputs = {party: draw(rows(kind.columns_of(party))) for party in parties}
    return inputs, parameters_of(kind, draw(st.integers(0, 3)))


def parameters_of(kind: Kind, min_cohort: int) -> Parameters:
    public_key = PRIVATE_KEY.public_key.to_hex() if kind.needs_key else None
    grouped = any("group" in columns for columns in kind.columns.values())
    return Parameters(min_cohort, public_key, GROUPS if grouped else ())


def roles_of(kind: Kind, inputs: Mapping[str, Inputs], parameters: Parameters) -> dict[str, Role]:
    parties = kind.roles(len(inputs) - 1)
    owner = ConsumerSecrets(PRIVATE_KEY) if kind.needs_key else None
    return {
        party: kind.start(
            party, parties, inputs[party], parameters, owner if party == CONSUMER else None
        )
        for party in parties
    }


def example_of(kind: Kind, min_cohort: int = 2) -> tuple[dict[str, Inputs], Parameters]:
    """A computation with cohorts of 4 identifiers or 2 rows a group; each party brings 5 or 6."""
    parties = kind.roles(max(2, kind.providers[0]) if kind.providers[1] > 1 else 1)
    inputs = {}
    for party in parties:
        columns = kind.columns_of(party)
        inputs[party] = Inputs(
            ("a", "b", "c", "d", "d", f"only-{party}") if "identifier" in columns else (),
            (5, -(2**40), 3, 4, -4, 9) if "value" in columns else (),
            GROUPS * 2 if "group" in columns else (),
        )
    return inputs, parameters_of(kind, min_cohort)


def catching(role: Role):
    """Return what the role returns or the typed error it raises, so that the others go on."""
    try:
        return (yield from role)
    except PrivacyError as error:
        return error


def altering(role, number: int, change: Callable[[bytes], bytes]):
    """Give `role` its received frame of that number changed, as an attacker on the way would."""
    received, payload = 0, None
    try:
        while True:
            step = role.send(payload)
            payload = yield step
            if isinstance(step, Receive):
                payload = change(payload) if received == number else payload
                received += 1
    except StopIteration as ended:
        return ended.value
    finally:
        role.close()


def counting(role, counts: dict[str, int], party: str):
    """Count the steps and the received frames of a role."""
    payload = None
    try:
        while True:
            step = role.send(payload)
            counts[party, "steps"] = counts.get((party, "steps"), 0) + 1
            payload = yield step
            if isinstance(step, Receive):
                counts[party, "frames"] = counts.get((party, "frames"), 0) + 1
    except StopIteration as ended:
        return ended.value


def aborting(role, after_steps: int):
    """Stop a role at one of its steps, as a lost connection does."""
    payload = None
    try:
        for _ in range(after_steps):
            payload = yield role.send(payload)
    finally:
        role.close()
    raise ProtocolViolation("the connection is gone")


def signing(party: str) -> Callable[[bytes], bytes]:
    return lambda digest: hashlib.sha256(party.encode() + digest).digest()


def verify(party: str, digest: bytes, signature: bytes) -> bool:
    return signature == signing(party)(digest)


def transcribed_roles(kind: Kind, inputs: Mapping[str, Inputs], parameters: Parameters):
    roles = roles_of(kind, inputs, parameters)
    return {
        party: transcribed(
            role,
            me=party,
            parties=tuple(roles),
            collector=CONSUMER,
            context=hashlib.sha256(b"order").digest(),
            sign=signing(party),
            verify=verify,
            random_bytes=secrets.token_bytes,
        )
        for party, role in roles.items()
    }


@functools.cache
def places(name: str, make) -> list[tuple[str, str, int]]:
    """Count the steps and frames of every party in an undisturbed run of the example."""
    counts: dict = {}
    roles = make(KINDS[name], *example_of(KINDS[name]))
    run_in_memory({party: counting(role, counts, party) for party, role in roles.items()})
    return [(party, what, n) for (party, what), n in sorted(counts.items())]


changes = st.one_of(
    st.integers(0, 2**16).map(
        lambda bit: (
            lambda p: (
                bytes(b ^ ((i == bit // 8 % len(p)) << bit % 8) for i, b in enumerate(p))
                if p
                else b"\x01"
            )
        )
    ),
    st.integers(1, 40).map(lambda cut: lambda p: p[:-cut] if p else b"\x00"),
    st.binary(min_size=1, max_size=40).map(lambda more: lambda p: p + more),
    st.binary(max_size=80).map(lambda new: lambda p: new if new != p else new + b"\x00"),
    st.just(lambda p: p[::-1] if p[::-1] != p else p + b"\x00"),
    st.sampled_from([b"[" * 5000, b"\xff" * 300, b"[]", b"null", b"1" * 5000, b'{"a":1}']).map(
        lambda new: lambda p: new
    ),
)


@EVERY_KIND
@settings(few, max_examples=4)
@given(data=st.data())
def test_the_consumer_gets_what_the_reference_computes_or_all_see_it_withheld(kind, data):
    inputs, parameters = data.draw(computations(kind))
    roles = roles_of(kind, inputs, parameters)
    outcomes = run_in_memory({party: catching(role) for party, role in roles.items()})
    expected = reference_or_rule(kind, inputs, parameters)
    if isinstance(expected, str):
        assert {type(outcome) for outcome in outcomes.values()} == {Withheld}
        assert {outcome.rule for outcome in outcomes.values()} == {expected}
    else:
        assert outcomes[CONSUMER].value == expected
        assert all(isinstance(outcome, Outcome) for outcome in outcomes.values())


def reference_or_rule(kind: Kind, inputs: Mapping[str, Inputs], parameters: Parameters):
    """What the consumer should get, or the name of the rule that holds it back."""
    try:
        return kind.reference(inputs, parameters)
    except Withheld as held_back:
        return held_back.rule


@EVERY_KIND
def test_the_example_is_released_at_one_cohort_and_withheld_at_another(kind):
    inputs, parameters = example_of(kind, min_cohort=2)
    outcome = run_in_memory(roles_of(kind, inputs, parameters))[CONSUMER]
    assert outcome.value == kind.reference(inputs, parameters)
    inputs, parameters = example_of(kind, min_cohort=5)
    with pytest.raises(Withheld, match="ds:minCohort"):
        run_in_memory(roles_of(kind, inputs, parameters))
    with pytest.raises(Withheld, match="ds:minCohort"):
        kind.reference(inputs, parameters)


@EVERY_KIND
def test_a_withheld_result_does_not_say_by_how_much(kind):
    # 5 is held back by the result, 1000 by the mere size of the sets.
    for min_cohort in (5, 1000):
        roles = roles_of(kind, *example_of(kind, min_cohort))
        frames: list[bytes] = []
        roles[CONSUMER] = recording(roles[CONSUMER], frames)
        outcomes = run_in_memory({party: catching(role) for party, role in roles.items()})
        assert frames[-1] == b"\x00"
        assert {str(outcome) for outcome in outcomes.values()} == {
            "the result is held back by the rule ds:minCohort"
        }


def recording(role: Role, frames: list[bytes]):
    payload = None
    try:
        while True:
            step = role.send(payload)
            payload = yield step
            if isinstance(step, Receive):
                frames.append(payload)
    except StopIteration as ended:
        return ended.value


@EVERY_KIND
@few
@given(data=st.data())
def test_an_altered_frame_never_crashes_or_hangs_a_run(kind, data):
    alter_a_frame(kind, data)


@pytest.mark.slow
@EVERY_KIND
@many
@given(data=st.data())
def test_none_of_many_altered_frames_crashes_or_hangs_a_run(kind, data):
    alter_a_frame(kind, data)


def alter_a_frame(kind, data):
    frames = [place for place in places(kind.name, roles_of) if place[1] == "frames"]
    party, _, count = data.draw(st.sampled_from(frames))
    number = data.draw(st.integers(0, count - 1))
    roles = roles_of(kind, *example_of(kind))
    roles[party] = altering(roles[party], number, data.draw(changes))
    try:
        outcomes = run_in_memory(roles)
    except PrivacyError:
        pass
    else:
        # A flipped bit can give another valid point; the transcript, not the role, finds that out.
        assert all(isinstance(outcome, Outcome) for outcome in outcomes.values())
    assert {inspect.getgeneratorstate(role) for role in roles.values()} == {"GEN_CLOSED"}


@EVERY_KIND
@few
@given(data=st.data())
def test_with_a_transcript_no_altered_frame_goes_unnoticed(kind, data):
    alter_a_transcribed_frame(kind, data)


@pytest.mark.slow
@EVERY_KIND
@many
@given(data=st.data())
def test_with_a_transcript_none_of_many_altered_frames_goes_unnoticed(kind, data):
    alter_a_transcribed_frame(kind, data)


def alter_a_transcribed_frame(kind, data):
    frames = [place for place in places(kind.name, transcribed_roles) if place[1] == "frames"]
    party, _, count = data.draw(st.sampled_from(frames))
    number = data.draw(st.integers(0, count - 1))
    roles = transcribed_roles(kind, *example_of(kind))
    roles[party] = altering(roles[party], number, data.draw(changes))
    with pytest.raises((ProtocolViolation, Withheld)):
        run_in_memory(roles)
    assert {inspect.getgeneratorstate(role) for role in roles.values()} == {"GEN_CLOSED"}


@EVERY_KIND
def test_an_abort_at_the_ends_and_in_the_middle_leaves_no_role_running(kind):
    abort(kind, lambda count: sorted({0, 1, count // 2, count - 1, count}))


@pytest.mark.slow
@EVERY_KIND
def test_an_abort_at_any_step_leaves_no_role_running(kind):
    abort(kind, lambda count: range(count + 1))


def abort(kind: Kind, steps_of: Callable[[int], Iterable[int]]):
    """End each party at these of its steps, once each."""
    for party, what, count in places(kind.name, roles_of):
        if what != "steps":
            continue
        for step in steps_of(count):
            inner = roles_of(kind, *example_of(kind))
            roles = dict(inner)
            roles[party] = aborting(inner[party], step)
            with pytest.raises(PrivacyError):
                run_in_memory(roles)
            states = {inspect.getgeneratorstate(role) for role in inner.values()}
            assert states == {"GEN_CLOSED"}


@EVERY_KIND
def test_everyone_signs_the_same_transcript_and_the_outcome_is_unchanged(kind):
    inputs, parameters = example_of(kind)
    results = run_in_memory(transcribed_roles(kind, inputs, parameters))
    parties = kind.roles(len(inputs) - 1)
    assert all(isinstance(result, Transcribed) for result in results.values())
    assert len({result.digest for result in results.values()}) == 1
    digest = results[CONSUMER].digest
    expected = {party: signing(party)(digest) for party in parties}
    assert all(result.signatures == expected for result in results.values())
    assert results[CONSUMER].outcome.value == kind.reference(inputs, parameters)


@EVERY_KIND
def test_a_withheld_result_ends_every_transcribed_role_too(kind):
    roles = transcribed_roles(kind, *example_of(kind, min_cohort=5))
    outcomes = run_in_memory({party: catching(role) for party, role in roles.items()})
    assert {type(outcome) for outcome in outcomes.values()} == {Withheld}


@EVERY_KIND
def test_outcomes_are_json_and_every_party_is_described(kind):
    inputs, parameters = example_of(kind)
    for party, outcome in run_in_memory(roles_of(kind, inputs, parameters)).items():
        assert json.loads(json.dumps(outcome.value)) == outcome.value
        assert kind.leakage_of(party).endswith(".")
        assert (outcome.value is None) == (kind.result.get(party, "nothing") == "nothing")
        assert set(kind.columns_of(party)) <= {"identifier", "value", "group"}


@EVERY_KIND
def test_wrong_parties_roles_and_numbers_of_providers_are_rejected(kind):
    inputs, parameters = example_of(kind)
    parties = kind.roles(len(inputs) - 1)
    with pytest.raises(InputRejected, match="the parties"):
        kind.start(CONSUMER, parties[::-1], Inputs(), parameters, None)
    with pytest.raises(InputRejected, match="no role 'stranger'"):
        kind.start("stranger", parties, Inputs(), parameters, None)
    for providers in (kind.providers[0] - 1, kind.providers[1] + 1):
        with pytest.raises(InputRejected, match="providers, not"):
            kind.roles(providers)
    with pytest.raises(InputRejected, match="the parties"):
        kind.reference({f"stranger-{party}": Inputs() for party in parties[:-1]}, parameters)
    with pytest.raises(InputRejected, match="min_cohort"):
        kind.start(parties[0], parties, inputs[parties[0]], Parameters(-1), None)


@pytest.mark.parametrize("kind", KEYED, ids=lambda kind: kind.name)
def test_the_consumers_key_is_asked_for_and_checked(kind):
    inputs, parameters = example_of(kind)
    parties = kind.roles(len(inputs) - 1)
    provider = parties[0]
    without = Parameters(parameters.min_cohort, None, parameters.groups)
    with pytest.raises(InputRejected, match="needs the consumer's public key"):
        kind.start(provider, parties, inputs[provider], without, None)
    bad = Parameters(parameters.min_cohort, "f" * 512, parameters.groups)
    with pytest.raises(ProtocolViolation, match="public key"):
        kind.start(provider, parties, inputs[provider], bad, None)
    with pytest.raises(InputRejected, match="needs its private key"):
        kind.start(CONSUMER, parties, Inputs(), parameters, None)
    other = ConsumerSecrets(generate_keypair())
    with pytest.raises(InputRejected, match="does not belong"):
        kind.start(CONSUMER, parties, Inputs(), parameters, other)
