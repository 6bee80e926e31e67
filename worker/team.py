"""`Team`: a definition, validated when it is made, with methods to run it and to read its sessions."""

from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, overload

from worker import inline
from worker.agent import Agent, AnyTool, checked_id, checked_members, checked_state, checked_tools, lines, raise_if_any
from worker.db import IN_MEMORY, Db, service_db
from worker.domain import (
    ChatModel,
    Event,
    OnBusy,
    OnBusyName,
    Priority,
    PriorityName,
    Retention,
    RunOrder,
    SessionSummaryManager,
    check_id,
    validate_order,
)
from worker.handle import RunHandle
from worker.inline import RunOutput
from worker.loop.definition import Definition, Limits, Mode, OnMemberFailure
from worker.runs.enqueue import enqueue, enqueue_in
from worker.store import Transaction as Connection
from worker.team_sessions import TeamSessions


class Team(TeamSessions):
    """A leader with its members. Runs name the definition by its `id`.

    Args:
        id: by default a slug of the name, else 'team'.
        name: for people and for the model.
        role: what it is good at, as a member of another team.
        model: of the leader, and of members without one; by default the one that TEAM_SESSIONS_MODEL names.
        members: agents, or teams, that the leader can delegate to.
        mode: 'coordinate' (the leader delegates as it sees fit, and answers), 'route' (the member's answer is the
            answer) or 'broadcast' (all members get the input in parallel, and the leader answers from their answers).
        on_member_failure: when a member's model fails for good, after the run's retries: 'tell' the leader, which gets
            the reason as the result of its delegation and continues, or 'fail' the team.
        instructions: the leader's system prompt, one text or several lines.
        tools: functions that the leader may call.
        add_history_to_context: whether each call includes messages of earlier runs: the last *num_history_runs* runs
            or, if *num_history_messages* is set, at most that many messages. If neither is set: three runs or, with the
            summary, every message after it, and the last three runs that it covers.
        read_chat_history: whether the leader gets a tool that reads the whole chat.
        read_tool_call_history: whether the leader gets a tool that reads earlier tool calls.
        enable_session_summaries: whether the session is condensed in the background as its history grows.
        session_summary_manager: the model and prompt of summaries, and when they are due.
        session_summary_prompt: the prompt of summaries, if nothing else is set.
        add_session_summary_to_context: whether each call includes the summary; by default if summaries are enabled.
        session_state: the state of a new session.
        add_session_state_to_context: whether each call includes the state.
        metadata: for your own use.
        limits: of one run, members included.
        retention: how long its sessions, runs and streams are kept, and how many versions of a summary.
        version: of the definition; by default a hash of it.
        db: the database of a script; by default the memory of its process. Workers use their own database.

    Raises:
        DefinitionInvalid: it names every mistake.
    """

    def __init__(
        self,
        *,
        id: str | None = None,
        name: str | None = None,
        role: str = "",
        model: ChatModel | None = None,
        members: Sequence["Agent | Team"] = (),
        mode: str = "coordinate",
        on_member_failure: Literal["tell", "fail"] = "tell",
        instructions: str | Sequence[str] = (),
        tools: Sequence[AnyTool] = (),
        add_history_to_context: bool = False,
        num_history_runs: int | None = None,
        num_history_messages: int | None = None,
        read_chat_history: bool = False,
        read_tool_call_history: bool = False,
        enable_session_summaries: bool = False,
        session_summary_manager: SessionSummaryManager | None = None,
        session_summary_prompt: str | None = None,
        add_session_summary_to_context: bool | None = None,
        session_state: Mapping[str, Any] | None = None,
        add_session_state_to_context: bool = False,
        metadata: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        retention: Retention | None = None,
        version: str | None = None,
        db: Db | None = None,
    ) -> None:
        mistakes: list[str] = []
        self.id = checked_id(id, name, "team", mistakes)
        self.name = name or self.id
        self.metadata = dict(metadata or {})
        self.enable_session_summaries = enable_session_summaries
        self.session_summary_manager = session_summary_manager or SessionSummaryManager(
            session_summary_prompt=session_summary_prompt
        )
        if session_summary_manager is not None and session_summary_prompt is not None:
            mistakes.append("session_summary_prompt is given twice: to the team and by its session_summary_manager")
        for option, number in (
            ("num_history_runs", num_history_runs),
            ("num_history_messages", num_history_messages),
            *((f"limits.{name}", getattr(limits, name, None)) for name in Limits.__dataclass_fields__),
        ):
            if number is not None and number < 0:
                mistakes.append(f"{option} is {number}; expected 0 or more")
        for option in ("due_messages", "due_tokens"):
            if (number := getattr(self.session_summary_manager, option, None)) is not None and number < 1:
                mistakes.append(f"session_summary_manager.{option} is {number}; expected 1 or more")
        mistakes += (retention or Retention()).mistakes()
        if mode not in list(Mode):
            mistakes.append(f"mode is {mode!r}; expected one of {', '.join(Mode)}")
        elif mode != Mode.COORDINATE and not members:
            mistakes.append(f"mode {mode!r} needs members, and there are none")
        if on_member_failure not in list(OnMemberFailure):
            mistakes.append(f"on_member_failure is {on_member_failure!r}; expected one of {', '.join(OnMemberFailure)}")
        definition = Definition(
            id=self.id,
            name=self.name,
            role=role,
            model=model,
            instructions=lines(instructions),
            tools=checked_tools(tools, mistakes),
            members=checked_members(members, mistakes),
            mode=Mode(mode) if mode in list(Mode) else Mode.COORDINATE,
            on_member_failure=OnMemberFailure.FAIL if on_member_failure == "fail" else OnMemberFailure.TELL,
            add_history_to_context=add_history_to_context,
            num_history_runs=num_history_runs,
            num_history_messages=num_history_messages,
            read_chat_history=read_chat_history,
            read_tool_call_history=read_tool_call_history,
            session_state=checked_state(session_state, mistakes),
            add_session_state_to_context=add_session_state_to_context,
            enable_session_summaries=enable_session_summaries,
            session_summary_manager=self.session_summary_manager,
            add_session_summary_to_context=(
                enable_session_summaries if add_session_summary_to_context is None else add_session_summary_to_context
            ),
            limits=limits or Limits(),
            retention=retention or Retention(),
        )
        raise_if_any(f"team {self.id!r}", mistakes)
        self.definition = definition.with_version(version)
        self.db = db or IN_MEMORY

    def __repr__(self) -> str:
        return f"Team(id={self.id!r})"

    @overload
    def run(
        self,
        input: str,
        *,
        user_id: str = "",
        session_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        stream: Literal[False] = False,
    ) -> RunOutput: ...
    @overload
    def run(
        self,
        input: str,
        *,
        user_id: str = "",
        session_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        stream: Literal[True],
    ) -> Iterator[Event]: ...
    def run(
        self,
        input: str,
        *,
        user_id: str = "",
        session_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        stream: bool = False,
    ) -> RunOutput | Iterator[Event]:
        """Execute one run in this process, after the earlier runs of its session, and return its result.

        Without a *session_id* the run gets a session of its own. With *stream* its events are returned as they happen;
        the last one is terminal.

        Raises:
            EmptyInput, InputTooLarge, InvalidText, SessionOfOtherTeam: nothing is written.
            SessionOfThisRun: a tool of a run in the same session called this; nothing is written.
            RunFailed: the run did not complete; its input is kept.
        """
        order = RunOrder(self.id, input, session_id=session_id, user_id=user_id, metadata=metadata or {})
        execute = inline.watch if stream else inline.run
        return execute(self.db, self.definition, order, accepted=self._remember)

    @overload
    def arun(
        self,
        input: str,
        *,
        user_id: str = "",
        session_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        stream: Literal[False] = False,
    ) -> Awaitable[RunOutput]: ...
    @overload
    def arun(
        self,
        input: str,
        *,
        user_id: str = "",
        session_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        stream: Literal[True],
    ) -> AsyncIterator[Event]: ...
    def arun(
        self,
        input: str,
        *,
        user_id: str = "",
        session_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        stream: bool = False,
    ) -> Awaitable[RunOutput] | AsyncIterator[Event]:
        """Execute one run as `run` does, while the event loop goes on: `await team.arun(…)`.

        With *stream*: `async for event in team.arun(…, stream=True)`. Async tools run on the caller's event loop, where
        its clients and pools live. If the task is cancelled, so is the run. A reader that leaves early cancels nothing.

        Raises:
            What `run` raises, when it is awaited.
        """
        order = RunOrder(self.id, input, session_id=session_id, user_id=user_id, metadata=metadata or {})
        execute = inline.awatch if stream else inline.arun
        return execute(self.db, self.definition, order, accepted=self._remember)

    def enqueue(
        self,
        input: str,
        *,
        user_id: str = "",
        session_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
        on_busy: OnBusyName = "enqueue",
        priority: PriorityName = "interactive",
        not_before: datetime | None = None,
        timeout: float | None = None,
        connection: Connection | None = None,
    ) -> RunHandle:
        """Enqueue a run for the workers that serve this team, and return a handle to follow it.

        It is written to this team's `db` or, without one, to the database that TEAM_SESSIONS_DATABASE_URL names. With a
        *connection* (of SQLAlchemy, to the same Postgres database, in your transaction) the run is committed or rolled
        back with your own rows. After the commit, call `dispatch()` to notify the workers; otherwise the sweep does.

        *on_busy* applies when the session has an unfinished run: 'enqueue' after it, 'reject' the new run, 'interrupt'
        or 'rollback' the unfinished one, 'coalesce' with a queued one of the same kind, or 'pass' those that wait for
        their *not_before*. With a *connection* only 'enqueue' is possible. Runs of *priority* 'background' have workers
        of their own, unless an interactive run waits behind them. The run does not start before *not_before*, and the
        runs behind it in its session wait with it; it may take *timeout* seconds.

        Raises:
            EmptyInput, InputTooLarge, InvalidText, InvalidTime, SessionOfOtherTeam, SessionBusy, QueueFull,
            IdempotencyConflict: nothing is written.
        """
        if connection is not None and on_busy != "enqueue":
            raise ValueError(f"on_busy={on_busy!r} cannot be used with connection=; use on_busy='enqueue'")
        db = self.db if self.db is not IN_MEMORY else service_db()
        order = RunOrder(
            self.id,
            input,
            session_id=session_id,
            user_id=user_id,
            on_busy=OnBusy(on_busy),
            priority=Priority(priority),
            not_before=not_before,
            timeout=timeout,
            metadata=metadata or {},
        )
        settings = db.runtime.settings
        validate_order(order, max_input_bytes=settings.max_input_bytes)
        if idempotency_key is not None:
            check_id(idempotency_key, field="idempotency_key")
        if connection is not None:
            with connection.begin_nested():  # what is refused has written nothing, whatever the caller does then
                accepted = enqueue_in(connection, order, settings=settings, idempotency_key=idempotency_key)
        else:
            accepted = enqueue(db.runtime.db, order, settings=settings, idempotency_key=idempotency_key)
        handle = RunHandle(db, accepted.run.id, accepted.run.session_id, accepted.dispatches)
        if connection is None:
            handle.dispatch()
        return handle
