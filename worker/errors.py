"""Every error that a caller can meet, drawn once.

    TeamSessionsError
    ├── SettingsInvalid, TeamsInvalid, DefinitionInvalid, ToolNotDescribable, SchemaOutdated, KeyNotFound    at start
    ├── RequestRefused                           the caller can mend it
    │   ├── InvalidText, InvalidJson, InvalidIdentifier, EmptyInput, InputTooLarge, InvalidEventId, InvalidCursor
    │   ├── UnknownTeam, RunNotFound, SessionNotFound, InvalidTime, OrderInvalid, SessionOfOtherTeam, AmbiguousSession
    │   ├── IdempotencyConflict, SessionBusy, QueueFull, RunNotRetryable, SummaryNotFound
    │   └── KeyMissing, KeyInvalid, ScopeMissing, TeamForbidden, UserForbidden, RateLimited
    ├── ModelError                               what a model call can end with; of the last two again does not help
    │   └── ModelRateLimited/ModelBusy, ModelUnavailable, ModelSilent, ModelStreamBroken, ModelRefused, ModelEmptyReply
    └── DatabaseUnavailable, LeaseLost, LimitReached, ReplayDiverged, WorkersLost, SummaryFailed, RunFailed

An error's docstring is its message, with `{facts}`: what was found and what to do; never message text, nor a secret.
"""

from typing import ClassVar


class TeamSessionsError(Exception):
    """Team Sessions met an error that it has no better name for. See the log of the process for the cause."""

    code: ClassVar[str] = "internal"  # stable, and part of the contract
    status: ClassVar[int] = 500  # of HTTP
    retry: ClassVar[bool] = False  # whether the same call can succeed later

    def __init__(self, **facts: object) -> None:
        self.facts = facts
        self.message = first_paragraph(type(self)).format(**facts)
        super().__init__(self.message)


def first_paragraph(cls: type) -> str:
    """Return the template of an error's message."""
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())


class SettingsInvalid(TeamSessionsError):
    """The settings have {count} mistake(s):{mistakes}"""

    code = "settings_invalid"


class TeamsInvalid(TeamSessionsError):
    """TEAM_SESSIONS_TEAMS={module!r} cannot be served: {problem}"""

    code = "teams_invalid"


class DefinitionInvalid(TeamSessionsError):
    """The definition of {what} has {count} mistake(s):{mistakes}"""

    code = "definition_invalid"


class SchemaOutdated(TeamSessionsError):
    """The database does not fit this version: {misfit}"""

    code = "schema_outdated"


class KeyNotFound(TeamSessionsError):
    """There is no key {key_id!r} in force. 'team-sessions keys list' shows all that there are."""

    code = "key_not_found"


class RequestRefused(TeamSessionsError):
    """The request cannot be carried out as it is."""

    code = "request_refused"
    status = 422


class InvalidText(RequestRefused):
    """{field} holds {found}, which a database or a model cannot take. Remove it and send again."""

    code = "invalid_text"


class InvalidJson(RequestRefused):
    """{field} holds {found}. Expected JSON that can be stored and returned as it is."""

    code = "invalid_json"


class InvalidIdentifier(RequestRefused):
    """{field} has {length} characters. Expected 1 to {limit} printable ones."""

    code = "invalid_identifier"


class InvalidEventId(RequestRefused):
    """Last-Event-ID is {found!r}. Expected the id of an event of this run, such as '1-5'."""

    code = "invalid_event_id"


class InvalidCursor(RequestRefused):
    """The cursor is not one that this API gave out. Pass next_cursor of the page before, unchanged."""

    code = "invalid_cursor"


class EmptyInput(RequestRefused):
    """The input is empty. Send the text that the team shall answer."""

    code = "empty_input"


class InputTooLarge(RequestRefused):
    """The input has {size} bytes in UTF-8; at most {limit} are taken. Shorten it, or raise {setting}."""

    code = "input_too_large"
    status = 413


class UnknownTeam(RequestRefused):
    """No worker has announced a team {team!r}. Check the name, or start a worker that serves it."""

    code = "unknown_team"
    status = 404


class RunNotFound(RequestRefused):
    """There is no run {run_id!r} that this key may see."""

    code = "run_not_found"
    status = 404


class SessionNotFound(RequestRefused):
    """There is no session {session_id!r} that this key may see."""

    code = "session_not_found"
    status = 404


class SessionOfOtherTeam(RequestRefused):
    """Session {session_id!r} belongs to team {found!r}, not {wanted!r}. Name team {found!r}, or open a new session."""

    code = "session_of_other_team"
    status = 409


class AmbiguousSession(RequestRefused):
    """More than one user has a session {session_id!r}. Name the user with user_id."""

    code = "ambiguous_session"
    status = 409


class InvalidTime(RequestRefused):
    """{field} is {found}. Expected {expected}."""

    code = "invalid_time"


class OrderInvalid(RequestRefused):
    """{field} of the order is {problem}. Send what the task 'runs.enqueue' takes."""

    code = "order_invalid"


class SessionBusy(RequestRefused):
    """Session {session_id!r} has an unfinished run {run_id!r}, and on_busy is 'reject'. Wait for its end, or queue."""

    code = "session_busy"
    status = 409
    retry = True


class QueueFull(RequestRefused):
    """{whose} has {limit} queued runs, as many as {setting} allows. Send again later."""

    code = "queue_full"
    status = 429
    retry = True


class RunNotRetryable(RequestRefused):
    """Run {run_id!r} is {status}. Only a {which} can be tried again."""

    code = "run_not_retryable"
    status = 409


class SummaryNotFound(RequestRefused):
    """Session {session_id!r} has no such summary. One is made when its history grows, or with POST …/summary."""

    code = "summary_not_found"
    status = 404


class IdempotencyConflict(RequestRefused):
    """Idempotency-Key {key!r} was used for run {run_id!r} with another request. Use a new key for a new request."""

    code = "idempotency_conflict"
    status = 409


class KeyMissing(RequestRefused):
    """This request carries no key. Send the header 'Authorization: Bearer KEY'."""

    code = "key_missing"
    status = 401


class KeyInvalid(RequestRefused):
    """This key is not known or was revoked. Make one with 'team-sessions keys create'."""

    code = "key_invalid"
    status = 401


class ScopeMissing(RequestRefused):
    """This key lacks the scope {scope!r}. Use a key that has it, or make one with 'team-sessions keys create'."""

    code = "scope_missing"
    status = 403


class TeamForbidden(RequestRefused):
    """This key may not use team {team!r}. Use a key that is bound to it, or to no team."""

    code = "team_forbidden"
    status = 403


class UserForbidden(RequestRefused):
    """This key acts for its own user only, and the request names another. Leave user_id out."""

    code = "user_forbidden"
    status = 403


class RateLimited(RequestRefused):
    """This key has sent more than {limit} requests a minute. Send again in {wait_s:.1f} s."""

    code = "rate_limited"
    status = 429
    retry = True


class DatabaseUnavailable(TeamSessionsError):
    """The database did not answer ({reason}). Try again, with the same Idempotency-Key: a commit may have happened."""

    code = "database_unavailable"
    status = 503
    retry = True


class LeaseLost(TeamSessionsError):
    """Run {run_id!r} is not held with fence {fence} any more: another process claimed it, or it has ended."""

    code = "lease_lost"


class ModelError(TeamSessionsError):
    """Model {model!r} failed: {reason}."""

    code = "model_error"
    counted: ClassVar[bool] = True  # among those after so many of which in a row a run fails

    def __init__(self, *, retry_after_s: float | None = None, **facts: object) -> None:
        super().__init__(**facts)
        self.retry_after_s = retry_after_s


class ModelRateLimited(ModelError):
    """Model {model!r} answered 429, too many requests: {reason}."""

    code = "model_rate_limited"
    retry = True


class ModelUnavailable(ModelError):
    """Model {model!r} could not be reached, or its server failed: {reason}."""

    code = "model_unavailable"
    retry = True


class ModelSilent(ModelError):
    """Model {model!r} sent nothing for {silence_s:g} s."""

    code = "model_silent"
    retry = True


class ModelStreamBroken(ModelError):
    """Model {model!r} broke its answer off: {reason}."""

    code = "model_stream_broken"
    retry = True


class ModelBusy(ModelRateLimited):
    """Model {model!r} has {limit} calls in flight, as many as TEAM_SESSIONS_MODEL_CALLS_IN_FLIGHT allows."""

    code = "model_busy"
    counted = False


class ModelRefused(ModelError):
    """Model {model!r} refused the request: {reason}. Sending it again would not help."""

    code = "model_refused"


class ModelEmptyReply(ModelError):
    """Model {model!r} answered with neither text nor a tool call."""

    code = "model_empty_reply"


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
