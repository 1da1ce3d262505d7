"""Spans sent to the owner's OpenTelemetry collector (OTLP over HTTP); extra `otel`.

Imported only where `otel_endpoint` is set: the SDK takes a fifth of a second to import.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan

from dataspace import __version__
from dataspace.operations.tracing import Attribute, Parent, Span

# Spans that wait to be sent; what does not fit is dropped, for work must not wait for a collector.
MAX_WAITING_SPANS = 8192
EXPORT_EVERY_MS = 1000
EXPORT_TIMEOUT_S = 5.0


class OtlpSpans:
    """Spans of one node, on their way to one collector. An adapter to `tracing.Spans`."""

    def __init__(self, endpoint: str, *, did: str, instance: str) -> None:
        """`endpoint` is the collector's base address, such as http://127.0.0.1:4318; what does not
        end with a path of OTLP gets `/v1/traces`."""
        address = endpoint if endpoint.endswith("/v1/traces") else f"{endpoint}/v1/traces"
        resource = Resource.create(
            {
                "service.name": "city-dataspace",
                "service.version": __version__,
                "service.namespace": did,
                "service.instance.id": instance,
            }
        )
        # ALWAYS_ON: a peer's flags decide nothing here.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=resource,
            span_limits=SpanLimits(max_span_attributes=32, max_span_attribute_length=256),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(endpoint=address, timeout=EXPORT_TIMEOUT_S),
                max_queue_size=MAX_WAITING_SPANS,
                schedule_delay_millis=EXPORT_EVERY_MS,
            )
        )
        self._tracer: Tracer = self._provider.get_tracer("dataspace", __version__)

    def begin(
        self,
        name: str,
        parent: Parent | None,
        attributes: Mapping[str, Attribute],
        *,
        at: float | None = None,
        remote: bool = False,
    ) -> Span:
        context = None
        if parent is not None:
            above = SpanContext(
                int(parent.trace_id, 16),
                int(parent.span_id, 16),
                is_remote=remote,
                trace_flags=TraceFlags(TraceFlags.SAMPLED),
            )
            context = set_span_in_context(NonRecordingSpan(above))
        opened = self._tracer.start_span(
            name,
            context=context,
            attributes=dict(attributes),
            start_time=None if at is None else int(at * 1e9),
        )
        return _Opened(opened)

    def close(self) -> None:
        """Send what waits, as long as the collector answers, and send no more."""
        self._provider.shutdown()


class _Opened:
    """A span of the SDK as `tracing.Span`."""

    def __init__(self, opened: OtelSpan) -> None:
        self._span = opened
        ids = opened.get_span_context()
        self.parent = Parent(f"{ids.trace_id:032x}", f"{ids.span_id:016x}")

    def note(self, **attributes: Attribute) -> None:
        self._span.set_attributes(attributes)

    def end(self, *, error: str | None = None, at: float | None = None) -> None:
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(None if at is None else int(at * 1e9))
