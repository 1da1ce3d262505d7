"""SecretFlow's `spu` as an engine for intersections: a process with an interpreter of its own.

spu pins numpy below 2 and has wheels for one version of Python, so it never enters the node's
environment. The owner installs it beside (`docs/protocols/spu-engine.md`) and names that
interpreter in the setting `spu_python`. A run is one process of it (`spu_worker`) in a private
directory, which holds salted keys of the set and never an identifier, and goes with the run.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from dataspace.computing.spu_worker import (
    CERTIFICATE,
    COLUMN,
    INPUT,
    KEY,
    OUTPUT,
    Peer,
    Task,
)
from dataspace.errors import InputRejected
from privacy.engine import KEY_BYTES, KKRT, MAX_LINK_BYTES, RR22, EngineRun, EngineUnavailable
from privacy.errors import ProtocolViolation

log = structlog.get_logger("dataspace.spu")

WORKER = Path(__file__).with_name("spu_worker.py")
INSTALL = "python3.11 -m venv DIR && DIR/bin/pip install --no-deps spu==0.9.5"
KEY_LETTERS = KEY_BYTES * 4 // 3
# Clocks of two nodes may differ by as much.
CLOCK_SKEW = timedelta(minutes=10)
CONNECT_S = 60.0
VERSION_S = 30.0
# One line of the worker: a reason of at most 400 characters.
MAX_ANSWER_BYTES = 16_384


@dataclass(frozen=True)
class SpuPlace:
    """Where spu is, and how peers reach it.

    `python`: an interpreter that has spu. `directory`: private directories of runs are made there.
    `listen_host`: the address of ours to listen on, at a free port, while a run waits for its peer;
    `public_host`: how peers call that address. `deadline_s` is for a whole run, `silence_s` for the
    other side to be silent in between.
    """

    python: Path
    directory: Path
    listen_host: str = "127.0.0.1"
    public_host: str = "127.0.0.1"
    deadline_s: float = 300.0
    silence_s: float = 60.0


@functools.cache
def spu_version(python: Path) -> str:
    """Return the version of spu that `python` has. Raises InputRejected."""
    ask = "import importlib.metadata as m; print(m.version('spu'))"
    try:
        done = subprocess.run(
            [python, "-I", "-c", ask], capture_output=True, text=True, timeout=VERSION_S
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise InputRejected(
            f"spu_python: {python} is no interpreter that can be started", remedy=INSTALL
        ) from err
    if done.returncode:
        raise InputRejected(f"spu_python: {python} has no spu installed", remedy=INSTALL)
    return done.stdout.strip()


@dataclass(frozen=True)
class Link:
    """What the frame `engine/link` holds: version of spu, certificate, and where it listens."""

    version: str
    certificate: str
    host: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, payload: bytes, sender: str, *, listens: bool) -> Link:
        """Read a peer's. Raises ProtocolViolation."""
        try:
            link = cls(**json.loads(payload))
            _verify_link(link, listens=listens)
            certificate = x509.load_pem_x509_certificate(link.certificate.encode())
            # Written again, so that nothing beside the one certificate is passed on.
            pem = certificate.public_bytes(Encoding.PEM).decode()
        # RecursionError: what is nested too deeply to be read.
        except (ValueError, TypeError, RecursionError) as err:
            raise ProtocolViolation(f"{sender} sent a link to its engine that is none") from err
        return cls(link.version, pem, link.host, link.port)


def _verify_link(link: Link, *, listens: bool) -> None:
    texts = (link.version, link.certificate, link.host if listens else "")
    if len(link.version) > 32 or not all(isinstance(text, str) for text in texts):
        raise ValueError("a field of another type")
    if not listens and (link.host, link.port) != (None, None):
        raise ValueError("an address where none belongs")
    if listens and (type(link.port) is not int or not 1 <= link.port <= 65535):
        raise ValueError("a port out of range")


class SpuEngine:
    """One run of spu; `privacy.engine.PsiEngine` says what each method does.

    `verify_host` raises where an address must not be called (see `dataspace.identity.did`).
    """

    protocols = (RR22, KKRT)

    def __init__(self, place: SpuPlace, verify_host: Callable[[str], None]) -> None:
        self._place = place
        self._verify_host = verify_host
        self._version = spu_version(place.python)
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._listening: socket.socket | None = None
        self._worker: socket.socket | None = None
        self._run: EngineRun | None = None
        self._deadline = 0.0

    def prepare(self, run: EngineRun) -> bytes:
        if self._run is not None:
            raise EngineUnavailable("this engine has already been used; each run needs its own")
        self._run = run
        self._directory = Path(tempfile.mkdtemp(prefix="spu-", dir=self._place.directory))
        certificate, key = self_signed(datetime.now(UTC), self._place.deadline_s)
        (self._directory / CERTIFICATE).write_text(certificate)
        _write_private(self._directory / KEY, key)
        (self._directory / INPUT).write_bytes(encode_keys(run.keys))
        link = Link(self._version, certificate)
        if run.receives:
            self._listening = _listen(self._place.listen_host)
            port = self._listening.getsockname()[1]
            link = Link(self._version, certificate, self._place.public_host, port)
        self._start(run)
        payload = json.dumps(asdict(link)).encode()
        assert len(payload) <= MAX_LINK_BYTES
        return payload

    def _start(self, run: EngineRun) -> None:
        """Start the process, which loads spu while the frames are under way."""
        descriptor = self._listening.fileno() if self._listening else None
        task = Task(
            run.protocol,
            run.receives,
            len(run.keys),
            self._place.silence_s,
            min(CONNECT_S, self._place.silence_s),
            descriptor,
        )
        assert self._directory is not None
        self._worker, theirs = socket.socketpair()
        with theirs, (self._directory / "log").open("wb") as log_file:
            self._process = subprocess.Popen(
                [str(self._place.python), "-I", str(WORKER)],
                stdin=theirs.fileno(),
                stdout=log_file,
                stderr=log_file,
                cwd=self._directory,
                # Relative, because spu puts its path into a command of the shell: tail, sort.
                env={"TMPDIR": ".", "PATH": "/usr/bin:/bin"},
                # With whatever commands it runs, so that `close` ends them too.
                start_new_session=True,
                pass_fds=() if descriptor is None else (descriptor,),
            )
        if self._listening:
            # The worker has it; when that ends, the port is closed.
            self._listening.close()
        self._tell(asdict(task))

    def begin(self, peer_link: bytes) -> None:
        assert self._run is not None
        dials = not self._run.receives
        link = Link.parse(peer_link, self._run.peer, listens=dials)
        if link.version != self._version:
            raise EngineUnavailable(
                f"{self._run.peer} has spu {link.version}, this side {self._version}; "
                "both need the same"
            )
        host = self._resolve(link) if dials else None
        self._deadline = time.monotonic() + self._place.deadline_s
        self._tell(asdict(Peer(link.certificate, host, link.port)))

    def _resolve(self, link: Link) -> str:
        """Return an address of the peer's that may be called."""
        assert self._run is not None
        try:
            found = socket.getaddrinfo(link.host, link.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as err:
            raise EngineUnavailable(f"the engine of {self._run.peer} cannot be found") from err
        address = str(ipaddress.ip_address(str(found[0][4][0]).partition("%")[0]))
        # The address itself is verified and called, so that a name cannot mean another one later.
        self._verify_host(address)
        return address

    def _tell(self, fields: dict[str, Any]) -> None:
        assert self._worker is not None
        try:
            self._worker.sendall(json.dumps(fields).encode() + b"\n")
        except OSError:
            # It ended; `finished` will say how.
            log.warning("spu_ended_early")

    def finished(self, wait_s: float) -> bool:
        assert self._worker is not None
        left_s = self._deadline - time.monotonic()
        self._worker.settimeout(max(0.001, min(wait_s, left_s)))
        try:
            line = self._worker.recv(MAX_ANSWER_BYTES)
        except TimeoutError:
            if left_s > 0:
                return False
            raise EngineUnavailable(
                f"the engine did not end within {self._place.deadline_s:g} s"
            ) from None
        except OSError:
            line = b""
        self._read_answer(line)
        return True

    def _read_answer(self, line: bytes) -> None:
        """Raise EngineUnavailable unless the worker says that all went well."""
        assert self._process is not None
        assert self._run is not None
        if not line.endswith(b"\n"):
            code = self._process.wait(timeout=10)
            log.warning("spu_ended", code=code)
            raise EngineUnavailable(f"the engine ended with code {code} and without an answer")
        answer = json.loads(line)
        if answer["ok"]:
            return
        log.warning("spu_failed", fault=answer["fault"], reason=answer["reason"])
        raise EngineUnavailable(
            {
                "peer": f"the engine of {self._run.peer} left before it was done",
                "silence": f"the engine of {self._run.peer} was silent for too long",
            }.get(answer["fault"], "the engine failed; this node's log says why")
        )

    def common(self) -> list[bytes]:
        assert self._directory is not None
        return parse_keys((self._directory / OUTPUT).read_text())

    def close(self) -> None:
        for opened in (self._listening, self._worker):
            if opened is not None:
                opened.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def encode_keys(keys: Sequence[bytes]) -> bytes:
    """Write keys as the CSV file that spu reads: 16 characters of base64 each."""
    letters = base64.b64encode(b"".join(keys))
    lines = bytearray(b"\n") * (len(keys) * (KEY_LETTERS + 1))
    # Letter by letter of all lines: sixteen copies instead of a million.
    for at in range(KEY_LETTERS):
        lines[at :: KEY_LETTERS + 1] = letters[at::KEY_LETTERS]
    return COLUMN.encode() + b"\n" + lines


def parse_keys(text: str) -> list[bytes]:
    """Read the keys of the CSV file that spu wrote. Raises EngineUnavailable."""
    header, _, lines = text.replace('"', "").partition("\n")
    try:
        blob = base64.b64decode(lines.replace("\n", ""), validate=True)
    except ValueError as err:
        raise EngineUnavailable("the engine wrote what is no key") from err
    if header != COLUMN or len(blob) % KEY_BYTES:
        raise EngineUnavailable("the engine wrote what are no keys")
    return [blob[start : start + KEY_BYTES] for start in range(0, len(blob), KEY_BYTES)]


def _listen(host: str) -> socket.socket:
    """Listen at a free port of `host`. Raises EngineUnavailable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, 0), family=family)
    except OSError as err:
        raise EngineUnavailable("this node's engine cannot listen on its address") from err


def self_signed(now: datetime, lifetime_s: float) -> tuple[str, str]:
    """Return a certificate for one run and its key, both PEM. EC P-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "engine")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(seconds=lifetime_s) + CLOCK_SKEW)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return certificate.public_bytes(Encoding.PEM).decode(), pem
