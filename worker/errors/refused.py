"""Refused requests. The caller can correct each of them."""

from worker.errors.base import TeamSessionsError


class RequestRefused(TeamSessionsError):
    """The request was refused."""

    code = "request_refused"
    status = 422


class InvalidText(RequestRefused):
    """{field} contains {problem}, which is not accepted. Remove it and send the request again."""

    code = "invalid_text"


class InvalidType(RequestRefused):
    """{field} is {found}. Expected {expected}."""

    code = "invalid_type"


class InvalidJson(RequestRefused):
    """{field} contains {problem}. Expected JSON that can be stored and returned unchanged."""

    code = "invalid_json"


class InvalidIdentifier(RequestRefused):
    """{field} has {length} characters. Expected 1 to {limit}."""

    code = "invalid_identifier"


class InvalidEventId(RequestRefused):
    """Last-Event-ID is {value!r}. Expected the id of an event of this run, such as '1-5'."""

    code = "invalid_event_id"


class InvalidCursor(RequestRefused):
    """The cursor is not valid. Pass next_cursor of the previous page unchanged."""

    code = "invalid_cursor"


class UnknownParameter(RequestRefused):
    """This path has no query parameter {name!r}. {known}."""

    code = "unknown_parameter"


class EmptyInput(RequestRefused):
    """The input is empty. Send the text that the team should answer."""

    code = "empty_input"


class InputTooLarge(RequestRefused):
    """The input has {size} bytes in UTF-8; the limit is {limit}. Shorten it, or raise {setting}."""

    code = "input_too_large"
    status = 413


class ValueTooLarge(RequestRefused):
    """{field} has {size}; the limit is {limit}. Send less, and keep large values in a store of your own."""

    code = "value_too_large"
    status = 413


class UnknownTeam(RequestRefused):
    """No worker has announced a team {team!r}. Check the name, or start a worker that serves it."""

    code = "unknown_team"
    status = 404


class RunNotFound(RequestRefused):
    """There is no run {run_id!r} that this key may see."""

    code = "run_not_found"
    status = 404


class RunGone(RequestRefused):
    """Run {run_id!r} was created with this Idempotency-Key and removed at the end of its lifetime. Use a new one.

    The key stays reserved, so a late retry cannot execute the run a second time.
    """

    code = "run_gone"
    status = 409


class SessionNotFound(RequestRefused):
    """There is no session {session_id!r} that this key may see."""

    code = "session_not_found"
    status = 404


class NoLastSession(RequestRefused):
    """Team {team!r} has run no session here that is still there. Name a session_id, or run it in a session first."""

    code = "no_last_session"
    status = 404


class SessionOfOtherTeam(RequestRefused):
    """Session {session_id!r} belongs to another team than {team!r}. Name its team, or open a new session.

    It does not say which: the key may not see that team.
    """

    code = "session_of_other_team"
    status = 409


class SessionOfThisRun(RequestRefused):
    """This code is part of a run of session {session_id!r}, so a further run there would wait for its end, and it for
    that run. Use another session, or `team.enqueue()`, which does not wait.
    """

    code = "session_of_this_run"
    status = 409


class AmbiguousSession(RequestRefused):
    """More than one user has a session {session_id!r}. Name the user with user_id."""

    code = "ambiguous_session"
    status = 409


class InvalidTime(RequestRefused):
    """{field} is {value}. Expected {expected}."""

    code = "invalid_time"


class ArgumentInvalid(RequestRefused):
    """An argument is not valid: {problem}."""

    code = "argument_invalid"


class SchemaInvalid(RequestRefused):
    """The output_schema cannot be used: {problem}."""

    code = "schema_invalid"


class OrderInvalid(RequestRefused):
    """Argument {field!r} of the task 'runs.enqueue' is not valid: {problem}."""

    code = "order_invalid"


class WorkersTooOld(RequestRefused):
    """A live worker of team {team!r} is of an older version and does not know what this run needs. Send it again when
    all workers are updated.
    """

    code = "workers_too_old"
    status = 503
    retry = True


class SessionBusy(RequestRefused):
    """Session {session_id!r} has an unfinished run {run_id!r}, and on_busy is 'reject'. Wait, or send 'enqueue'."""

    code = "session_busy"
    status = 409
    retry = True


class QueueFull(RequestRefused):
    """{whose} has {limit} queued runs, the most that {setting} allows. Send the run again later."""

    code = "queue_full"
    status = 429
    retry = True


class ApiBusy(RequestRefused):
    """This process has as many large requests at work as fit into its memory. Try again later."""

    code = "api_busy"
    status = 503
    retry = True


class TooManyStreams(RequestRefused):
    """This process has {limit} open streams, its limit. Try again later, or start more API processes.

    Counted are event streams, waits for the end of a run, and downloads. TEAM_SESSIONS_MAX_STREAMS is the limit.
    """

    code = "too_many_streams"
    status = 503
    retry = True


class TooManyStreamsOfKey(RequestRefused):
    """This key has {limit} open streams in this process, its limit. Close some, or try again later.

    Counted are event streams, waits for the end of a run, and downloads.
    TEAM_SESSIONS_MAX_STREAMS_PER_KEY is the limit.
    """

    code = "too_many_streams_of_key"
    status = 429
    retry = True


class SessionLocked(RequestRefused):
    """The session is locked, and other requests wait for it already. Send the request again later.

    A transaction holds its row, such as your own with `enqueue(connection=...)`.
    """

    code = "session_locked"
    status = 503
    retry = True


class TooManyConnections(RequestRefused):
    """This process has {limit} open connections, its limit. Try again later, or start more API processes.

    The limit follows the number of files that the process may open.
    """

    code = "too_many_connections"
    status = 503
    retry = True


class RunNotRetryable(RequestRefused):
    """Run {run_id!r} is {status}. {requirement}."""

    code = "run_not_retryable"
    status = 409


class BatchNotFound(RequestRefused):
    """There is no batch {batch_id!r} that this key may see."""

    code = "batch_not_found"
    status = 404


class BatchInvalid(RequestRefused):
    """{field} {problem}."""

    code = "batch_invalid"


class BatchConflict(RequestRefused):
    """Batch {batch_id!r} is {status}: it cannot be {action}."""

    code = "batch_conflict"
    status = 409


class SummaryNotFound(RequestRefused):
    """Session {session_id!r} has no such summary. Summaries are made as the history grows, or on request."""

    code = "summary_not_found"
    status = 404


class IdempotencyConflict(RequestRefused):
    """Idempotency-Key {key!r} was already used with another request. Use a new key for a new request."""

    code = "idempotency_conflict"
    status = 409


class KeyMissing(RequestRefused):
    """The request has no API key. Send the header 'Authorization: Bearer KEY'."""

    code = "key_missing"
    status = 401


class KeyInvalid(RequestRefused):
    """This API key is unknown or revoked. Create one with 'team-sessions keys create'."""

    code = "key_invalid"
    status = 401


class ScopeMissing(RequestRefused):
    """This key lacks the scope {scope!r}. Use a key that has it, or create one with 'team-sessions keys create'."""

    code = "scope_missing"
    status = 403


class TeamForbidden(RequestRefused):
    """This key may not use team {team!r}. Use a key that is bound to it, or to no team."""

    code = "team_forbidden"
    status = 403


class UserForbidden(RequestRefused):
    """This key acts for its own user only, but the request names another user. Leave user_id out."""

    code = "user_forbidden"
    status = 403


class KeyBound(RequestRefused):
    """This key is bound to a user or to teams, but metrics cover all users. Use a key that is not bound."""

    code = "key_bound"
    status = 403


class RateLimited(RequestRefused):
    """This key has sent more than {limit} requests in a minute. Send again in {wait_s:.1f} s."""

    code = "rate_limited"
    status = 429
    retry = True
