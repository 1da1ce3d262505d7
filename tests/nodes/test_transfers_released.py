"""Rows that leave under rules, that go on after a break, and that come again and again."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dataspace.client import ApiError

from .conftest import PURPOSE, City, terms
from .rows_that_leave import (
    PULL,
    PUSH,
    ROWS_MAY_LEAVE,
    SOON_S,
    Rows,
    begin,
    clause,
    ended,
    get,
    offer,
    open_pull,
    reached,
    shown,
    standing_still,
    theirs,
)
from .test_faults import run_audit

LEFT = b'"name","amount"\n"a**",10\n"b*******",0\n'
PLACES = "440305001,4\n440305001,3\n440305002,2\n440306001,100\n"


def test_rows_leave_as_the_contract_says_and_a_break_costs_only_what_was_under_way(
    city: City, tmp_path: Path, http: httpx2.Client
) -> None:
    rules = ["name:mask(1,0)", "amount:round(10)"]
    rows = offer(city, tmp_path, ROWS_MAY_LEAVE, clause("ds:release", "isAllOf", rules))
    with open_pull(city, rows) as (pid, endpoint, token):
        with standing_still(city.node("institute")):
            rows.mend()
            whole = get(http, endpoint, token)
            asked = {
                "authorization": f"Bearer {token}",
                "range": "bytes=9-",
                "if-range": whole.headers["etag"],
            }
            rest = http.get(endpoint, headers=asked)
        assert (whole.content, rest.status_code, rest.content) == (LEFT, 206, LEFT[9:])
        done = ended(city.consumer, pid)
    assert Path(done["moved"]["file"]).read_bytes() == LEFT
    sent = reached(city.node("insurer").client, theirs(city, rows), "COMPLETED")
    for name in ("rows", "bytes", "sha256"):
        assert done["moved"][name] == sent["moved"][name]
    assert (done["moved"]["rows"], done["moved"]["bytes"]) == (2, len(LEFT))


def test_rules_that_cannot_be_applied_are_not_published(city: City, tmp_path: Path) -> None:
    for rule in ("gone:drop", "amount:rounded(10)", "rows:total(amount)"):
        with pytest.raises(ApiError) as refused:
            offer(city, tmp_path, ROWS_MAY_LEAVE, clause("ds:release", "isAllOf", [rule]))
        assert refused.value.status == 400
        assert rule in refused.value.sentence


def give_back(city: City, directory: Path, dataset: str) -> tuple[str, str]:
    """A return of the insurer's places to the institute that runs: its id, and the transfer's at
    the institute."""
    file = directory / "places.csv"
    file.write_text("place,people\n" + PLACES, encoding="utf-8")
    giver, taker = city.node("insurer").client, city.node("institute")
    giver.publish(
        dataset,
        file,
        [{"name": "place", "role": "group"}, {"name": "people", "role": "value"}],
        terms=terms(),
        confirmed=True,
        blocks={"division": "place"},
        legal_basis="contract",
    )
    asked = {
        "dataset": dataset,
        "to": taker.did,
        "division": "440305",
        "every_s": 1.0,
        "totals": "people",
        "least": 1,
        "purpose": PURPOSE,
    }
    made = giver.call("POST", "/api/returns", asked)
    waiting = taker.client.poll(
        "/api/negotiations?waiting=true",
        lambda all_: any(one["dataset"] == dataset for one in all_),
        SOON_S,
    )
    (one,) = (one for one in waiting if one["dataset"] == dataset)
    taker.client.approve(one["id"])
    agreement = taker.client.agreement_of(one["id"])
    return made["id"], begin(city, Rows(dataset, file, agreement), PUSH, PURPOSE)


def delivered(city: City, pid: str, least: int) -> dict[str, Any]:
    """The transfer, once so many deliveries have come."""
    path = f"/api/transfers/{pid}"
    return city.consumer.poll(path, lambda one: len(one["deliveries"]) >= least, SOON_S)


@pytest.mark.slow
def test_a_return_delivers_when_it_is_due_until_it_ends_and_an_auditor_agrees(
    city: City, tmp_path: Path
) -> None:
    giver = city.node("insurer").client
    name, pid = give_back(city, tmp_path, "places-returned")
    assert delivered(city, pid, 2)["state"] == "STARTED"
    giver.call("POST", f"/api/returns/{name}/end", {})
    done = ended(city.consumer, pid)
    assert done["state"] == "COMPLETED"
    first, second = (each["moved"] for each in done["deliveries"][:2])
    totals = b'"place","rows","people_total"\n"440305001",2,"7"\n"440305002",1,"2"\n'
    assert Path(first["file"]).read_bytes() == Path(second["file"]).read_bytes() == totals
    assert first["rows"] == 2
    given = giver.call("GET", f"/api/returns/{name}")
    assert (given["state"], given["transfer"] is not None) == ("ended", True)
    assert [one["moved"]["sha256"] for one in given["deliveries"]][:2] == [first["sha256"]] * 2
    city.space.wait_until_anchored()
    findings = json.loads(run_audit(city).stdout)["findings"]
    codes = {found["code"] for found in findings}
    about_uses = {"decision-differs", "use-not-allowed", "decision-not-replayable"}
    assert codes & about_uses == set()


@pytest.mark.slow
def test_a_return_survives_the_death_of_either_node_and_delivers_nothing_twice(
    city: City, tmp_path: Path
) -> None:
    name, pid = give_back(city, tmp_path, "places-survived")
    for number, victim in enumerate(("insurer", "institute", "insurer"), start=1):
        delivered(city, pid, number)
        city.node(victim).kill()
        city.node(victim).start()
        city.node(victim).wait_until_healthy()
    delivered(city, pid, 5)
    giver = city.node("insurer").client
    giver.call("POST", f"/api/returns/{name}/end", {})
    came = ended(city.consumer, pid)["deliveries"]
    given = giver.call("GET", f"/api/returns/{name}")["deliveries"]
    assert [one["number"] for one in came] == list(range(1, len(came) + 1))
    assert len({one["due_at"] for one in came}) == len(came)
    assert [one["due_at"] for one in given][: len(came)] == [one["due_at"] for one in came]
    assert all(one["finished_at"] for one in came)


@pytest.mark.slow
def test_a_consumer_that_is_killed_while_it_fetches_goes_on_where_it_was(
    city: City, tmp_path: Path
) -> None:
    rows = offer(city, tmp_path, formats=(PULL,))
    big = "name,secret,amount\n" + "".join(
        f"{'x' * 200}{number},s,{number}\n" for number in range(600_000)
    )
    rows.file.write_text(big, encoding="utf-8")
    taker = city.node("institute")
    pid = begin(city, rows)
    name = pid.rpartition(":")[2]
    part = taker.home.path / "received" / f".{name}.partial"
    reached_bytes = 0
    for _ in range(3):
        before = reached_bytes
        while not part.exists() or part.stat().st_size <= before + 4 * 1024 * 1024:
            if shown(taker.client, pid)["state"] == "COMPLETED":
                break
        taker.kill()
        reached_bytes = part.stat().st_size if part.exists() else reached_bytes
        taker.start()
        taker.wait_until_healthy()
        assert not part.exists() or part.stat().st_size >= reached_bytes
    done = city.consumer.poll(f"/api/transfers/{pid}", lambda it: it["state"] == "COMPLETED", 120.0)
    sent = reached(city.node("insurer").client, theirs(city, rows), "COMPLETED")
    assert reached_bytes > 0
    assert done["moved"]["rows"] == sent["moved"]["rows"] == 600_000
    assert done["moved"]["sha256"] == sent["moved"]["sha256"]
