"""What a team and an agent have in common: their runs, in this process or on workers."""

from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, Unpack, overload
from uuid import UUID

from worker import agno_names, inline
from worker.aio import twin
from worker.db import IN_MEMORY, service_db
from worker.domain import (
    Decision,
    Event,
    OnBusy,
    OnBusyName,
    Priority,
    PriorityName,
    Run,
    RunOrder,
    check_id,
    validate_order,
)
from worker.errors import ArgumentInvalid
from worker.handle import RunHandle
from worker.loop import answer
from worker.options import RunArguments, TeamOptions, definition_of, take
from worker.requirement import Requirement
from worker.run_output import RunOutput
from worker.runs.enqueue import enqueue, enqueue_in
from worker.shown import Shown, typed_lines
from worker.store import Transaction as Connection
from worker.team_sessions import TeamSessions

FIXED = TeamOptions.__annotations__.keys() - {"db", "metadata"}


class Runnable(TeamSessions):
    """A definition, validated when it is made, with methods to run it and to read its sessions."""

    def __init__(self, kind: str, options: Mapping[str, Any]) -> None:
        self.definition = definition_of(kind, options)
        self.id, self.name = self.definition.id, self.definition.name
        self.metadata = dict(options.get("metadata") or {})
        self.enable_session_summaries = self.definition.enable_session_summaries
        self.session_summary_manager = self.definition.session_summary_manager
        self.db = options.get("db") or IN_MEMORY
        self._arguments = {name: options[name] for name in ("user_id", "session_id") if options.get(name)}

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to change an option: the definition is made, and would not follow."""
        if name in FIXED and "_arguments" in self.__dict__:
            raise AttributeError(f"{name} of a definition does not change; make another {type(self).__name__}")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r})"

    @overload
    def run(self, input: str, *, stream: Literal[False] = False, **arguments: Unpack[RunArguments]) -> RunOutput: ...
    @overload
    def run(self, input: str, *, stream: Literal[True], **arguments: Unpack[RunArguments]) -> Iterator[Event]: ...
    def run(
        self, input: str, *, stream: bool = False, **arguments: Unpack[RunArguments]
    ) -> RunOutput | Iterator[Event]:
        """Execute one run in this process, after the earlier runs of its session, and return its result.

        Without a *session_id* the run gets a session of its own. *session_state* is set in the session's state when the
        run starts, by top-level keys. *dependencies* are for its tools, hooks and instructions: JSON, as all of it is
        stored with the run, and a function is called now. What cannot be stored belongs into the definition. With
        *stream* its events are returned as they happen; the last one is terminal.

        Raises:
            EmptyInput, InputTooLarge, InvalidText, SessionOfOtherTeam, ArgumentInvalid: nothing is written.
            SessionOfThisRun: a tool of a run in the same session called this; nothing is written.
            RunFailed: the run did not complete; its input is kept.
        """
        return self._execute(self._accepted(input, arguments), stream=stream)

    @overload
    def arun(
        self, input: str, *, stream: Literal[False] = False, **arguments: Unpack[RunArguments]
    ) -> Awaitable[RunOutput]: ...
    @overload
    def arun(self, input: str, *, stream: Literal[True], **arguments: Unpack[RunArguments]) -> AsyncIterator[Event]: ...
    def arun(
        self, input: str, *, stream: bool = False, **arguments: Unpack[RunArguments]
    ) -> Awaitable[RunOutput] | AsyncIterator[Event]:
        """Execute one run as `run` does, while the event loop goes on: `await team.arun(…)`.

        With *stream*: `async for event in team.arun(…, stream=True)`. Async tools run on the caller's event loop, where
        its clients and pools live. If the task is cancelled, so is the run. A reader that leaves early cancels nothing.

        Raises:
            What `run` raises; errors of the run itself when it is awaited.
        """
        return self._aexecute(self._accepted(input, arguments), stream=stream)

    def continue_run(
        self,
        run_response: RunOutput | None = None,
        *,
        run_id: str | None = None,
        requirements: Sequence[Requirement] | None = None,
        decisions: Sequence[Decision] = (),
        user_id: str | None = None,
        session_id: str | None = None,
        stream: bool = False,
    ) -> Any:
        """Go on with a paused run, with what is decided about its calls, and return its result as `run` does.

        Decided are the `active_requirements` of *run_response*, or these *requirements* or *decisions* of the run
        *run_id*, in this process or another. What is not decided keeps waiting: the result can be paused again. With a
        *user_id*, only if the run is of this user; the *session_id* is not needed. With *stream*, return its events.

        Raises:
            RunNotFound, PendingNotFound, AlreadyDecided, RunNotPaused, DecisionInvalid: nothing is written.
            ArgumentInvalid: nothing is decided.
            RunFailed: the run did not complete.
        """
        return self._execute(self._going_on(run_response, run_id, requirements, decisions, user_id), stream=stream)

    def acontinue_run(
        self,
        run_response: RunOutput | None = None,
        *,
        run_id: str | None = None,
        requirements: Sequence[Requirement] | None = None,
        decisions: Sequence[Decision] = (),
        user_id: str | None = None,
        session_id: str | None = None,
        stream: bool = False,
    ) -> Any:
        """Go on with a paused run as `continue_run` does, awaited; with *stream*, `async for` its events."""
        return self._aexecute(self._going_on(run_response, run_id, requirements, decisions, user_id), stream=stream)

    def print_response(
        self,
        input: str,
        *,
        stream: bool | None = None,
        markdown: bool = True,
        show_member_responses: bool = True,
        **arguments: Unpack[RunArguments],
    ) -> None:
        """Execute one run as `run` does, and print its answer as it comes, with its tool calls and members.

        With the package `rich` installed, a terminal gets the answer as formatted Markdown. *arguments* are those of
        `run`. *stream* False prints each message when it is complete.

        Raises:
            What `run` raises.
        """
        shown = Shown(members=show_member_responses, markdown=markdown)
        shown.show(_pieces(self.run(input, stream=True, **arguments), stream is not False))
        self.get_run_output(shown.run_id)  # it raises why there is no answer

    async def aprint_response(
        self,
        input: str,
        *,
        stream: bool | None = None,
        markdown: bool = True,
        show_member_responses: bool = True,
        **arguments: Unpack[RunArguments],
    ) -> None:
        """As `print_response`, awaited."""
        shown = Shown(members=show_member_responses, markdown=markdown)
        try:
            async for event in self.arun(input, stream=True, **arguments):
                if stream is not False or event.type != "message.delta":
                    shown.add(event)
        finally:
            shown.close()
        await self.aget_run_output(shown.run_id)

    def cli_app(self, *, user: str = "You", **arguments: Unpack[RunArguments]) -> None:
        """Talk with it in the terminal, until 'exit' or Ctrl-D. The inputs are runs of one session."""
        arguments.setdefault("session_id", self._arguments.get("session_id") or f"{self.id}-cli")
        for line in typed_lines(f"{user}: "):
            self.print_response(line, **arguments)

    def enqueue(
        self,
        input: str,
        *,
        idempotency_key: str | None = None,
        on_busy: OnBusyName = "enqueue",
        priority: PriorityName = "interactive",
        not_before: datetime | None = None,
        timeout: float | None = None,
        connection: Connection | None = None,
        **arguments: Unpack[RunArguments],
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
            IdempotencyConflict, WorkersTooOld: nothing is written.
        """
        if connection is not None and on_busy != "enqueue":
            raise ValueError(f"on_busy={on_busy!r} cannot be used with connection=; use on_busy='enqueue'")
        db = self.db if self.db is not IN_MEMORY else service_db()
        order = replace(
            self._order(input, arguments),
            on_busy=OnBusy(on_busy),
            priority=Priority(priority),
            not_before=not_before,
            timeout=timeout,
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

    def get_run_output(self, run_id: str) -> RunOutput:
        """Return the result of a run that has ended.

        Raises:
            RunNotFound
            RunFailed: it did not complete, or has not ended.
        """
        return inline.output(self.db, run_id, answer=self.definition.output_schema)

    def get_last_run_output(self) -> RunOutput:
        """Return the result of the last run of this object. Raises NoLastSession and what `get_run_output` raises."""
        return self.get_run_output(self._last_run_id())

    def cancel_run(self, run_id: str) -> Run:
        """Request the cancellation of a run, and return the run. Raises RunNotFound."""
        return RunHandle(self.db, run_id, "").cancel()

    for method in (run, arun, print_response, aprint_response, cli_app, enqueue):
        take(method, RunArguments, accepted=agno_names.accepted("run"))
    del method

    aget_run_output = twin(get_run_output)
    aget_last_run_output = twin(get_last_run_output)
    acancel_run = twin(cancel_run)

    def _accepted(self, input: Any, arguments: Mapping[str, Any]) -> inline.Start:
        """Return how a run of these arguments begins."""
        order = self._order(input, arguments)
        own = arguments.get("output_schema")
        schema = self.definition.output_schema if own is None else answer.of(own)
        return inline.Start(inline.accept(order), order.session_id is None and self.db is IN_MEMORY, schema)

    def _going_on(
        self,
        output: RunOutput | None,
        run_id: str | None,
        requirements: Sequence[Requirement] | None,
        decisions: Sequence[Decision],
        user_id: str | None,
    ) -> inline.Start:
        """Return how a paused run goes on."""
        id = run_id or (output and output.run_id)
        if not id:
            raise ArgumentInvalid(problem="continue_run needs the output of a paused run, or its run_id")
        given = requirements if requirements is not None else output.active_requirements if output is not None else ()
        made = [decision for each in given if (decision := each.decision) is not None]
        schema = output.answer_schema if output is not None else None
        return inline.Start(
            inline.go_on(id, self.id, [*made, *decisions], user_id=user_id),
            answer=schema or self.definition.output_schema,
        )

    def _execute(self, start: inline.Start, *, stream: bool) -> RunOutput | Iterator[Event]:
        execute = inline.watch if stream else inline.run
        return execute(self.db, self.definition, start, begun=self._remember)

    def _aexecute(self, start: inline.Start, *, stream: bool) -> Awaitable[RunOutput] | AsyncIterator[Event]:
        execute = inline.awatch if stream else inline.arun
        return execute(self.db, self.definition, start, begun=self._remember)

    def _order(self, input: Any, arguments: Mapping[str, Any]) -> RunOrder:
        """Return the order of a run. What an argument leaves out is as the definition says.

        Raises:
            ArgumentInvalid: an argument does not exist.
        """
        if not arguments.keys() <= RunArguments.__annotations__.keys():
            agno_names.check("run", arguments, known=RunArguments.__annotations__)
        given = {**self._arguments, **{name: value for name, value in arguments.items() if value is not None}}
        ids = {name: _text(given.pop(name, None)) for name in ("session_id", "user_id")}
        known = {name: value for name, value in given.items() if name in RunArguments.__annotations__}
        if isinstance(known.get("dependencies"), Mapping):
            known["dependencies"] = {name: _value(each) for name, each in known["dependencies"].items()}
        if (own := known.pop("output_schema", None)) is not None:
            schema = answer.of(own)
            known |= {"output_schema": dict(schema.schema), "output_name": schema.name}
        input = answer.as_input(self.definition.input_schema, input)
        return RunOrder(self.id, input, session_id=ids["session_id"], user_id=ids["user_id"] or "", **known)


def _text(id: str | UUID | None) -> str | None:
    return str(id) if isinstance(id, UUID) else id


def _value(dependency: Any) -> Any:
    """Return a dependency of a run: of a function what it returns now, because a run is stored."""
    return dependency() if callable(dependency) else dependency


def _pieces(events: Iterator[Event], streams: bool) -> Iterator[Event]:
    return (event for event in events if streams or event.type != "message.delta")
