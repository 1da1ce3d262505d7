"""What the bounds on requests cost, against the same application without them.

    python tests/benchmarks/bench_hardening.py [--json] [--small]

The peer is the application under uvicorn as it comes, with a router's and a body limit's work and
none of ours. What is told is the server's own processor time, which other load on the machine
disturbs least, and each figure is the least of several rounds taken in turn.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from starlette.requests import Request

CHUNK = 8 * 1024 * 1024
HEAD = (
    b"%s %s HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer " + b"t" * 1500 + b"\r\n"
    b"user-agent: bench\r\naccept: */*\r\naccept-encoding: gzip\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
)


def serve(bounded: bool, channel: Connection) -> None:
    """The application, hardened or not, until the channel closes; told its processor time."""
    import threading

    import uvicorn
    from fastapi import FastAPI
    from starlette.types import ASGIApp

    from dataspace.identity.keys import SigningAlgorithm, SigningKey, VerificationKey
    from dataspace.identity.tokens import Identity, issue_token, open_token
    from dataspace.settings import Settings
    from dataspace.web import problems
    from dataspace.web.connections import bounded_protocol
    from dataspace.web.headers import SecurityHeaders
    from dataspace.web.limits import Limits, OwnHosts

    settings = Settings(
        name="n", kind="consumer", url="https://localhost", local=False, rate_per_address=1e9
    )
    app = FastAPI(max_body_size=9 * 1024 * 1024)

    identity = Identity.of("did:web:peer", SigningKey.generate(SigningAlgorithm.ED25519))
    token = issue_token(identity, audience="did:web:us", now=0, membership=None)

    @app.post("/dsp/verified")
    def verified() -> dict[str, str]:
        """What every request of a member costs at least: its token's signature, in a thread."""
        return {"did": open_token(token, audience="did:web:us", now=0, key_of=key_of).did}

    def key_of(_: str) -> VerificationKey:
        return identity.key

    @app.api_route("/api/things", methods=["GET", "POST"])
    @app.put("/compute/o/consumer/0/0")
    async def take(request: Request) -> dict[str, int]:
        return {"length": len(await request.body())}

    served: ASGIApp = app
    more: dict[str, Any] = {}
    if bounded:
        app.add_middleware(Limits, settings=settings, refuse=problems.refusal)
        inner = SecurityHeaders(app, secure=True)
        served = OwnHosts(inner, settings=settings, refuse=problems.refusal)
        more = {"http": bounded_protocol(settings), "limit_concurrency": 1000}
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        served,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_keep_alive=600,
        **more,
    )
    server = uvicorn.Server(config)
    channel.send(listening.getsockname()[1])

    def answer() -> None:
        try:
            while channel.recv():
                used = resource.getrusage(resource.RUSAGE_SELF)
                channel.send(used.ru_utime + used.ru_stime)
        except EOFError:
            pass
        os._exit(0)

    threading.Thread(target=answer, daemon=True).start()
    server.run(sockets=[listening])


@dataclass
class Served:
    """One server with a connection to it."""

    channel: Connection
    raw: socket.socket

    def seconds(self) -> float:
        """Processor time the server has used so far."""
        self.channel.send(True)
        return float(self.channel.recv())

    def ask(self, request: bytes, times: int) -> float:
        """Processor seconds the server needs for one such request, of so many."""
        before = self.seconds()
        for _ in range(times):
            self.raw.sendall(request)
            answer = self.raw.recv(65536)
            while not answer.endswith(b"}"):
                answer += self.raw.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200"):
                sys.exit(f"bench: {answer[:100]!r}")
        return (self.seconds() - before) / times


@contextmanager
def serving(bounded: bool) -> Iterator[Served]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(bounded, theirs), daemon=True)
    process.start()
    theirs.close()
    port = ours.recv()
    with socket.create_connection(("127.0.0.1", port)) as raw:
        yield Served(ours, raw)
    ours.close()
    process.join(10)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    rounds, times = (3, 200) if asked.small else (9, 1500)
    works = {
        "a member's, no more than its token": (
            HEAD % (b"POST", b"/dsp/verified", 2) + b"{}",
            times,
        ),
        "an empty route": (HEAD % (b"POST", b"/api/things", 2) + b"{}", times),
        "8 MiB chunk": (
            HEAD % (b"PUT", b"/compute/o/consumer/0/0", CHUNK) + bytes(CHUNK),
            times // 50,
        ),
    }
    found = []
    with serving(False) as bare, serving(True) as bounded:
        for name, (request, count) in works.items():
            least = {"bare": float("inf"), "bounded": float("inf")}
            for server in (bare, bounded):
                server.ask(request, max(5, count // 5))
            for _ in range(rounds):
                for server, label in ((bare, "bare"), (bounded, "bounded")):
                    least[label] = min(least[label], server.ask(request, count))
            found.append(
                {
                    "what": name,
                    "bare_us": round(least["bare"] * 1e6, 1),
                    "bounded_us": round(least["bounded"] * 1e6, 1),
                    "ratio": round(least["bounded"] / least["bare"], 3),
                }
            )
    if asked.json:
        print(json.dumps(found, indent=2))
        return
    for one in found:
        print(
            f"{one['what']:36} {one['bare_us']:>9} µs bare, {one['bounded_us']:>9} µs bounded: "
            f"{one['ratio']:.3f}"
        )


if __name__ == "__main__":
    main()
