"""A storm ends within its time, whatever does not, and names it."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults import __main__ as faults
from tests.faults import load as loads
from tests.faults import strikes as striking
from tests.faults.load import Load
from tests.faults.plan import Fault, Kind, Operation, Work
from tests.faults.scene import Finding, Scene
from tests.faults.strikes import Strikes


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set when whoever is stuck may go on."""
    release = threading.Event()
    for name in ("LEAVE_S", "LEAST_SETTLE_S", "TELL_S", "LOOK_S"):
        monkeypatch.setattr(faults, name, 0.01)
    monkeypatch.setattr(striking, "STRIKE_S", 0.01)
    monkeypatch.setattr(faults, "_audited", lambda _: [])
    monkeypatch.setattr(faults, "judge", lambda _: [])
    monkeypatch.setattr(faults, "unfinished", lambda _: [])
    monkeypatch.setattr(faults, "_pictures", lambda *_: {})
    yield release
    release.set()


class Space:
    """Nodes that are back, in a world without faults."""

    def __init__(self) -> None:
        self.proxy = SimpleNamespace(active=True)
        self.nodes = {
            "insurer": SimpleNamespace(name="insurer", clock=None, disk=None, network=None)
        }

    def __getitem__(self, name: str) -> SimpleNamespace:
        return self.nodes[name]

    def all_back(self) -> None:
        """They never were away."""


@pytest.fixture
def space() -> Any:
    return Space()


@pytest.fixture
def load(space: Any) -> Load:
    return Load(space, SimpleNamespace(truth=lambda: None))  # type: ignore[arg-type]


def calm(space: Any, load: Load, strikes: Strikes) -> list[Finding]:
    return faults._calm(space, load, strikes, None, [], 0.05)  # type: ignore[arg-type]


def test_an_operation_that_never_ends_is_named(
    space: Any,
    load: Load,
    stuck: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(loads._STEPS, Work.AGREE, lambda *_: stuck.wait())
    load.begin(Operation(7, Work.AGREE, "insurer"))
    (found,) = calm(space, load, Strikes(space, load))
    assert found == Finding("owner-waits", "", "operation 7, agree with insurer")
    assert "still awaited: operation 7, agree with insurer" in capsys.readouterr().out


def test_what_the_nodes_do_not_end_is_told_and_left_to_the_verdict(
    space: Any,
    load: Load,
    stuck: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    left = Finding("leftover", "insurer", "spool/6f0d2a34")

    def always(_: Scene) -> list[Finding]:
        return [left]

    monkeypatch.setattr(faults, "TELL_S", 0.0)
    monkeypatch.setattr(faults, "unfinished", always)
    monkeypatch.setattr(faults, "judge", always)
    assert calm(space, load, Strikes(space, load)) == [left]
    assert "still awaited: leftover at insurer: spool/6f0d2a34" in capsys.readouterr().out


def test_a_fault_that_does_not_end_is_named(
    space: Any, load: Load, stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    strikes = Strikes(space, load)
    monkeypatch.setattr(striking, "_STRIKES", {Kind.KILL: lambda *_: stuck.wait()})
    strikes.begin(Fault(3, Kind.KILL, "insurer", 0.0, 0.0, 0.0))
    strikes.wait()
    assert strikes.trouble == ["fault 3 did not end"]
