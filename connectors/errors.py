"""What can go wrong while reading a source, by whose fault. No message ever holds a row value."""

from __future__ import annotations


class ConnectorError(Exception):
    """Any failure this library reports on purpose."""


class InputRejected(ConnectorError):
    """The user's configuration or data cannot be used; the message says what to change."""


class Unavailable(ConnectorError):
    """The source did not answer this time. Trying again later is right."""
