"""Over real nodes: keys that change while the space works, and members that are no more."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from dataspace.client import ApiError, Refused
from dataspace.demo.space import LocalSpace
from dataspace.settings import ParticipantKind

from .command_line import dataspace
from .conftest import DISTRICT, RESIDENT_ID, ROOT, City, terms
from .test_faults import run_audit

pytestmark = pytest.mark.slow
DATASETS = {"residents": "subsidy_cents", "contracts": "amount_cents"}
PROVIDERS = {"residents": "civil-affairs", "contracts": "insurer"}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    """A space of its own, because a revocation is for good; keys change without much ado."""
    directory = tmp_path_factory.mktemp("identity")
    data = directory / "data"
    script = ROOT / "examples" / "quickstart" / "residents.py"
    subprocess.run(
        [sys.executable, str(script), "--out", str(data), "--seed", "11", "--people", "300"],
        check=True,
        capture_output=True,
    )
    settings = {"key_announced_s": 0.5, "key_overlap_s": 1.0}
    with LocalSpace(directory, settings=settings) as space:
        space.found(
            {
                "civil-affairs": ParticipantKind.GOVERNMENT,
                "insurer": ParticipantKind.ENTERPRISE,
                "institute": ParticipantKind.CONSUMER,
            }
        )
        built = City(space, data, space.add_regulator("regulator"))
        for dataset, value in DATASETS.items():
            columns = [RESIDENT_ID, {"name": value, "role": "value"}, DISTRICT]
            provider = built.node(PROVIDERS[dataset])
            provider.client.publish(dataset, data / f"{dataset}.csv", columns, terms=terms())
            built.agreements[dataset] = built.consumer.negotiate(provider.url, dataset)
        yield built


def keys_of(town: City, node: str) -> dict[str, str]:
    found = town.node(node).client.call("GET", "/api/keys")
    return {one["algorithm"]: one["state"] for one in found}


def wait_for(town: City, node: str, states: dict[str, str]) -> None:
    until = time.monotonic() + 60.0
    while keys_of(town, node) != states:
        assert time.monotonic() < until, keys_of(town, node)
        time.sleep(0.1)


def test_every_key_is_changed_while_the_space_works_and_the_audit_is_clean(town: City) -> None:
    before = town.compute("psi-cardinality/1", list(DATASETS)).value
    for name in ("operator", *PROVIDERS.values(), "institute"):
        home = str(town.node(name).home.path)
        done = dataspace("key", "rotate", "--algorithm", "ES256", "--home", home, "--json")
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)["thumbprint"]) == 43
        # Under way with whichever key each node has at the moment.
        assert town.compute("psi-cardinality/1", list(DATASETS)).value == before
    for name in ("operator", *PROVIDERS.values(), "institute"):
        wait_for(town, name, {"ES256": "in use", "Ed25519": "retired"})
    assert town.compute("psi-cardinality/1", list(DATASETS)).value == before
    # An agreement signed before, whose keys a third party looks up in the documents of today.
    deed = town.consumer.call("GET", f"/api/agreements/{quote(town.agreements['residents'])}/deed")
    path = town.data / "deed.json"
    path.write_text(json.dumps(deed))
    checked = dataspace("agreement", "verify", str(path), "--online", "--local", "--json")
    assert checked.returncode == 0, checked.stderr + checked.stdout
    town.space.wait_until_anchored()
    audited = run_audit(town)
    assert audited.returncode == 0, audited.stdout + audited.stderr


def test_a_node_whose_kind_offers_nothing_publishes_nothing(town: City) -> None:
    columns = [RESIDENT_ID, DISTRICT]
    with pytest.raises(ApiError, match="a participant of kind consumer may not offer data"):
        town.consumer.publish("mine", town.data / "residents.csv", columns, terms=terms())


def change(town: City, act: str) -> None:
    """Change the consumer's standing, and let the providers fetch the lists now."""
    did, home = town.node("institute").did, str(town.space.operator.home.path)
    done = dataspace("member", act, did, "--reason", "a test", "--home", home, "--json")
    assert done.returncode == 0, done.stderr
    for name in PROVIDERS.values():
        refreshed = dataspace("member", "refresh", "--home", str(town.node(name).home.path))
        assert refreshed.returncode == 0, refreshed.stderr


def test_a_member_is_suspended_reinstated_and_revoked(town: City) -> None:
    provider = town.node("insurer")
    change(town, "suspend")
    with pytest.raises(ApiError, match="was suspended by its operator"):
        town.consumer.catalog(provider.url)
    change(town, "reinstate")
    assert town.consumer.catalog(provider.url)["dataset"]
    assert town.compute("psi-cardinality/1", list(DATASETS)).value["count"] > 0
    change(town, "revoke")
    with pytest.raises(ApiError, match="was revoked by its operator"):
        town.consumer.catalog(provider.url)
    with pytest.raises((ApiError, Refused), match=r"revoked|ended"):
        town.compute("psi-cardinality/1", list(DATASETS))
    shown = dataspace(
        "member",
        "list",
        "--status",
        "revoked",
        "--home",
        str(town.space.operator.home.path),
        "--json",
    )
    assert [one["did"] for one in json.loads(shown.stdout)] == [town.node("institute").did]
    town.space.wait_until_anchored()
    audited = run_audit(town)
    assert audited.returncode == 0, audited.stdout + audited.stderr
