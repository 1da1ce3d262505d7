"""A space whose nodes sign with SM2 and seal with SM4, and some of them with ML-DSA-44 besides."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dataspace.deeds import verify_deed
from dataspace.demo.space import LocalSpace
from dataspace.identity.keys import SigningAlgorithm
from dataspace.sealing_suites import SealingSuite
from dataspace.secret_files import BEGINNINGS
from dataspace.settings import ParticipantKind

from .command_line import dataspace
from .conftest import PURPOSE, terms

IDENTIFIER = {"name": "name", "role": "identifier", "canonicaliser": "text/1"}
PEOPLE = [f"person {number}" for number in range(60)]


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSpace]:
    directory = tmp_path_factory.mktemp("national")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATASPACE_PASSPHRASE", "a passphrase of the tests")
        made = LocalSpace(
            directory,
            algorithm=SigningAlgorithm.SM2,
            sealing=SealingSuite.SM4,
            # The bureau has one key, the others two.
            settings_of={name: {"post_quantum": True} for name in ("insurer", "institute")},
        )
        with made as space:
            space.found(
                {
                    "bureau": ParticipantKind.GOVERNMENT,
                    "insurer": ParticipantKind.ENTERPRISE,
                    "institute": ParticipantKind.CONSUMER,
                }
            )
            yield space


def deed_of(space: LocalSpace, agreement: str, file: Path) -> Any:
    client = space.nodes["institute"].client
    found = client.call("GET", f"/api/agreements/{quote(agreement, safe='')}/deed")
    file.write_text(json.dumps(found), encoding="utf-8")
    return verify_deed(file, {}, online=True, local=True)


@pytest.mark.slow
def test_such_a_space_negotiates_computes_anchors_and_is_audited_clean(
    space: LocalSpace, tmp_path: Path
) -> None:
    institute, agreements = space.nodes["institute"], []
    own = tmp_path / "own.csv"
    own.write_text("\n".join(["name", *PEOPLE[:40]]) + "\n", encoding="utf-8")
    for name in ("bureau", "insurer"):
        file = tmp_path / f"{name}.csv"
        file.write_text("\n".join(["name", *PEOPLE[10:]]) + "\n", encoding="utf-8")
        provider = space.nodes[name]
        provider.client.publish(name, file, [IDENTIFIER], terms=terms())
        agreements.append(institute.client.negotiate(provider.url, name))
    mixed, hybrid = (
        deed_of(space, one, tmp_path / f"{number}.json") for number, one in enumerate(agreements)
    )
    # Every key is found in its owner's document, and the deed says who signed with two.
    bureau, insurer = (space.nodes[name].did for name in ("bureau", "insurer"))
    assert set(mixed.known_by) == {bureau, institute.did}
    assert set(mixed.second_known_by) == {institute.did}
    assert set(hybrid.second_known_by) == {insurer, institute.did}
    header = json.loads((tmp_path / "0.json").read_text())["signatures"][0]["header"]
    assert (header["jwk"]["kty"], header["jwk"]["crv"]) == ("EC", "SM2")
    done = institute.client.compute(
        "psi/2",
        [agreements[0]],
        purpose=PURPOSE,
        timeout_s=120.0,
        own=(str(own), "name"),
    )
    assert done.value["count"] == 30
    regulator = space.add_regulator("regulator")
    space.wait_until_anchored()
    audited = dataspace(
        *("audit", "--space", space.operator.url, "--home", regulator.path, "--json")
    )
    told = json.loads(audited.stdout)
    assert audited.returncode == 0, told["findings"]
    assert told["findings"] == []


@pytest.mark.slow
def test_nothing_of_such_a_home_is_sealed_otherwise(space: LocalSpace) -> None:
    for node in space.nodes.values():
        for path in (node.home.path / "keys").iterdir():
            assert path.read_text().startswith(BEGINNINGS[SealingSuite.SM4]), path.name
