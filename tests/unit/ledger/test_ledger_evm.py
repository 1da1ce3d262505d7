"""The embedded chain: what it answers, what it refuses, and that a kill loses nothing."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from web3 import Web3

from ledger.artefact import load_artefact, log_id
from ledger.errors import ChainUnavailable, InputRejected
from ledger.evm import EmbeddedChain

CHAIN_ID = 77
KEY = "0x" + "33" * 32
ACCOUNT: Any = Account.from_key(KEY)
FRIEND = "0x" + "22" * 20
START = 1_795_000_000
GWEI = 10**9


class Driver:
    """Speaks JSON-RPC to a chain the way a client does, without HTTP."""

    def __init__(self, path: Path, now: list[int] | None = None) -> None:
        self.now = now or [START]
        self.chain = EmbeddedChain(
            path,
            chain_id=CHAIN_ID,
            funded={ACCOUNT.address: 10**24},
            clock=lambda: self.now[0],
        )

    def answer(self, method: str, *params: object) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
        # Through text, as it would travel.
        answered = json.loads(json.dumps(self.chain.handle(json.loads(json.dumps(request)))))
        assert answered["id"] == 7
        assert answered["jsonrpc"] == "2.0"
        return dict(answered)

    def ask(self, method: str, *params: object) -> Any:
        return self.answer(method, *params)["result"]

    def refusal(self, method: str, *params: object) -> dict[str, Any]:
        return dict(self.answer(method, *params)["error"])

    def signed(self, **fields: Any) -> str:
        nonce = int(self.ask("eth_getTransactionCount", ACCOUNT.address, "latest"), 16)
        filled = {
            "nonce": nonce,
            "chainId": CHAIN_ID,
            "gas": 21_000,
            "to": FRIEND,
            "value": 1,
            "maxFeePerGas": 3 * GWEI,
            "maxPriorityFeePerGas": 1,
        } | fields
        if isinstance(filled["to"], str):
            filled["to"] = Web3.to_checksum_address(filled["to"])
        return f"0x{ACCOUNT.sign_transaction(filled).raw_transaction.hex()}"

    def send(self, **fields: Any) -> str:
        return str(self.ask("eth_sendRawTransaction", self.signed(**fields)))


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    made = Driver(tmp_path / "chain.sqlite")
    yield made
    made.chain.close()


def test_a_transaction_is_mined_before_it_is_answered(driver: Driver) -> None:
    sent = driver.send(value=5)
    receipt = driver.ask("eth_getTransactionReceipt", sent)
    assert receipt["status"] == "0x1"
    assert receipt["blockNumber"] == "0x1"
    assert receipt["gasUsed"] == hex(21_000)
    assert driver.ask("eth_getBalance", FRIEND, "latest") == "0x5"
    assert driver.ask("eth_getBalance", FRIEND, "0x0") == "0x0"
    assert driver.ask("eth_getTransactionCount", ACCOUNT.address, "pending") == "0x1"
    block = driver.ask("eth_getBlockByNumber", "latest", True)
    assert block["hash"] == receipt["blockHash"]
    assert block["transactions"][0] == driver.ask("eth_getTransactionByHash", sent)
    assert driver.ask("eth_getBlockByHash", block["hash"], False)["transactions"] == [sent]
    assert block["parentHash"] == driver.ask("eth_getBlockByNumber", "earliest", False)["hash"]


def test_block_time_is_the_clocks_even_for_many_blocks_in_one_second(driver: Driver) -> None:
    times = []
    for at in range(6):
        if at == 3:
            driver.now[0] += 10
        driver.send()
        times.append(int(driver.ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16))
    assert times == [START] * 3 + [START + 10] * 3


def test_a_clock_set_back_never_makes_a_block_older_than_its_parent(driver: Driver) -> None:
    driver.send()
    driver.now[0] -= 3600
    driver.send()
    assert driver.ask("eth_getBlockByNumber", "latest", False)["timestamp"] == hex(START)


def test_what_cannot_be_mined_now_is_refused_now_and_leaves_nothing_behind(
    driver: Driver,
) -> None:
    raw = driver.signed()
    driver.ask("eth_sendRawTransaction", raw)
    poor: Any = Account.from_key("0x" + "44" * 32)
    unfunded = poor.sign_transaction(
        {"nonce": 0, "chainId": CHAIN_ID, "gas": 21_000, "to": FRIEND, "value": 1, "gasPrice": GWEI}
    )
    unprotected = ACCOUNT.sign_transaction(
        {"nonce": 1, "gas": 21_000, "to": FRIEND, "value": 1, "gasPrice": 2 * GWEI}
    )
    for refused, message in (
        (raw, "already known"),
        (driver.signed(nonce=0, value=2), "nonce too low: next nonce 1, tx nonce 0"),
        (driver.signed(nonce=2), "nonce too high: next nonce 1, tx nonce 2"),
        (driver.signed(chainId=1), "invalid chain id"),
        (f"0x{unprotected.raw_transaction.hex()}", "invalid chain id"),
        (driver.signed(gas=20_999), "intrinsic gas too low"),
        (driver.signed(gas=30_000_001), "exceeds block gas limit"),
        (driver.signed(maxFeePerGas=1), "max fee per gas less than block base fee"),
        (driver.signed(value=10**30), "insufficient funds"),
        (f"0x{unfunded.raw_transaction.hex()}", "insufficient funds"),
        ("0x", "not a valid signed transaction"),
        ("0x02c0", "not a valid signed transaction"),
        ("0x" + "ff" * 100, "not a valid signed transaction"),
        (raw[:-2], "not a valid signed transaction"),
    ):
        assert driver.refusal("eth_sendRawTransaction", refused)["message"].startswith(message)
    assert driver.ask("eth_blockNumber") == "0x1"
    driver.send()
    assert driver.ask("eth_blockNumber") == "0x2"


def test_a_revert_carries_its_data_and_a_mined_one_its_status(driver: Driver) -> None:
    contract = deployed(driver)
    call = {"from": FRIEND, "to": contract, "data": anchor_call("nobody", 1, bytes(32))}
    for method in ("eth_call", "eth_estimateGas"):
        error = driver.refusal(method, call)
        assert error["code"] == 3
        assert error["message"] == "execution reverted"
        assert error["data"].endswith(log_id("nobody").hex())
    sent = driver.send(to=contract, value=0, gas=100_000, data=call["data"])
    assert driver.ask("eth_getTransactionReceipt", sent)["status"] == "0x0"


def deployed(driver: Driver) -> str:
    data = load_artefact().bytecode
    gas = int(driver.ask("eth_estimateGas", {"from": ACCOUNT.address, "data": data}), 16)
    sent = driver.send(to=b"", value=0, data=data, gas=gas)
    receipt = driver.ask("eth_getTransactionReceipt", sent)
    assert receipt["status"] == "0x1"
    address = str(receipt["contractAddress"])
    assert driver.ask("eth_getCode", address, "latest") == load_artefact().runtime_bytecode
    registrar = driver.ask("eth_getStorageAt", address, "0x0", "latest")
    assert registrar == f"0x{ACCOUNT.address[2:].lower():0>64}"
    return address


def contract_call(function: str, *arguments: object) -> str:
    contract: Any = Web3().eth.contract(abi=load_artefact().abi)
    return str(contract.encode_abi(function, list(arguments)))


def anchor_call(origin: str, size: int, root: bytes) -> str:
    return contract_call("anchor", log_id(origin), size, root)


def test_an_estimate_is_enough_and_not_wasteful(driver: Driver) -> None:
    contract = deployed(driver)
    data = contract_call("register", "origin", ACCOUNT.address, "v" * 200, "u" * 100)
    call = {"from": ACCOUNT.address, "to": contract, "data": data}
    gas = int(driver.ask("eth_estimateGas", call), 16)
    sent = driver.send(to=contract, value=0, data=data, gas=gas)
    receipt = driver.ask("eth_getTransactionReceipt", sent)
    assert receipt["status"] == "0x1"
    assert gas <= int(receipt["gasUsed"], 16) * 1.3


def test_events_are_found_by_address_topic_and_block_through_the_index(driver: Driver) -> None:
    contract = deployed(driver)
    for origin in ("a", "b"):
        data = contract_call("register", origin, ACCOUNT.address, "v", "u")
        driver.send(to=contract, value=0, data=data, gas=500_000)
    for size in (1, 2, 3):
        data = anchor_call("a", size, bytes([size]) * 32)
        driver.send(to=contract, value=0, data=data, gas=500_000)
    everything = driver.ask("eth_getLogs", {"fromBlock": "0x0", "address": contract})
    assert len(everything) == 5
    registered, anchored = everything[0]["topics"][0], everything[2]["topics"][0]

    def found(**asked: object) -> list[str]:
        answered = driver.ask("eth_getLogs", {"fromBlock": "earliest", **asked})
        return [log["blockNumber"] for log in answered]

    assert found(topics=[anchored]) == ["0x4", "0x5", "0x6"]
    assert found(topics=[[registered, anchored], f"0x{log_id('a').hex()}"]) == [
        "0x2",
        "0x4",
        "0x5",
        "0x6",
    ]
    assert found(topics=[None, f"0x{log_id('b').hex()}"]) == ["0x3"]
    assert found(address=FRIEND) == []
    assert found(fromBlock="0x5", toBlock="0x5") == ["0x5"]
    assert found(fromBlock="0x" + "f" * 64) == []
    assert found(blockHash=everything[3]["blockHash"]) == ["0x5"]
    receipt = driver.ask("eth_getTransactionReceipt", everything[4]["transactionHash"])
    assert receipt["logs"] == [everything[4]]
    assert driver.refusal("eth_getLogs", {"blockHash": "0x" + "00" * 32})["code"] == -32000


def test_more_events_than_the_limit_are_refused(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = deployed(driver)
    for origin in ("a", "b", "c"):
        data = contract_call("register", origin, ACCOUNT.address, "v", "u")
        driver.send(to=contract, value=0, data=data, gas=500_000)
    monkeypatch.setattr("ledger.evm_store.MAX_LOGS", 2)
    error = driver.refusal("eth_getLogs", {"fromBlock": "0x0"})
    assert "ask for fewer blocks" in error["message"]
    assert len(driver.ask("eth_getLogs", {"fromBlock": "0x3"})) == 2


def test_unknown_things_are_null_and_wrong_questions_are_errors(driver: Driver) -> None:
    nothing = "0x" + "00" * 32
    assert driver.ask("eth_getTransactionReceipt", nothing) is None
    assert driver.ask("eth_getTransactionByHash", nothing) is None
    assert driver.ask("eth_getBlockByHash", nothing, False) is None
    assert driver.ask("eth_getBlockByNumber", "0x99", False) is None
    assert driver.ask("eth_accounts") == []
    assert driver.ask("eth_syncing") is False
    assert driver.ask("net_version") == str(CHAIN_ID)
    assert driver.ask("eth_chainId") == hex(CHAIN_ID)
    assert driver.refusal("eth_sign", "0x")["code"] == -32601
    assert driver.refusal("eth_getBalance")["code"] == -32602
    assert driver.refusal("eth_getBalance", "0x12", "latest")["code"] == -32602
    assert driver.refusal("eth_getBalance", FRIEND, "0x99")["message"] == "header not found"
    assert driver.refusal("eth_getBalance", FRIEND, "newest")["code"] == -32602
    assert driver.refusal("eth_call", "0x")["code"] == -32602
    assert driver.refusal("eth_call", {"to": FRIEND, "value": "0x1"})["code"] == -32000
    assert driver.refusal("eth_getLogs", {"topics": [nothing] * 5})["code"] == -32602


@pytest.mark.parametrize(
    "request_",
    [
        None,
        7,
        "eth_chainId",
        {},
        [],
        {"jsonrpc": "1.0", "id": 1, "method": "eth_chainId"},
        [{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}] * 101,
    ],
)
def test_what_is_not_a_json_rpc_request_is_told_so(driver: Driver, request_: object) -> None:
    answered: Any = driver.chain.handle(request_)
    assert answered["error"]["code"] == -32600


def test_odd_requests_get_one_answer_each_and_notifications_none(driver: Driver) -> None:
    batch = [
        {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"},
        {"jsonrpc": "2.0", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": "two", "method": "eth_chainId", "params": {"by": "name"}},
        {"jsonrpc": "2.0", "id": 3, "method": ["eth_chainId"]},
        5,
    ]
    answered: Any = driver.chain.handle(batch)
    assert [(item["id"], item.get("error", {}).get("code")) for item in answered] == [
        (1, None),
        ("two", -32602),
        (3, -32601),
        (None, -32600),
    ]
    assert driver.chain.handle({"jsonrpc": "2.0", "method": "eth_chainId"}) is None


def test_fee_history_has_one_base_fee_more_than_blocks(driver: Driver) -> None:
    for _ in range(3):
        driver.send()
    history = driver.ask("eth_feeHistory", "0x2", "latest", [10, 50])
    assert history["oldestBlock"] == "0x2"
    assert len(history["baseFeePerGas"]) == 3
    assert len(history["gasUsedRatio"]) == 2
    assert [len(rewards) for rewards in history["reward"]] == [2, 2]
    assert int(driver.ask("eth_gasPrice"), 16) > int(history["baseFeePerGas"][-1], 16)


def test_a_contract_that_calls_itself_without_end_is_an_error_and_not_a_crash(
    driver: Driver,
) -> None:
    # Five zeroes, ADDRESS, GAS, CALL, STOP: the contract calls itself with all the gas it has.
    runtime = bytes.fromhex("60006000600060006000305af100")
    # PUSH1 length, DUP1, PUSH1 offset, PUSH1 0, CODECOPY, PUSH1 0, RETURN, then the code.
    prefix = bytes([0x60, len(runtime), 0x80, 0x60, 0x0B, 0x60, 0, 0x39, 0x60, 0, 0xF3])
    init = f"0x{(prefix + runtime).hex()}"
    sent = driver.send(to=b"", value=0, gas=1_000_000, data=init)
    address = driver.ask("eth_getTransactionReceipt", sent)["contractAddress"]
    answered = driver.answer("eth_call", {"to": address, "gas": hex(30_000_000)})
    assert "result" in answered or answered["error"]["code"] == -32000
    driver.send()


def test_a_call_that_never_ends_runs_out_of_gas_whatever_it_asks_for(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.evm.MAX_CALL_GAS", 100_000)
    # JUMPDEST, PUSH1 0, JUMP.
    for asked in ({}, {"gas": hex(10**18)}):
        error = driver.refusal("eth_call", {"data": "0x5b600056", **asked})
        assert error["message"] == "execution failed: OutOfGas"


def test_the_chain_reopens_with_everything_it_had(tmp_path: Path) -> None:
    first = Driver(tmp_path / "chain.sqlite")
    contract = deployed(first)
    sent = first.send(value=9)
    before = {
        name: first.ask(name, *params)
        for name, params in {
            "eth_getTransactionReceipt": [sent],
            "eth_getBlockByNumber": ["latest", True],
            "eth_getCode": [contract, "latest"],
            "eth_getBalance": [FRIEND, "latest"],
        }.items()
    }
    first.chain.close()
    again = Driver(tmp_path / "chain.sqlite")
    assert again.ask("eth_getTransactionReceipt", sent) == before["eth_getTransactionReceipt"]
    assert again.ask("eth_getBlockByNumber", "latest", True) == before["eth_getBlockByNumber"]
    assert again.ask("eth_getCode", contract, "latest") == before["eth_getCode"]
    assert again.ask("eth_getBalance", FRIEND, "latest") == before["eth_getBalance"]
    again.send()
    assert again.ask("eth_blockNumber") == "0x3"
    again.chain.close()


def test_a_chain_has_one_owner_and_one_id(tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    owner = Driver(path)
    with pytest.raises(ChainUnavailable, match="one owning process"):
        Driver(path)
    owner.chain.close()
    with pytest.raises(InputRejected, match="chain_id 77, expected 78"):
        EmbeddedChain(path, chain_id=78, funded={}, clock=lambda: START)
    with pytest.raises(InputRejected, match="funded account"):
        EmbeddedChain(tmp_path / "b", chain_id=1, funded={"alice": 1}, clock=lambda: START)


def test_a_block_whose_commit_fails_leaves_no_trace(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.send()
    store: Any = driver.chain._store

    def full_disk(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    raw = driver.signed(value=11)
    with monkeypatch.context() as patched:
        patched.setattr(store, "index_block", full_disk)
        with pytest.raises(sqlite3.OperationalError):
            driver.answer("eth_sendRawTransaction", raw)
    assert driver.ask("eth_blockNumber") == "0x1"
    assert driver.ask("eth_getBalance", FRIEND, "latest") == "0x1"
    driver.ask("eth_sendRawTransaction", raw)
    assert driver.ask("eth_getBalance", FRIEND, "latest") == "0xc"


def test_threads_take_turns(driver: Driver) -> None:
    keys = [f"0x{at:064x}" for at in range(100, 104)]
    for key in keys:
        driver.send(to=Account.from_key(key).address, value=10**18)

    def spend(key: str) -> None:
        account: Any = Account.from_key(key)
        for nonce in range(5):
            signed = account.sign_transaction(
                {
                    "nonce": nonce,
                    "chainId": CHAIN_ID,
                    "gas": 21_000,
                    "to": FRIEND,
                    "value": 1,
                    "gasPrice": 2 * GWEI,
                }
            )
            driver.ask("eth_sendRawTransaction", f"0x{signed.raw_transaction.hex()}")

    run_together([lambda key=key: spend(key) for key in keys])  # type: ignore[misc]
    assert driver.ask("eth_getBalance", FRIEND, "latest") == hex(20)
    assert driver.ask("eth_blockNumber") == hex(24)


def run_together(tasks: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Sends transactions for ever and prints the hash of each that was acknowledged.
ENDLESS = """
import sys
from pathlib import Path
from eth_account import Account
from ledger.evm import EmbeddedChain
account = Account.from_key(sys.argv[2])
chain = EmbeddedChain(
    Path(sys.argv[1]), chain_id=77, funded={account.address: 10**24}, clock=lambda: 1_795_000_000
)
nonce = 0
while True:
    signed = account.sign_transaction({
        "nonce": nonce, "chainId": 77, "gas": 21_000, "to": "0x" + "22" * 20, "value": 1,
        "gasPrice": 2 * 10**9,
    })
    answer = chain.handle({
        "jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction",
        "params": ["0x" + signed.raw_transaction.hex()],
    })
    print(answer["result"], flush=True)
    nonce += 1
"""


def test_a_kill_loses_no_acknowledged_block(tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    victim = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(path), KEY], stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    acknowledged = [victim.stdout.readline().strip() for _ in range(12)]
    victim.send_signal(signal.SIGKILL)
    acknowledged += [line.strip() for line in victim.stdout if line.endswith("\n")]
    assert victim.wait() == -signal.SIGKILL
    victim.stdout.close()
    survivor = Driver(path)
    for at, sent in enumerate(acknowledged):
        receipt = survivor.ask("eth_getTransactionReceipt", sent)
        assert (receipt["status"], receipt["blockNumber"]) == ("0x1", hex(at + 1))
    head = int(survivor.ask("eth_blockNumber"), 16)
    # The last block may have been committed without its answer being read.
    assert head in (len(acknowledged), len(acknowledged) + 1)
    assert survivor.ask("eth_getBalance", FRIEND, "latest") == hex(head)
    survivor.send()
    survivor.chain.close()
