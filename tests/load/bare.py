"""What this machine does bare, in the same run: the floor and ceiling that figures are held to.

A small FastAPI application under uvicorn with one route, a file of SQLite with the pragmas of a
node, and chunks over the loopback: as little as can be between a client and the same work.
"""

from __future__ import annotations

import multiprocessing
import secrets
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from starlette.requests import Request

from dataspace.home import free_port

CLIENTS = 4
REQUESTS_S = 3.0
TRANSACTIONS_S = 2.0
CHUNK = 8 * 1024 * 1024
CHUNKS = 24
START_S = 20.0


@dataclass(frozen=True)
class Bare:
    """Each a second: small requests, transactions (get, update, insert), megabytes of chunks."""

    requests: float
    transactions: float
    megabytes: float


def measure(directory: Path) -> Bare:
    """Measure all three, one after the other."""
    with _server() as url:
        requests = _requests(f"{url}/health", {})
        megabytes = _megabytes(f"{url}/chunk")
    return Bare(requests, _transactions(directory), megabytes)


def of_a_node(url: str, path: str, key: str) -> float:
    """Small requests a second that a node answers to its owner, measured in the same way."""
    return _requests(f"{url}{path}", {"authorization": f"Bearer {key}"})


def _requests(url: str, headers: dict[str, str]) -> float:
    until = time.monotonic() + REQUESTS_S

    def client(_: int) -> int:
        answered = 0
        with httpx2.Client(trust_env=False, headers=headers) as http:
            while time.monotonic() < until:
                http.get(url).raise_for_status()
                answered += 1
        return answered

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(client, range(CLIENTS))) / REQUESTS_S


def _megabytes(url: str) -> float:
    body = secrets.token_bytes(CHUNK)
    with httpx2.Client(trust_env=False) as http:
        begun = time.monotonic()
        for _ in range(CHUNKS):
            http.put(url, content=body).raise_for_status()
        return CHUNKS * CHUNK / 1e6 / (time.monotonic() - begun)


def _transactions(directory: Path) -> float:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "bare.sqlite"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("CREATE TABLE process (id INTEGER PRIMARY KEY, n INTEGER, body TEXT)")
        connection.execute("INSERT INTO process VALUES (0, 0, '')")
        done, until = 0, time.monotonic() + TRANSACTIONS_S
        while time.monotonic() < until:
            done += 1
            connection.execute("BEGIN IMMEDIATE")
            (count,) = connection.execute("SELECT n FROM process WHERE id = 0").fetchone()
            connection.execute("UPDATE process SET n = ? WHERE id = 0", (count + 1,))
            connection.execute("INSERT INTO process (n, body) VALUES (?, ?)", (done, "x" * 400))
            connection.execute("COMMIT")
    return done / TRANSACTIONS_S


@contextmanager
def _server() -> Iterator[str]:
    port = free_port()
    # Spawned: a fork would have the threads of the clients.
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(port,), daemon=True)
    process.start()
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/health")
        yield url
    finally:
        process.kill()
        process.join()


def _wait_for(url: str) -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            httpx2.get(url, trust_env=False)
            return
        except httpx2.HTTPError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _serve(port: int) -> None:
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI(openapi_url=None)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.put("/chunk", status_code=204)
    async def chunk(request: Request) -> None:
        async for _ in request.stream():
            pass

    bare: Any = app
    uvicorn.run(bare, host="127.0.0.1", port=port, log_config=None)
