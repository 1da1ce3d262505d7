"""The AnchorRegistry contract and its client, on a real chain over real HTTP."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from web3 import HTTPProvider, Web3

import ledger
from ledger.artefact import SENTENCES, load_artefact, log_id, refusal
from ledger.chain import Anchor, PreparedTransaction, Registry
from ledger.errors import ChainRefused, ChainUnavailable, InputRejected

ORIGIN = "water.city.example/tlog"
OTHER = "bank.city.example/tlog"
VKEY = "water.city.example/tlog+00000000+AAAA"
URL = "https://water.city.example/tlog"
R1, R2, R3 = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32

NewKey = Callable[[], str]


def address_of(key: str) -> str:
    return str(Account.from_key(key).address)


def anchored(registry: Registry, origin: str, size: int, root: bytes) -> int:
    """Anchor and wait, as a node does; returns the gas used."""
    prepared = registry.prepare_anchor(origin, size, root)
    registry.submit(prepared)
    receipt = registry.receipt(prepared.hash)
    assert receipt is not None
    return receipt.gas_used


@pytest.fixture
def registrar(served: Any) -> Registry:
    return served.deploy()


@pytest.fixture
def owner(served: Any, registrar: Registry, new_key: NewKey) -> Registry:
    key = new_key()
    opened: Registry = served.open(registrar, key)
    registrar.register(ORIGIN, address_of(key), VKEY, URL)
    return opened


def refused(name: str, act: Callable[[], object]) -> ChainRefused:
    with pytest.raises(ChainRefused) as caught:
        act()
    assert caught.value.name == name, str(caught.value)
    return caught.value


def test_a_registered_log_can_be_enumerated_with_everything_the_registrar_gave(
    registrar: Registry, owner: Registry
) -> None:
    (log,) = registrar.logs()
    assert (log.origin, log.vkey, log.url, log.revoked) == (ORIGIN, VKEY, URL, False)
    assert owner.latest(ORIGIN) is None
    assert owner.anchors(ORIGIN) == []


def test_anchors_are_kept_in_order_with_block_and_time(owner: Registry, served: Any) -> None:
    anchored(owner, ORIGIN, 5, R1)
    served.now[0] += 60
    anchored(owner, ORIGIN, 9, R2)
    first, second = owner.anchors(ORIGIN)
    assert first == Anchor(5, R1, first.block, served.now[0] - 60)
    assert second == Anchor(9, R2, first.block + 1, served.now[0])
    assert owner.latest(ORIGIN) == second
    assert owner.root_at(ORIGIN, 5) == R1
    assert owner.root_at(ORIGIN, 9) == R2
    assert "no anchor at size 6" in str(refused("NoAnchor", lambda: owner.root_at(ORIGIN, 6)))


def test_a_smaller_size_is_refused(owner: Registry) -> None:
    anchored(owner, ORIGIN, 5, R1)
    err = refused("SmallerSize", lambda: owner.prepare_anchor(ORIGIN, 4, R2))
    assert "has anchored 5 entries and cannot go back to 4" in err.sentence


def test_the_same_size_with_another_root_is_refused_and_names_both(owner: Registry) -> None:
    anchored(owner, ORIGIN, 5, R1)
    err = refused("ConflictingRoot", lambda: owner.prepare_anchor(ORIGIN, 5, R2))
    assert R1.hex() in err.sentence
    assert R2.hex() in err.sentence


def test_repeating_the_latest_anchor_changes_nothing(owner: Registry) -> None:
    anchored(owner, ORIGIN, 5, R1)
    anchored(owner, ORIGIN, 5, R1)
    assert len(owner.anchors(ORIGIN)) == 1


def test_only_the_owner_anchors_rotates_and_hands_over(
    owner: Registry, registrar: Registry
) -> None:
    refused("NotOwner", lambda: registrar.prepare_anchor(ORIGIN, 5, R1))
    refused("NotOwner", lambda: registrar.rotate(ORIGIN, "other"))
    refused("NotOwner", lambda: registrar.transfer_owner(ORIGIN, owner.registrar()))


def test_nobody_but_the_registrar_registers_so_a_foreign_origin_cannot_be_taken_first(
    owner: Registry, registrar: Registry, new_key: NewKey
) -> None:
    thief = address_of(new_key())
    refused("NotRegistrar", lambda: owner.register(OTHER, thief, "v", "u"))
    refused("NotRegistrar", lambda: owner.revoke(ORIGIN))
    assert [log.origin for log in registrar.logs()] == [ORIGIN]


def test_registering_again_is_harmless_when_equal_and_refused_when_not(
    owner: Registry, registrar: Registry
) -> None:
    (log,) = registrar.logs()
    registrar.register(log.origin, log.owner, log.vkey, log.url)
    refused(
        "AlreadyRegistered",
        lambda: registrar.register(log.origin, registrar.registrar(), log.vkey, log.url),
    )
    assert registrar.logs() == [log]


def test_a_revoked_log_cannot_anchor_but_stays_readable(
    owner: Registry, registrar: Registry
) -> None:
    anchored(owner, ORIGIN, 5, R1)
    registrar.revoke(ORIGIN)
    refused("RevokedLog", lambda: owner.prepare_anchor(ORIGIN, 6, R2))
    refused("RevokedLog", lambda: owner.rotate(ORIGIN, "other"))
    refused("RevokedLog", lambda: registrar.revoke(ORIGIN))
    assert registrar.logs()[0].revoked is True
    assert [anchor.size for anchor in owner.anchors(ORIGIN)] == [5]


def test_a_rotated_key_replaces_the_registered_one(owner: Registry) -> None:
    owner.rotate(ORIGIN, "water.city.example/tlog+11111111+BBBB")
    assert owner.logs()[0].vkey == "water.city.example/tlog+11111111+BBBB"


def test_a_log_handed_over_obeys_its_new_owner_only(owner: Registry, registrar: Registry) -> None:
    owner.transfer_owner(ORIGIN, registrar.registrar())
    refused("NotOwner", lambda: owner.prepare_anchor(ORIGIN, 5, R1))
    assert anchored(registrar, ORIGIN, 5, R1) > 0


def test_a_batch_anchors_all_or_none(owner: Registry, registrar: Registry) -> None:
    (log,) = registrar.logs()
    registrar.register(OTHER, log.owner, VKEY, URL)
    owner.anchor_batch([(ORIGIN, 5, R1), (OTHER, 7, R2)])
    assert [owner.latest(origin).size for origin in (ORIGIN, OTHER)] == [5, 7]  # type: ignore[union-attr]
    refused("SmallerSize", lambda: owner.anchor_batch([(ORIGIN, 6, R3), (OTHER, 6, R3)]))
    assert [owner.latest(origin).size for origin in (ORIGIN, OTHER)] == [5, 7]  # type: ignore[union-attr]


def test_an_unknown_log_is_refused_by_name(registrar: Registry) -> None:
    err = refused("UnknownLog", lambda: registrar.prepare_anchor("nobody", 1, R1))
    assert log_id("nobody").hex() in err.sentence
    refused("UnknownLog", lambda: registrar.latest("nobody"))


def test_empty_and_overlong_texts_and_the_zero_owner_are_refused(registrar: Registry) -> None:
    me = registrar.registrar()
    refused("TextLength", lambda: registrar.register("", me, "v", "u"))
    err = refused("TextLength", lambda: registrar.register("o", me, "v" * 513, "u"))
    assert "513 bytes, allowed are 1 to 512" in err.sentence
    refused("ZeroOwner", lambda: registrar.register("o", "0x" + "00" * 20, "v", "u"))


def test_more_logs_and_anchors_than_a_page_are_all_read(
    owner: Registry, registrar: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.chain.PAGE", 3)
    me = registrar.logs()[0].owner
    for at in range(5):
        registrar.register(f"log-{at}", me, "v", "u")
    for size in range(1, 8):
        anchored(owner, ORIGIN, size, bytes([size]) * 32)
    assert [log.origin for log in owner.logs()] == [ORIGIN, *(f"log-{at}" for at in range(5))]
    assert [anchor.size for anchor in owner.anchors(ORIGIN)] == list(range(1, 8))
    assert owner.anchors(ORIGIN)[-1].root == bytes([7]) * 32


def test_a_stored_transaction_can_be_sent_again_and_again(owner: Registry) -> None:
    prepared = PreparedTransaction.parse(owner.prepare_anchor(ORIGIN, 5, R1).to_text())
    assert owner.receipt(prepared.hash) is None
    for _ in range(3):
        owner.submit(prepared)
    receipt = owner.receipt(prepared.hash)
    assert receipt is not None
    assert receipt.hash == prepared.hash
    assert len(owner.anchors(ORIGIN)) == 1


def test_a_transaction_whose_nonce_was_taken_by_another_must_be_prepared_anew(
    owner: Registry,
) -> None:
    late = owner.prepare_anchor(ORIGIN, 5, R1)
    anchored(owner, ORIGIN, 6, R2)
    refused("NonceTooLow", lambda: owner.submit(late))


def test_a_transaction_ahead_of_its_nonce_is_refused_instead_of_waiting_for_ever(
    owner: Registry,
) -> None:
    first = owner.prepare_anchor(ORIGIN, 5, R1)
    ahead = signed_by(owner, first, nonce=first.nonce + 1)
    refused("NonceTooHigh", lambda: owner.submit(ahead))
    owner.submit(first)
    owner.submit(ahead)
    assert owner.receipt(ahead.hash) is not None


def signed_by(owner: Registry, like: PreparedTransaction, **changes: Any) -> PreparedTransaction:
    """A transaction as the registry would sign it, with some fields changed."""
    account: Any = owner._account
    fields = {
        "to": owner.address,
        "data": Web3.to_bytes(hexstr=registry_call(ORIGIN, 5, R1)),
        "value": 0,
        "gas": 200_000,
        "gasPrice": 2 * 10**9,
        "nonce": like.nonce,
        "chainId": like.chain_id,
    } | changes
    signed = account.sign_transaction(fields)
    return PreparedTransaction(
        f"0x{signed.raw_transaction.hex()}",
        f"0x{signed.hash.hex()}",
        fields["nonce"],
        fields["chainId"],
    )


def registry_call(origin: str, size: int, root: bytes) -> str:
    contract: Any = Web3().eth.contract(abi=load_artefact().abi)
    return str(contract.encode_abi("anchor", [log_id(origin), size, root]))


def test_a_transaction_for_another_chain_is_noticed_before_it_is_sent(owner: Registry) -> None:
    like = owner.prepare_anchor(ORIGIN, 5, R1)
    foreign = signed_by(owner, like, chainId=1)
    err = refused("WrongChain", lambda: owner.submit(foreign))
    assert "is for chain 1" in err.sentence
    assert owner.latest(ORIGIN) is None


def test_a_mined_transaction_that_reverted_tells_the_contracts_reason(owner: Registry) -> None:
    stale = owner.prepare_anchor(ORIGIN, 5, R1)
    anchored(owner, ORIGIN, 6, R2)
    doomed = signed_by(owner, stale, nonce=stale.nonce + 1)
    owner.submit(doomed)
    err = refused("SmallerSize", lambda: owner.receipt(doomed.hash))
    assert "has anchored 6 entries and cannot go back to 5" in err.sentence


def test_an_account_without_money_is_told_to_get_some(served: Any, registrar: Registry) -> None:
    key = "0x" + "44" * 32
    registrar.register(ORIGIN, address_of(key), VKEY, URL)
    poor = Registry(served.url, registrar.address, private_key=key)
    prepared = poor.prepare_anchor(ORIGIN, 5, R1)
    refused("InsufficientFunds", lambda: poor.submit(prepared))
    registrar.fund(address_of(key), 10**17)
    assert poor.balance(address_of(key)) == 10**17
    poor.submit(prepared)
    assert poor.receipt(prepared.hash) is not None


def test_legacy_transactions_at_a_fixed_price_are_mined_too(served: Any, owner: Registry) -> None:
    account: Any = owner._account
    legacy = Registry(
        served.url, owner.address, private_key=account.key.hex(), gas_price=2 * 10**9, poa=True
    )
    assert anchored(legacy, ORIGIN, 5, R1) > 0
    mined = Web3(HTTPProvider(served.url)).eth.get_block("latest", full_transactions=True)
    transaction: Any = mined["transactions"][0]
    assert transaction["type"] == 0
    assert transaction["gasPrice"] == 2 * 10**9


def test_the_code_on_the_chain_is_compared_with_what_was_compiled(
    served: Any, registrar: Registry, new_key: NewKey
) -> None:
    registrar.verify_code()
    deployed = Registry.deploy(served.url, served.founder_key)
    assert deployed != registrar.address
    Registry(served.url, deployed).verify_code()
    first = Web3(HTTPProvider(served.url)).eth.get_block(0)
    assert registrar.genesis_hash() == f"0x{bytes(first['hash']).hex()}"
    empty = Registry(served.url, address_of(new_key()))
    assert "there is no contract" in str(refused("WrongCode", empty.verify_code))
    refused("WrongCode", lambda: empty.latest(ORIGIN))
    impostor = deploy_other_code(served, registrar)
    assert "other code" in str(refused("WrongCode", Registry(served.url, impostor).verify_code))


def deploy_other_code(served: Any, registrar: Registry) -> str:
    account: Any = registrar._account
    # PUSH1 1, PUSH1 0, RETURN: a contract whose code is one zero byte.
    like = registrar._prepare({"data": "0x60016000f3"})
    registrar.submit(like)
    receipt = Web3(HTTPProvider(served.url)).eth.get_transaction_receipt(like.hash)  # type: ignore[arg-type]
    assert account.address == receipt["from"]
    return str(receipt["contractAddress"])


def test_a_registry_without_a_key_reads_and_refuses_to_write(served: Any, owner: Registry) -> None:
    reader = Registry(served.url, owner.address)
    assert len(reader.logs()) == 1
    with pytest.raises(InputRejected, match="without a key"):
        reader.prepare_anchor(ORIGIN, 5, R1)


def test_an_endpoint_that_is_away_is_unavailable_and_not_refused(registrar: Registry) -> None:
    away = Registry("http://127.0.0.1:9", registrar.address, private_key="0x" + "22" * 32)
    for ask in (
        away.logs,
        away.chain_id,
        away.verify_code,
        lambda: away.latest(ORIGIN),
        lambda: away.receipt("0x" + "00" * 32),
        lambda: away.prepare_anchor(ORIGIN, 5, R1),
        lambda: away.submit(PreparedTransaction("0x00", "0x00", 0, 1)),
        lambda: Registry.deploy("http://127.0.0.1:9", "0x" + "22" * 32),
    ):
        with pytest.raises(ChainUnavailable):
            ask()


def test_a_bad_key_is_refused_without_repeating_it(registrar: Registry) -> None:
    with pytest.raises(InputRejected) as caught:
        Registry("http://127.0.0.1:9", registrar.address, private_key="0xsecret")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", '{"raw": "0x"}', '{"a": 1}'])
def test_a_damaged_stored_transaction_is_refused(text: str) -> None:
    with pytest.raises(InputRejected):
        PreparedTransaction.parse(text)


def test_every_custom_error_of_the_contract_has_its_sentence() -> None:
    errors = {item["name"]: item for item in load_artefact().abi if item["type"] == "error"}
    assert set(errors) == set(SENTENCES)
    for name, item in errors.items():
        names = {argument["name"]: "x" for argument in item["inputs"]}
        assert SENTENCES[name].format(**names)


@pytest.mark.parametrize("data", [None, "0x", "0x12345678", {"a": 1}])
def test_revert_data_we_do_not_know_is_still_a_refusal(data: object) -> None:
    assert refusal(data).name == "Reverted"


def test_the_artefact_is_what_the_source_compiles_to() -> None:
    folder = Path(ledger.__file__).parent / "contract"
    if shutil.which("node") is None or not (folder / "node_modules" / "solc").is_dir():
        pytest.skip("the Solidity compiler is not installed: npm ci in ledger/contract")
    checked = subprocess.run(
        ["node", "compile.mjs", "--check"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_importing_the_chain_leaves_the_json_parser_safe_from_nested_brackets() -> None:
    # The Ethereum libraries raise the recursion limit so far that this kills the interpreter.
    program = (
        "import json, ledger.chain, ledger.evm\n"
        "try:\n    json.loads('[' * 200_000)\n"
        "except RecursionError:\n    print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "refused\n")
