"""Which addresses a node may call, when a peer's DID, message or credential names them.

A name is looked up once: every address found is judged, and one of those judged is connected to
(`dataspace.outbound`), so that a name cannot mean another machine between the check and the call.

`ipaddress.is_global` alone does not do. It knows nothing of addresses that carry another one inside
them (mapped, NAT64, 6to4, Teredo), takes multicast for global, and some clouds serve the
credentials of their machines at addresses that are.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from dataspace.errors import ProtocolViolation, Unavailable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Addresses that came lately are not taken apart again.
REMEMBERED: Final = 4096
# A name with more addresses than these is called at the first ones only.
MAX_ADDRESSES: Final = 8


def _networks(*written: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(one) for one in written)


# Refused whatever the settings allow: link-local addresses and those at which clouds give machines
# their credentials (the usual one is link-local; besides Azure's, Alibaba's, Oracle's, Amazon's and
# Google's over IPv6).
_NEVER: Final = _networks(
    "169.254.0.0/16",
    "fe80::/10",
    "168.63.129.16/32",
    "100.100.100.200/32",
    "192.0.0.192/32",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
)
# Global by the library's table, and nobody's public server: site-local, IPv4-compatible, Teredo,
# NAT64 of local use, segment identifiers, documentation, the 6to4 relays.
_NOT_PUBLIC: Final = _networks(
    "fec0::/10",
    "::/96",
    "2001::/32",
    "64:ff9b:1::/48",
    "5f00::/16",
    "3fff::/20",
    "192.88.99.0/24",
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


@lru_cache(maxsize=REMEMBERED)
def is_loopback(host: str) -> bool:
    """Whether this is an address, or the name, by which only this machine reaches itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class AddressPolicy:
    """What may be called besides public addresses: this machine in a local space, and the networks
    of an intranet that the owner names (`allowed_networks`)."""

    local: bool
    allowed: tuple[Network, ...] = ()


def verify_address(written: str, policy: AddressPolicy, *, host: str | None = None) -> None:
    """Refuse an address inside our own network. Raises ProtocolViolation naming `host`."""
    address = _innermost(ipaddress.ip_address(written.partition("%")[0]))
    if any(address in network for network in _NEVER):
        allowed = False
    elif any(address in network for network in policy.allowed):
        allowed = True
    elif address.is_loopback:
        allowed = policy.local
    else:
        allowed = (
            address.is_global
            and not address.is_multicast
            and not address.is_reserved
            and not any(address in network for network in _NOT_PUBLIC)
        )
    if not allowed:
        raise ProtocolViolation(
            f"the host {host or written} is inside a private network and is not called",
            remedy="peers need public addresses, or an entry in the setting allowed_networks",
        )


def addresses_of(host: str, policy: AddressPolicy) -> list[str]:
    """The addresses of `host`, each of which may be called.

    Raises ProtocolViolation where any may not: a name that means a public and a private machine is
    not to be trusted with either. Raises Unavailable where the name does not resolve.
    """
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as err:
        raise Unavailable(f"the host {host} cannot be found", remedy="check the address") from err
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    verify_addresses(addresses, policy, host=host)
    return addresses[:MAX_ADDRESSES]


def verify_addresses(addresses: Sequence[str], policy: AddressPolicy, *, host: str) -> None:
    """`verify_address` for each."""
    for address in addresses:
        verify_address(address, policy, host=host)


def _innermost(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to, where it does; else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
