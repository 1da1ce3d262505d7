"""SecretFlow's spu as an engine: what peers may say of a link, and results like anybody's.

The longer tests install spu beside the project, under .tools, where that can be done.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataspace.computing.spu_engine import (
    Link,
    SpuEngine,
    SpuPlace,
    encode_keys,
    parse_keys,
    self_signed,
    spu_version,
)
from dataspace.errors import InputRejected
from privacy.computation import CONSUMER, Inputs, Parameters
from privacy.engine import (
    KKRT,
    RR22,
    EngineOffer,
    EngineRun,
    EngineUnavailable,
    choose_protocol,
    large_enough,
)
from privacy.errors import PrivacyError, ProtocolViolation, Withheld
from privacy.intersection import BOTH
from privacy.role import Progress, Receive, Role, Send

# One worker, as two would install the engine into the same place.
pytestmark = pytest.mark.xdist_group("spu")
ROOT = Path(__file__).resolve().parents[3]
SPU = "spu==0.9.5"


def link(**changes: object) -> bytes:
    certificate, _ = self_signed(datetime(2026, 11, 25, tzinfo=UTC), 300)
    fields = {"version": "0.9.5", "certificate": certificate, "host": "127.0.0.1", "port": 4000}
    return json.dumps(fields | changes).encode()


def test_a_link_reads_back() -> None:
    read = Link.parse(link(), "sender", listens=True)
    assert (read.host, read.port, read.version) == ("127.0.0.1", 4000, "0.9.5")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"\xff",
        link(port=0),
        link(port="4000"),
        link(port=70000),
        link(host=None),
        link(host=7),
        link(certificate="no certificate"),
        link(version="9" * 40),
        link(more=1),
        b"[" * 4096,
    ],
    ids=range(12),
)
def test_a_link_that_is_none_is_the_peers_fault(payload: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="sender sent a link to its engine that is none"):
        Link.parse(payload, "sender", listens=True)


def test_who_dials_names_no_address() -> None:
    with pytest.raises(ProtocolViolation):
        Link.parse(link(), "consumer", listens=False)
    assert Link.parse(link(host=None, port=None), "consumer", listens=False).port is None


@given(st.lists(st.binary(min_size=12, max_size=12), max_size=40, unique=True))
def test_keys_read_back_from_the_file_spu_reads_and_writes(keys: list[bytes]) -> None:
    assert parse_keys(encode_keys(keys).decode()) == keys
    with pytest.raises(EngineUnavailable):
        parse_keys("other\n" + encode_keys(keys).decode())


def test_an_interpreter_without_spu_is_refused_with_how_to_install_it(tmp_path: Path) -> None:
    for python in (Path(sys.executable), tmp_path / "nothing"):
        with pytest.raises(InputRejected, match="spu_python") as refused:
            spu_version(python)
        assert "pip install" in (refused.value.remedy or "")


def test_size_or_the_order_chooses_the_engine_and_both_sides_choose_alike() -> None:
    both, neither = EngineOffer((RR22, KKRT), bytes(16)), EngineOffer((), bytes(16))
    assert choose_protocol(None, both, both) == RR22
    assert choose_protocol(None, both, neither) is None
    assert choose_protocol("ecdh", both, both) is None
    assert choose_protocol(KKRT, both, both) == KKRT
    for own, theirs, who in ((both, neither, "the other side"), (neither, both, "this side")):
        with pytest.raises(EngineUnavailable, match=f"{who} has not"):
            choose_protocol(RR22, own, theirs)
    assert not large_enough(None, 1000, 100_000)
    assert large_enough(None, 1000, 200_000)
    assert not large_enough(None, 1000, 2_000_001)
    assert large_enough(RR22, 10, 10)
    with pytest.raises(EngineUnavailable, match="at most 2000000"):
        large_enough(RR22, 10, 2_000_001)


@given(st.binary(max_size=20))
def test_an_offer_reads_back_or_is_refused(payload: bytes) -> None:
    try:
        offer = EngineOffer.parse(payload, "sender")
    except ProtocolViolation:
        return
    assert offer.encode() == payload


# With spu


@pytest.fixture(scope="session")
def spu_python() -> Path:
    """An interpreter with spu, installed once under .tools."""
    directory = ROOT / ".tools" / "spu"
    python = directory / "bin" / "python"
    if python.exists():
        return python
    uv = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
    commands = (
        [uv, "venv", "--quiet", "--python", "3.11", str(directory)],
        [uv, "pip", "install", "--quiet", "--python", str(python), "--no-deps", SPU],
    )
    for command in commands:
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=600)
        except (OSError, subprocess.SubprocessError):
            shutil.rmtree(directory, ignore_errors=True)
            pytest.skip(f"{SPU} cannot be installed on this machine")
    return python


@pytest.fixture
def engines(spu_python: Path, tmp_path: Path) -> Iterator[dict[str, SpuEngine]]:
    place = SpuPlace(spu_python, tmp_path, deadline_s=60.0, silence_s=20.0)
    made = {party: SpuEngine(place, lambda _: None) for party in ("sender", CONSUMER)}
    yield made
    for engine in made.values():
        engine.close()
    assert list(tmp_path.iterdir()) == []


def started(engines: dict[str, SpuEngine], inputs, protocol: str, min_cohort: int = 5):
    parameters = Parameters(min_cohort, settings={"engine": protocol})
    return {
        party: BOTH.start(
            party, ("sender", CONSUMER), rows, parameters, None, engine=engines[party]
        )
        for party, rows in inputs.items()
    }


def by_turns(roles: dict[str, Role]) -> dict[str, object]:
    """Drive both roles a step at a time, as two nodes would at the same time."""
    answers: dict[str, bytes | None] = dict.fromkeys(roles)
    frames: dict[str, list[bytes]] = {party: [] for party in roles}
    waiting: set[str] = set()
    ends: dict[str, object] = {}
    while len(ends) < len(roles):
        for party, role in roles.items():
            if party in ends or (party in waiting and not frames[party]):
                continue
            answer = frames[party].pop(0) if party in waiting else None
            waiting.discard(party)
            try:
                step = role.send(answer)
            except StopIteration as ended:
                ends[party] = ended.value
                continue
            except PrivacyError as err:
                ends[party] = err
                continue
            if isinstance(step, Send):
                frames[step.to].append(step.payload)
            elif isinstance(step, Receive):
                waiting.add(party)
            else:
                assert isinstance(step, Progress)
        stuck = [p for p in roles if p not in ends and p in waiting and not frames[p]]
        if stuck and len(stuck) + len(ends) == len(roles):
            break
    assert answers
    return ends


def sets(count: int = 4000) -> dict[str, Inputs]:
    return {
        "sender": Inputs(tuple(f"person-{n}" for n in range(count // 2, count // 2 + count))),
        CONSUMER: Inputs((*(f"person-{n}" for n in range(count)), "person-1", "张三")),
    }


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [RR22, KKRT])
def test_an_engine_finds_what_plain_sets_have_in_common(engines, protocol) -> None:
    inputs = sets()
    ends = by_turns(started(engines, inputs, protocol))
    expected = BOTH.reference(inputs, Parameters(5))
    assert {party: end.value for party, end in ends.items()} == dict.fromkeys(inputs, expected)
    assert ends[CONSUMER].report == {"rows": 4002, "distinct": 4001, "duplicates": 1}


@pytest.mark.slow
def test_the_provider_holds_back_what_is_below_the_cohort(engines) -> None:
    ends = by_turns(started(engines, sets(), RR22, min_cohort=2001))
    assert {type(end) for end in ends.values()} == {Withheld}


@pytest.mark.slow
def test_a_peer_that_never_comes_ends_the_run_with_its_name(spu_python, tmp_path) -> None:
    place = SpuPlace(spu_python, tmp_path, deadline_s=20.0, silence_s=3.0)
    engine = SpuEngine(place, lambda _: None)
    engine.prepare(EngineRun(RR22, True, [bytes(11) + bytes([n]) for n in range(9)], "consumer"))
    engine.begin(link(host=None, port=None))
    with pytest.raises(EngineUnavailable, match="engine of consumer"):
        engine.finished(30.0)
    engine.close()
    assert list(tmp_path.iterdir()) == []


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [n.to_bytes(12, "big") for n in range(first, first + count)]


def met(engines: dict[str, SpuEngine], size: int, **shown: bytes) -> None:
    """Begin a run of both engines; `shown` is the link a side is shown in place of the other's."""
    links = {
        party: engine.prepare(EngineRun(RR22, party == "sender", numbered(size), party + "'s peer"))
        for party, engine in engines.items()
    }
    engines["sender"].begin(shown.get("sender", links[CONSUMER]))
    engines[CONSUMER].begin(links["sender"])


@pytest.mark.slow
def test_a_side_that_vanishes_ends_the_other_at_once_and_by_name(engines) -> None:
    met(engines, 300_000)
    assert not engines["sender"].finished(0.3)
    engines[CONSUMER].close()
    with pytest.raises(EngineUnavailable, match="engine of sender's peer left before it was done"):
        engines["sender"].finished(5.0)


@pytest.mark.slow
def test_a_side_that_hangs_ends_both_by_name(spu_python, tmp_path) -> None:
    place = SpuPlace(spu_python, tmp_path, deadline_s=60.0, silence_s=4.0)
    engines = {party: SpuEngine(place, lambda _: None) for party in ("sender", CONSUMER)}
    met(engines, 300_000)
    assert not engines["sender"].finished(0.3)
    process = engines[CONSUMER]._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(EngineUnavailable, match="engine of sender's peer was silent for too long"):
        engines["sender"].finished(20.0)
    engines["sender"].close()
    process.send_signal(signal.SIGCONT)
    with pytest.raises(EngineUnavailable, match="engine of consumer's peer"):
        engines[CONSUMER].finished(20.0)
    engines[CONSUMER].close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_who_has_another_certificate_does_not_get_in(spu_python, tmp_path) -> None:
    place = SpuPlace(spu_python, tmp_path, deadline_s=30.0, silence_s=3.0)
    engines = {party: SpuEngine(place, lambda _: None) for party in ("sender", CONSUMER)}
    met(engines, 10, sender=link(host=None, port=None))
    for engine in engines.values():
        with pytest.raises(EngineUnavailable, match="peer"):
            engine.finished(20.0)
        engine.close()


@pytest.mark.slow
def test_nothing_is_left_when_the_node_is_killed(spu_python, tmp_path) -> None:
    owner = f"""
import sys, time
from pathlib import Path
from dataspace.computing.spu_engine import SpuEngine, SpuPlace
from privacy.engine import EngineRun
engine = SpuEngine(SpuPlace(Path({str(spu_python)!r}), Path({str(tmp_path)!r})), print)
engine.prepare(EngineRun("rr22", True, [bytes(12)], "consumer"))
print(engine._process.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", owner], cwd=ROOT, stdout=subprocess.PIPE) as node:
        assert node.stdout is not None
        worker = int(node.stdout.readline())
        node.kill()
    until = time.monotonic() + 10
    while list(tmp_path.iterdir()) or is_running(worker):
        assert time.monotonic() < until
        time.sleep(0.05)


def is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
