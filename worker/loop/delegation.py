"""Delegation: a task that a leader gives to a member, through a tool call.

Its id is that of the call, so it is the same after a crash: a delegation that had ended is not begun again, and one
that was interrupted goes on behind its own last written message. Its messages are rows like all others, with the
member as author; the leader's later contexts do not show them.
"""

import json
from collections.abc import Callable
from dataclasses import replace

from worker.domain.event import DELEGATION_COMPLETED, DELEGATION_STARTED, DelegationProgress
from worker.domain.message import Draft, Message, Role, ToolCall
from worker.loop.conversation import Conversation, History
from worker.loop.definition import Definition, Mode
from worker.loop.tools import Tool, tool
from worker.observe import tracing

NAME = "delegate_task_to_member"


@tool(name=NAME)
def _delegate(member_id: str, task: str) -> str:
    """Give a task to a member of your team, and get the member's answer.

    Args:
        member_id: id of the member, as your instructions name it.
        task: what the member shall do, with all that it needs to know: it sees nothing else.
    """
    raise NotImplementedError("carried out by the loop")


DELEGATE: Tool = _delegate


def tools(definition: Definition) -> tuple[Tool, ...]:
    """Return the tool by which a leader delegates, if it has members."""
    return (DELEGATE,) if definition.members else ()


def introduction(definition: Definition) -> str:
    """Return what a leader is told of its members."""
    if not definition.members:
        return ""
    members = "\n".join(f"- {m.id}: {m.role or m.name}" for m in definition.members)
    how = {
        Mode.COORDINATE: "Delegate what a member can do better, several tasks at once where they do not depend on "
        "each other. You answer the user yourself, from what they return.",
        Mode.ROUTE: "Delegate each request to the member that fits it best. The member's answer goes to the user.",
        Mode.BROADCAST: "Each of them has been given the user's input. Answer the user from what they returned.",
    }[definition.mode]
    return f"You lead a team. Its members, by id:\n{members}\n{how}"


def carry_out(leader: Conversation, call: ToolCall, delegation: str, converse: Callable[[Conversation], Draft]) -> str:
    """Return the member's answer to the delegated task; an error that the leader can mend is a text too.

    Raises:
        Stopped, LeaseLost, ModelError, LimitReached, ReplayDiverged: of the member's own loop; they end the run.
    """
    asked = DELEGATE.parse(call.arguments)
    if isinstance(asked, str):
        return asked
    member = leader.definition.member(asked["member_id"])
    if member is None:
        known = ", ".join(m.id for m in leader.definition.members)
        return f"Error: there is no member {asked['member_id']!r}. The members are: {known}."
    model = member.model or leader.default_model
    conversation = replace(leader, definition=member, model=model, history=History(), delegation=delegation)
    journal = leader.journal
    progress: DelegationProgress = {"delegation": delegation, "member": member.id, "author": leader.definition.id}
    journal.publish(DELEGATION_STARTED(**progress))
    if not conversation.log:
        journal.write([Draft(Role.USER, leader.definition.id, asked["task"], delegation=delegation)])
    answer = _answered(conversation.log)
    if answer is None:
        with tracing.member(member.id):
            draft = converse(conversation)
            journal.write([draft])
        answer = draft.content
    journal.publish(DELEGATION_COMPLETED(**progress))
    return answer


def to_all_members(conversation: Conversation) -> Draft:
    """Return the reply that a leader would give to delegate its input to every member."""
    task = conversation.log[0].content
    calls = [
        ToolCall(f"broadcast_{n}", NAME, json.dumps({"member_id": m.id, "task": task}, ensure_ascii=False))
        for n, m in enumerate(conversation.definition.members)
    ]
    return Draft(Role.ASSISTANT, conversation.definition.id, "", tuple(calls), delegation=conversation.delegation)


def routed_answer(conversation: Conversation) -> Draft | None:
    """Return the members' answer to the last reply's delegations as the answer; None: none has answered."""
    replies = [m for m in conversation.log if m.role is Role.ASSISTANT]
    if not replies:
        return None
    everything = list(conversation.journal.log)
    logs = [
        [m for m in everything if m.delegation == f"{replies[-1].seq}.{place}"]
        for place, call in enumerate(replies[-1].tool_calls)
        if call.name == NAME
    ]
    answers = [(log[-1].author, answer) for log in logs if (answer := _answered(log)) is not None]
    if not answers:
        return None
    author = answers[0][0] if len(answers) == 1 else conversation.definition.id
    text = "\n\n".join(answer for _author, answer in answers)
    return Draft(Role.ASSISTANT, author, text, delegation=conversation.delegation)


def _answered(log: list[Message]) -> str | None:
    """Return the answer that ends *log*, the messages of one delegation."""
    ends = bool(log) and log[-1].role is Role.ASSISTANT and not log[-1].tool_calls
    return log[-1].content if ends else None
