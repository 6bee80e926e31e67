"""What ends a command, a process's work, or a run."""

from worker.errors.base import TeamSessionsError


class SettingsInvalid(TeamSessionsError):
    """The settings have {count} mistake(s):{mistakes}"""

    code = "settings_invalid"


class TeamsInvalid(TeamSessionsError):
    """TEAM_SESSIONS_TEAMS={module!r} cannot be served: {problem}"""

    code = "teams_invalid"


class PortTaken(TeamSessionsError):
    """Nothing can listen on port {port} of {host} ({reason}). Stop what does, or choose another one: {option}."""

    code = "port_taken"


class DefinitionInvalid(TeamSessionsError):
    """The definition of {what} has {count} mistake(s):{mistakes}"""

    code = "definition_invalid"


class SchemaOutdated(TeamSessionsError):
    """The database does not fit this version: {misfit}"""

    code = "schema_outdated"


class KeyNotFound(TeamSessionsError):
    """There is no key {key_id!r} in force. 'team-sessions keys list' shows all that there are."""

    code = "key_not_found"


class DatabaseUnavailable(TeamSessionsError):
    """The database did not answer ({reason}). Try again, with the same Idempotency-Key: a commit may have happened."""

    code = "database_unavailable"
    status = 503
    retry = True


class LeaseLost(TeamSessionsError):
    """Run {run_id!r} is not held with fence {fence} any more: another process claimed it, or it has ended."""

    code = "lease_lost"


class LimitReached(TeamSessionsError):
    """The run reached its limit of {limit} {what}. Raise {option} of the team if it needs more."""

    code = "limit_reached"


class WorkersLost(TeamSessionsError):
    """The run lost its process {losses} times in a row without a new message, at last one that did nothing else."""

    code = "workers_lost"


class ReplayDiverged(TeamSessionsError):
    """The replay called tool {tool!r} as the run that it repeats did not, or not so often: no result is recorded."""

    code = "replay_diverged"


class RunFailed(TeamSessionsError):
    """Run {run_id!r} is {status}: {reason}"""

    code = "run_failed"


class SummaryFailed(TeamSessionsError):
    """The summary of the session could not be refreshed: {reason}. What it covered before is kept."""

    code = "summary_failed"


class ToolNotDescribable(TeamSessionsError):
    """Function {function!r} cannot be a tool: {problem}."""

    code = "tool_not_describable"
