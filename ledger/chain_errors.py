"""What a chain's endpoint answers when it does not do as asked, sorted by whose fault it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from web3.exceptions import (
    BadFunctionCallOutput,
    BadResponseFormat,
    ContractLogicError,
    Web3Exception,
    Web3RPCError,
)

from ledger.artefact import refusal
from ledger.errors import ChainRefused, ChainUnavailable

# JSON-RPC codes by which nodes say "not now": internal error, resource unavailable, rate limit.
TRANSIENT_CODES = frozenset({-32603, -32002, -32005})


@contextmanager
def translated() -> Iterator[None]:
    """Turn what web3 and its HTTP client raise into ChainUnavailable or ChainRefused."""
    try:
        yield
    except (Web3Exception, OSError, ValueError) as err:
        raise translate(err) from err


def translate(err: Exception) -> ChainUnavailable | ChainRefused:
    """Whose fault it was: the way to the chain, the contract, or our request."""
    if isinstance(err, ContractLogicError):
        return refusal(err.data)
    if isinstance(err, BadFunctionCallOutput):
        return ChainRefused("WrongCode", "the address answers unlike our contract")
    if isinstance(err, Web3RPCError):
        error = _rpc_error(err)
        if error.get("code") in TRANSIENT_CODES:
            return ChainUnavailable(f"the chain cannot answer now: {error.get('message')}")
        return ChainRefused("RpcError", f"the chain refused: {error.get('message')}")
    # The way there (an OSError for every failure of HTTP) or an answer that is not JSON-RPC.
    if isinstance(err, OSError | ValueError | BadResponseFormat):
        return ChainUnavailable(f"the chain's endpoint does not answer: {type(err).__name__}")
    return ChainRefused(type(err).__name__, "the chain answered what the client cannot use")


def sending_refused(err: Exception) -> ChainRefused | ChainUnavailable:
    """Why a node did not take a transaction; every kind of node words it in its own way."""
    message = str(_rpc_error(err).get("message", err)).lower()
    if "nonce too low" in message:
        return ChainRefused(
            "NonceTooLow", "another transaction took this nonce: prepare the transaction again"
        )
    if "nonce too high" in message or "nonce gap" in message:
        return ChainRefused(
            "NonceTooHigh",
            "transactions before this one are missing, the chain may have been reset: "
            "prepare the transaction again",
        )
    if "insufficient funds" in message:
        return ChainRefused("InsufficientFunds", "the account cannot pay for gas: fund it")
    return translate(err)


def _rpc_error(err: Exception) -> Mapping[str, Any]:
    response = getattr(err, "rpc_response", None)
    error = response.get("error") if isinstance(response, Mapping) else None
    return error if isinstance(error, Mapping) else {"message": str(err)}
