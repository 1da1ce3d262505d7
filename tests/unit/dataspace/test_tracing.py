"""A trace goes on from request to process to peer, and what a peer says of it is only a name."""

from __future__ import annotations

import io
import json
import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from dataspace.operations import notifying, tracing
from dataspace.operations.figures import Figures
from dataspace.operations.logs import configure_logging, covered
from dataspace.operations.tracing import (
    Parent,
    Trace,
    about,
    current,
    in_this_trace,
    new_parent,
    outgoing,
    parse_traceparent,
    span,
    within_trace,
)
from dataspace.operations.watching import Watching
from dataspace.outbound import outbound_client
from dataspace.processes import Handler, Process, ProcessEngine, schedule
from dataspace.settings import LogFormat, LogLevel
from dataspace.store.engine import Store

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged, as JSON lines."""
    before, handlers = structlog.get_config(), logging.getLogger().handlers[:]
    level = logging.getLogger().level
    stream = io.StringIO()
    configure_logging(LogLevel.DEBUG, LogFormat.JSON, stream=stream)
    yield stream
    structlog.configure(**before)
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-" + TRACE_ID + "-0000000000000000-01",
        "ff-" + GOOD[3:],
        GOOD.upper(),
        GOOD + "-more",
        GOOD + "\n",
        " " + GOOD,
        GOOD[:-1],
        "00-" + TRACE_ID + "-00f067aa0ba902b7-0١",
        "01-" + GOOD[3:] + "-" + "x" * 200,
    ],
)
def test_a_header_that_is_not_of_the_form_names_no_parent(text: str | None) -> None:
    assert parse_traceparent(text) is None


def test_a_header_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert parse_traceparent("01-" + GOOD[3:] + "-later") == Parent(TRACE_ID, "00f067aa0ba902b7")


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_either_names_a_parent_or_none(text: str) -> None:
    found = parse_traceparent(text)
    assert found is None or parse_traceparent(found.to_header()) == found


def test_our_own_header_is_read_back() -> None:
    parent = new_parent()
    assert parse_traceparent(parent.to_header(recorded=True)) == parent


def test_outside_of_a_trace_nothing_is_sent_and_nothing_measured() -> None:
    assert outgoing() is None
    with span("work") as measured:
        assert measured is tracing.NO_SPAN


def test_a_thread_goes_on_in_the_trace_that_started_it() -> None:
    seen: list[str | None] = []
    with within_trace(Trace(Parent(TRACE_ID, "00f067aa0ba902b7"))):
        thread = threading.Thread(target=in_this_trace(lambda: seen.append(outgoing())))
    thread.start()
    thread.join()
    assert seen == [f"00-{TRACE_ID}-00f067aa0ba902b7-00"]


def test_requests_to_others_carry_the_trace() -> None:
    sent: list[str | None] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.headers.get("traceparent"))
        return httpx2.Response(200)

    client = outbound_client()
    client._transport = httpx2.MockTransport(answer)
    client.get("http://peer.example/")
    with within_trace(Trace(Parent(TRACE_ID, "00f067aa0ba902b7"))):
        client.get("http://peer.example/")
    assert sent == [None, f"00-{TRACE_ID}-00f067aa0ba902b7-00"]


def test_a_process_keeps_the_trace_of_its_request_across_a_restart(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'node.sqlite'}")
    store.migrate()
    with within_trace(Trace(Parent(TRACE_ID, "00f067aa0ba902b7"))), store.transaction() as tx:
        schedule(tx, "work", "one", {"asked": 1})
    with store.transaction() as tx:
        schedule(tx, "work", "housekeeping")
    store.close()
    # Another life of the node, which knows of the request by the row alone.
    store = Store(f"sqlite:///{tmp_path / 'node.sqlite'}")
    seen: dict[str, tuple[str, Mapping[str, str], dict[str, Any]]] = {}
    both = threading.Event()

    def handle(process: Process) -> None:
        trace = current()
        assert trace is not None
        seen[process.subject] = (trace.parent.trace_id, trace.fields, process.payload)
        if len(seen) == 2:
            both.set()

    engine = ProcessEngine(store, {"work": Handler(handle)}, fields={"node": "did:web:us"})
    engine.start()
    assert both.wait(20)
    engine.stop()
    store.close()
    trace_id, fields, payload = seen["one"]
    assert trace_id == TRACE_ID
    assert (fields["node"], fields["subject"], payload) == ("did:web:us", "one", {"asked": 1})
    assert fields["process"].isdigit()
    # What no request led to has a trace of its own.
    assert seen["housekeeping"][0] != TRACE_ID


def test_every_line_says_what_it_is_about(lines: io.StringIO) -> None:
    with within_trace(Trace(Parent(TRACE_ID, "00f067aa0ba902b7"), fields={"node": "did:web:us"})):
        with about(computation="c-1", agreement=None):
            structlog.get_logger("x").info("begun", step=1)
        logging.getLogger("library").warning("slow %s", "query")
    ours, theirs = events(lines)
    assert (ours["trace"], ours["node"], ours["computation"]) == (TRACE_ID, "did:web:us", "c-1")
    assert "agreement" not in ours
    assert (theirs["event"], theirs["trace"]) == ("slow query", TRACE_ID)


def test_what_looks_like_a_secret_is_covered_wherever_it_stands(lines: io.StringIO) -> None:
    jwt = "eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJkaWQ6d2ViOnVzIn0.c2lnbmF0dXJl"
    log = structlog.get_logger("x")
    log.info("sent", header=f"Bearer {'k' * 43}", body=f'{{"vp": "{jwt}"}}', token="abc")
    log.info("opened", database="postgresql://node:geheim@db.example/node")
    log.info("made", told=f"a key, dsk_{'a' * 8}_{'q' * 43}, for a program")
    try:
        raise ValueError(f"cannot read {jwt}")
    except ValueError:
        log.exception("broken")
    logging.getLogger("library").error("connect postgresql://node:geheim@db.example/node")
    text = lines.getvalue()
    assert len(events(lines)) == 5
    for secret in (jwt, jwt.split(".")[1], "k" * 43, "q" * 43, "geheim", '"abc"'):
        assert secret not in text
    assert "db.example" in text


def test_a_text_cannot_forge_a_line(lines: io.StringIO) -> None:
    structlog.get_logger("x").info("refused", error='ended\n{"event": "node started"}\x1b[2J')
    assert len(lines.getvalue().splitlines()) == 1


def test_a_long_text_is_cut() -> None:
    assert len(covered("x" * 100_000)) < 5000


class Answering:
    """An application that answers 200 and notes the trace it was called in."""

    def __init__(self) -> None:
        self.traces: list[Trace | None] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.traces.append(current())
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"four"})


def ask(app: Watching, *headers: tuple[bytes, bytes], path: str = "/api/status") -> None:
    import asyncio

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"123"}

    async def send(message: Any) -> None:
        return None

    scope = {"type": "http", "method": "GET", "path": path, "headers": list(headers)}
    asyncio.run(app(scope, receive, send))


def test_a_request_goes_on_in_the_callers_trace_unless_its_header_is_ambiguous() -> None:
    inner = Answering()
    app = Watching(inner, figures=Figures(), spans=None, fields={"node": "us"})
    ask(app, (b"traceparent", GOOD.encode()))
    ask(app, (b"traceparent", GOOD.encode()), (b"traceparent", GOOD.encode()))
    ask(app, (b"traceparent", b"\xff" * 55))
    first, *others = [trace.parent.trace_id for trace in inner.traces if trace is not None]
    assert first == TRACE_ID
    assert TRACE_ID not in others
    assert len(set(others)) == 2


def test_what_a_caller_writes_never_becomes_a_label() -> None:
    figures = Figures()
    app = Watching(Answering(), figures=figures, spans=None, fields={})
    ask(app, path="/secret-of-resident-4403")
    ask(app, path="/")
    assert set(figures.requests.counts()) == {("GET", "(none)", "200")}
    assert figures.carried_bytes.counts() == {("other", "in"): 6, ("other", "out"): 8}


def test_the_service_manager_is_told_by_a_datagram(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifying.notify({"NOTIFY_SOCKET": str(tmp_path / "notify")}, notifying.READY)
        assert manager.recv(64) == b"READY=1"
    for nobody in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}, {"NOTIFY_SOCKET": "vsock:1"}):
        notifying.notify(nobody, notifying.READY)


def test_the_watchdog_is_fed_at_twice_the_pace_it_asks_for() -> None:
    assert notifying.watchdog_interval_s({"WATCHDOG_USEC": "30000000"}) == 15.0
    for none in ({}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}):
        assert notifying.watchdog_interval_s(none) is None
