"""Owners suspend, resume, complete and end transfers by hand: of rows, and of computations."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from dataspace.cli import transfer_commands
from dataspace.client import ApiError
from dataspace.demo.space import RunningNode

from .conftest import PURPOSE, City, terms
from .rows_that_leave import (
    FOR_RESEARCH,
    LEAVES,
    PULL,
    PUSH,
    ROWS_MAY_LEAVE,
    SOON_S,
    address_of,
    begin,
    ended,
    get,
    offer,
    reached,
    shown,
    steer,
    theirs,
)


@pytest.mark.parametrize("who", ["insurer", "institute"])
def test_a_suspended_transfer_gives_nothing_until_it_is_resumed(
    city: City, tmp_path: Path, http: httpx2.Client, who: str
) -> None:
    rows = offer(city, tmp_path)
    rows.spoil()
    ours = begin(city, rows)
    reached(city.consumer, ours, "STARTED")
    pids = {"institute": ours, "insurer": theirs(city, rows)}
    other = "institute" if who == "insurer" else "insurer"
    steer(city.node(who).client, pids[who], "suspension", reason="The disk is full.")
    told = reached(city.node(other).client, pids[other], "SUSPENDED")
    assert told["reason"] == "The disk is full."
    rows.mend()
    answer = get(http, *address_of(city.node("institute"), ours))
    assert (answer.status_code, answer.json()["detail"]) == (503, "the transfer is suspended")
    assert shown(city.consumer, ours)["moved"] is None
    steer(city.node(who).client, pids[who], "resumption")
    done = ended(city.consumer, ours)
    assert (done["state"], done["reason"]) == ("COMPLETED", None)
    assert Path(done["moved"]["file"]).read_bytes() == LEAVES


@pytest.mark.parametrize("format_", [PULL, PUSH])
def test_a_consumer_suspends_resumes_and_completes_by_hand(
    city: City, tmp_path: Path, format_: str
) -> None:
    rows = offer(city, tmp_path)
    rows.spoil()
    ours = begin(city, rows, format_)
    reached(city.consumer, ours, "STARTED")
    provider, pid = city.node("insurer").client, theirs(city, rows)
    steer(city.consumer, ours, "suspension", reason="A moment, please.")
    assert reached(provider, pid, "SUSPENDED")["reason"] == "A moment, please."
    steer(city.consumer, ours, "resumption")
    assert reached(provider, pid, "STARTED")["reason"] is None
    steer(city.consumer, ours, "completion")
    reached(provider, pid, "COMPLETED")
    done = shown(city.consumer, ours)
    assert (done["state"], done["moved"]) == ("COMPLETED", None)


def test_what_the_protocol_does_not_allow_by_hand_is_refused_and_changes_nothing(
    city: City, tmp_path: Path
) -> None:
    rows = offer(city, tmp_path)
    pid = begin(city, rows)
    assert ended(city.consumer, pid)["state"] == "COMPLETED"
    for what, body in (
        ("suspension", {"reason": "Too late."}),
        ("resumption", {}),
        ("completion", {}),
        ("termination", {"reason": "Too late."}),
    ):
        with pytest.raises(ApiError) as refused:
            steer(city.consumer, pid, what, **body)
        assert refused.value.status == 400
    with pytest.raises(ApiError) as unknown:
        steer(city.consumer, "urn:uuid:of-nobody", "resumption")
    assert unknown.value.status == 404
    assert shown(city.consumer, pid)["state"] == "COMPLETED"


def test_a_transfer_ended_by_its_owner_ends_on_both_sides_with_the_reason(
    city: City, tmp_path: Path
) -> None:
    rows = offer(city, tmp_path)
    rows.spoil()
    ours = begin(city, rows, PUSH)
    reached(city.consumer, ours, "STARTED")
    provider = city.node("insurer").client
    steer(provider, theirs(city, rows), "termination", reason="We stop here.")
    assert ended(city.consumer, ours)["reason"] == "We stop here."


def command(city: City, *words: str) -> tuple[int, str]:
    """Exit code and output of a command at the institute."""
    home = str(city.node("institute").home.path)
    ran = CliRunner().invoke(transfer_commands.app, [*words, "--home", home])
    return ran.exit_code, ran.output


@pytest.mark.parametrize("format_", [PULL, PUSH])
def test_a_command_fetches_the_rows_and_prints_where_they_are(
    city: City, tmp_path: Path, format_: str
) -> None:
    rows = offer(city, tmp_path, ROWS_MAY_LEAVE, FOR_RESEARCH)
    code, output = command(city, "fetch", rows.agreement, "--purpose", PURPOSE, "--format", format_)
    assert (code, Path(output.strip()).read_bytes()) == (0, LEAVES)


def test_a_command_that_is_refused_says_the_clause_and_ends_with_3(
    city: City, tmp_path: Path
) -> None:
    rows = offer(city, tmp_path, ROWS_MAY_LEAVE, FOR_RESEARCH)
    code, output = command(city, "fetch", rows.agreement, "--purpose", "marketing")
    assert code == 3
    assert "clause: permission[0].constraint[1]" in output
    assert "remedy:" in output
    assert city.node("insurer").did in output


def test_commands_steer_a_transfer(city: City, tmp_path: Path) -> None:
    rows = offer(city, tmp_path)
    rows.spoil()
    code, output = command(city, "start", rows.agreement)
    pid = output.strip()
    assert code == 0
    reached(city.consumer, pid, "STARTED")
    code, output = command(city, "suspend", pid, "--reason", "The disk is full.")
    assert (code, "SUSPENDED" in output, "The disk is full." in output) == (0, True, True)
    assert command(city, "resume", pid)[0] == 0
    code, output = command(city, "resume", pid)
    assert (code, "is STARTED, not suspended" in output) == (1, True)
    code, output = command(city, "end", pid, "--reason", "We stop here.")
    assert (code, "TERMINATED" in output) == (0, True)
    code, output = command(city, "complete", pid)
    assert (code, "not allowed in state TERMINATED" in output) == (1, True)
    code, output = command(city, "show", pid)
    assert (code, "We stop here." in output) == (0, True)
    code, output = command(city, "list")
    assert (code, pid in output) == (0, True)
    code, output = command(city, "fetch", "urn:uuid:of-nobody")
    assert (code, "dataspace negotiate" in output) == (1, True)


def test_a_command_whose_rows_never_came_ends_with_1(city: City, tmp_path: Path) -> None:
    rows = offer(city, tmp_path, formats=(PUSH,))
    code, output = command(city, "fetch", rows.agreement, "--format", PULL)
    assert (code, PUSH in output) == (1, True)


@dataclass
class Running:
    """A computation that the institute has ordered of the register, and that is running."""

    city: City
    path: str
    count: int

    def transfer(self, node: RunningNode) -> str:
        computation = self.path.rpartition("/")[2]
        rows = node.client.call("GET", "/api/transfers")
        (pid,) = (one["id"] for one in rows if one["computation"] == computation)
        return str(pid)

    def end(self) -> dict[str, Any]:
        return self.city.consumer.poll(self.path, lambda one: one["status"] != "RUNNING", 120.0)


@pytest.fixture(scope="module")
def many(city: City, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Running]:
    """Begins a computation about so many people that it cannot end before it is suspended."""
    file = tmp_path_factory.mktemp("many") / "many.csv"
    count = 8000
    file.write_text("person\n" + "".join(f"p-{n}\n" for n in range(count)), encoding="utf-8")
    provider = city.node("civil-affairs")
    provider.client.publish("many", file, [{"name": "person", "role": "identifier"}], terms=terms())
    asked = {
        "kind": "psi/1",
        "agreements": [city.consumer.negotiate(provider.url, "many")],
        "purpose": PURPOSE,
        "own": {"source": str(file), "identifier": "person"},
    }

    def begin_() -> Running:
        path = f"/api/computations/{city.consumer.call('POST', '/api/computations', asked)['id']}"
        city.consumer.poll(path, lambda one: one["status"] == "RUNNING", SOON_S)
        return Running(city, path, count)

    return begin_


def test_a_suspended_computation_gives_its_result_when_either_side_resumes_it(
    city: City, many: Callable[[], Running]
) -> None:
    running = many()
    provider, ours = city.node("civil-affairs"), running.transfer(city.node("institute"))
    steer(provider.client, running.transfer(provider), "suspension", reason="Maintenance.")
    assert reached(city.consumer, ours, "SUSPENDED")["reason"] == "Maintenance."
    assert city.consumer.call("GET", running.path)["status"] == "RUNNING"
    steer(city.consumer, ours, "resumption")
    with pytest.raises(ApiError, match="completes by itself"):
        steer(city.consumer, ours, "completion")
    done = running.end()
    assert (done["status"], done["value"]["count"]) == ("COMPLETED", running.count)
    reached(provider.client, running.transfer(provider), "COMPLETED")


def test_a_transfer_ended_by_hand_ends_its_computation_with_the_reason(
    city: City, many: Callable[[], Running]
) -> None:
    running, provider = many(), city.node("civil-affairs")
    steer(provider.client, running.transfer(provider), "termination", reason="We stop here.")
    done = running.end()
    assert (done["status"], done["refusal"]["reason"]) == ("FAILED", "We stop here.")
    for node in (provider, city.node("institute")):
        told = node.client.call("GET", running.path)
        assert told["refusal"]["refused_by"] == provider.did
