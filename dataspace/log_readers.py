"""Reading evidence logs: over HTTP from a node, or from a directory somebody exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from dataspace.errors import InputRejected, ProtocolViolation, Unavailable
from dataspace.identity.did import did_of_url
from dataspace.outbound import UNREACHABLE, ask
from ledger.audit import DirectoryLog, LogReader
from ledger.entry import SealedEntry, shown_entry
from ledger.tiles import TILE_WIDTH, Tile, parse_entry_bundle

PAGE = 1000
MAX_BODY_BYTES = 64 * 1024 * 1024
TIMEOUT_S = 20.0

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
        found: list[SealedEntry | None] = []
        while start + len(found) < end:
            at = start + len(found)
            body = self._get(
                f"/entries?start={at}&end={min(end, at + PAGE)}", self._authorization()
            )
            try:
                page = json.loads(body)
            except (ValueError, RecursionError):
                page = None
            if not isinstance(page, list) or not page:
                raise ProtocolViolation(f"{self._url} shows no entries from {at} on")
            found += [shown_entry(one) for one in page]
        return found

    def agreement(self, agreement_h: str) -> dict[str, Any] | None:
        """The agreement of this hash, where the log's node holds it."""
        document = self._document(agreement_h).get("agreement")
        return document if isinstance(document, dict) else None

    def order(self, order_h: str) -> str | None:
        """The signed order of this hash, where the log's node holds it."""
        text = self._document(order_h).get("order")
        return text if isinstance(text, str) else None

    def _document(self, sha256: str) -> dict[str, Any]:
        if self._token_for is None:
            return {}
        try:
            value = json.loads(self._get(f"/documents/{sha256}", self._authorization()))
        except (Unavailable, ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def _authorization(self) -> dict[str, str]:
        assert self._token_for is not None
        node = did_of_url(self._url.removesuffix("/tlog"))
        return {"authorization": f"Bearer {self._token_for(node)}"}

    def _get(self, path: str, headers: dict[str, str] | None = None) -> bytes:
        try:
            answer = ask(
                self._http,
                "GET",
                f"{self._url}{path}",
                most=MAX_BODY_BYTES,
                timeout_s=TIMEOUT_S,
                headers=headers,
            )
        except UNREACHABLE as err:
            raise Unavailable(
                f"the log at {self._url} cannot be reached", remedy="check its address"
            ) from err
        if answer.status != 200:
            raise Unavailable(
                f"the log at {self._url} answered {answer.status} for {path}",
                remedy="check its address: a node's log is at URL/tlog",
            )
        return answer.body


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
