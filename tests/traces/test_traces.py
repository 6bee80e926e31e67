"""One trace from the caller to the last model call: over HTTP, the queue, tools, members, and a worker's death."""

import os
import signal
from typing import Any

import httpx2
import pytest
from celery import Celery

from tests.support import look
from tests.support.collector import Collector, Span
from tests.support.system import System, wait_until
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.processes
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
TREE = """\
POST /v1/runs
  enqueue run
    invoke_agent leads
      chat rules
      chat rules
      execute_tool delegate_task_to_member
        invoke_agent a
          chat rules
          chat rules
          execute_tool look_up"""


def post(running: System, input: str, *, team: str, **headers: str) -> dict[str, Any]:
    """Have a run accepted and return it."""
    headers = {"Authorization": f"Bearer {running.key}", **headers}
    body = {"team": team, "input": input, "session_id": "s", "user_id": "u"}
    answer = httpx2.post(f"{running.url}/v1/runs", json=body, headers=headers, timeout=60)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def attempts(traced: Collector, run_id: str, *, count: int = 1) -> list[Span]:
    """Wait for *count* ended attempts of a run; return their spans in order."""

    def ended() -> list[Span]:
        of_run = [s for s in list(traced.spans) if s.facts.get("team_sessions.run_id") == run_id]
        return [s for s in of_run if "team_sessions.attempt" in s.facts]

    wait_until(lambda: len(ended()) >= count, description=f"{count} attempts are traced")
    return sorted(ended(), key=lambda s: s.facts["team_sessions.attempt"])


def test_one_trace_from_the_request_over_the_queue_to_model_tool_and_member(running: System, traced: Collector) -> None:
    """In the caller's trace, each span below what asked for it, with the facts of the GenAI conventions."""
    running.start_worker()
    client = running.start_api()

    run = post(running, "go [delegate=a] task: x [steps=1]", team="leads", traceparent=TRACEPARENT)
    assert client.run(run["id"], wait_s=60)["status"] == "completed"
    attempts(traced, run["id"])
    wait_until(lambda: len(traced.run_spans(run["id"])) == 10, description="all is traced")

    assert traced.tree(run["id"]) == TREE.splitlines()
    spans = {s.name: s for s in traced.run_spans(run["id"])}
    assert {s.trace for s in spans.values()} == {TRACE}
    assert {s.service for s in spans.values()} == {"team-sessions"}
    request = spans["POST /v1/runs"]
    assert (request.parent, request.kind) == (CALLER, "server")
    assert request.facts == {
        "http.request.method": "POST",
        "http.route": "/v1/runs",
        "http.response.status_code": 202,
    }
    assert spans["enqueue run"].kind == "producer"
    ids = {"team_sessions.run_id": run["id"], "team_sessions.session_id": "s", "gen_ai.conversation.id": "s"}
    assert spans["invoke_agent leads"].facts == ids | {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.id": "leads",
        "gen_ai.agent.name": "leads",
        "team_sessions.attempt": 1,
        "team_sessions.outcome": "completed",
    }
    assert spans["invoke_agent a"].facts["gen_ai.agent.name"] == "a"
    chats = [s for s in traced.run_spans(run["id"]) if s.name == "chat rules"]
    assert chats[0].facts == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "rules",
        "gen_ai.response.finish_reasons": ["tool_calls"],
        "gen_ai.usage.input_tokens": chats[0].facts["gen_ai.usage.input_tokens"],
        "gen_ai.usage.output_tokens": chats[0].facts["gen_ai.usage.output_tokens"],
        "gen_ai.usage.cache_read.input_tokens": 0,
    }
    assert sum(s.facts["gen_ai.usage.input_tokens"] for s in chats) == client.run(run["id"])["usage"]["input_tokens"]
    assert chats[-1].facts["gen_ai.response.finish_reasons"] == ["stop"]
    (call,) = (c for m in look.log(running.db, run["id"]) for c in m.tool_calls if c.name == "look_up")
    assert spans["execute_tool look_up"].facts == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look_up",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": call.id,
    }
    assert not any(s.failed for s in spans.values())


@pytest.mark.extended
def test_the_attempt_after_a_kill_is_in_the_same_trace_and_linked(running: System, traced: Collector) -> None:
    """kill -9: what the first one had sent is below the span that the second is linked to."""
    running.start_workers(2)
    client = running.start_api()
    run = post(running, "kill [steps=3] [delay=0.5]", team="with-tool")
    wait_until(
        lambda: any(s.name == "execute_tool look_up" for s in list(traced.spans)), description="a tool call is traced"
    )
    pid = int(look.row(running.db, run["id"]).lease_owner.split(":")[1])

    os.kill(pid, signal.SIGKILL)
    done = client.run(run["id"], wait_s=60)
    (second,) = attempts(traced, run["id"])

    assert (done["status"], done["attempt"], second.facts["team_sessions.attempt"]) == ("completed", 2, 2)
    ((trace, first),) = second.links
    of_first = [s for s in traced.run_spans(run["id"]) if s.parent == first]
    assert trace == second.trace
    assert {"chat rules", "execute_tool look_up"} <= {s.name for s in of_first}
    (accepted,) = (s for s in traced.run_spans(run["id"]) if s.name == "enqueue run")
    assert second.parent == accepted.id


def test_an_attempt_that_waits_for_its_model_says_so(running: System, traced: Collector) -> None:
    """Each refusal is an attempt that failed, by its code; the words of the model's server are in none."""
    running.start_worker(TEAM_SESSIONS_MODEL_RETRIES="1")
    client = running.start_api()

    run = post(running, "words of a user [fail=500]", team="plain")
    assert client.run(run["id"], wait_s=60)["status"] == "failed"
    first, second = attempts(traced, run["id"], count=2)

    assert [(s.facts["team_sessions.outcome"], s.facts["error.type"]) for s in (first, second)] == [
        ("waits", "model_unavailable"),
        ("failed", "model_unavailable"),
    ]
    assert second.links == ((first.trace, first.id),)
    failed = [s for s in traced.run_spans(run["id"]) if s.failed]
    assert sorted(s.name for s in failed) == ["chat rules", "chat rules", "invoke_agent plain", "invoke_agent plain"]
    assert {(s.words, s.events) for s in traced.spans} == {("", 0)}
    assert not any(b"words of a user" in body for body in traced.bodies)


def test_a_header_that_is_no_traceparent_begins_a_trace(running: System, traced: Collector) -> None:
    """The run is accepted all the same."""
    running.start_worker()
    client = running.start_api()
    capitals, longer = TRACEPARENT.upper(), TRACEPARENT + "-x"
    wrong = ["", "no trace", capitals, longer, f"00-{'0' * 32}-{CALLER}-01", "x" * 9000]

    runs = [post(running, "hello", team="plain", traceparent=sent)["id"] for sent in wrong]
    for run_id in runs:
        assert client.run(run_id, wait_s=60)["status"] == "completed"
        attempts(traced, run_id)

    requests = [s for run_id in runs for s in traced.run_spans(run_id) if s.name == "POST /v1/runs"]
    assert len({s.trace for s in requests} - {TRACE}) == len(wrong)
    assert {s.parent for s in requests} == {""}


def test_an_order_through_the_broker_goes_on_in_its_senders_trace(
    running: System, traced: Collector, valkey: ValkeyServer
) -> None:
    """By the header of the message; what is sent on to execute the run holds no trace."""
    running.start_worker(queues="enqueue,batch,summaries")
    running.start_worker()
    client = running.start_api()
    order = {"team": "plain", "input": "hello", "session_id": "s"}

    with Celery("shop", broker=valkey.url, set_as_current=False) as shop:
        headers = {"traceparent": TRACEPARENT}
        shop.send_task("runs.enqueue", kwargs=order, task_id="key", queue="enqueue", headers=headers, kwargsrepr="")
    run_id = wait_until(lambda: look.only_run(running.db), description="it is accepted")
    client.run(run_id, wait_s=60)
    attempts(traced, run_id)

    assert {s.trace for s in traced.run_spans(run_id)} == {TRACE}
    assert traced.tree(run_id) == ["process enqueue", "  enqueue run", "    invoke_agent plain", "      chat rules"]


@pytest.mark.extended
def test_a_summary_has_a_trace_of_its_own_linked_to_the_run_that_it_covers(running: System, traced: Collector) -> None:
    """No caller waits for it, so it does not lengthen the trace of a run."""
    running.start_workers(1, queues="resumed,runs,summaries")
    client = running.start_api()
    run = post(running, "I am Ada.", team="condensed-soon")
    client.run(run["id"], wait_s=60)

    def refreshed() -> list[Span]:
        return [s for s in list(traced.spans) if s.name == "refresh_summary condensed-soon"]

    (summary,) = wait_until(refreshed, description="the summary is traced")
    attempts(traced, run["id"])

    (accepted,) = (s for s in traced.run_spans(run["id"]) if s.name == "enqueue run")
    assert summary.links == ((accepted.trace, accepted.id),)
    assert summary.trace != accepted.trace
    assert (summary.facts["team_sessions.run_id"], summary.facts["team_sessions.session_id"]) == (run["id"], "s")
    assert [s.name for s in traced.spans if s.parent == summary.id] == ["chat rules[delay=0.4]"]
