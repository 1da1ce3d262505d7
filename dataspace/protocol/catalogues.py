"""Reading other nodes' catalogues."""

from __future__ import annotations

from urllib.parse import quote

from contracts import messages as dsp
from dataspace.errors import NotFound, ProtocolViolation
from dataspace.identity.did import did_of_url
from dataspace.peers import Peers
from dataspace.protocol import BASE


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
        raise ProtocolViolation(f"{provider} refused its catalogue: {answer.reason()}")
    return dsp.parse(dsp.Dataset, answer.body)


def fetch_catalog(peers: Peers, url: str) -> dsp.Catalog:
    """The catalogue of the node at `url`."""
    url = url.rstrip("/")
    did = did_of_url(url)
    answer = peers.send(
        "POST",
        f"{url}{BASE}/catalog/request",
        to=did,
        body=dsp.CatalogRequestMessage().to_bytes(),
    )
    if answer.status >= 300:
        raise ProtocolViolation(f"{did} refused its catalogue: {answer.reason()}")
    return dsp.parse(dsp.Catalog, answer.body)
