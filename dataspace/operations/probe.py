"""Asks this machine's node whether it lives; for a container's health check, which has no curl.

    python -m dataspace.operations.probe [/health|/ready]

Ends with 0 or 1. The home is `DATASPACE_HOME`; only its port is read, so that no passphrase is
needed.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from pathlib import Path

from dataspace.errors import InputRejected
from dataspace.home import Home

TIMEOUT_S = 4.0


def probe(home: Path, path: str) -> bool:
    """Whether the node of this home answers 200 at `path`."""
    settings = Home(home).settings
    if settings.port is None:
        return False
    host = settings.host if settings.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104
    connection: http.client.HTTPConnection
    if settings.tls_certificate is not None:
        # It is asked at an address of this machine, which its certificate does not name; nothing
        # is told it and nothing but a status believed.
        trust = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(
            host, settings.port, timeout=TIMEOUT_S, context=trust
        )
    else:
        connection = http.client.HTTPConnection(host, settings.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> int:
    """The command."""
    path = sys.argv[1] if len(sys.argv) > 1 else "/health"
    try:
        well = probe(Path(os.environ.get("DATASPACE_HOME", "node")), path)
    except InputRejected as err:
        sys.stderr.write(f"{err}\n")
        return 1
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
