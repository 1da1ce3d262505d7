"""The auditor's way to logs over HTTP, and the regulator's home, which needs no server.

`ledger.audit` does the checking; here are only the readers and the identity that entitles them to
entry bodies.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2

from dataspace.client import Client
from dataspace.errors import InputRejected, ProtocolViolation, Unavailable
from dataspace.identity.did import did_of_key, did_of_url
from dataspace.identity.tokens import Identity, issue_token
from dataspace.membership import Application, apply_for_membership
from dataspace.settings import Home, ParticipantKind
from ledger.audit import DirectoryLog, LogReader, Report, audit, export_log
from ledger.chain import Registry
from ledger.entry import SealedEntry, shown_entry
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
        readers: dict[str, LogReader] = {}
        if logs:
            for location in logs:
                reader = open_log(http, location, token_for)
                origin = reader.checkpoint().partition("\n")[0]
                readers[origin] = reader
        else:
            for registered in registry.logs():
                readers[registered.origin] = open_log(http, registered.url, token_for)
        return audit(registry, readers)


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
