"""Traces: the spans of a run, sent to a collector. Without a collector no span is made, at no cost.

    POST /v1/runs                             a request, in the trace of its caller
    └─ enqueue run                            the run is accepted; its row keeps this span as a `traceparent`
       ├─ invoke_agent support                the first attempt
       │  ├─ chat gpt-5-mini
       │  └─ execute_tool delegate_task_to_member
       │     └─ invoke_agent researcher
       └─ invoke_agent support                the second one, linked to the first

    refresh_summary support                   its own trace, linked to the newest run that it covers

Names are those of the GenAI conventions: https://github.com/open-telemetry/semantic-conventions-genai. Attributes are
ids, names of a definition, numbers and codes: no message text, no argument or result of a tool, no words of an
exception. This file uses OpenTelemetry's API alone. The SDK is imported by `observe/spans.py`, for a collector only.

The ids of an attempt's span are derived from its run and its number. So the next attempt, in any process, can link to
it without reading anything, and both share a trace where a run was accepted by a process without a collector.
"""

import hashlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer
from opentelemetry.trace import Span as Span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker.domain import ID_LIMIT, ChatModel, Claim, End, Outcome, Reply, RunTrace, Stopped
from worker.errors import TeamSessionsError
from worker.observe import logs
from worker.settings import Settings

log = logs.get(__name__)

Attributes = Mapping[str, str | int | Sequence[str]]

FLUSH_S = 2.0  # how long the end of a process may wait for its last spans
FINISH_REASONS = {"stop", "length", "tool_calls", "function_call", "content_filter"}

# Not OpenTelemetry's own no-op tracer, which makes the caller's span current once more: that costs 10 µs a span, and
# what a tool adds to the current span would be lost.
_NO_SPAN: AbstractContextManager[Span] = nullcontext(trace.INVALID_SPAN)
_W3C = TraceContextTextMapPropagator()
_next_ids: ContextVar[tuple[int, int] | None] = ContextVar("ids of the trace and of the span to start", default=None)


class Collector(Protocol):
    """Where spans are sent: `observe.spans.Collector`."""

    tracer: Tracer

    def flush(self, *, within_s: float) -> None:
        """Send the spans that wait, for at most *within_s* seconds."""


_collector: Collector | None = None
_warned = False


def configure(settings: Settings) -> None:
    """Send the spans of this process to the collector of *settings*, from now on; if there is none, make none.

    Call it once in a process, after any fork.
    """
    global _collector, _warned
    if settings.ignored_collector is not None and not _warned:
        log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is ignored: no traces are sent", reason=settings.ignored_collector)
        _warned = True
    if settings.collector is not None and _collector is None:
        spans = importlib.import_module("worker.observe.spans")
        _collector = spans.Collector(settings.collector, authorities=settings.ca_file, next_ids=_next_ids)


def flush() -> None:
    """Send the spans that wait, for two seconds at most: a missing collector delays no stop."""
    if _collector is not None:
        _collector.flush(within_s=FLUSH_S)


def is_on() -> bool:
    """Return whether this process has a collector."""
    return _collector is not None


def untraced() -> AbstractContextManager[Span]:
    """No span, for requests that belong in no trace."""
    return _NO_SPAN


def request(method: str, *, traceparent: str | None) -> AbstractContextManager[Span]:
    """An HTTP request, in the trace that its header names."""
    return _span(method, {"http.request.method": method}, SpanKind.SERVER, parent=_extract(traceparent))


def enqueue_message(*, traceparent: str | None) -> AbstractContextManager[Span]:
    """A run's request that came through the broker, in the trace that its message names."""
    return _span("process enqueue", {}, SpanKind.CONSUMER, parent=_extract(traceparent))


def mark_accepted(*, run_id: str, session_id: str) -> str | None:
    """Record that a run is accepted, and return the `traceparent` of that span for its row; None: there is no trace."""
    if _collector is None:
        return None
    attributes = _run_attributes(run_id, session_id)
    span = _collector.tracer.start_span("enqueue run", attributes=attributes, kind=SpanKind.PRODUCER)
    span.end()
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get("traceparent")


def attempt(claim: Claim) -> AbstractContextManager[Span]:
    """An attempt of a run: a child of its acceptance, linked to the attempt before."""
    if _collector is None:
        return _NO_SPAN
    parent = _extract(claim.traceparent)
    accepted = trace.get_current_span(parent).get_span_context()
    trace_id = accepted.trace_id if accepted.is_valid else _derive_id(claim.run_id, bits=128)
    links = []
    if claim.attempt > 1:
        previous = _attempt_span_id(claim.run_id, claim.attempt - 1)
        flags = accepted.trace_flags if accepted.is_valid else TraceFlags(TraceFlags.SAMPLED)
        links.append(Link(SpanContext(trace_id, previous, is_remote=True, trace_flags=flags)))
    attributes = _agent_attributes(claim.team) | _run_attributes(claim.run_id, claim.session_id)
    ids = (trace_id, _attempt_span_id(claim.run_id, claim.attempt))
    attempt = {"team_sessions.attempt": claim.attempt}
    return _span(f"invoke_agent {claim.team}", {**attributes, **attempt}, parent=parent, links=links, ids=ids)


def member(id: str) -> AbstractContextManager[Span]:
    """A member that works on a task."""
    return _span(f"invoke_agent {id}", _agent_attributes(id))


def chat(model: ChatModel) -> AbstractContextManager[Span]:
    """A model call."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": str(getattr(model, "provider", "_OTHER")),
        "gen_ai.request.model": model.id,
    }
    return _span(f"chat {model.id}", attributes, SpanKind.CLIENT)


def tool(name: str, *, call_id: str) -> AbstractContextManager[Span]:
    """A call of a tool of the team. Never pass the name of an unknown tool: the model made it up, so it is text."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": call_id[:ID_LIMIT],
    }
    return _span(f"execute_tool {name}", attributes)


def summary(team: str) -> AbstractContextManager[Span]:
    """A refresh of a session's summary, in its own trace."""
    return _span(f"refresh_summary {team}", {"gen_ai.agent.name": team}, SpanKind.CONSUMER, parent=Context())


def fail(span: Span, code: str) -> None:
    """Mark *span* as failed, for the reason of this code."""
    if span.is_recording():
        span.set_attribute("error.type", code)
        span.set_status(Status(StatusCode.ERROR))


def fail_current(error: BaseException) -> None:
    """Mark the current span as failed, by the name of the error's type."""
    if _collector is not None:
        fail(trace.get_current_span(), type(error).__name__)


def record_reply(span: Span, reply: Reply) -> None:
    """Record how a model call ended."""
    if not span.is_recording():
        return
    reason = reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")
    span.set_attributes(
        {
            "gen_ai.response.finish_reasons": [reason if reason in FINISH_REASONS else "_OTHER"],
            "gen_ai.usage.input_tokens": reply.usage.input_tokens,
            "gen_ai.usage.output_tokens": reply.usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": reply.usage.cached_input_tokens,
        }
    )


def record_outcome(span: Span, outcome: Outcome) -> Outcome:
    """Record how an attempt ended, and return it."""
    span.set_attribute("team_sessions.outcome", outcome.end.value)
    if outcome.end not in (End.COMPLETED, End.CANCELLED, End.HANDED_OVER):
        fail(span, outcome.detail or outcome.end.replace(" ", "_"))
    return outcome


def record_newest_run(span: Span, newest: RunTrace) -> None:
    """Record the newest run that a summary covers, and link to it."""
    span.set_attributes(_run_attributes(newest.run_id, newest.session_id))
    if newest.traceparent is not None:
        span.add_link(trace.get_current_span(_extract(newest.traceparent)).get_span_context())


def _span(
    name: str,
    attributes: Attributes,
    kind: SpanKind = SpanKind.INTERNAL,
    *,
    parent: Context | None = None,
    links: Sequence[Link] = (),
    ids: tuple[int, int] | None = None,
) -> AbstractContextManager[Span]:
    """Start a span, if there is a collector; it is the current one inside the block.

    *parent* None: the current span; an empty context begins a new trace. *ids* of the trace and of the span: random.
    """
    if _collector is None:
        return _NO_SPAN
    token = _next_ids.set(ids)
    try:
        span = _collector.tracer.start_span(name, parent, kind, attributes, links)
    finally:
        _next_ids.reset(token)
    return _current(span)


@contextmanager
def _current(span: Span) -> Iterator[Span]:
    """Make *span* the current one inside the block. Of an exception it records the code or type, never its words."""
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except Stopped as stopped:
            span.set_attribute("team_sessions.outcome", stopped.reason.value)
            raise
        except BaseException as error:
            fail(span, error.code if isinstance(error, TeamSessionsError) else type(error).__name__)
            raise


def _extract(traceparent: str | None) -> Context:
    """Return the context that *traceparent* names; an empty one for None and for what W3C does not allow."""
    return _W3C.extract({"traceparent": traceparent}, Context()) if traceparent else Context()


def _attempt_span_id(run_id: str, attempt: int) -> int:
    return _derive_id(f"{run_id}:{attempt}", bits=64)


def _derive_id(text: str, *, bits: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[: bits // 8])


def _run_attributes(run_id: str, session_id: str) -> dict[str, str]:
    return {
        "team_sessions.run_id": run_id,
        "team_sessions.session_id": session_id,
        "gen_ai.conversation.id": session_id,
    }


def _agent_attributes(id: str) -> dict[str, str]:
    return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.id": id, "gen_ai.agent.name": id}
