"""A node of several processes on one PostgreSQL, behind a balancer that gives each its turn."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2

from dataspace.client import Client
from dataspace.demo.nursery import NodeProcess
from dataspace.home import Home, create_home, free_port
from dataspace.settings import ParticipantKind

START_S, STOP_S = 60.0, 20.0
# What concerns one connection only; the body is passed on unpacked.
OF_ONE_HOP = ("content-length", "content-encoding", "transfer-encoding", "connection")


class Balancer:
    """Passes each request on to the next process that can be reached."""

    def __init__(self, port: int, backends: list[int]) -> None:
        turns, client = itertools.count(), httpx2.Client(trust_env=False, timeout=60.0)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                first = next(turns)
                for turn in range(len(backends)):
                    backend = backends[(first + turn) % len(backends)]
                    try:
                        answer = client.request(
                            self.command,
                            f"http://127.0.0.1:{backend}{self.path}",
                            content=body,
                            headers=dict(self.headers.items()),
                        )
                    except httpx2.HTTPError as err:
                        if self.command == "GET" or isinstance(err, httpx2.ConnectError):
                            continue
                        # It may have been done: only the caller knows whether to ask again.
                        break
                    self._answer(answer.status_code, answer.headers, answer.content)
                    return
                self._answer(502, {}, b"")

            def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in OF_ONE_HOP:
                        self.send_header(name, value)
                if status not in (204, 304):
                    self.send_header("content-length", str(len(body)))
                self.end_headers()
                if status not in (204, 304) and self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = _pass_on

            def log_message(self, *_: Any) -> None:
                """Nothing: the nodes keep logs."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self._client = client

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._client.close()


class ReplicatedNode:
    """One node as the processes `names`, each killed and started by itself."""

    def __init__(
        self,
        directory: Path,
        kind: ParticipantKind,
        *,
        operator: str,
        database: str,
        names: tuple[str, ...],
        settings: Mapping[str, Any],
    ) -> None:
        port = free_port()
        values = {
            "name": directory.name,
            "kind": kind.value,
            "url": f"http://127.0.0.1:{port}",
            "operator": operator,
            "database": database,
            **settings,
        }
        self.home: Home = create_home(directory, values)
        self.ports = {name: free_port() for name in names}
        self.processes: dict[str, NodeProcess] = {}
        self.balancer = Balancer(port, list(self.ports.values()))
        self.client = Client(self.home.url, self.home.api_key())

    def log(self, name: str) -> Path:
        return self.home.path / f"{name}.log"

    def start(self, name: str) -> None:
        environment = {
            "DATASPACE_REPLICA": name,
            "DATASPACE_PORT": str(self.ports[name]),
        }
        self.processes[name] = NodeProcess(self.home.path, self.log(name), environment)

    def wait_until_healthy(self, name: str) -> None:
        deadline = time.monotonic() + START_S
        with httpx2.Client(trust_env=False) as http:
            while True:
                assert self.processes[name].poll() is None, self.log(name).read_text()[-800:]
                try:
                    url = f"http://127.0.0.1:{self.ports[name]}/health"
                    if http.get(url, timeout=2.0).status_code == 200:
                        return
                except httpx2.HTTPError:
                    pass
                assert time.monotonic() < deadline, f"{name} did not start"
                time.sleep(0.05)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait(STOP_S)

    def ask(
        self, name: str, method: str, path: str, body: Any = None, *, key: str | None = None
    ) -> Any:
        """What this one process answers its owner, or whoever has `key`, past the balancer."""
        # A node answers under its own name only.
        host = self.home.url.removeprefix("http://")
        headers = {"host": host, "authorization": f"Bearer {key or self.home.api_key()}"}
        with httpx2.Client(trust_env=False, timeout=30.0) as http:
            url = f"http://127.0.0.1:{self.ports[name]}{path}"
            answer = http.request(method, url, json=body, headers=headers)
        answer.raise_for_status()
        return answer.json()

    def close(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            process.wait(STOP_S)
        self.client.close()
        self.balancer.close()
