"""A node that holds a vault in trust: what people get by API and page, and what they never do."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlmodel import delete, select

from connectors.source import open_source
from connectors.use import Use
from connectors.vault_import import import_records
from connectors.vault_making import create_vault
from contracts.errors import ProtocolViolation as ContractViolation
from dataspace.access.attempts import FAILURES_A_MINUTE, Attempts
from dataspace.errors import SHOWN, ProtocolViolation
from dataspace.node import Node
from dataspace.statements import verify_statements
from dataspace.store.tables import EntryRow, ErasureRow
from dataspace.vaults import purposes_in
from dataspace.web.app import create_app
from dataspace.web.guests import SESSION_S, Sessions
from dataspace.web.page_words import WORDS
from ledger.entry import open_entry

from .transfer_nodes import DATASET, PROVIDER_URL, make_node, publish

ANN, BOB, CHILD = "440305198001011019", "440305198001021014", "440305201801010017"
CONSUMER, PURPOSE = "did:web:consumer", "research"
COLUMNS = [
    {"name": "resident_id", "role": "identifier", "canonicaliser": "resident-id/1", "scale": 0},
    {"name": "diagnosis", "role": "group", "canonicaliser": None, "scale": 0},
]
TERMS = {
    "columns": ["resident_id"],
    "purposes": [PURPOSE],
    "recipients": [CONSUMER],
    "expires_at": (datetime.now(UTC) + timedelta(days=30)).isoformat(),
}


def checked(body: str) -> str:
    return body[:17] + "10X98765432"[2 * int(body[:17], 13) % 11]


@dataclass
class Trust:
    """A trustee's node with a published vault of three people, and its application."""

    node: Node
    web: TestClient
    source: str

    def owner(self, path: str, body: dict[str, Any]) -> Any:
        key = {"authorization": f"Bearer {self.node.api_key}"}
        return self.web.post(f"/api/datasets/{DATASET}{path}", json=body, headers=key)

    def code(self, who: str) -> str:
        return str(self.owner("/people/enrolment", {"subject": who}).json()["access_code"])

    def me(self, method: str, path: str, code: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {code}"}
        return self.web.request(method, f"/api/people/me{path}", json=body, headers=headers)

    def read(self) -> list[str]:
        use = Use(PURPOSE, CONSUMER, datetime.now(UTC), "urn:uuid:agreement", "psi/1")
        batches = open_source(self.source).scan_consented(["resident_id"], use)  # type: ignore[attr-defined]
        return [one for batch in batches for one in batch.column(0).to_pylist()]

    def entries(self) -> list[Any]:
        with self.node.store.transaction() as tx:
            rows = tx.exec(select(EntryRow).order_by(EntryRow.position)).all()  # type: ignore[arg-type]
        return [open_entry(row.body or b"", row.salt or b"", row.commitment) for row in rows]


@pytest.fixture(scope="module")
def module_trust(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trust]:
    directory = tmp_path_factory.mktemp("trust")
    people = [checked(one) for one in (ANN, BOB, CHILD)]
    rows = "\n".join(f"{who},J1{n}" for n, who in enumerate(people))
    file = directory / "x.csv"
    file.write_text(f"resident_id,diagnosis\n{rows}\n", encoding="utf-8")
    vault = create_vault(directory / "vault", subject="resident_id")
    import_records(vault, open_source(str(file)), datetime.now(UTC))
    node = make_node(directory, PROVIDER_URL)
    source = f"vault:{vault.folder}"
    clause = {"leftOperand": "purpose", "operator": "eq", "rightOperand": PURPOSE}
    publish(node, source, clause, consumer=CONSUMER, columns=COLUMNS)
    web = TestClient(create_app(node), base_url=PROVIDER_URL, follow_redirects=False)
    yield Trust(node, web, source)
    node.store.close()


@pytest.fixture
def trust(module_trust: Trust) -> Iterator[Trust]:
    """The same node for all tests: whatever was consented to is ended again."""
    yield module_trust
    module_trust.web.cookies.clear()
    for who in map(checked, (ANN, BOB, CHILD)):
        found = module_trust.owner("/consents/search", {"subject": who})
        for one in found.json() if found.status_code == 200 else ():
            if not one["withdrawn"]:
                module_trust.owner(f"/consents/{one['receipt']}/withdrawal", {})


def as_file(directory: Path, content: Any) -> Path:
    path = directory / "file.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


ANN, BOB, CHILD = (checked(one) for one in (ANN, BOB, CHILD))


def test_people_consent_are_told_of_uses_and_withdraw_by_api(trust: Trust, tmp_path: Path) -> None:
    codes = {who: trust.code(who) for who in (ANN, BOB)}
    before = len(trust.entries())
    given = trust.me("POST", "/consents", codes[ANN], TERMS)
    assert given.status_code == 201, given.text
    assert trust.read() == [ANN]
    (use,) = trust.me("GET", "/uses", codes[ANN]).json()
    assert (use["recipient"], use["purpose"], use["agreement"], use["computation"]) == (
        CONSUMER,
        PURPOSE,
        "urn:uuid:agreement",
        "psi/1",
    )
    assert trust.me("GET", "/uses", codes[BOB]).json() == []
    receipt = given.json()["receipt"]
    # Nobody else's code ends it.
    assert trust.me("POST", f"/consents/{receipt}/withdrawal", codes[BOB]).status_code == 400
    assert trust.me("POST", f"/consents/{receipt}/withdrawal", codes[ANN]).status_code == 200
    assert trust.read() == []
    entries = trust.entries()[before:]
    assert [entry.type.value for entry in entries] == ["consent_given", "consent_withdrawn"]
    assert not any(name in entry.model_dump_json() for entry in entries for name in (ANN, receipt))
    (kept,) = (
        one for one in trust.me("GET", "/consents", codes[ANN]).json() if one["receipt"] == receipt
    )
    found = verify_statements(
        as_file(tmp_path, kept["signed"]),
        {trust.node.did: _thumbprint(trust)},
        online=False,
        local=True,
    )
    assert found.known_by == "pinned"
    assert found.receipt is not None
    assert found.withdrawal is not None
    assert found.withdrawal.pii_principal_id == found.receipt.pii_principal_id
    assert found.receipt.recipients == (CONSUMER,)


def _thumbprint(trust: Trust) -> str:
    return str(trust.node.identity.key.thumbprint())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: {**file, "receipt": file["receipt"][:-8] + "AAAAAAAA"}, "signature"),
        (lambda file: {**file, "withdrawal": file["receipt"]}, "type"),
        (lambda file: {**file, "key": {**file["key"], "x": "A" * 43}}, "signature"),
        (lambda file: {**file, "certificate": "a.b.c"}, "neither"),
    ],
    ids=["signature", "type", "key", "kind"],
)
def test_a_receipt_that_was_tampered_with_does_not_verify(
    trust: Trust, tmp_path: Path, change: Any, message: str
) -> None:
    file = trust.owner("/consents", {**TERMS, "subject": ANN}).json()["signed"]
    verify_statements(as_file(tmp_path, file), {}, online=False, local=True)
    with pytest.raises(SHOWN, match=message):
        verify_statements(as_file(tmp_path, change(file)), {}, online=False, local=True)
    pinned = {trust.node.did: "A" * 43}
    with pytest.raises(ProtocolViolation, match="another than the pinned"):
        verify_statements(as_file(tmp_path, file), pinned, online=False, local=True)


def test_a_withdrawal_of_another_receipt_is_none(trust: Trust, tmp_path: Path) -> None:
    one, other = (trust.owner("/consents", {**TERMS, "subject": ANN}).json() for _ in range(2))
    ended = trust.owner(f"/consents/{other['receipt']}/withdrawal", {}).json()["signed"]
    file = {**one["signed"], "withdrawal": ended}
    with pytest.raises((ProtocolViolation, ContractViolation), match="another receipt"):
        verify_statements(as_file(tmp_path, file), {}, online=False, local=True)


def test_what_cannot_be_consented_to_is_refused_and_not_recorded(trust: Trust) -> None:
    code = trust.code(CHILD)
    before = len(trust.entries())
    for change, message in (
        ({"columns": ["blood"]}, "blood"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"separate_consent": ["diagnosis"]}, "separate_consent"),
        ({}, "guardian"),
    ):
        answer = trust.me("POST", "/consents", code, {**TERMS, **change})
        assert answer.status_code == 400, answer.text
        assert message in answer.json()["detail"]
        assert answer.headers["content-type"] == "application/problem+json"
        assert CHILD not in answer.text
    assert len(trust.entries()) == before
    guardian = {"relationship": "mother", "reference": "file 7"}
    assert trust.me("POST", "/consents", code, {**TERMS, "guardian": guardian}).status_code == 201
    assert trust.read() == [CHILD]


def test_people_see_their_own_record_and_take_it_with_them(trust: Trust) -> None:
    code = trust.code(ANN)
    answer = trust.me("GET", "", code)
    assert answer.headers["cache-control"] == "no-store"
    me = answer.json()
    assert me["records"] == [{"resident_id": ANN, "diagnosis": "J10"}]
    assert me["sensitive_columns"] == ["diagnosis"]
    exported = trust.me("GET", "/export", code).json()
    assert exported["format"] == "city-dataspace-personal-export/1"
    assert (exported["subject"], exported["records"]) == (ANN, me["records"])
    asked = trust.me("GET", "/requests", code).json()
    assert asked[0]["recipient"] == CONSUMER
    assert asked[0]["purposes"] == [PURPOSE]
    assert purposes_in({"x": [{"leftOperand": "odrl:purpose", "rightOperand": ["a", "b"]}]}) == (
        "a",
        "b",
    )


@pytest.mark.parametrize("code", ["", "x", "00000-00000-00000-00000-000000"])
def test_a_wrong_code_opens_nothing(trust: Trust, code: str) -> None:
    trust.web.app.state.door.attempts = Attempts()  # type: ignore[attr-defined]
    answer = trust.me("GET", "", code)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


def test_guessing_is_slowed_down_even_for_a_right_code(trust: Trust) -> None:
    door = trust.web.app.state.door  # type: ignore[attr-defined]
    now = [0.0]
    door.attempts = Attempts(lambda: now[0])
    code = trust.code(ANN)
    statuses = [trust.me("GET", "", "x").status_code for _ in range(FAILURES_A_MINUTE + 1)]
    assert statuses == [401] * FAILURES_A_MINUTE + [429]
    assert trust.me("GET", "", code).status_code == 429
    now[0] = 61.0
    assert trust.me("GET", "", code).status_code == 200


def test_the_trustees_routes_are_closed_to_access_codes(trust: Trust) -> None:
    code = trust.code(ANN)
    headers = {"authorization": f"Bearer {code}"}
    for path in ("/people/erasure", "/people/enrolment", "/consents/search"):
        url = f"/api/datasets/{DATASET}{path}"
        assert trust.web.post(url, json={"subject": BOB}, headers=headers).status_code == 401
    key = {"authorization": f"Bearer {trust.node.api_key}"}
    assert trust.web.get("/api/people/me", headers=key).status_code == 401
    counts = trust.web.get(f"/api/datasets/{DATASET}/people", headers=key).json()
    assert counts["people"] >= 2


# ---- the page ----------------------------------------------------------------------------------


def csrf_in(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def test_the_page_does_it_all_without_a_script(trust: Trust) -> None:
    web, code = trust.web, trust.code(ANN)
    shown = web.get("/me?lang=en")
    assert "Access code" in shown.text
    crossed = {"sec-fetch-site": "cross-site"}
    assert web.post("/me/login", data={"code": code}, headers=crossed).status_code == 403
    entered = web.post("/me/login?lang=en", data={"code": code.lower()})
    assert entered.status_code == 303
    cookie = entered.headers["set-cookie"].lower()
    assert all(part in cookie for part in ("httponly", "samesite=strict", "path=/me", "max-age"))
    page = web.get("/me?lang=en")
    assert ANN in page.text
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    # Nothing comes from elsewhere.
    assert not re.search(r'(src|href|action)="(https?:)?//', page.text)
    form = {
        "csrf": csrf_in(page.text),
        "column": ["resident_id", "diagnosis"],
        "separate": ["diagnosis"],
        "purposes": PURPOSE,
        "recipients": CONSUMER,
        "days": "30",
    }
    assert web.post("/me/consents?lang=en", data={**form, "csrf": "x"}).status_code == 403
    assert web.post("/me/consents?lang=en", data=form, headers=crossed).status_code == 403
    assert trust.read() == []
    wrong = web.post("/me/consents?lang=en", data={**form, "purposes": ""})
    assert wrong.status_code == 400
    assert WORDS["en"]["form_incomplete"] in wrong.text
    assert web.post("/me/consents?lang=en", data=form).status_code == 303
    assert trust.read() == [ANN]
    page = web.get("/me", headers={"accept-language": "zh"})
    assert WORDS["zh-CN"]["in_force"] in page.text
    assert CONSUMER in page.text
    receipt = re.search(r'/me/consents/([0-9a-f-]{36})"', page.text)
    assert receipt is not None
    file = web.get(f"/me/consents/{receipt[1]}")
    assert "attachment" in file.headers["content-disposition"]
    assert file.json()["receipt"]
    assert web.get("/me/export").json()["subject"] == ANN
    ended = web.post(f"/me/consents/{receipt[1]}/withdrawal", data={"csrf": form["csrf"]})
    assert ended.status_code == 303
    assert trust.read() == []
    # Whoever gets another code is out at once.
    fresh = trust.code(ANN)
    assert WORDS["en"]["wrong_code"].partition("'")[0] in web.get("/me?lang=en").text
    assert web.post("/me/login?lang=en", data={"code": fresh}).status_code == 303
    form["csrf"] = csrf_in(web.get("/me").text)
    assert web.post("/me/logout", data={"csrf": form["csrf"]}).status_code == 303
    assert ANN not in web.get("/me").text
    assert web.post("/me/erasure", data=form).headers["location"] == "/me"


def test_the_login_page_says_what_is_wrong_in_both_languages(trust: Trust) -> None:
    trust.web.app.state.door.attempts = Attempts()  # type: ignore[attr-defined]
    for language in ("en", "zh-CN"):
        answer = trust.web.post(f"/me/login?lang={language}", data={"code": "<b>"})
        assert answer.status_code == 401
        assert WORDS[language]["wrong_code"].replace("'", "&#39;") in answer.text
    assert trust.web.post("/me/login", json={"code": "x"}).status_code == 400
    assert trust.web.get("/me/style.css").headers["content-type"].startswith("text/css")


def test_both_languages_have_the_same_words() -> None:
    english, chinese = WORDS["en"], WORDS["zh-CN"]
    assert english.keys() == chinese.keys()
    assert all(english.values())
    assert all(chinese.values())


def test_a_session_ends_by_itself(trust: Trust) -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    guest = trust.node.vaults.guest(trust.code(ANN))
    assert guest is not None
    token = sessions.begin(guest)
    assert sessions.of(token) is not None
    now[0] = SESSION_S
    assert sessions.of(token) is None
    assert sessions.of(None) is None


# ---- erasure, last: it takes people away -------------------------------------------------------


def test_an_erasure_has_a_certificate_that_verifies_with_its_evidence(
    trust: Trust, tmp_path: Path
) -> None:
    code = trust.code(BOB)
    trust.me("POST", "/consents", code, TERMS)
    assert trust.me("POST", "/erasure", code, {}).status_code == 400
    assert trust.read() == [BOB]
    file = trust.me("POST", "/erasure", code, {"confirm": True}).json()
    assert trust.read() == []
    assert trust.me("GET", "", code).status_code == 401
    found = verify_statements(as_file(tmp_path, file), {}, online=False, local=True)
    assert found.certificate is not None
    assert (found.certificate.records, found.in_evidence) == (1, False)
    entry = trust.entries()[-1]
    assert entry.type.value == "erased"
    assert entry.outputs_c == (sha256(file["certificate"].encode()).hexdigest(),)
    # Later, with the proof; for whoever knows its number.
    proved = trust.web.get(f"/api/people/erasures/{found.certificate.certificate_id}").json()
    path = as_file(tmp_path, proved)
    assert verify_statements(path, {}, online=False, local=True).in_evidence
    before = trust.web.get(f"/api/people/erasures/{'0' * 36}")
    assert before.status_code == 404
    # The trustee who asks again gets the same certificate.
    again = trust.owner("/people/erasure", {"subject": BOB}).json()
    assert again["certificate"] == file["certificate"]
    for change in (
        {"evidence": {**proved["evidence"], "vkey": "x"}},
        {"evidence": {k: v for k, v in proved["evidence"].items() if k != "proof"}},
        {"certificate": file["certificate"][:-4] + "AAAA"},
    ):
        with pytest.raises(SHOWN):
            verify_statements(as_file(tmp_path, {**proved, **change}), {}, online=False, local=True)


def test_an_erasure_whose_evidence_was_lost_gets_it_at_the_next_start(
    trust: Trust, tmp_path: Path
) -> None:
    file = trust.owner("/people/erasure", {"subject": CHILD}).json()
    # As if the node had been killed between the vault's commit and its own.
    with trust.node.store.transaction() as tx:
        tx.exec(delete(ErasureRow))
    size = len(trust.entries())
    trust.node.vaults.recover()
    trust.node.vaults.recover()
    fresh = trust.owner("/people/erasure", {"subject": CHILD}).json()
    assert fresh["certificate"] != file["certificate"]
    found = verify_statements(as_file(tmp_path, fresh), {}, online=False, local=True)
    assert found.certificate is not None
    assert found.certificate.evidence is not None
    assert size <= found.certificate.evidence.index < len(trust.entries())
    proved = trust.node.vaults.certificate(found.certificate.certificate_id)
    assert verify_statements(as_file(tmp_path, proved), {}, online=False, local=True).in_evidence
