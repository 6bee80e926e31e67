"""Send spans to a collector over OTLP/HTTP, with OpenTelemetry's SDK. Imported only where a collector is configured.

The provider is not the global one: spans that libraries record can hold text, so they are not sent this way. Our spans
are still the current ones, so an application with its own provider finds its spans below them.

The SDK never waits for the collector: spans wait in a bounded queue, a thread sends them, and what does not fit is
dropped.

A platform can set OTEL_* for every process. The SDK reads sampling, the resource, the interval and how to reach the
collector there: `ops/handbook/tracing.md`. All else is set here, and no value of such a variable ends the process.
"""

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NoOpTracer

from worker.domain import ID_LIMIT
from worker.observe import logs

SpanIds = ContextVar[tuple[int, int] | None]  # of the trace and of the span

log = logs.get(__name__)

SERVICE = "team-sessions"  # unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES name another
PATH = "/v1/traces"
DELAY_MS = 5000.0
# Each limit is set: of those that are not, a wrong value in the environment raises an error.
_LIMITS = SpanLimits(
    max_attributes=128,
    max_events=128,
    max_links=128,
    max_span_attributes=128,
    max_event_attributes=128,
    max_link_attributes=128,
    max_attribute_length=ID_LIMIT,
    max_span_attribute_length=ID_LIMIT,
)
# They repeat for each batch what `_LoggingExporter` logs once; the last one logs headers, which hold a key.
_SILENT = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.util.re",
)


class Collector:
    """The tracer of one process, and the queue of its spans. *authorities*: a PEM file; None: the usual ones."""

    def __init__(self, endpoint: str, *, authorities: Path | None, next_ids: SpanIds) -> None:
        for name in _SILENT:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
        provider = TracerProvider(
            resource=resource,
            id_generator=_Ids(next_ids),
            span_limits=_LIMITS,
            shutdown_on_exit=False,  # it may take half a minute
        )
        self._processor = _processor(_LoggingExporter(_exporter(endpoint, authorities)))
        provider.add_span_processor(self._processor)
        self.tracer = provider.get_tracer("team_sessions")
        if isinstance(self.tracer, NoOpTracer):
            log.warning("no traces are sent: OTEL_SDK_DISABLED is set")

    def flush(self, *, within_s: float) -> None:
        """Send the spans that wait, for at most *within_s* seconds."""
        # The SDK's own limit is not kept: https://github.com/open-telemetry/opentelemetry-python/issues/4568.
        sending = threading.Thread(target=self._processor.force_flush, name="last spans", daemon=True)
        with suppress(RuntimeError):  # 3.12.1 starts no thread at its end: these spans are lost
            sending.start()
            sending.join(within_s)


def _exporter(endpoint: str, authorities: Path | None) -> OTLPSpanExporter:
    session = requests.Session()
    session.trust_env = False  # no proxy, and no login of a .netrc file
    file = None if authorities is None else str(authorities)
    return OTLPSpanExporter(endpoint.rstrip("/") + PATH, certificate_file=file, session=session)


def _processor(exporter: SpanExporter) -> BatchSpanProcessor:
    """Return a queue of spans. None of its arguments, except the interval, comes from the environment."""
    make = partial(
        BatchSpanProcessor, exporter, max_queue_size=2048, max_export_batch_size=512, export_timeout_millis=30_000
    )
    try:
        return make()
    except ValueError:
        log.warning("OTEL_BSP_SCHEDULE_DELAY is ignored: it is not positive")
        return make(schedule_delay_millis=DELAY_MS)


class _Ids(RandomIdGenerator):
    """Random ids, unless the span that starts has its ids in *next_ids*."""

    def __init__(self, next_ids: SpanIds) -> None:
        self._next_ids = next_ids

    def generate_trace_id(self) -> int:
        ids = self._next_ids.get()
        return super().generate_trace_id() if ids is None else ids[0]

    def generate_span_id(self) -> int:
        ids = self._next_ids.get()
        return super().generate_span_id() if ids is None else ids[1]


class _LoggingExporter(SpanExporter):
    """An exporter that logs once when its collector is away."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; those that cannot be sent are dropped."""
        result = self._exporter.export(spans)
        away = result is not SpanExportResult.SUCCESS
        if away and not self._away:
            log.warning("spans are dropped: the collector does not take them", count=len(spans))
        self._away = away
        return result

    def shutdown(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()
