"""The space on a chain that is not its own: anvil here, whatever speaks JSON-RPC elsewhere."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dataspace.demo.anvil import chain_for
from dataspace.demo.space import LocalSpace
from ledger.chain import Registry

pytestmark = pytest.mark.slow
PLATFORMS = {("Linux", "x86_64"): "linux-amd64", ("Darwin", "arm64"): "darwin-arm64"}


@pytest.fixture(scope="module")
def anvil_on_the_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if shutil.which("anvil"):
        yield
        return
    here = PLATFORMS.get((platform.system(), platform.machine()))
    if here is None or shutil.which("npm") is None:
        pytest.skip("anvil is not installed, and npm, which would bring it, is not either")
    directory = tmp_path_factory.mktemp("anvil")
    package = f"@foundry-rs/anvil-{here}"
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", package]
    done = subprocess.run(command, cwd=directory, capture_output=True, timeout=180, check=False)
    if done.returncode != 0:
        pytest.skip("anvil is not installed, and npm cannot bring it here")
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{directory / 'node_modules' / package / 'bin'}:{before}"
    yield
    os.environ["PATH"] = before


def rpc(url: str, method: str, *params: Any) -> Any:
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    with httpx2.Client(trust_env=False) as http:
        answer = http.post(url, json=call).json()
    assert "error" not in answer, answer
    return answer["result"]


def test_anchors_a_chain_has_lost_are_made_again(tmp_path: Path, anvil_on_the_path: None) -> None:
    with chain_for("anvil", tmp_path) as url, LocalSpace(tmp_path, chain=url) as space:
        assert url is not None
        space.found({})
        space.wait_until_anchored()
        status = space.operator.client.status()
        registry = Registry(url, status["space"]["contract"])
        snapshot = rpc(url, "evm_snapshot")
        # A regulator that joins is an entry, and so an anchor.
        space.add_regulator("regulator")
        space.wait_until_anchored()
        size = space.operator.client.status()["log"]["size"]
        latest = registry.latest(status["log"]["origin"])
        assert latest is not None
        assert latest.size == size
        # The chain forgets everything since the snapshot, as a reorganisation does.
        assert rpc(url, "evm_revert", snapshot)
        lost = registry.latest(status["log"]["origin"])
        assert lost is not None
        assert lost.size < size
        space.operator.stop()
        space.operator.start()
        space.operator.wait_until_healthy()
        space.operator.client.wait_until(lambda _: found_again(registry, status, size))


def test_a_chain_without_gas_price_takes_legacy_transactions_and_waits_for_confirmations(
    tmp_path: Path, anvil_on_the_path: None
) -> None:
    free = ["--gas-price", "0", "--block-base-fee-per-gas", "0", "--block-time", "1"]
    settings = {"chain_gas_price_wei": 0, "chain_poa": True, "chain_confirmations": 2}
    with (
        chain_for("anvil", tmp_path, free) as url,
        LocalSpace(tmp_path, chain=url, settings=settings) as space,
    ):
        assert url is not None
        space.found({})
        space.wait_until_anchored()
        log = space.operator.client.status()["log"]
        registry = Registry(url, space.operator.client.status()["space"]["contract"])
        latest = registry.latest(log["origin"])
        assert latest is not None
        assert latest.size == log["size"]
        assert registry.head() >= latest.block + 2
        block = rpc(url, "eth_getBlockByNumber", hex(latest.block), True)
        assert {transaction["type"] for transaction in block["transactions"]} == {"0x0"}
        assert {transaction["gasPrice"] for transaction in block["transactions"]} == {"0x0"}


def found_again(registry: Registry, status: dict[str, Any], size: int) -> bool:
    latest = registry.latest(status["log"]["origin"])
    return latest is not None and latest.size == size
