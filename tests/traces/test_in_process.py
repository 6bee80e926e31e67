"""Traces in a process that executes runs itself: where they begin, and what of a tool's own is in them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support import look
from tests.support.collector import Collector
from tests.support.outcomes import execute
from worker import Calls, ScriptedModel, Team, tool
from worker import settings as configuration
from worker.domain import ChatRequest, Reply, RunOrder, Usage
from worker.errors import ModelRateLimited
from worker.observe import tracing
from worker.process.runtime import Runtime, start_in_process
from worker.runs import enqueue
from worker.store import Database

RUNS = 8
Process = Callable[[Any], Runtime]

exported = InMemorySpanExporter()
library = TracerProvider()
library.add_span_processor(SimpleSpanProcessor(exported))
tracer = library.get_tracer("library")


@pytest.fixture
def process(database_url: str, traced: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """Start what a process holds that serves a team 't' with a model and one tool, and that has a collector."""
    monkeypatch.setattr(tracing, "_collector", None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", traced.url)
    started: list[Runtime] = []

    def start(model: Any) -> Runtime:
        runtime = start_in_process(configuration.load(), Database(database_url), None)
        started.append(runtime)
        return replace(runtime, teams={"t": Team(id="t", model=model, tools=[measure]).definition})

    yield start
    for runtime in started:
        runtime.close()
    exported.clear()


@tool
def measure(fails: bool = False) -> str:
    """Do something that is traced by a library with its own collector."""
    with tracer.start_as_current_span("library", attributes={"text": "words of a user"}):
        if fails:
            raise ValueError("words of a user")
        return "done"


def accepted(runtime: Runtime, session_id: str = "s") -> str:
    """Have a run accepted and return its id."""
    return enqueue.enqueue(runtime.db, RunOrder("t", "hello", session_id=session_id), settings=runtime.settings).run.id


def test_a_run_goes_on_in_the_current_trace_of_a_script(process: Process, traced: Collector) -> None:
    """With any tracing library that the script uses."""
    runtime = process(ScriptedModel(["done"]))

    with tracer.start_as_current_span("script") as script:
        run_id = accepted(runtime)
    assert execute(runtime, run_id, "t") == "completed"
    tracing.flush()

    context = script.get_span_context()
    assert traced.tree(run_id) == ["enqueue run", "  invoke_agent t", "    chat scripted"]
    (first, *_) = traced.run_spans(run_id)
    assert (first.trace, first.parent) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")


def test_what_a_tool_traces_itself_is_below_its_call_and_is_not_sent_by_us(process: Process, traced: Collector) -> None:
    """A library's spans can hold text: they go to its own collector. A tool that failed says by what, in no words."""
    runtime = process(ScriptedModel([Calls(("measure", {"fails": True})), "done"]))

    run_id = accepted(runtime)
    assert execute(runtime, run_id, "t") == "completed"
    tracing.flush()

    (own,) = exported.get_finished_spans()
    (call,) = (s for s in traced.run_spans(run_id) if s.name == "execute_tool measure")
    assert own.parent is not None
    assert f"{own.parent.span_id:016x}" == call.id
    assert (call.failed, call.facts["error.type"]) == (True, "ValueError")
    assert not any(b"words of a user" in body for body in traced.bodies)


def test_attempts_share_a_trace_where_the_run_was_accepted_without_a_collector(
    process: Process, traced: Collector
) -> None:
    """Its row has no traceparent; the second attempt is linked to the first nevertheless."""
    limited = ModelRateLimited(model="m", reason="429", retry_after_s=0.0)
    runtime = process(ScriptedModel([limited, "done"]))
    collector, tracing._collector = tracing._collector, None
    run_id = accepted(runtime)
    tracing._collector = collector

    outcomes = [execute(runtime, run_id, "t"), execute(runtime, run_id, "t")]
    tracing.flush()

    assert look.row(runtime.db, run_id).traceparent is None
    assert outcomes == ["waits: model_rate_limited", "completed"]
    first, second = (s for s in sorted(traced.spans, key=lambda s: s.begun_ns) if s.name == "invoke_agent t")
    assert (first.parent, second.parent, first.links) == ("", "", ())
    assert second.links == ((first.trace, first.id),)
    assert second.trace == first.trace


def test_a_sampler_decides_once_for_the_whole_run(process: Process, traced: Collector) -> None:
    """No span of a trace that its caller does not sample is recorded, in any process."""
    runtime = process(ScriptedModel(["done"]))

    with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(1, 1, is_remote=True))):
        run_id = accepted(runtime)
    assert execute(runtime, run_id, "t") == "completed"
    tracing.flush()

    assert look.row(runtime.db, run_id).traceparent.endswith("-00")
    assert traced.spans == []


@dataclass(frozen=True)
class Answers:
    """A model that answers."""

    id: str = "answers"

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        return Reply("done", (), Usage(1))


def test_runs_that_are_executed_at_the_same_time_do_not_mix(process: Process, traced: Collector) -> None:
    """Each model call is in the trace of its own run."""
    runtime = process(Answers())
    runs = [accepted(runtime, f"s-{n}") for n in range(RUNS)]

    with ThreadPoolExecutor(RUNS // 2) as threads:
        list(threads.map(lambda run_id: execute(runtime, run_id, "t"), runs))
    tracing.flush()

    trees = {tuple(traced.tree(run_id)) for run_id in runs}
    assert trees == {("enqueue run", "  invoke_agent t", "    chat answers")}
    assert len({s.trace for s in traced.spans}) == RUNS
