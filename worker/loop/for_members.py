"""What a member is shown besides its task: its own earlier tasks, the team's history, what other members did.

All of it is read from written messages, so a run that is taken over shows the same.
"""

from dataclasses import replace

from worker.domain import Message, Role, ToolCall, calls_with_results
from worker.loop import data_block
from worker.loop.conversation import Conversation, History
from worker.loop.definition import Definition
from worker.loop.delegate import NAME, delegate

READ = 400  # results of tools that are read to find a member's own, at most
TEXT = 4_000  # characters of an earlier text, at most


def own_history(leader: Conversation, member: Definition) -> History:
    """Return the last tasks of *member* in this session, each with its answer, if it has `add_history_to_context`."""
    if not member.add_history_to_context:
        return History()
    number = member.num_history_messages
    most = member.history_runs if number is None else number // 2
    turns: list[tuple[Message, Message]] = []
    lengths: dict[int, int] = {}
    for reply, result in leader.history_reader.tool_results(limit=READ, before=None, cut=TEXT):
        if len(turns) == most:
            break
        call = next(c for c in reply.tool_calls if c.id == result.message.tool_call_id)
        if (task := _task(leader.definition, member, call)) is not None:
            answer = replace(result.message, role=Role.ASSISTANT, author=member.id, tool_call_id=None)
            if result.length > len(answer.content):
                lengths[answer.seq] = result.length
            turns.append((replace(answer, seq=reply.seq, role=Role.USER, content=task), answer))
    return History(tuple(message for turn in reversed(turns) for message in turn), lengths=lengths)


def data(leader: Conversation) -> tuple[str, ...]:
    """Return the texts about the team that a member's contexts end with."""
    options = leader.definition.for_members
    texts = []
    if options.num_team_history_runs:
        texts.append(_team_history(leader, options.num_team_history_runs))
    if options.interactions:
        texts.append(_interactions(leader))
    return tuple(data_block.block(data_block.TEAM, text) for text in texts if text)


def _team_history(leader: Conversation, run_count: int) -> str:
    excerpts = leader.history_reader.chat(limit=READ, num_runs=run_count, before=None, cut=TEXT)
    lines = [f"{e.message.role}: {e.message.content}" for e in reversed(excerpts)]
    return "Earlier in this conversation:\n" + "\n".join(lines) if lines else ""


def _interactions(leader: Conversation) -> str:
    lines = []
    for call, result in calls_with_results(leader.log):
        arguments = delegate.parse(call.arguments) if call.name == NAME and result is not None else ""
        if isinstance(arguments, dict) and result is not None:
            lines.append(f"{arguments['member_id']} was given: {arguments['task']}\nand answered: {result[:TEXT]}")
    return "Other members of the team in this run:\n" + "\n".join(lines) if lines else ""


def _task(leader: Definition, member: Definition, call: ToolCall) -> str | None:
    """Return the task that *call* gave to *member*; None: it gave it none."""
    arguments = delegate.parse(call.arguments) if call.name == NAME else ""
    if isinstance(arguments, str) or leader.member(arguments["member_id"]) != member:
        return None
    return str(arguments["task"])
