"""What a space does, on PostgreSQL and with two processes a node: one sees what the other did."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.source import open_source
from connectors.vault_import import import_records
from connectors.vault_making import create_vault
from dataspace.backups.databases import log_state, reading
from dataspace.client import ApiError, Refused
from dataspace.demo import truth
from dataspace.home import Home

from .command_line import dataspace
from .conftest import PURPOSE, RESIDENT_ID, ROOT, terms
from .replicated_town import COMMON, Town, ended, new_database
from .rows_that_leave import AMOUNT, LEAVES, NAME, OWN, PULL, PUSH, ROWS_MAY_LEAVE, policy
from .test_vault_nodes import grown

pytestmark = pytest.mark.slow

GROUPED = [{"name": "amount", "role": "value"}, {"name": "district", "role": "group"}]
DISTRICTS = 5


def test_totals_of_two_providers_add_up_by_group(replicated_town: Town, tmp_path: Path) -> None:
    town, file = replicated_town, tmp_path / "grouped.csv"
    rows = [(number % 7, f"d{number % DISTRICTS}") for number in range(200)]
    file.write_text("amount,district\n" + "".join(f"{one},{where}\n" for one, where in rows))
    agreements = []
    for node, name in ((town.bureau, "grouped"), (town.space.nodes["insurer"], "grouped-too")):
        node.client.publish(name, file, GROUPED, terms=terms())
        url = node.home.url
        agreements.append(town.institute.client.negotiate(url, name))
    found = town.institute.client.compute(
        "aggregate/2", agreements, purpose=PURPOSE, parameters={"statistics": ["sum", "count"]}
    )
    told = {cell["group"]: (int(cell["sum"]), int(cell["count"])) for cell in found.value["cells"]}
    assert told == {
        f"d{number}": (
            2 * sum(one for one, where in rows if where == f"d{number}"),
            2 * sum(where == f"d{number}" for _, where in rows),
        )
        for number in range(DISTRICTS)
    }


@pytest.mark.parametrize("format_", [PULL, PUSH])
def test_rows_come_byte_for_byte(replicated_town: Town, tmp_path: Path, format_: str) -> None:
    town, name = replicated_town, f"rows-{format_.lower()}"
    file = tmp_path / "rows.csv"
    file.write_text(OWN, encoding="utf-8")
    offered = {"policy": policy(ROWS_MAY_LEAVE), "formats": (PULL, PUSH)}
    town.bureau.client.publish(
        name, file, [NAME, AMOUNT], confirmed=True, legal_basis="contract", **offered
    )
    consumer = town.institute.client
    agreement = consumer.negotiate(town.bureau.home.url, name)
    asked = {"agreement": agreement, "format": format_}
    begun = consumer.call("POST", "/api/transfers", asked)
    done = consumer.poll(f"/api/transfers/{begun['id']}", ended, 60.0)
    assert (done["state"], done["reason"]) == ("COMPLETED", None)
    assert Path(done["moved"]["file"]).read_bytes() == LEAVES


def test_a_consent_given_at_one_process_counts_in_the_other_and_so_does_its_end(
    replicated_town: Town, tmp_path: Path
) -> None:
    town, data = replicated_town, tmp_path / "data"
    script = ROOT / "examples" / "quickstart" / "residents.py"
    made = [sys.executable, str(script), "--out", str(data), "--seed", "11", "--people", "300"]
    subprocess.run(made, check=True, capture_output=True)
    patients = truth.people(truth.rows(data / "health.csv"), "resident_id", "resident-id/1")
    ann, bob = sorted(person for person in patients if grown(person))[:2]
    vault = create_vault(tmp_path / "vault", subject="resident_id")
    import_records(vault, open_source(str(data / "health.csv")), datetime.now(UTC))
    own = tmp_path / "own.csv"
    own.write_text("\n".join(["resident_id", ann, bob]) + "\n", encoding="utf-8")
    bureau, consumer = town.bureau, town.institute.client
    source = f"vault:{vault.folder}"
    bureau.client.publish("vaulted", source, [RESIDENT_ID], terms=terms(min_cohort=1))
    agreement = consumer.negotiate(bureau.home.url, "vaulted")
    enrol = "/api/datasets/vaulted/people/enrolment"
    codes = {
        who: bureau.ask(name, "POST", enrol, {"subject": who})["access_code"]
        for who, name in ((ann, "a"), (bob, "b"))
    }
    given = {
        "columns": ["resident_id"],
        "purposes": [PURPOSE],
        "recipients": [town.institute.client.status()["did"]],
        "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
    }

    def me(name: str, who: str, method: str, path: str, body: Any = None) -> Any:
        return bureau.ask(name, method, f"/api/people/me{path}", body, key=codes[who])

    def seen() -> list[list[str]]:
        """What two runs see: whichever process of the bureau reads."""
        asked: dict[str, Any] = {"purpose": PURPOSE, "own": (own, "resident_id"), "min_cohort": 1}
        runs = [consumer.compute("psi/1", [agreement], **asked) for _ in range(2)]
        return [sorted(one.value["identifiers"]) for one in runs]

    # Each at the process that did not enrol the person.
    receipts = {
        who: me(name, who, "POST", "/consents", given)["receipt"]
        for who, name in ((ann, "b"), (bob, "a"))
    }
    assert seen() == [[ann, bob]] * 2
    me("a", ann, "POST", f"/consents/{receipts[ann]}/withdrawal")
    assert seen() == [[bob]] * 2
    assert me("b", bob, "GET", "/uses") == me("a", bob, "GET", "/uses")
    assert len(me("b", ann, "GET", "/uses")) == 2


def test_a_zone_admits_and_expels(replicated_town: Town) -> None:
    town = replicated_town
    operator, insurer = town.space.operator.client, town.space.nodes["insurer"]
    institute = town.institute.client.status()["did"]
    operator.call(
        "POST", "/api/zones", {"name": "harbour", "title": "Harbour", "steward": insurer.did}
    )
    for one in (insurer.did, town.bureau.client.status()["did"]):
        operator.call("POST", "/api/zones/harbour/admissions", {"did": one})

    def until_both_know(did: str, *, member: bool) -> None:
        """One process fetched the list; the other takes it up with its next beat."""
        for name in town.bureau.ports:

            def told(_: Any, name: str = name) -> bool:
                lists = town.bureau.ask(name, "GET", "/api/zone-lists")
                return [did in one["members"] for one in lists] == [member]

            town.bureau.client.poll("/api/status", told, 30.0)

    identifier = [{"name": "person", "role": "identifier"}]
    rows = town.own
    town.bureau.client.publish("zoned", rows, identifier, terms=terms(), zones=["harbour"])
    with pytest.raises(Refused):
        town.institute.client.negotiate(town.bureau.home.url, "zoned")
    operator.call("POST", "/api/zones/harbour/admissions", {"did": institute})
    town.bureau.client.call("POST", "/api/zone-lists/refreshes")
    until_both_know(institute, member=True)
    agreement = town.institute.client.negotiate(town.bureau.home.url, "zoned")
    asked: dict[str, Any] = {"purpose": PURPOSE, "own": (rows, "person")}
    found = town.institute.client.compute("psi/2", [agreement], **asked)
    assert found.value["count"] == COMMON
    operator.call("POST", "/api/zones/harbour/expulsions", {"did": institute})
    town.bureau.client.call("POST", "/api/zone-lists/refreshes")
    until_both_know(institute, member=False)
    with pytest.raises(Refused):
        town.institute.client.compute("psi/2", [agreement], **asked)


def test_one_search_finds_what_was_published_anywhere(replicated_town: Town) -> None:
    town = replicated_town
    for node, name in ((town.bureau, "measles-a"), (town.space.nodes["insurer"], "measles-b")):
        identifier = [{"name": "person", "role": "identifier"}]
        node.client.publish(name, town.own, identifier, terms=terms(), title=f"Measles {name}")
    home = town.institute.home.path
    done = dataspace("search", "measles", "--refresh", "--home", home, "--json")
    assert done.returncode == 0, done.stderr
    hits = {hit["dataset"]["@id"] for hit in json.loads(done.stdout)["hits"]}
    assert hits == {"measles-a", "measles-b"}


def test_an_agreement_about_one_state_of_the_data_ends_with_it(
    replicated_town: Town, tmp_path: Path
) -> None:
    town, file = replicated_town, tmp_path / "pinned.csv"
    file.write_bytes(town.own.read_bytes())
    identifier = [{"name": "person", "role": "identifier"}]
    town.bureau.client.publish("pinned", file, identifier, terms=terms(), pin_version=True)
    consumer = town.institute.client
    agreement = consumer.negotiate(town.bureau.home.url, "pinned")
    asked: dict[str, Any] = {"purpose": PURPOSE, "own": (town.own, "person")}
    assert consumer.compute("psi/2", [agreement], **asked).value["count"] == COMMON
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[:-1]), encoding="utf-8")
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            consumer.compute("psi/2", [agreement], **asked)
        assert "negotiate an agreement" in str(refused.value.remedy)
    assert [one["number"] for one in town.bureau.client.versions("pinned")] == [2, 1]
    anew = consumer.negotiate(town.bureau.home.url, "pinned")
    assert consumer.compute("psi/2", [anew], **asked).value["count"] == COMMON - 1


def test_keys_are_changed_at_one_process_while_both_work(replicated_town: Town) -> None:
    town, consumer = replicated_town, replicated_town.institute.client
    people = consumer.negotiate(town.bureau.home.url, "people", reuse=True)
    asked: dict[str, Any] = {"purpose": PURPOSE, "own": (town.own, "person")}

    def compute() -> int:
        return int(consumer.compute("psi/2", [people], **asked).value["count"])

    for node in (town.bureau, town.institute):
        node.ask("a", "POST", "/api/keys/rotations", {"algorithm": "ES256"})
        assert compute() == COMMON
        node.client.call("POST", "/api/log/rotation")
        with pytest.raises(ApiError, match="being changed already"):
            node.client.call("POST", "/api/log/rotation")
        assert compute() == COMMON
        node.client.wait_until(lambda status: not status["log"]["rotating"])

    def states(node: Any, name: str) -> dict[str, str]:
        return {one["algorithm"]: one["state"] for one in node.ask(name, "GET", "/api/keys")}

    for node in (town.bureau, town.institute):
        node.client.poll(
            "/api/status",
            lambda _, node=node: states(node, "a")["Ed25519"] == "retired",
            60.0,
        )
        assert states(node, "a") == states(node, "b")
        # Each signs with the key that the chain knows, whichever of them changed it.
        (vkey,) = {node.ask(name, "GET", "/api/status")["log"]["vkey"] for name in node.ports}
        assert vkey
    assert [compute() for _ in range(4)] == [COMMON] * 4
    town.wait_until_anchored()
    audited = town.audit()
    assert audited.returncode == 0, audited.stdout + audited.stderr


def test_a_running_node_is_backed_up_and_its_copy_is_whole(
    replicated_town: Town, tmp_path: Path
) -> None:
    town, consumer = replicated_town, replicated_town.institute.client
    people = consumer.negotiate(town.bureau.home.url, "people", reuse=True)
    asked = {
        "kind": "psi/2",
        "agreements": [people],
        "purpose": PURPOSE,
        "own": {"source": str(town.own), "identifier": "person"},
    }
    begun = consumer.call("POST", "/api/computations", asked)
    secret = tmp_path / "passphrase"
    secret.write_text("the passphrase of the backups", encoding="utf-8")
    sealed = ("--passphrase-file", secret, "--json")
    made = dataspace("backup", "--home", town.bureau.home.path, "--to", tmp_path / "b", *sealed)
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    found = consumer.poll(f"/api/computations/{begun['id']}", ended, 120.0)
    assert (found["status"], found["value"]["count"]) == ("COMPLETED", COMMON)
    again = tmp_path / "again"
    database = new_database(town.server)
    where = ("--home", again, "--database", database)
    restored = dataspace("restore", told["file"], *where, *sealed)
    assert restored.returncode == 0, restored.stdout + restored.stderr
    held = json.loads(restored.stdout)["backup"]["log"]
    with reading(database) as connection:
        found_there = log_state(connection, Home(again))
    assert found_there is not None
    assert (found_there.size, found_there.anchored) == (held["size"], held["anchored"])
    assert held["size"] > 0
