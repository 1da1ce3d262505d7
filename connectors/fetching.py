"""HTTP for sources on the web: GET, from one origin, within bounds, again where that helps.

The address of a source is its owner's choice, and may well be a private one. What a server then
points at (a redirect, a link to the next page) is not: only the same scheme, host and port are
asked, because the secret goes along and because a foreign server must not choose which machines of
the owner's network are asked.
"""

from __future__ import annotations

import base64
import ssl
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final, TypeVar
from urllib.parse import SplitResult, urlsplit, urlunsplit

import httpx2

from connectors.addresses import Address
from connectors.deadlines import client_within
from connectors.errors import InputRejected, Unavailable
from connectors.paging import joined, with_parameters

# Options of every source on the web; see docs/sources/web.md.
OPTIONS: Final = ("secret", "auth", "ca")
_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# A server that is busy or restarting says so with one of these.
_AGAIN: Final = frozenset({429, 500, 502, 503, 504})
_FORBIDDEN: Final = frozenset({401, 403, 407})
_MISSING: Final = frozenset({404, 410})
_BLOCK_BYTES: Final = 1 << 18
_AGENT: Final = "city-dataspace"

R = TypeVar("R")


@dataclass(frozen=True)
class Limits:
    """What a server may take of this machine, each against one that never stops.

    `page_bytes` and `file_bytes` count after decompression. `attempts` is how often one request is
    made, `pause_s` how long to wait before the second (doubled for each further one), `wait_s` the
    longest wait that a server may ask for, `page_s` how long one page may take, `total_s` how long
    all of one scan may wait for the server.
    """

    page_bytes: int = 64 * 1024 * 1024
    file_bytes: int = 16 * 1024 * 1024 * 1024
    attempts: int = 4
    pause_s: float = 0.5
    wait_s: float = 60.0
    page_s: float = 120.0
    total_s: float = 4 * 3600.0
    redirects: int = 5


LIMITS: Final = Limits()


@dataclass(frozen=True)
class Answer:
    """A body with what is of use of its headers; `url` is the one that answered."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    links: Mapping[str, str]


class _AgainError(Exception):
    """This attempt failed and another one may not; `wait_s` is what the server asked for."""

    def __init__(self, what: str, wait_s: float | None = None) -> None:
        super().__init__(what)
        self.what, self.wait_s = what, wait_s


class Site:
    """The server of one address, and how it is asked. Opening one asks nothing."""

    def __init__(
        self,
        address: Address,
        *,
        scheme: str,
        auth: str = "bearer",
        limits: Limits = LIMITS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not address.host or scheme not in _PORTS:
            raise InputRejected(f"{address.scheme}: the address names no host; write one after //")
        if address.user is not None:
            raise InputRejected(
                f"{address.scheme}: a user does not stand in an address; give auth=basic and "
                "secret=file:/path, a file that holds user:password"
            )
        self.url = urlunsplit(
            (scheme, address.parts.netloc, address.parts.path or "/", address.parts.query, "")
        )
        self.name = shown(urlsplit(self.url))
        self.limits, self.sleep = limits, sleep
        self._address = address
        self._auth = address.options.get("auth", auth)
        verify_auth(self._auth, given="secret" in address.options or "auth" in address.options)

    @property
    def encrypted(self) -> bool:
        return self.url.startswith("https:")

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Connections kept for the requests of one scan. The secret is read here, once."""
        headers, parameters = self._credentials()
        client, until = client_within(self._trust())
        with client:
            yield Session(self, client, until, headers, parameters)

    def _credentials(self) -> tuple[dict[str, str], dict[str, str]]:
        secret = self._address.secret()
        if secret is None:
            if "auth" in self._address.options:
                raise InputRejected(
                    f"{self.name}: auth= needs secret=env:NAME or secret=file:/path"
                )
            return {}, {}
        kind, _, name = self._auth.partition(":")
        if kind == "query":
            return {}, {name: secret}
        if kind == "basic":
            if ":" not in secret:
                raise InputRejected(f"{self.name}: auth=basic needs a secret user:password")
            secret = base64.b64encode(secret.encode("utf-8")).decode("ascii")
        try:
            secret.encode("ascii")
        except UnicodeEncodeError:
            raise InputRejected(f"{self.name}: the secret is not plain ASCII text") from None
        if any(ord(char) < 32 for char in secret):
            raise InputRejected(f"{self.name}: the secret has more than one line")
        header = {"bearer": "Bearer ", "basic": "Basic "}.get(kind)
        return ({name: secret} if header is None else {"Authorization": header + secret}), {}

    def _trust(self) -> ssl.SSLContext:
        if not self.encrypted:
            # Trusts nobody: nothing but this origin is ever asked. To load the machine's
            # authorities takes longer than many an answer.
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority = self._address.options.get("ca")
        if authority is None:
            return _machines_trust()
        try:
            return ssl.create_default_context(cafile=authority)
        except (OSError, ssl.SSLError):
            raise InputRejected(
                f"{self.name}: ca= names {Path(authority).name}, which is no file of certificates; "
                "give the path of a PEM file"
            ) from None


class Session:
    """Requests to one site. Not for several threads at a time."""

    def __init__(
        self,
        site: Site,
        client: httpx2.Client,
        until: Callable[[float | None], None],
        headers: Mapping[str, str],
        parameters: Mapping[str, str],
    ) -> None:
        self._site, self._client, self._until = site, client, until
        self._headers = {"User-Agent": _AGENT, **headers}
        self._parameters = parameters
        self._left_s = site.limits.total_s

    def page(self, url: str, *, accept: str = "application/json") -> Answer:
        """One body of at most `page_bytes`, held in memory.

        Raises InputRejected where asking differently is needed, Unavailable where asking later is.
        """

        def once() -> Answer:
            with self._answer(url, self._site.limits.page_s, accept, "gzip") as (response, at):
                pieces = decoded(response, self._site.limits.page_bytes, self._site.name)
                body = b"".join(pieces)
                return Answer(at, body, response.headers, _links(response))

        return self._tried(once)

    def download(self, url: str, file: BinaryIO) -> Mapping[str, str]:
        """Write a body of at most `file_bytes` into `file` from its start; give its headers."""

        def once() -> Mapping[str, str]:
            file.seek(0)
            file.truncate()
            with self._answer(url, self._left_s, "*/*", "identity") as (response, _):
                verify_no_web_page(response.headers, self._site.name)
                for piece in decoded(response, self._site.limits.file_bytes, self._site.name):
                    file.write(piece)
                file.flush()
                return response.headers

        return self._tried(once)

    def headers(self, url: str) -> Mapping[str, str]:
        """What a GET of `url` says about the body, without reading that."""

        def once() -> Mapping[str, str]:
            with self._answer(url, self._site.limits.page_s, "*/*", "identity") as (response, _):
                verify_no_web_page(response.headers, self._site.name)
                return response.headers

        return self._tried(once)

    def _tried(self, once: Callable[[], R]) -> R:
        limits, name = self._site.limits, self._site.name
        for attempt in range(1, limits.attempts + 1):
            began = time.monotonic()
            try:
                return once()
            except _AgainError as failed:
                wait = failed.wait_s
                wait = limits.pause_s * 2 ** (attempt - 1) if wait is None else wait
                if attempt == limits.attempts:
                    raise Unavailable(
                        f"{name}: the server {failed.what}, {attempt} times; try again later"
                    ) from failed
                if wait > limits.wait_s:
                    raise Unavailable(
                        f"{name}: the server {failed.what} and asks to wait {wait:.0f} s; try "
                        "again then"
                    ) from failed
                self._site.sleep(wait)
            finally:
                self._left_s -= time.monotonic() - began
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _answer(
        self, url: str, seconds: float, accept: str, encoding: str
    ) -> Iterator[tuple[httpx2.Response, str]]:
        """A successful answer, after redirects within the origin."""
        name = self._site.name
        if self._left_s <= 0:
            raise Unavailable(
                f"{name}: the server took more than {self._site.limits.total_s:.0f} s in all; ask "
                "for fewer rows"
            )
        self._until(time.monotonic() + min(seconds, self._left_s))
        headers = {**self._headers, "Accept": accept, "Accept-Encoding": encoding}
        try:
            for _ in range(self._site.limits.redirects + 1):
                verify_same_origin(url, self._site.url, name)
                asked = with_parameters(url, self._parameters) if self._parameters else url
                with self._client.stream("GET", asked, headers=headers) as response:
                    if response.status_code not in _REDIRECTS:
                        _verify_success(response, name)
                        yield response, url
                        return
                    url = joined(url, response.headers.get("location", ""))
            raise InputRejected(f"{name}: the server redirects in a circle; check the address")
        except httpx2.InvalidURL as err:
            raise InputRejected(f"{name}: the server points at a malformed address") from err
        except httpx2.TimeoutException as err:
            raise _AgainError("did not answer in time") from err
        except httpx2.TransportError as err:
            if "CERTIFICATE_VERIFY_FAILED" in str(err):
                raise InputRejected(
                    f"{name}: the server's certificate is not trusted here; check the host, or "
                    "name the authority that signed it with ca=/path.pem"
                ) from err
            if isinstance(err, httpx2.ConnectError):
                raise _AgainError("cannot be reached") from err
            raise _AgainError("broke the connection off before the answer was whole") from err
        finally:
            self._until(None)


@cache
def _machines_trust() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)


def decoded(response: httpx2.Response, most: int, name: str) -> Iterator[bytes]:
    """The body in pieces, decompressed; a small answer may say that it is a huge one.

    Raises InputRejected beyond `most` bytes or for an encoding that was not asked for.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise InputRejected(f"{name}: the server answers in an encoding nobody asked for")
    size = 0
    pieces = response.iter_raw(_BLOCK_BYTES)
    for piece in _unzipped(pieces) if encoding.endswith("gzip") else pieces:
        size += len(piece)
        if size > most:
            raise InputRejected(
                f"{name}: the answer is longer than {most} bytes; ask for smaller pages or fewer "
                "columns"
            )
        yield piece


def _unzipped(blocks: Iterator[bytes]) -> Iterator[bytes]:
    inflate = zlib.decompressobj(wbits=31)
    try:
        for block in blocks:
            piece = inflate.decompress(block, _BLOCK_BYTES)
            yield piece
            while inflate.unconsumed_tail or len(piece) == _BLOCK_BYTES:
                piece = inflate.decompress(inflate.unconsumed_tail, _BLOCK_BYTES)
                yield piece
    except zlib.error as err:
        raise _AgainError("sent a damaged gzip body") from err
    if not inflate.eof:
        raise _AgainError("sent a gzip body that is cut off")


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of `url`. Raises ValueError where it is malformed."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(scheme, 0)


def verify_same_origin(url: str, own: str, name: str) -> None:
    """Raises InputRejected where `url`, named by the server, leads away from `own`."""
    try:
        theirs = origin(url)
        user = urlsplit(url).username
    except ValueError:
        raise InputRejected(f"{name}: the server points at a malformed address") from None
    if theirs != origin(own) or user is not None:
        raise InputRejected(
            f"{name}: the server points at {theirs[0][:10]}://{theirs[1][:100]}:{theirs[2]}, which "
            "is not where the source is; it is not followed. If you trust it, open that address "
            "as the source, or have the server name itself as you do"
        )


def verify_auth(text: str, *, given: bool) -> None:
    """Raises InputRejected for a way to authenticate that there is not."""
    kind, _, name = text.partition(":")
    plain = name.replace("-", "").replace("_", "")
    named = kind in ("header", "query") and plain.isascii() and plain.isalnum()
    if given and not (named or text in ("bearer", "basic")):
        raise InputRejected(
            "auth= takes bearer, basic, header:NAME or query:NAME (the name of a header or "
            "parameter that carries the secret)"
        )


def verify_no_web_page(headers: Mapping[str, str], name: str) -> None:
    """Raises InputRejected for HTML: a login form is what many servers send instead of data."""
    if headers.get("content-type", "").lower().startswith("text/html"):
        raise InputRejected(
            f"{name}: the server answered with a web page, not with data; check the address, and "
            "whether it needs a secret"
        )


def shown(parts: SplitResult) -> str:
    """Host and path, without query: keys of APIs stand there."""
    return f"{parts.netloc}{parts.path}".rstrip("/")[:300]


def strong_etag(headers: Mapping[str, str]) -> str | None:
    """The ETag where it promises equal bytes."""
    tag = headers.get("etag", "")
    return tag if len(tag) > 2 and tag.startswith('"') and tag.endswith('"') else None


def _links(response: httpx2.Response) -> Mapping[str, str]:
    # RFC 8288. The library keys a link by its relation, or its address where it has none.
    links = response.links.items()
    return {str(relation).lower(): str(link.get("url", "")) for relation, link in links}


def _verify_success(response: httpx2.Response, name: str) -> None:
    status = response.status_code
    if status == 200:
        return
    if status in _AGAIN:
        raise _AgainError(f"answered {status}", _retry_after(response.headers))
    if status in _FORBIDDEN:
        raise InputRejected(
            f"{name}: the server refuses access ({status}); give secret= and auth=, or check them"
        )
    if status in _MISSING:
        raise InputRejected(f"{name}: the server has nothing there ({status}); check the address")
    if 400 <= status < 500 or status == 501:
        raise InputRejected(
            f"{name}: the server does not accept the request ({status}); check its path, "
            "parameters and page size"
        )
    raise Unavailable(f"{name}: the server answered {status}, where 200 was expected")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """RFC 9110: seconds, or a date, which is held against the server's own clock."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, IndexError):
        return None
    return max(0.0, wait.total_seconds())
