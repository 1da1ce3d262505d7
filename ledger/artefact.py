"""The compiled contract and the meaning of its errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from eth_abi.abi import decode as decode_abi
from eth_abi.exceptions import DecodingError
from eth_utils.abi import function_signature_to_4byte_selector

from ledger.errors import ChainRefused

# One sentence for each custom error; the fields are the error's arguments by name.
SENTENCES: Mapping[str, str] = {
    "NotRegistrar": "only the registrar, the account that deployed the contract, may do this, "
    "and {sender} is not it",
    "NotOwner": "only the owner of log {logId} may do this, and {sender} is not it",
    "UnknownLog": "log {logId} is not registered in this contract",
    "AlreadyRegistered": "log {logId} is already registered",
    "RevokedLog": "log {logId} was revoked by the registrar",
    "SmallerSize": "log {logId} has anchored {anchored} entries and cannot go back to {given}",
    "ConflictingRoot": "log {logId} has anchored root {anchored} at size {size} and cannot anchor "
    "root {given} at the same size",
    "NoAnchor": "log {logId} has no anchor at size {size}",
    "NoSuchIndex": "there is no item {index}, only {count}",
    "LengthMismatch": "{logs} logs, {sizes} sizes and {roots} roots do not belong together",
    "TextLength": "a text has {length} bytes, allowed are 1 to {maximum}",
    "ZeroOwner": "the zero address cannot own a log",
}


@dataclass(frozen=True)
class Artefact:
    """What the compiler made of AnchorRegistry.sol; codes as 0x-hexadecimal."""

    abi: list[dict[str, Any]]
    bytecode: str
    runtime_bytecode: str


@dataclass(frozen=True)
class _CustomError:
    name: str
    argument_names: tuple[str, ...]
    argument_types: tuple[str, ...]


@cache
def load_artefact() -> Artefact:
    """The artefact shipped with this package."""
    stored = json.loads(files("ledger").joinpath("registry.json").read_text())
    return Artefact(
        abi=stored["abi"],
        bytecode=stored["bytecode"],
        runtime_bytecode=stored["runtimeBytecode"],
    )


def log_id(origin: str) -> bytes:
    """How the contract names a log: SHA-256 of its origin."""
    return sha256(origin.encode()).digest()


def refusal(data: object) -> ChainRefused:
    """The contract's custom error in this revert data (0x-hexadecimal), by name and sentence."""
    if isinstance(data, str) and len(data) >= 10:
        error = _errors_by_selector().get(data[2:10].lower())
        if error is not None:
            return _decode(error, data)
    return ChainRefused("Reverted", "the contract refused without saying why")


def _decode(error: _CustomError, data: str) -> ChainRefused:
    try:
        values = decode_abi(error.argument_types, bytes.fromhex(data[10:]))
    except (DecodingError, ValueError):
        return ChainRefused(error.name, "the contract refused with arguments that do not decode")
    readable = {
        name: f"0x{value.hex()}" if isinstance(value, bytes) else str(value)
        for name, value in zip(error.argument_names, values, strict=True)
    }
    return ChainRefused(error.name, SENTENCES[error.name].format(**readable))


@cache
def _errors_by_selector() -> dict[str, _CustomError]:
    errors: dict[str, _CustomError] = {}
    for item in load_artefact().abi:
        if item["type"] == "error":
            types = tuple(argument["type"] for argument in item["inputs"])
            names = tuple(argument["name"] for argument in item["inputs"])
            selector = function_signature_to_4byte_selector(f"{item['name']}({','.join(types)})")
            errors[selector.hex()] = _CustomError(item["name"], names, types)
    return errors
