"""Nodes that are lost and come back from a backup; and what an older backup is told."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dataspace.client import ApiError
from dataspace.demo.space import LocalSpace, RunningNode
from dataspace.home import Home
from dataspace.settings import ParticipantKind
from tests.nodes.command_line import dataspace
from tests.nodes.conftest import PURPOSE, terms

pytestmark = pytest.mark.slow
COLUMNS = [{"name": "person", "role": "identifier"}, {"name": "amount", "role": "value"}]
PASSPHRASE = "the passphrase of the backups"
WAIT_S = 60.0


@dataclass
class Scene:
    """A provider whose data a consumer negotiates for, all in processes of their own."""

    space: LocalSpace
    directory: Path
    passphrase: Path

    @property
    def provider(self) -> RunningNode:
        return self.space.nodes["provider"]

    @property
    def consumer(self) -> RunningNode:
        return self.space.nodes["consumer"]

    def back_up(self, node: RunningNode) -> Path:
        made = self.told("backup", "--home", node.home.path, "--to", self.directory / "backups")
        return Path(made["file"])

    def told(self, *arguments: object, code: int = 0) -> Any:
        done = dataspace(*arguments, "--json", *self._sealed(arguments))
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def _sealed(self, arguments: tuple[object, ...]) -> tuple[object, ...]:
        sealed = arguments[0] in ("backup", "restore")
        return ("--passphrase-file", self.passphrase) if sealed else ()

    def restored(self, backup: Path, name: str, directory: str) -> tuple[RunningNode, Any]:
        """The node of that name from a backup, in another directory, at its address."""
        path = self.directory / directory
        told = self.told("restore", backup, "--home", path)
        log = self.directory / f"{directory}.log"
        node = RunningNode(name, Home(path), log)
        self.space.nodes[name] = node
        return node, told

    def uses(self, agreement: str) -> None:
        self.consumer.client.compute(
            "psi/1",
            [agreement],
            purpose=PURPOSE,
            own=(self.directory / "own.csv", "person"),
            timeout_s=WAIT_S,
        )

    def audit(self) -> tuple[int, str]:
        space = self.space.operator.client.status()["space"]
        where = ("--rpc", space["rpc_url"], "--contract", space["contract"])
        done = dataspace("audit", "--json", *where, "--home", self.directory / "regulator")
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("backups")
    people = "\n".join(f"person-{number},{number}" for number in range(60))
    (directory / "people.csv").write_text(f"person,amount\n{people}\n")
    (directory / "own.csv").write_text(f"person,amount\n{people}\n")
    passphrase = directory / "passphrase"
    passphrase.write_text(PASSPHRASE + "\n")
    (directory / "backups").mkdir()
    with LocalSpace(directory) as space:
        kinds = {"provider": ParticipantKind.ENTERPRISE, "consumer": ParticipantKind.CONSUMER}
        space.found(kinds)
        space.add_regulator("regulator")
        built = Scene(space, directory, passphrase)
        source = directory / "people.csv"
        built.provider.client.publish("people", source, COLUMNS, terms=terms())
        yield built


def wait_for_status(node: RunningNode, verdict: str) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            status = node.client.status()
        except ApiError:
            status = {}
        if status and status["log"]["standing"]["verdict"] == verdict:
            return status
        assert time.monotonic() < deadline, node.log_tail()
        time.sleep(0.05)


def test_a_node_lost_under_load_comes_back_from_its_backup_and_an_older_one_is_told(
    scene: Scene,
) -> None:
    url, stop = scene.provider.url, threading.Event()
    made: list[str] = []

    def load() -> None:
        while not stop.is_set():
            made.append(scene.consumer.client.negotiate(url, "people"))

    loading = threading.Thread(target=load)
    loading.start()
    try:
        while len(made) < 3:
            assert loading.is_alive()
            time.sleep(0.02)
        older = scene.back_up(scene.provider)
        seen = len(made)
        while len(made) < seen + 3:
            assert loading.is_alive()
            time.sleep(0.02)
    finally:
        stop.set()
        loading.join()
    scene.uses(made[-1])
    scene.space.wait_until_anchored()
    verified = scene.told("backup", "verify", older)
    newest = scene.back_up(scene.provider)
    copy = scene.directory / "copy"
    mirrored = scene.told("log", "mirror", f"{url}/tlog", copy)
    size = scene.provider.client.status()["log"]["size"]
    assert mirrored["entries"] == size > verified["log"]["size"]
    examined = scene.told("doctor", "--home", scene.provider.home.path)
    assert examined["ok"], examined
    scene.provider.kill()

    # The older one is told so where it is restored, and where it is started.
    node, told = scene.restored(older, "provider", "older")
    assert told["log"]["verdict"] == "rewound"
    assert str(size) in told["log"]["sentence"]
    node.start()
    status = wait_for_status(node, "rewound")
    assert status["log"]["standing"]["remedy"]
    assert status["log"]["size"] == verified["log"]["size"]
    with pytest.raises(ApiError, match="older than its log"):
        node.client.publish("more", scene.directory / "people.csv", COLUMNS, terms=terms())
    with pytest.raises(ApiError):
        scene.consumer.client.negotiate(url, "people")
    examined = scene.told("doctor", "--home", node.home.path, code=1)
    assert [one["check"] for one in examined["findings"] if one["level"] == "error"] == ["anchors"]
    assert node.client.status()["log"]["size"] == verified["log"]["size"]
    node.kill()

    # The newest one goes on where the lost node was.
    node, told = scene.restored(newest, "provider", "newest")
    assert told["log"]["verdict"] == "sound"
    node.start()
    node.wait_until_healthy()
    scene.uses(made[-1])
    scene.uses(scene.consumer.client.negotiate(url, "people"))
    scene.space.wait_until_anchored()
    code, said = scene.audit()
    assert code == 0, said

    # What the older one lacks comes back from a copy that anybody could keep.
    scene.told("log", "mirror", f"{url}/tlog", scene.directory / "newer")
    node.kill()
    node, told = scene.restored(older, "provider", "recovered")
    assert told["log"]["verdict"] == "rewound"
    refused = dataspace("log", "recover", "--from", copy, "--home", node.home.path)
    assert refused.returncode == 1
    assert "are anchored" in refused.stderr
    newer = scene.directory / "newer"
    came = scene.told("log", "recover", "--from", newer, "--home", node.home.path)
    assert came["before"] == verified["log"]["size"]
    node.start()
    wait_for_status(node, "sound")
    node.wait_until_healthy()
    scene.uses(scene.consumer.client.negotiate(url, "people"))
    scene.space.wait_until_anchored()
    status = node.client.status()
    assert status["log"]["anchored"] == status["log"]["size"] > came["after"]


def test_the_operator_comes_back_with_its_chain(scene: Scene) -> None:
    scene.space.wait_until_anchored()
    backup = scene.back_up(scene.space.operator)
    scene.space.operator.kill()
    node, told = scene.restored(backup, "operator", "operator-again")
    # Its own chain is what knows, and that does not run yet.
    assert told["log"] is None
    node.start()
    node.wait_until_healthy()
    wait_for_status(node, "sound")
    scene.uses(scene.consumer.client.negotiate(scene.provider.url, "people"))
    scene.space.wait_until_anchored()
