"""The SDK waits where a node says that it is asked too often, and only there."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dataspace.client import ApiError, Client

Answers = list[tuple[int, str | None]]


@contextmanager
def answering(answers: Answers) -> Iterator[tuple[Client, list[str]]]:
    """A node that gives these answers one after the other: (status, Retry-After)."""
    asked: list[str] = []

    class Node(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            asked.append(self.path)
            status, after = answers[len(asked) - 1]
            body = json.dumps({"detail": "said", "n": len(asked)}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if after is not None:
                self.send_header("retry-after", after)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: the test says what it saw."""

    server = HTTPServer(("127.0.0.1", 0), Node)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    try:
        with Client(f"http://127.0.0.1:{server.server_port}", "key") as client:
            yield client, asked
    finally:
        server.shutdown()
        server.server_close()


def test_a_call_that_comes_too_often_is_made_again_when_the_node_wants_it() -> None:
    with answering([(429, "0"), (429, "0"), (200, None)]) as (client, asked):
        assert client.call("POST", "/api/catalog", {"url": "x"})["n"] == 3
        assert (len(asked), client.waits) == (3, 2)


@pytest.mark.parametrize(
    ("status", "after", "told"),
    [
        # What was asked for may have happened.
        (503, "7", 7.0),
        # Longer than anybody's patience, and no number of seconds.
        (429, "600", 600.0),
        (429, "Wed, 02 Dec 2026 07:28:00 GMT", None),
        (429, None, None),
        (429, "9999999", None),
    ],
)
def test_everything_else_is_told_to_the_caller_at_once(
    status: int, after: str | None, told: float | None
) -> None:
    with answering([(status, after)]) as (client, asked), pytest.raises(ApiError) as caught:
        client.call("POST", "/api/negotiations", {})
    assert (caught.value.status, caught.value.after_s) == (status, told)
    assert (len(asked), client.waits) == (1, 0)
