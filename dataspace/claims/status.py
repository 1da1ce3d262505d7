"""Whether a credential still holds: the status lists it names, fetched, verified and remembered.

Both kinds of list that the protocol's profiles name are read: Bitstring Status List 1.0, and its
draft StatusList2021, which differs in names and in how the list is written. The list has to be a
credential signed by the issuer of what it is about: anybody could serve one that is not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dataspace.claims.credentials import Credential, open_credential_jwt
from dataspace.claims.outside import Outside
from dataspace.errors import ProtocolViolation
from dataspace.identity.status_list import (
    ENTRY_TYPE,
    LIST_TYPE,
    StatusList,
    StatusPurpose,
    parse_list,
    parse_status,
    status_at,
)
from dataspace.identity.tokens import KeyOf

# A list is believed for so long: what was revoked meanwhile is learnt of then.
REMEMBERED_S: Final = 300.0
MAX_REMEMBERED: Final = 256
DRAFT_ENTRY_TYPE: Final = "StatusList2021Entry"
DRAFT_LIST_TYPE: Final = "StatusList2021"


@dataclass(frozen=True)
class _Remembered:
    issuer: str
    purposes: frozenset[StatusPurpose]
    bits: StatusList
    until: float


class StatusLists:
    """Looks up the status of credentials of other issuers than this space's operator."""

    def __init__(
        self, outside: Outside, key_of: KeyOf, clock: Callable[[], float] = time.time
    ) -> None:
        self._outside = outside
        self._key_of = key_of
        self._clock = clock
        self._lists: dict[str, _Remembered] = {}
        self._lock = threading.Lock()

    def verify(self, credential: Credential) -> None:
        """Raises ProtocolViolation for a credential that was revoked or suspended or whose status
        cannot be read, and Unavailable where a list cannot be had."""
        for entry in parse_status(_in_final_form(credential.status)):
            found = self._list(entry.list_url, credential.issuer)
            if entry.purpose not in found.purposes:
                raise ProtocolViolation(f"the status list is not one for {entry.purpose}")
            if status_at(found.bits, entry.index):
                told = "revoked" if entry.purpose is StatusPurpose.REVOCATION else "suspended"
                raise ProtocolViolation(f"the credential was {told} by its issuer")

    def _list(self, url: str, issuer: str) -> _Remembered:
        now = self._clock()
        with self._lock:
            found = self._lists.get(url)
        if found is None or now >= found.until or found.issuer != issuer:
            found = self._fetched(url, issuer, now)
            with self._lock:
                if len(self._lists) >= MAX_REMEMBERED:
                    self._lists.clear()
                self._lists[url] = found
        return found

    def _fetched(self, url: str, issuer: str, now: float) -> _Remembered:
        body = self._outside.get(url)
        try:
            token = body.decode("ascii").strip().strip('"')
        except UnicodeDecodeError as err:
            raise ProtocolViolation("the status list is no signed credential") from err
        credential = open_credential_jwt(
            token, now=int(now), key_of=self._key_of, about_a_list=True
        )
        if credential.issuer != issuer:
            raise ProtocolViolation("the status list is not signed by the credential's issuer")
        purposes, bits = parse_list(_list_in_final_form(credential.about))
        ends = now + REMEMBERED_S
        until = ends if credential.expires_at is None else min(ends, credential.expires_at)
        return _Remembered(issuer, purposes, bits, until)


def _in_final_form(status: object) -> object:
    """A `credentialStatus` with entries of the draft under their final name."""
    if isinstance(status, list):
        return [_in_final_form(one) for one in status[:64]]
    if isinstance(status, dict) and status.get("type") == DRAFT_ENTRY_TYPE:
        return {**status, "type": ENTRY_TYPE}
    return status


def _list_in_final_form(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """A list's `credentialSubject`; that of the draft is base64 without multibase's first letter,
    and GZIP never begins with it."""
    if about.get("type") != DRAFT_LIST_TYPE:
        return about
    encoded = str(about.get("encodedList", ""))
    plain = encoded.replace("+", "-").replace("/", "_").rstrip("=")
    return {
        **about,
        "type": LIST_TYPE,
        "encodedList": plain if plain.startswith("u") else f"u{plain}",
    }
