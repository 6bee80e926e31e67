"""What a team and an agent can be given. To add an option: a line here, and what it means in `definition_of`.

Each option has a default, and None is that default.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from inspect import Parameter, Signature, signature
from typing import Any, Literal, TypedDict
from uuid import UUID

from worker import agno_names
from worker.checked import Checked
from worker.db import Db
from worker.domain import ChatModel, Retention, SessionSummaryManager
from worker.loop.definition import Definition, ForMembers, Hooks, Limits, Mode, OnMemberFailure
from worker.loop.prompt import TIME_FORMAT, Prompt
from worker.loop.tools import Tool

AnyTool = Tool | Callable[..., Any]


class Options(TypedDict, total=False):
    """What an agent can be given."""

    id: str | None  # by default a slug of the name
    name: str | None  # for people and for the model
    role: str | None  # what it is good at, as a member of a team
    model: ChatModel | str | None  # or its name; by default its team's, else the one that TEAM_SESSIONS_MODEL names

    # The system message: description, role, instructions, members, then the others.
    description: str | None  # its first line
    instructions: str | Sequence[str] | Callable[..., Any] | None  # text, lines, or a function of a RunContext
    expected_output: str | None  # what an answer shall look like
    additional_context: str | None  # more text behind the instructions
    add_name_to_context: bool | None  # whether its system message has its name
    introduction: str | None  # how it has introduced itself to the user
    markdown: bool | None  # whether it answers in Markdown
    system_message: str | Callable[..., Any] | None  # all of it, in place of the options above
    resolve_in_context: bool | None  # whether `{name}` in these texts is a dependency or a key of the state; True
    additional_input: Sequence[Any] | None  # examples before the history: texts, or {"role": …, "content": …}
    add_datetime_to_context: bool | None  # whether each call names the time at which the run was accepted
    timezone_identifier: str | None  # of that time, such as 'Europe/Berlin'; UTC
    datetime_format: str | None  # of that time, as `strftime` reads it
    dependencies: Mapping[str, Any] | None  # of its runs, for tools, hooks and instructions; `run` can add to them
    add_dependencies_to_context: bool | None  # whether each call includes them

    # What its answer must fit: a pydantic model, a dataclass, or a JSON schema. `RunOutput.content` is then the object.
    output_schema: Any
    input_schema: Any  # what its input must fit: `run` takes an object or its JSON

    tools: Sequence[Any] | None  # functions that it may call, and toolkits
    tool_choice: str | Mapping[str, Any] | None  # of its first call: 'auto', 'required', a tool's name; or 'none'
    tool_hooks: Sequence[Callable[..., Any]] | None  # functions around each tool call
    ask_user: bool | None  # whether it gets a tool that asks the user a question; the run waits for the answer
    pre_hooks: Sequence[Callable[..., Any]] | None  # functions of the input, which can raise InputRefused
    post_hooks: Sequence[Callable[..., Any]] | None  # functions of the answer, which can raise OutputRefused

    add_history_to_context: bool | None  # whether each call includes earlier runs; for a member, its earlier tasks
    num_history_runs: int | None  # how many; by default 3 or, with the summary, what the summary does not cover, and 3
    num_history_messages: int | None  # or how many messages
    max_tool_calls_from_history: int | None  # how many of the last tool calls of earlier runs are sent
    read_chat_history: bool | None  # whether it gets a tool that reads the whole chat
    read_tool_call_history: bool | None  # whether it gets a tool that reads earlier tool calls
    enable_session_summaries: bool | None  # whether a session is condensed in the background as its history grows
    session_summary_manager: SessionSummaryManager | None  # the model and prompt of summaries, and when they are due
    session_summary_prompt: str | None  # the prompt of summaries, if nothing else is set
    add_session_summary_to_context: bool | None  # by default if summaries are enabled
    session_state: Mapping[str, Any] | None  # of a new session
    add_session_state_to_context: bool | None  # whether each call includes the state
    enable_agentic_state: bool | None  # whether it gets a tool that changes the state

    metadata: Mapping[str, Any] | None  # for your own use
    limits: Limits | None  # of one run, members included
    retention: Retention | None  # how long its sessions, runs and streams are kept, and how many versions of a summary
    version: str | None  # of the definition; by default a hash of it
    db: Db | None  # of a script; by default the memory of its process. Workers use their own database
    user_id: str | None  # of `run`, where it names none
    session_id: str | None  # of `run`, where it names none


class TeamOptions(Options, total=False):
    """What a team can be given besides."""

    members: Sequence[Any] | None  # agents, or teams, that the leader can delegate to
    # 'coordinate': the leader delegates as it sees fit, and answers. 'route': the member's answer is the answer.
    # 'broadcast': all members get the input in parallel, and the leader answers from their answers.
    mode: str | None
    # When a member's model fails for good, after the run's retries: 'tell' the leader, which gets the reason as the
    # result of its delegation and continues, or 'fail' the team.
    on_member_failure: Literal["tell", "fail"] | None
    determine_input_for_members: bool | None  # whether the leader words the tasks; False: they are the user's input
    add_member_tools_to_context: bool | None  # whether the leader is shown the names of its members' tools
    add_team_history_to_members: bool | None  # whether a member is shown the team's earlier runs
    num_team_history_runs: int | None  # how many; 3
    share_member_interactions: bool | None  # whether a member is shown what others did in this run


class RunArguments(TypedDict, total=False):
    """What a run can be given besides its input. To add one: a line here, and a field of `domain.RunOrder`."""

    user_id: str | UUID | None  # the user that it is for; '' by default
    session_id: str | UUID | None  # the session to continue, unique for its user; else a new one
    metadata: Mapping[str, Any] | None  # your own JSON, stored with the run
    session_state: Mapping[str, Any] | None  # set in the session's state when the run starts
    dependencies: Mapping[str, Any] | None  # for its tools, hooks and instructions; of functions, what they return now
    add_dependencies_to_context: bool | None  # whether the model is shown them, whatever the team says
    output_schema: Any  # what the answer must fit: a pydantic model, a dataclass, or a JSON schema; before the team's


def take(function: Any, named: Any, *, accepted: Sequence[str] = ()) -> None:
    """Let `help` and `inspect` show the names that a function takes by `**`. *accepted*: those that change nothing."""
    own = [p for p in signature(function).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    names = named.__annotations__.items()
    shown = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=hint) for name, hint in names]
    function.__signature__ = Signature([*own, *shown])
    function.ACCEPTED = tuple(accepted)


def definition_of(kind: str, options: Mapping[str, Any]) -> Definition:
    """Return the definition that *options* of a *kind*, 'team' or 'agent', describe.

    Raises:
        DefinitionInvalid: it names every mistake.
    """
    known = (TeamOptions if kind == "team" else Options).__annotations__
    mistakes: list[str] = []
    given = Checked(agno_names.translate(kind, options, known=known, mistakes=mistakes))
    given.mistakes += mistakes
    id = given.id(kind)
    tools, members = given.tools(), given.members()
    given.mapping("metadata")
    given.value("db", Db, expected="a database, such as SqliteDb(db_file='sessions.db')")
    for name in ("user_id", "session_id", "version"):
        given.text(name)
    enabled = given.flag("enable_session_summaries")
    definition = Definition(
        id=id,
        name=given.text("name", id),
        role=given.text("role"),
        model=given.model(),
        instructions=given.instructions(),
        prompt=_prompt(given),
        tools=tools,
        members=members,
        mode=_mode(given, members),
        on_member_failure=OnMemberFailure(given.choice("on_member_failure", list(OnMemberFailure))),
        for_members=_for_members(given),
        hooks=Hooks(given.functions("pre_hooks"), given.functions("post_hooks"), given.functions("tool_hooks")),
        tool_choice=given.tool_choice(tools),
        add_history_to_context=given.flag("add_history_to_context"),
        num_history_runs=given.number("num_history_runs"),
        num_history_messages=given.number("num_history_messages"),
        max_tool_calls_from_history=given.number("max_tool_calls_from_history"),
        read_chat_history=given.flag("read_chat_history"),
        read_tool_call_history=given.flag("read_tool_call_history"),
        session_state=given.state(),
        add_session_state_to_context=given.flag("add_session_state_to_context"),
        enable_agentic_state=given.flag("enable_agentic_state"),
        ask_user=given.flag("ask_user"),
        output_schema=given.answer_schema("output_schema"),
        input_schema=given.answer_schema("input_schema"),
        dependencies=given.mapping("dependencies"),
        enable_session_summaries=enabled,
        session_summary_manager=_summary_manager(given),
        add_session_summary_to_context=given.flag("add_session_summary_to_context", default=enabled),
        limits=_limits(given),
        retention=_retention(given),
    )
    given.raise_mistakes(f"{kind} {id!r}")
    return definition.with_version(given.text("version") or None)


def _prompt(given: Checked) -> Prompt:
    return Prompt(
        description=given.text("description"),
        expected_output=given.text("expected_output"),
        additional_context=given.text("additional_context"),
        introduction=given.text("introduction"),
        name=given.flag("add_name_to_context"),
        markdown=given.flag("markdown"),
        system_message=given.text_or_function("system_message"),
        additional_input=given.examples(),
        add_datetime_to_context=given.flag("add_datetime_to_context"),
        timezone_identifier=given.time_zone(),
        datetime_format=given.text("datetime_format", TIME_FORMAT),
        resolve_in_context=given.flag("resolve_in_context", default=True),
        add_dependencies_to_context=given.flag("add_dependencies_to_context"),
        member_tools=given.flag("add_member_tools_to_context"),
    )


def _mode(given: Checked, members: Sequence[Definition]) -> Mode:
    mode = Mode(given.choice("mode", list(Mode)))
    if mode is not Mode.COORDINATE and not members:
        given.mistakes.append(f"mode {str(mode)!r} needs members, and there are none")
    return mode


def _for_members(given: Checked) -> ForMembers:
    number = given.number("num_team_history_runs", least=1)
    return ForMembers(
        num_team_history_runs=(3 if number is None else number) if given.flag("add_team_history_to_members") else 0,
        interactions=given.flag("share_member_interactions"),
        user_input=not given.flag("determine_input_for_members", default=True),
    )


def _summary_manager(given: Checked) -> SessionSummaryManager:
    manager = given.value("session_summary_manager", SessionSummaryManager, expected="a SessionSummaryManager")
    prompt = given.text("session_summary_prompt") or None
    if manager is None:
        return SessionSummaryManager(session_summary_prompt=prompt)
    if prompt is not None:
        given.mistakes.append("session_summary_prompt is given twice: to the team and by its session_summary_manager")
    manager = replace(manager, model=given.as_model(manager.model, "session_summary_manager.model"))
    for option in ("due_messages", "due_tokens"):
        if (number := getattr(manager, option)) is not None and number < 1:
            given.mistakes.append(f"session_summary_manager.{option} is {number}; expected 1 or more")
    return manager


def _limits(given: Checked) -> Limits:
    limits = given.value("limits", Limits, expected="Limits(…)") or Limits()
    limits = replace(limits, **given.mapping(agno_names.LIMITS))
    for name in Limits.__dataclass_fields__:
        number = getattr(limits, name)
        if number is not None and (isinstance(number, bool) or not isinstance(number, (int, float)) or number < 0):
            given.mistakes.append(f"limits.{name} is {number!r}; expected 0 or more")
    return limits


def _retention(given: Checked) -> Retention:
    retention = given.value("retention", Retention, expected="Retention(…)") or Retention()
    given.mistakes += retention.mistakes()
    return retention
