"""A real chain over real HTTP for the ledger's tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from ledger.artefact import load_artefact
from ledger.chain import Registry
from ledger.evm import EmbeddedChain

CHAIN_ID = 20_261_125
GENESIS_TIME = 1_795_000_000
FOUNDER_KEY = "0x" + "11" * 32
KEYS = tuple(f"0x{0xC0FFEE + at:064x}" for at in range(64))
_UNUSED = iter(KEYS)


@dataclass
class ServedChain:
    """The embedded chain behind an HTTP endpoint, with an account that has money."""

    chain: EmbeddedChain
    url: str
    now: list[int]
    founder_key: str = FOUNDER_KEY

    def deploy(self) -> Registry:
        """A new contract, opened by its registrar; without the network, as many tests need one."""
        founder: Any = Account.from_key(self.founder_key)
        transaction = {
            "data": load_artefact().bytecode,
            "value": 0,
            "gas": 2_000_000,
            "gasPrice": 2 * 10**9,
            "nonce": int(self._ask("eth_getTransactionCount", founder.address, "latest"), 16),
            "chainId": CHAIN_ID,
        }
        raw = founder.sign_transaction(transaction).raw_transaction
        sent = self._ask("eth_sendRawTransaction", f"0x{raw.hex()}")
        address = self._ask("eth_getTransactionReceipt", sent)["contractAddress"]
        return Registry(self.url, address, private_key=self.founder_key)

    def open(self, registry: Registry, key: str) -> Registry:
        """The same contract, opened by another account."""
        return Registry(self.url, registry.address, private_key=key)

    def _ask(self, method: str, *params: object) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answered: Any = self.chain.handle(request)
        return answered["result"]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedChain]:
    now = [GENESIS_TIME]
    chain = EmbeddedChain(
        tmp_path_factory.mktemp("chain") / "chain.sqlite",
        chain_id=CHAIN_ID,
        funded={Account.from_key(key).address: 10**24 for key in (FOUNDER_KEY, *KEYS)},
        clock=lambda: now[0],
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(chain.handle))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield ServedChain(chain, f"http://127.0.0.1:{server.server_port}", now)
    server.shutdown()
    server.server_close()
    thread.join()
    chain.close()


@pytest.fixture
def new_key() -> Callable[[], str]:
    """The key of an account with money that no other test has used."""
    return lambda: next(_UNUSED)


@pytest.fixture
def shared_vectors() -> Path:
    """The folder of published vectors beside the repository."""
    vectors = Path(__file__).resolve().parents[3] / "../shared/vectors"
    if not vectors.is_dir():
        pytest.skip("the folder ../shared/vectors with the published vectors is absent")
    return vectors


def _handler(answer: Callable[[object], object]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # One packet for head and body; two would wait for the client's delayed acknowledgement.
        wbufsize = -1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            content = json.dumps(answer(json.loads(body))).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Keep the test's output quiet."""

    return Handler
