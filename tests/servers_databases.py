"""A PostgreSQL and a MariaDB for tests, each with a database `city`, an owner and a reader."""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.servers import (
    START_S,
    free_port,
    program,
    run_as,
    running,
    server_directory,
    unprivileged,
)


@dataclass(frozen=True)
class Database:
    """A running database server with a database `city`.

    `owner` may do everything there and `reader` only read; their passwords lie in files that only
    we may read. `directory` is where the server keeps all it has.
    """

    scheme: str
    port: int
    directory: Path
    process: subprocess.Popen[bytes]
    secrets: Path

    def url(self, options: str, *, user: str = "reader") -> str:
        """The address of a source in it: `options` are such as `table=people`."""
        secret = quote(f"file:{self.secrets / user}", safe=":/")
        return f"{self.scheme}://{user}@127.0.0.1:{self.port}/city?secret={secret}&{options}"

    def password(self, user: str) -> str:
        return (self.secrets / user).read_text(encoding="utf-8")


@contextmanager
def postgresql() -> Iterator[Database]:
    """A PostgreSQL server of our own; skips the test where there is none to start."""
    debian = sorted(glob("/usr/lib/postgresql/*/bin"), key=_version_in, reverse=True)
    told = {"package": "postgresql", "title": "PostgreSQL's server", "also_in": debian}
    initdb, postgres = program("initdb", **told), program("postgres", **told)
    user = unprivileged("postgres")
    with server_directory("postgresql", user=user) as directory, _secrets() as kept:
        port, data = free_port(), directory / "data"
        superuser = directory / "superuser"
        superuser.write_text(_password(kept, "postgres"), encoding="utf-8")
        superuser.chmod(0o600)
        if user is not None:
            shutil.chown(superuser, user)
        run_as(
            [
                initdb,
                *f"--pgdata {data} --username postgres --pwfile {superuser}".split(),
                *"--auth scram-sha-256 --encoding UTF8 --locale C.UTF-8 --no-sync".split(),
            ],
            directory=directory,
            user=user,
        )
        arguments = [postgres, "-D", str(data), "-p", str(port)]
        for setting in (
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={directory}",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "max_connections=40",
            "shared_buffers=64MB",
        ):
            arguments += ["-c", setting]
        # SIGINT ends it without waiting for the connections that a failed test left open.
        with running(
            arguments, directory=directory, port=port, user=user, stop_by=signal.SIGINT
        ) as process:
            server = Database("postgresql", port, directory, process, kept)
            _found_postgresql(server)
            yield server


def connect_postgresql(server: Database, user: str = "owner", database: str = "city") -> Any:
    """A connection that commits every statement."""
    import psycopg

    return psycopg.connect(
        host="127.0.0.1",
        port=server.port,
        user=user,
        password=server.password(user),
        dbname=database,
        autocommit=True,
    )


def _found_postgresql(server: Database) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            connection = connect_postgresql(server, "postgres", "postgres")
            break
        except Exception:
            # It listens a moment before it lets anybody in.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    with connection:
        for role in ("owner", "reader"):
            password = _password(server.secrets, role)
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        connection.execute("CREATE DATABASE city OWNER owner TEMPLATE template0")
    with connect_postgresql(server) as connection:
        connection.execute(
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader; "
            "ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO reader"
        )


@contextmanager
def mariadb() -> Iterator[Database]:
    """A MariaDB server of our own; skips the test where there is none to start."""
    told = {"package": "mariadb-server", "title": "MariaDB's server"}
    install, mariadbd = program("mariadb-install-db", **told), program("mariadbd", **told)
    user = unprivileged("mysql")
    with server_directory("mariadb", user=user) as directory, _secrets() as kept:
        port, data = free_port(), directory / "data"
        run_as(
            [
                install,
                "--no-defaults",
                f"--datadir={data}",
                "--auth-root-authentication-method=normal",
                *"--skip-test-db --skip-name-resolve --innodb-log-file-size=16M".split(),
            ],
            directory=directory,
            user=user,
        )
        arguments = [mariadbd, "--no-defaults", f"--datadir={data}", f"--port={port}"]
        arguments += [f"--socket={directory / 'socket'}", f"--pid-file={directory / 'pid'}"]
        arguments += "--bind-address=127.0.0.1 --innodb-flush-log-at-trx-commit=0".split()
        arguments += "--innodb-log-file-size=16M --skip-name-resolve --skip-log-bin".split()
        with running(arguments, directory=directory, port=port, user=user) as process:
            server = Database("mariadb", port, directory, process, kept)
            _found_mariadb(server)
            yield server


def connect_mariadb(server: Database, user: str = "owner", database: str | None = "city") -> Any:
    """A connection that commits every statement."""
    import pymysql

    return pymysql.connect(
        host="127.0.0.1",
        port=server.port,
        user=user,
        password=server.password(user),
        database=database,
        charset="utf8mb4",
        autocommit=True,
    )


def _found_mariadb(server: Database) -> None:
    (server.secrets / "root").write_text("", encoding="utf-8")
    with connect_mariadb(server, "root", None) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE city CHARACTER SET utf8mb4")
        for role, rights in (("owner", "ALL"), ("reader", "SELECT")):
            password = _password(server.secrets, role)
            cursor.execute(f"CREATE USER {role}@'127.0.0.1' IDENTIFIED BY '{password}'")
            cursor.execute(f"GRANT {rights} ON city.* TO {role}@'127.0.0.1'")
        cursor.execute(f"SET PASSWORD = PASSWORD('{_password(server.secrets, 'root')}')")


@contextmanager
def _secrets() -> Iterator[Path]:
    with server_directory("secrets") as path:
        yield path


def _password(secrets_directory: Path, user: str) -> str:
    path = secrets_directory / user
    path.write_text(secrets.token_urlsafe(18), encoding="utf-8")
    path.chmod(0o600)
    return path.read_text(encoding="utf-8")


def _version_in(path: str) -> int:
    return int("".join(part for part in path.split("/") if part.isdecimal()) or 0)
