"""How far, how fast and how long yet: as it is worked out, sent, and shown."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI

from dataspace.cli import computation_progress
from dataspace.cli.computation_progress import pace, telling
from dataspace.cli.compute_command import chosen_columns, own_data
from dataspace.cli.shared import named_values
from dataspace.client import _server_sent
from dataspace.errors import InputRejected
from dataspace.web.progress import Pace, ProgressEvent, router


def event(done: int, total: int = 0, step: str = "raise") -> ProgressEvent:
    return ProgressEvent(
        status="RUNNING",
        step=step,
        done_units=done,
        total_units=total,
        sent_bytes=0,
        received_bytes=0,
    )


def test_the_rate_is_that_of_the_last_seconds() -> None:
    going = Pace()
    assert going.of(event(0, 1000), 0.0).rate_per_s is None
    assert going.of(event(100, 1000), 1.0).rate_per_s == 100
    # Half as fast from then on: what was before the last ten seconds no longer counts.
    later = [going.of(event(100 + 5 * n, 1000), 1.0 + 0.1 * n) for n in range(1, 131)]
    assert later[-1].rate_per_s == pytest.approx(50)
    assert later[-1].seconds_left == pytest.approx((1000 - 750) / 50, rel=0.01)


def test_nothing_is_said_to_be_left_while_the_whole_is_unknown() -> None:
    going = Pace()
    going.of(event(0), 0.0)
    told = going.of(event(10), 1.0)
    assert (told.rate_per_s, told.seconds_left) == (10, None)


def test_a_run_that_began_again_has_a_pace_of_its_own() -> None:
    going = Pace()
    going.of(event(0, 100), 0.0)
    going.of(event(90, 100), 1.0)
    assert going.of(event(10, 100), 2.0).rate_per_s is None
    assert going.of(event(30, 100), 3.0).rate_per_s == 20


def shown(done: int, total: int, rate: float | None, left: float | None) -> dict[str, Any]:
    return {
        "id": "one",
        "step": "raise",
        "done_units": done,
        "total_units": total,
        "rate_per_s": rate,
        "seconds_left": left,
    }


def test_the_pace_in_words() -> None:
    assert pace(shown(0, 0, None, None)) == ""
    assert pace(shown(12_000, 100_000, 5300.4, 16.6)) == "12,000 of 100,000, 5,300/s, 17 s left"
    assert pace(shown(1, 2, None, 95)) == "1 of 2, 1 min 35 s left"
    assert pace(shown(1, 2, None, 7_260)) == "1 of 2, 2 h 1 min left"


def test_where_there_is_no_terminal_a_line_is_said_for_each_step_and_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(computation_progress.time, "monotonic", lambda: now)
    with telling("psi/2") as tell:
        for now, step in ((0.0, "mask"), (1.0, "mask"), (2.0, "raise"), (8.0, "raise")):
            tell(shown(int(now), 10, 1.0, 10 - now) | {"step": step})
    assert capsys.readouterr().err.splitlines() == [
        "psi/2: mask, 0 of 10, 1/s, 10 s left",
        "psi/2: raise, 2 of 10, 1/s, 8 s left",
        "psi/2: raise, 8 of 10, 1/s, 2 s left",
    ]


def test_who_is_interrupted_is_told_how_to_end_what_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted() -> None:
        with telling("psi/2") as tell:
            tell(shown(0, 0, None, None))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "dataspace computation cancel one" in capsys.readouterr().err


def test_parameters_are_json_where_they_can_be_and_texts_elsewhere() -> None:
    given = [
        "valueBits=32",
        "groupsOf=left",
        'statistics=["sum", "mean"]',
        "exact=true",
        "note=a=b",
    ]
    assert named_values(given) == {
        "valueBits": 32,
        "groupsOf": "left",
        "statistics": ["sum", "mean"],
        "exact": True,
        "note": "a=b",
    }


@pytest.mark.parametrize("given", [["valueBits"], ["=3"], ["a=1", "a=2"]])
def test_a_parameter_without_a_name_or_with_two_values_is_refused(given: list[str]) -> None:
    with pytest.raises(InputRejected, match="NAME=VALUE expected"):
        named_values(given)


def test_columns_are_chosen_by_the_number_of_the_agreement() -> None:
    given = ["1:group=district", "2:value=cost", "1:value=amount=x"]
    assert chosen_columns(given, ["a", "b"]) == {
        "a": {"group": "district", "value": "amount=x"},
        "b": {"value": "cost"},
    }
    for wrong in ("3:group=x", "0:group=x", "a:group=x", "1:group", "group=x"):
        with pytest.raises(InputRejected, match="N from 1 to 2"):
            chosen_columns([wrong], ["a", "b"])


def test_own_data_needs_its_file_and_its_identifier() -> None:
    assert own_data(None, None, None, None, 0) is None
    assert own_data(Path("a.csv"), "id", "cost", None, 2) == {
        "source": Path("a.csv"),
        "identifier": "id",
        "value": "cost",
        "decimals": 2,
    }
    for half in ((Path("a.csv"), None, None, None), (None, None, "cost", None)):
        with pytest.raises(InputRejected, match="identifier column"):
            own_data(*half, 0)


def test_a_stream_of_events_is_read_without_its_comments() -> None:
    stream = ": ping", "", "event: progress", 'data: {"a": 1}', "id: 7", "", 'data: {"a": 2}', ""
    assert list(_server_sent(stream)) == [("7", {"a": 1}), ("7", {"a": 2})]


class Endless:
    """A node whose one computation goes on for ever."""

    access = SimpleNamespace(is_home_key="key".__eq__)
    looks = 0

    @property
    def computations(self) -> "Endless":
        return self

    def get(self, computation: str) -> SimpleNamespace:
        return SimpleNamespace(id=computation, status="RUNNING")

    def progress(self, _: SimpleNamespace) -> dict[str, Any]:
        self.looks += 1
        return event(self.looks).model_dump()


def test_nobody_looks_any_more_when_the_client_has_hung_up() -> None:
    app, node = FastAPI(), Endless()
    app.state.node = node
    app.include_router(router)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/api/computations/one/events",
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer key"), (b"last-event-id", b"not a number")],
    }
    sent: list[bytes] = []

    async def watch() -> tuple[int, set[asyncio.Task[Any]]]:
        told, asked = asyncio.Event(), iter([{"type": "http.request", "body": b""}])

        async def receive() -> dict[str, Any]:
            for message in asked:
                return message
            await told.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message.get("body"):
                sent.append(message["body"])
                told.set()

        await asyncio.wait_for(app(scope, receive, send), 10)
        looks = node.looks
        await asyncio.sleep(0.2)
        return looks, asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]

    looks, left = asyncio.run(watch())
    assert sent[0].startswith(b"event: progress\ndata: {")
    assert b"id: 1\n" in sent[0]
    assert (node.looks, left) == (looks, set())
