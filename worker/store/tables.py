"""The schema on one page.

On Postgres the tables are in the schema `team_sessions`. The migrations create them; a test compares both. Times are
`UtcTime`, in UTC. The comment of a JSON column says what it holds.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from worker.store.columns import BigKey, JsonOf, UtcTime

SCHEMA = "team_sessions"
metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    },
)


def _index(name: str, *columns: Column[Any], where: ColumnElement[bool], unique: bool = False) -> None:
    Index(f"ix_{name}", *columns, unique=unique, postgresql_where=where, sqlite_where=where)


def _usage(tokens: type[Integer]) -> list[Column[Any]]:
    names = ("input_tokens", "cached_input_tokens", "output_tokens")
    columns = [Column(name, tokens, nullable=False) for name in names]
    return [Column("model_calls", Integer, nullable=False), *columns]


# One user's conversation with one team. The row is the lock of everything in the session: a writer takes it first.
sessions = Table(
    "sessions",
    metadata,
    Column("pk", BigKey, primary_key=True),  # internal; callers never see it
    Column("user_id", String(255), nullable=False),  # '' if the session has no user
    Column("session_id", String(255), nullable=False),  # the caller's id, unique for its user
    Column("team_id", String(255), nullable=False),
    Column("name", Text),
    Column("description", Text),
    Column("tags", JsonOf(list), nullable=False),  # list of strings
    Column("metadata", JsonOf(dict), nullable=False),  # object
    Column("state", JsonOf(dict), nullable=False),  # object: the session_state of tools
    Column("head_run_id", String(64)),  # the oldest unfinished run, the only one that can execute
    Column("run_count", Integer, nullable=False),  # position of the newest run
    Column("last_seq", Integer, nullable=False),  # seq of the newest message; 0: none yet
    Column("summary_version", Integer, nullable=False, server_default="0"),  # of the current summary; 0: none yet
    Column("summary_seq", Integer, nullable=False, server_default="0", key="covers_through_seq"),
    Column("summary_position", Integer, nullable=False, server_default="0"),  # the last run that the summary covers
    Column("unsummarised", BigInteger, nullable=False, server_default="0"),  # characters of history after it
    Column("due_messages", Integer),  # a refresh is due after this many more messages; None: the team has no summaries
    Column("due_size", BigInteger),  # or after this many characters
    Column("forked_from", BigInteger),  # for a fork, the original's pk: erased with it, and in no list
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    UniqueConstraint("user_id", "session_id"),
    sqlite_autoincrement=True,  # a deleted session's pk is never reused: a late writer finds no row
)

Index("ix_sessions_session_id", sessions.c.session_id)  # for a service key that names no user
# Lists, latest activity last.
_listed, _active = sessions.c.forked_from.is_(None), (sessions.c.updated_at, sessions.c.pk)
_index("sessions_active", *_active, where=_listed)
_index("sessions_active_of_user", sessions.c.user_id, *_active, where=_listed)
# For lifetimes: only sessions without an unfinished run, so that no message is written to the index.
_index("sessions_idle", sessions.c.team_id, *_active, where=_listed & sessions.c.head_run_id.is_(None))
_index("sessions_forked_from", sessions.c.forked_from, where=sessions.c.forked_from.is_not(None))

# One input and everything done to answer it. The row is its own outbox: it records whether and when it was dispatched.
runs = Table(
    "runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("session_pk", ForeignKey(sessions.c.pk, ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),  # in the order of acceptance, from 1; retention removes the first
    Column("status", String(16), nullable=False),  # domain.run.Status; of a paused run 'queued'
    Column("input", Text, nullable=False),
    Column("output", Text),  # the final answer, once completed
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("attempt", Integer, nullable=False),  # number of claims
    Column("fence", Integer, nullable=False),  # rises with every claim and at the end; an older fence cannot write
    Column("lease_owner", String(128)),  # the process that executes it
    Column("lease_until", UtcTime),  # on the database's clock
    Column("losses", Integer, nullable=False),  # claims in a row that ended with an expired lease and no new message
    Column("retries", Integer, nullable=False),  # failures of its model in a row that are retried
    Column("dispatched_at", UtcTime),  # when its id was last sent to a queue; None: not since it could be claimed
    Column("not_before", UtcTime),  # a queued run waits until then
    Column("waits_for", String(64)),  # why it waits: the code of an error; None: its caller asked for it
    Column("priority", String(16), nullable=False, server_default="interactive"),  # domain.run.Priority
    Column("timeout_s", Float),  # seconds from its first claim; None: as its team says
    Column("cancel_requested_at", UtcTime),
    Column("excluded", Boolean, nullable=False),  # left out of later contexts and summaries
    Column("retry_of", String(64)),  # the run whose input it repeats
    Column("replay_of", String(64)),  # the run that it repeats in a fork, with that run's history and tool results
    Column("execute_tools", Boolean, nullable=False, server_default=false()),  # whether a replay calls its tools
    Column("team_version", String(64)),  # version of the team that executed it last
    Column("metadata", JsonOf(dict), nullable=False),  # object, the caller's
    Column("first_seq", Integer),  # its messages have first_seq..last_seq; None: not in the history yet
    Column("last_seq", Integer),
    Column("claimed_seq", Integer),  # last_seq at its latest claim
    *_usage(Integer),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),  # of its first claim
    Column("finished_at", UtcTime),
    Column("user_id", String(255), nullable=False, server_default=""),  # its session's, so that one index serves lists
    Column("team_id", String(255), nullable=False, server_default=""),  # its session's
    Column("traceparent", String(55)),  # W3C trace context of its acceptance; None: not traced
    Column("finish_reason", String(32)),  # of a completed run: 'stop' or 'length'; None: by an older version
    Column("options", JSON(none_as_null=True)),  # object: domain.run_options.RunOptions; None: there are none
    Column("needs", Integer, nullable=False, server_default="0"),  # the least contract of a worker that can execute it
    Column("output_is_json", Boolean),  # whether the output fits a schema; None: by an older version
    Column("paused_at", UtcTime),  # since when a paused run waits for decisions
    Column("paused_s", Float, nullable=False, server_default="0"),  # seconds that it was paused: they do not count
    UniqueConstraint("session_pk", "position"),
)
# For lists. Ids sort by time, so each index is in the order of a list; ids of replays sort before all others.
Index("ix_runs_of_user", runs.c.user_id, runs.c.id)
Index("ix_runs_of_team", runs.c.team_id, runs.c.id)
Index("ix_runs_of_status", runs.c.status, runs.c.id)
# For lifetimes.
_index("runs_ended", runs.c.team_id, runs.c.finished_at, runs.c.id, where=runs.c.finished_at.is_not(None))
_index("runs_replay_of", runs.c.replay_of, where=runs.c.replay_of.is_not(None))
# For the sweep: small indexes of unfinished runs only.
_queued = runs.c.status == "queued"
_index("runs_dispatched", runs.c.dispatched_at, where=_queued)
_index("runs_resumed", runs.c.dispatched_at, where=_queued & (runs.c.attempt > 0))
_index("runs_leased", runs.c.lease_until, where=runs.c.status == "running")
_index("runs_queued", runs.c.user_id, where=_queued)
_of_background = _queued & (runs.c.priority == "background")
_index("runs_background", runs.c.created_at, where=_of_background)  # for the workers of version 0.2
_index("runs_background_due", runs.c.created_at, where=_of_background & runs.c.paused_at.is_(None))
_of_later = _queued & runs.c.not_before.is_not(None)
_index("runs_waiting", runs.c.not_before, where=_of_later)  # for the workers of version 0.2
_index("runs_due", runs.c.not_before, where=_of_later & runs.c.paused_at.is_(None))
_index("runs_paused", runs.c.id, where=runs.c.paused_at.is_not(None))

# The history: append-only, one row per message.
messages = Table(
    "messages",
    metadata,
    Column("session_pk", ForeignKey(sessions.c.pk, ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),  # without gaps, from 1; retention removes the first
    Column("run_id", String(64), nullable=False),
    Column("role", String(16), nullable=False),  # domain.message.Role
    Column("author", String(255), nullable=False),  # leader, member, user or tool
    Column("delegation", String(64)),  # of a member's message
    Column("content", Text, nullable=False),
    Column("tool_calls", JSON(none_as_null=True)),  # list of {id, name, arguments: text}; None for none
    Column("tool_call_id", String(255)),  # of a tool's result
    Column("usage", JSON(none_as_null=True)),  # of a model's reply: {input_tokens, cached_input_tokens, output_tokens}
    Column("created_at", UtcTime, nullable=False),
    Column("extra", JSON(none_as_null=True)),  # object: domain.message.Extra, and `calls`: the extra of each call
)

# Calls of tools that somebody decides about. They stay with their run, as its record of decisions.
pending_calls = Table(
    "pending_calls",
    metadata,
    Column("idempotency_key", String(128), primary_key=True),  # of the call: its run, the seq of its reply, its place
    Column("run_id", ForeignKey(runs.c.id, ondelete="CASCADE"), nullable=False),
    Column("kind", String(16), nullable=False),  # domain.pending.PendingKind
    Column("tool", String(255), nullable=False),
    Column("tool_call_id", String(255), nullable=False),
    Column("arguments", Text, nullable=False),  # JSON text, the model's
    Column("schema", JsonOf(dict), nullable=False),  # object: the JSON schema that other arguments must fit
    Column("fields", JsonOf(list), nullable=False),  # list of the arguments that are asked for
    Column("author", String(255), nullable=False),
    Column("delegation", String(64)),
    Column("decided_by", String(16), nullable=False),  # domain.pending.DecidedBy
    Column("on_expiry", String(16), nullable=False),  # domain.pending.OnExpiry
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),  # None: never
    Column("decision", String(16)),  # domain.pending.Verdict; None: not decided
    Column("answer", Text),  # other arguments, as JSON text, or the result
    Column("note", Text),
    Column("key_id", String(64)),  # of the API key that decided; None: another process did
    Column("approver", String(255)),  # whom the deciding program named
    Column("decided_at", UtcTime),
)
_undecided = pending_calls.c.decision.is_(None)
Index("ix_pending_calls_run_id", pending_calls.c.run_id)
_index("pending_calls_waiting", pending_calls.c.created_at, pending_calls.c.idempotency_key, where=_undecided)
_index("pending_calls_expires", pending_calls.c.expires_at, where=_undecided & pending_calls.c.expires_at.is_not(None))

# Summaries, one row per version; `sessions.summary_version` is the current one.
summaries = Table(
    "summaries",
    metadata,
    Column("session_pk", ForeignKey(sessions.c.pk, ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),  # from 1
    Column("covers_through_seq", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("topics", JsonOf(list), nullable=False),  # list of strings
    Column("model", String(255), nullable=False),
    Column("prompt_hash", String(64), nullable=False),  # SHA-256 of the prompt that made it
    *_usage(Integer),
    Column("created_at", UtcTime, nullable=False),
)

# Requested refreshes, one row per session: several triggers make one refresh. Deleted when it is done.
summary_jobs = Table(
    "summary_jobs",
    metadata,
    Column("session_pk", ForeignKey(sessions.c.pk, ondelete="CASCADE"), primary_key=True),
    Column("through_seq", Integer, nullable=False),  # the message that the summary has to cover at least
    Column("send_at", UtcTime),  # when it is sent to its queue (again); None: it failed, and waits for a new request
    Column("lease_owner", String(128)),  # the process that executes it
    Column("held_until", UtcTime),  # end of its lease, or of its wait after a failure; it is not taken before
    Column("fence", Integer, nullable=False),  # rises each time it is taken
    Column("failures", Integer, nullable=False),  # in a row
    Column("error_code", String(64)),  # of the last failure
    Column("requested_at", UtcTime, nullable=False),
    Column("rebuild", Boolean, nullable=False, server_default=false()),  # made from the first message again
    Column("draft", JSON(none_as_null=True)),  # object, domain.summary.SummaryDraft: the state of a rebuild
)
Index("ix_summary_jobs_send_at", summary_jobs.c.send_at)

# The recorded starts of tool calls that are unsafe to repeat.
tool_starts = Table(
    "tool_starts",
    metadata,
    Column("idempotency_key", String(128), primary_key=True),  # <run>:<seq of the reply>:<index in it>
    Column("run_id", ForeignKey(runs.c.id, ondelete="CASCADE"), nullable=False, index=True),
    Column("started_at", UtcTime, nullable=False),
)

# Idempotency keys of requests: the same key again finds the same run.
idempotency = Table(
    "idempotency",
    metadata,
    Column("user_id", String(255), primary_key=True),  # the acting user
    Column("key", String(255), primary_key=True, index=True),  # an index for a service key that names no user
    Column("run_id", String(64), nullable=False, index=True),  # for erasing
    Column("request_hash", String(64), nullable=False),  # SHA-256 of the canonical request
    Column("created_at", UtcTime, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(64), primary_key=True),  # public part of the key
    Column("secret_hash", String(64), nullable=False),  # SHA-256 of its secret part, which has 256 random bits
    Column("name", String(255), nullable=False),
    Column("user_id", String(255)),  # None: a service key
    Column("teams", JSON, nullable=False),  # list of team ids; empty: every team
    Column("created_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime),  # in force until then
    Column("scopes", JSON, nullable=False, server_default="[]"),  # list of Scope; empty: every one but admin
)

# What workers serve, one row per worker and team. The API needs none of the user's code.
teams = Table(
    "teams",
    metadata,
    Column("team_id", String(255), primary_key=True),
    Column("worker", String(128), primary_key=True),
    Column("version", String(64), nullable=False),
    Column("queues", JsonOf(list), nullable=False),  # list of the queues that the worker consumes
    Column("seen_at", UtcTime, nullable=False),
    Column("retention", JSON(none_as_null=True)),  # object: domain.retention.Retention; None: by an older version
    Column("contract", Integer, nullable=False, server_default="0"),  # domain.run_options.CONTRACT of the worker
)

# Orders over many sessions or runs. The row is the lock of all its items, and counts them.
batches = Table(
    "batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("status", String(16), nullable=False),  # domain.batch.BatchStatus
    Column("paused_by", String(16)),  # domain.batch.PausedBy
    Column("wanted", JSON, nullable=False, key="spec"),  # object: domain.batch.BatchOrder
    Column("user_id", String(255)),  # None: of a service key, for all users
    Column("teams", Text, nullable=False),  # JSON list of the teams that its key was limited to; []: all teams
    Column("request_key", String(64), unique=True),  # SHA-256 of its user and its Idempotency-Key
    Column("request_hash", String(64), nullable=False),  # SHA-256 of the canonical request
    Column("open", Boolean, nullable=False),  # more items will be added
    Column("planned_key", String(64)),  # the last session or run that a filter has selected
    Column("canary", Integer),  # pauses for approval after this many items; None: approved, or not needed
    Column("planned", Integer, nullable=False),  # number of items
    Column("fed", Integer, nullable=False),  # number of items that were started
    Column("ended", Integer, nullable=False),
    Column("outcomes", JsonOf(dict), nullable=False),  # object: domain.batch.ItemOutcome → how many items
    *_usage(BigInteger),
    Column("cost", Float, nullable=False),
    Column("minute_at", UtcTime),  # start of the minute that its limits count
    Column("minute", JsonOf(dict), nullable=False),  # object: items, requests, tokens since then
    Column("pace", Float, nullable=False),  # items that end per second, recently
    Column("paced_at", UtcTime),
    Column("error_code", String(64)),  # of a failed batch
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),  # terminal, and no item is in flight
)
_index("batches_unfinished", batches.c.id, where=batches.c.finished_at.is_(None))

# Units of a batch, started in the order of their numbers. The result of an item is in its run, and nowhere else.
batch_items = Table(
    "batch_items",
    metadata,
    Column("batch_id", ForeignKey(batches.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),  # from 1
    Column("custom_id", String(255)),  # the caller's name for it
    Column("session_pk", BigInteger),  # the session that it refreshes or repeats a run of; it can be erased
    Column("source_run_id", String(64)),  # the run that it repeats
    Column("request", JSON(none_as_null=True)),  # object: an order of runs.enqueue
    Column("user_id", String(255)),  # of the request, for erasing
    Column("run_id", String(64)),  # the run that executes it
    Column("base_version", Integer),  # of the summary before the refresh
    Column("version", Integer),  # of the summary that it made
    Column("tries", Integer, nullable=False),  # times that it was started
    Column("error_code", String(64)),  # if no run has it
    Column("fed_at", UtcTime),
    Column("ended_at", UtcTime),
)
_item, _open = (batch_items.c.batch_id, batch_items.c.number), batch_items.c.ended_at.is_(None)
_named = batch_items.c.custom_id.is_not(None)
_index("batch_items_waiting", *_item, where=batch_items.c.fed_at.is_(None))
_index("batch_items_in_flight", *_item, where=batch_items.c.fed_at.is_not(None) & _open)
_index("batch_items_custom_id", batch_items.c.batch_id, batch_items.c.custom_id, where=_named, unique=True)
_index("batch_items_of_user", batch_items.c.user_id, where=batch_items.c.user_id.is_not(None))
# For lifetimes: what an open item uses is not removed.
_index("batch_items_about", batch_items.c.session_pk, where=_open & batch_items.c.session_pk.is_not(None))
_index("batch_items_made", batch_items.c.run_id, where=_open & batch_items.c.run_id.is_not(None))
