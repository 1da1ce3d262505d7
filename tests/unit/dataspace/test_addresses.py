"""What may be called is judged by its address, and that very address is connected to."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from typing import Any

import pytest

from dataspace.errors import ProtocolViolation, Unavailable
from dataspace.identity.addresses import AddressPolicy, addresses_of, verify_address
from dataspace.outbound import outbound_client

STRICT, LOCAL = AddressPolicy(local=False), AddressPolicy(local=True)
INSIDE = [
    "10.0.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "127.0.0.1",
    "0.0.0.0",
    "100.64.0.1",
    "224.0.0.1",
    "239.1.2.3",
    "240.0.0.1",
    "255.255.255.255",
    "198.18.0.1",
    "192.88.99.1",
    "::",
    "::1",
    "fc00::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "2001:db8::1",
    "2001:0:1::1",
    "64:ff9b:1::1",
    "3fff::1",
    "5f00::1",
]
# The same private address, carried by others.
CARRIED = ["::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "::a00:1"]
METADATA = [
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
]
PUBLIC = ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]


@pytest.mark.parametrize("address", [*INSIDE, *CARRIED, *METADATA])
def test_addresses_inside_our_network_are_not_called_however_they_are_written(
    address: str,
) -> None:
    with pytest.raises(ProtocolViolation, match="inside a private network"):
        verify_address(address, STRICT)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_called(address: str) -> None:
    verify_address(address, STRICT)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_a_local_space_adds_this_machine(address: str) -> None:
    verify_address(address, LOCAL)


def test_an_intranet_adds_its_networks_and_never_what_gives_out_credentials() -> None:
    everything = ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "fd00::/8", "168.63.0.0/16")
    policy = AddressPolicy(local=False, allowed=tuple(map(ip_network, everything)))
    for address in ("10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "100.64.0.1", "fd12::1"):
        verify_address(address, policy)
    for address in ("192.168.1.1", "127.0.0.1", *METADATA):
        with pytest.raises(ProtocolViolation):
            verify_address(address, policy)


@pytest.fixture
def server() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.headers["host"].encode())

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    yield listening.server_port
    listening.shutdown()
    listening.server_close()


class Names:
    """A resolver whose answers a test sets; each is given once, as one that rebinds would."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    def __call__(self, host: str, port: Any, *_: Any, **__: Any) -> list[Any]:
        # Connecting to an address asks for it by its digits.
        if host.replace(".", "").isdigit():
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]
        found = self.answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]


def test_the_address_that_was_judged_is_the_one_that_is_called(
    server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", names)
    with outbound_client(addresses=LOCAL) as client:
        answer = client.get(f"http://peer.example:{server}/")
    # Reached by its name, which was looked up once: the second answer is still there.
    assert answer.text == f"peer.example:{server}"
    assert names.answers == [["10.0.0.1"]]


def test_a_name_that_leads_inside_is_not_called_and_neither_is_one_that_leads_to_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for found in (["10.0.0.1"], ["8.8.8.8", "10.0.0.1"]):
        monkeypatch.setattr(socket, "getaddrinfo", Names(found))
        with (
            outbound_client(addresses=STRICT) as client,
            pytest.raises(ProtocolViolation, match=r"the host peer\.example is inside"),
        ):
            client.get("http://peer.example/")


def test_a_host_whose_first_address_is_dead_is_reached_at_its_second(
    server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names(["127.0.0.2", "127.0.0.1"]))
    with outbound_client(addresses=LOCAL) as client:
        assert client.get(f"http://peer.example:{server}/").status_code == 200


def test_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with outbound_client(addresses=STRICT) as client:
        assert client.follow_redirects is False


def test_a_name_that_is_none_can_be_tried_again() -> None:
    with pytest.raises(Unavailable, match="cannot be found"):
        addresses_of("nobody.invalid", STRICT)
