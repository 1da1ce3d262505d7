"""The auditor's way to logs over HTTP, and the regulator's home, which needs no server.

`ledger.audit` does the checking; here are only the readers and the identity that entitles them to
entry bodies.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from dataspace.client import Client
from dataspace.errors import InputRejected, ProtocolViolation, Unavailable
from dataspace.identity.did import did_of_key, did_of_url
from dataspace.identity.tokens import Identity, issue_token
from dataspace.membership import Application, apply_for_membership
from dataspace.settings import Home, ParticipantKind
from ledger.anchors import Anchor, RegisteredLog
from ledger.audit import DirectoryLog, LogReader, Report, audit, export_log
from ledger.chain import Registry
from ledger.entry import SealedEntry, open_entry, shown_entry
from ledger.note import NoteVerifier
from ledger.proof import parse_proof, verify_proof
from ledger.tiles import TILE_WIDTH, Tile, parse_entry_bundle

PAGE = 1000
CREDENTIAL_FILE = "credential.jwt"
MAX_BODY_BYTES = 64 * 1024 * 1024

TokenFor = Callable[[str], str]


class HttpLog(LogReader):
    """A node's log over HTTP. `token_for(did)` gives a token, or None to read what is public."""

    def __init__(self, http: httpx2.Client, url: str, token_for: TokenFor | None) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._token_for = token_for

    def checkpoint(self) -> str:
        return self._get("/checkpoint").decode()

    def commitments(self, start: int, end: int) -> list[bytes]:
        found: list[bytes] = []
        while start + len(found) < end:
            at = start + len(found)
            index = at // TILE_WIDTH
            width = min(TILE_WIDTH, end - index * TILE_WIDTH)
            bundle = parse_entry_bundle(self._get(f"/{Tile(None, index, width).path}"))
            if len(bundle) != width:
                raise ProtocolViolation(f"{self._url} serves a bundle of another length than asked")
            found += bundle[at - index * TILE_WIDTH :]
        return found

    def entries(self, start: int, end: int) -> list[SealedEntry | None] | None:
        if self._token_for is None:
            return None
        node = did_of_url(self._url.removesuffix("/tlog"))
        found: list[SealedEntry | None] = []
        while start + len(found) < end:
            at = start + len(found)
            token = self._token_for(node)
            body = self._get(
                f"/entries?start={at}&end={min(end, at + PAGE)}",
                headers={"authorization": f"Bearer {token}"},
            )
            try:
                page = json.loads(body)
            except (ValueError, RecursionError):
                page = None
            if not isinstance(page, list) or not page:
                raise ProtocolViolation(f"{self._url} shows no entries from {at} on")
            found += [shown_entry(one) for one in page]
        return found

    def _get(self, path: str, headers: dict[str, str] | None = None) -> bytes:
        try:
            response = self._http.get(f"{self._url}{path}", headers=headers or {}, timeout=20.0)
        except httpx2.HTTPError as err:
            raise Unavailable(
                f"the log at {self._url} cannot be reached", remedy="check its address"
            ) from err
        if response.status_code != 200:
            raise Unavailable(f"the log at {self._url} answered {response.status_code} for {path}")
        if len(response.content) > MAX_BODY_BYTES:
            raise ProtocolViolation(f"the log at {self._url} answered with too many bytes")
        return response.content


def open_log(http: httpx2.Client, location: str, token_for: TokenFor | None) -> LogReader:
    """A log by URL, or by the directory of an exported copy."""
    if location.startswith(("http://", "https://")):
        return HttpLog(http, location, token_for)
    path = Path(location)
    if not path.is_dir():
        raise InputRejected(
            f"{location} is neither a URL nor the directory of an exported log",
            remedy="give http://…/tlog, or a directory made by: dataspace log export",
        )
    return DirectoryLog(path)


def regulator_identity(home: Home) -> Identity:
    """The did:key identity of a regulator's home."""
    key = home.signing_key()
    return Identity.of(did_of_key(key.public_key()), key)


def join_as_regulator(home: Home, http: httpx2.Client) -> None:
    """Get the membership credential for a regulator's home and keep it there."""
    operator, invitation = home.settings.operator, home.invitation()
    if operator is None or invitation is None:
        raise InputRejected(
            "a regulator joins with the operator's address and an invitation",
            remedy="give --operator URL --invitation CODE",
        )
    application = Application(
        name=home.settings.name, kind=ParticipantKind.REGULATOR, invitation=invitation
    )
    admission = apply_for_membership(http, operator, regulator_identity(home), application)
    (home.path / CREDENTIAL_FILE).write_text(admission.credential, encoding="utf-8")
    home.forget_invitation()


def token_source(home: Home) -> TokenFor:
    """Tokens of a regulator's home for any node. Raises InputRejected before it has joined."""
    path = home.path / CREDENTIAL_FILE
    if not path.exists():
        raise InputRejected(
            f"{home.path} has no membership credential",
            remedy="make it with: dataspace init --kind regulator --operator URL --invitation CODE",
        )
    credential, identity = path.read_text(encoding="utf-8").strip(), regulator_identity(home)

    def token_for(did: str) -> str:
        return issue_token(identity, audience=did, now=int(time.time()), membership=credential)

    return token_for


def find_space(operator_url: str) -> tuple[str, str]:
    """The chain's RPC address and the contract's, as this operator tells them."""
    with httpx2.Client(trust_env=False) as http:
        try:
            response = http.get(f"{operator_url.rstrip('/')}/operator/space", timeout=20.0)
            found = response.json()
            return str(found["rpc_url"]), str(found["contract"])
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError) as err:
            raise Unavailable(
                f"no operator of a space answers at {operator_url}",
                remedy="check the address, or give --rpc and --contract",
            ) from err


def audit_space(rpc_url: str, contract: str, logs: Sequence[str], home: Home | None) -> Report:
    """Audit logs against the contract. Without `logs`, every log the contract knows is read.

    A log given by URL or directory is matched to a registered origin by its own checkpoint.
    """
    registry = Registry(rpc_url, contract)
    registry.verify_code()
    token_for = token_source(home) if home is not None else None
    with httpx2.Client(trust_env=False) as http:
        if not logs:
            readers = {log.origin: open_log(http, log.url, token_for) for log in registry.logs()}
            return audit(registry, readers)
        chosen = [open_log(http, location, token_for) for location in logs]
        readers = {reader.checkpoint().partition("\n")[0]: reader for reader in chosen}
        return audit(_Chosen(registry, frozenset(readers)), readers)


@dataclass(frozen=True)
class _Chosen:
    """The registry as if only some logs were in it: those that were left out are not missed."""

    registry: Registry
    origins: frozenset[str]

    def logs(self) -> list[RegisteredLog]:
        return [log for log in self.registry.logs() if log.origin in self.origins]

    def anchors(self, origin: str) -> list[Anchor]:
        return self.registry.anchors(origin)


def export_node_log(node: Client, directory: Path) -> int:
    """Write the log of a running node, bodies included, to `directory`; returns its size."""
    with httpx2.Client(trust_env=False) as http:
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
    anchored: dict[int, Anchor] = {}
    if rpc_url is not None and contract is not None:
        registry = Registry(rpc_url, contract)
        registered = {log.origin: log for log in registry.logs()}
        if entry.log not in registered:
            raise InputRejected(
                f"no log {entry.log} is registered in this contract",
                remedy="check --rpc and --contract",
            )
        vkey = vkey or registered[entry.log].vkey
        anchored = {anchor.size: anchor for anchor in registry.anchors(entry.log)}
    if vkey is None:
        raise InputRejected("there is no key to verify with", remedy="give --vkey")
    checkpoint = verify_proof(proof, sealed.commitment, NoteVerifier.parse(vkey), entry.log)
    if checkpoint.size in anchored:
        if anchored[checkpoint.size].root != checkpoint.root:
            raise ProtocolViolation(
                f"the chain holds another root for {checkpoint.size} entries than the proof's"
            )
        block = anchored[checkpoint.size].block
    return Record(entry.log, proof.index, checkpoint.size, block, sealed.body.decode())


def _small_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BODY_BYTES:
            raise InputRejected(f"{path.name} is too large", remedy="use the file the node gave")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise InputRejected(
            f"{path} cannot be read as text", remedy="check the path and the file"
        ) from err
