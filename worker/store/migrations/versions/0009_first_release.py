"""The schema of the first release.

The migrations of earlier, unreleased versions led to the same schema, and the last of them was "0009" too.
"""

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)

from worker.store.columns import BigKey, UtcTime
from worker.store.tables import SCHEMA

revision = "0009"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        Column("pk", BigKey, primary_key=True),
        Column("user_id", String(255), nullable=False),
        Column("session_id", String(255), nullable=False),
        Column("team_id", String(255), nullable=False),
        Column("name", Text),
        Column("description", Text),
        Column("tags", JSON, nullable=False),
        Column("metadata", JSON, nullable=False),
        Column("state", JSON, nullable=False),
        Column("head_run_id", String(64)),
        Column("run_count", Integer, nullable=False),
        Column("last_seq", Integer, nullable=False),
        Column("summary_version", Integer, nullable=False, server_default="0"),
        Column("summary_seq", Integer, nullable=False, server_default="0"),
        Column("summary_position", Integer, nullable=False, server_default="0"),
        Column("unsummarised", BigInteger, nullable=False, server_default="0"),
        Column("due_messages", Integer),
        Column("due_size", BigInteger),
        Column("forked_from", BigInteger),
        Column("created_at", UtcTime, nullable=False),
        Column("updated_at", UtcTime, nullable=False),
        UniqueConstraint("user_id", "session_id"),
        schema=SCHEMA,
        sqlite_autoincrement=True,
    )
    op.create_table(
        "runs",
        Column("id", String(64), primary_key=True),
        Column("session_pk", BigKey, ForeignKey(f"{SCHEMA}.sessions.pk", ondelete="CASCADE"), nullable=False),
        Column("position", Integer, nullable=False),
        Column("status", String(16), nullable=False),
        Column("input", Text, nullable=False),
        Column("output", Text),
        Column("error_code", String(64)),
        Column("error_message", Text),
        Column("attempt", Integer, nullable=False),
        Column("fence", Integer, nullable=False),
        Column("lease_owner", String(128)),
        Column("lease_until", UtcTime),
        Column("losses", Integer, nullable=False),
        Column("retries", Integer, nullable=False),
        Column("dispatched_at", UtcTime),
        Column("not_before", UtcTime),
        Column("waits_for", String(64)),
        Column("priority", String(16), nullable=False, server_default="interactive"),
        Column("timeout_s", Float),
        Column("cancel_requested_at", UtcTime),
        Column("excluded", Boolean, nullable=False),
        Column("retry_of", String(64)),
        Column("replay_of", String(64)),
        Column("execute_tools", Boolean, nullable=False, server_default=false()),
        Column("team_version", String(64)),
        Column("metadata", JSON, nullable=False),
        Column("first_seq", Integer),
        Column("last_seq", Integer),
        Column("claimed_seq", Integer),
        Column("model_calls", Integer, nullable=False),
        Column("input_tokens", Integer, nullable=False),
        Column("cached_input_tokens", Integer, nullable=False),
        Column("output_tokens", Integer, nullable=False),
        Column("created_at", UtcTime, nullable=False),
        Column("started_at", UtcTime),
        Column("finished_at", UtcTime),
        Column("user_id", String(255), nullable=False, server_default=""),
        Column("team_id", String(255), nullable=False, server_default=""),
        Column("traceparent", String(55)),
        UniqueConstraint("session_pk", "position"),
        schema=SCHEMA,
    )
    op.create_table(
        "messages",
        Column("session_pk", BigKey, ForeignKey(f"{SCHEMA}.sessions.pk", ondelete="CASCADE"), primary_key=True),
        Column("seq", Integer, primary_key=True, autoincrement=False),
        Column("run_id", String(64), nullable=False),
        Column("role", String(16), nullable=False),
        Column("author", String(255), nullable=False),
        Column("delegation", String(64)),
        Column("content", Text, nullable=False),
        Column("tool_calls", JSON),
        Column("tool_call_id", String(255)),
        Column("usage", JSON),
        Column("created_at", UtcTime, nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "summaries",
        Column("session_pk", BigKey, ForeignKey(f"{SCHEMA}.sessions.pk", ondelete="CASCADE"), primary_key=True),
        Column("version", Integer, primary_key=True, autoincrement=False),
        Column("covers_through_seq", Integer, nullable=False),
        Column("text", Text, nullable=False),
        Column("topics", JSON, nullable=False),
        Column("model", String(255), nullable=False),
        Column("prompt_hash", String(64), nullable=False),
        Column("model_calls", Integer, nullable=False),
        Column("input_tokens", Integer, nullable=False),
        Column("cached_input_tokens", Integer, nullable=False),
        Column("output_tokens", Integer, nullable=False),
        Column("created_at", UtcTime, nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "summary_jobs",
        Column("session_pk", BigKey, ForeignKey(f"{SCHEMA}.sessions.pk", ondelete="CASCADE"), primary_key=True),
        Column("through_seq", Integer, nullable=False),
        Column("send_at", UtcTime),
        Column("lease_owner", String(128)),
        Column("held_until", UtcTime),
        Column("fence", Integer, nullable=False),
        Column("failures", Integer, nullable=False),
        Column("error_code", String(64)),
        Column("requested_at", UtcTime, nullable=False),
        Column("rebuild", Boolean, nullable=False, server_default=false()),
        Column("draft", JSON),
        schema=SCHEMA,
    )
    op.create_table(
        "tool_starts",
        Column("idempotency_key", String(128), primary_key=True),
        Column("run_id", String(64), ForeignKey(f"{SCHEMA}.runs.id", ondelete="CASCADE"), nullable=False),
        Column("started_at", UtcTime, nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "idempotency",
        Column("user_id", String(255), primary_key=True),
        Column("key", String(255), primary_key=True),
        Column("run_id", String(64), nullable=False),
        Column("request_hash", String(64), nullable=False),
        Column("created_at", UtcTime, nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "api_keys",
        Column("id", String(64), primary_key=True),
        Column("secret_hash", String(64), nullable=False),
        Column("name", String(255), nullable=False),
        Column("user_id", String(255)),
        Column("teams", JSON, nullable=False),
        Column("created_at", UtcTime, nullable=False),
        Column("revoked_at", UtcTime),
        Column("scopes", JSON, nullable=False, server_default="[]"),
        schema=SCHEMA,
    )
    op.create_table(
        "teams",
        Column("team_id", String(255), primary_key=True),
        Column("worker", String(128), primary_key=True),
        Column("version", String(64), nullable=False),
        Column("queues", JSON, nullable=False),
        Column("seen_at", UtcTime, nullable=False),
        Column("retention", JSON),
        schema=SCHEMA,
    )
    op.create_table(
        "batches",
        Column("id", String(64), primary_key=True),
        Column("status", String(16), nullable=False),
        Column("paused_by", String(16)),
        Column("wanted", JSON, nullable=False),
        Column("user_id", String(255)),
        Column("teams", Text, nullable=False),
        Column("request_key", String(64), unique=True),
        Column("request_hash", String(64), nullable=False),
        Column("open", Boolean, nullable=False),
        Column("planned_key", String(64)),
        Column("canary", Integer),
        Column("planned", Integer, nullable=False),
        Column("fed", Integer, nullable=False),
        Column("ended", Integer, nullable=False),
        Column("outcomes", JSON, nullable=False),
        Column("model_calls", Integer, nullable=False),
        Column("input_tokens", BigInteger, nullable=False),
        Column("cached_input_tokens", BigInteger, nullable=False),
        Column("output_tokens", BigInteger, nullable=False),
        Column("cost", Float, nullable=False),
        Column("minute_at", UtcTime),
        Column("minute", JSON, nullable=False),
        Column("pace", Float, nullable=False),
        Column("paced_at", UtcTime),
        Column("error_code", String(64)),
        Column("created_at", UtcTime, nullable=False),
        Column("started_at", UtcTime),
        Column("finished_at", UtcTime),
        schema=SCHEMA,
    )
    op.create_table(
        "batch_items",
        Column("batch_id", String(64), ForeignKey(f"{SCHEMA}.batches.id", ondelete="CASCADE"), primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("custom_id", String(255)),
        Column("session_pk", BigInteger),
        Column("source_run_id", String(64)),
        Column("request", JSON),
        Column("user_id", String(255)),
        Column("run_id", String(64)),
        Column("base_version", Integer),
        Column("version", Integer),
        Column("tries", Integer, nullable=False),
        Column("error_code", String(64)),
        Column("fed_at", UtcTime),
        Column("ended_at", UtcTime),
        schema=SCHEMA,
    )
    index("sessions", "active", "updated_at", "pk", where="forked_from IS NULL")
    index("sessions", "active_of_user", "user_id", "updated_at", "pk", where="forked_from IS NULL")
    index("sessions", "forked_from", "forked_from", where="forked_from IS NOT NULL")
    index("sessions", "idle", "team_id", "updated_at", "pk", where="forked_from IS NULL AND head_run_id IS NULL")
    index("sessions", "session_id", "session_id")
    index("runs", "background", "created_at", where="status = 'queued' AND priority = 'background'")
    index("runs", "dispatched", "dispatched_at", where="status = 'queued'")
    index("runs", "ended", "team_id", "finished_at", "id", where="finished_at IS NOT NULL")
    index("runs", "leased", "lease_until", where="status = 'running'")
    index("runs", "of_status", "status", "id")
    index("runs", "of_team", "team_id", "id")
    index("runs", "of_user", "user_id", "id")
    index("runs", "queued", "user_id", where="status = 'queued'")
    index("runs", "replay_of", "replay_of", where="replay_of IS NOT NULL")
    index("runs", "resumed", "dispatched_at", where="status = 'queued' AND attempt > 0")
    index("runs", "waiting", "not_before", where="status = 'queued' AND not_before IS NOT NULL")
    index("summary_jobs", "send_at", "send_at")
    index("tool_starts", "run_id", "run_id")
    index("idempotency", "key", "key")
    index("idempotency", "run_id", "run_id")
    index("batches", "unfinished", "id", where="finished_at IS NULL")
    index("batch_items", "about", "session_pk", where="ended_at IS NULL AND session_pk IS NOT NULL")
    index("batch_items", "in_flight", "batch_id", "number", where="fed_at IS NOT NULL AND ended_at IS NULL")
    index("batch_items", "made", "run_id", where="ended_at IS NULL AND run_id IS NOT NULL")
    index("batch_items", "of_user", "user_id", where="user_id IS NOT NULL")
    index("batch_items", "waiting", "batch_id", "number", where="fed_at IS NULL")
    index("batch_items", "custom_id", "batch_id", "custom_id", where="custom_id IS NOT NULL", unique=True)


def index(table: str, name: str, *columns: str, where: str | None = None, unique: bool = False) -> None:
    """Create the index `ix_<table>_<name>` of the rows that meet a condition."""
    rows = None if where is None else text(where)
    op.create_index(
        f"ix_{table}_{name}", table, columns, unique=unique, schema=SCHEMA, postgresql_where=rows, sqlite_where=rows
    )
