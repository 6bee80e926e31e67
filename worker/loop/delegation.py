"""Delegation: a task that a leader gives to a member through a tool call.

Its id comes from the call, so it is the same after a crash: a completed delegation is not repeated, and an interrupted
one continues after its last written message. Its messages are stored like all others, with the member as author; the
leader's later contexts leave them out.
"""

import json
from collections.abc import Callable
from dataclasses import replace

from worker.domain import DelegationProgress, Draft, Extra, Message, Role, ToolCall
from worker.domain.event import DELEGATION_COMPLETED, DELEGATION_STARTED
from worker.errors import AnswerInvalid, HookFailed, InputRefused, ModelError, OutputRefused
from worker.loop import for_members
from worker.loop.conversation import Conversation
from worker.loop.definition import Definition, Mode, OnMemberFailure
from worker.loop.delegate import NAME, delegate
from worker.loop.tools import Tool
from worker.loop.unanswered import below, unanswered
from worker.observe import logs, tracing

BREAKS_OFF = "(The answer breaks off here: it reached the limit of output tokens.)"
FAILED = "Error: member {member!r} failed. {reason} Continue without it, or delegate the task to another member."

log = logs.get(__name__)


def tools(definition: Definition) -> tuple[Tool, ...]:
    """Return the tool by which a leader delegates, if it has members."""
    return (delegate,) if definition.members else ()


def introduction(definition: Definition) -> str:
    """Return the instructions of a leader about its members, or an empty text."""
    if not definition.members:
        return ""
    members = "\n".join(_described(m, tools=definition.prompt.member_tools) for m in definition.members)
    instruction = {
        Mode.COORDINATE: "Delegate what a member can do better, several tasks at once where they do not depend on "
        "each other. You answer the user yourself, from what they return.",
        Mode.ROUTE: "Delegate each request to the member that fits it best. The member's answer goes to the user.",
        Mode.BROADCAST: "Each of them has been given the user's input. Answer the user from what they returned.",
    }[definition.mode]
    return f"You lead a team. Its members, by id:\n{members}\n{instruction}"


def _described(member: Definition, *, tools: bool) -> str:
    names = ", ".join(tool.name for tool in member.tools) if tools else ""
    return f"- {member.id}: {member.role or member.name}{f' (tools: {names})' if names else ''}"


def carry_out(leader: Conversation, call: ToolCall, delegation: str, converse: Callable[[Conversation], Draft]) -> str:
    """Return the member's answer to the delegated task, or an error text that the leader can react to.

    A model that fails for good and a hook that refuses, here or further below, are such errors, unless the team says
    `on_member_failure` 'fail'. The member's calls without a result get one then, because its work does not continue.

    Raises:
        Stopped, LeaseLost, ModelError, LimitReached, ReplayDiverged: from the member's loop; they end the attempt.
    """
    arguments = delegate.parse(call.arguments)
    if isinstance(arguments, str):
        return arguments
    member = leader.definition.member(arguments["member_id"])
    if member is None:
        ids = ", ".join(m.id for m in leader.definition.members)
        return f"Error: there is no member {arguments['member_id']!r}. The members are: {ids}."
    model = member.model or leader.model
    history, data = for_members.own_history(leader, member), for_members.data(leader)
    answers = leader.definition.mode is Mode.ROUTE and leader.answer is not None  # its answer is the leader's
    schema = leader.answer if answers else member.output_schema
    conversation = replace(
        leader, definition=member, model=model, history=history, delegation=delegation, data=data, answer=schema
    )
    journal = leader.journal
    progress: DelegationProgress = {"delegation": delegation, "member": member.id, "author": leader.definition.id}
    journal.publish(DELEGATION_STARTED(**progress))
    if not conversation.log:
        task = leader.log[0].content if leader.definition.for_members.user_input else arguments["task"]
        journal.write([Draft(Role.USER, leader.definition.id, task, delegation=delegation)])
    answer = _answer(conversation.log)
    result = _work(conversation, leader, converse) if answer is None else _result(answer)
    journal.publish(DELEGATION_COMPLETED(**progress))
    return result


def _work(conversation: Conversation, leader: Conversation, converse: Callable[[Conversation], Draft]) -> str:
    """Let the member work on its task, and return its answer or why it failed."""
    member, journal = conversation.definition, conversation.journal
    try:
        with tracing.member(member.id):
            draft = converse(conversation)
    except (ModelError, HookFailed, InputRefused, OutputRefused, AnswerInvalid) as error:
        is_retried = isinstance(error, ModelError) and not leader.gives_up(error)
        if is_retried or leader.definition.on_member_failure is OnMemberFailure.FAIL:
            raise
        log.warning("a member failed, and its leader continues", member=member.id, code=error.code)
        assert conversation.delegation is not None
        left_open = unanswered(below(list(journal.log), conversation.delegation), because="the member failed")
        if left_open:
            journal.write(left_open)
        return FAILED.format(member=member.id, reason=error.message)
    journal.write([draft])
    return _result(draft)


def to_all_members(conversation: Conversation) -> Draft:
    """Return a leader's reply that delegates its input to every member."""
    task = conversation.log[0].content
    calls = [
        ToolCall(f"broadcast_{n}", NAME, json.dumps({"member_id": m.id, "task": task}, ensure_ascii=False))
        for n, m in enumerate(conversation.definition.members)
    ]
    return Draft(Role.ASSISTANT, conversation.definition.id, "", tuple(calls), delegation=conversation.delegation)


def routed_answer(conversation: Conversation) -> Draft | None:
    """Return the members' answers to the last reply's delegations as the answer; None: there is none yet."""
    replies = [m for m in conversation.log if m.role is Role.ASSISTANT]
    if not replies:
        return None
    messages = list(conversation.journal.log)
    delegations = [
        [m for m in messages if m.delegation == f"{replies[-1].seq}.{index}"]
        for index, call in enumerate(replies[-1].tool_calls)
        if call.name == NAME
    ]
    answers = [answer for own in delegations if (answer := _answer(own)) is not None]
    if not answers:
        return None
    author = answers[0].author if len(answers) == 1 else conversation.definition.id
    text = "\n\n".join(answer.content for answer in answers)
    extra = Extra(cut_off=True) if any(map(_is_cut_off, answers)) else None
    return Draft(Role.ASSISTANT, author, text, delegation=conversation.delegation, extra=extra)


def _result(answer: Draft | Message) -> str:
    """Return the result that a leader gets for a member's answer."""
    return f"{answer.content}\n\n{BREAKS_OFF}" if _is_cut_off(answer) else answer.content


def _is_cut_off(answer: Draft | Message) -> bool:
    return answer.extra is not None and answer.extra.cut_off


def _answer(written: list[Message]) -> Message | None:
    """Return the answer at the end of *written*, the messages of one delegation; None: there is none yet."""
    answered = bool(written) and written[-1].role is Role.ASSISTANT and not written[-1].tool_calls
    return written[-1] if answered else None
