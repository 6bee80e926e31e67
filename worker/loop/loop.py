"""The loop of one run: ask the model, write its reply, make the calls that it asked for, ask again.

It is a function of the messages written so far. A run that is taken over starts here with the log that it left, makes
the calls that have no result yet, and goes on: a reply that was written is never asked for again.
"""

import queue
import threading
from dataclasses import dataclass

from worker.domain.chat import AskModel, ChatModel, ChatRequest, Reply
from worker.domain.message import Draft, Message, Role, ToolCall, open_calls
from worker.domain.stop import Stop
from worker.domain.text import mend
from worker.loop import budget, context
from worker.loop.definition import Definition, Limits
from worker.loop.journal import Journal
from worker.loop.tools import OUTCOME_UNKNOWN, RunContext, Tool


@dataclass(frozen=True, slots=True)
class Conversation:
    """All that the loop needs to answer one input."""

    definition: Definition
    model: ChatModel
    limits: Limits
    history: list[Message]
    journal: Journal
    ask: AskModel
    stop: Stop
    run_id: str
    session_id: str
    user_id: str
    silence_s: float
    attempt_id: str  # makes message ids of this attempt differ from those of an earlier one


def converse(conversation: Conversation) -> Draft:
    """Return the leader's answer, which is not written yet: it belongs into the transaction that ends the run.

    Raises:
        Stopped, LeaseLost, ModelError, LimitReached
    """
    journal = conversation.journal
    while True:
        _make_open_calls(conversation)
        conversation.stop.check(boundary=True)
        budget.check_turns(conversation.limits, journal.log, journal.usage)
        reply = _ask(conversation)
        draft = Draft(Role.ASSISTANT, conversation.definition.id, reply.content, reply.tool_calls, usage=reply.usage)
        if not reply.tool_calls:
            return draft
        journal.write([draft])


def message_id(conversation: Conversation) -> str:
    """Return the id under which watchers know the message that is being written next."""
    return f"{conversation.attempt_id}-{len(conversation.journal.log)}"


def unanswered(log: list[Message], *, because: str) -> list[Draft]:
    """Return results for the calls that will never be made: a terminal run has no tool call without a result."""
    return [
        Draft(Role.TOOL, call.name, f"Not done: {because}.", tool_call_id=call.id, delegation=reply.delegation)
        for reply, _place, call in open_calls(log)
    ]


def _ask(conversation: Conversation) -> Reply:
    definition, journal = conversation.definition, conversation.journal
    about = {"message_id": message_id(conversation), "author": definition.id, "delegation": None}

    def on_delta(text: str) -> None:
        journal.tell("message.delta", {**about, "delta": mend(text)})

    request = ChatRequest(
        messages=context.build(definition, conversation.history, journal.log),
        tools=tuple(t.describe for t in definition.tools),
        silence_s=conversation.silence_s,
    )
    return conversation.ask(conversation.model, request, on_delta, stop=conversation.stop)


def _make_open_calls(conversation: Conversation) -> None:
    """Make all calls of the last reply that have no result yet, in parallel; write each result as it comes."""
    journal, stop = conversation.journal, conversation.stop
    waiting = open_calls(journal.log)
    if waiting:
        budget.check_calls(conversation.limits, journal.log)
    tools = {t.name: t for t in conversation.definition.tools}
    results: queue.SimpleQueue[tuple[ToolCall, str] | None] = queue.SimpleQueue()
    cancelled = threading.Event()
    try:
        for reply, place, call in waiting:
            stop.check()
            _begin(conversation, tools, reply, place, call, cancelled, results)
        with stop.calling(lambda: results.put(None)):
            for _ in waiting:
                done = results.get()
                if done is None:
                    break
                call, text = done
                journal.write([Draft(Role.TOOL, call.name, text, tool_call_id=call.id)])
                journal.tell("tool_call.completed", _about(conversation, call))
    finally:
        cancelled.set()
    stop.check()


def _begin(
    conversation: Conversation,
    tools: dict[str, Tool],
    reply: Message,
    place: int,
    call: ToolCall,
    cancelled: threading.Event,
    results: "queue.SimpleQueue[tuple[ToolCall, str] | None]",
) -> None:
    """Begin one call on a thread of its own; its result, or what stands in its way, is put into *results*."""
    conversation.journal.tell("tool_call.started", _about(conversation, call))
    key = f"{conversation.run_id}:{reply.seq}:{place}"
    seen = RunContext(conversation.run_id, conversation.session_id, conversation.user_id, key, cancelled)
    tool = tools.get(call.name)
    if tool is None:
        known = ", ".join(sorted(tools)) or "none"
        results.put((call, f"Error: there is no tool {call.name!r}. The tools are: {known}."))
    elif not tool.repeatable and not conversation.journal.record_start(key):
        results.put((call, OUTCOME_UNKNOWN))
    else:

        def work(tool: Tool = tool) -> None:
            results.put((call, tool.call(call.arguments, seen)))

        threading.Thread(target=work, name=f"tool {tool.name}", daemon=True).start()


def _about(conversation: Conversation, call: ToolCall) -> dict[str, str | None]:
    return {"tool_call_id": call.id, "name": call.name, "author": conversation.definition.id, "delegation": None}
