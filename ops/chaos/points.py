"""Points in a worker at which it can be killed or stopped, and a label on each model call.

A file `points/<name>` in the data directory requests it: the first worker that reaches the point removes the file,
notes itself in `hits.jsonl`, and sends itself the signal in the file, "KILL" or "STOP".

    after-claim      the run is claimed, and nothing else has happened
    after-reply      the model's reply is received and paid, its row is not written
    after-tool       a tool has had its effect, its result is not written
    inside-write     in the transaction of a message, before its commit
    inside-finish    in the transaction that ends a run
    between-halves   of a finish that a broken build does in two transactions; nowhere else
    before-dispatch  the run has ended, and the dispatches that this made ready are not sent
    summary-answered the reply for a summary is paid, its version is not written
    inside-summary   in the transaction that stores it
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from worker.domain import Role, StateChange
from worker.loop import calls, loop
from worker.loop.tools import Result
from worker.runs import execute, journal
from worker.runs.journal import RunJournal
from worker.store import summaries
from worker.summaries import refresh

POINTS = ("after-claim", "after-reply", "after-tool", "inside-write", "inside-finish", "before-dispatch")
SUMMARY_POINTS = ("summary-answered", "inside-summary")

here = Path(os.environ.get("TEAM_SESSIONS_DATA_DIR", "."))
of_thread = threading.local()  # .fence: of the attempt that has called the tool


def at(point: str) -> None:
    """Send this process the signal that was requested at this point, if any."""
    request = here / "points" / point
    try:
        what = request.read_text()
        request.unlink()
    except FileNotFoundError:
        return
    hit = {"at": time.time(), "pid": os.getpid(), "fault": f"{what} {point}"}
    with (here / "hits.jsonl").open("a") as file:
        file.write(json.dumps(hit) + "\n")
    os.kill(os.getpid(), signal.Signals[f"SIG{what}"])


def install() -> None:
    """Add the points to this process. Call it after all other changes."""
    _wrap(execute, "claim_head", after="after-claim")
    _wrap(RunJournal, "_hold", after="inside-write")
    _wrap(journal, "end_head", after="inside-finish")
    _wrap(RunJournal, "end", after="before-dispatch")
    _wrap(refresh, "_ask_model", after="summary-answered")
    _wrap(summaries, "cover", after="inside-summary")
    ask, called = loop._ask, calls._call

    def named_ask(conversation: Any, window: Any, repairing: Any = ()) -> Any:
        claim = conversation.journal._claim
        turn = sum(m.role is Role.ASSISTANT for m in conversation.log)
        by = f"{claim.run_id} {claim.fence} {conversation.delegation or '-'} {turn}"
        named = replace(conversation, model=replace(conversation.model, request_params={"user": by}))
        reply = ask(named, window, repairing)
        at("after-reply")
        return reply

    def fenced_call(conversation: Any, *rest: Any) -> tuple[Result, StateChange]:
        of_thread.fence = conversation.journal._claim.fence
        result = called(conversation, *rest)
        at("after-tool")
        return result

    loop._ask = named_ask
    calls._call = fenced_call  # type: ignore[assignment]  # it passes on all but the conversation


def _wrap(owner: Any, name: str, *, after: str) -> None:
    inner: Callable[..., Any] = getattr(owner, name)

    def outer(*args: Any, **kwargs: Any) -> Any:
        result = inner(*args, **kwargs)
        at(after)
        return result

    setattr(owner, name, outer)
