"""An embedded Ethereum chain for a space that has no other: py-evm over one SQLite file.

One process owns it and answers Ethereum JSON-RPC. A transaction that is accepted is mined into a
block of its own before the answer is given, and the block, its state and its index are on disk
by then, so nothing acknowledged is lost by a kill or a power cut. A transaction that cannot be
mined now is refused now; there is no pool where it could wait for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eth.chains.base import MiningChain
from eth.constants import BLANK_ROOT_HASH, ZERO_ADDRESS
from eth.db.atomic import AtomicDB
from eth.exceptions import CanonicalHeadNotFound, HeaderNotFound, Revert
from eth.vm.forks.paris import ParisVM
from eth.vm.spoof import SpoofTransaction
from eth_typing import Address, BlockNumber
from eth_utils.exceptions import ValidationError

from ledger import evm_wire as wire
from ledger.errors import InputRejected
from ledger.evm_store import ChainStore
from ledger.evm_wire import RpcRefusal, hexadecimal, quantity
from ledger.recursion import restore_recursion_limit

restore_recursion_limit()

CLIENT_VERSION = "city-dataspace/embedded/1"
GAS_LIMIT = 30_000_000
# Anybody may ask for a call and nobody pays for it: this much keeps the chain busy for two or
# three seconds, and is more than any page of the registry or batch of a hundred anchors needs.
MAX_CALL_GAS = 3_000_000
# One gwei at the start; EIP-1559 lowers it block by block while there is little traffic.
GENESIS_BASE_FEE_WEI = 10**9
PRIORITY_FEE_WEI = 10**6
MAX_BATCH = 100
MAX_FEE_HISTORY = 1024


class EmbeddedVM(ParisVM):
    """The rules of Paris, but blocks may share a second.

    The strict rule would push block time ahead of the clock by a second a block under load, and
    with it the times of anchors, which are evidence. Nothing in our rules depends on it.
    """

    @classmethod
    def validate_header(cls, header: Any, parent_header: Any) -> None:
        if parent_header is not None and header.timestamp == parent_header.timestamp:
            parent_header = parent_header.copy(timestamp=header.timestamp - 1)
        super().validate_header(header, parent_header)


class SingleNodeChain(MiningChain):
    """A chain of blocks that keep their gas limit."""

    vm_configuration = ((BlockNumber(0), EmbeddedVM),)

    def create_header_from_parent(self, parent_header: Any, **params: Any) -> Any:
        params.setdefault("gas_limit", parent_header.gas_limit)
        return super().create_header_from_parent(parent_header, **params)


class EmbeddedChain:
    """The chain and its JSON-RPC. Safe to call from several threads; calls take turns."""

    def __init__(
        self,
        path: Path,
        *,
        chain_id: int,
        funded: Mapping[str, int],
        clock: Callable[[], int],
    ) -> None:
        """Open the chain at `path`, or found it.

        `funded` gives accounts (0x addresses) their wei in the first block and is not looked at
        again; `clock` gives seconds since 1970. Raises InputRejected when the file belongs to a
        chain with another id, ChainUnavailable while another process has it open.
        """
        self._lock = threading.RLock()
        self._clock = clock
        self._chain_id = chain_id
        self._store = ChainStore(path)
        self._database = AtomicDB(self._store.state)
        self._class: Any = type("Chain", (SingleNodeChain,), {"chain_id": chain_id})
        self._methods = self._dispatch_table()
        try:
            with self._store.transaction():
                self._store.bind(chain_id)
                self._chain = self._open(funded)
        except BaseException:
            self._store.close()
            raise

    def handle(self, request: object) -> object:
        """Answer a parsed JSON-RPC 2.0 request or batch; None when nothing is to be answered."""
        if isinstance(request, list):
            if not request or len(request) > MAX_BATCH:
                return wire.failure(
                    None, wire.INVALID_REQUEST, f"a batch holds 1 to {MAX_BATCH} requests"
                )
            answers = [answer for item in request if (answer := self._answer(item)) is not None]
            return answers or None
        return self._answer(request)

    def copy_to(self, path: Path) -> None:
        """Write a copy of the chain's file, which nobody but its owning process can read."""
        with self._lock:
            self._store.copy_to(path)

    def close(self) -> None:
        """Let go of the file; the object is of no use afterwards."""
        with self._lock:
            self._store.close()

    def _open(self, funded: Mapping[str, int]) -> Any:
        try:
            return self._class(self._database)
        except CanonicalHeadNotFound:
            accounts = {
                _account(address): {"balance": wei, "nonce": 0, "code": b"", "storage": {}}
                for address, wei in funded.items()
            }
            genesis = {
                "timestamp": self._clock(),
                "gas_limit": GAS_LIMIT,
                "base_fee_per_gas": GENESIS_BASE_FEE_WEI,
                "coinbase": ZERO_ADDRESS,
                "extra_data": b"",
                "transaction_root": BLANK_ROOT_HASH,
                "receipt_root": BLANK_ROOT_HASH,
            }
            return self._class.from_genesis(self._database, genesis, accounts)

    def _answer(self, request: object) -> dict[str, Any] | None:
        if not isinstance(request, Mapping) or request.get("jsonrpc") != "2.0":
            return wire.failure(
                None, wire.INVALID_REQUEST, "expected a JSON-RPC 2.0 request object"
            )
        name, params, identity = request.get("method"), request.get("params", []), request.get("id")
        method = self._methods.get(name) if isinstance(name, str) else None
        if method is None:
            answer = wire.failure(identity, wire.METHOD_NOT_FOUND, "this chain has no such method")
        elif not isinstance(params, list):
            answer = wire.failure(identity, wire.INVALID_PARAMS, "expected a list of parameters")
        else:
            try:
                with self._lock:
                    answer = {"jsonrpc": "2.0", "id": identity, "result": method(params)}
            except RpcRefusal as err:
                answer = wire.failure(identity, err.code, err.message, err.data)
            except RecursionError:
                answer = wire.failure(identity, wire.SERVER_ERROR, "execution nests too deep")
            except InputRejected as err:
                answer = wire.failure(identity, wire.INVALID_PARAMS, str(err))
        # A request without an id is a notification: it is carried out and not answered.
        return answer if "id" in request else None

    def _dispatch_table(self) -> dict[str, Callable[[list[Any]], object]]:
        return {
            "eth_chainId": lambda _: quantity(self._chain_id),
            "net_version": lambda _: str(self._chain_id),
            "web3_clientVersion": lambda _: CLIENT_VERSION,
            "eth_syncing": lambda _: False,
            "eth_accounts": lambda _: [],
            "eth_blockNumber": lambda _: quantity(self._head.block_number),
            "eth_gasPrice": lambda _: quantity(self._next_base_fee() + PRIORITY_FEE_WEI),
            "eth_maxPriorityFeePerGas": lambda _: quantity(PRIORITY_FEE_WEI),
            "eth_feeHistory": self._fee_history,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBalance": lambda p: quantity(self._state(p, 1).get_balance(wire.address(p))),
            "eth_getTransactionCount": lambda p: quantity(
                self._state(p, 1).get_nonce(wire.address(p))
            ),
            "eth_getCode": lambda p: hexadecimal(self._state(p, 1).get_code(wire.address(p))),
            "eth_getStorageAt": self._storage_at,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate_gas,
            "eth_sendRawTransaction": self._send,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getLogs": self._logs,
        }

    @property
    def _head(self) -> Any:
        return self._chain.get_canonical_head()

    def _next_base_fee(self) -> int:
        return int(self._chain.create_header_from_parent(self._head).base_fee_per_gas)

    # Mining

    def _send(self, params: list[Any]) -> str:
        raw = wire.parse_data(wire.param(params, 0), "transaction")
        try:
            transaction = EmbeddedVM.get_transaction_builder().decode(raw)
            # Recovering the sender checks the signature; the rest is validated when mined.
            sender = transaction.sender
        # Foreign bytes fail in the decoder with a dozen kinds of exception, all of them meaning
        # the same; nothing else happens in these lines.
        except Exception as err:
            raise RpcRefusal(wire.INVALID_PARAMS, "not a valid signed transaction") from err
        self._check_mineable(transaction, sender)
        try:
            with self._store.transaction():
                self._mine(transaction)
        except ValidationError as err:
            # What the block left behind in memory is dropped with the chain object.
            self._chain = self._class(self._database)
            raise RpcRefusal(wire.SERVER_ERROR, f"transaction refused: {err}") from err
        except BaseException:
            self._chain = self._class(self._database)
            raise
        return hexadecimal(transaction.hash)

    def _check_mineable(self, transaction: Any, sender: bytes) -> None:
        """Refuse, in the words clients know from other nodes, what could not be mined now."""
        if self._store.block_of(transaction.hash) is not None:
            raise RpcRefusal(wire.SERVER_ERROR, "already known")
        if transaction.chain_id != self._chain_id:
            raise RpcRefusal(
                wire.SERVER_ERROR, f"invalid chain id: signed for another than {self._chain_id}"
            )
        state = self._state_at(self._head)
        nonce = state.get_nonce(sender)
        if transaction.nonce != nonce:
            low_or_high = "low" if transaction.nonce < nonce else "high"
            raise RpcRefusal(
                wire.SERVER_ERROR,
                f"nonce too {low_or_high}: next nonce {nonce}, tx nonce {transaction.nonce}",
            )
        if transaction.gas > GAS_LIMIT:
            raise RpcRefusal(wire.SERVER_ERROR, "exceeds block gas limit")
        if transaction.gas < transaction.intrinsic_gas:
            raise RpcRefusal(wire.SERVER_ERROR, "intrinsic gas too low")
        if transaction.max_fee_per_gas < self._next_base_fee():
            raise RpcRefusal(wire.SERVER_ERROR, "max fee per gas less than block base fee")
        if state.get_balance(sender) < transaction.gas * transaction.max_fee_per_gas + (
            transaction.value
        ):
            raise RpcRefusal(wire.SERVER_ERROR, "insufficient funds for gas * price + value")

    def _mine(self, transaction: Any) -> None:
        parent = self._head
        # The clock may have been set back; a block is never older than its parent.
        self._chain.set_header_timestamp(max(self._clock(), parent.timestamp))
        imported, receipts, _ = self._chain.mine_all([transaction])
        number = imported.imported_block.number
        self._store.index_block(number, transaction.hash, wire.indexed_logs(number, receipts[0]))

    # Executing without mining

    def _call(self, params: list[Any]) -> str:
        call = wire.parse_call(wire.param(params, 0))
        computation = self._execute(call, self._header_at(params, 1), call.gas or MAX_CALL_GAS)
        _raise_if_failed(computation)
        return hexadecimal(computation.output)

    def _estimate_gas(self, params: list[Any]) -> str:
        call = wire.parse_call(wire.param(params, 0))
        header = self._header_at(params, 1)
        limit = min(call.gas or MAX_CALL_GAS, MAX_CALL_GAS)
        computation = self._execute(call, header, limit)
        _raise_if_failed(computation)
        gas = limit - int(computation.get_gas_remaining())
        # What was used may be too little to start with: a call passes on at most 63/64 of the
        # gas, and a store wants a reserve. So grow until it succeeds.
        while gas < limit and self._execute(call, header, gas).is_error:
            gas = min(limit, gas + gas // 16 + 2_400)
        return quantity(gas)

    def _execute(self, call: wire.Call, header: Any, gas: int) -> Any:
        gas = min(gas, MAX_CALL_GAS)
        with self._chain.get_vm(header).in_costless_state() as state:
            unsigned = EmbeddedVM.create_unsigned_transaction(
                nonce=state.get_nonce(call.sender),
                gas_price=0,
                gas=gas,
                to=Address(call.to),
                value=call.value,
                data=call.data,
            )
            if gas < unsigned.intrinsic_gas:
                raise RpcRefusal(wire.SERVER_ERROR, "intrinsic gas too low")
            try:
                return state.costless_execute_transaction(
                    SpoofTransaction(unsigned, from_=call.sender)
                )
            except ValidationError as err:
                raise RpcRefusal(wire.SERVER_ERROR, f"call refused: {err}") from err

    # Reading

    def _header_at(self, params: list[Any], position: int) -> Any:
        head = self._head
        asked = params[position] if len(params) > position else None
        number = wire.parse_block_number(asked, head.block_number)
        if number > head.block_number:
            raise RpcRefusal(wire.SERVER_ERROR, "header not found")
        return (
            head
            if number == head.block_number
            else self._chain.get_canonical_block_header_by_number(number)
        )

    def _state(self, params: list[Any], position: int) -> Any:
        return self._state_at(self._header_at(params, position))

    def _state_at(self, header: Any) -> Any:
        return self._chain.get_vm(header).state

    def _storage_at(self, params: list[Any]) -> str:
        slot = wire.parse_quantity(wire.param(params, 1), "slot")
        return f"0x{self._state(params, 2).get_storage(wire.address(params), slot):064x}"

    def _block_by_number(self, params: list[Any]) -> object:
        number = wire.parse_block_number(wire.param(params, 0), self._head.block_number)
        if number > self._head.block_number:
            return None
        return self._format_block(self._chain.get_canonical_block_by_number(number), params)

    def _block_by_hash(self, params: list[Any]) -> object:
        try:
            block = self._chain.get_block_by_hash(
                wire.parse_data(wire.param(params, 0), "hash", 32)
            )
        except HeaderNotFound:
            return None
        return self._format_block(block, params)

    def _format_block(self, block: Any, params: list[Any]) -> object:
        whole = len(params) > 1 and params[1] is True
        return wire.format_block(
            block,
            [
                wire.format_transaction(transaction, block, self._chain_id)
                if whole
                else hexadecimal(transaction.hash)
                for transaction in block.transactions
            ],
        )

    def _mined(self, params: list[Any]) -> Any | None:
        """The block of a transaction; it is the only one in it."""
        number = self._store.block_of(wire.parse_data(wire.param(params, 0), "hash", 32))
        return None if number is None else self._chain.get_canonical_block_by_number(number)

    def _transaction(self, params: list[Any]) -> object:
        block = self._mined(params)
        if block is None:
            return None
        return wire.format_transaction(block.transactions[0], block, self._chain_id)

    def _receipt(self, params: list[Any]) -> object:
        block = self._mined(params)
        if block is None:
            return None
        receipt = self._chain.get_transaction_receipt_by_index(block.number, 0)
        return wire.format_receipt(block, receipt, wire.indexed_logs(block.number, receipt))

    def _logs(self, params: list[Any]) -> object:
        asked = wire.param(params, 0)
        block: int | None = None
        if isinstance(asked, Mapping) and asked.get("blockHash") is not None:
            digest = wire.parse_data(asked["blockHash"], "blockHash", 32)
            try:
                block = self._chain.get_block_header_by_hash(digest).block_number
            except HeaderNotFound as err:
                raise RpcRefusal(wire.SERVER_ERROR, "unknown block") from err
        wanted = wire.parse_filter(asked, self._head.block_number, block)
        found = self._store.logs(wanted.first, wanted.last, wanted.addresses, wanted.topics)
        blocks = {
            number: self._chain.get_canonical_block_by_number(number)
            for number in {log.block for log in found}
        }
        return [wire.format_log(blocks[log.block], log) for log in found]

    def _fee_history(self, params: list[Any]) -> object:
        count = min(wire.parse_quantity(wire.param(params, 0), "blocks"), MAX_FEE_HISTORY)
        newest = self._header_at(params, 1)
        percentiles = params[2] if len(params) > 2 and isinstance(params[2], list) else []
        oldest = max(0, newest.block_number + 1 - count)
        headers = [
            self._chain.get_canonical_block_header_by_number(number)
            for number in range(oldest, newest.block_number + 1)
        ]
        following = self._chain.create_header_from_parent(newest)
        rewards = [quantity(PRIORITY_FEE_WEI)] * len(percentiles[:MAX_BATCH])
        return {
            "oldestBlock": quantity(oldest),
            "baseFeePerGas": [quantity(h.base_fee_per_gas) for h in (*headers, following)],
            "gasUsedRatio": [h.gas_used / h.gas_limit for h in headers],
            "reward": [rewards for _ in headers],
        }


def _raise_if_failed(computation: Any) -> None:
    if not computation.is_error:
        return
    if isinstance(computation.error, Revert):
        raise RpcRefusal(
            wire.EXECUTION_REVERTED, "execution reverted", hexadecimal(computation.output)
        )
    raise RpcRefusal(wire.SERVER_ERROR, f"execution failed: {type(computation.error).__name__}")


def _account(address: str) -> bytes:
    try:
        return wire.parse_data(address, "funded account", 20)
    except RpcRefusal as err:
        raise InputRejected(err.message) from err
