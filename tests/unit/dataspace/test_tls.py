"""A node shows its certificate, reads a renewed one by itself, and trusts whom it is told to."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dataspace.errors import InputRejected
from dataspace.settings import Settings
from dataspace.tls import ServerCertificate, client_trust
from tests.authority import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextmanager
def shaking_hands(context: ssl.SSLContext) -> Iterator[int]:
    """A port at which every connection gets a handshake and nothing else."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            while True:
                try:
                    raw, _ = listening.accept()
                except OSError:
                    return
                with raw:
                    try:
                        context.wrap_socket(raw, server_side=True).close()
                    except OSError:
                        continue

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def met(port: int, trust: ssl.SSLContext, name: str = "localhost") -> tuple[str, bytes]:
    """The version spoken and the certificate shown at this port."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
        trust.wrap_socket(raw, server_hostname=name) as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
        assert shown is not None
        return str(secured.version()), shown


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def replaced(by: tuple[Path, Path], files: tuple[Path, Path]) -> None:
    for new, old in zip(by, files, strict=True):
        os.replace(new, old)


def test_a_renewed_certificate_is_shown_without_a_restart(authority: Authority) -> None:
    files = authority.issue()
    served, trust = ServerCertificate(*files), client_trust(authority.path)
    with shaking_hands(served.context) as port:
        assert met(port, trust) == ("TLSv1.3", der(files[0]))
        assert not served.reload_if_changed()
        replaced(authority.issue("renewed"), files)
        assert served.reload_if_changed()
        assert met(port, trust)[1] == der(files[0])


def test_half_a_renewal_changes_nothing_until_the_other_half_is_there(
    authority: Authority,
) -> None:
    files = authority.issue()
    before = der(files[0])
    served, trust = ServerCertificate(*files), client_trust(authority.path)
    certificate, key = authority.issue("renewed")
    with shaking_hands(served.context) as port:
        os.replace(certificate, files[0])
        with pytest.raises(InputRejected, match="cannot be used"):
            served.reload_if_changed()
        assert met(port, trust)[1] == before
        os.replace(key, files[1])
        assert served.reload_if_changed()
        assert met(port, trust)[1] == der(files[0])


def test_a_peer_whose_authority_or_name_is_another_is_not_spoken_to(
    authority: Authority, tmp_path: Path
) -> None:
    served = ServerCertificate(*authority.issue())
    other = Authority(tmp_path, "somebody else")
    with shaking_hands(served.context) as port:
        for trust, name in (
            (client_trust(other.path), "localhost"),
            (client_trust(None), "localhost"),
            (client_trust(authority.path), "node.example"),
        ):
            with pytest.raises(ssl.SSLCertVerificationError):
                met(port, trust, name)


def test_old_versions_and_ciphers_without_forward_secrecy_are_not_spoken(
    authority: Authority,
) -> None:
    served = ServerCertificate(*authority.issue())
    with shaking_hands(served.context) as port:
        older = client_trust(authority.path)
        older.maximum_version = ssl.TLSVersion.TLSv1_2
        assert met(port, older)[0] == "TLSv1.2"
        static = client_trust(authority.path)
        static.maximum_version = ssl.TLSVersion.TLSv1_2
        static.set_ciphers("AES128-GCM-SHA256:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError):
            met(port, static)
    oldest = client_trust(authority.path)
    assert oldest.minimum_version is ssl.TLSVersion.TLSv1_2
    assert served.context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_key_that_others_can_read_is_refused(authority: Authority) -> None:
    certificate, key = authority.issue()
    key.chmod(0o640)
    with pytest.raises(InputRejected, match="can be read by others") as refused:
        ServerCertificate(certificate, key)
    assert "chmod 600" in str(refused.value.remedy)


def test_a_key_under_a_passphrase_is_refused_and_nobody_is_asked(
    authority: Authority, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization

    certificate, key = authority.issue()
    opened = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        opened.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(InputRejected, match="passphrase"):
        ServerCertificate(certificate, key)


def test_a_certificate_without_its_key_is_no_setting(authority: Authority) -> None:
    certificate, _ = authority.issue()
    settings = Settings(name="n", kind="consumer", tls_certificate=certificate)
    with pytest.raises(InputRejected, match="belong together"):
        ServerCertificate.of(settings)
    assert ServerCertificate.of(Settings(name="n", kind="consumer")) is None


def test_what_is_no_file_of_authorities_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(InputRejected, match="tls_ca"):
        client_trust(tmp_path / "ca.pem")
