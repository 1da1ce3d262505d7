"""The work itself, each sort a function: asked through the SDK, and the answer compared with what
is true. An answer that is another raises `Unexpected`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2

from dataspace.client import ApiError, Client
from ledger.checkpoint import NoteVerifier, verify_checkpoint
from ledger.entry import SealedEntry, open_entry
from ledger.merkle import leaf_hash
from ledger.proof import parse_proof, verify_proof
from ledger.tiles import TILE_WIDTH, Tile, parse_entry_bundle, parse_tile
from tests.faults import city
from tests.faults.load import result_matches
from tests.load.plan import TRUST, Asked, Work
from tests.load.space import LoadedSpace

DONE_S = 120.0
# How often a client lets itself be told by one operation that a node has no time now.
MAX_PUT_OFF = 20


class Unexpected(Exception):
    """An answer that is not the one that is true."""


class Worker:
    """One client: its own connections to the nodes, used by one thread."""

    def __init__(self, space: LoadedSpace) -> None:
        self.space = space
        self._clients: dict[str, Client] = {}
        self._truth = space.data.truth()
        self._http = httpx2.Client(trust_env=False, timeout=60.0)
        # How often a node said that it has no time now, and was asked again.
        self.put_off = 0

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._http.close()

    @property
    def waits(self) -> int:
        """How often a node asked to wait, be it by 429 (the SDK waits) or by 503."""
        return self.put_off + sum(one.waits for one in self._clients.values())

    def node(self, name: str) -> Client:
        found = self._clients.get(name)
        if found is None:
            home = self.space[name].home
            found = self._clients[name] = Client(home.url, home.api_key())
        return found

    def do(self, asked: Asked) -> None:
        """Do one piece of work. Raises Unexpected, and what the SDK raises."""
        for _ in range(MAX_PUT_OFF):
            try:
                STEPS[asked.work](self, asked)
                return
            except ApiError as err:
                if err.status != 503 or err.after_s is None:
                    raise
                self.put_off += 1
                time.sleep(err.after_s)
        raise Unexpected(f"{asked.work} was put off {MAX_PUT_OFF} times")

    # ---- contracts and catalogues -----------------------------------------------------------

    def negotiate(self, asked: Asked) -> None:
        provider = self.space[asked.provider].url
        _expect(bool(self.node(asked.consumer).negotiate(provider, "open")), "no agreement")

    def catalogue(self, asked: Asked) -> None:
        found = self.node(asked.consumer).catalog(self.space[asked.provider].url)
        listed = {one["@id"] for one in found.get("dataset", [])}
        _expect({"people", "open", "rows"} <= listed, f"a catalogue of {len(listed)} datasets")
        # Its policy is for the government, and that is no consumer.
        _expect("closed" not in listed, "a catalogue shows what is not for us")

    def search(self, asked: Asked) -> None:
        number = asked.number % 10
        words = {"leftOperand": "ds:text", "operator": "hasPart", "rightOperand": f"table-{number}"}
        found = self.node(asked.consumer).search([words])
        _expect(found["total"] >= 1 and found["complete"], f"{found['total']} datasets found")

    # ---- looking ----------------------------------------------------------------------------

    def status(self, asked: Asked) -> None:
        name = (asked.consumer, asked.provider)[asked.number % 2]
        found = self.node(name).status()
        _expect(found["joined"] and found["did"] == self.space[name].did, "another's status")

    def lists(self, asked: Asked) -> None:
        client = self.node(asked.consumer)
        _expect(len(client.agreements()) > 0, "no agreements")
        client.negotiations()
        client.computations()

    # ---- rows -------------------------------------------------------------------------------

    def pull(self, asked: Asked) -> None:
        client = self.node(asked.consumer)
        body = {
            "agreement": self.space.agreements[asked.consumer, asked.provider, "rows"],
            "format": city.PULL,
            "purpose": city.PURPOSE,
        }
        begun = client.call("POST", "/api/transfers", body)
        found = client.poll(
            f"/api/transfers/{begun['id']}",
            lambda one: one["state"] in ("COMPLETED", "TERMINATED"),
            DONE_S,
        )
        _expect(found["state"] == "COMPLETED", f"{found['state']}: {found.get('reason')}")
        rows = Path(found["moved"]["file"])
        _expect(
            sha256(rows.read_bytes()).hexdigest() == self._truth.rows_sha256,
            "rows that are not those published",
        )

    # ---- computations -----------------------------------------------------------------------

    def compute(self, asked: Asked, kind: Work, providers: tuple[str, ...], **more: Any) -> Any:
        agreements = [
            self.space.agreements[asked.consumer, provider, "people"] for provider in providers
        ]
        return (
            self.node(asked.consumer)
            .compute(kind.value, agreements, purpose=city.PURPOSE, timeout_s=DONE_S, **more)
            .value
        )

    def intersection(self, asked: Asked) -> None:
        value = self.compute(asked, Work.INTERSECTION, (asked.provider,), **self.own_set())
        found = self._truth.intersection[asked.provider]
        expected = {"count": len(found), "identifiers": found}
        _expect(result_matches(asked.work, value, expected), "an intersection that is not true")

    def own_set(self) -> dict[str, Any]:
        own = (self.space.data.file("own"), "person")
        return {"own": own, "parameters": {"bucketElements": 1024}}

    def totals(self, asked: Asked) -> None:
        pair = (asked.provider, city.other(asked.provider))
        value = self.compute(asked, Work.TOTALS, pair)
        _expect(result_matches(asked.work, value, self._truth.totals[pair]), "false totals")

    def sum(self, asked: Asked) -> None:
        pair = (asked.provider, city.other(asked.provider))
        value = self.compute(asked, Work.SUM, pair)
        _expect(result_matches(asked.work, value, self._truth.sums[pair]), "a false sum")

    # ---- people -----------------------------------------------------------------------------

    def consent(self, asked: Asked) -> None:
        """Somebody who is in no table consents, and takes it back."""
        client = self.node(TRUST)
        given = {
            "subject": f"{city.PERSON}-new-{asked.number}",
            "columns": ["person"],
            "purposes": [city.PURPOSE],
            "recipients": [self.space[asked.consumer].did],
            "expires_at": "2036-01-01T00:00:00+00:00",
        }
        receipt = client.call("POST", "/api/datasets/open/consents", given)["receipt"]
        client.call("POST", f"/api/datasets/open/consents/{receipt}/withdrawal")

    # ---- evidence ---------------------------------------------------------------------------

    def evidence(self, asked: Asked) -> None:
        client = self.node((asked.consumer, asked.provider)[asked.number % 2])
        size = client.status()["log"]["size"]
        start = (asked.number * 7919) % max(1, size - 20)
        shown = client.call("GET", f"/api/log?start={start}&end={min(size, start + 20)}")
        for one in shown:
            sealed = SealedEntry.parse(one)
            open_entry(sealed.body, sealed.salt, sealed.commitment)
        _expect(len(shown) == min(size, start + 20) - start, f"{len(shown)} entries")

    def proof(self, asked: Asked) -> None:
        name = (asked.consumer, asked.provider)[asked.number % 2]
        client = self.node(name)
        anchored = client.status()["log"]["anchored"]
        index = (asked.number * 7919) % max(1, anchored)
        told = client.call("GET", f"/api/log/{index}")
        sealed, anchor = SealedEntry.parse(told["entry"]), told["anchor"]
        proof = parse_proof(told["proof"])
        verifier = NoteVerifier.parse(anchor["vkey"])
        verify_proof(proof, sealed.commitment, verifier, anchor["origin"])
        _expect(proof.index == index, "the proof of another entry")

    def tiles(self, asked: Asked) -> None:
        """What an auditor reads, who is nobody to the node: checkpoint, entries, hashes."""
        node = self.space[asked.provider]
        vkey = self._vkey(asked.provider)
        note = self._read(f"{node.url}/tlog/checkpoint").text
        head = verify_checkpoint(note, NoteVerifier.parse(vkey), vkey.split("+")[0])
        index = (asked.number * 7919) % -(-head.size // TILE_WIDTH)
        width = min(TILE_WIDTH, head.size - index * TILE_WIDTH)
        entries, hashes = Tile(None, index, width), Tile(0, index, width)
        bundle = parse_entry_bundle(self._read(f"{node.url}/tlog/{entries.path}").content)
        tile = parse_tile(self._read(f"{node.url}/tlog/{hashes.path}").content, hashes)
        _expect([leaf_hash(one) for one in bundle] == tile, "entries that are not those hashed")

    def _vkey(self, name: str) -> str:
        with _lock:
            if name not in _vkeys:
                _vkeys[name] = self.space[name].client.status()["log"]["vkey"]
            return _vkeys[name]

    def _read(self, url: str) -> httpx2.Response:
        answer = self._http.get(url)
        _expect(answer.status_code == 200, f"{answer.status_code} for a part of the log")
        return answer


# Of the nodes' logs, by name, which no operation changes.
_vkeys: dict[str, str] = {}
_lock = threading.Lock()

STEPS: Mapping[Work, Callable[[Worker, Asked], None]] = {
    Work.NEGOTIATION: Worker.negotiate,
    Work.CATALOGUE: Worker.catalogue,
    Work.SEARCH: Worker.search,
    Work.STATUS: Worker.status,
    Work.LISTS: Worker.lists,
    Work.PULL: Worker.pull,
    Work.INTERSECTION: Worker.intersection,
    Work.TOTALS: Worker.totals,
    Work.SUM: Worker.sum,
    Work.CONSENT: Worker.consent,
    Work.EVIDENCE: Worker.evidence,
    Work.PROOF: Worker.proof,
    Work.TILES: Worker.tiles,
}


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Unexpected(otherwise)
