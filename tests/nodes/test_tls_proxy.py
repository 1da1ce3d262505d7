"""A node behind nginx as the documentation has it: TLS, names, addresses and long bodies pass."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from dataspace.demo.space import RunningNode
from dataspace.home import create_home, free_port
from dataspace.tls import client_trust
from tests.authority import Authority

ROOT = Path(__file__).resolve().parents[2]
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
RATE = 2.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(NGINX).exists(), reason="nginx is not installed here"),
]


@dataclass
class Proxied:
    """The node, its address at the proxy, and a client that knows the authority."""

    node: RunningNode
    url: str
    http: httpx2.Client


def documented_server(port: int, backend: int, files: tuple[Path, Path]) -> str:
    """The server block of docs/tls.md with our ports and files put in."""
    text = (ROOT / "docs" / "tls.md").read_text(encoding="utf-8")
    found = re.search(r"```nginx\n(.*?)```", text, re.DOTALL)
    assert found is not None
    block = found[1]
    for documented, ours in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("server_name node.example", "server_name localhost"),
        ("/etc/dataspace/node.crt", str(files[0])),
        ("/etc/dataspace/node.key", str(files[1])),
        ("http://127.0.0.1:8001", f"http://127.0.0.1:{backend}"),
    ):
        assert documented in block, documented
        block = block.replace(documented, ours)
    return block


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    directory = tmp_path_factory.mktemp("proxied")
    authority = Authority(directory)
    port, backend = free_port(), free_port()
    block = documented_server(port, backend, authority.issue())
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"daemon off;\nmaster_process off;\npid {directory}/nginx.pid;\nerror_log stderr;\n"
        "events {}\nhttp {\naccess_log off;\n"
        + "".join(
            f"{kind}_temp_path {directory}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + block
        + "}\n"
    )
    values = {
        "name": "Operator",
        "kind": "operator",
        "founder": True,
        "url": f"https://localhost:{port}",
        "port": backend,
        "local": False,
        "allowed_networks": ["127.0.0.0/8", "::1/128"],
        "trusted_proxies": ["127.0.0.1/32"],
        "tls_ca": str(authority.path),
        "rate_per_address": RATE,
    }
    home = create_home(directory / "node", values)
    (home.path / "logs").mkdir()
    node = RunningNode("operator", home, home.path / "logs" / "node.log")
    command = [NGINX, "-c", str(configuration), "-p", str(directory)]
    with (
        subprocess.Popen(command, stderr=(directory / "nginx.log").open("w")) as nginx,
        # Not from the proxy's own address, which is a trusted one.
        httpx2.Client(
            transport=httpx2.HTTPTransport(
                verify=client_trust(authority.path), local_address="127.0.0.2"
            ),
            timeout=10.0,
        ) as http,
    ):
        try:
            node.start()
            node.wait_until_healthy()
            yield Proxied(node, home.url, http)
        finally:
            node.stop()
            nginx.terminate()
    node.client.close()


def test_a_node_is_met_under_its_own_name_through_the_proxy(proxied: Proxied) -> None:
    document = proxied.http.get(f"{proxied.url}/.well-known/did.json").json()
    assert document["id"] == proxied.node.did
    answer = proxied.http.get(f"{proxied.url}/health")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_the_owners_api_is_closed_at_the_proxy_and_open_on_the_machine(proxied: Proxied) -> None:
    key = {"authorization": f"Bearer {proxied.node.home.api_key()}"}
    assert proxied.http.get(f"{proxied.url}/api/status", headers=key).status_code == 403
    local = f"http://127.0.0.1:{proxied.node.home.settings.port}"
    assert proxied.http.get(f"{local}/api/status", headers=key).status_code == 200


def test_a_chunk_of_a_frame_passes_whole_and_a_longer_message_is_the_nodes_to_refuse(
    proxied: Proxied,
) -> None:
    """Refused for want of a token, after eight mebibytes, and not by the proxy."""
    chunk = proxied.http.put(
        f"{proxied.url}/compute/o/consumer/0/0",
        content=bytes(8 * 2**20),
        headers={"frame-name": "x", "frame-chunks": "1", "content-digest": "x"},
    )
    assert chunk.status_code == 401
    long = proxied.http.post(
        f"{proxied.url}/dsp/2025-1/negotiations/request", content=bytes(3 * 2**20)
    )
    assert long.status_code == 413
    assert "nginx" not in long.text


def test_the_limit_counts_whom_the_proxy_saw_and_not_what_they_say(proxied: Proxied) -> None:
    """An address invented in the header buys nothing: the proxy adds the one it saw."""
    asked = [
        proxied.http.get(
            f"{proxied.url}/health", headers={"x-forwarded-for": f"198.51.100.{number}"}
        )
        for number in range(60)
    ]
    refused = [one for one in asked if one.status_code == 429]
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1
    assert refused[0].headers["content-type"] == "application/problem+json"
