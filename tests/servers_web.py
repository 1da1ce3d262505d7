"""Web APIs, buckets and brokers for tests and benchmarks, each a function.

`web_server` answers by a function of ours, in threads of this process; `bucket_server` is moto's S3
and `broker` the real mosquitto, both processes.
"""

from __future__ import annotations

import gzip
import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers import free_port, program, running, server_directory


@dataclass(frozen=True)
class Asked:
    """A request as the server saw it."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    number: int


@dataclass(frozen=True)
class Told:
    """An answer. `cut` closes the connection after so many bytes of a longer body; `drip` sends a
    byte now and then."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    drip: bool = False


Answering = Callable[[Asked], Told]


def told_json(value: Any, **headers: str) -> Told:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Told(json.dumps(value).encode(), headers={"Content-Type": "application/json", **named})


@dataclass
class WebServer:
    """`netloc` is host:port; `asked` are the requests so far."""

    netloc: str
    asked: list[Asked] = field(default_factory=list)


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key, as PEM files in `directory`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "certificate.pem", directory / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@contextmanager
def web_server(answer: Answering, *, tls: tuple[Path, Path] | None = None) -> Iterator[WebServer]:
    """An HTTP/1.1 server on the loopback interface; `tls` is a certificate and its key."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Without it every small answer waits for the peer's delayed acknowledgement.
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(parts.path, query, headers, len(seen.asked) + 1)
            seen.asked.append(asked)
            told = answer(asked)
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            if told.drip:
                self._drip(told.body)
                return
            self.wfile.write(told.body if told.cut is None else told.body[: told.cut])
            if told.cut is not None:
                self.wfile.flush()
                self.close_connection = True

        def _drip(self, body: bytes) -> None:
            with suppress(OSError):
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    if ended.wait(0.05):
                        break
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    seen = WebServer(f"127.0.0.1:{server.server_address[1]}")
    ended = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


Rows = list[dict[str, Any]]


def items_api(rows: Rows, *, cap: int = 100, netloc: Callable[[], str] | None = None) -> Answering:
    """An API with every kind of paging, `cap` rows a page at most.

    /by-page?page=&limit=, /by-offset?offset=&limit=, /by-next, /by-cursor?after=, /by-link.
    """

    def answer(asked: Asked) -> Told:
        query = asked.query
        size = min(int(query.get("limit", cap)), cap)
        start = int(query.get("offset", query.get("after", 0)))
        if asked.path == "/by-page":
            start = (int(query.get("page", 1)) - 1) * size
        page, end = rows[start : start + size], start + size
        more = end < len(rows)
        if asked.path == "/by-link":
            link = f'<?{urlencode({"offset": end})}>; rel="next", </>; rel="first"'
            return told_json(page, **({"Link": link} if more else {}))
        document: dict[str, Any] = {"data": {"items": page}}
        if asked.path == "/by-next":
            document["paging"] = {"next": f"/by-next?offset={end}" if more else None}
        if asked.path == "/by-cursor":
            document["cursor"] = str(end) if more else None
        if asked.path in ("/by-page", "/by-offset"):
            document["total"] = len(rows)
        return told_json(document)

    return answer


def ckan_portal(
    rows: Rows, fields: Mapping[str, str], *, file_url: str = "/f/data.csv"
) -> Answering:
    """A portal with one DataStore table, resource `r1`, and one dataset, `air`, with a CSV file."""

    def answer(asked: Asked) -> Told:
        if asked.path == "/api/3/action/package_show":
            resources = [{"format": "CSV", "url": file_url}, {"format": "PDF", "url": "/x.pdf"}]
            return told_json({"success": True, "result": {"resources": resources}})
        if asked.path == "/f/data.csv":
            return Told(b"id,v\n007,1.50\n", headers={"Content-Type": "text/csv"})
        if asked.query.get("resource_id") != "r1":
            return Told(b'{"success": false, "error": {"message": "Not found"}}', status=404)
        chosen = [{"_id": n, **row} for n, row in enumerate(rows, start=1)]
        for name, values in json.loads(asked.query.get("filters", "{}")).items():
            chosen = [row for row in chosen if str(row[name]) in [str(value) for value in values]]
        names = asked.query["fields"].split(",") if "fields" in asked.query else ["_id", *fields]
        start, size = int(asked.query.get("offset", 0)), int(asked.query.get("limit", 100))
        result = {
            "fields": [{"id": "_id", "type": "int"}]
            + [{"id": name, "type": kind} for name, kind in fields.items()],
            "records": [
                {name: row[name] for name in names} for row in chosen[start : start + size]
            ],
            "total": len(chosen),
        }
        return told_json({"success": True, "result": result})

    return answer


def features_server(features: Rows, *, queryables: tuple[str, ...] = ()) -> Answering:
    """OGC API Features with one collection, `stations`."""

    def answer(asked: Asked) -> Told:
        if asked.path == "/api/collections/stations/queryables" and queryables:
            return told_json({"type": "object", "properties": {n: {} for n in queryables}})
        if asked.path != "/api/collections/stations/items":
            return Told(status=404)
        chosen = [
            one
            for one in features
            if all(
                str(one["properties"].get(n)) == asked.query[n]
                for n in queryables
                if n in asked.query
            )
        ]
        start, size = int(asked.query.get("offset", 0)), int(asked.query.get("limit", 10))
        links = [{"rel": "self", "href": "x"}]
        if start + size < len(chosen):
            query = urlencode({**asked.query, "offset": start + size})
            links.append({"rel": "next", "href": f"{asked.path}?{query}"})
        page = chosen[start : start + size]
        return told_json({"type": "FeatureCollection", "features": page, "links": links})

    return answer


def sensor_things(observations: Rows) -> Answering:
    """SensorThings with Observations; of filters it understands `Datastream/name eq '…'`."""

    def answer(asked: Asked) -> Told:
        chosen, condition = observations, asked.query.get("$filter", "")
        if "Datastream/name eq" in condition:
            wanted = condition.split("'")[1]
            chosen = [one for one in observations if one["Datastream"]["name"] == wanted]
        start, size = int(asked.query.get("$skip", 0)), int(asked.query.get("$top", 10))
        document: dict[str, Any] = {"value": chosen[start : start + size]}
        if start + size < len(chosen):
            query = urlencode({**asked.query, "$skip": start + size}, quote_via=quote)
            document["@iot.nextLink"] = f"http://{asked.headers['host']}{asked.path}?{query}"
        return told_json(document)

    return answer


def gzip_bomb(size_bytes: int) -> Told:
    """A small answer that becomes `size_bytes` of JSON spaces."""
    body = gzip.compress(b"[" + b" " * size_bytes + b"]")
    return Told(body, headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})


@contextmanager
def bucket_server() -> Iterator[str]:
    """moto's S3 as a process; gives its endpoint. Any key is accepted."""
    port = free_port()
    arguments = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (
        server_directory("s3") as directory,
        running(arguments, directory=directory, port=port),
    ):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def broker(
    *, port: int | None = None, tls: tuple[Path, Path] | None = None, users: str = ""
) -> Iterator[int]:
    """A mosquitto that keeps nothing on disk; gives its port on the loopback interface.

    `users` is what its file of passwords holds; anybody may come in where there is none.

    Skips the test where it is not installed.
    """
    mosquitto = program("mosquitto", package="mosquitto", title="mosquitto")
    port = port or free_port()
    with server_directory("mqtt") as made:
        config = made / "mosquitto.conf"
        # As root it would change to a user that cannot read this directory.
        lines = [f"listener {port} 127.0.0.1", "user root", "max_queued_messages 0"]
        lines.append(f"allow_anonymous {'false' if users else 'true'}")
        if users:
            passwords = made / "passwords"
            passwords.write_text(users)
            passwords.chmod(0o600)
            lines.append(f"password_file {passwords}")
        if tls is not None:
            lines += [f"certfile {tls[0]}", f"keyfile {tls[1]}"]
        config.write_text("\n".join(lines) + "\n")
        with running([mosquitto, "-c", str(config)], directory=made, port=port):
            yield port


def publish(port: int, messages: Sequence[tuple[str, bytes]]) -> None:
    """Send messages of QoS 1 and wait until the broker has them all."""
    from paho.mqtt.client import CallbackAPIVersion, Client

    client = Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(1_000)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        sent = [client.publish(topic, payload, qos=1) for topic, payload in messages]
        for one in sent:
            one.wait_for_publish(30)
    finally:
        client.disconnect()
        client.loop_stop()
