"""`RunOutput`: the result of a run, read from its row and its messages."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from worker.domain import Message, PendingCall, Role, Run, Status, Usage, calls_with_results
from worker.loop.answer import AnswerSchema, is_repair
from worker.loop.delegate import NAME as DELEGATE
from worker.loop.fit import as_object
from worker.requirement import Requirement, ToolExecution


@dataclass(frozen=True, slots=True)
class MemberResponse:
    """What a member did for one task. `content` is its answer; None: there is none. Members' own members are apart."""

    delegation: str
    member_id: str
    task: str
    content: str | None
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class RunOutput:
    """The result of a run: the answer, all its messages (members' too), and its usage.

    `content` is the answer: text or, with an `output_schema`, the object; `text` is what the model wrote.

    `finish_reason` is 'stop', or 'length' if the model's limit of output tokens cut the answer off. `tools` are the
    leader's own calls, `member_responses` its members' work, both oldest first.
    """

    content: Any
    messages: list[Message]
    usage: Usage
    run_id: str
    session_id: str
    user_id: str
    finish_reason: str = "stop"
    status: Status = Status.COMPLETED
    input: str = ""
    created_at: datetime | None = None
    requirements: Sequence[Requirement] = ()  # of a paused run: its calls that asked for a decision
    text: str = ""  # the answer as the model wrote it
    answer_schema: AnswerSchema | None = field(default=None, repr=False)

    @property
    def is_paused(self) -> bool:
        """Whether the run waits for decisions."""
        return self.status is Status.PAUSED

    @property
    def active_requirements(self) -> list[Requirement]:
        """The calls that wait for a decision: decide about them, and call `continue_run`."""
        return [requirement for requirement in self.requirements if requirement.call.is_open]

    @property
    def metrics(self) -> Usage:
        """The usage, under Agno's name."""
        return self.usage

    @property
    def tools(self) -> list[ToolExecution]:
        """The calls of the leader's own tools, with their results."""
        own = [message for message in self.messages if message.delegation is None]
        return [
            ToolExecution(call.id, call.name, json.loads(as_object(call.arguments)), result)
            for call, result in calls_with_results(own)
            if call.name != DELEGATE
        ]

    @property
    def member_responses(self) -> list[MemberResponse]:
        """What each member did, by task."""
        delegations = dict.fromkeys(message.delegation for message in self.messages)
        tasks = [each for each in delegations if each is not None and not is_repair(each)]
        return [self._of_member(delegation) for delegation in tasks]

    def _of_member(self, delegation: str) -> MemberResponse:
        own = [message for message in self.messages if message.delegation == delegation]
        replies = [message for message in own if message.role is Role.ASSISTANT]
        answer = own[-1] if replies and own[-1] is replies[-1] and not own[-1].tool_calls else None
        member = replies[-1].author if replies else ""
        return MemberResponse(delegation, member, own[0].content, answer.content if answer else None, own)


def output_of(
    run: Run, messages: list[Message], calls: Sequence[PendingCall] = (), answer: AnswerSchema | None = None
) -> RunOutput:
    """Return the result of a run that is completed or paused, with its messages and the calls that ask.

    *answer*: what its answer fits, so that its content is the object.
    """
    text = run.output or ""
    content = text if run.parsed is None else run.parsed if answer is None else answer.parse(text)
    return RunOutput(
        content,
        messages,
        run.usage,
        run.id,
        run.session_id,
        run.user_id,
        run.finish_reason or "stop",
        run.status,
        run.input,
        run.created_at,
        [Requirement(call) for call in calls],
        text,
        answer,
    )
