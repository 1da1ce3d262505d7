"""Decentralised identifiers: did:web for nodes, did:key for those who run no server.

Sources: W3C did:web method specification; W3C did:key method specification (Ed25519, multicodec
0xed01); W3C Decentralized Identifiers 1.0 for the document.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, import_key

from dataspace.errors import InputRejected, ProtocolViolation, Unavailable
from dataspace.outbound import within
from dataspace.protocol import BASE

MAX_DOCUMENT_BYTES = 64 * 1024
MAX_KEYS = 16
CACHE_S = 300.0
MAX_CACHED = 10_000
# A document comes within this time altogether; who is slower can be tried again.
FETCH_S = 5.0
# Fetching a stranger's document holds a thread. More at once than this are told to come back, so
# that slow documents cannot take all threads of the node.
MAX_FETCHES = 8
FAILED_FOR_S = 1.0
# A document that lacks a key named in a token may be stale, but a peer must not make us fetch it
# again for every token it invents.
REFETCH_AFTER_S = 2.0

_ED25519_MULTICODEC = b"\xed\x01"
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

VerificationKey = OKPKey | ECKey


def did_of_url(url: str) -> str:
    """The did:web of a node that serves `url`; the port's colon is percent-encoded."""
    parts = parse_url(url)
    did = f"did:web:{quote(parts.netloc, safe='')}"
    path = parts.path.strip("/")
    return f"{did}:{path.replace('/', ':')}" if path else did


def parse_url(url: str) -> SplitResult:
    """The parts of an http or https address with a host, without user, query and fragment.

    Raises InputRejected.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username or parts.password or parts.query or parts.fragment:
        raise InputRejected(
            "expected an http or https address with a host, and nothing but a path behind it",
            remedy="for example http://127.0.0.1:8001",
        )
    return parts


def url_of_did(did: str, *, local: bool) -> str:
    """Base URL of the node with this did:web; http only on loopback and only in a local space.

    Raises ProtocolViolation where `did` is no did:web.
    """
    method, _, rest = did.removeprefix("did:").partition(":")
    parts = [unquote(part) for part in rest.split(":")]
    if not did.startswith("did:web:") or not parts[0] or any("/" in part for part in parts):
        raise ProtocolViolation(
            f"expected an identifier of the form did:web:host, got method {method!r}"
        )
    host = urlsplit(f"//{parts[0]}").hostname or ""
    scheme = "http" if local and _is_loopback(host) else "https"
    return "/".join([f"{scheme}://{parts[0]}", *parts[1:]])


def did_of_key(key: Ed25519PublicKey) -> str:
    """The did:key of an Ed25519 key: the identity of somebody who serves no document."""
    return "did:key:z" + _base58_encode(_ED25519_MULTICODEC + key.public_bytes_raw())


def document_of_node(*, did: str, url: str, key: OKPKey) -> dict[str, Any]:
    """The DID document a node serves at /.well-known/did.json."""
    kid = f"{did}#{key.thumbprint()}"
    return {
        "@context": [
            "https://www.w3.org/ns/did/v1",
            "https://w3id.org/security/suites/jws-2020/v1",
        ],
        "id": did,
        "verificationMethod": [
            {
                "id": kid,
                "type": "JsonWebKey2020",
                "controller": did,
                "publicKeyJwk": dict(key.as_dict(private=False)),
            }
        ],
        "authentication": [kid],
        "assertionMethod": [kid],
        "service": [
            {
                "id": f"{did}#catalog",
                "type": "CatalogService",
                "serviceEndpoint": f"{url}{BASE}/catalog",
            },
            {"id": f"{did}#compute", "type": "ComputeService", "serviceEndpoint": f"{url}/compute"},
            {"id": f"{did}#tlog", "type": "TransparencyLog", "serviceEndpoint": f"{url}/tlog"},
        ],
    }


@dataclass(frozen=True)
class _Cached:
    keys: dict[str, VerificationKey]
    fetched_at: float


class Resolver:
    """Finds the keys of a DID, from memory where it may, over a guarded HTTP client where it must.

    Invariant: a key is returned only if the document fetched from the DID's own address lists it
    for authentication under that DID.
    """

    def __init__(
        self, client: httpx2.Client, *, local: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._local = local
        self._clock = clock
        self._cache: dict[str, _Cached] = {}
        self._failed_until: dict[str, float] = {}
        self._fetches = threading.BoundedSemaphore(MAX_FETCHES)
        self._lock = threading.Lock()

    def key(self, kid: str) -> VerificationKey:
        """The verification key `kid` = DID#fragment. Raises ProtocolViolation or Unavailable."""
        did, _, fragment = kid.partition("#")
        if not fragment:
            raise ProtocolViolation("the key identifier must be a DID with a #fragment")
        if did.startswith("did:key:"):
            return _key_of_did_key(did)
        keys, fetched_at = self._keys(did)
        if kid not in keys and self._clock() - fetched_at >= REFETCH_AFTER_S:
            keys, _ = self._keys(did, newer_than=fetched_at)
        if kid not in keys:
            raise ProtocolViolation(f"{did} does not list the key named in the token")
        return keys[kid]

    def known_key(self, kid: str) -> VerificationKey:
        """`key` without fetching anything, for use inside a transaction: whoever has just been
        authenticated is known. Raises ProtocolViolation, or Unavailable for an unknown DID."""
        did = kid.partition("#")[0]
        if did.startswith("did:key:"):
            return _key_of_did_key(did)
        with self._lock:
            cached = self._cache.get(did)
        if cached is None:
            raise Unavailable(f"the DID document of {did} is not at hand", remedy="send it again")
        if kid not in cached.keys:
            raise ProtocolViolation(f"{did} does not list the key named in the signature")
        return cached.keys[kid]

    def keys(self, did: str) -> list[VerificationKey]:
        """All keys `did` lists for authentication."""
        return list(self._keys(did)[0].values())

    def _keys(
        self, did: str, *, newer_than: float | None = None
    ) -> tuple[dict[str, VerificationKey], float]:
        now = self._clock()
        with self._lock:
            cached = self._cache.get(did)
        stale = cached is None or now - cached.fetched_at >= CACHE_S
        if cached is not None and not stale and newer_than != cached.fetched_at:
            return cached.keys, cached.fetched_at
        keys = _keys_of_document(did, self._fetch_once(did))
        with self._lock:
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[did] = _Cached(keys, now)
        return keys, now

    def _fetch_once(self, did: str) -> dict[str, Any]:
        """Fetch within the limits: a few at a time, and not again what has just failed."""
        with self._lock:
            failed_until = self._failed_until.get(did, 0.0)
        if self._clock() < failed_until:
            raise Unavailable(f"the DID document of {did} could not be fetched a moment ago")
        if not self._fetches.acquire(blocking=False):
            raise Unavailable("too many DID documents are being fetched", remedy="try again")
        try:
            return self._fetch(did)
        except Unavailable:
            with self._lock:
                if len(self._failed_until) >= MAX_CACHED:
                    self._failed_until.clear()
                self._failed_until[did] = self._clock() + FAILED_FOR_S
            raise
        finally:
            self._fetches.release()

    def _fetch(self, did: str) -> dict[str, Any]:
        base = url_of_did(did, local=self._local)
        host = urlsplit(base).hostname or ""
        verify_public_address(host, local=self._local)
        has_path = bool(urlsplit(base).path)
        target = f"{base}/did.json" if has_path else f"{base}/.well-known/did.json"
        try:
            with (
                within(FETCH_S),
                self._client.stream("GET", target, timeout=FETCH_S) as response,
            ):
                if response.status_code != 200:
                    raise Unavailable(
                        f"the DID document of {did} was answered with {response.status_code}",
                        remedy="check that the node is running and that its DID is right",
                    )
                body = _read_limited(response)
        except httpx2.HTTPError as err:
            raise Unavailable(
                f"the DID document of {did} cannot be fetched from {host}",
                remedy="check that the node is running and that its DID is right",
            ) from err
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as err:
            raise ProtocolViolation(f"the DID document of {did} is not JSON") from err
        if not isinstance(document, dict) or document.get("id") != did:
            raise ProtocolViolation(f"the DID document served for {did} is not its own")
        return document


def verify_public_address(host: str, *, local: bool) -> None:
    """Refuse to talk to addresses inside our own network, which a hostile DID or URL may name.

    In a local space loopback is where the peers are, and only loopback is added. Raises
    ProtocolViolation, or Unavailable where the name does not resolve.
    """
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except OSError as err:
        raise Unavailable(f"the host {host} cannot be found", remedy="check the address") from err
    for entry in found:
        address = ipaddress.ip_address(str(entry[4][0]).partition("%")[0])
        if local and address.is_loopback:
            continue
        if not address.is_global:
            raise ProtocolViolation(
                f"the host {host} is inside a private network and is not called",
                remedy="peers of a space that is not local need public addresses",
            )


def _read_limited(response: httpx2.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAX_DOCUMENT_BYTES:
            raise ProtocolViolation(f"the DID document is larger than {MAX_DOCUMENT_BYTES} bytes")
    return bytes(body)


def _keys_of_document(did: str, document: dict[str, Any]) -> dict[str, VerificationKey]:
    methods = document.get("verificationMethod")
    allowed = document.get("authentication")
    if not isinstance(methods, list) or not isinstance(allowed, list) or len(methods) > MAX_KEYS:
        raise ProtocolViolation(f"the DID document of {did} lists no usable keys")
    keys: dict[str, VerificationKey] = {}
    for method in methods:
        if not isinstance(method, dict) or method.get("controller") != did:
            continue
        kid = method.get("id")
        if not isinstance(kid, str) or kid not in allowed or not kid.startswith(f"{did}#"):
            continue
        try:
            key = import_key(method.get("publicKeyJwk") or {})
        except (JoseError, ValueError, TypeError, KeyError) as err:
            raise ProtocolViolation(f"the DID document of {did} has a malformed key") from err
        if isinstance(key, OKPKey | ECKey):
            keys[kid] = key
    return keys


def _key_of_did_key(did: str) -> VerificationKey:
    encoded = did.removeprefix("did:key:")
    raw = _base58_decode(encoded[1:]) if encoded.startswith("z") and len(encoded) < 64 else b""
    if len(raw) != 34 or not raw.startswith(_ED25519_MULTICODEC):
        raise ProtocolViolation("expected a did:key of an Ed25519 key")
    return OKPKey.import_key(Ed25519PublicKey.from_public_bytes(raw[2:]))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _base58_encode(data: bytes) -> str:
    number, text = int.from_bytes(data), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def _base58_decode(text: str) -> bytes:
    number = 0
    for letter in text:
        digit = _BASE58.find(letter)
        if digit < 0:
            raise ProtocolViolation("the did:key has a letter outside base58")
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8)
