"""The proxy does to a request what it was told to, and nothing else."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest

from dataspace.home import free_port
from tests.faults.proxy import Proxy
from tests.faults.requests import Fate, Fates, Mishap


class Chosen(Fates):
    """Every request meets the same."""

    def __init__(self, mishap: Mishap) -> None:
        super().__init__(0)
        self.mishap = mishap

    def draw(self, node: str, method: str, target: str) -> Fate:
        return Fate(self.mishap, 0.01)


class Behind:
    """A server that counts what arrives whole."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.came = threading.Semaphore(0)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["content-length"])
                body = self.rfile.read(size)
                if len(body) < size:
                    return
                outer.bodies.append(body)
                answer = f"answer {len(outer.bodies)}".encode()
                self.send_response(200)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                outer.came.release()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def behind() -> Iterator[Behind]:
    made = Behind()
    yield made
    made.server.shutdown()
    made.server.server_close()


def post(behind: Behind, mishap: Mishap) -> httpx2.Response | None:
    """The answer through a proxy that does this; None where the line broke."""
    proxy, port = Proxy(Chosen(mishap), active=True), free_port()
    proxy.add("node", port, ("127.0.0.1", behind.server.server_port))
    try:
        with httpx2.Client(trust_env=False, timeout=10.0) as http:
            return http.post(f"http://127.0.0.1:{port}/x", content=b"sent " * 100)
    except httpx2.HTTPError:
        return None
    finally:
        proxy.close()


@pytest.mark.parametrize(
    ("mishap", "answer", "arrived"),
    [
        (Mishap.NONE, "answer 1", 1),
        (Mishap.DELAYED, "answer 1", 1),
        (Mishap.DROPPED, None, 0),
        (Mishap.CUT, None, 0),
        (Mishap.ANSWER_LOST, None, 1),
        (Mishap.ANSWER_TRUNCATED, None, 1),
        (Mishap.TWICE, "answer 1", 2),
        (Mishap.TWICE_SECOND, "answer 2", 2),
        (Mishap.BAD_GATEWAY, 502, 0),
        (Mishap.UNAVAILABLE, 503, 0),
        (Mishap.UNAVAILABLE_AFTER, 503, 1),
    ],
)
def test_a_mishap_is_what_its_name_says(
    behind: Behind, mishap: Mishap, answer: str | int | None, arrived: int
) -> None:
    response = post(behind, mishap)
    if isinstance(answer, str):
        assert response is not None
        assert (response.status_code, response.text) == (200, answer)
    else:
        assert (response and response.status_code) == answer
    assert behind.bodies == [b"sent " * 100] * arrived


def test_what_comes_again_later_comes_after_its_answer(behind: Behind) -> None:
    proxy, port = Proxy(Chosen(Mishap.AGAIN_LATER), active=True), free_port()
    proxy.add("node", port, ("127.0.0.1", behind.server.server_port))
    with httpx2.Client(trust_env=False, timeout=10.0) as http:
        assert http.post(f"http://127.0.0.1:{port}/x", content=b"once").text == "answer 1"
    assert behind.came.acquire(timeout=10.0)
    assert behind.came.acquire(timeout=10.0)
    assert behind.bodies == [b"once", b"once"]
    proxy.close()
