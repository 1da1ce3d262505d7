"""Keys to a node's own API: how they are made, recognised and compared. Pure.

A key is `dsk_ID_SECRET`: a mark that scanners of leaked secrets can look for, an id by which its
owner recognises it, and 256 random bits. What is kept is the SHA-256 of the whole. A slow hash is
for secrets that people choose: it makes each guess dear where there are few to make. Of 2^256 there
is none worth making, and a slow hash would only let strangers spend this node's time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

MARK = "dsk_"
ID_BYTES, SECRET_BYTES = 5, 32
_FORM = re.compile(r"dsk_([a-z2-7]{8})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class NewKey:
    """A key that was just made: shown once, and never again."""

    id: str
    key: str
    digest: str


def make_key(random: Callable[[int], bytes]) -> NewKey:
    """A fresh key; `random(n)` gives n bytes fit for secrets."""
    name = base64.b32encode(random(ID_BYTES)).decode().lower()
    secret = base64.urlsafe_b64encode(random(SECRET_BYTES)).decode().rstrip("=")
    key = f"{MARK}{name}_{secret}"
    return NewKey(name, key, digest_of(key))


def id_of(given: str) -> str | None:
    """The id in something of a key's form; None for anything else. Says nothing about validity."""
    match = _FORM.fullmatch(given)
    return match[1] if match else None


def digest_of(key: str) -> str:
    """What is kept of a key: its SHA-256 in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def opens(given: str, digest: str) -> bool:
    """Whether this is the key with that digest, in a time that does not depend on either."""
    return hmac.compare_digest(digest_of(given), digest)
