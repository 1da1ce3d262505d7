"""Keys, acts in the evidence, and what needs two persons: through the API that people use."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi.testclient import TestClient
from sqlmodel import delete, select
from typer.testing import CliRunner

from contracts import messages as dsp
from contracts.odrl import Offer
from dataspace.access.acts import act_digest
from dataspace.access.attempts import FAILURES_A_MINUTE, MINUTE_S, Attempts
from dataspace.access.keys import digest_of, id_of, make_key, opens
from dataspace.access.permissions import Permission, Role
from dataspace.access.principal import HOME, same_person
from dataspace.access.registry import LAST_USED_STEP_S
from dataspace.cli import app as command_line
from dataspace.client import Client
from dataspace.errors import InputRejected
from dataspace.node import Node
from dataspace.settings import ParticipantKind, Settings
from dataspace.store.tables import (
    AccessKeyRow,
    ActRow,
    ApprovalRow,
    DatasetRow,
    EntryRow,
    HeldRequestRow,
    NegotiationRow,
)
from dataspace.web.app import create_app
from ledger.entry import Entry, EntryType, open_entry

from .transfer_nodes import CONSUMER_URL, DATASET, PROVIDER_URL, make_node, publish

TWO = {"leftOperand": "ds:approvers", "operator": "gteq", "rightOperand": "2"}
CONSUMER = "did:web:127.0.0.1%3A2"


@dataclass
class House:
    node: Node
    web: TestClient

    def call(self, method: str, path: str, key: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {key}"}
        return self.web.request(method, f"/api{path}", json=body, headers=headers)

    def key(self, role: Role, person: str) -> str:
        asked = {"name": "k", "person": person, "role": role.value}
        made = self.call("POST", "/access/keys", self.node.api_key, asked)
        assert made.status_code == 201, made.text
        return str(made.json()["key"])

    def rows(self, table: Any) -> list[Any]:
        with self.node.store.transaction() as tx:
            return list(tx.exec(select(table)).all())

    def entries(self) -> list[Entry]:
        rows = sorted(self.rows(EntryRow), key=lambda row: row.position)
        return [open_entry(row.body, row.salt, row.commitment) for row in rows if row.body]

    def acts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("GET", "/access/acts", self.node.api_key).json()
        return found


@pytest.fixture(scope="module")
def one_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("house")
    node = make_node(directory, PROVIDER_URL)
    (directory / "rows.csv").write_text("name\nann\n", encoding="utf-8")
    publish(node, str(directory / "rows.csv"), TWO, consumer=CONSUMER)
    yield House(node, TestClient(create_app(node), base_url=PROVIDER_URL))
    node.store.close()


@pytest.fixture
def house(one_house: House) -> House:
    """The same node for all tests, as it was before the first but for its log."""
    with one_house.node.store.transaction() as tx:
        for table in (AccessKeyRow, ActRow, HeldRequestRow, ApprovalRow, NegotiationRow):
            tx.exec(delete(table))
        tx.get_one(DatasetRow, DATASET).withdrawn_at = None
    one_house.node.access.two_persons = frozenset()
    one_house.node.access.attempts = Attempts()
    return one_house


# ---- keys -----------------------------------------------------------------------------------


def test_a_key_has_256_random_bits_and_is_told_from_others_by_its_beginning() -> None:
    made = make_key(lambda size: bytes(range(size)))
    assert len(made.key.removeprefix(f"dsk_{made.id}_")) == 43
    assert id_of(made.key) == made.id
    assert opens(made.key, made.digest)
    assert made.digest == digest_of(made.key)
    for wrong in (made.key[:-1], made.key + "A", made.key.upper(), "", "dsk__", made.key + "\n"):
        assert id_of(wrong) is None
        assert not opens(wrong, made.digest)


def test_a_key_is_shown_once_and_nothing_of_it_is_kept(house: House) -> None:
    key = house.key(Role.AUDITOR, "Chen")
    (row,) = house.rows(AccessKeyRow)
    secret = key.removeprefix(f"dsk_{id_of(key)}_")
    everything = json.dumps([row.model_dump() for row in house.rows(AccessKeyRow)])
    everything += json.dumps([act.record for act in house.rows(ActRow)])
    listed = house.call("GET", "/access/keys", key).text
    assert secret not in everything + listed
    assert row.digest not in listed
    assert house.call("GET", "/access/self", key).json()["person"] == "Chen"


def test_a_revoked_and_an_expired_key_open_nothing_and_both_stay_listed(house: House) -> None:
    kept, revoked = house.key(Role.OWNER, "Li"), house.key(Role.OWNER, "Wang")
    ended = house.call("POST", f"/access/keys/{id_of(revoked)}/revocation", kept)
    assert (ended.json()["state"], ended.json()["revoked_by"]) == ("revoked", "Li")
    assert "revoked" in house.call("GET", "/status", revoked).json()["detail"]
    with house.node.store.transaction() as tx:
        tx.get_one(AccessKeyRow, id_of(kept)).expires_at = time.time()
    assert "expired" in house.call("GET", "/status", kept).json()["detail"]
    listed = house.call("GET", "/access/keys", house.node.api_key).json()
    assert {one["person"]: one["state"] for one in listed} == {"Li": "expired", "Wang": "revoked"}


def test_when_a_key_was_used_is_known_to_the_hour(house: House) -> None:
    key = house.key(Role.AUDITOR, "Chen")
    for _ in range(2):
        assert house.call("GET", "/status", key).status_code == 200
    (row,) = house.rows(AccessKeyRow)
    assert row.last_used_at is not None
    assert row.last_used_at % LAST_USED_STEP_S == 0
    assert row.version == 2, "one write for both uses"


def test_names_of_one_person_are_one_person() -> None:
    assert same_person(" Li Wei", "LI WEI ")
    assert same_person("\uff21nn", "ann"), "full width"
    assert not same_person("Li Wei", "Li Na")


# ---- failures -------------------------------------------------------------------------------


def test_guessing_is_slowed_down_per_address_and_never_locks_the_owner_out(house: House) -> None:
    key = house.key(Role.AUDITOR, "Chen")
    house.node.access.attempts = Attempts(clock=lambda: 0.0)
    wrong = [house.call("GET", "/status", "dsk_wrong").status_code for _ in range(12)]
    assert wrong == [401] * FAILURES_A_MINUTE + [429] * 2
    slowed = house.call("GET", "/status", "dsk_wrong")
    assert slowed.headers["retry-after"] == str(int(MINUTE_S))
    for good in (house.node.api_key, key):
        assert house.call("GET", "/status", good).status_code == 200


def test_one_network_of_ipv6_is_one_address() -> None:
    attempts = Attempts(clock=lambda: 0.0)
    for number in range(FAILURES_A_MINUTE):
        attempts.failed(f"2001:db8:1:2::{number:x}")
    assert not attempts.allow("2001:db8:1:2:ffff::1")
    assert attempts.allow("2001:db8:1:3::1")
    assert attempts.allow("192.0.2.1")


def test_a_failure_is_logged_without_the_key(house: House) -> None:
    with structlog.testing.capture_logs() as logged:
        house.call("GET", "/status", "dsk_secretsecret")
    assert any(one["event"] == "a caller was not recognised" for one in logged)
    assert "secretsecret" not in json.dumps(logged, default=str)


# ---- acts -----------------------------------------------------------------------------------


def test_an_act_is_in_the_evidence_with_the_change_and_names_nobody_there(house: House) -> None:
    steward = house.key(Role.STEWARD, "Zhang San")
    assert house.call("POST", f"/datasets/{DATASET}/withdrawal", steward).status_code == 200
    entry = house.entries()[-1]
    assert (entry.type, entry.kind, entry.outcome) == (
        EntryType.ADMINISTERED,
        "dataset.withdraw",
        "done",
    )
    newest = house.acts()[0]
    assert (newest["person"], newest["path"]) == (
        "Zhang San",
        f"/api/datasets/{DATASET}/withdrawal",
    )
    assert newest["matches"] is True
    bodies = b"".join(row.body or b"" for row in house.rows(EntryRow))
    assert b"Zhang" not in bodies
    assert DATASET.encode() not in bodies


def test_what_is_refused_or_only_read_or_used_is_no_act(house: House) -> None:
    before = len(house.acts())
    home = house.node.api_key
    assert house.call("POST", "/datasets/none/withdrawal", home).status_code == 404
    assert house.call("POST", "/negotiations/none/approval", home, {}).status_code == 400
    assert house.call("GET", "/datasets", home).status_code == 200
    auditor = house.key(Role.AUDITOR, "Chen")
    assert house.call("POST", f"/datasets/{DATASET}/withdrawal", auditor).status_code == 403
    assert len(house.acts()) == before + 1, "the key for the auditor"


def test_a_changed_record_of_an_act_is_found(house: House) -> None:
    house.key(Role.AUDITOR, "Chen")
    with house.node.store.transaction() as tx:
        (row,) = tx.exec(select(ActRow)).all()
        row.record = {**row.record, "person": "somebody else"}
        tx.add(row)
    assert house.acts()[0]["matches"] is False
    house.node.evidence.erase(row.log_index)
    assert house.acts()[0]["matches"] is None, "its entry was erased"


def test_a_change_that_cannot_be_recorded_is_not_made(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise InputRejected("no room")

    monkeypatch.setattr(house.node.access.acts, "write", broken)
    answer = house.call("POST", f"/datasets/{DATASET}/withdrawal", house.node.api_key)
    assert answer.status_code == 400
    (row,) = house.rows(DatasetRow)
    assert row.withdrawn_at is None


def test_the_digest_of_a_record_depends_on_its_salt() -> None:
    record = {"person": "Li"}
    assert act_digest(record, b"0" * 16) != act_digest(record, b"1" * 16)


# ---- acts that need two persons -------------------------------------------------------------


def held(house: House, key: str, path: str = f"/datasets/{DATASET}/withdrawal") -> str:
    house.node.access.two_persons = frozenset({Permission.DATASET_WITHDRAW})
    answer = house.call("POST", path, key)
    assert (answer.status_code, answer.json()["status"]) == (202, "held"), answer.text
    assert house.rows(DatasetRow)[0].withdrawn_at is None
    return str(answer.json()["request"])


def test_an_act_that_needs_two_is_done_when_another_person_approves_it(house: House) -> None:
    steward, approver = house.key(Role.STEWARD, "Zhang"), house.key(Role.APPROVER, "Li")
    request = held(house, steward)
    approve = f"/access/requests/{request}/approval"
    assert house.call("POST", approve, steward).status_code == 403, "no right to approve"
    answer = house.call("POST", approve, approver)
    assert (answer.status_code, answer.json()) == (200, {"withdrawn": DATASET})
    assert house.rows(DatasetRow)[0].withdrawn_at is not None
    done = next(one for one in house.acts() if one["permission"] == "dataset.withdraw")
    assert (done["person"], done["approved_by"], done["outcome"]) == ("Zhang", "Li", "done")
    outcomes = [(e.kind, e.outcome) for e in house.entries() if e.type is EntryType.ADMINISTERED]
    assert outcomes[-3:] == [
        ("dataset.withdraw", "held"),
        ("dataset.withdraw", "done"),
        ("request.decide", "done"),
    ]
    again = house.call("POST", approve, approver)
    assert (again.status_code, "no longer" in again.json()["detail"]) == (400, True)
    assert house.rows(HeldRequestRow)[0].body is None


def test_two_keys_of_one_person_are_not_two_persons(house: House) -> None:
    first, second = house.key(Role.OWNER, "Li Wei"), house.key(Role.OWNER, "LI WEI")
    request = held(house, first)
    answer = house.call("POST", f"/access/requests/{request}/approval", second)
    assert (answer.status_code, "second person" in answer.json()["detail"]) == (403, True)


def test_an_owner_makes_no_second_person_alone_where_keys_need_two(house: House) -> None:
    owner, other = house.key(Role.OWNER, "Li Wei"), house.key(Role.OWNER, "Zhang")
    before = {row.id for row in house.rows(AccessKeyRow)}
    house.node.access.two_persons = frozenset({Permission.ACCESS_GRANT})
    asked = {"name": "a second pair of eyes", "person": "Nobody", "role": "owner"}
    answer = house.call("POST", "/access/keys", owner, asked)
    assert (answer.status_code, answer.json()["status"]) == (202, "held"), answer.text
    approve = f"/access/requests/{answer.json()['request']}/approval"
    assert house.call("POST", approve, owner).status_code == 403
    assert {row.id for row in house.rows(AccessKeyRow)} == before
    shown = house.call("POST", approve, other).json()
    assert shown["key"].startswith("dsk_"), "the key is shown to the one who approves"


def test_whoever_asked_may_take_it_back_and_others_of_no_right_may_not(house: House) -> None:
    steward, other = house.key(Role.STEWARD, "Zhang"), house.key(Role.STEWARD, "Zhao")
    decline = f"/access/requests/{held(house, steward)}/refusal"
    assert house.call("POST", decline, other).status_code == 403
    assert house.call("POST", decline, steward).json()["state"] == "declined"
    assert house.rows(DatasetRow)[0].withdrawn_at is None


def test_a_request_expires_and_one_of_a_revoked_key_is_not_carried_out(house: House) -> None:
    steward, approver = house.key(Role.STEWARD, "Zhang"), house.key(Role.APPROVER, "Li")
    request = held(house, steward)
    house.node.access.keys.revoke(str(id_of(steward)), by=HOME)
    answer = house.call("POST", f"/access/requests/{request}/approval", approver)
    assert (answer.status_code, "no longer valid" in answer.json()["detail"]) == (400, True)
    with house.node.store.transaction() as tx:
        tx.get_one(HeldRequestRow, request).expires_at = time.time()
    assert house.call("GET", "/access/requests", approver).json()[0]["state"] == "expired"


def test_what_fails_when_it_is_carried_out_waits_on(house: House) -> None:
    request = held(house, house.key(Role.STEWARD, "Zhang"), "/datasets/none/withdrawal")
    answer = house.call("POST", f"/access/requests/{request}/approval", house.node.api_key)
    assert answer.status_code == 404
    assert house.rows(HeldRequestRow)[0].state == "waiting"


def test_nobody_outside_can_say_that_something_was_approved(house: House) -> None:
    house.node.access.two_persons = frozenset({Permission.DATASET_WITHDRAW})
    headers = {
        "authorization": f"Bearer {house.node.api_key}",
        "dataspace.approved": "yes",
        "held-request": "x",
    }
    answer = house.web.post(f"/api/datasets/{DATASET}/withdrawal", headers=headers)
    assert answer.status_code == 202


@pytest.mark.parametrize("name", ["negotiation.decide", "computation.order", "status.read"])
def test_only_acts_can_be_set_to_need_two(name: str) -> None:
    with pytest.raises(ValueError, match="two_persons"):
        Settings(name="n", kind=ParticipantKind.ENTERPRISE, two_persons=(Permission(name),))


# ---- negotiations that need two persons -----------------------------------------------------


def asked(house: House) -> str:
    """A consumer's request that now waits for two people here; its pid."""
    with house.node.store.transaction() as tx:
        row = tx.get_one(DatasetRow, DATASET)
        offer = Offer.model_validate(row.offer).for_message(DATASET)
    offer = offer.model_copy(update={"assigner": house.node.did, "assignee": CONSUMER})
    message = dsp.ContractRequestMessage(
        consumer_pid="urn:uuid:theirs", offer=offer, callback_address=f"{CONSUMER_URL}/dsp/2025-1"
    )
    answer = house.web.post(
        "/dsp/2025-1/negotiations/request",
        content=message.to_bytes(),
        headers={"authorization": f"Bearer {CONSUMER}"},
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["providerPid"])


def decide(house: House, pid: str, key: str, approval: str = "APPROVED") -> Any:
    return house.call("POST", f"/negotiations/{pid}/approval", key, {"approval": approval})


def test_terms_that_want_two_people_wait_for_a_second_one(house: House) -> None:
    first, same, second = (
        house.key(role, person)
        for role, person in ((Role.APPROVER, "Li"), (Role.OWNER, "LI"), (Role.APPROVER, "Wang"))
    )
    pid = asked(house)
    waiting = decide(house, pid, first).json()
    assert (waiting["state"], waiting["waits_for"]) == (
        "REQUESTED",
        "1 of 2 people here have approved this agreement; 1 more has to.",
    )
    assert [one["person"] for one in waiting["approved_by"]] == ["Li"]
    for key in (first, same):
        assert decide(house, pid, key).status_code == 403
    assert decide(house, pid, second).json()["state"] == "AGREED"
    assert [one["permission"] for one in house.acts()[:2]] == ["negotiation.decide"] * 2


def test_the_approval_of_a_key_that_was_revoked_counts_no_more(house: House) -> None:
    gone, second, third = (house.key(Role.APPROVER, person) for person in ("Li", "Wang", "Zhao"))
    pid = asked(house)
    decide(house, pid, gone)
    house.node.access.keys.revoke(str(id_of(gone)), by=HOME)
    assert decide(house, pid, second).json()["state"] == "REQUESTED"
    assert decide(house, pid, third).json()["state"] == "AGREED"


def test_one_of_two_people_is_enough_to_decline(house: House) -> None:
    first, second = house.key(Role.APPROVER, "Li"), house.key(Role.APPROVER, "Wang")
    pid = asked(house)
    decide(house, pid, first)
    assert decide(house, pid, second, "DECLINED").json()["state"] == "TERMINATED"


# ---- the command line -----------------------------------------------------------------------


@pytest.fixture
def commands(house: House, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`dataspace …` over the application in this process, with the key that is chosen."""

    def client(self: Client, url: str, api_key: str, **_: object) -> None:
        headers = {"authorization": f"Bearer {api_key}"}
        self.url = url
        self._http = TestClient(house.web.app, base_url=url, headers=headers)

    monkeypatch.setattr(Client, "__init__", client)
    home = str(house.node.home.path)

    def run(*words: str) -> Any:
        return CliRunner().invoke(command_line, [*words, "--home", home])

    return run


def test_the_commands_make_use_and_end_keys_and_show_acts(
    house: House, commands: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATASPACE_API_KEY", raising=False)
    made = commands("access", "key", "add", "--name", "desk", "--role", "steward", "--json")
    key = json.loads(made.stdout)["key"]
    file = tmp_path / "steward.key"
    file.write_text(key + "\n", encoding="utf-8")
    who = commands("--key-file", str(file), "access", "self", "--json")
    assert json.loads(who.stdout)["roles"] == ["steward"]
    refused = commands("--key-file", str(file), "access", "acts")
    assert (refused.exit_code, "act.read" in refused.stderr) == (1, True)
    assert "access.grant" in commands("access", "acts").stdout
    house.node.access.two_persons = frozenset({Permission.DATASET_WITHDRAW})
    waiting = commands("--key-file", str(file), "dataset", "withdraw", DATASET)
    assert waiting.exit_code == 4
    assert "dataspace access approve" in waiting.stderr
    (request,) = json.loads(commands("access", "requests", "--json").stdout)
    assert commands("access", "approve", request["id"]).exit_code == 0
    assert house.rows(DatasetRow)[0].withdrawn_at is not None
    assert "revoked" in commands("access", "key", "revoke", str(id_of(key))).stdout
    before = house.node.home.api_key()
    assert commands("access", "key", "replace-home").exit_code == 0
    assert house.node.home.api_key() != before
    monkeypatch.setenv("DATASPACE_API_KEY", key)
    assert commands("access", "self").exit_code == 1
