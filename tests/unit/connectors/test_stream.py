import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.collector import Progress, collect
from connectors.conditions import Comparison, Condition
from connectors.errors import InputRejected, Unavailable
from connectors.messages import Shape, parse_message, parse_offset
from connectors.source import Source, open_source
from connectors.windows import Outcome, Windowing, Windows
from tests.servers import free_port
from tests.servers_web import broker, certificate, publish

pytestmark = pytest.mark.xdist_group("brokers")
WORK = Path(__file__).parents[3]


def address(folder: Path, options: str = "", *, port: int = 1883, topic: str = "city/air/#") -> str:
    return f"mqtt://127.0.0.1:{port}/{topic}?into={folder}{options}"


def rows(source: Source, *columns: str, where: tuple[Condition, ...] = ()) -> list[tuple[Any, ...]]:
    read: list[tuple[Any, ...]] = []
    for batch in source.scan(columns, where):
        assert batch.schema.names == list(columns)
        read += zip(*(column.to_pylist() for column in batch.columns), strict=True)
    return read


def column(path: Path, name: str) -> list[int]:
    return [int(cell) for cell in pq.read_table(path)[name].to_pylist()]


# Messages


@pytest.mark.parametrize(
    ("payload", "row"),
    [
        (b'{"id": 440305199001011234, "at": {"v": 1.50}}', ("440305199001011234", "1.50")),
        (b'{"id": [1, "a", 2.0], "at": {"v": true}}', ('[1, "a", 2.0]', "true")),
    ],
)
def test_payloads_are_flattened_and_numbers_stay_as_written(
    tmp_path: Path, payload: bytes, row: tuple[str, ...]
) -> None:
    windows = Windows(tmp_path, Windowing(60, 0, 0), Shape())
    assert windows.accept("a", payload, now=0.0, packet=1, again=False) is Outcome.STORED
    assert windows.close_due(60.0) == 1
    assert rows(open_source(address(tmp_path)), "id", "at.v") == [row]


@pytest.mark.parametrize("payload", [b"21.5", b'"21.5"'])
def test_a_bare_value_is_the_column_value(payload: bytes) -> None:
    message = parse_message(Shape(), "a/b", payload, arrived=1.0)
    assert message is not None
    assert (message.at, message.row) == (1.0, {"value": "21.5"})


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"ON", b'{"a": {"b": 1}, "a.b": 2}', b"9" * 300_000],
)
def test_payloads_that_are_no_row_are_counted_and_not_stored(
    tmp_path: Path, payload: bytes
) -> None:
    windows = Windows(tmp_path, Windowing(60, 0, 0), Shape())
    assert windows.accept("a", payload, now=0.0, packet=1, again=False) is Outcome.MALFORMED
    assert windows.close_due(1e6) == 0


@pytest.mark.parametrize(
    ("cell", "offset", "at"),
    [
        ('"2026-11-30T10:00:00Z"', None, 1796032800.0),
        ('"2026-11-30T18:00:00.250+08:00"', None, 1796032800.25),
        ('"2026-11-30 18:00:00"', "+08:00", 1796032800.0),
        ('"2026-11-30 18:00:00"', None, None),
        ("1796032800", None, 1796032800.0),
        ("1796032800250", None, 1796032800.25),
        ('"yesterday"', None, None),
        ("true", None, None),
        ("1e400", None, None),
    ],
)
def test_the_time_of_a_message_is_read_from_its_field(
    cell: str, offset: str | None, at: float | None
) -> None:
    shape = Shape(time="meta.t", offset=parse_offset(offset) if offset else None)
    message = parse_message(shape, "a", f'{{"meta": {{"t": {cell}}}}}'.encode(), arrived=0.0)
    assert (message.at if message else None) == at


def test_levels_of_the_topic_are_columns_and_win_over_the_payload() -> None:
    shape = Shape(levels=("city", "", "device"))
    message = parse_message(shape, "sz/air", b'{"city": "x", "topic": 1}', arrived=0.0)
    assert message is not None
    assert message.row == {"city": "sz", "device": None, "payload.city": "x", "payload.topic": "1"}


# Windows


def test_a_window_closes_when_its_time_and_that_of_latecomers_are_over(tmp_path: Path) -> None:
    windows = Windows(tmp_path, Windowing(60, 10, 0), Shape(time="t"))

    def accept(at: int, now: float) -> Outcome:
        return windows.accept(
            "a",
            json.dumps({"t": 1_000_000_000 + at}).encode(),
            now=1e9 + now,
            packet=1,
            again=False,
        )

    # 10^9 is 40 s into a window.
    assert accept(0, 0) is Outcome.STORED
    assert accept(19, 29) is Outcome.STORED
    assert windows.close_due(1e9 + 29.9) == 0
    assert windows.close_due(1e9 + 30) == 1
    assert accept(19, 30) is Outcome.LATE
    assert accept(20, 30) is Outcome.STORED
    assert accept(101, 30) is Outcome.EARLY
    # The clock of this machine set back does not open a window anew.
    assert accept(19, 0) is Outcome.LATE


def test_a_topic_without_a_payload_column_in_common_gives_nulls(tmp_path: Path) -> None:
    windows = Windows(tmp_path, Windowing(10, 0, 0), Shape(levels=("kind",)))
    for now, payload in ((0.0, b'{"a": 1}'), (1.0, b'{"b": 2}'), (10.0, b'{"c": 3}')):
        windows.accept("air", payload, now=now, packet=1, again=False)
    assert windows.close_due(20.0) == 2
    source = open_source(address(tmp_path))
    assert source.schema().names == ["time", "topic", "kind", "a", "b", "c"]
    assert rows(source, "a", "c", "kind") == [
        ("1", None, "air"),
        (None, None, "air"),
        (None, "3", "air"),
    ]
    assert rows(source, "c") == [(None,), (None,), ("3",)]
    where = (Condition("time", Comparison.GTEQ, ("1970-01-01 00:00:01Z",)),)
    assert rows(source, "b", where=where) == [("2",), (None,)]


def test_totals_of_a_window_are_those_of_its_messages(tmp_path: Path) -> None:
    shape = Shape(levels=("device",), aggregate=("v", "w"), time="t")
    windows = Windows(tmp_path, Windowing(100, 0, 0), shape)
    for device, value, at in (
        ("a", "1.5", 1),
        ("a", "4.5", 9),
        ("a", '"off"', 3),
        ("b", "7", 2),
        ("a", "NaN", 4),
    ):
        payload = f'{{"t": {1_000_000_000 + at}, "v": {value}}}'.encode()
        assert windows.accept(device, payload, now=1e9, packet=1, again=False) is Outcome.STORED
    assert windows.close_due(2e9) == 1
    source = open_source(address(tmp_path, "&levels=device&aggregate=v,w&time=t"))
    names = ("device", "messages", "v.count", "v.mean", "v.min", "v.max", "v.last", "w.mean")
    assert rows(source, *names) == [
        ("a", 4, 2, 3.0, 1.5, 4.5, 4.5, None),
        ("b", 1, 1, 7.0, 7.0, 7.0, 7.0, None),
    ]


def test_an_equal_message_is_not_taken_for_one_that_is_sent_again(tmp_path: Path) -> None:
    windows = Windows(tmp_path, Windowing(60, 0, 0), Shape())

    def accept(packet: int, *, again: bool) -> Outcome:
        return windows.accept("a", b"1", now=0.0, packet=packet, again=again)

    assert accept(1, again=False) is Outcome.STORED
    assert accept(2, again=True) is Outcome.STORED
    assert accept(1, again=True) is Outcome.REPEATED
    assert accept(1, again=True) is Outcome.REPEATED
    windows.told()
    # The broker has used the number for another message, whose first sending we did not see.
    assert accept(1, again=True) is Outcome.STORED


def test_the_version_is_that_of_the_closed_windows(tmp_path: Path) -> None:
    windows = Windows(tmp_path, Windowing(10, 0, 2), Shape())
    source = open_source(address(tmp_path))
    with pytest.raises(InputRejected, match="no window is closed yet"):
        source.version()
    seen = set()
    for number in range(4):
        windows.accept("a", b"1", now=number * 10.0, packet=1, again=False)
        windows.close_due(number * 10.0 + 10)
        seen.add(source.version())
        windows.accept("a", b"1", now=number * 10.0 + 10, packet=1, again=False)
        windows.write()
        assert source.version() in seen
    assert len(seen) == 4
    assert source.description()["closed windows"] == "2"


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.integers(0, 9).map(lambda n: ("message", n)),
            st.sampled_from([("write", 0), ("crash", 0), ("torn", 0), ("tick", 0)]),
        ),
        max_size=30,
    )
)
def test_no_acknowledged_message_is_lost_or_doubled_by_crashes(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("windows")
    windowing = Windowing(10, 0, 0)
    windows = Windows(folder, windowing, Shape())
    now, sent = 0.0, 0
    unacknowledged: list[tuple[int, bytes]] = []
    for step, number in steps:
        if step == "message":
            payload = json.dumps({"n": sent, "x": "y" * number}).encode()
            sent += 1
            unacknowledged.append((sent, payload))
            assert windows.accept("a", payload, now=now, packet=sent, again=False) is Outcome.STORED
        elif step == "write":
            windows.write()
            windows.told()
            unacknowledged.clear()
        elif step == "tick":
            windows.close_due(now := now + 4.0)
        else:
            # A crash: what is in memory is gone, and a record may be cut off.
            if step == "torn":
                windows.write()
                for journal in folder.glob(".open-*"):
                    with journal.open("ab") as file:
                        file.write(b"\x00" * 9)
            windows.release()
            windows = Windows(folder, windowing, Shape())
            for packet, payload in unacknowledged:
                windows.accept("a", payload, now=now, packet=packet, again=True)
    windows.close_due(now + 10.0)
    found = [one for path in folder.glob("*.parquet") for one in column(path, "n")]
    assert sorted(found) == list(range(sent))
    assert not list(folder.glob(".open-*"))


# Collecting


@pytest.fixture(scope="module")
def mqtt() -> Iterator[int]:
    with broker() as port:
        yield port


class Until:
    """Stops a collection once `enough` messages came; its clock then stands at `end`."""

    def __init__(self, enough: int, end: float) -> None:
        self.stop = threading.Event()
        self.enough, self.end, self.now = enough, end, 1_000.0

    def tell(self, progress: Progress) -> None:
        if progress.connected and progress.received >= self.enough:
            self.now = self.end
            self.stop.set()


def test_messages_of_a_broker_become_closed_windows(mqtt: int, tmp_path: Path) -> None:
    folder = tmp_path / "air"
    url = address(folder, "&window=60&levels=city,kind,device", port=mqtt)
    until = Until(0, 1_000.0)
    # The first time only subscribes; the broker keeps what comes while nobody collects.
    assert collect(url, until.stop, tell=until.tell, clock=lambda: until.now).connected
    publish(mqtt, [("city/air/d1", f'{{"n": {n}}}'.encode()) for n in range(99)])
    publish(mqtt, [("city/air/d2", b"not json"), ("city/water/d1", b"1")])
    until = Until(100, 1_100.0)
    progress = collect(url, until.stop, tell=until.tell, clock=lambda: until.now)
    assert progress.outcomes[Outcome.STORED] == 99
    assert progress.outcomes[Outcome.MALFORMED] == 1
    assert (progress.closed, progress.open) == (1, 0)
    read = rows(open_source(url), "n", "device", "kind")
    assert read == [(str(n), "d1", "air") for n in range(99)]
    with pytest.raises(InputRejected, match="another topic, width or form"):
        collect(address(folder, "&window=30", port=mqtt), until.stop)


def test_nobody_listening_is_unavailable_and_a_folder_has_one_collector(tmp_path: Path) -> None:
    url = address(tmp_path, port=free_port())
    with pytest.raises(Unavailable, match="cannot be reached"):
        collect(url, threading.Event())


@pytest.mark.parametrize(
    "url",
    [
        "mqtt:///a?into=/x",
        "mqtt://h/?into=/x",
        "mqtt://h/a",
        "mqtt://h/a?into=relative",
        "mqtt://h/a#b/c?into=/x",
        "mqtt://h/#/a?into=/x",
        "mqtt://h/a+?into=/x",
        "mqtt://h/a?into=/x&window=0",
        "mqtt://h/a?into=/x&window=sixty",
        "mqtt://h/a?into=/x&levels=a,a",
        "mqtt://h/a?into=/x&levels=time",
        "mqtt://h/a?into=/x&keys=a",
        "mqtt://h/a?into=/x&offset=8",
        "mqtt://u:p@h/a?into=/x",
    ],
)
def test_a_wrong_address_is_refused_before_anything_is_asked(url: str) -> None:
    with pytest.raises(InputRejected):
        open_source(url)


@contextmanager
def collector(url: str) -> Iterator[subprocess.Popen[bytes]]:
    code = "import sys, threading; from connectors.collector import collect; "
    code += "collect(sys.argv[1], threading.Event())"
    process = subprocess.Popen([sys.executable, "-c", code, url], cwd=WORK)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def written(folder: Path) -> set[tuple[str, int]]:
    return {(path.name, path.stat().st_size) for path in folder.glob(".open-*")}


@pytest.mark.slow
def test_a_collector_that_is_killed_loses_no_message(mqtt: int, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    url = address(folder, "&window=1&client=killed", port=mqtt, topic="kill/#")
    until = Until(0, 0)
    collect(url, until.stop, tell=until.tell)
    sent = 0
    for _ in range(4):
        before = written(folder)
        with collector(url) as process:
            # It is killed while messages come, wherever it then is with those before.
            for _ in range(5_000):
                publish(mqtt, [("kill/d", str(n).encode()) for n in range(sent, sent + 20)])
                sent += 20
                if written(folder) != before:
                    break
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    found: list[int] = []
    until = Until(10**9, 0)

    def tell(progress: Progress) -> None:
        found[:] = [one for path in folder.glob("*.parquet") for one in column(path, "value")]
        if len(set(found)) == sent and not progress.open:
            until.stop.set()

    watchdog = threading.Timer(300, until.stop.set)
    watchdog.start()
    collect(url, until.stop, tell=tell)
    watchdog.cancel()
    assert sorted(found) == list(range(sent))


@pytest.mark.slow
def test_a_broker_that_wants_a_password_and_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = certificate(tmp_path)
    monkeypatch.setenv("CITY_MQTT", "pass-of-node")
    # PBKDF2 of mosquitto 2 over the password, as mosquitto_passwd writes it.
    salt = b"twelve bytes"
    digest = hashlib.pbkdf2_hmac("sha512", b"pass-of-node", salt, 101)
    hashed = "$".join(base64.b64encode(one).decode() for one in (salt, digest))
    with broker(tls=tls, users=f"node:$7$101${hashed}\n") as port:
        options = f"into={tmp_path / 'windows'}&secret=env:CITY_MQTT"
        until = Until(0, 1_000.0)
        trusting = f"mqtts://node@127.0.0.1:{port}/a/#?{options}&ca={tls[0]}"
        end = collect(trusting, until.stop, tell=until.tell, clock=lambda: until.now)
        assert end.connected
        with pytest.raises(InputRejected, match="certificate that is not trusted"):
            collect(f"mqtts://node@127.0.0.1:{port}/a/#?{options}", threading.Event())
        monkeypatch.setenv("CITY_MQTT", "another")
        with pytest.raises(InputRejected, match="refuses the connection") as refused:
            collect(trusting, threading.Event())
        assert "another" not in str(refused.value)


@pytest.mark.slow
def test_a_collector_outlives_its_broker(tmp_path: Path) -> None:
    port = free_port()
    url = address(tmp_path / "outlives", "&window=1", port=port, topic="a/#")
    stop = threading.Event()
    seen: list[Progress] = []
    changed = threading.Condition()

    def tell(progress: Progress) -> None:
        with changed:
            seen.append(progress)
            changed.notify_all()

    def await_(*, connected: bool, received: int) -> None:
        def is_so() -> bool:
            return seen[-1].connected is connected and seen[-1].received >= received

        with changed:
            assert changed.wait_for(lambda: bool(seen) and is_so(), 60)

    thread = threading.Thread(target=collect, args=(url, stop), kwargs={"tell": tell})
    with broker(port=port):
        thread.start()
        await_(connected=True, received=0)
        publish(port, [("a/b", b"1")])
        await_(connected=True, received=1)
    await_(connected=False, received=1)
    with broker(port=port):
        await_(connected=True, received=1)
        publish(port, [("a/b", b"2")])
        await_(connected=True, received=2)
        stop.set()
        thread.join()
    assert seen[-1].outcomes[Outcome.STORED] == 2
