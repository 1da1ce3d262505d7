"""Targets of the protocol: every message, catalogues of peers, chunks of frames, backups."""

from __future__ import annotations

import io
import json
import random
import time

from contracts import messages as dsp
from dataspace.answer import Answer
from dataspace.computing.inbox import Budget, Chunk, Inbox, content_digest
from dataspace.errors import SHOWN, ProtocolViolation
from dataspace.protocol.catalogues import _links, datasets_of
from dataspace.sealed_stream import OpeningReader, SealingWriter
from privacy.role import Receive
from tests.fuzz.altering import octets, tree
from tests.fuzz.target import Prepared, Target
from tests.nodes.protocol_node import PEER, negotiation_messages, transfer_messages
from tests.unit.contracts.test_contracts_filters import dataset


def _messages() -> Prepared:
    found = [
        message
        for role in ("PROVIDER", "CONSUMER")
        for message in (
            *negotiation_messages(role, PEER).values(),
            *transfer_messages(role).values(),
        )
    ]
    models = list({type(message) for message in found})

    def read(given: bytes) -> None:
        refused = 0
        for model in models:
            try:
                read_again = dsp.parse(model, given).to_bytes()
                assert dsp.parse(model, read_again).to_bytes() == read_again
            except SHOWN:
                refused += 1
        if refused == len(models):
            raise ProtocolViolation("none of the messages")

    return Prepared(read=read, examples=[one.to_bytes() for one in found], alter=tree)


def _catalogues() -> Prepared:
    inner = dsp.Catalog(id="urn:inner", participant_id=PEER, dataset=(dataset(id="inner"),))
    catalog = dsp.Catalog(
        id="urn:catalog", participant_id=PEER, dataset=(dataset(),), catalog=(inner,)
    )
    return Prepared(
        read=lambda given: datasets_of(dsp.parse(dsp.Catalog, given)),
        examples=[catalog.to_bytes()],
        alter=tree,
    )


def _link_headers() -> Prepared:
    return Prepared(
        read=lambda given: list(_links(given.decode("latin-1"))),
        examples=[
            b'<https://a.example/x?y=1>; rel="next", </b>; rel=previous',
            b'<a>; rel="next prefetch"; title="a, b"',
        ],
        alter=octets,
        special=[b"<a>" + b'; rel="' * 20_000, b"<" * 60_000, b'<a>;"' * 20_000],
    )


def _problems() -> Prepared:
    """What a peer answers with an error is told in one line of bounded length."""

    def read(given: bytes) -> None:
        reason = Answer(400, {"content-type": "application/problem+json"}, given).reason()
        assert isinstance(reason, str)
        assert len(reason) < 4096, f"{len(reason)} letters"

    example = {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": "no"}
    other = {"@type": "CatalogError", "code": "400", "reason": ["because"]}
    return Prepared(
        read=read, examples=[json.dumps(one).encode() for one in (example, other)], alter=tree
    )


def _chunks() -> Prepared:
    """A sequence of chunks in any order, repeated, contradictory: taken or refused, never stuck."""

    def alter(rng: random.Random, example: bytes) -> bytes:
        body = rng.randbytes(rng.randint(0, 64))
        chunks = []
        for _ in range(rng.randint(1, 6)):
            right = rng.random() < 0.7
            chunks.append(
                {
                    "sender": rng.choice(("a", "b", "")),
                    "sequence": rng.choice((0, 1, 2, -1, 2**40)),
                    "number": rng.choice((0, 1, 2, -1, 2**31)),
                    "of": rng.choice((1, 2, 3, 0, -1, 2**31)),
                    "name": rng.choice(("frame", "psi/request", "", "x" * 65, "a\n", "../a")),
                    "digest": content_digest(body) if right else "sha-256=:AA==:",
                    "body": body.hex(),
                    "attempt": rng.choice((1, 1, 1, 2, 0, -5)),
                }
            )
        return json.dumps(chunks).encode()

    def read(given: bytes) -> None:
        inbox = Inbox(Budget(1024 * 1024))
        refused = 0
        chunks = json.loads(given)
        for one in chunks:
            try:
                inbox.put(Chunk(**{**one, "body": bytes.fromhex(one["body"])}))
            except SHOWN:
                refused += 1
        try:
            inbox.get(Receive("a", "frame", 4096), time.monotonic())
        except SHOWN:
            refused += 1
        if refused:
            raise ProtocolViolation("some chunks were refused")

    body = b"content"
    example = [
        {
            "sender": "a",
            "sequence": 0,
            "number": 0,
            "of": 1,
            "name": "frame",
            "digest": content_digest(body),
            "body": body.hex(),
        }
    ]
    return Prepared(read=read, examples=[json.dumps(example).encode()], alter=alter)


def _sealed_streams() -> Prepared:
    key, context = bytes(32), b"fuzz"
    sealed = io.BytesIO()
    writer = SealingWriter(sealed, key, context)
    content = bytes(range(256)) * 1024
    writer.write(content)
    writer.close()
    example = sealed.getvalue()

    def read(given: bytes) -> None:
        reader = OpeningReader(io.BytesIO(given), key, context, told="the file")
        opened = bytearray()
        while piece := reader.read(65_536):
            opened += piece
        assert bytes(opened) == content, "what was altered was opened"

    return Prepared(read=read, examples=[example], alter=octets)


TARGETS = (
    Target("messages", "every message of the Dataspace Protocol", _messages),
    Target("catalogues", "a peer's catalogue", _catalogues),
    Target("link-headers", "the links of a page", _link_headers),
    Target("problems", "a peer's answer that something is wrong", _problems),
    Target("chunks", "chunks of frames in any order", _chunks),
    Target("sealed-streams", "a sealed file", _sealed_streams),
)
