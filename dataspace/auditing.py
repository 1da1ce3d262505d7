"""Audits as a regulator runs them: the space's logs, a copy on the disk, or one record from a file.

`ledger.audit` does the checking; here it is given its readers, its witnesses and its judge.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dataspace.client import Client
from dataspace.errors import InputRejected, ProtocolViolation, Unavailable
from dataspace.home import Home
from dataspace.judging import AgreementJudge
from dataspace.log_readers import MAX_BODY_BYTES, TIMEOUT_S, HttpLog, open_log
from dataspace.moments import zulu_text
from dataspace.outbound import UNREACHABLE, ask, outbound_client
from dataspace.regulator import token_source
from dataspace.tls import ca_of_environment
from ledger.anchors import Anchor, RegisteredLog, RotationRecord
from ledger.audit import AuditState, DirectoryLog, LogReader, Report, audit, export_log
from ledger.chain import Registry
from ledger.checkpoint import Checkpoint, verify_checkpoint
from ledger.cosignature import (
    ED25519_COSIGNATURE,
    MLDSA44_COSIGNATURE,
    CosignatureVerifier,
)
from ledger.entry import SealedEntry, open_entry
from ledger.errors import LedgerError
from ledger.merkle import leaf_hash, verify_inclusion
from ledger.note import NoteVerifier, Verifier, parse_vkey, vkey_of
from ledger.proof import LogProof, parse_proof
from ledger.rotation import verify_with_history

MAX_SPACE_BYTES = 64 * 1024
# How long a record may take to appear on the other side before it is missed.
SETTLING_S = 60.0


def find_space(operator_url: str) -> tuple[str, str]:
    """The chain's RPC address and the contract's, as this operator tells them."""
    with outbound_client(ca_of_environment()) as http:
        try:
            url = f"{operator_url.rstrip('/')}/operator/space"
            found = ask(http, "GET", url, most=MAX_SPACE_BYTES, timeout_s=TIMEOUT_S).json()
            return str(found["rpc_url"]), str(found["contract"])
        except (*UNREACHABLE, ProtocolViolation, KeyError) as err:
            raise Unavailable(
                f"no operator of a space answers at {operator_url}",
                remedy="check the address, or give --rpc and --contract",
            ) from err


@dataclass(frozen=True)
class AuditPolicy:
    """What an audit asks for beyond consistency: cosignatures, and timely anchors."""

    require_witnesses: int = 0
    max_anchor_delay_s: float | None = None


def audit_space(
    rpc_url: str,
    contract: str,
    logs: Sequence[str],
    home: Home | None,
    *,
    policy: AuditPolicy,
    state: AuditState | None = None,
) -> Report:
    """Audit logs against the contract. Without `logs`, every log the contract knows is read.

    A log given by URL or directory is matched to a registered origin by its own checkpoint. With a
    regulator's `home`, bodies are opened, and every decision is asked again of its agreement.
    """
    ca = ca_of_environment() if home is None else home.settings.tls_ca
    registry = Registry(rpc_url, contract, ca=ca)
    registry.verify_code()
    token_for = token_source(home) if home is not None else None
    registered = registry.logs()
    with outbound_client(ca) as http:
        if logs:
            chosen = [open_log(http, location, token_for) for location in logs]
            readers = {_claimed_origin(reader): reader for reader in chosen}
        else:
            readers = {log.origin: open_log(http, log.url, token_for) for log in registered}
        return audit(
            _Chosen(registry, readers) if logs else registry,
            readers,
            settled_before=_settled_before(),
            state=state,
            max_anchor_delay_s=policy.max_anchor_delay_s,
            now_s=time.time(),
            witnesses=[cosigner_of(log.vkey) for log in registered],
            require_witnesses=policy.require_witnesses,
            judge=AgreementJudge(readers) if home is not None else None,
        )


def cosigner_of(vkey: str) -> CosignatureVerifier:
    """The witness key that follows from a registered log's key: a node cosigns with its log key."""
    name, _, _, public_key = parse_vkey(vkey)
    return CosignatureVerifier.parse(vkey_of(name, ED25519_COSIGNATURE, public_key))


def _claimed_origin(reader: LogReader) -> str:
    """The origin a log gives itself; whether it is right is the audit's business."""
    return _checkpoint_line(reader, 0)


def _claimed_size(reader: LogReader) -> int:
    size = _checkpoint_line(reader, 1)
    return int(size) if size.isdecimal() and len(size) < 20 else 0


def _checkpoint_line(reader: LogReader, number: int) -> str:
    try:
        lines = reader.checkpoint().split("\n")
    except (OSError, UnicodeDecodeError, LedgerError) as err:
        raise InputRejected(
            "the log's checkpoint cannot be read", remedy="check the URL or the directory"
        ) from err
    return lines[number] if number < len(lines) else ""


def _settled_before() -> str:
    """Records younger than this may not have reached the other side yet."""
    return zulu_text(datetime.now(UTC) - timedelta(seconds=SETTLING_S), "milliseconds")


@dataclass(frozen=True)
class _Chosen:
    """The registry as if only some logs were in it: those that were left out are not missed."""

    registry: Registry
    readers: Mapping[str, LogReader]

    def logs(self) -> list[RegisteredLog]:
        return [log for log in self.registry.logs() if log.origin in self.readers]

    def anchors(self, origin: str) -> list[Anchor]:
        """The log's anchors; for a copy on the disk those up to its size, as the log may have
        grown since the copy was made."""
        anchors, reader = self.registry.anchors(origin), self.readers[origin]
        if not isinstance(reader, DirectoryLog):
            return anchors
        size = _claimed_size(reader)
        return [anchor for anchor in anchors if anchor.size <= size]

    def key_history(self, origin: str) -> Sequence[RotationRecord]:
        return self.registry.key_history(origin)


def export_node_log(node: Client, directory: Path) -> int:
    """Write the log of a running node, bodies included, to `directory`; returns its size."""
    with outbound_client(node.ca) as http:
        reader = HttpLog(http, f"{node.url}/tlog", None)
        note = reader.checkpoint()
        size = int(note.split("\n")[1])
        commitments = reader.commitments(0, size)
    entries: list[SealedEntry | None] = []
    while len(entries) < size:
        page = node.call("GET", f"/api/log?start={len(entries)}&end={size}")
        entries += [None if one is None else SealedEntry.parse(one) for one in page]
    export_log(directory, note, commitments, entries)
    return size


@dataclass(frozen=True)
class Record:
    """A verified record: where it is, what it says, and since which block the chain vouches."""

    origin: str
    index: int
    size: int
    block: int | None
    body: str

    def to_json(self) -> dict[str, Any]:
        return {
            "origin": self.origin,
            "index": self.index,
            "size": self.size,
            "block": self.block,
        }


def verify_record(
    proof_path: Path,
    entry_path: Path,
    *,
    vkey: str | None,
    rpc_url: str | None,
    contract: str | None,
) -> Record:
    """Verify one record that a node handed out. Raises a typed error that says what does not hold.

    With `vkey` nothing is fetched. With the chain's address the key and the anchored root come from
    there, and the root of the proof's checkpoint must be the anchored one where that size is.
    """
    proof = parse_proof(_small_text(proof_path))
    try:
        sealed = SealedEntry.parse(json.loads(_small_text(entry_path)))
    except (ValueError, RecursionError) as err:
        raise InputRejected(
            f"{entry_path.name} is not an entry's JSON", remedy="use the file the node gave"
        ) from err
    entry = open_entry(sealed.body, sealed.salt, sealed.commitment)
    block: int | None = None
    if vkey is not None:
        checkpoint = verify_checkpoint(proof.checkpoint, _verifier(vkey), entry.log)
    elif rpc_url is not None and contract is not None:
        registry = Registry(rpc_url, contract, ca=ca_of_environment())
        checkpoint, block = _checkpoint_on_chain(registry, proof, entry.log)
    else:
        raise InputRejected("there is no key to verify with", remedy="give --vkey")
    leaf = leaf_hash(sealed.commitment)
    verify_inclusion(leaf, proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return Record(entry.log, proof.index, checkpoint.size, block, sealed.body.decode())


def _verifier(vkey: str) -> Verifier:
    """The log's key of either kind: Ed25519, or ML-DSA-44 where it signs with that too."""
    mldsa = parse_vkey(vkey)[2] == MLDSA44_COSIGNATURE
    return CosignatureVerifier.parse(vkey) if mldsa else NoteVerifier.parse(vkey)


def _checkpoint_on_chain(
    registry: Registry, proof: LogProof, origin: str
) -> tuple[Checkpoint, int | None]:
    """The proof's checkpoint, signed by the log's key of its time, and the block of its anchor."""
    history = registry.key_history(origin)
    if not history:
        raise InputRejected(
            f"no log {origin} is registered in this contract", remedy="check --rpc and --contract"
        )
    anchors = registry.anchors(origin)
    checkpoint, _ = verify_with_history(proof.checkpoint, origin, history, anchors)
    for anchor in anchors:
        if anchor.size == checkpoint.size:
            if anchor.root != checkpoint.root:
                raise ProtocolViolation(
                    f"the chain holds another root for {checkpoint.size} entries than the proof's"
                )
            return checkpoint, anchor.block
    return checkpoint, None


def _small_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BODY_BYTES:
            raise InputRejected(f"{path.name} is too large", remedy="use the file the node gave")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise InputRejected(
            f"{path} cannot be read as text", remedy="check the path and the file"
        ) from err
