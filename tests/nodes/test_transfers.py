"""Rows that leave, between real nodes: what comes is what was published, and nothing else comes."""

import base64
import csv
import hashlib
import io
import json
from collections import deque
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from connectors.personal import ConsentBook
from dataspace.client import ApiError
from dataspace.demo import truth

from .conftest import PURPOSE, RESIDENT_ID, City
from .rows_that_leave import (
    FOR_RESEARCH,
    LEAVES,
    OWN,
    PULL,
    PUSH,
    ROWS_MAY_LEAVE,
    Rows,
    begin,
    clause,
    ended,
    get,
    offer,
    open_pull,
    policy,
    reached,
    standing_still,
    steer,
    theirs,
)
from .test_faults import run_audit


@pytest.mark.parametrize("format_", [PULL, PUSH])
def test_published_columns_come_byte_for_byte_and_no_other(
    city: City, tmp_path: Path, format_: str
) -> None:
    rows = offer(city, tmp_path)
    done = ended(city.consumer, begin(city, rows, format_))
    assert (done["state"], done["reason"]) == ("COMPLETED", None)
    came = Path(done["moved"]["file"])
    assert came.read_bytes() == LEAVES
    assert came.stat().st_mode & 0o777 == 0o600
    assert done["moved"]["sha256"] == hashlib.sha256(LEAVES).hexdigest()
    sent = reached(city.node("insurer").client, theirs(city, rows), "COMPLETED")
    assert sent["moved"] == {
        "rows": 2,
        "bytes": len(LEAVES),
        "sha256": done["moved"]["sha256"],
    }


def test_nothing_of_a_finished_transfer_stays_at_the_provider(city: City, tmp_path: Path) -> None:
    rows = offer(city, tmp_path)
    ended(city.consumer, begin(city, rows))
    provider, pid = city.node("insurer"), theirs(city, rows)
    reached(provider.client, pid, "COMPLETED")
    name = pid.rpartition(":")[2]
    assert not any(name in one.name for one in (provider.home.path / "outgoing").iterdir())


def test_a_policy_that_names_computations_lets_no_rows_leave(city: City, tmp_path: Path) -> None:
    # The owner cannot offer what the policy never allows, so the format comes from elsewhere.
    computations = clause("ds:computation", "isAnyOf", ["psi-cardinality/1"])
    with pytest.raises(ApiError, match="never lets the rows leave") as refused:
        offer(city, tmp_path, computations)
    assert refused.value.status == 400


def test_a_policy_that_names_one_format_refuses_the_other_with_its_clause(
    city: City, tmp_path: Path
) -> None:
    rows = offer(city, tmp_path, clause("ds:computation", "isAnyOf", [PUSH]), formats=(PUSH,))
    change = {
        "policy": policy(clause("ds:computation", "isAnyOf", [PULL, PUSH])),
        "formats": [PULL, PUSH],
    }
    city.node("insurer").client.call("PUT", f"/api/datasets/{rows.dataset}/policy", change)
    done = ended(city.consumer, begin(city, rows, PULL))
    assert (done["state"], done["clause"]) == ("TERMINATED", "permission[0].constraint[0]")
    assert PULL in done["reason"]
    assert done["remedy"]
    assert ended(city.node("insurer").client, theirs(city, rows))["moved"] is None


def test_a_format_the_owner_has_not_switched_on_is_refused_by_name(
    city: City, tmp_path: Path
) -> None:
    rows = offer(city, tmp_path, formats=(PUSH,))
    done = ended(city.consumer, begin(city, rows, PULL))
    assert done["state"] == "TERMINATED"
    assert PUSH in done["reason"]
    assert done["moved"] is None


def test_another_purpose_than_the_contracts_is_refused_and_the_right_one_is_served(
    city: City, tmp_path: Path
) -> None:
    rows = offer(city, tmp_path, ROWS_MAY_LEAVE, FOR_RESEARCH)
    for purpose in (None, "marketing"):
        done = ended(city.consumer, begin(city, rows, PULL, purpose))
        assert (done["state"], done["clause"]) == ("TERMINATED", "permission[0].constraint[1]")
    assert ended(city.consumer, begin(city, rows, PULL, PURPOSE))["state"] == "COMPLETED"


def test_uses_are_counted_and_then_refused(city: City, tmp_path: Path) -> None:
    rows = offer(city, tmp_path, ROWS_MAY_LEAVE, clause("count", "lteq", "2"))
    for _ in range(2):
        assert ended(city.consumer, begin(city, rows))["state"] == "COMPLETED"
    assert ended(city.consumer, begin(city, rows))["clause"] == "permission[0].constraint[1]"


def test_people_who_did_not_consent_are_not_among_the_rows(city: City) -> None:
    provider = city.node("health-trust")
    source = (
        f"personal+file:{city.data / 'health.csv'}"
        f"?consents={city.data / 'consents.jsonl'}&subject=resident_id"
    )
    cost = {"name": "cost_cents", "role": "value"}
    asked = policy(ROWS_MAY_LEAVE, FOR_RESEARCH, clause("ds:consent", "eq", "required"))
    provider.client.publish(
        "costs",
        source,
        [RESIDENT_ID, cost],
        policy=asked,
        formats=[PULL],
        confirmed=True,
        legal_basis="consent",
    )
    agreement = city.consumer.negotiate(provider.url, "costs")
    columns = ("resident_id", "cost_cents")
    everybody = truth.rows(city.data / "health.csv")
    expected = truth.consented(
        everybody,
        ConsentBook.load(city.data / "consents.jsonl"),
        subject="resident_id",
        columns=columns,
        purpose=PURPOSE,
        recipient=city.node("institute").did,
        at=datetime.now(UTC),
    )
    pid = begin(city, Rows("costs", city.data / "health.csv", agreement), PULL, PURPOSE)
    came = Path(ended(city.consumer, pid)["moved"]["file"]).read_text(encoding="utf-8")
    found = [
        {name: cell.strip() for name, cell in row.items()}
        for row in csv.DictReader(io.StringIO(came))
    ]
    assert found == [{name: row[name] for name in columns} for row in expected]
    assert 0 < len(found) < len(everybody)


def test_rows_are_not_given_once_their_format_was_switched_off(
    city: City, tmp_path: Path, http: httpx2.Client
) -> None:
    rows = offer(city, tmp_path)
    with open_pull(city, rows) as (pid, endpoint, token):
        off = {"policy": policy(ROWS_MAY_LEAVE), "formats": [PUSH]}
        city.node("insurer").client.call("PUT", f"/api/datasets/{rows.dataset}/policy", off)
        rows.mend()
        done = ended(city.consumer, pid)
        assert done["state"] == "TERMINATED"
        assert f"no longer leave as {PULL}" in done["reason"]
        assert get(http, endpoint, token).status_code == 404


def test_an_agreement_that_was_ended_takes_its_transfers_with_it(
    city: City, tmp_path: Path, http: httpx2.Client
) -> None:
    rows = offer(city, tmp_path)
    with open_pull(city, rows) as (pid, endpoint, token):
        city.node("insurer").client.call(
            "POST", f"/api/agreements/{rows.agreement}/end", {"reason": "The project is over."}
        )
        assert "The project is over." in ended(city.consumer, pid)["reason"]
        assert get(http, endpoint, token).status_code == 404
        with pytest.raises(ApiError, match="The project is over"):
            begin(city, rows)


def test_a_pull_survives_the_death_of_both_nodes(city: City, tmp_path: Path) -> None:
    rows = offer(city, tmp_path)
    with open_pull(city, rows) as (pid, _, _):
        for name in ("institute", "insurer"):
            city.node(name).kill()
        half = city.node("institute").home.path / "received" / ".half-written.csv.1.part"
        half.parent.mkdir(exist_ok=True)
        half.write_bytes(b"half")
        rows.mend()
        for name in ("institute", "insurer"):
            city.node(name).start()
        for name in ("institute", "insurer"):
            city.node(name).wait_until_healthy()
        done = ended(city.consumer, pid)
        assert Path(done["moved"]["file"]).read_bytes() == LEAVES
        assert not half.exists()


def test_rows_that_changed_meanwhile_are_still_those_of_the_first_reading(
    city: City, tmp_path: Path, http: httpx2.Client
) -> None:
    rows = offer(city, tmp_path)
    with open_pull(city, rows) as (pid, endpoint, token):
        # The consumer's node would finish at once.
        with standing_still(city.node("institute")):
            rows.mend()
            first = get(http, endpoint, token)
            rows.file.write_text(OWN + "cy,s3,1\n", encoding="utf-8")
            second = get(http, endpoint, token)
        assert first.content == second.content == LEAVES
        digest = base64.b64encode(hashlib.sha256(LEAVES).digest()).decode()
        assert first.headers["content-digest"] == f"sha-256=:{digest}:"
        assert first.headers["content-type"] == "text/csv; charset=utf-8"
        assert Path(ended(city.consumer, pid)["moved"]["file"]).read_bytes() == LEAVES


def test_a_suspension_breaks_off_rows_that_are_under_way(
    city: City, tmp_path: Path, http: httpx2.Client
) -> None:
    rows = offer(city, tmp_path)
    # More than the buffers between two sockets hold.
    long = "x" * 4000
    big = "name,amount\n" + "".join(f"{long}{number},1\n" for number in range(6000))
    provider = city.node("insurer").client
    with open_pull(city, rows) as (pid, endpoint, token):
        headers = {"authorization": f"Bearer {token}"}
        with ExitStack() as stack:
            stack.enter_context(standing_still(city.node("institute")))
            rows.file.write_text(big, encoding="utf-8")
            answer = stack.enter_context(http.stream("GET", endpoint, headers=headers))
            pieces = answer.iter_raw(1024)
            assert next(pieces).startswith(b'"name"')
            steer(provider, theirs(city, rows), "suspension")
            with pytest.raises(httpx2.RemoteProtocolError, match="complete message body"):
                deque(pieces, maxlen=0)
        reached(city.consumer, pid, "SUSPENDED")
        steer(city.consumer, pid, "termination")


def test_an_auditor_comes_to_the_same_decisions_about_rows_that_left(
    city: City, tmp_path: Path
) -> None:
    rows = offer(city, tmp_path, ROWS_MAY_LEAVE, FOR_RESEARCH)
    for purpose in (PURPOSE, "marketing"):
        ended(city.consumer, begin(city, rows, PULL, purpose))
    city.space.wait_until_anchored()
    audited = run_audit(city)
    codes = {one["code"] for one in json.loads(audited.stdout)["findings"]}
    about_decisions = {"decision-differs", "use-not-allowed", "decision-not-replayable"}
    assert codes & about_decisions == set()
