"""Make the calls that a reply asked for: tools, delegations and looks into the past, in parallel.

Each runs on a thread of its own, and its result is written as soon as it comes. Whatever a call meets, the model sees a
result; only what ends the whole run (a lost lease, a stop, a failed model of a member, a replay that diverged) is
raised, once every other call has come to a message boundary, so that nothing that was paid is thrown away.
"""

import contextvars
import copy
import queue
import threading
from collections.abc import Callable
from dataclasses import replace

from worker.domain.event import TOOL_CALL_COMPLETED, TOOL_CALL_STARTED, ToolCallProgress
from worker.domain.message import Draft, Message, Role, ToolCall, open_calls
from worker.domain.state import NO_CHANGE, StateChange
from worker.errors import ReplayDiverged
from worker.loop import budget, delegation, history_tools
from worker.loop.conversation import Conversation
from worker.loop.definition import Definition, Mode
from worker.loop.recorded import Recorded
from worker.loop.tools import OUTCOME_UNKNOWN, RunContext, Tool, state_change
from worker.observe import metrics, tracing

Converse = Callable[[Conversation], Draft]
Outcome = tuple[ToolCall, str, StateChange] | BaseException | None
"""A call with its result; or what ended the run inside it; None: the run was told to stop."""


def offered(definition: Definition) -> tuple[Tool, ...]:
    """Return the tools that a model is shown: with mode broadcast its leader has delegated already."""
    is_over = definition.mode is Mode.BROADCAST
    return tuple(tool for tool in callable_tools(definition) if not (is_over and tool is delegation.DELEGATE))


def make_open_calls(conversation: Conversation, converse: Converse) -> None:
    """Make all calls of the last reply that have no result yet, and write each result as it comes.

    Raises:
        Stopped, LeaseLost, ModelError, LimitReached, ReplayDiverged
    """
    waiting = open_calls(conversation.log)
    if not waiting:
        return
    budget.check_calls(conversation.limits, conversation.journal.log)
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    cancelled = threading.Event()
    failure: BaseException | None = None
    with conversation.stop.below() as stop:
        together = replace(conversation, stop=stop)
        try:
            for reply, place, call in waiting:
                stop.check()
                _begin(together, converse, reply, place, call, cancelled, outcomes)
            with stop.calling(lambda: outcomes.put(None)):
                for _ in waiting:
                    outcome = outcomes.get()
                    if outcome is None:
                        break
                    if isinstance(outcome, BaseException):
                        failure = failure or outcome
                        stop.set_at_boundary()
                        continue
                    _write(conversation, *outcome)
        finally:
            cancelled.set()
    conversation.stop.check()
    if failure is not None:
        raise failure


def callable_tools(definition: Definition) -> tuple[Tool, ...]:
    """Return the tools whose calls are carried out: a definition's own, and those that its options add."""
    return (*definition.tools, *delegation.tools(definition), *history_tools.tools(definition))


def _begin(
    conversation: Conversation,
    converse: Converse,
    reply: Message,
    place: int,
    call: ToolCall,
    cancelled: threading.Event,
    outcomes: "queue.SimpleQueue[Outcome]",
) -> None:
    """Begin one call on a thread of its own; its outcome, or what stands in its way, is put into *outcomes*."""
    journal = conversation.journal
    journal.publish(TOOL_CALL_STARTED(**_progress(conversation, call)))
    tools = {t.name: t for t in callable_tools(conversation.definition)}
    tool = tools.get(call.name)
    key = f"{conversation.run_id}:{reply.seq}:{place}"
    if tool is None:
        known = ", ".join(sorted(tools)) or "none"
        outcomes.put((call, f"Error: there is no tool {call.name!r}. The tools are: {known}.", NO_CHANGE))
        return
    own_tool = tool is not delegation.DELEGATE and tool not in history_tools.ALL
    if own_tool and conversation.recorded is not None:
        outcomes.put(_looked_up(conversation, conversation.recorded, reply, place))
        return
    if not tool.repeatable and not journal.record_start(key):
        outcomes.put((call, OUTCOME_UNKNOWN, NO_CHANGE))
        return

    def outcome() -> Outcome:
        with tracing.tool(tool.name, call_id=call.id):
            if tool is delegation.DELEGATE:
                return (call, delegation.carry_out(conversation, call, f"{reply.seq}.{place}", converse), NO_CHANGE)
            if tool in history_tools.ALL:
                return (call, history_tools.answer(conversation.history_reader, call), NO_CHANGE)
            return (call, *_called(conversation, tool, call, key, cancelled))

    def work() -> None:
        try:
            outcomes.put(outcome())
        except BaseException as error:  # noqa: BLE001 - it ends the run, on the run's own thread
            outcomes.put(error)

    context = contextvars.copy_context()  # of the run: logs and traces say whose it is
    threading.Thread(target=context.run, args=(work,), name=f"tool {tool.name}", daemon=True).start()


def _looked_up(conversation: Conversation, recorded: Recorded, reply: Message, place: int) -> Outcome:
    """Return what a tool returned when it was called so before: it is not called again, and changes no state."""
    try:
        text = recorded.result(list(conversation.journal.log), reply, place)
    except ReplayDiverged as diverged:
        return diverged
    return (reply.tool_calls[place], text, NO_CHANGE)


def _called(
    conversation: Conversation, tool: Tool, call: ToolCall, key: str, cancelled: threading.Event
) -> tuple[str, StateChange]:
    before = conversation.journal.state
    seen = RunContext(
        run_id=conversation.run_id,
        session_id=conversation.session_id,
        user_id=conversation.user_id,
        idempotency_key=key,
        cancelled=cancelled,
        session_state=copy.deepcopy(before),
    )
    with metrics.timed(metrics.TOOL_CALL.labels(tool.name)):
        text = tool.call(call.arguments, seen)
    return state_change(text, before, seen.session_state)


def _write(conversation: Conversation, call: ToolCall, text: str, change: StateChange) -> None:
    result = Draft(Role.TOOL, call.name, text, tool_call_id=call.id, delegation=conversation.delegation)
    conversation.journal.write([result], change=change)
    conversation.journal.publish(TOOL_CALL_COMPLETED(**_progress(conversation, call)))


def _progress(conversation: Conversation, call: ToolCall) -> ToolCallProgress:
    return {
        "tool_call_id": call.id,
        "name": call.name,
        "author": conversation.definition.id,
        "delegation": conversation.delegation,
    }
