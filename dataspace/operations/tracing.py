"""Which piece of work this is part of: across threads, restarts and nodes.

The form is W3C Trace Context (`traceparent`). What comes from outside is good for one thing, to
find lines that belong together: nobody is let in, no limit is lifted and nothing is recorded or
left out because of it. Its flags are not read.

A trace is entered where work comes from: a request (`dataspace.operations.watching`) or a durable
process, whose row carries the trace of the request that scheduled it. `span` measures a part of it
where the owner has asked for spans, and is nothing where not.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from dataspace.errors import InputRejected

if TYPE_CHECKING:
    from dataspace.settings import Settings

TRACEPARENT = "traceparent"
# Version 00 has 55 letters; a later version may add to them, within reason.
MAX_LETTERS = 128
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_NOTHING: Mapping[str, str] = {}

# What an attribute of a span may be: names, states, counts of messages; never data.
Attribute = str | int | float | bool
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Parent:
    """The work that another piece of work is part of, by its ids in lower-case hex."""

    trace_id: str
    span_id: str

    def to_header(self, *, recorded: bool = False) -> str:
        """The `traceparent` header that names this as the parent."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if recorded else '00'}"


class Span(Protocol):
    """A piece of work under way, as the owner's collector will be told of it."""

    @property
    def parent(self) -> Parent:
        """What parts of it name as their parent."""

    def note(self, **attributes: Attribute) -> None:
        """Add what became known meanwhile."""

    def end(self, *, error: str | None = None, at: float | None = None) -> None:
        """It is over, now or at `at`; `error` is the name of the error's class."""


class Spans(Protocol):
    """Where spans go."""

    def begin(
        self,
        name: str,
        parent: Parent | None,
        attributes: Mapping[str, Attribute],
        *,
        at: float | None = None,
        remote: bool = False,
    ) -> Span:
        """A span that begins now, or at `at` (UNIX seconds); the first of a trace without
        `parent`. `remote`: the parent is at another node."""

    def close(self) -> None:
        """Send what waits, as long as the collector answers, and take no more."""


@dataclass(frozen=True)
class Trace:
    """Where this thread or task is in a trace, and what its log lines say besides."""

    parent: Parent
    spans: Spans | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


class _NoSpan:
    """The span where nobody asked for any."""

    parent = Parent("0" * 32, "0" * 16)

    def note(self, **attributes: Attribute) -> None:
        pass

    def end(self, *, error: str | None = None, at: float | None = None) -> None:
        pass


NO_SPAN: Span = _NoSpan()


def spans_of(settings: Settings, *, did: str) -> Spans | None:
    """Where the node of this DID sends its spans; None where its settings name no collector.

    Raises InputRejected where the extra is not installed.
    """
    if settings.otel_endpoint is None:
        return None
    try:
        # The SDK takes a fifth of a second to import, and few nodes have a collector.
        from dataspace.operations.spans import OtlpSpans
    except ImportError as err:
        raise InputRejected(
            "otel_endpoint is set, and what sends spans is not installed",
            remedy="install city-dataspace[otel], or remove the setting",
        ) from err
    return OtlpSpans(
        settings.otel_endpoint, did=did, instance=f"{socket.gethostname()}:{os.getpid()}"
    )


def parse_traceparent(text: str | None) -> Parent | None:
    """The parent that a header names; None for one that is not there or not of the form."""
    if text is None or len(text) > MAX_LETTERS:
        return None
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, _, more = found.groups()
    if (
        version == "ff"
        or (version == "00" and more)
        or not (int(trace_id, 16) and int(span_id, 16))
    ):
        return None
    return Parent(trace_id, span_id)


def new_parent() -> Parent:
    """The beginning of a trace of our own."""
    ids = os.urandom(24).hex()
    return Parent(ids[:32], ids[32:])


def current() -> Trace | None:
    """The trace this thread or task is in."""
    return _current.get()


def outgoing() -> str | None:
    """The header for a request that this thread makes."""
    trace = _current.get()
    return None if trace is None else trace.parent.to_header(recorded=trace.spans is not None)


def enter(trace: Trace) -> None:
    """Be in `trace` until this task ends: for a request, whose task is its own."""
    _current.set(trace)


@contextmanager
def within_trace(trace: Trace) -> Iterator[None]:
    """Be in `trace` for the block."""
    before = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(before)


@contextmanager
def about(**fields: str | None) -> Iterator[None]:
    """Say these in every log line of the block; those that are None are left out."""
    trace = _current.get() or Trace(new_parent())
    known = {name: value for name, value in fields.items() if value}
    with within_trace(replace(trace, fields={**trace.fields, **known})):
        yield


@contextmanager
def span(name: str, **attributes: Attribute) -> Iterator[Span]:
    """Measure the block as a part of the trace this thread is in; nothing where none is kept."""
    trace = _current.get()
    if trace is None or trace.spans is None:
        yield NO_SPAN
        return
    opened = trace.spans.begin(name, trace.parent, attributes)
    before = _current.set(replace(trace, parent=opened.parent))
    try:
        yield opened
    except BaseException as err:
        opened.end(error=type(err).__name__)
        raise
    else:
        opened.end()
    finally:
        _current.reset(before)


def record(name: str, began: float, **attributes: Attribute) -> None:
    """A span that ends now and began at `began` (UNIX seconds): for what no single block is."""
    trace = _current.get()
    if trace is not None and trace.spans is not None:
        trace.spans.begin(name, trace.parent, attributes, at=began).end()


def recording() -> bool:
    """Whether spans of this thread are kept, so that measuring is worth while."""
    trace = _current.get()
    return trace is not None and trace.spans is not None


def in_this_trace(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, to be run by another thread in the trace this one is in."""
    context = copy_context()

    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return context.run(function, *args, **kwargs)

    return run


class Stopwatch:
    """Adds up pieces of work that alternate with others, and makes one span of them at the end."""

    def __init__(self, name: str, **attributes: Attribute) -> None:
        self._name, self._attributes = name, attributes
        self._began: float | None = None
        self.busy_s = 0.0
        self.pieces = 0
        self.bytes = 0

    @contextmanager
    def running(self, size_bytes: int = 0) -> Iterator[None]:
        """Count the block as one piece."""
        if self._began is None:
            self._began = time.time()
        before = time.perf_counter()
        try:
            yield
        finally:
            self.busy_s += time.perf_counter() - before
            self.pieces += 1
            self.bytes += size_bytes

    def record(self, **attributes: Attribute) -> None:
        """Make the span, from the first piece to now, if there was any piece."""
        if self._began is not None:
            known = {**self._attributes, "busy_s": round(self.busy_s, 6), **attributes}
            record(self._name, self._began, **known)
