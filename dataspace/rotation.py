"""Changing the key of the evidence log, in an order that a kill at any moment leaves repairable.

    1. the new key is written beside the old one, and the log records that it will change
    2. that entry is anchored under the old key
    3. the contract replaces the key
    4. the new key takes the old one's place, and the log records that it is in use

A process that finds 3 done and 4 not goes on with 4: it asks the chain which key it holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dataspace.errors import InputRejected, Unavailable
from dataspace.evidence import LOG_VKEY, read_space
from dataspace.processes import Handler, Later, Process, is_kept, schedule
from dataspace.store.tables import Setting
from ledger.checkpoint import NoteSigner
from ledger.entry import EntryType

if TYPE_CHECKING:
    from dataspace.node import Node

ROTATE = "rotate-log-key"
GIVE_UP_S = 7 * 86400.0
POLL_S = 0.2


class Rotation:
    """The durable process that changes the log's key."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def handlers(self) -> dict[str, Handler]:
        return {ROTATE: Handler(self._rotate)}

    def in_progress(self) -> bool:
        return self._node.home.has_next_log_key()

    def begin(self) -> None:
        """Make the new key, record the change, and schedule the rest. Raises InputRejected while
        an earlier change is under way."""
        node = self._node
        with node.store.transaction() as tx:
            # A key that lies there without a process is one whose beginning was never committed.
            if is_kept(tx, ROTATE, node.did):
                raise InputRejected("the log's key is being changed already", remedy="wait for it")
            if read_space(tx) is None:
                raise Unavailable("this node has not joined its space yet", remedy="try again")
            node.home.make_next_log_key()
            size = (
                node.evidence.record(tx, EntryType.KEY_ROTATED, outcome="log key will change") + 1
            )
            payload = {"size": size, "from": node.evidence.vkey}
            schedule(tx, ROTATE, node.did, payload, give_up_after_s=GIVE_UP_S)

    def follow(self) -> None:
        """Use the key that another replica has put in place of the one in our memory."""
        node = self._node
        with node.store.transaction() as tx:
            row = tx.get(Setting, LOG_VKEY)
        if row is not None and row.value != node.evidence.vkey:
            self.reload()

    def reload(self) -> None:
        """Take the log's key from the home again."""
        node = self._node
        node.evidence.use_signer(NoteSigner(node.evidence.origin, node.home.log_key()))
        node.witnessing.use_key(node.home.log_key())

    def _rotate(self, process: Process) -> Later | None:
        node = self._node
        if not self.in_progress():
            self._tell(process)
            return None
        if node.evidence.anchored_size() < process.payload["size"]:
            # The old key's last word is the entry that announces the new one.
            return Later(POLL_S)
        with node.store.transaction() as tx:
            space = read_space(tx)
        assert space is not None
        registry = node.chain_access.open(space.rpc_url, space.contract)
        signer = NoteSigner(node.evidence.origin, node.home.next_log_key())
        # Nothing is signed or anchored while the chain and the file change hands.
        with node.chain_access.account:
            registered = {one.origin: one.vkey for one in registry.logs()}
            if registered.get(node.evidence.origin) != signer.vkey:
                registry.rotate(node.evidence.origin, signer.vkey)
            node.home.use_next_log_key()
            self.reload()
        self._tell(process)
        return None

    def _tell(self, process: Process) -> None:
        """Write down that the key in the home is another, unless that was done: whoever put it
        there may have died before."""
        node = self._node
        self.reload()
        vkey = node.evidence.vkey
        if vkey == process.payload.get("from"):
            return
        with node.store.transaction() as tx:
            told = tx.get(Setting, LOG_VKEY)
            if told is not None and told.value == vkey:
                return
            # The other replicas read it before they sign, and take the key from the home.
            tx.merge(Setting(name=LOG_VKEY, value=vkey))
            node.anchoring.forget_unsent(tx)
            # An entry of its own, so that a checkpoint under the new key is signed at once.
            node.evidence.record(tx, EntryType.KEY_ROTATED, outcome="new log key in use")
