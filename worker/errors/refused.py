"""What the caller of a request can mend."""

from worker.errors.base import TeamSessionsError


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


class RunGone(RequestRefused):
    """Run {run_id!r} was made under this key, and has gone at the end of its lifetime. A new order needs a new key."""

    code = "run_gone"
    status = 409


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


class BatchNotFound(RequestRefused):
    """There is no batch {batch_id!r} that this key may see."""

    code = "batch_not_found"
    status = 404


class BatchInvalid(RequestRefused):
    """{field} of the batch {problem}."""

    code = "batch_invalid"


class BatchConflict(RequestRefused):
    """Batch {batch_id!r} is {status}: it cannot be {done}."""

    code = "batch_conflict"
    status = 409


class SummaryNotFound(RequestRefused):
    """Session {session_id!r} has no such summary. One is made when its history grows, or with POST …/summary."""

    code = "summary_not_found"
    status = 404


class IdempotencyConflict(RequestRefused):
    """Idempotency-Key {key!r} was used for {run_id!r} with another request. Use a new key for a new request."""

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


class KeyBound(RequestRefused):
    """This key is bound to a user or to teams, and metrics tell of everybody. Use a key that is not bound."""

    code = "key_bound"
    status = 403


class RateLimited(RequestRefused):
    """This key has sent more than {limit} requests a minute. Send again in {wait_s:.1f} s."""

    code = "rate_limited"
    status = 429
    retry = True
