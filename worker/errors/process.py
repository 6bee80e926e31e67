"""Errors that end a command, the work of a process, or a run."""

import errno

from worker.errors.base import TeamSessionsError


class SettingsInvalid(TeamSessionsError):
    """{count} setting(s) must be corrected:{mistakes}"""

    code = "settings_invalid"


class TeamsInvalid(TeamSessionsError):
    """TEAM_SESSIONS_TEAMS={module!r} cannot be served: {problem}"""

    code = "teams_invalid"


class PortTaken(TeamSessionsError):
    """Port {port} of {host} cannot be used ({reason}). Stop the program that uses it, or change {option}."""

    code = "port_taken"


class HostUnusable(TeamSessionsError):
    """No server can listen at host {host!r} ({reason}). Name an address of this machine with --host: 127.0.0.1, ::1."""

    code = "host_unusable"


class DirectoryTaken(TeamSessionsError):
    """Another 'team-sessions up', process {pid}, uses the data directory {directory!r}. Stop it (Ctrl-C in its
    terminal, or: kill {pid}), or start this one with another --data-dir.
    """

    code = "directory_taken"


class DirectoryUnusable(TeamSessionsError):
    """The data directory {directory!r} cannot be used ({reason}). Give it to this user, or name another --data-dir."""

    code = "directory_unusable"


class DirectoryUntrusted(TeamSessionsError):
    """The data directory cannot be trusted. {problem}"""

    code = "directory_untrusted"


class LoginInvalid(TeamSessionsError):
    """Flower's login in {file!r} cannot be used: {problem}. Expected one line: USER:PASSWORD."""

    code = "login_invalid"


class DefinitionInvalid(TeamSessionsError):
    """The definition of {what} has {count} mistake(s):{mistakes}"""

    code = "definition_invalid"


class SchemaOutdated(TeamSessionsError):
    """The database schema does not match this version: {misfit}"""

    code = "schema_outdated"


class KeyNotFound(TeamSessionsError):
    """There is no active key {key_id!r}. 'team-sessions keys list' shows every key."""

    code = "key_not_found"


class DatabaseUnavailable(TeamSessionsError):
    """The database did not answer ({reason}). The last change may or may not be saved. Try again, with the
    same Idempotency-Key if the request had one.
    """

    code = "database_unavailable"
    status = 503
    retry = True


class DatabaseUnusable(TeamSessionsError):
    """The database cannot be used. {problem} {advice}"""

    code = "database_unusable"


class BrokerUnusable(TeamSessionsError):
    """The broker cannot be used. {problem} {advice}"""

    code = "broker_unusable"


class LeaseLost(TeamSessionsError):
    """The lease on run {run_id!r} (fence {fence}) is lost: another process claimed the run, or it has ended."""

    code = "lease_lost"


class AnswerInvalid(TeamSessionsError):
    """The answer of {author!r} does not fit its schema, at: {paths}. It was asked to repair it, if its limits allow."""

    code = "answer_invalid"


class DecisionExpired(TeamSessionsError):
    """No decision about a call of tool {tool!r} came in time. Retry the run to ask again."""

    code = "decision_expired"


class WorkerExhausted(TeamSessionsError):
    """The worker has no {what} left. The run is put back, for this worker or another one."""

    code = "worker_exhausted"

    def __init__(self, *, what: str) -> None:
        super().__init__(what=what)
        self.what = what

    @classmethod
    def of(cls, error: BaseException) -> "WorkerExhausted | None":
        """Return what an error of the system says that this process lacks; None: the error says something else."""
        if isinstance(error, cls):
            return error
        if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
            return cls(what="threads")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return cls(what="file handles")
        return None


class ProcessLimitTooLow(TeamSessionsError):
    """A worker with one task at a time needs {least} {what}, and the system gives it {found}. Raise the limit
    ({how}).
    """

    code = "process_limit_too_low"


class LimitReached(TeamSessionsError):
    """The run reached its limit of {limit} {what}. Raise {option} of the team if runs need more."""

    code = "limit_reached"


class WorkersLost(TeamSessionsError):
    """The run lost its process {losses} times in a row without a new message. The last one executed this run alone."""

    code = "workers_lost"


class ReplayDiverged(TeamSessionsError):
    """No result is recorded for this call of tool {tool!r}: the original run did not make it, or not this often."""

    code = "replay_diverged"


class InputRefused(TeamSessionsError):
    """The input was refused: {reason}

    A pre-hook raises it: `raise InputRefused("Send no card numbers.")`. The reason is stored and shown to the caller.
    """

    code = "input_refused"

    def __init__(self, reason: str = "the team does not answer it.") -> None:
        super().__init__(reason=reason)


class OutputRefused(TeamSessionsError):
    """The answer was refused: {reason}

    A post-hook raises it: `raise OutputRefused("It names a customer.")`. The reason is stored and shown to the caller.
    """

    code = "output_refused"

    def __init__(self, reason: str = "the team does not send it.") -> None:
        super().__init__(reason=reason)


class HookFailed(TeamSessionsError):
    """Function {function!r} of the team failed with {problem}."""

    code = "hook_failed"


class RunFailed(TeamSessionsError):
    """Run {run_id!r} is {status}: {reason}"""

    code = "run_failed"


class SummaryFailed(TeamSessionsError):
    """The summary of the session could not be refreshed: {reason}. The previous version is kept."""

    code = "summary_failed"


class ToolNotDescribable(TeamSessionsError):
    """Function {function!r} cannot be a tool: {problem}."""

    code = "tool_not_describable"
