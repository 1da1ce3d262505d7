"""A node whose owner has a real identity provider: the certified `oidc-provider`, under Node.js."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
from fastapi.testclient import TestClient

from dataspace.access import oidc
from dataspace.home import create_home
from dataspace.node import Node
from dataspace.web.app import create_app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("node") is None or shutil.which("npm") is None,
        reason="needs Node.js and npm: the provider is a package of theirs",
    ),
]

FILES = Path(__file__).parent / "oidc"
AUDIENCE = "https://node.example"


@dataclass
class RealProvider:
    process: subprocess.Popen[str]
    url: str

    def token(self, client: str, audience: str = AUDIENCE) -> dict[str, Any]:
        answer = httpx2.post(
            f"{self.url}/token",
            auth=(client, f"secret of {client}".replace(" ", "+")),
            data={"grant_type": "client_credentials", "scope": "node", "resource": audience},
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text
        return cast(dict[str, Any], answer.json())

    def rotate(self) -> None:
        self.process.send_signal(signal.SIGUSR1)
        assert self.process.stdout is not None
        # It says other things, too: what a provider in production should be given.
        said = (self.process.stdout.readline() for _ in range(20))
        assert "rotated\n" in said


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealProvider]:
    directory = tmp_path_factory.mktemp("provider")
    for file in FILES.glob("*"):
        shutil.copy(file, directory)
    install = ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(install, cwd=directory, check=True, timeout=180)
    with subprocess.Popen(
        ["node", "provider.mjs"],
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = (process.stdout.readline().strip() for _ in range(20))
        port = next(line for line in said if line.isdecimal())
        yield RealProvider(process, f"http://127.0.0.1:{port}")
        process.terminate()


@dataclass
class House:
    node: Node
    web: TestClient

    def ask(self, token: str, method: str = "GET", path: str = "/access/self") -> Any:
        headers = {"authorization": f"Bearer {token}"}
        return self.web.request(method, f"/api{path}", headers=headers)


@pytest.fixture
def house(
    provider: RealProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    monkeypatch.setenv("DATASPACE_OIDC_ISSUER", provider.url)
    monkeypatch.setenv("DATASPACE_OIDC_AUDIENCE", AUDIENCE)
    roles = {"city-stewards": "steward", "city-audit": "auditor"}
    monkeypatch.setenv("DATASPACE_OIDC_ROLES", json.dumps(roles))
    url = "http://127.0.0.1:1"
    values = {"name": "n", "kind": "enterprise", "url": url, "operator": "http://127.0.0.1:9"}
    node = Node(create_home(tmp_path / "node", values))
    yield House(node, TestClient(create_app(node), base_url=url))
    node.store.close()


def test_people_of_a_real_provider_have_the_roles_that_the_settings_give_them(
    provider: RealProvider, house: House
) -> None:
    steward = provider.token("clerk-of-data")["access_token"]
    who = house.ask(steward).json()
    assert (who["person"], who["roles"]) == ("clerk-of-data", ["steward"])
    assert house.ask(steward, "GET", "/access/acts").status_code == 403
    auditor = provider.token("night-watch")["access_token"]
    assert house.ask(auditor, "GET", "/access/acts").status_code == 200
    assert house.ask(auditor, "POST", "/datasets/none/withdrawal").status_code == 403
    assert house.ask(steward, "POST", "/datasets/none/withdrawal").status_code == 404
    nobody = provider.token("stranger")["access_token"]
    assert house.ask(nobody).status_code == 403


def test_its_tokens_for_other_audiences_open_nothing(provider: RealProvider, house: House) -> None:
    other = provider.token("clerk-of-data", "https://other.example")["access_token"]
    answer = house.ask(other)
    assert (answer.status_code, "audience" in answer.json()["detail"]) == (401, True)


def test_its_new_key_counts_at_once_and_its_old_tokens_end_with_the_old_one(
    provider: RealProvider, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = provider.token("clerk-of-data")["access_token"]
    assert house.ask(before).status_code == 200
    provider.rotate()
    after = provider.token("clerk-of-data")["access_token"]
    assert house.ask(after).status_code == 401, "keys are not fetched again for every unknown one"
    monkeypatch.setattr(oidc, "REFETCH_AFTER_S", 0.0)
    assert house.ask(after).status_code == 200
    assert house.ask(before).status_code == 401


def test_while_it_is_away_known_keys_count_and_unknown_ones_cannot_be_judged(
    provider: RealProvider, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = provider.token("clerk-of-data")["access_token"]
    assert house.ask(token).status_code == 200
    provider.process.send_signal(signal.SIGSTOP)
    try:
        monkeypatch.setattr(oidc, "FETCH_S", 0.2)
        monkeypatch.setattr(oidc, "REFRESH_S", 0.0)
        monkeypatch.setattr(oidc, "REFETCH_AFTER_S", 0.0)
        assert house.ask(token).status_code == 200
        fresh = create_fresh(house.node)
        assert fresh.ask(token).status_code == 503
    finally:
        provider.process.send_signal(signal.SIGCONT)


def create_fresh(node: Node) -> House:
    """The same node as after a restart: it knows no key of the provider."""
    trust = node.home.settings.identity_provider
    assert trust is not None
    node.access._provider = oidc.Provider(trust, node.http, local=True, clock=time.time)
    return House(node, TestClient(create_app(node), base_url=node.home.url))
