"""What PostgreSQL and its two drivers say went wrong, in our words; see `database_postgresql`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import adbc_driver_postgresql.dbapi as driver
import psycopg

from connectors.database import gone, writes
from connectors.errors import ConnectorError, InputRejected, Unavailable

TITLE: Final = "PostgreSQL"


@contextmanager
def told() -> Iterator[None]:
    """Turn errors of both drivers into ours. Their texts hold the statement and may hold values."""
    try:
        yield
    except psycopg.Error as err:
        raise error_of(err.sqlstate, str(err)) from None
    except driver.Error as err:
        raise error_of(err.sqlstate, str(err)) from None


def error_of(state: str | None, text: str = "") -> ConnectorError:
    """By SQLSTATE (PostgreSQL, appendix A); libpq's own errors, of connecting, have none."""
    code = state or ""
    if not code:
        return _connecting(text)
    if code == "25006" or code == "0A000":
        return writes()
    if code.startswith("28"):
        return _wrong_login()
    if code == "3D000":
        return InputRejected(f"{TITLE}: there is no such database on this server")
    if code in ("42P01", "3F000"):
        return InputRejected(
            f"{TITLE}: a table, view or schema that is named is not there; write schema.name as "
            "the database has it, upper and lower case too"
        )
    if code in ("42703", "42883"):
        return InputRejected(f"{TITLE}: the query names a column or function that is not there")
    if code == "42501":
        return InputRejected(
            f"{TITLE}: this account may not read that; run: GRANT SELECT ON … TO the account"
        )
    if code == "42601":
        return InputRejected(
            f"{TITLE}: query= is not one statement that {TITLE} understands; try it with psql"
        )
    if code[:2] in ("08", "40", "53", "55", "57", "58"):
        return Unavailable(
            f"{TITLE} is not able to answer now (SQLSTATE {code}): what came until then is not "
            "all; try again"
        )
    return InputRejected(f"{TITLE} refuses the query (SQLSTATE {code}); try it with psql")


def _connecting(text: str) -> ConnectorError:
    # libpq gives no code here, and servers speak the language they are set to.
    if any(word in text.lower() for word in ("authentication", "password", "pg_hba", "认证")):
        return _wrong_login()
    if "does not support SSL" in text:
        return InputRejected(
            f"{TITLE} does not encrypt there; switch it on, or, in a network of your own, write "
            "sslmode=disable"
        )
    if "certificate" in text:
        return InputRejected(
            f"{TITLE}: the certificate of the server is not one that is trusted; name the one "
            "that signed it by sslrootcert=/path"
        )
    if ("database" in text and "does not exist" in text) or "不存在" in text:
        return InputRejected(f"{TITLE}: there is no such database on this server")
    return Unavailable(
        f"{TITLE} does not answer; check host and port, and that the server lets this machine in"
    )


def _wrong_login() -> InputRejected:
    return InputRejected(
        f"{TITLE} refuses user or password; check the user in the address and what secret= names"
    )


def on_the_way(text: str) -> ConnectorError:
    """For an error among the rows, where ADBC gives no code: the server's own begins ERROR."""
    if "Execution error" not in text or "FATAL" in text.replace("PGRES_FATAL_ERROR", ""):
        return gone(TITLE)
    if "cancel" in text or "conflict with recovery" in text or "memory" in text:
        return gone(TITLE)
    if "read-only" in text or "read-write" in text:
        return writes()
    if "permission denied" in text:
        return error_of("42501")
    return InputRejected(
        f"{TITLE} could not compute the query for all rows (such as a division by zero, or text "
        "cast to a number); correct it, or leave those rows out"
    )
