"""Reading other nodes' catalogues: all of their pages, and the catalogues inside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import quote, urljoin

from pydantic import JsonValue

from contracts import messages as dsp
from dataspace.answer import Answer
from dataspace.errors import InputRejected, NotFound, ProtocolViolation
from dataspace.identity.did import did_of_url
from dataspace.outbound import within
from dataspace.peers import Peers
from dataspace.protocol import BASE

# What is taken in of one catalogue. A page holds what its sender likes, so pages are counted too,
# and what they weigh together.
MAX_PAGES: Final = 500
MAX_BYTES: Final = 64 * 1024 * 1024
# Somebody waits for it.
FETCH_S: Final = 120.0
# A space's catalogue of catalogues needs two levels, a broker of brokers three.
MAX_NESTING: Final = 8

# RFC 8288: an address in angle brackets, then parameters up to a comma that is not quoted.
_LINK: Final = re.compile(r'<([^<>]*)>((?:[^,"]|"[^"]*")*)')
_REL: Final = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))', re.IGNORECASE)


def fetch_dataset(peers: Peers, provider: str, dataset: str) -> dsp.Dataset:
    """The dataset as the catalogue of `provider` (a DID) shows it now."""
    url = f"{peers.url_of(provider)}{BASE}/catalog/datasets/{quote(dataset, safe='')}"
    answer = peers.send("GET", url, to=provider)
    if answer.status == 404:
        raise NotFound(
            f"{provider} offers no dataset {dataset[:80]!r}",
            remedy="look at its catalogue: dataspace catalog URL",
        )
    if answer.status >= 300:
        raise _refused(provider, answer)
    return dsp.parse(dsp.Dataset, answer.body)


def fetch_catalog(peers: Peers, url: str, wanted: Sequence[JsonValue] = ()) -> dsp.Catalog:
    """The catalogue of the node at `url`, all its pages as one.

    `wanted` is a filter in that node's own language; for ours see `contracts.filters`. Raises
    InputRejected for a filter it does not take, ProtocolViolation for a catalogue without an end or
    a page on another node.
    """
    base = url.rstrip("/")
    did = did_of_url(base)
    request = dsp.CatalogRequestMessage(filter=tuple(wanted)).to_bytes()
    with within(FETCH_S):
        return _merged(list(_pages(peers, base, did, request, filtered=bool(wanted))))


def _pages(
    peers: Peers, base: str, did: str, request: bytes, *, filtered: bool
) -> Iterator[dsp.Catalog]:
    seen: set[str] = set()
    size_bytes = 0
    at: str | None = f"{base}{BASE}/catalog/request"
    while at is not None:
        # The address of a page is asked like the first one, as the protocol has it: by POST.
        answer = peers.send("POST", at, to=did, body=request)
        _verify_answered(answer, did, filtered=filtered)
        seen.add(at)
        size_bytes += len(answer.body)
        yield dsp.parse(dsp.Catalog, answer.body)
        at = _next_page(answer, at, base)
        if at in seen or (at is not None and len(seen) == MAX_PAGES) or size_bytes > MAX_BYTES:
            raise ProtocolViolation(
                f"the catalogue of {did} does not end within {MAX_PAGES} pages and "
                f"{MAX_BYTES // 1024**2} MiB",
                remedy="ask for less of it, with a filter",
            )


def datasets_of(catalog: dsp.Catalog) -> tuple[dsp.Dataset, ...]:
    """Every dataset of a catalogue and of those inside it, each identifier once.

    Raises ProtocolViolation for catalogues nested deeper than eight, or too many datasets.
    """
    found: dict[str, dsp.Dataset] = {}
    level, depth = [catalog], 0
    while level:
        if depth > MAX_NESTING:
            raise ProtocolViolation(f"catalog: expected at most {MAX_NESTING} inside one another")
        for one in level:
            for dataset in one.dataset:
                found.setdefault(dataset.id, dataset)
        if len(found) > dsp.MAX_DATASETS:
            raise ProtocolViolation(f"catalog: expected at most {dsp.MAX_DATASETS} datasets")
        level, depth = [inner for one in level for inner in one.catalog], depth + 1
    return tuple(found.values())


def _verify_answered(answer: Answer, did: str, *, filtered: bool) -> None:
    if answer.status < 300:
        return
    if answer.status == 400 and filtered:
        raise InputRejected(
            f"{did} does not take this filter: {answer.reason()}",
            remedy="write it in that node's language, or look through the whole catalogue",
        )
    raise _refused(did, answer)


def _refused(did: str, answer: Answer) -> ProtocolViolation:
    return ProtocolViolation(
        f"{did} refused its catalogue: {answer.reason()}",
        remedy="ask its owner; where the reason is your membership, the space's operator",
    )


def _next_page(answer: Answer, asked: str, base: str) -> str | None:
    """Where the page after this one is; None where this is the last. Raises ProtocolViolation."""
    for target, relations in _links(answer.headers.get("link", "")):
        if "next" in relations:
            # Relative to the page itself (RFC 8288 §3.1).
            found = urljoin(asked, target)
            if not found.startswith(f"{base}/"):
                # Anything else would let a peer make us call whatever it names.
                raise ProtocolViolation("Link: the next page is not on the same node")
            return found
    return None


def _links(header: str) -> Iterator[tuple[str, list[str]]]:
    """The targets of a Link header, each with its relation types."""
    for link in _LINK.finditer(header):
        rel = _REL.search(link[2])
        if rel is not None:
            yield link[1], (rel[1] or rel[2] or "").lower().split()


def _merged(pages: Sequence[dsp.Catalog]) -> dsp.Catalog:
    """One catalogue of all pages; what is said on several is taken from the first."""
    first = pages[0]
    datasets = {dataset.id: dataset for page in reversed(pages) for dataset in page.dataset}
    order = dict.fromkeys(dataset.id for page in pages for dataset in page.dataset)
    inner = {one.id: one for page in pages for one in page.catalog}
    if len(order) > dsp.MAX_DATASETS:
        raise ProtocolViolation(
            f"the catalogue has more than {dsp.MAX_DATASETS} datasets",
            remedy="ask for less of it, with a filter",
        )
    return first.model_copy(
        update={
            "dataset": tuple(datasets[name] for name in order),
            "catalog": tuple(inner.values()),
        }
    )
