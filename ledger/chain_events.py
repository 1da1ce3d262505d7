"""What the contract tells in events only: the keys a log has had.

The present key is in the contract's storage. Of the earlier ones, `Registered` has the first, and
every `Rotated` the next with how many entries were anchored at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from web3 import Web3
from web3.exceptions import Web3RPCError

from ledger.anchors import RotationRecord
from ledger.chain_errors import translated
from ledger.recursion import restore_recursion_limit

restore_recursion_limit()

# Endpoints limit how many blocks one question may span, 1,000 being the least that is common.
LEAST_BLOCKS = 1_000


def read_key_history(web3: Web3, contract: Any, log_id: bytes) -> list[RotationRecord]:
    """The keys of a log, oldest first. Raises ChainUnavailable or ChainRefused."""
    with translated():
        last = int(web3.eth.block_number)
        registered = list(_events(contract.events.Registered, log_id, 0, last))
        rotated = list(_events(contract.events.Rotated, log_id, 0, last))
    first = [RotationRecord(e["args"]["vkey"], 0, e["blockNumber"]) for e in registered]
    return first + [
        RotationRecord(e["args"]["vkey"], e["args"]["size"], e["blockNumber"]) for e in rotated
    ]


def _events(event: Any, log_id: bytes, first: int, last: int) -> Iterator[Any]:
    """All events of a log in these blocks, in halves where the endpoint finds them too many."""
    try:
        found = event.get_logs(from_block=first, to_block=last, argument_filters={"logId": log_id})
    except Web3RPCError:
        if last - first < LEAST_BLOCKS:
            raise
        middle = (first + last) // 2
        yield from _events(event, log_id, first, middle)
        yield from _events(event, log_id, middle + 1, last)
        return
    yield from found
