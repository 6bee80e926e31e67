"""Check the promises: each check yields one sentence per violation. Pure functions over the evidence.

A deleted session has no rows; its notes in the audit and its tool effects are checked.
"""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ops.chaos.evidence import Evidence
from ops.chaos.paid import paid_again
from worker.domain import Message, Role, Status, open_calls

NAME = re.compile(r"\bI am (M\d+)\.")
Check = Callable[[Evidence], Iterator[str]]


def kept(e: Evidence) -> Iterator[str]:
    """An accepted run exists, and its input is in the history once; no input made two runs."""
    for accepted in e.book.accepted:
        if accepted.session_key in e.book.deleted:
            continue
        run = e.runs.get(accepted.run_id)
        if run is None:
            yield f"{accepted.run_id} was accepted and does not exist"
        elif Status(run.status).terminal:
            inputs = " ".join(m.content for m in e.log(run.id) if m.role is Role.USER and m.delegation is None)
            markers = NAME.findall(inputs)
            if markers.count(accepted.marker) != 1:
                yield f"{run.id} ({run.status}): the history has the inputs {markers}, not {accepted.marker} once"
    first = [(name, run.id) for run in e.runs.values() if run.retry_of is None for name in set(NAME.findall(run.input))]
    for name, count in Counter(name for name, _ in first).items():
        if count > 1:
            yield f"the input {name} became the runs {[run_id for other, run_id in first if other == name]}"
    for session in e.sessions.values():
        tried = e.book.renamed.get((session.user_id, session.session_id), [])
        if session.name is not None and (session.name not in tried or session.tags != [session.name]):
            yield f"session {session.session_id} has the name {session.name!r} and the tags {session.tags}"


def not_stuck(e: Evidence) -> Iterator[str]:
    """Every run has ended, and every requested summary is made."""
    for run in e.runs.values():
        if not Status(run.status).terminal:
            yield f"{run.id} is {run.status}, attempt {run.attempt}, not before {run.not_before}, {run.waits_for}"
    for pk, job in e.jobs.items():
        if job.send_at is not None:
            failed = f"{job.failures} failures: {job.error_code}"
            yield f"the summary of session {pk} was requested at {job.requested_at}, {failed}"
    for session in e.sessions.values():
        uncovered = session.last_seq - session.covers_through_seq
        if session.due_messages is not None and uncovered >= session.due_messages and session.pk not in e.jobs:
            yield f"the summary of session {session.pk} is due ({uncovered} messages follow it) and not requested"


def in_order(e: Evidence) -> Iterator[str]:
    """Runs execute one at a time as they were accepted; the messages of a run are contiguous, the seqs have no gap."""
    times: dict[str, tuple[float, float]] = {}
    for a in e.book.accepted:
        sent, answered = times.get(a.run_id, (a.sent, a.answered))
        times[a.run_id] = min(sent, a.sent), max(answered, a.answered)
    runs_by_session: dict[int, list[Any]] = defaultdict(list)
    for run in e.runs.values():
        runs_by_session[run.session_pk].append(run)
    for pk, session in e.sessions.items():
        rows, log = runs_by_session[pk], e.written[pk]
        if [run.position for run in rows] != list(range(1, session.run_count + 1)):
            yield f"session {pk}: positions {[run.position for run in rows]}"
        newest, ended = 0.0, None
        for run in rows:
            sent, answered = times.get(run.id, (newest, float("inf")))
            if answered < newest:
                yield f"{run.id} was accepted before the run at the position before it was sent"
            newest = max(newest, sent)
            if run.started_at is not None and ended is not None and run.started_at < ended:
                yield f"{run.id} began at {run.started_at}, the runs before it ended at {ended}"
            if run.finished_at is not None:
                ended = max(run.finished_at, ended or run.finished_at)
        if [m.seq for m in log] != list(range(1, session.last_seq + 1)):
            yield f"session {pk}: the seqs have gaps, or the last is not {session.last_seq}"
        started = [run for run in rows if run.first_seq is not None]
        if [m.run_id for m in log] != [run.id for run in started for _ in range(run.first_seq, run.last_seq + 1)]:
            yield f"session {pk}: the messages of a run are not contiguous, or not in the order of the runs"


def written_once(e: Evidence) -> Iterator[str]:
    """No input, reply or result of a run is written twice, and each reply is booked once."""
    for run in e.runs.values():
        log, replies = e.log(run.id), Counter[str | None]()
        inputs, results = Counter[str | None](), Counter[Any]()
        for m in log:
            if m.role is Role.ASSISTANT:
                replies[m.delegation] += 1
            elif m.role is Role.USER:
                inputs[m.delegation] += 1
            else:
                results[m.delegation, replies[m.delegation], m.tool_call_id] += 1
        if max(inputs.values(), default=0) > 1 or max(results.values(), default=0) > 1:
            yield f"{run.id} ({run.status}): an input or a result is written twice: {_story(log)}"
        if run.model_calls != replies.total():
            yield f"{run.id} ({run.status}): {replies.total()} replies are written, {run.model_calls} are booked"


def whole(e: Evidence) -> Iterator[str]:
    """A terminal run has no call without a result, and a completed one ends with its answer."""
    for run in e.runs.values():
        log = e.log(run.id)
        if Status(run.status).terminal and open_calls(log):
            yield f"{run.id} ({run.status}) has a call without a result"
        last = (log[-1].role, log[-1].content) if log else None
        if run.status == "completed" and last != (Role.ASSISTANT, run.output):
            yield f"{run.id} completed, and its answer is not its last message"


def no_zombies(e: Evidence) -> Iterator[str]:
    """No attempt writes after a later claim or after the end; an ended run does not change."""
    by_run: dict[str, list[Any]] = defaultdict(list)
    for note in e.audit:
        if note.what != "cover":
            by_run[note.key].append(note)
    for run_id, notes in by_run.items():
        claims = [n for n in notes if n.what == "claim"]
        ends = [n for n in notes if n.what == "end"]
        if any(a.fence >= b.fence for a, b in itertools.pairwise(claims)):
            yield f"{run_id}: the fences of its claims are {[n.fence for n in claims]}"
        if len(ends) > 1 or any(claim.id > ends[0].id for claim in claims if ends):
            yield f"{run_id} ended {len(ends)} times, or was claimed after its end"
        for n in notes:
            if n.what == "claim":
                continue
            later = next((c for c in claims if c.fence > n.fence and (n.id > c.id or n.last > c.last)), None)
            if later is not None:
                yield f"{run_id}: attempt {n.fence} ({n.what} {n.first}..{n.last}) after the claim of {later.fence}"
    for run_id, (status, output) in e.book.ended.items():
        run = e.runs.get(run_id)
        if run is not None and (run.status, run.output) != (status, output):
            yield f"{run_id} was {status}, and is {run.status}"


def not_paid_twice(e: Evidence) -> Iterator[str]:
    """A written or answered reply is not requested again, a tool with a written result not called again."""
    answered = {call["call"] for call in e.calls if call["event"] == "answered"}
    requests: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for call in e.calls:
        if call["event"] == "asked" and "by" in call:
            requests[tuple(call["by"].split())].append(call["call"])
    for (run_id, fence, delegation, turn), calls in requests.items():
        if answered.intersection(calls[:-1]):  # what is no answer is requested again at once: decision 24
            yield f"{run_id}: attempt {fence} requested reply {turn} of {delegation} again, which was answered"
        replies = _replies(e, run_id, delegation)
        if int(turn) < len(replies) and e.fences.get((run_id, replies[int(turn)].seq), 10**9) < int(fence):
            yield f"{run_id}: attempt {fence} requested reply {turn} of {delegation}, which was written"
    for effect in e.effects:
        run_id, seq, index = effect["key"].rsplit(":", 2)
        result = _result(e, run_id, int(seq), int(index))
        if result is not None and e.fences.get((run_id, result.seq), 10**9) < effect["fence"]:
            yield f"{run_id}: attempt {effect['fence']} called {effect['tool']} again after its result was written"


def nothing_thrown_away(e: Evidence) -> Iterator[str]:
    """An outage of the database throws no answer away that a living process holds, and fails no run."""
    for again in paid_again(e):
        if not again.in_flight:
            held = f"{again.run_id}: attempt {again.fence} held reply {again.turn}"
            yield f"{held}, and it was paid for again: {again.story}"
    yield from (f"{run.id} failed: {run.error_code}" for run in failed_by_outages(e))


def failed_by_outages(e: Evidence) -> list[Any]:
    """Return the runs that failed although their model was not set to refuse them."""
    return [run for run in e.runs.values() if run.status == "failed" and "[fail=400]" not in run.input]


def unsafe_once(e: Evidence) -> Iterator[str]:
    """A tool that is unsafe to repeat has its effect at most once, and not before its start is recorded."""
    charged = Counter(effect["key"] for effect in e.effects if effect["tool"] == "charge")
    for key, count in charged.items():
        if count > 1:
            yield f"the call {key} had its effect {count} times"
        if key.split(":")[0] in e.runs and key not in e.starts:
            yield f"the call {key} had its effect, and its start is not recorded"


def shown_to_watchers(e: Evidence) -> Iterator[str]:
    """A watcher gets each message as it is written, each event once, in order, and one end."""
    for run_id, view in e.book.watched:
        run = e.runs.get(run_id)
        if run is None or not Status(run.status).terminal:
            continue
        event_ids = [tuple(map(int, event.id.split("-"))) for event in view.events]
        ends = [event.type for event in view.events if event.terminal]
        if ends != [f"run.{run.status}"] or event_ids != sorted(set(event_ids)):
            yield f"{run_id} ({run.status}): its watcher got the ends {ends}, the last id {view.last_id}"
            continue
        done = {
            event.data["message_id"]: event.data["content"]
            for event in view.events
            if event.type == "message.completed" and event.data["role"] == "assistant"
        }
        written = sorted(m.content for m in e.log(run_id) if m.role is Role.ASSISTANT)
        if sorted(done.values()) != written or (run.status == "completed" and sorted(view.texts.values()) != written):
            trail = [f"{event.id} {event.type}" for event in view.events if event.type != "message.delta"]
            received = f"{sorted(done)} reached the watcher: {', '.join(trail)}"
            yield f"{run_id} ({run.status}): of {len(written)} replies, {received}"


def summarised_once(e: Evidence) -> Iterator[str]:
    """Versions have no gap, each is built on the one before, and each message goes into one of them."""
    covers: dict[str, list[Any]] = defaultdict(list)
    for note in e.audit:
        if note.what == "cover":
            covers[note.key].append(note)
    for pk, session in e.sessions.items():
        rows, chain = e.summaries.get(pk, []), covers[str(pk)]
        if [row.version for row in rows] != list(range(1, session.summary_version + 1)):
            yield f"session {pk}: versions {[row.version for row in rows]}, the newest is {session.summary_version}"
        if [n.first for n in chain] != [1, *(n.last + 1 for n in chain)][: len(chain)]:
            yield f"session {pk}: the pieces are {[(n.first, n.last) for n in chain]}"
        if chain and chain[-1].last != session.covers_through_seq:
            yield f"session {pk}: covered through {session.covers_through_seq}, the last piece ends at {chain[-1].last}"
        heard = [m for m in e.written[pk] if m.role is Role.USER and m.delegation is None]
        for row in rows:
            inputs = (m.content for m in heard if m.seq <= row.covers_through_seq and not e.runs[m.run_id].excluded)
            names = list(dict.fromkeys(name for content in inputs for name in NAME.findall(content)))
            if len(row.text) < 7_000 and NAME.findall(row.text) != names:
                yield f"session {pk}: version {row.version} tells {NAME.findall(row.text)} of {names}"


def expected(e: Evidence) -> Iterator[str]:
    """No response and no log reports a fault of the product."""
    yield from (*e.book.problems, *e.errors)


CHECKS: dict[str, Check] = {
    "accepted is kept": kept,
    "nothing is stuck": not_stuck,
    "in order, one at a time": in_order,
    "written once": written_once,
    "whole when it ends": whole,
    "no zombie writes": no_zombies,
    "paid once": not_paid_twice,
    "outages throw nothing away": nothing_thrown_away,
    "unsafe tools once": unsafe_once,
    "watchers get all events": shown_to_watchers,
    "summaries without gap": summarised_once,
    "nothing unexpected": expected,
}


def _story(log: Sequence[Message]) -> str:
    """Return the messages of a run without their texts."""
    return ", ".join(" ".join(filter(None, (f"{m.seq}", m.role, m.delegation, m.tool_call_id))) for m in log)


def _replies(e: Evidence, run_id: str, delegation: str) -> list[Message]:
    return [m for m in e.log(run_id) if m.role is Role.ASSISTANT and (m.delegation or "-") == delegation]


def _result(e: Evidence, run_id: str, seq: int, index: int) -> Message | None:
    log = e.log(run_id)
    reply = next((m for m in log if m.seq == seq), None)
    if reply is None or index >= len(reply.tool_calls):
        return None
    call_id = reply.tool_calls[index].id
    results = (m for m in log if m.seq > seq and m.delegation == reply.delegation and m.role is Role.TOOL)
    return next((m for m in results if m.tool_call_id == call_id), None)
