"""JSON-RPC shapes of an Ethereum node: parsing parameters, formatting blocks and receipts.

Values follow the Ethereum JSON-RPC conventions: quantities are 0x-hexadecimal without leading
zeroes, bytes are 0x-hexadecimal of even length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import rlp
from eth._utils.address import generate_contract_address

from ledger.evm_store import IndexedLog

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
SERVER_ERROR = -32000
EXECUTION_REVERTED = 3

# The largest call data we accept; a contract of 24 kB with its arguments fits many times.
MAX_DATA_BYTES = 256 * 1024

_QUANTITY = re.compile(r"0x(?:0|[1-9a-fA-F][0-9a-fA-F]{0,63})")
_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


class RpcRefusal(Exception):
    """An answer of kind `error`: what a client is told, with its JSON-RPC code."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


@dataclass(frozen=True)
class Call:
    """A message to execute without a signature."""

    sender: bytes
    to: bytes
    data: bytes
    value: int
    gas: int | None


@dataclass(frozen=True)
class LogFilter:
    """What events are asked for. Empty sequences match everything."""

    first: int
    last: int
    addresses: tuple[bytes, ...]
    topics: tuple[tuple[bytes, ...], ...]


def quantity(value: int) -> str:
    return hex(value)


def hexadecimal(value: bytes) -> str:
    return f"0x{value.hex()}"


def parse_quantity(value: object, name: str) -> int:
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        invalid(f"{name}: expected a 0x-hexadecimal quantity")
    return int(value, 16)


def parse_data(value: object, name: str, length: int | None = None) -> bytes:
    if not isinstance(value, str) or not _DATA.fullmatch(value):
        invalid(f"{name}: expected 0x-hexadecimal bytes")
    if len(value) > 2 + 2 * MAX_DATA_BYTES:
        invalid(f"{name}: more than {MAX_DATA_BYTES} bytes")
    parsed = bytes.fromhex(value[2:])
    if length is not None and len(parsed) != length:
        invalid(f"{name}: expected {length} bytes, got {len(parsed)}")
    return parsed


def parse_block_number(value: object, head: int) -> int:
    """The number meant by a block tag or quantity; pending is the head, as we mine at once."""
    if value in (None, "latest", "pending", "safe", "finalized"):
        return head
    if value == "earliest":
        return 0
    if isinstance(value, Mapping):
        value = value.get("blockNumber")
    return parse_quantity(value, "block")


def parse_call(value: object) -> Call:
    if not isinstance(value, Mapping):
        invalid("expected a call object")
    to = value.get("to")
    data = value.get("input", value.get("data"))
    gas = value.get("gas")
    return Call(
        sender=parse_data(value.get("from", f"0x{'00' * 20}"), "from", 20),
        to=b"" if to is None else parse_data(to, "to", 20),
        data=b"" if data is None else parse_data(data, "data"),
        value=parse_quantity(value.get("value", "0x0"), "value"),
        gas=None if gas is None else parse_quantity(gas, "gas"),
    )


def parse_filter(value: object, head: int, block_of_hash: int | None) -> LogFilter:
    if not isinstance(value, Mapping):
        invalid("expected a filter object")
    if block_of_hash is not None:
        first = last = block_of_hash
    else:
        # Past the head there is nothing, however far: the store's integers have 64 bits.
        first = min(head + 1, parse_block_number(value.get("fromBlock"), head))
        last = min(head, parse_block_number(value.get("toBlock"), head))
    topics = value.get("topics") or []
    if not isinstance(topics, Sequence) or isinstance(topics, str) or len(topics) > 4:
        invalid("topics: expected a list of at most four")
    return LogFilter(
        first=first,
        last=last,
        addresses=_alternatives(value.get("address"), "address", 20),
        topics=tuple(_alternatives(topic, "topic", 32) for topic in topics),
    )


def format_log(block: Any, log: IndexedLog) -> dict[str, Any]:
    """An event of the only transaction of this py-evm block."""
    return {
        "address": hexadecimal(log.address),
        "topics": [hexadecimal(topic) for topic in log.topics],
        "data": hexadecimal(log.data),
        "blockNumber": quantity(block.number),
        "blockHash": hexadecimal(block.hash),
        "transactionHash": hexadecimal(block.transactions[0].hash),
        "transactionIndex": "0x0",
        "logIndex": quantity(log.position),
        "removed": False,
    }


def format_receipt(block: Any, receipt: Any, logs: Sequence[IndexedLog]) -> dict[str, Any]:
    """The receipt of the only transaction of this py-evm block."""
    transaction = block.transactions[0]
    created = (
        None if transaction.to else generate_contract_address(transaction.sender, transaction.nonce)
    )
    return {
        "transactionHash": hexadecimal(transaction.hash),
        "transactionIndex": "0x0",
        "blockHash": hexadecimal(block.hash),
        "blockNumber": quantity(block.number),
        "from": hexadecimal(transaction.sender),
        "to": hexadecimal(transaction.to) if transaction.to else None,
        "contractAddress": None if created is None else hexadecimal(created),
        "cumulativeGasUsed": quantity(receipt.gas_used),
        "gasUsed": quantity(receipt.gas_used),
        "effectiveGasPrice": quantity(
            effective_gas_price(transaction, block.header.base_fee_per_gas)
        ),
        # Since Byzantium the field of the state root says success (01) or failure (empty).
        "status": "0x1" if receipt.state_root == b"\x01" else "0x0",
        "type": quantity(getattr(transaction, "type_id", None) or 0),
        "logsBloom": f"0x{receipt.bloom:0512x}",
        "logs": [format_log(block, log) for log in logs],
    }


def format_block(block: Any, transactions: list[Any]) -> dict[str, Any]:
    """A py-evm block; `transactions` are hashes or objects, as the caller was asked."""
    header = block.header
    return {
        "number": quantity(header.block_number),
        "hash": hexadecimal(header.hash),
        "parentHash": hexadecimal(header.parent_hash),
        "nonce": hexadecimal(header.nonce),
        "mixHash": hexadecimal(header.mix_hash),
        "sha3Uncles": hexadecimal(header.uncles_hash),
        "logsBloom": f"0x{header.bloom:0512x}",
        "transactionsRoot": hexadecimal(header.transaction_root),
        "stateRoot": hexadecimal(header.state_root),
        "receiptsRoot": hexadecimal(header.receipt_root),
        "miner": hexadecimal(header.coinbase),
        "difficulty": "0x0",
        "totalDifficulty": "0x0",
        "extraData": hexadecimal(header.extra_data),
        "size": quantity(len(rlp.encode(block))),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "baseFeePerGas": quantity(header.base_fee_per_gas),
        "transactions": transactions,
        "uncles": [],
    }


def format_transaction(transaction: Any, block: Any, chain_id: int) -> dict[str, Any]:
    """A py-evm transaction in its block."""
    kind = getattr(transaction, "type_id", None) or 0
    formatted: dict[str, Any] = {
        "hash": hexadecimal(transaction.hash),
        "type": quantity(kind),
        "chainId": quantity(chain_id),
        "nonce": quantity(transaction.nonce),
        "from": hexadecimal(transaction.sender),
        "to": hexadecimal(transaction.to) if transaction.to else None,
        "value": quantity(transaction.value),
        "gas": quantity(transaction.gas),
        "gasPrice": quantity(effective_gas_price(transaction, block.header.base_fee_per_gas)),
        "input": hexadecimal(transaction.data),
        "v": quantity(transaction.y_parity if kind else transaction.v),
        "r": quantity(transaction.r),
        "s": quantity(transaction.s),
        "blockHash": hexadecimal(block.hash),
        "blockNumber": quantity(block.number),
        "transactionIndex": "0x0",
    }
    if kind == 2:
        formatted["maxFeePerGas"] = quantity(transaction.max_fee_per_gas)
        formatted["maxPriorityFeePerGas"] = quantity(transaction.max_priority_fee_per_gas)
    if kind:
        formatted["accessList"] = [
            {
                "address": hexadecimal(address),
                "storageKeys": [f"0x{key:064x}" for key in keys],
            }
            for address, keys in transaction.access_list
        ]
    return formatted


def effective_gas_price(transaction: Any, base_fee: int) -> int:
    """What a unit of gas cost this transaction, in wei (EIP-1559)."""
    price = min(transaction.max_fee_per_gas, base_fee + transaction.max_priority_fee_per_gas)
    return int(price)


def failure(identity: object, code: int, message: str, data: str | None = None) -> dict[str, Any]:
    error: dict[str, object] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return {"jsonrpc": "2.0", "id": identity, "error": error}


def param(params: list[Any], position: int) -> object:
    if len(params) <= position:
        invalid(f"expected at least {position + 1} parameters, got {len(params)}")
    return params[position]


def address(params: list[Any]) -> bytes:
    return parse_data(param(params, 0), "address", 20)


def indexed_logs(number: int, receipt: Any) -> list[IndexedLog]:
    return [
        IndexedLog(
            block=number,
            position=position,
            address=log.address,
            topics=tuple(topic.to_bytes(32) for topic in log.topics),
            data=log.data,
        )
        for position, log in enumerate(receipt.logs)
    ]


def invalid(message: str) -> NoReturn:
    raise RpcRefusal(INVALID_PARAMS, message)


def _alternatives(value: object, name: str, length: int) -> tuple[bytes, ...]:
    if value is None:
        return ()
    items = value if isinstance(value, list) else [value]
    if len(items) > 64:
        invalid(f"{name}: at most 64 alternatives")
    return tuple(parse_data(item, name, length) for item in items)
