"""A port of its own for metrics: a scraper needs no key that opens anything else."""

from __future__ import annotations

import hmac
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from dataspace.errors import InputRejected
from dataspace.identity.addresses import is_loopback
from dataspace.operations.metrics import Metrics
from dataspace.settings import Settings

# A scraper asks every few seconds; more at a time than these are turned away.
MAX_AT_A_TIME: Final = 8
TIMEOUT_S: Final = 5.0


class ScrapePort:
    """Serves `/metrics` and nothing else until it is closed."""

    def __init__(self, metrics: Metrics, settings: Settings) -> None:
        """Raises InputRejected for an address beyond this machine without a token, and where the
        port is taken."""
        assert settings.metrics_port is not None
        token = settings.metrics_token
        if token is None and not is_loopback(settings.metrics_host):
            raise InputRejected(
                "metrics_host is an address that others reach, and there is no metrics_token",
                remedy="set DATASPACE_METRICS_TOKEN, or metrics_host to 127.0.0.1",
            )
        expected = None if token is None else f"Bearer {token.get_secret_value()}"
        handler = _handler(metrics, expected, threading.BoundedSemaphore(MAX_AT_A_TIME))
        try:
            address = (settings.metrics_host, settings.metrics_port)
            self._server = ThreadingHTTPServer(address, handler)
        except OSError as err:
            raise InputRejected(
                f"metrics cannot be served at {settings.metrics_host}:{settings.metrics_port}",
                remedy="stop what uses the port, or set another metrics_port",
            ) from err
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(
            target=self._server.serve_forever,
            name="metrics",
            kwargs={"poll_interval": 0.5},
            daemon=True,
        ).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(
    metrics: Metrics, expected: str | None, room: threading.BoundedSemaphore
) -> type[BaseHTTPRequestHandler]:
    class Scrape(BaseHTTPRequestHandler):
        timeout = TIMEOUT_S
        server_version, sys_version = "dataspace", ""

        def do_GET(self) -> None:
            if self.path.split("?", 1)[0] != "/metrics":
                self._answer(HTTPStatus.NOT_FOUND)
            elif not self._may():
                self._answer(HTTPStatus.UNAUTHORIZED)
            elif not room.acquire(blocking=False):
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE)
            else:
                try:
                    body, content_type = metrics.render(self.headers.get("accept", ""))
                finally:
                    room.release()
                self._answer(HTTPStatus.OK, body, content_type)

        def _may(self) -> bool:
            given = self.headers.get("authorization", "")
            return expected is None or hmac.compare_digest(given.encode(), expected.encode())

        def _answer(
            self, status: HTTPStatus, body: bytes = b"", content_type: str = "text/plain"
        ) -> None:
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.send_header("cache-control", "no-store")
            self.send_header("x-content-type-options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Scrapes are not events."""

    return Scrape
