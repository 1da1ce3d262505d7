"""The collector of a stream: from a broker into windows, none of its messages lost.

It is told of a message at QoS 1 until it says that it has it, and says so when the message is on
disk. What the broker may not have heard it sends again, marked as such, and is not stored twice.
"""

from __future__ import annotations

import fcntl
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from connectors.errors import InputRejected, Unavailable
from connectors.files import reading
from connectors.stream import Stream, parse_stream
from connectors.windows import IN_FLIGHT, Outcome, Windows

if TYPE_CHECKING:
    import paho.mqtt.client as mqtt

# Messages put on disk in one go: as many as came until the broker paused, up to this.
TOGETHER: Final = 500
PAUSE_S: Final = 0.005
IDLE_S: Final = 0.2
TELL_S: Final = 1.0
CONNECT_S: Final = 10.0
KEEPALIVE_S: Final = 30
LONGEST_WAIT_S: Final = 30.0
# How long the broker keeps messages for a collector that is away.
SESSION_S: Final = 7 * 86_400
_MARK: Final = ".stream.json"
_LOCK: Final = ".collector.lock"


@dataclass(frozen=True)
class Progress:
    """Counts since a collection began; `connected` is whether the broker sends, now."""

    received: int = 0
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    retained: int = 0
    closed: int = 0
    open: int = 0
    connected: bool = False


def collect(
    url: str,
    stop: threading.Event,
    *,
    tell: Callable[[Progress], None] = lambda progress: None,
    clock: Callable[[], float] = time.time,
) -> Progress:
    """Receive messages until `stop` is set, closing windows as their time comes; give the counts.

    Messages are acknowledged when they are on disk. The broker keeps those that come while nobody
    collects, and after a break the connection is made again, without end. Raises Unavailable where
    the broker cannot be reached at first or the disk fails, InputRejected where it refuses us, and
    where the folder is in use or holds the windows of another stream.
    """
    stream = parse_stream(url)
    with _owned(stream):
        windows = Windows(stream.folder, stream.windowing, stream.shape)
        try:
            return _Collection(stream, windows, clock, tell).run(stop)
        finally:
            windows.release()


class _Collection:
    """One run of `collect`, all of it in one thread: the client's network loop is called here."""

    def __init__(
        self,
        stream: Stream,
        windows: Windows,
        clock: Callable[[], float],
        tell: Callable[[Progress], None],
    ) -> None:
        self._stream, self._windows, self._clock, self._tell = stream, windows, clock, tell
        self._mqtt = _paho()
        self._came: list[mqtt.MQTTMessage] = []
        self._unacknowledged: list[int] = []
        self._counts: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self._progress = Progress()
        self._refusal: str | None = None

    def run(self, stop: threading.Event) -> Progress:
        client = self._client()
        self._connect(client)
        told, was_connected = -TELL_S, False
        wait = 1.0
        try:
            while not stop.is_set():
                alive = self._receive(client)
                if self._refusal is not None:
                    raise InputRejected(self._refusal)
                self._take_in()
                self._settle(client)
                connected = self._progress.connected
                if connected is not was_connected or time.monotonic() - told >= TELL_S:
                    told, was_connected = time.monotonic(), connected
                    self._close_due()
                    self._tell(self._now())
                if alive:
                    wait = 1.0
                else:
                    self._progress = replace(self._progress, connected=False)
                    stop.wait(wait)
                    wait = min(2 * wait, LONGEST_WAIT_S)
                    with suppress(OSError):
                        client.reconnect()
        finally:
            self._take_in()
            self._settle(client)
            client.disconnect()
            client.loop(PAUSE_S)
        self._close_due()
        self._tell(self._now())
        return self._now()

    def _receive(self, client: mqtt.Client) -> bool:
        """Read what the broker sends until it pauses; False where it is no longer there."""
        waiting = IDLE_S
        for expected in range(1, TOGETHER + 1):
            if client.loop(waiting) != self._mqtt.MQTT_ERR_SUCCESS:
                return False
            if len(self._came) < expected:
                return True
            waiting = PAUSE_S
        return True

    def _take_in(self) -> None:
        came, self._came = self._came, []
        now = self._clock()
        retained = 0
        for message in came:
            if message.retain:
                # The last value of a topic, as old as it may be, is no reading of now.
                retained += 1
            else:
                outcome = self._accept(message, now)
                self._counts[outcome] += 1
            if message.qos == 1:
                self._unacknowledged.append(message.mid)
        if came:
            self._progress = replace(
                self._progress,
                received=self._progress.received + len(came),
                retained=self._progress.retained + retained,
            )

    def _accept(self, message: mqtt.MQTTMessage, now: float) -> Outcome:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return Outcome.MALFORMED
        return self._windows.accept(
            topic, bytes(message.payload), now=now, packet=message.mid, again=message.dup
        )

    def _settle(self, client: mqtt.Client) -> None:
        """Put on disk what came, then tell the broker."""
        self._windows.write()
        if client.is_connected():
            for mid in self._unacknowledged:
                client.ack(mid, 1)
            self._windows.told()
        # After a break, it sends again what it was not told about.
        self._unacknowledged = []

    def _close_due(self) -> None:
        closed = self._windows.close_due(self._clock())
        self._progress = replace(self._progress, closed=self._progress.closed + closed)

    def _now(self) -> Progress:
        return replace(self._progress, outcomes=dict(self._counts), open=self._windows.open_windows)

    def _client(self) -> mqtt.Client:
        address = self._stream.address
        client: mqtt.Client = self._mqtt.Client(
            self._mqtt.CallbackAPIVersion.VERSION2,
            client_id=self._stream.client,
            protocol=self._mqtt.MQTTv5,
            manual_ack=True,
        )
        if address.user is not None:
            client.username_pw_set(address.user, address.secret())
        if address.scheme == "mqtts":
            client.tls_set_context(_trust(address.options.get("ca")))
        client.connect_timeout = CONNECT_S
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _connect(self, client: mqtt.Client) -> None:
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        kept: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        kept.SessionExpiryInterval = SESSION_S
        kept.ReceiveMaximum = IN_FLIGHT
        address = self._stream.address
        port = address.port or (8883 if address.scheme == "mqtts" else 1883)
        try:
            client.connect(str(address.host), port, KEEPALIVE_S, clean_start=False, properties=kept)
        except ssl.SSLError as err:
            raise InputRejected(
                f"the broker {address.host} shows a certificate that is not trusted here; check "
                "the host, or name the authority that signed it with ca=/path.pem"
            ) from err
        except OSError as err:
            raise Unavailable(
                f"the broker {address.host}:{port} cannot be reached; check the address, or try "
                "again later"
            ) from err

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, code: Any, _p: Any) -> None:
        if code.is_failure:
            self._refusal = (
                f"the broker {self._stream.address.host} refuses the connection ({code}); check "
                "the user in the address and secret="
            )
            return
        client.subscribe(self._stream.topic, qos=1)

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, codes: Any, _p: Any) -> None:
        if any(code.is_failure for code in codes):
            self._refusal = (
                f"the broker {self._stream.address.host} does not let us subscribe to "
                f"{self._stream.topic} ({codes[0]}); check the topic and what the user may read"
            )
        else:
            self._progress = replace(self._progress, connected=True)

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._came.append(message)


@contextmanager
def _owned(stream: Stream) -> Iterator[None]:
    """The folder, made where it is missing, for one collector and one stream only."""
    folder, mark = stream.folder, stream.mark()
    with reading(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = (folder / _LOCK).open("ab")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputRejected(
                f"another collector writes into {folder.name}; end that one, or choose another "
                "folder with into="
            ) from None
        with reading(folder):
            known = folder / _MARK
            if not known.exists():
                known.write_text(mark, encoding="utf-8")
            elif known.read_text(encoding="utf-8") != mark:
                raise InputRejected(
                    f"{folder.name} holds windows of another topic, width or form; choose another "
                    "folder with into="
                )
        yield


def _trust(authority: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError):
        raise InputRejected(
            "ca= names no file of certificates; give the path of a PEM file"
        ) from None


def _paho() -> ModuleType:
    try:
        import paho.mqtt.client
    except ImportError:
        raise InputRejected(
            "MQTT needs another package: pip install 'city-dataspace[mqtt]'"
        ) from None
    return paho.mqtt.client
