"""Spans through OpenTelemetry, sent to a collector over OTLP/HTTP. Imported where one is named, and nowhere else.

The provider is ours alone and not the global one: what libraries record for themselves can hold text, and does not go
this way. Our spans are current all the same, so whoever has a provider of their own finds theirs below ours.

The ids of an attempt follow from its run and its number. So the next attempt, in whichever process, links to it without
having read a thing, and both are in one trace where a run was accepted by a process without a collector.

The SDK waits for no collector: spans wait in a bounded queue, a thread sends them, and what does not fit is dropped.
"""

import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker.domain.run import Claim
from worker.domain.stop import Stopped
from worker.domain.text import ID_LIMIT
from worker.errors import TeamSessionsError
from worker.observe import logs
from worker.observe.tracing import Facts, Kind

log = logs.get(__name__)

SERVICE = "team-sessions"  # unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say otherwise
PATH = "/v1/traces"
# They repeat for each batch what `_Telling` says once.
_REPETITIVE = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal")
_given: ContextVar[tuple[int, int] | None] = ContextVar("ids of the trace and the span that begins", default=None)


class OpenSpan:
    """A span that is recorded, or that the sampler left out."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def tell(self, facts: Facts) -> None:
        """Add facts to it."""
        self._span.set_attributes(dict(facts))

    def fail(self, code: str) -> None:
        """Mark it as failed, for the reason of this code."""
        self._span.set_attribute("error.type", code)
        self._span.set_status(Status(StatusCode.ERROR))

    def rename(self, name: str) -> None:
        """Give it a name that was not known when it began."""
        self._span.update_name(name)

    def link(self, traceparent: str) -> None:
        """Point to a place in another trace."""
        self._span.add_link(_place(traceparent))


class Otlp:
    """The spans of one process, on their way to a collector."""

    def __init__(self, endpoint: str) -> None:
        for name in _REPETITIVE:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
        provider = TracerProvider(
            resource=resource,
            id_generator=_Ids(),
            span_limits=SpanLimits(max_attribute_length=ID_LIMIT),
            shutdown_on_exit=False,  # it may take half a minute
        )
        self._processor = BatchSpanProcessor(_Telling(OTLPSpanExporter(endpoint.rstrip("/") + PATH)))
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("team_sessions")

    @contextmanager
    def begin(self, name: str, facts: Facts, kind: Kind) -> Iterator[OpenSpan]:
        """Begin a span inside the current one."""
        with _open(self._tracer.start_span(name, attributes=dict(facts), kind=_KINDS[kind])) as span:
            yield span

    @contextmanager
    def begin_from(self, name: str, facts: Facts, kind: Kind, traceparent: str | None) -> Iterator[OpenSpan]:
        """Begin a span where another process left off, or a new trace, if that is None or not as W3C has it."""
        parent = _context(traceparent)
        with _open(self._tracer.start_span(name, parent, attributes=dict(facts), kind=_KINDS[kind])) as span:
            yield span

    @contextmanager
    def begin_attempt(self, name: str, facts: Facts, claim: Claim) -> Iterator[OpenSpan]:
        """Begin a span at the place that a run's row keeps, linked to that of the attempt before."""
        parent = _context(claim.traceparent)
        accepted = trace.get_current_span(parent).get_span_context()
        trace_id = accepted.trace_id if accepted.is_valid else _derived(claim.run_id, bits=128)
        links = []
        if claim.attempt > 1:
            before = _span_id(claim.run_id, claim.attempt - 1)
            flags = accepted.trace_flags if accepted.is_valid else TraceFlags(TraceFlags.SAMPLED)
            links.append(Link(SpanContext(trace_id, before, is_remote=True, trace_flags=flags)))
        token = _given.set((trace_id, _span_id(claim.run_id, claim.attempt)))
        try:
            begun = self._tracer.start_span(name, parent, attributes=dict(facts), links=links)
        finally:
            _given.reset(token)
        with _open(begun) as span:
            yield span

    def mark(self, name: str, facts: Facts) -> str | None:
        """Make a span that is over at once, and return its place as a `traceparent`."""
        span = self._tracer.start_span(name, attributes=dict(facts), kind=SpanKind.PRODUCER)
        span.end()
        place = span.get_span_context()
        if not place.is_valid:
            return None
        return f"00-{place.trace_id:032x}-{place.span_id:016x}-{place.trace_flags:02x}"

    def fail_current(self, code: str) -> None:
        """Mark the current span as failed, for the reason of this code."""
        OpenSpan(trace.get_current_span()).fail(code)

    def flush(self, *, within_s: float) -> None:
        """Send what waits, as far as it goes within so many seconds."""
        # The SDK's own limit is not kept: https://github.com/open-telemetry/opentelemetry-python/issues/4568.
        sending = threading.Thread(target=self._processor.force_flush, name="last spans", daemon=True)
        with suppress(RuntimeError):  # 3.12.1 starts no thread at its end: these spans are lost
            sending.start()
            sending.join(within_s)


_KINDS = {
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}


@contextmanager
def _open(span: trace.Span) -> Iterator[OpenSpan]:
    """Make *span* the current one until the end of the block; an exception is told by its code or type alone."""
    opened = OpenSpan(span)
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield opened
        except Stopped as stopped:
            opened.tell({"team_sessions.outcome": stopped.reason.value})
            raise
        except BaseException as error:
            opened.fail(error.code if isinstance(error, TeamSessionsError) else type(error).__name__)
            raise


class _Ids(RandomIdGenerator):
    """Random ids, except where they are given."""

    def generate_trace_id(self) -> int:
        given = _given.get()
        return super().generate_trace_id() if given is None else given[0]

    def generate_span_id(self) -> int:
        given = _given.get()
        return super().generate_span_id() if given is None else given[1]


class _Telling(SpanExporter):
    """An exporter that says once that its collector is away."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; those that cannot be sent are dropped."""
        sent = self._exporter.export(spans)
        away = sent is not SpanExportResult.SUCCESS
        if away and not self._away:
            log.warning("spans are dropped: the collector does not take them", count=len(spans))
        self._away = away
        return sent

    def shutdown(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()


def _context(traceparent: str | None) -> Context:
    """Return where a trace goes on; nothing, and it begins, for None and for what is not as W3C has it."""
    return TraceContextTextMapPropagator().extract({"traceparent": traceparent or ""}, Context())


def _place(traceparent: str) -> SpanContext:
    return trace.get_current_span(_context(traceparent)).get_span_context()


def _span_id(run_id: str, attempt: int) -> int:
    return _derived(f"{run_id}:{attempt}", bits=64)


def _derived(text: str, *, bits: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[: bits // 8])
