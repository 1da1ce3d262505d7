"""One run of SecretFlow's `spu`: a program of its own, for the interpreter that has spu installed.

    PYTHON_WITH_SPU -I spu_worker.py        in the private directory of the run

It needs that interpreter, the standard library and spu's two extension modules, nothing of ours;
`dataspace.computing.spu_engine` starts it and is the only one who does. What it is told comes as
two lines of JSON on standard input: first the `Task`, at once, then the `Peer`, when that is known.
When standard input, a socket, ends, its owner is gone, and it removes the directory and ends. It
answers with one line of JSON there: {"ok": true} or {"ok": false, "fault": ..., "reason": ...}.

The link. spu's own TLS does not keep strangers out: its server takes messages in the clear on the
same port (brpc's `force_ssl` is off and cannot be set). So spu speaks here over two Unix sockets in
the private directory, and this program carries them over TLS 1.3 to the peer, each side accepting
exactly the certificate of the other that came through the session. All connections are made by the
party that does not listen, three of them: one for each direction of spu's calls, and one that says
"done", so that whose peer vanishes learns it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import json
import os
import resource
import shutil
import socket
import ssl
import sys
import threading
import time
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

OWN_SOCKET, PEER_SOCKET = "own", "peer"
INPUT, OUTPUT = "own.csv", "common.csv"
CERTIFICATE, KEY = "certificate.pem", "key.pem"
COLUMN = "key"

# Standard input is a socket and goes both ways: spu writes its log to the other two.
OWNER = 0

# What a connection is for: its first byte.
TO_LISTENER, TO_DIALLER, CONTROL = b"L", b"D", b"C"
DONE = b"done"

HANDSHAKE_S = 10.0
# Strangers may knock at the port; so many handshakes at once and no more.
MAX_HANDSHAKES = 16
PUMP_BYTES = 256 * 1024
# Between the end of the work and that of the link: the last acknowledgements.
LAST_WORDS_S = 30.0


@dataclass(frozen=True)
class Task:
    """What to compute. `descriptor`: the inherited listening socket, of the party that listens."""

    protocol: str
    receives: bool
    rows: int
    silence_s: float
    connect_s: float
    descriptor: int | None


@dataclass(frozen=True)
class Peer:
    """Whom to compute it with: its certificate (PEM), and its address unless we listen."""

    certificate: str
    host: str | None
    port: int | None


def answer(**fields: object) -> NoReturn:
    """Say the one thing there is to say, and end. Threads of spu's do not end by themselves."""
    os.write(OWNER, json.dumps(fields).encode() + b"\n")
    os._exit(0 if fields.get("ok") else 1)


def fail(fault: str, reason: str) -> NoReturn:
    """End with `fault`, one of "peer", "silence", "engine"."""
    answer(ok=False, fault=fault, reason=reason)


# --- The link -------------------------------------------------------------------------------------


def tls_context(peer: Peer, *, server: bool) -> ssl.SSLContext:
    """TLS 1.3 with our certificate, trusting that of the peer and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The certificate is pinned, so a name would add nothing.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_cert_chain(CERTIFICATE, KEY)
    context.load_verify_locations(cadata=peer.certificate)
    return context


class Tunnel:
    """Carries spu's two Unix sockets, and the word "done", to the peer. Lives in its own thread.

    Whatever ends a connection before `finish` was called ends the program.
    """

    def __init__(self, task: Task, peer: Peer) -> None:
        self._task = task
        self._peer = peer
        self._pinned = ssl.PEM_cert_to_DER_cert(peer.certificate)
        self._loop = asyncio.new_event_loop()
        self._streams: dict[bytes, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}
        self._all_here = asyncio.Event()
        self._welcomes: set[asyncio.Task[None]] = set()
        self._connected = threading.Event()
        self._finishing = False
        self._peer_done = threading.Event()
        self._heard_at = 0.0

    def open(self) -> None:
        """Return when the peer is connected; end the program when it is not in time."""
        threading.Thread(target=self._run, daemon=True).start()
        if not self._connected.wait(self._task.connect_s):
            fail("silence", f"no link came about in {self._task.connect_s:g} s")

    def finish(self) -> None:
        """Tell the peer that all is received, and wait until it says so too."""
        self._finishing = True
        # Written, not only asked for: the program ends as soon as the peer's word is here.
        asyncio.run_coroutine_threadsafe(self._say_done(), self._loop).result(LAST_WORDS_S)
        if not self._peer_done.wait(LAST_WORDS_S):
            fail("silence", "the other side did not end the link")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._carry())
        except (OSError, asyncio.IncompleteReadError) as err:
            self._broken(type(err).__name__)

    async def _carry(self) -> None:
        outgoing: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        outgoing = asyncio.Queue()
        # spu's client finds its peer here before anybody else does, so it never has to try again.
        await asyncio.start_unix_server(
            lambda *stream: outgoing.put_nowait(stream), PEER_SOCKET, limit=PUMP_BYTES
        )
        if self._task.descriptor is None:
            await self._dial()
        else:
            await self._listen(socket.socket(fileno=self._task.descriptor))
        self._connected.set()
        ours, theirs = (
            (TO_LISTENER, TO_DIALLER)
            if self._task.descriptor is None
            else (TO_DIALLER, TO_LISTENER)
        )
        await asyncio.gather(
            self._carry_out(outgoing, self._streams[ours]),
            self._carry_in(self._streams[theirs]),
            self._hear_done(self._streams[CONTROL][0]),
            self._watch(),
        )

    async def _dial(self) -> None:
        context = tls_context(self._peer, server=False)
        for purpose in (CONTROL, TO_LISTENER, TO_DIALLER):
            reader, writer = await asyncio.open_connection(
                self._peer.host,
                self._peer.port,
                ssl=context,
                server_hostname="engine",
                ssl_handshake_timeout=HANDSHAKE_S,
                limit=PUMP_BYTES,
            )
            self._verify_pinned(writer)
            writer.write(purpose)
            self._streams[purpose] = (reader, writer)

    async def _listen(self, listening: socket.socket) -> None:
        context = tls_context(self._peer, server=True)
        # Nobody resumes a session here, and an unread ticket would turn a close into a reset.
        context.num_tickets = 0
        listening.setblocking(False)
        free = asyncio.Semaphore(MAX_HANDSHAKES)
        accepting = asyncio.create_task(self._accept(listening, context, free))
        await self._all_here.wait()
        # The port is closed as soon as the peer is here.
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
        listening.close()

    async def _accept(
        self, listening: socket.socket, context: ssl.SSLContext, free: asyncio.Semaphore
    ) -> None:
        while True:
            await free.acquire()
            connection, _ = await self._loop.sock_accept(listening)
            self._welcomes.add(asyncio.create_task(self._welcome(connection, context, free)))

    async def _welcome(
        self, connection: socket.socket, context: ssl.SSLContext, free: asyncio.Semaphore
    ) -> None:
        """Take a connection of the peer, one for each purpose. Others never get past TLS."""
        reader = asyncio.StreamReader(limit=PUMP_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=context, ssl_handshake_timeout=HANDSHAKE_S
            )
            writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            self._verify_pinned(writer)
            purpose = await asyncio.wait_for(reader.readexactly(1), HANDSHAKE_S)
            if purpose in self._streams or purpose not in (CONTROL, TO_LISTENER, TO_DIALLER):
                raise ConnectionError("a second connection for one purpose")
        except (OSError, asyncio.IncompleteReadError):
            connection.close()
            return
        finally:
            free.release()
        self._streams[purpose] = (reader, writer)
        if len(self._streams) == 3:
            self._all_here.set()

    def _verify_pinned(self, writer: asyncio.StreamWriter) -> None:
        # The pinned certificate itself, not one that its key has signed.
        if writer.get_extra_info("ssl_object").getpeercert(binary_form=True) != self._pinned:
            raise ConnectionError("another certificate")

    async def _carry_out(
        self,
        outgoing: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
        link: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Our spu calls the peer's."""
        reader, writer = await outgoing.get()
        await self._join((reader, writer), link)

    async def _carry_in(self, link: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """The peer's spu calls ours, whose server may not have begun yet."""
        first = await link[0].read(PUMP_BYTES)
        while not Path(OWN_SOCKET).exists():
            await asyncio.sleep(0.005)
        while True:
            try:
                own = await asyncio.open_unix_connection(OWN_SOCKET, limit=PUMP_BYTES)
                break
            except ConnectionRefusedError:
                # Bound and not listening yet.
                await asyncio.sleep(0.005)
        own[1].write(first)
        await self._join(own, link)

    async def _join(
        self,
        one: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        other: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Carry both ways between one of spu's sockets and one of the peer's connections."""
        await asyncio.gather(self._pump(one[0], other[1]), self._pump(other[0], one[1]))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A peer that is done may reset what it has not read; then the word "done" still counts.
        with contextlib.suppress(OSError):
            while data := await reader.read(PUMP_BYTES):
                self._heard_at = self._loop.time()
                writer.write(data)
                await writer.drain()
        self._broken("a connection ended")

    async def _watch(self) -> None:
        """End when nothing comes or goes: spu says something every five seconds as it works."""
        self._heard_at = self._loop.time()
        while not self._finishing:
            await asyncio.sleep(0.5)
            if self._loop.time() - self._heard_at > self._task.silence_s:
                fail("silence", f"nothing was heard for {self._task.silence_s:g} s")

    async def _say_done(self) -> None:
        writer = self._streams[CONTROL][1]
        writer.write(DONE)
        await writer.drain()

    async def _hear_done(self, reader: asyncio.StreamReader) -> None:
        word = await reader.read(len(DONE))
        if word != DONE:
            fail("peer", "the other side left before it was done")
        self._peer_done.set()

    def _broken(self, what: str) -> None:
        """A connection is gone: that is the end, unless the end is what we are waiting for."""
        if not self._finishing:
            fail("peer", f"the other side left before it was done ({what})")


# --- spu ------------------------------------------------------------------------------------------


def load_spu() -> tuple[Any, Any]:
    """Return spu's two extension modules, without its package.

    `import spu` brings in jax and numpy (350 ms, 100 MB), which an intersection has no use for.
    """
    found = importlib.util.find_spec("spu")
    if found is None or found.submodule_search_locations is None:
        fail("engine", "spu is not installed in this interpreter")
    package = types.ModuleType("spu")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["spu"] = package
    return importlib.import_module("spu.libspu"), importlib.import_module("spu.libpsi")


def link_of(libspu: Any, task: Task) -> Any:
    """Connect spu through the tunnel. The receiver is number 0."""
    description = libspu.link.Desc()
    hosts = [f"unix:{OWN_SOCKET}", f"unix:{PEER_SOCKET}"]
    for name, host in zip(
        ("receiver", "sender"), hosts if task.receives else hosts[::-1], strict=True
    ):
        description.add_party(name, host)
    # The tunnel notices silence first, and can say so: spu aborts the process.
    description.recv_timeout_ms = int(2000 * task.silence_s)
    description.http_timeout_ms = int(2000 * task.silence_s)
    description.connect_retry_times = 5
    description.connect_retry_interval_ms = 100
    link = libspu.link.create_brpc(description, 0 if task.receives else 1)
    # An intersection begins by connecting again, under the same message keys; a second message that
    # comes before the first one was read is dropped, and its reader waits for ever.
    link.barrier()
    return link


def configuration(libpsi: Any, task: Task) -> Any:
    """An intersection that only number 0 learns, file to file."""
    protocols = {
        "rr22": libpsi.PsiProtocol.PROTOCOL_RR22,
        "kkrt": libpsi.PsiProtocol.PROTOCOL_KKRT,
    }
    return libpsi.PsiExecuteConfig(
        protocol_conf=libpsi.PsiProtocolConfig(
            protocol=protocols[task.protocol], receiver_rank=0, broadcast_result=False
        ),
        input_params=libpsi.InputParams(
            path=f"./{INPUT}", selected_keys=[COLUMN], keys_unique=True
        ),
        output_params=libpsi.OutputParams(path=f"./{OUTPUT}", disable_alignment=True),
    )


def limit_resources(rows: int) -> None:
    """What a peer may make spu do here is bounded, and no core file shows the rows."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Its files are about the size of its input; a peer could claim any number of repetitions.
    file_bytes = 64 * 1024 * 1024 + 512 * rows
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))


def remove_traces(since: float) -> None:
    """Remove the record of timings that spu leaves in /tmp, whatever TMPDIR says.

    The one of this process holds its number, as a protocol buffer's first field.
    """
    number, left = bytearray(b"\x08"), os.getpid()
    while left > 127:
        number.append(left & 127 | 128)
        left >>= 7
    number.append(left)
    for path in Path("/tmp").glob("psi_*.trace"):  # noqa: S108
        try:
            status = path.lstat()
            mine = status.st_uid == os.getuid() and status.st_mtime >= since - 1
            if mine and bytes(number) in path.read_bytes():
                path.unlink()
        except OSError:
            continue


def watch_owner() -> None:
    """End with the process that started us, and leave nothing behind."""
    sys.stdin.buffer.read()
    shutil.rmtree(Path.cwd(), ignore_errors=True)
    os._exit(2)


def main() -> None:
    task = Task(**json.loads(sys.stdin.buffer.readline()))
    limit_resources(task.rows)
    libspu, libpsi = load_spu()
    line = sys.stdin.buffer.readline()
    if not line:
        watch_owner()
    threading.Thread(target=watch_owner, daemon=True).start()
    tunnel = Tunnel(task, Peer(**json.loads(line)))
    tunnel.open()
    Path(KEY).unlink()
    began = time.time()
    try:
        link = link_of(libspu, task)
        libpsi.psi_execute(configuration(libpsi, task), link)
        link.stop_link()
    except Exception as err:
        # spu has one exception for everything; what it says goes to the owner's log.
        fault = "silence" if "timeout" in str(err) else "engine"
        fail(fault, str(err)[:400])
    finally:
        remove_traces(began)
    tunnel.finish()
    answer(ok=True)


if __name__ == "__main__":
    main()
