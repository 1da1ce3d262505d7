"""The anchor registry on an Ethereum chain, over JSON-RPC.

`Registry` works with any endpoint: the embedded chain, anvil, Besu. Signed transactions are values
(`PreparedTransaction`), so that a caller can store one durably before it is sent and send the very
same bytes again after a crash. One account must have one sender: nonces are counted, not reserved.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import requests
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import HexStr
from eth_utils.address import to_checksum_address
from web3 import HTTPProvider, Web3
from web3.exceptions import (
    ContractLogicError,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)
from web3.middleware import ExtraDataToPOAMiddleware, FormattingMiddlewareBuilder
from web3.middleware.validation import block_validator
from web3.types import RPCEndpoint

from ledger.anchors import Anchor as Anchor
from ledger.anchors import RegisteredLog as RegisteredLog
from ledger.anchors import RotationRecord
from ledger.artefact import load_artefact, log_id, refusal
from ledger.chain_errors import sending_refused, translate, translated
from ledger.chain_events import read_key_history
from ledger.errors import ChainRefused, ChainUnavailable, InputRejected
from ledger.recursion import restore_recursion_limit

restore_recursion_limit()

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
# Consortium chains close a block every few seconds; one that takes longer is in trouble.
RECEIPT_TIMEOUT_S = 60.0
RECEIPT_POLL_S = 0.1
# The estimate holds for the present state, and another transaction may come first.
GAS_MARGIN_PERCENT = 125
PAGE = 100
MAX_LOGS = 100_000
MAX_ANCHORS = 1_000_000


@dataclass(frozen=True)
class PreparedTransaction:
    """A signed transaction: its bytes and hash as 0x-hexadecimal, and what it was signed for."""

    raw: str
    hash: str
    nonce: int
    chain_id: int

    def to_text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def parse(text: str) -> PreparedTransaction:
        """The reverse of `to_text`. Raises InputRejected."""
        try:
            return PreparedTransaction(**json.loads(text))
        except (ValueError, TypeError) as err:
            raise InputRejected("not a transaction stored by to_text") from err


@dataclass(frozen=True)
class Receipt:
    """A transaction that was mined and succeeded."""

    hash: str
    block: int
    gas_used: int


class Registry:
    """An `AnchorRegistry` contract. Every method may raise ChainUnavailable or ChainRefused.

    `private_key` (0x-hexadecimal) is needed to send. `gas_price` in wei makes legacy
    transactions at that price, which free-gas consortium chains want (0); otherwise EIP-1559.
    `poa` accepts the longer header of proof-of-authority chains. An https endpoint is known by the
    authorities in the PEM file `ca`, else by those that come with `requests`.

    It keeps a connection. Whoever opens registries again and again closes each, by a `with` block:
    what is left is closed when its garbage is collected, which may be a hundred later.
    """

    def __init__(
        self,
        rpc_url: str,
        address: str,
        *,
        private_key: str | None = None,
        poa: bool = False,
        gas_price: int | None = None,
        ca: Path | None = None,
    ) -> None:
        self.address = to_checksum_address(address)
        self._account = None if private_key is None else _account(private_key)
        self._gas_price = gas_price
        self._session = requests.Session()
        self._web3 = _connect(rpc_url, poa, ca, self._session)
        self._contract: Any = self._web3.eth.contract(address=self.address, abi=load_artefact().abi)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    @classmethod
    def deploy(
        cls,
        rpc_url: str,
        private_key: str,
        *,
        poa: bool = False,
        gas_price: int | None = None,
        ca: Path | None = None,
    ) -> str:
        """Put a new contract on the chain; returns its address. The deployer is its registrar."""
        nowhere = f"0x{'00' * 20}"
        sender = cls(rpc_url, nowhere, private_key=private_key, poa=poa, gas_price=gas_price, ca=ca)
        prepared = sender._prepare({"data": load_artefact().bytecode})
        receipt = sender._send(prepared)
        with translated():
            address = sender._web3.eth.get_transaction_receipt(HexStr(receipt.hash))[
                "contractAddress"
            ]
        cls(rpc_url, str(address), poa=poa, ca=ca).verify_code()
        return str(address)

    # Writing

    def register(self, origin: str, owner: str, vkey: str, url: str) -> None:
        """Admit a log, as the registrar. Does nothing if it is registered exactly so.

        Returns when the chain has it. Raises ChainRefused when it is registered otherwise.
        """
        if self._find(origin) == RegisteredLog(
            origin, to_checksum_address(owner), vkey, url, revoked=False
        ):
            return
        self._transact("register", origin, to_checksum_address(owner), vkey, url)

    def rotate(self, origin: str, vkey: str) -> None:
        """Replace the key of a log, as its owner."""
        self._transact("rotate", log_id(origin), vkey)

    def transfer_owner(self, origin: str, owner: str) -> None:
        """Hand a log to another account, as its owner."""
        self._transact("transferOwner", log_id(origin), to_checksum_address(owner))

    def revoke(self, origin: str) -> None:
        """End a log for good, as the registrar."""
        self._transact("revoke", log_id(origin))

    def anchor_batch(self, heads: Sequence[tuple[str, int, bytes]]) -> None:
        """Anchor (origin, size, root) of several logs of one owner: all of them or none."""
        origins, sizes, roots = zip(*heads, strict=True) if heads else ((), (), ())
        self._transact("anchorBatch", [log_id(o) for o in origins], list(sizes), list(roots))

    def prepare_anchor(self, origin: str, size: int, root: bytes) -> PreparedTransaction:
        """Sign the transaction that anchors this head, without sending it.

        The contract is asked first, so a head it would refuse raises ChainRefused here.
        """
        call = self._contract.functions.anchor(log_id(origin), size, root)
        return self._prepare({"to": self.address, "data": _encoded(call)})

    def submit(self, prepared: PreparedTransaction) -> None:
        """Send these bytes, again if need be: a transaction the chain already has is fine.

        Raises ChainRefused `WrongChain` when the endpoint is another chain than it was signed
        for, `NonceTooLow` when another transaction took its nonce and `NonceTooHigh` when the
        ones before it are missing (the chain was reset): then it must be prepared anew.
        """
        chain_id = self.chain_id()
        if chain_id != prepared.chain_id:
            raise ChainRefused(
                "WrongChain",
                f"the transaction is for chain {prepared.chain_id}, the endpoint is {chain_id}",
            )
        try:
            self._web3.eth.send_raw_transaction(bytes.fromhex(prepared.raw[2:]))
        except (Web3RPCError, ContractLogicError) as err:
            # Nodes differ in what they say of a repetition; whether they have it is what counts.
            if not self._has(prepared.hash):
                raise sending_refused(err) from err
        except (Web3Exception, OSError, ValueError) as err:
            raise translate(err) from err

    def fund(self, address: str, wei: int) -> None:
        """Send money for gas to an account. Returns when the chain has it."""
        self._send(self._prepare({"to": to_checksum_address(address), "value": wei}))

    # Reading

    def receipt(self, transaction_hash: str) -> Receipt | None:
        """The receipt of a mined transaction, None while there is none.

        Raises ChainRefused with the contract's reason when it was mined and reverted.
        """
        with translated():
            try:
                found = self._web3.eth.get_transaction_receipt(HexStr(transaction_hash))
            except TransactionNotFound:
                return None
        if found["status"] != 1:
            raise self._reason(transaction_hash, found["blockNumber"])
        return Receipt(transaction_hash, found["blockNumber"], found["gasUsed"])

    def latest(self, origin: str) -> Anchor | None:
        """The newest anchor of a log, None before the first."""
        anchor = _anchor(self._read("latest", log_id(origin)))
        # No transaction is in block 0, so block 0 means that there is no anchor.
        return anchor if anchor.block else None

    def root_at(self, origin: str, size: int) -> bytes:
        """The root anchored at exactly this size."""
        return bytes(self._read("rootAt", log_id(origin), size))

    def anchors(self, origin: str) -> list[Anchor]:
        """All anchors of a log, oldest first."""
        pages = self._pages("anchorSlice", MAX_ANCHORS, log_id(origin))
        return [_anchor(item) for item in pages]

    def logs(self) -> list[RegisteredLog]:
        """All logs, in the order of registration, revoked ones too."""
        return [_registered(item) for item in self._pages("logSlice", MAX_LOGS)]

    def key_history(self, origin: str) -> list[RotationRecord]:
        """The keys of a log, the registered one first and the present one last."""
        return read_key_history(self._web3, self._contract, log_id(origin))

    def registrar(self) -> str:
        """The account that may register and revoke."""
        return str(self._read("registrar"))

    def verify_code(self) -> None:
        """Raise ChainRefused unless the code at our address is what this package compiled."""
        with translated():
            code = self._web3.eth.get_code(self.address).hex()
        if code == load_artefact().runtime_bytecode[2:]:
            return
        what = "there is no contract" if not code else "there is other code than ours"
        raise ChainRefused("WrongCode", f"{what} at {self.address}: check address and chain")

    def head(self) -> int:
        """Number of the newest block."""
        with translated():
            return int(self._web3.eth.block_number)

    def chain_id(self) -> int:
        """The id of the chain behind the endpoint, asked anew every time."""
        with translated():
            return self._web3.eth.chain_id

    def genesis_hash(self) -> str:
        """The hash of the first block; another one than before means that the chain was reset."""
        with translated():
            block: Any = self._web3.eth.get_block(0)
        return f"0x{bytes(block['hash']).hex()}"

    def balance(self, address: str) -> int:
        """The wei an account has."""
        with translated():
            return self._web3.eth.get_balance(to_checksum_address(address))

    # Within

    def _find(self, origin: str) -> RegisteredLog | None:
        try:
            return _registered(self._read("logOf", log_id(origin)))
        except ChainRefused as err:
            if err.name != "UnknownLog":
                raise
            return None

    def _read(self, function: str, *arguments: object) -> Any:
        with translated():
            return self._contract.functions[function](*arguments).call()

    def _pages(self, function: str, limit: int, *arguments: object) -> Iterator[Any]:
        for start in range(0, limit, PAGE):
            page = self._read(function, *arguments, start, PAGE)
            yield from page
            if len(page) < PAGE:
                return
        raise ChainRefused("TooMany", f"{function} has more than {limit} items")

    def _transact(self, function: str, *arguments: object) -> Receipt:
        call = self._contract.functions[function](*arguments)
        return self._send(self._prepare({"to": self.address, "data": _encoded(call)}))

    def _prepare(self, wanted: Mapping[str, Any]) -> PreparedTransaction:
        if self._account is None:
            raise InputRejected("this registry was opened without a key, it can only read")
        eth: Any = self._web3.eth
        with translated():
            fields: dict[str, Any] = {"value": 0, **wanted, "from": self._account.address}
            fields["gas"] = eth.estimate_gas(fields) * GAS_MARGIN_PERCENT // 100
            fields["chainId"] = eth.chain_id
            fields["nonce"] = eth.get_transaction_count(self._account.address, "pending")
            fields |= self._fees()
        # Some nodes estimate without `from`, none accepts it in a signed transaction.
        del fields["from"]
        signed = self._account.sign_transaction(fields)
        return PreparedTransaction(
            raw=f"0x{signed.raw_transaction.hex()}",
            hash=f"0x{signed.hash.hex()}",
            nonce=fields["nonce"],
            chain_id=fields["chainId"],
        )

    def _fees(self) -> dict[str, int]:
        eth: Any = self._web3.eth
        if self._gas_price is not None:
            return {"gasPrice": self._gas_price}
        base_fee = eth.get_block("latest").get("baseFeePerGas")
        if base_fee is None:
            return {"gasPrice": eth.gas_price}
        tip = eth.max_priority_fee
        # Twice the base fee stays enough for six full blocks of waiting.
        return {"maxFeePerGas": 2 * base_fee + tip, "maxPriorityFeePerGas": tip}

    def _send(self, prepared: PreparedTransaction) -> Receipt:
        self.submit(prepared)
        deadline = time.monotonic() + RECEIPT_TIMEOUT_S
        while (receipt := self.receipt(prepared.hash)) is None:
            if time.monotonic() > deadline:
                raise ChainUnavailable(
                    f"the chain has not mined {prepared.hash} within {RECEIPT_TIMEOUT_S:.0f} s"
                )
            time.sleep(RECEIPT_POLL_S)
        return receipt

    def _has(self, transaction_hash: str) -> bool:
        with translated():
            try:
                self._web3.eth.get_transaction(HexStr(transaction_hash))
            except TransactionNotFound:
                return False
        return True

    def _reason(self, transaction_hash: str, block: int) -> ChainRefused:
        """Why a mined transaction reverted: it is run again on the state before its block."""
        eth: Any = self._web3.eth
        with translated():
            mined = eth.get_transaction(transaction_hash)
            again = {"from": mined["from"], "to": mined["to"], "data": mined["input"]}
            try:
                eth.call(again, block - 1)
            except ContractLogicError as err:
                return refusal(err.data)
        return ChainRefused("Reverted", f"{transaction_hash} was mined and failed")


_BlockValidation = FormattingMiddlewareBuilder.build(
    result_formatters={
        RPCEndpoint("eth_getBlockByHash"): block_validator,
        RPCEndpoint("eth_getBlockByNumber"): block_validator,
    }
)


def _connect(rpc_url: str, poa: bool, ca: Path | None, session: requests.Session) -> Web3:
    asked: dict[str, Any] = {"timeout": (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)}
    if ca is not None:
        asked["verify"] = str(ca.expanduser())
    web3 = Web3(
        HTTPProvider(
            rpc_url,
            request_kwargs=asked,
            session=session,
            # When to try again is the caller's business: a process with a due time.
            exception_retry_configuration=None,
        )
    )
    # Without what asks for the chain's id before every call and estimate: the id that a transaction
    # is for is in it, and `submit` compares it with the endpoint's.
    web3.middleware_onion.replace("validation", _BlockValidation)
    if poa:
        web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
    return web3


def _account(private_key: str) -> LocalAccount:
    try:
        account: LocalAccount = Account.from_key(private_key)
    except Exception as err:
        # The key must not appear in what is raised.
        raise InputRejected("the chain account's key is not 32 bytes in hexadecimal") from err
    return account


def _encoded(call: Any) -> str:
    data: str = call._encode_transaction_data()
    return data


def _anchor(item: Any) -> Anchor:
    root, size, block, timestamp = item
    return Anchor(size=size, root=bytes(root), block=block, timestamp=timestamp)


def _registered(item: Any) -> RegisteredLog:
    _, origin, owner, vkey, url, revoked = item
    return RegisteredLog(origin, owner, vkey, url, revoked)
