"""Decentralised identifiers: did:web for nodes, did:key for those who run no server.

Sources: W3C did:web method specification; W3C did:key method specification (Ed25519 and P-256);
W3C Decentralized Identifiers 1.0 for the document and what a key in it may be used for.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

import httpx2

from contracts.errors import ContractError
from contracts.mldsa import ALGORITHM, KEY_TYPE, MlDsaKey
from dataspace.errors import InputRejected, NodeError, ProtocolViolation, Unavailable
from dataspace.identity.addresses import is_loopback
from dataspace.identity.keys import (
    SUITES,
    VerificationKey,
    algorithm_of,
    public_jwk_of,
    read_jwk,
)
from dataspace.outbound import UNREACHABLE, ask
from dataspace.protocol import BASE

MAX_DOCUMENT_BYTES = 64 * 1024
# Old keys stay listed, so that what they signed can still be verified.
MAX_KEYS = 64
MAX_SERVICES = 64
# How long a document is taken as it was: what its server says, within these bounds. A key that was
# withdrawn is believed for as long as that, and a key is announced for longer than that before it
# is used.
CACHE_S = 300.0
LEAST_CACHE_S, MOST_CACHE_S = 30.0, 900.0
MAX_CACHED = 10_000
# A document comes within this time altogether; who is slower can be tried again.
FETCH_S = 5.0
# Fetching a stranger's document holds a thread. More at once than this are told to come back, so
# that slow documents cannot take all threads of the node.
MAX_FETCHES = 8
# What could not be fetched, or is no document, is not asked for again at once; each failure doubles
# the pause, and it stays short, as a node that was restarted has to be known again soon.
FAILED_FOR_S, FAILED_FOR_MOST_S = 1.0, 8.0
# A document that lacks a key named in a token may be stale, but a peer must not make us fetch it
# again for every token it invents.
REFETCH_AFTER_S = 2.0

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# A did:key of a P-256 key is a little longer than one of Ed25519.
_MAX_DID_KEY = 80
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=([0-9]{1,9})(?:$|[\s,])")
# A host with an optional port, as did:web writes it after decoding.
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
)
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=@-]+")


class Use(StrEnum):
    """What a key in a document may be used for (DID Core 1.0, 5.3.1, 5.3.2 and 5.3.4): to prove who
    is speaking now, to sign statements that are verified later, or to sign the tokens of the claims
    protocol."""

    AUTHENTICATION = "authentication"
    ASSERTION = "assertionMethod"
    INVOCATION = "capabilityInvocation"


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

    Raises ProtocolViolation where `did` is no did:web: its first part is a host, with the port's
    colon percent-encoded, each further one a segment of the path, with nothing in it that would
    lead elsewhere.
    """
    method, _, rest = did.removeprefix("did:").partition(":")
    host_and_port, *path = (unquote(part) for part in rest.split(":"))
    if (
        not did.startswith("did:web:")
        or not _HOST.fullmatch(host_and_port)
        or any(not _SEGMENT.fullmatch(part) or set(part) == {"."} for part in path)
    ):
        raise ProtocolViolation(
            f"expected an identifier of the form did:web:host, got method {method[:32]!r}"
        )
    try:
        parts = urlsplit(f"//{host_and_port}")
        host, port = parts.hostname or "", parts.port
    except ValueError as err:
        raise ProtocolViolation("expected a did:web with a host that is one") from err
    if port == 0:
        raise ProtocolViolation("expected a did:web with a port that can be called")
    scheme = "http" if local and is_loopback(host) else "https"
    return "/".join([f"{scheme}://{host_and_port}", *(quote(part) for part in path)])


def document_url(did: str, *, local: bool) -> str:
    """Where the document of a did:web is served (method specification, 2.5.2)."""
    base = url_of_did(did, local=local)
    return f"{base}/did.json" if urlsplit(base).path else f"{base}/.well-known/did.json"


def did_of_key(key: VerificationKey) -> str:
    """The did:key of a key: the identity of somebody who serves no document."""
    suite = SUITES[algorithm_of(key)]
    return "did:key:z" + _base58_encode(suite.multicodec + suite.public_bytes(key.public_key))


@dataclass(frozen=True)
class ListedKey:
    """A key as its owner's document lists it: for statements always, and to authenticate with
    unless it has been retired."""

    key: VerificationKey
    authenticates: bool = True


@dataclass(frozen=True)
class ListedSecondKey:
    """A post-quantum key as its owner's document lists it: for statements always. Where `required`
    it stands among those to authenticate with as well, and a statement that asks for a second
    signature is not its owner's without one."""

    key: MlDsaKey
    required: bool


def document_of_node(
    *, did: str, url: str, keys: Sequence[ListedKey], second: Sequence[ListedSecondKey] = ()
) -> dict[str, Any]:
    """The DID document a node serves at /.well-known/did.json."""
    thumbprints = [
        *(one.key.thumbprint() for one in keys),
        *(one.key.thumbprint() for one in second),
    ]
    kids = [f"{did}#{thumbprint}" for thumbprint in thumbprints]
    jwks = [*(public_jwk_of(one.key) for one in keys), *(one.key.as_dict() for one in second)]
    live = [*(one.authenticates for one in keys), *(one.required for one in second)]
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
                "publicKeyJwk": jwk,
            }
            for kid, jwk in zip(kids, jwks, strict=True)
        ],
        Use.AUTHENTICATION.value: [
            kid for kid, authenticates in zip(kids, live, strict=True) if authenticates
        ],
        Use.ASSERTION.value: kids,
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


Keys = Mapping[Use, Mapping[str, VerificationKey]]


@dataclass(frozen=True)
class SecondKeys:
    """The post-quantum keys that a document lists for statements, by their ids; `required` says
    whether any of them is in use, so that a statement of its owner has to be signed with one."""

    keys: Mapping[str, MlDsaKey]
    required: bool


# Of who serves no document, and so has the one key that its DID is.
NO_SECOND_KEYS = SecondKeys({}, required=False)


@dataclass(frozen=True)
class _Cached:
    keys: Keys
    second: SecondKeys
    # The first endpoint of each type of service.
    services: Mapping[str, str]
    fetched_at: float
    until: float


@dataclass(frozen=True)
class _Failed:
    until: float
    pause_s: float
    sentence: str


class Resolver:
    """Finds the keys of a DID, from memory where it may, over a guarded HTTP client where it must.

    Invariant: a key is returned for a use only if the document fetched from the DID's own address
    lists it for that use under that DID.
    """

    def __init__(
        self, client: httpx2.Client, *, local: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._local = local
        self._clock = clock
        self._cache: dict[str, _Cached] = {}
        self._failed: dict[str, _Failed] = {}
        self._fetches = threading.BoundedSemaphore(MAX_FETCHES)
        self._lock = threading.Lock()

    def key(self, kid: str) -> VerificationKey:
        """The key `kid` = DID#fragment, if whoever has it may sign statements with it.

        Raises ProtocolViolation or Unavailable.
        """
        return self._key(kid, Use.ASSERTION)

    def authentication_key(self, kid: str) -> VerificationKey:
        """`key`, for a proof of who is speaking now: a key that was retired is none of these."""
        return self._key(kid, Use.AUTHENTICATION)

    def invocation_key(self, kid: str) -> VerificationKey:
        """The key of a token of the claims protocol (1.0, §4.3.3): `kid`, or where that is a DID
        alone, the one key there is. Raises ProtocolViolation or Unavailable."""
        if "#" in kid or kid.startswith("did:key:"):
            return self._key(kid, Use.INVOCATION)
        found = list(self._keys(kid).keys[Use.INVOCATION].values())
        if len(found) != 1:
            raise ProtocolViolation("a token that names no key needs a signer with exactly one")
        return found[0]

    def service(self, did: str, service_type: str) -> str:
        """The endpoint of this type in the document of `did`. Raises ProtocolViolation where there
        is none, or Unavailable."""
        found = self._keys(did).services.get(service_type)
        if found is None:
            raise ProtocolViolation(f"the DID document of {did} lists no {service_type}")
        return found

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
        found = cached.keys[Use.ASSERTION].get(kid)
        if found is None:
            raise ProtocolViolation(f"{did} does not list the key named in the signature")
        return found

    def second_keys(self, did: str) -> SecondKeys:
        """The post-quantum keys of `did`. Raises ProtocolViolation or Unavailable."""
        return NO_SECOND_KEYS if did.startswith("did:key:") else self._keys(did).second

    def known_second_keys(self, did: str) -> SecondKeys:
        """`second_keys` without fetching anything, as `known_key`. Raises Unavailable."""
        if did.startswith("did:key:"):
            return NO_SECOND_KEYS
        with self._lock:
            cached = self._cache.get(did)
        if cached is None:
            raise Unavailable(f"the DID document of {did} is not at hand", remedy="send it again")
        return cached.second

    def keys(self, did: str, *, fresh: bool = False) -> list[VerificationKey]:
        """All keys that `did` lists for statements; with `fresh` as listed a moment ago."""
        if did.startswith("did:key:"):
            return [_key_of_did_key(did)]
        cached = self._keys(did)
        if fresh and self._clock() - cached.fetched_at >= REFETCH_AFTER_S:
            cached = self._keys(did, newer_than=cached.fetched_at)
        return list(cached.keys[Use.ASSERTION].values())

    def _key(self, kid: str, use: Use) -> VerificationKey:
        did, _, fragment = kid.partition("#")
        if not fragment:
            raise ProtocolViolation("the key identifier must be a DID with a #fragment")
        if did.startswith("did:key:"):
            return _key_of_did_key(did)
        cached = self._keys(did)
        if kid not in cached.keys[use] and self._clock() - cached.fetched_at >= REFETCH_AFTER_S:
            cached = self._keys(did, newer_than=cached.fetched_at)
        if kid not in cached.keys[use]:
            raise ProtocolViolation(
                f"{did} does not list the key named in the token for {use.value}"
            )
        return cached.keys[use][kid]

    def _keys(self, did: str, *, newer_than: float | None = None) -> _Cached:
        now = self._clock()
        with self._lock:
            cached = self._cache.get(did)
        if cached is not None and now < cached.until and newer_than != cached.fetched_at:
            return cached
        document, fresh_s = self._fetch_once(did)
        found = _Cached(
            _keys_of_document(did, document),
            _second_keys_of_document(did, document),
            _services_of_document(document),
            now,
            now + fresh_s,
        )
        with self._lock:
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[did] = found
        return found

    def _fetch_once(self, did: str) -> tuple[dict[str, Any], float]:
        """Fetch within the limits: a few at a time, and not again what has just failed, or is no
        document that can be used."""
        with self._lock:
            failed = self._failed.get(did)
        if failed is not None and self._clock() < failed.until:
            raise Unavailable(f"{failed.sentence} (a moment ago)", remedy="try again shortly")
        if not self._fetches.acquire(blocking=False):
            raise Unavailable("too many DID documents are being fetched", remedy="try again")
        try:
            document, fresh_s = self._fetch(did)
            _keys_of_document(did, document)
            _second_keys_of_document(did, document)
        except (Unavailable, ProtocolViolation) as err:
            self._remember_failure(did, failed, err)
            raise
        finally:
            self._fetches.release()
        with self._lock:
            self._failed.pop(did, None)
        return document, fresh_s

    def _remember_failure(self, did: str, before: _Failed | None, err: NodeError) -> None:
        pause_s = FAILED_FOR_S if before is None else min(before.pause_s * 2, FAILED_FOR_MOST_S)
        with self._lock:
            if len(self._failed) >= MAX_CACHED:
                self._failed.clear()
            self._failed[did] = _Failed(self._clock() + pause_s, pause_s, err.sentence)

    def _fetch(self, did: str) -> tuple[dict[str, Any], float]:
        """The document, and for how long its server lets it be kept."""
        target = document_url(did, local=self._local)
        host = urlsplit(target).hostname or ""
        try:
            answer = ask(
                self._client,
                "GET",
                target,
                most=MAX_DOCUMENT_BYTES,
                timeout_s=FETCH_S,
                what=f"the DID document of {did}",
            )
        except UNREACHABLE as err:
            raise Unavailable(
                f"the DID document of {did} cannot be fetched from {host}",
                remedy="check that the node is running and that its DID is right",
            ) from err
        if answer.status != 200:
            raise Unavailable(
                f"the DID document of {did} was answered with {answer.status}",
                remedy="check that the node is running and that its DID is right",
            )
        try:
            document = answer.json()
        except ProtocolViolation as err:
            raise ProtocolViolation(f"the DID document of {did} is not JSON") from err
        if document.get("id") != did:
            raise ProtocolViolation(f"the DID document served for {did} is not its own")
        return document, freshness_s(answer.headers.get("cache-control", ""))


def freshness_s(cache_control: str) -> float:
    """How long an answer with this Cache-Control may be kept, in seconds, within our bounds."""
    written = cache_control.lower()
    if "no-store" in written or "no-cache" in written:
        return LEAST_CACHE_S
    found = _MAX_AGE.search(written)
    if found is None:
        return CACHE_S
    return min(max(float(found[1]), LEAST_CACHE_S), MOST_CACHE_S)


def _keys_of_document(did: str, document: dict[str, Any]) -> Keys:
    methods = document.get("verificationMethod", [])
    named = {use: document.get(use.value) for use in Use}
    # Documents of other makes may name no keys for statements apart.
    if named[Use.ASSERTION] is None:
        named[Use.ASSERTION] = named[Use.AUTHENTICATION]
    # Older ones than the claims protocol's final text name none for its tokens.
    if named[Use.INVOCATION] is None:
        named[Use.INVOCATION] = named[Use.AUTHENTICATION]
    lists = [methods, *named.values()]
    if not all(isinstance(one, list) and len(one) <= MAX_KEYS for one in lists):
        raise ProtocolViolation(f"the DID document of {did} lists no usable keys")
    known = dict(filter(None, (_method(did, one) for one in methods)))
    found: dict[Use, dict[str, VerificationKey]] = {}
    for use, entries in named.items():
        found[use] = {}
        for entry in entries or []:
            # A method may also stand in the list itself, for this use only.
            embedded = _method(did, entry)
            kid = embedded[0] if embedded else _absolute(did, entry)
            key = embedded[1] if embedded else known.get(kid)
            if key is not None:
                found[use][kid] = key
    return found


def _second_keys_of_document(did: str, document: dict[str, Any]) -> SecondKeys:
    """What was found to be lists of a bounded length before."""
    listed = {use: document.get(use.value) or [] for use in (Use.ASSERTION, Use.AUTHENTICATION)}
    named = {use: {_absolute(did, entry) for entry in listed[use]} for use in listed}
    found: dict[str, MlDsaKey] = {}
    for method in document.get("verificationMethod", []):
        jwk = method.get("publicKeyJwk") if isinstance(method, dict) else None
        if not isinstance(jwk, dict) or jwk.get("kty") != KEY_TYPE:
            continue
        kid = _absolute(did, method.get("id"))
        own = kid.startswith(f"{did}#") and method.get("controller") == did
        if own and kid in named[Use.ASSERTION] and jwk.get("alg") == ALGORITHM:
            try:
                found[kid] = MlDsaKey.of_jwk(jwk)
            except ContractError as err:
                raise ProtocolViolation(f"the DID document of {did} has a malformed key") from err
    return SecondKeys(found, required=bool(found.keys() & named[Use.AUTHENTICATION]))


def _services_of_document(document: dict[str, Any]) -> Mapping[str, str]:
    """The first endpoint of each type of service, of those that are plain addresses."""
    listed = document.get("service")
    found: dict[str, str] = {}
    for one in listed[:MAX_SERVICES] if isinstance(listed, list) else []:
        service_type = one.get("type") if isinstance(one, dict) else None
        endpoint = one.get("serviceEndpoint") if isinstance(one, dict) else None
        if isinstance(service_type, str) and isinstance(endpoint, str):
            found.setdefault(service_type, endpoint.rstrip("/"))
    return found


def _method(did: str, method: object) -> tuple[str, VerificationKey] | None:
    """A verification method with a key of ours; None for one of another kind or owner."""
    if not isinstance(method, dict) or method.get("controller") != did:
        return None
    kid = _absolute(did, method.get("id"))
    if not kid.startswith(f"{did}#"):
        return None
    try:
        key = read_jwk(method.get("publicKeyJwk"))
    except ProtocolViolation as err:
        raise ProtocolViolation(f"the DID document of {did} has a malformed key") from err
    return None if key is None else (kid, key)


def _absolute(did: str, reference: object) -> str:
    """A key's identifier, which a document may write relative to itself."""
    if not isinstance(reference, str):
        return ""
    return did + reference if reference.startswith("#") else reference


def _key_of_did_key(did: str) -> VerificationKey:
    encoded = did.removeprefix("did:key:")
    short = encoded.startswith("z") and len(encoded) < _MAX_DID_KEY
    raw = _base58_decode(encoded[1:]) if short else b""
    for suite in SUITES.values():
        if raw.startswith(suite.multicodec):
            try:
                return suite.of_public_bytes(raw[len(suite.multicodec) :])
            except ValueError as err:
                raise ProtocolViolation("the did:key holds no key of its kind") from err
    raise ProtocolViolation("expected a did:key of an Ed25519, P-256 or SM2 key")


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
