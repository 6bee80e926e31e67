"""The loop of one run: call the model, write its reply, make the tool calls that it asked for, repeat.

It is a function of the messages written so far. A run that is taken over starts here with its log, makes the calls that
have no result yet, and continues: a written reply is never requested again. A member that works on a delegated task
uses the same loop, with the messages of its delegation as the log.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from worker.domain import ChatRequest, Draft, Extra, Message, Reply, Role, Stopped, ask_again_at_once, mend, message_id
from worker.domain.event import MESSAGE_DELTA, MESSAGE_RESTARTED
from worker.errors import LimitReached, ModelContextExceeded, ModelError, TeamSessionsError
from worker.loop import answer, calls, context, delegation, hooks, prompt_text
from worker.loop.answer import Misfit
from worker.loop.conversation import Conversation
from worker.loop.definition import Mode
from worker.loop.window import Fitted, Window
from worker.observe import logs

log = logs.get(__name__)


def converse(conversation: Conversation) -> Draft:
    """Return the answer, not yet written: a leader's answer is written in the transaction that ends the run.

    Raises:
        Stopped, LeaseLost, ModelError, LimitReached, ReplayDiverged, InputRefused, OutputRefused, HookFailed,
        AnswerInvalid
        Paused: all that is left to do waits for a decision.
    """
    definition = prompt_text.of_run(conversation)
    if definition is not conversation.definition:
        conversation = replace(conversation, definition=definition)
    answer.check_input(conversation.definition.input_schema, conversation.log)
    hooks.check_input(conversation)
    return _fitting(conversation, hooks.check_answer(conversation, _answer(conversation)))


def _fitting(conversation: Conversation, draft: Draft) -> Draft:
    """Return the answer if it fits its schema: a member's, a tool's or a hook's is not asked for again.

    Raises:
        AnswerInvalid
    """
    if conversation.answer is not None:
        try:
            conversation.answer.parse(draft.content)
        except Misfit as misfit:
            answer.fail(draft.author, misfit.problems)
    return draft


def _answer(conversation: Conversation) -> Draft:
    definition, journal = conversation.definition, conversation.journal
    window = Window(conversation.limits.context_tokens)
    if definition.mode is Mode.BROADCAST and len(conversation.log) == 1:
        journal.write([delegation.to_all_members(conversation)])
    while True:
        calls.make_open_calls(conversation, converse)
        if definition.mode is Mode.ROUTE and (routed := delegation.routed_answer(conversation)) is not None:
            return routed
        if (result := calls.stopping_result(conversation)) is not None:
            return result
        conversation.stop.check(boundary=True)
        _check_limits(conversation)
        repairing = answer.repairing(journal.log, conversation.delegation)
        reply = _ask(conversation, window, repairing)
        draft = Draft(
            Role.ASSISTANT,
            definition.id,
            reply.content,
            reply.tool_calls,
            delegation=conversation.delegation,
            usage=reply.usage,
            extra=_extra(reply),
        )
        if reply.tool_calls and not repairing:
            journal.write([draft])
            continue
        problems = answer.problems_of(conversation.answer, reply)
        if conversation.answer is None or not problems:
            return draft
        question = answer.question(conversation.answer, reply, definition.id, conversation.delegation, problems)
        if repairing or conversation.limits.repairs < 1:
            journal.write(question[:1])  # it is in the log, and in no later context
            answer.fail(definition.id, problems)
        journal.write(question)
        index = len(conversation.log)
        journal.publish(MESSAGE_RESTARTED(message_id=message_id(conversation.delegation, index)))


def _extra(reply: Reply) -> Extra | None:
    """Return what is stored of a reply besides its text and calls."""
    return replace(reply.extra or Extra(), cut_off=True) if reply.finish_reason == "length" else reply.extra


def _check_limits(conversation: Conversation) -> None:
    """Check that the run may make another model call. The lease keeper enforces seconds, since it can interrupt.

    It counts written messages, so a run that was taken over keeps its count.

    Raises:
        LimitReached
    """
    limits, journal = conversation.limits, conversation.journal
    turns = sum(m.role is Role.ASSISTANT for m in journal.log)
    if limits.turns is not None and turns >= limits.turns:
        raise LimitReached(limit=limits.turns, what="turns", option="Limits(turns=…)")
    if limits.tokens is not None and journal.usage.tokens >= limits.tokens:
        raise LimitReached(limit=limits.tokens, what="tokens", option="Limits(tokens=…)")


def _ask(conversation: Conversation, window: Window, repairing: Sequence[Message] = ()) -> Reply:
    """Return the model's reply. If the context is too long for the model, it is made smaller and sent once more.

    *repairing*: an answer that did not fit, and what is wrong with it, at the end of the context.

    Raises:
        Stopped, ModelError
    """
    definition, journal = conversation.definition, conversation.journal
    id = message_id(conversation.delegation, len(conversation.log))

    def on_delta(text: str) -> None:
        journal.publish(
            MESSAGE_DELTA(message_id=id, author=definition.id, delegation=conversation.delegation, delta=mend(text))
        )

    def begin_again() -> None:
        conversation.stop.check(boundary=True)
        journal.publish(MESSAGE_RESTARTED(message_id=id))

    def ask(request: ChatRequest) -> Reply:
        def once() -> Reply:
            return conversation.ask(conversation.model, request, on_delta, stop=conversation.stop)

        return ask_again_at_once(once, most=conversation.model_retries, before_each=begin_again)

    request, fitted = _request(conversation, window, repairing)
    try:
        try:
            reply = ask(request)
        except ModelContextExceeded as error:
            window.shrink(request, fitted, error)
            smaller, _ = _request(conversation, window, repairing)
            if smaller.messages == request.messages:
                raise
            log.warning("a context was too long for its model, and is sent again in part", model=conversation.model.id)
            request = smaller
            reply = ask(request)
    except (TeamSessionsError, Stopped):
        raise
    except Exception as error:
        if conversation.delegation is None:
            raise
        log.error("a member's model met an unexpected error", member=definition.id, error=error)
        raise ModelError(model=conversation.model.id, reason=type(error).__name__) from error
    window.learn(request, reply.usage.input_tokens)
    return reply


def _request(conversation: Conversation, window: Window, repairing: Sequence[Message]) -> tuple[ChatRequest, Fitted]:
    definition, state = conversation.definition, conversation.journal.state
    fitted = window.fit(conversation.history, [*conversation.log, *repairing])
    tools = () if repairing else tuple(t.describe for t in calls.offered(definition, reads_rest=fitted.cut))
    names = {tool.name for tool in tools}
    messages = context.build(definition, fitted.history, fitted.log, state, tools=names)
    choice = _tool_choice(conversation, names)
    request = ChatRequest(messages, tools, tool_choice=choice, silence_s=conversation.silence_s)
    if conversation.answer is None or definition.mode is Mode.ROUTE:
        return request, fitted
    schema = conversation.answer
    return replace(request, answer_schema=dict(schema.schema), answer_name=schema.name), fitted


def _tool_choice(conversation: Conversation, names: Collection[str]) -> str | None:
    """Return which tools the model must call now. A call that is forced each time would never end in an answer."""
    choice = conversation.definition.tool_choice
    replied = any(message.role is Role.ASSISTANT for message in conversation.log)
    if choice in (None, "auto", "none") or not replied:
        return choice if names else None
    return None
