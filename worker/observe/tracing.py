"""Traces: what is done for a run, and when, as spans for a collector. Where none is named there are none, at no cost.

    POST /v1/runs                             a request, in the trace of whoever sent it
    └─ enqueue run                            the run is accepted; its row keeps this place in the trace
       ├─ invoke_agent support                the first attempt
       │  ├─ chat gpt-5-mini
       │  └─ execute_tool delegate_task_to_member
       │     └─ invoke_agent researcher
       └─ invoke_agent support                the second one, linked to the first

    refresh_summary support                   a trace of its own, linked to the newest run that it covers

Names are those of the GenAI conventions: https://github.com/open-telemetry/semantic-conventions-genai. What a span says
are ids, names of a definition, numbers and codes: no message text, no argument or result of a tool, no words of an
exception. This file knows no library; the one that does, `observe/spans.py`, is imported once a collector is named.
"""

import importlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from worker.domain.chat import ChatModel, Reply
from worker.domain.run import Claim, RunTrace
from worker.domain.text import ID_LIMIT

Facts = Mapping[str, str | int | Sequence[str]]
Kind = Literal["server", "producer", "consumer", "client", "internal"]

FLUSH_S = 2.0  # how long the end of a process may wait for its last spans
FINISH_REASONS = {"stop", "length", "tool_calls", "function_call", "content_filter"}
WENT_WELL = {"completed", "cancelled", "handed over"}


class Span(Protocol):
    """What is under way."""

    def tell(self, facts: Facts) -> None:
        """Add facts to it."""

    def fail(self, code: str) -> None:
        """Mark it as failed, for the reason of this code."""

    def rename(self, name: str) -> None:
        """Give it a name that was not known when it began."""

    def link(self, traceparent: str) -> None:
        """Point to a place in another trace."""


class Spans(Protocol):
    """Where spans go."""

    def begin(self, name: str, facts: Facts, kind: Kind) -> AbstractContextManager[Span]:
        """Begin a span inside the current one."""

    def begin_from(self, name: str, facts: Facts, kind: Kind, traceparent: str | None) -> AbstractContextManager[Span]:
        """Begin a span where another process left off, or a new trace, if that is None or not as W3C has it."""

    def begin_attempt(self, name: str, facts: Facts, claim: Claim) -> AbstractContextManager[Span]:
        """Begin a span at the place that a run's row keeps, linked to that of the attempt before."""

    def mark(self, name: str, facts: Facts) -> str | None:
        """Make a span that is over at once, and return its place as a `traceparent`."""

    def fail_current(self, code: str) -> None:
        """Mark the current span as failed, for the reason of this code."""

    def flush(self, *, within_s: float) -> None:
        """Send what waits, as far as it goes within so many seconds."""


_spans: Spans | None = None


def configure(endpoint: str | None) -> None:
    """Send the spans of this process to the collector at *endpoint*, from now on; None: make none.

    Once a process; behind any fork.
    """
    global _spans
    if endpoint is not None and _spans is None:
        _spans = importlib.import_module("worker.observe.spans").Otlp(endpoint)


def flush() -> None:
    """Send what waits, for two seconds at most: a collector that is away holds up no stop."""
    if _spans is not None:
        _spans.flush(within_s=FLUSH_S)


def is_on() -> bool:
    """Tell whether anybody looks."""
    return _spans is not None


def request(method: str, *, traceparent: str | None) -> AbstractContextManager[Span]:
    """An HTTP request, in the trace that its header names."""
    facts = {"http.request.method": method}
    return _NOTHING if _spans is None else _spans.begin_from(method, facts, "server", traceparent)


def untraced() -> AbstractContextManager[Span]:
    """What nobody looks for in a trace."""
    return _NOTHING


def order(*, traceparent: str | None) -> AbstractContextManager[Span]:
    """An order that came through the broker, in the trace that its message names."""
    return _NOTHING if _spans is None else _spans.begin_from("process enqueue", {}, "consumer", traceparent)


def enqueued(*, run_id: str, session_id: str) -> str | None:
    """A run that is accepted, inside whatever accepts it. Returns its place, for its row; None: there is no trace."""
    return None if _spans is None else _spans.mark("enqueue run", _ids(run_id, session_id))


def attempt(claim: Claim) -> AbstractContextManager[Span]:
    """An attempt of a run, where the run was accepted, and linked to the attempt before."""
    if _spans is None:
        return _NOTHING
    facts = {**_agent(claim.team), **_ids(claim.run_id, claim.session_id), "team_sessions.attempt": claim.attempt}
    return _spans.begin_attempt(f"invoke_agent {claim.team}", facts, claim)


def member(id: str) -> AbstractContextManager[Span]:
    """A member that works on a task."""
    return _NOTHING if _spans is None else _spans.begin(f"invoke_agent {id}", _agent(id), "internal")


def chat(model: ChatModel) -> AbstractContextManager[Span]:
    """A model call."""
    if _spans is None:
        return _NOTHING
    facts = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": str(getattr(model, "provider", "_OTHER")),
        "gen_ai.request.model": model.id,
    }
    return _spans.begin(f"chat {model.id}", facts, "client")


def tool(name: str, *, call_id: str) -> AbstractContextManager[Span]:
    """A call of a tool that there is: of one that is not, the name is a model's words."""
    facts = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, "gen_ai.tool.type": "function"}
    facts["gen_ai.tool.call.id"] = call_id[:ID_LIMIT]
    return _NOTHING if _spans is None else _spans.begin(f"execute_tool {name}", facts, "internal")


def failed(error: BaseException) -> None:
    """Say that what is under way has failed, by the name of the error's type."""
    if _spans is not None:
        _spans.fail_current(type(error).__name__)


def summary(team: str) -> AbstractContextManager[Span]:
    """A refresh of a session's summary, in a trace of its own."""
    facts = {"gen_ai.agent.name": team}
    return _NOTHING if _spans is None else _spans.begin_from(f"refresh_summary {team}", facts, "consumer", None)


def answered(span: Span, reply: Reply) -> Reply:
    """Say how a model call ended, and return the reply."""
    usage = reply.usage
    reason = reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")
    span.tell(
        {
            "gen_ai.response.finish_reasons": [reason if reason in FINISH_REASONS else "_OTHER"],
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
        }
    )
    return reply


def ended(span: Span, outcome: str) -> str:
    """Say how an attempt ended, in words such as 'failed: model_refused', and return them."""
    how, _, code = outcome.partition(": ")
    span.tell({"team_sessions.outcome": how})
    if how not in WENT_WELL:
        span.fail(code or how.replace(" ", "_"))
    return outcome


def covers(span: Span, newest: RunTrace) -> None:
    """Say which run is the newest that a summary covers."""
    span.tell(_ids(newest.run_id, newest.session_id))
    if newest.traceparent is not None:
        span.link(newest.traceparent)


def _ids(run_id: str, session_id: str) -> Facts:
    of_session = dict.fromkeys(("team_sessions.session_id", "gen_ai.conversation.id"), session_id)
    return {"team_sessions.run_id": run_id, **of_session}


def _agent(id: str) -> Facts:
    return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.id": id, "gen_ai.agent.name": id}


class _Nothing(AbstractContextManager[Span]):
    """The span that is none, where there is no collector."""

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *_error: object) -> None: ...

    def tell(self, facts: Facts) -> None: ...

    def fail(self, code: str) -> None: ...

    def rename(self, name: str) -> None: ...

    def link(self, traceparent: str) -> None: ...


_NOTHING = _Nothing()
