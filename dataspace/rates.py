"""How often somebody may ask: token buckets, in bounded memory.

Before it is known who asks, an address is what is counted; afterwards a member's DID is, so that no
member can spend what belongs to the others, from however many addresses. Frames of computations are
not counted here: the bytes in hand are their bound (`dataspace.computing.inbox`).
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from dataspace.errors import TooManyRequests

# Who was seen longest ago is forgotten first, and begins with a full bucket when it comes again.
MAX_BUCKETS: Final = 20_000
# What may come at once after a while of silence, in seconds' worth of the rate.
BURST_S: Final = 10.0
# Longer than this nobody is told to wait: a bucket is refilled by then.
LONGEST_WAIT_S: Final = BURST_S

# The limits there are; each member has a bucket of its own in each.
MESSAGES: Final = "messages"
CATALOGUES: Final = "catalogue requests"
ORDERS: Final = "orders"
PRESENTATIONS: Final = "presentation queries"
# What reads much for a little question, or begins work, is a fifth as often.
COSTLY_PART: Final = 0.2


@dataclass(frozen=True)
class Limit:
    """`per_s` in the long run, and `burst` at once."""

    name: str
    per_s: float
    burst: float

    @classmethod
    def of(cls, name: str, per_s: float) -> Limit:
        return cls(name, per_s, max(1.0, per_s * BURST_S))


@dataclass
class _Bucket:
    tokens: float
    at: float


class Rates:
    """Buckets for every (limit, caller) seen lately. May be used from any thread.

    Invariant: at most `MAX_BUCKETS` callers are remembered, and none ever has more than its
    limit's burst.
    """

    def __init__(
        self, limits: Iterable[Limit], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = {limit.name: limit for limit in limits}
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

    @classmethod
    def of_members(cls, per_s: float) -> Rates:
        """What one member may do here, by the setting `rate_per_member`."""
        costly = per_s * COSTLY_PART
        return cls(
            [
                Limit.of(MESSAGES, per_s),
                Limit.of(CATALOGUES, costly),
                Limit.of(ORDERS, costly),
                Limit.of(PRESENTATIONS, costly),
            ]
        )

    def wait_s(self, name: str, who: str) -> float:
        """Take one from `who`'s bucket: 0.0, or the seconds until there is one again."""
        limit, now = self._limits[name], self._clock()
        with self._lock:
            bucket = self._buckets.pop((name, who), None)
            if bucket is None:
                bucket = _Bucket(limit.burst, now)
                if len(self._buckets) >= MAX_BUCKETS:
                    self._buckets.popitem(last=False)
            # A clock that went back gives nothing and takes nothing.
            gained = max(0.0, now - bucket.at) * limit.per_s
            bucket.tokens, bucket.at = min(limit.burst, bucket.tokens + gained), now
            self._buckets[name, who] = bucket
            if bucket.tokens < 1.0:
                return (1.0 - bucket.tokens) / limit.per_s
            bucket.tokens -= 1.0
        return 0.0

    def take(self, name: str, who: str) -> None:
        """Take one from `who`'s bucket. Raises TooManyRequests, saying which limit and how long."""
        wait_s = self.wait_s(name, who)
        if wait_s > 0.0:
            limit = self._limits[name]
            raise TooManyRequests(
                f"too many {name} of yours: more than {limit.per_s:g} a second",
                remedy="wait as long as Retry-After says, then send again",
                limit=name,
                after_s=min(wait_s, LONGEST_WAIT_S),
            )

    def __len__(self) -> int:
        return len(self._buckets)


def network_of(address: str) -> str:
    """What is counted as one caller: an IPv4 address, and an IPv6 /64, of which one host may have
    all addresses."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
