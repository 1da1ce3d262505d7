"""The node's log: one event a line on standard error, with the trace it belongs to.

Events carry organisations, ids and states. What must never be in a line is kept out where it is
written; here is the second fence, which covers what looks like a key or a token, and the letters
that would let a peer's text command a terminal or forge a line.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog

from dataspace.operations.tracing import current
from dataspace.settings import LogFormat, LogLevel

LEVELS: Final = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}
COVERED = "(covered)"
# A JWT or JWS, whole or two parts of it; a bearer token; a key to the node's own API; a password in
# an address; a PEM block.
_SECRET = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]+)?"
    r"|(?i:bearer)\s+[\w.~+/=-]{8,}"
    r"|dsk_[a-z2-7]{8}_[\w-]{43}"
    r"|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|$)",
    re.DOTALL,
)
# What may come before a secret at all; looking for these is ten times as quick.
_SIGNS = ("eyJ", "earer", "EARER", "dsk_", "://", "-----BEGIN")
# Fields of these names are never shown, whoever writes them.
_NEVER = frozenset({"token", "authorization", "password", "passphrase", "secret", "api_key"})
MAX_TEXT = 4000

Event = MutableMapping[str, Any]


def add_trace(_: object, __: str, event: Event) -> Event:
    """The trace, and what is known of the work: process, computation, agreement."""
    trace = current()
    if trace is not None:
        for name, value in trace.fields.items():
            event.setdefault(name, value)
        event.setdefault("trace", trace.parent.trace_id)
        event.setdefault("span", trace.parent.span_id)
    return event


def cover_secrets(_: object, __: str, event: Event) -> Event:
    """Cover what looks like a key or a token, also in the text of a traceback."""
    for name, value in event.items():
        if name in _NEVER:
            event[name] = COVERED
        elif isinstance(value, str):
            event[name] = covered(value)
    return event


def covered(text: str) -> str:
    """`text` without what looks like a secret, and not longer than a line should be."""
    if any(sign in text for sign in _SIGNS):
        text = _SECRET.sub(COVERED, text)
    if len(text) <= MAX_TEXT:
        return text
    # A traceback begins with the server's own frames; what went wrong stands at its end.
    return f"{text[: MAX_TEXT // 4]}…{text[-(MAX_TEXT - MAX_TEXT // 4) :]}"


def configure_logging(
    level: LogLevel = LogLevel.INFO,
    form: LogFormat = LogFormat.AUTO,
    *,
    stream: TextIO | None = None,
) -> None:
    """Have events from `level` on written in this form; by default for people on a terminal, JSON
    otherwise. What libraries log from WARNING on takes the same way."""
    written = stream or sys.stderr
    text = form is LogFormat.TEXT or (form is LogFormat.AUTO and written.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=written.isatty())
        if text
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    before: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_trace,
        structlog.processors.format_exc_info,
        cover_secrets,
    ]
    structlog.configure(
        processors=[*before, renderer],
        logger_factory=structlog.PrintLoggerFactory(file=written),
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
    )
    handler = logging.StreamHandler(written)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # A record's own traceback is formatted after the chain above.
                cover_secrets,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(LEVELS[level], logging.WARNING))
