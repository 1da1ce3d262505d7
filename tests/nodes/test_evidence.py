"""Evidence of real nodes: witnessed by counterparties, provable one entry at a time, erasable."""

import base64
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from connectors.personal import ConsentBook
from dataspace.auditing import export_node_log
from dataspace.client import ApiError
from dataspace.demo import truth
from ledger.cosignature import CosignatureVerifier
from ledger.entry import SealedEntry, open_entry
from ledger.errors import InvalidNote
from ledger.note import parse_vkey, verify_note, vkey_of
from ledger.proof import parse_proof
from ledger.witness import add_checkpoint_request

from .command_line import dataspace
from .conftest import PURPOSE, City

ED25519_COSIGNATURE = b"\x04"


def registered_keys(city: City) -> dict[str, str]:
    from ledger.chain import Registry

    space = city.space.operator.client.status()["space"]
    registry = Registry(space["rpc_url"], space["contract"])
    return {log.origin: log.vkey for log in registry.logs()}


def cosigner(vkey: str) -> CosignatureVerifier:
    """The witness key that follows from a log's key on the chain."""
    name, _, _, public_key = parse_vkey(vkey)
    return CosignatureVerifier.parse(vkey_of(name, ED25519_COSIGNATURE, public_key))


def origin(city: City, node: str) -> str:
    return str(city.node(node).client.status()["log"]["origin"])


def wait_for_cosignature(city: City, http: httpx2.Client, *, of: str, by: str) -> None:
    """A witness that was away is asked again, so a cosignature may come a little later."""
    deadline = time.monotonic() + 60
    while True:
        note = http.get(f"{city.node(of).url}/tlog/checkpoint").text
        try:
            verify_note(note, [cosigner(by)])
            return
        except InvalidNote:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_counterparties_cosign_each_others_checkpoints(city: City, http: httpx2.Client) -> None:
    city.compute("psi-cardinality/1", ["residents", "contracts"])
    city.space.wait_until_anchored()
    keys = registered_keys(city)
    providers = ("civil-affairs", "insurer", "health-trust")
    for provider in providers:
        wait_for_cosignature(city, http, of=provider, by=keys[origin(city, "institute")])
        wait_for_cosignature(city, http, of="institute", by=keys[origin(city, provider)])


def test_a_node_cosigns_no_log_it_has_no_agreement_with(city: City, http: httpx2.Client) -> None:
    city.space.wait_until_anchored()
    note = http.get(f"{city.space.operator.url}/tlog/checkpoint").text
    body = add_checkpoint_request(0, [], note)
    answer = http.post(f"{city.node('insurer').url}/tlog/witness/add-checkpoint", content=body)
    assert answer.status_code == 404


def test_a_node_cosigns_no_rewritten_history(city: City, http: httpx2.Client) -> None:
    from ledger.checkpoint import Checkpoint
    from ledger.note import NoteSigner, sign_note

    city.space.wait_until_anchored()
    provider = city.node("insurer")
    name = origin(city, "insurer")
    size = provider.client.status()["log"]["size"]
    # The owner has its own key and signs whatever it likes.
    forged = Checkpoint(name, size, bytes(32))
    note = sign_note(forged.body(), [NoteSigner(name, provider.home.log_key())])
    url = f"{city.node('institute').url}/tlog/witness/add-checkpoint"
    answer = http.post(url, content=add_checkpoint_request(size, [], note))
    assert answer.status_code == 422


@pytest.mark.parametrize("body", [b"", b"old x\n\n", b"\xff" * 100, b"old 0\n" * 10_000])
def test_a_malformed_request_to_cosign_is_refused(
    city: City, http: httpx2.Client, body: bytes
) -> None:
    url = f"{city.node('institute').url}/tlog/witness/add-checkpoint"
    assert http.post(url, content=body).status_code == 400


def test_one_entry_is_proved_to_somebody_who_trusts_no_server(city: City, tmp_path: Path) -> None:
    city.space.wait_until_anchored()
    home = city.node("insurer").home.path
    made = dataspace("log", "prove", 0, "--out", tmp_path, "--home", home, "--json")
    assert made.returncode == 0, made.stderr
    paths = json.loads(made.stdout)
    space = city.space.operator.client.status()["space"]
    chain = ["--rpc", space["rpc_url"], "--contract", space["contract"]]
    online = dataspace("audit", "verify", paths["proof"], "--entry", paths["entry"], *chain)
    assert online.returncode == 0, online.stderr
    vkey = registered_keys(city)[origin(city, "insurer")]
    offline = dataspace(
        "audit", "verify", paths["proof"], "--entry", paths["entry"], "--vkey", vkey
    )
    assert offline.returncode == 0, offline.stderr

    entry = json.loads(Path(paths["entry"]).read_text(encoding="utf-8"))
    body = json.loads(base64.b64decode(entry["body"]))
    body["type"] = "refused"
    entry["body"] = base64.b64encode(json.dumps(body).encode()).decode()
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(entry), encoding="utf-8")
    refused = dataspace("audit", "verify", paths["proof"], "--entry", forged, "--vkey", vkey)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr


def test_a_record_is_proved_by_a_post_quantum_signature_alone(city: City, tmp_path: Path) -> None:
    city.space.wait_until_anchored()
    # In this space everybody signs checkpoints with ML-DSA-44 too.
    node = city.node("health-trust")
    made = dataspace("log", "prove", 0, "--out", tmp_path, "--home", node.home.path, "--json")
    paths = json.loads(made.stdout)
    vkey = json.loads(Path(paths["anchor"]).read_text(encoding="utf-8"))["post_quantum_vkey"]
    command = ["audit", "verify", paths["proof"], "--entry", paths["entry"], "--vkey", vkey]
    assert dataspace(*command).returncode == 0
    proof = Path(paths["proof"])
    lines = proof.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not (line.startswith("— ") and len(line) > 2000)]
    assert len(kept) == len(lines) - 1
    proof.write_text("\n".join(kept) + "\n", encoding="utf-8")
    assert dataspace(*command).returncode == 1


def test_an_entry_is_shown_to_the_participant_it_is_about_and_to_no_other(
    city: City, http: httpx2.Client, token_from: Callable[..., str]
) -> None:
    provider = city.node("insurer")
    shown: dict[str, int] = {}
    for index, one in enumerate(provider.client.call("GET", "/api/log")):
        sealed = SealedEntry.parse(one)
        entry = open_entry(sealed.body, sealed.salt, sealed.commitment)
        mine = entry.peer == city.node("institute").did
        token = token_from(provider.did)
        answer = http.get(
            f"{provider.url}/tlog/entry/{index}", headers={"authorization": f"Bearer {token}"}
        )
        assert answer.status_code == (200 if mine else 404)
        shown[entry.type.value] = answer.status_code
    assert shown["negotiated"] == 200
    assert shown["published"] == 404


def test_an_erased_entry_is_gone_and_its_proof_still_holds(
    city: City, http: httpx2.Client, tmp_path: Path
) -> None:
    provider = city.node("health-trust")
    city.space.wait_until_anchored()
    proof = http.get(f"{provider.url}/tlog/proof/1").text
    erased = dataspace("log", "erase", 1, "--home", provider.home.path, "--yes")
    assert erased.returncode == 0, erased.stderr
    assert provider.client.call("GET", "/api/log?start=1&end=2") == [None]
    assert http.get(f"{provider.url}/tlog/proof/1").text == proof
    assert parse_proof(proof).index == 1
    city.space.wait_until_anchored()
    export_node_log(provider.client, tmp_path / "copy")
    space = city.space.operator.client.status()["space"]
    audited = dataspace(
        *("audit", "--rpc", space["rpc_url"], "--contract", space["contract"]),
        *("--log", tmp_path / "copy", "--json"),
    )
    told: dict[str, Any] = json.loads(audited.stdout)
    assert audited.returncode == 0, told["findings"]
    assert told["logs"][0]["entries_erased"] == 1


def test_an_entry_that_is_not_there_is_named(city: City, http: httpx2.Client) -> None:
    assert http.get(f"{city.node('insurer').url}/tlog/proof/99999").status_code == 404
    missing = dataspace("log", "prove", 99999, "--home", city.node("insurer").home.path)
    assert missing.returncode == 1
    assert "no entry 99999" in missing.stderr


def test_a_new_log_key_is_recorded_in_the_log_and_on_the_chain(
    city: City, http: httpx2.Client, tmp_path: Path
) -> None:
    provider = city.node("insurer")
    city.space.wait_until_anchored()
    before = provider.client.status()["log"]
    done = dataspace("log", "rotate", "--home", provider.home.path, "--json")
    assert done.returncode == 0, done.stderr
    vkey = json.loads(done.stdout)["vkey"]
    assert vkey != before["vkey"]
    city.space.wait_until_anchored()
    assert registered_keys(city)[before["origin"]] == vkey
    # The counterparty learns the new key from the chain and goes on cosigning.
    keys = registered_keys(city)
    wait_for_cosignature(city, http, of="insurer", by=keys[origin(city, "institute")])
    types = [
        open_entry(sealed.body, sealed.salt, sealed.commitment).type.value
        for sealed in map(SealedEntry.parse, provider.client.call("GET", "/api/log"))
    ]
    # Who asked for it is recorded with the first of them.
    assert types[-3:] == ["key_rotated", "administered", "key_rotated"]
    # What was proved under the old key stays proved, because it was anchored before.
    made = dataspace("log", "prove", 0, "--out", tmp_path, "--home", provider.home.path, "--json")
    paths = json.loads(made.stdout)
    chain = city.space.operator.client.status()["space"]
    proved = dataspace(
        *("audit", "verify", paths["proof"], "--entry", paths["entry"]),
        *("--rpc", chain["rpc_url"], "--contract", chain["contract"]),
    )
    assert proved.returncode == 0, proved.stderr
    space = city.space.operator.client.status()["space"]
    audited = dataspace(
        *("audit", "--rpc", space["rpc_url"], "--contract", space["contract"]),
        *("--home", city.regulator.path, "--json"),
    )
    assert audited.returncode == 0, audited.stdout


def test_a_consent_given_and_withdrawn_counts_at_once_and_names_nobody_in_the_log(
    city: City,
) -> None:
    trustee = city.node("health-trust")
    book = ConsentBook.load(city.data / "consents.jsonl")
    patients = truth.people(truth.rows(city.data / "health.csv"), "resident_id", "resident-id/1")
    residents = truth.people(
        truth.rows(city.data / "residents.csv"), "resident_id", "resident-id/1"
    )
    institute, now = city.node("institute").did, datetime.now(UTC)
    silent = sorted(
        person
        for person in patients & residents
        if not book.covers(person, ("resident_id",), PURPOSE, institute, now)
    )[0]

    def count() -> int:
        found = city.compute("psi-cardinality/1", ["residents", "health"])
        return int(found.value["count"])

    before, log_before = count(), len(trustee.client.call("GET", "/api/log"))
    command = [
        *("consent", "give", "health", "--column", "resident_id", "--purpose", PURPOSE),
        *("--recipient", institute, "--home", trustee.home.path, "--json"),
    ]
    given = dataspace(*command, text=silent)
    assert given.returncode == 0, given.stderr
    receipt = json.loads(given.stdout)["receipt"]
    assert count() == before + 1
    withdrawn = dataspace("consent", "withdraw", "health", receipt, "--home", trustee.home.path)
    assert withdrawn.returncode == 0, withdrawn.stderr
    assert count() == before
    new = [SealedEntry.parse(one) for one in trustee.client.call("GET", "/api/log")[log_before:]]
    entries = [open_entry(one.body, one.salt, one.commitment) for one in new]
    types = [entry.type.value for entry in entries]
    assert types.count("consent_given") == types.count("consent_withdrawn") == 1
    assert not any(silent.encode() in one.body or receipt.encode() in one.body for one in new)
    assert silent not in trustee.log_path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"columns": ["blood"]}, "blood"),
        ({"subject": "440305"}, "resident-id/1"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"recipients": []}, "recipients"),
    ],
)
def test_a_consent_that_cannot_be_kept_is_refused_and_not_recorded(
    city: City, change: dict[str, Any], sentence: str
) -> None:
    trustee = city.node("health-trust").client
    body = {
        "subject": "11010519491231002X",
        "columns": ["resident_id"],
        "purposes": [PURPOSE],
        "recipients": ["*"],
        "expires_at": "2030-01-01T00:00:00Z",
        **change,
    }
    before = trustee.status()["log"]["size"]
    with pytest.raises(ApiError, match=sentence) as refused:
        trustee.call("POST", "/api/datasets/health/consents", body)
    assert refused.value.status == 400
    assert "440305" not in refused.value.sentence
    assert trustee.status()["log"]["size"] == before


def test_a_dataset_without_consents_takes_none(city: City) -> None:
    with pytest.raises(ApiError, match="not read under consent"):
        city.node("insurer").client.call("POST", "/api/datasets/contracts/consents/x/withdrawal")


@pytest.mark.slow
def test_a_second_audit_reads_only_what_is_new_and_reports_for_people(
    city: City, tmp_path: Path
) -> None:
    space = city.space.operator.client.status()["space"]
    state, report = tmp_path / "state.json", tmp_path / "report.html"
    command = [
        *("audit", "--rpc", space["rpc_url"], "--contract", space["contract"], "--json"),
        *("--home", city.regulator.path, "--state", state, "--max-anchor-delay", 3600),
        *("--out", report, "--lang", "zh"),
    ]
    city.compute("psi-cardinality/1", ["residents", "contracts"])
    city.space.wait_until_anchored()
    first = dataspace(*command)
    assert first.returncode == 0, first.stdout
    assert {log["resumed_from"] for log in json.loads(first.stdout)["logs"]} == {0}
    checks = {one["code"]: one for one in json.loads(first.stdout)["checks"]}
    assert checks["agreements-judged"]["done"] == checks["agreements-judged"]["total"] > 0
    city.compute("psi-cardinality/1", ["residents", "contracts"])
    city.space.wait_until_anchored()
    second = dataspace(*command)
    assert second.returncode == 0, second.stdout
    resumed = {log["origin"]: log["resumed_from"] for log in json.loads(second.stdout)["logs"]}
    assert resumed[origin(city, "insurer")] > 0
    page = report.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "http://" not in page.replace(space["rpc_url"], "")
    assert origin(city, "insurer") in page


def test_a_checkpoint_without_enough_witnesses_is_found(city: City) -> None:
    space = city.space.operator.client.status()["space"]
    audited = dataspace(
        *("audit", "--rpc", space["rpc_url"], "--contract", space["contract"], "--json"),
        *("--log", f"{city.space.operator.url}/tlog", "--require-witnesses", 1),
    )
    # The operator has no agreements, and so no counterparty that watches it.
    assert audited.returncode == 1
    codes = {one["code"] for one in json.loads(audited.stdout)["findings"]}
    assert codes == {"cosignatures-missing"}
