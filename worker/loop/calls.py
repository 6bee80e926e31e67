"""Execute the tool calls of a reply in parallel: tools, delegations and reads of the history.

Each call runs on its own thread, and its result is written as soon as it arrives. If a call fails, the model receives
the error as the result. Only an error that ends the attempt is raised: a lost lease, a stop, a failed model of a member
for which the run is retried, a replay that diverged, a thread that could not be started. It is raised after every other
call has reached a message boundary, so no paid reply is lost. A call that waits for a decision (`loop/pending.py`)
stops none of the others; the run pauses when only such calls are left.
"""

import contextvars
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from worker.domain import (
    NO_CHANGE,
    Draft,
    Message,
    Paused,
    Reason,
    Role,
    StateChange,
    ToolCall,
    ToolCallProgress,
    bounds,
    open_calls,
)
from worker.domain.event import TOOL_CALL_COMPLETED, TOOL_CALL_STARTED
from worker.errors import DecisionExpired, LimitReached, ReplayDiverged, ValueTooLarge
from worker.loop import ask_tool, delegation, history_tools, hooks, pending, state_tool
from worker.loop.conversation import Conversation
from worker.loop.definition import Definition, Mode
from worker.loop.delegate import delegate
from worker.loop.fit import as_object
from worker.loop.tools import CUT_OFF, NO_RESULT, OUTCOME_UNKNOWN, Result, Tool, state_change
from worker.observe import exhaustion, metrics, tracing

Converse = Callable[[Conversation], Draft]
STATE_UNCHANGED = (
    "Error: the call was made, but its change of session_state was not stored. {reason} It returned: {text}"
)
ERROR = "Error: "  # how the result of a failed call begins
NO_RESULT_BEGIN = NO_RESULT.partition("{")[0]
CUT = "\n(Cut here: this result has {length:,} characters, and the first {limit:,} are stored.)"
Outcome = tuple[ToolCall, Result, StateChange] | BaseException | None
"""A call with its result; or the error that ends the run; None: the run was stopped."""


def offered(definition: Definition, *, reads_rest: bool) -> tuple[Tool, ...]:
    """Return the tools to send to the model. In broadcast mode the tasks are delegated already: without `delegate`.

    *reads_rest*: a message in the context is cut, so the model gets the tool that reads the rest of it.
    """
    delegated = definition.mode is Mode.BROADCAST
    tools = tuple(tool for tool in callable_tools(definition) if not (delegated and tool is delegate))
    return tools if reads_rest else tuple(tool for tool in tools if tool is not history_tools.read_rest)


def make_open_calls(conversation: Conversation, converse: Converse) -> None:
    """Execute the calls of the last replies that have no result yet. Write each result as it arrives.

    Raises:
        Stopped, LeaseLost, ModelError, LimitReached, ReplayDiverged, DecisionExpired, WorkerExhausted
        Paused: calls that are left, here or of members, wait for a decision.
    """
    calls = open_calls(conversation.log)
    if not calls:
        return
    limit = conversation.limits.tool_calls
    if limit is not None and sum(len(m.tool_calls) for m in conversation.journal.log) > limit:
        raise LimitReached(limit=limit, what="tool calls", option="Limits(tool_calls=…)")
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    cancelled = threading.Event()
    failure: BaseException | None = None
    paused: Paused | None = None
    with conversation.stop.below() as stop:
        stoppable = replace(conversation, stop=stop)
        try:
            for reply, index, call in calls:
                stop.check()
                _begin(stoppable, converse, reply, index, call, cancelled, outcomes)
            with stop.calling(lambda: outcomes.put(None)):
                for _ in calls:
                    outcome = outcomes.get()
                    if outcome is None:
                        break
                    if isinstance(outcome, Paused):  # the others go on: it is no failure
                        paused = outcome
                        continue
                    if isinstance(outcome, BaseException):
                        failure = failure or outcome
                        stop.set_at_boundary()
                        continue
                    _write(conversation, *outcome)
        finally:
            cancelled.set()
            stop.set(Reason.CANCELLED)  # ends coroutines that still run, if this thread was interrupted
    conversation.stop.check()
    if failure is not None:
        raise failure
    if paused is not None:
        raise paused


def callable_tools(definition: Definition) -> tuple[Tool, ...]:
    """Return all tools of a definition: its own, and those that its options add."""
    return (
        *definition.tools,
        *delegation.tools(definition),
        *history_tools.tools(definition),
        *state_tool.tools(definition),
        *ask_tool.tools(definition),
    )


def stopping_result(conversation: Conversation) -> Draft | None:
    """Return the results of the last reply's tools that say `stop_after_tool_call` as the answer; None: there are none.

    An error is none, and neither is a call whose outcome is not known: the model can react to it.
    """
    stopping = {tool.name for tool in conversation.definition.tools if tool.stop_after_call}
    replies = [m for m in conversation.log if m.role is Role.ASSISTANT] if stopping else []
    if not replies:
        return None
    ids = {call.id for call in replies[-1].tool_calls if call.name in stopping}
    results = [
        m.content for m in conversation.log if m.seq > replies[-1].seq and m.role is Role.TOOL and m.tool_call_id in ids
    ]
    answers = [text for text in results if not text.startswith((ERROR, OUTCOME_UNKNOWN, NO_RESULT_BEGIN))]
    if not answers:
        return None
    text = "\n\n".join(answers)
    return Draft(Role.ASSISTANT, conversation.definition.id, text, delegation=conversation.delegation)


def _begin(
    conversation: Conversation,
    converse: Converse,
    reply: Message,
    index: int,
    call: ToolCall,
    cancelled: threading.Event,
    outcomes: "queue.SimpleQueue[Outcome]",
) -> None:
    """Start one call on its own thread. Its outcome is put into *outcomes*, also if the call cannot start."""
    journal = conversation.journal
    key = f"{conversation.run_id}:{reply.seq}:{index}"
    tool = next((tool for tool in callable_tools(conversation.definition) if tool.name == call.name), None)
    ready = _ready(conversation, tool, reply, index, key)
    if isinstance(ready, BaseException):
        outcomes.put(ready)
        return
    journal.publish(TOOL_CALL_STARTED(**_progress(conversation, call)))
    if isinstance(ready, Result) or tool is None:
        assert isinstance(ready, Result)
        outcomes.put((call, ready, NO_CHANGE))
        return
    if not tool.repeatable and not journal.record_start(key):
        outcomes.put((call, Result(OUTCOME_UNKNOWN, failed=True), NO_CHANGE))
        return

    def outcome() -> Outcome:
        with tracing.tool(tool.name, call_id=call.id):
            if tool is delegate:
                answer = delegation.carry_out(conversation, call, f"{reply.seq}.{index}", converse)
                return (call, Result(answer, failed=answer.startswith(ERROR)), NO_CHANGE)
            if tool in history_tools.ALL:
                return (call, Result(history_tools.answer(conversation, call)), NO_CHANGE)
            result, change = _call(conversation, tool, ready, key, cancelled)
            text = pending.result_text(journal.pending.get(key), result.text)
            return (call, replace(result, text=text), change)

    def work() -> None:
        try:
            outcomes.put(outcome())
        except BaseException as error:  # noqa: BLE001 - it ends the run, on the run's own thread
            outcomes.put(error)

    context = contextvars.copy_context()  # of the run's thread, for logs and traces
    try:
        threading.Thread(target=context.run, args=(work,), name=f"tool {tool.name}", daemon=True).start()
    except RuntimeError as error:
        outcomes.put(exhaustion.found(error) or error)


def _ready(
    conversation: Conversation, tool: Tool | None, reply: Message, index: int, key: str
) -> ToolCall | Result | Paused | DecisionExpired | ReplayDiverged:
    """Return the call as it is to be made, or its result without a call; or why neither is possible now."""
    call = reply.tool_calls[index]
    if tool is None:
        names = {tool.name for tool in callable_tools(conversation.definition)} - {history_tools.read_rest.name}
        known = ", ".join(sorted(names)) or "none"
        return Result(f"Error: there is no tool {call.name!r}. The tools are: {known}.", failed=True)
    cut_off = reply.extra is not None and reply.extra.cut_off
    if cut_off and as_object(call.arguments) != call.arguments:
        return Result(CUT_OFF, failed=True)
    if conversation.recorded is not None and tool is not delegate and tool not in history_tools.ALL:
        try:
            return Result(conversation.recorded.result(list(conversation.journal.log), reply, index))
        except ReplayDiverged as diverged:
            return diverged
    return pending.settled(conversation, tool, call, key)


def _call(
    conversation: Conversation, tool: Tool, call: ToolCall, key: str, cancelled: threading.Event
) -> tuple[Result, StateChange]:
    before = conversation.journal.state
    context = conversation.context(key=key, cancelled=cancelled, call=_progress(conversation, call))
    wait = partial(conversation.coroutines.run, name=tool.name, stop=conversation.stop)

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        return hooks.wrapped(function, tool.name, conversation.definition.hooks.tool, context, wait)

    with metrics.timed(metrics.TOOL_CALL.labels(tool.name)):
        result = tool.call(call.arguments, context, wait=wait, around=around)
    return state_change(result, before, context.session_state)


def _write(conversation: Conversation, call: ToolCall, result: Result, change: StateChange) -> None:
    """Write a result with its change of the state. A change that makes the state too large is left out."""
    text, failed = _bounded(result.text, conversation.journal.log), result.failed
    draft = Draft(Role.TOOL, call.name, text, tool_call_id=call.id, delegation=conversation.delegation)
    try:
        conversation.journal.write([draft], change=change)
    except ValueTooLarge as error:
        failed = True
        conversation.journal.write([replace(draft, content=STATE_UNCHANGED.format(reason=error.message, text=text))])
    conversation.journal.publish(TOOL_CALL_COMPLETED(**_progress(conversation, call), failed=failed))


def _bounded(text: str, log: Sequence[Message]) -> str:
    """Return the part of a result that is stored: the results of a run share a limit, so that it fits into memory."""
    used = sum(len(message.content) for message in list(log) if message.role is Role.TOOL)
    limit = min(bounds.RESULT_LENGTH, max(bounds.LEAST_RESULT_LENGTH, bounds.RESULTS_LENGTH - used))
    return text if len(text) <= limit else text[:limit] + CUT.format(length=len(text), limit=limit)


def _progress(conversation: Conversation, call: ToolCall) -> ToolCallProgress:
    return {
        "tool_call_id": call.id,
        "name": call.name,
        "author": conversation.definition.id,
        "delegation": conversation.delegation,
    }
