"""The fuzzer itself: it repeats itself by its seed, and it finds what is planted."""

from __future__ import annotations

import json
import random
import time
from multiprocessing import Pipe

import pytest

from tests.fuzz import worker
from tests.fuzz.altering import cells, lines, octets, signed, tree
from tests.fuzz.target import Prepared, Target
from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import Done, Finding, input_of, work

PLAIN = Prepared(read=bytes.decode, examples=[b'{"a": [1, {"b": "c"}]}'], alter=tree)


class Refused(Exception):
    pass


def found(monkeypatch: pytest.MonkeyPatch, prepared: Prepared, inputs: int) -> list[object]:
    """What a run over a target says, in this process."""
    monkeypatch.setattr(worker, "TARGETS", {"planted": Target("planted", "", lambda: prepared)})
    monkeypatch.setattr(worker.resource, "setrlimit", lambda *_: None)
    ours, theirs = Pipe()
    work("planted", 1, 0, inputs, theirs)
    told = []
    while ours.poll():
        told.append(ours.recv())
    return [one for one in told if not isinstance(one, int)]


@pytest.mark.parametrize("alter", [octets, lines, tree, cells, signed(json.dumps)])
def test_the_same_seed_gives_the_same_inputs_and_another_seed_others(alter: object) -> None:
    prepared = Prepared(read=len, examples=[b'{"a": [1, {"b": "c,d"}]}'], alter=alter)  # type: ignore[arg-type]
    first, again, other = (
        [input_of(prepared, "x", seed, number) for number in range(40)] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_an_error_that_is_no_refusal_is_found_with_its_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(given: bytes) -> None:
        if b"c" not in given:
            raise KeyError("planted")
        if len(given) % 2:
            raise Refused

    prepared = Prepared(
        read=read, examples=[b"abcd"], alter=octets, special=[b"xy"], refusals=(Refused,)
    )
    told = found(monkeypatch, prepared, 30)
    findings = [one for one in told if isinstance(one, Finding)]
    assert findings[0].number == 0
    assert findings[0].given == b"xy"
    assert findings[0].what.startswith("KeyError: 'planted'")
    (done,) = [one for one in told if isinstance(one, Done)]
    assert done.read + done.refused + len(findings) == 30


def test_what_takes_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MAX_SECONDS", 0.05)

    def read(given: bytes) -> None:
        until = time.process_time() + (0.1 if given == b"slow" else 0.0)
        while time.process_time() < until:
            pass

    (finding, _) = found(monkeypatch, Prepared(read, [b""], octets, special=[b"slow"]), 1)
    assert isinstance(finding, Finding)
    assert finding.what.endswith("s for 4 bytes")


def test_what_takes_much_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MAX_GROWTH_BYTES", 20 * 1024 * 1024)
    kept = []

    def read(given: bytes) -> None:
        if given == b"large":
            kept.append(b"x" * (worker._peak_bytes() + 50 * 1024 * 1024))

    (finding, _) = found(monkeypatch, Prepared(read, [b""], octets, special=[b"large"]), 1)
    assert isinstance(finding, Finding)
    assert "MiB more for 5 bytes" in finding.what


def test_an_example_that_is_not_right_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(given: bytes) -> None:
        raise Refused

    with pytest.raises(Refused):
        found(monkeypatch, Prepared(read, [b"a"], octets, refusals=(Refused,)), 1)


def test_every_target_says_what_it_is_about() -> None:
    assert all(target.about and target.name == name for name, target in TARGETS.items())
    rng = random.Random(1)
    assert octets(rng, b"") is not None
