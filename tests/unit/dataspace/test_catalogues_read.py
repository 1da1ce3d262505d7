"""How a node reads others' catalogues: every page, and the catalogues inside them."""

from typing import Any, cast

import pytest

from contracts import messages as dsp
from contracts.wire import read_model
from dataspace.answer import Answer
from dataspace.errors import InputRejected, ProtocolViolation
from dataspace.peers import Peers
from dataspace.protocol.catalogues import MAX_NESTING, datasets_of, fetch_catalog

THEIRS = "http://127.0.0.1:9000"
FIRST = f"{THEIRS}/dsp/2025-1/catalog/request"


def listed(*names: str, catalogs: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    body: dict[str, Any] = {
        "@context": [dsp.DSP_CONTEXT],
        "@id": "urn:catalog",
        "@type": "Catalog",
        "participantId": "did:web:127.0.0.1%3A9000",
        "service": [{"@id": "urn:s", "@type": "DataService", "endpointURL": f"{THEIRS}/dsp"}],
    }
    if names:
        body["dataset"] = [
            {
                "@id": name,
                "@type": "Dataset",
                "hasPolicy": [
                    {"@id": f"offer:{name}", "@type": "Offer", "permission": [{"action": "use"}]}
                ],
                "distribution": [
                    {"@type": "Distribution", "format": "HttpData-PULL", "accessService": "urn:s"}
                ],
            }
            for name in names
        ]
    if catalogs:
        body["catalog"] = list(catalogs)
    return body


class Pages:
    """A peer that answers by address: its body, and a Link header."""

    def __init__(self, pages: dict[str, tuple[dict[str, Any], str]], status: int = 200) -> None:
        self._pages, self._status = pages, status
        self.asked: list[tuple[str, str, bytes]] = []

    def send(self, method: str, url: str, *, to: str, body: bytes) -> Answer:
        assert to == "did:web:127.0.0.1%3A9000"
        self.asked.append((method, url, body))
        page, link = self._pages[url]
        return Answer(self._status, {"link": link}, dsp.write_json(page))


def fetch(pages: Pages, *wanted: Any) -> dsp.Catalog:
    return fetch_catalog(cast(Peers, pages), THEIRS, wanted)


def test_all_pages_of_a_catalogue_are_read_as_one() -> None:
    pages = Pages(
        {
            FIRST: (listed("a", "b"), f'<{FIRST}?continuationToken=1,2>; rel="next"'),
            f"{FIRST}?continuationToken=1,2": (
                listed("b", "c", catalogs=(listed("x"),)),
                f'<{FIRST}>; rel="previous", <?page=3>; title="a, b"; REL=next',
            ),
            f"{FIRST}?page=3": (listed("d"), '<https://elsewhere.example/>; rel="previous help"'),
        }
    )
    merged = fetch(pages, {"any": "language"})
    assert [one.id for one in merged.dataset] == ["a", "b", "c", "d"]
    assert [one.id for one in datasets_of(merged)] == ["a", "b", "c", "d", "x"]
    # Every page is asked for with the same message.
    assert {(method, body) for method, _, body in pages.asked} == {
        (
            "POST",
            dsp.CatalogRequestMessage(filter=({"any": "language"},)).to_bytes(),
        )
    }


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:9001/dsp/2025-1/catalog/request?page=2",
        "http://127.0.0.1:9000@evil.example/",
        "http://127.0.0.1:90000/",
        "//evil.example/x",
        "file:///etc/passwd",
    ],
)
def test_a_next_page_on_another_node_is_not_followed(target: str) -> None:
    pages = Pages({FIRST: (listed("a"), f'<{target}>; rel="next"')})
    with pytest.raises(ProtocolViolation, match="not on the same node"):
        fetch(pages)
    assert len(pages.asked) == 1


def test_a_catalogue_that_leads_in_a_circle_or_on_and_on_is_a_violation() -> None:
    circle = Pages({FIRST: (listed("a"), f'<{FIRST}>; rel="next"')})
    with pytest.raises(ProtocolViolation, match="does not end"):
        fetch(circle)
    endless = {
        f"{FIRST}{f'?{page}' if page else ''}": (listed(f"d{page}"), f"<?{page + 1}>; rel=next")
        for page in range(600)
    }
    pages = Pages(endless)
    with pytest.raises(ProtocolViolation, match="within 500 pages"):
        fetch(pages)
    assert len(pages.asked) == 500


def test_a_filter_the_peer_does_not_take_is_the_callers_mistake() -> None:
    error = {"@type": "CatalogError", "reason": ["filter: unknown"]}
    with pytest.raises(InputRejected, match="does not take this filter: filter: unknown"):
        fetch(Pages({FIRST: (error, "")}, status=400), {"a": "b"})
    with pytest.raises(ProtocolViolation, match="refused its catalogue"):
        fetch(Pages({FIRST: (error, "")}, status=400))


def nested(depth: int) -> dsp.Catalog:
    body = listed(f"d{depth}")
    for level in range(depth - 1, -1, -1):
        body = listed(f"d{level}", catalogs=(body,))
    return read_model(dsp.Catalog, body)


def test_datasets_of_catalogues_inside_catalogues_are_found_to_a_bounded_depth() -> None:
    found = datasets_of(nested(MAX_NESTING))
    assert [one.id for one in found] == [f"d{level}" for level in range(MAX_NESTING + 1)]
    with pytest.raises(ProtocolViolation, match="at most 8 inside one another"):
        datasets_of(nested(MAX_NESTING + 1))


def test_a_catalogue_of_catalogues_without_datasets_has_none() -> None:
    inner = {
        "@id": "urn:inner",
        "@type": "Catalog",
        "distribution": [{"@type": "Distribution", "format": "Catalog", "accessService": "urn:s"}],
        "service": [{"@id": "urn:s", "@type": "DataService", "endpointURL": f"{THEIRS}/sub"}],
    }
    outer = read_model(dsp.Catalog, listed(catalogs=(inner,)))
    assert datasets_of(outer) == ()
    assert outer.catalog[0].service[0].endpoint_url == f"{THEIRS}/sub"
