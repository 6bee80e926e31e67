"""The schema of the first release.

The migrations of earlier, unreleased versions led to the same schema, and the last of them was "0009" too.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from worker.store.columns import BigKey, UtcTime
from worker.store.tables import SCHEMA

revision = "0009"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    table(
        "sessions",
        sa.Column("pk", BigKey, primary_key=True),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("session_id", sa.String(255), nullable=False),
        sa.Column("team_id", sa.String(255), nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("description", sa.Text),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("state", sa.JSON, nullable=False),
        sa.Column("head_run_id", sa.String(64)),
        sa.Column("run_count", sa.Integer, nullable=False),
        sa.Column("last_seq", sa.Integer, nullable=False),
        sa.Column("summary_version", sa.Integer, nullable=False, server_default="0"),
        sa.Column("summary_seq", sa.Integer, nullable=False, server_default="0"),
        sa.Column("summary_position", sa.Integer, nullable=False, server_default="0"),
        sa.Column("unsummarised", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("due_messages", sa.Integer),
        sa.Column("due_size", sa.BigInteger),
        sa.Column("forked_from", sa.BigInteger),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("updated_at", UtcTime, nullable=False),
        sa.UniqueConstraint("user_id", "session_id"),
        sqlite_autoincrement=True,
    )
    table(
        "runs",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("session_pk", BigKey, sa.ForeignKey(f"{SCHEMA}.sessions.pk", ondelete="CASCADE"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("input", sa.Text, nullable=False),
        sa.Column("output", sa.Text),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error_message", sa.Text),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("lease_owner", sa.String(128)),
        sa.Column("lease_until", UtcTime),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("retries", sa.Integer, nullable=False),
        sa.Column("dispatched_at", UtcTime),
        sa.Column("not_before", UtcTime),
        sa.Column("waits_for", sa.String(64)),
        sa.Column("priority", sa.String(16), nullable=False, server_default="interactive"),
        sa.Column("timeout_s", sa.Float),
        sa.Column("cancel_requested_at", UtcTime),
        sa.Column("excluded", sa.Boolean, nullable=False),
        sa.Column("retry_of", sa.String(64)),
        sa.Column("replay_of", sa.String(64)),
        sa.Column("execute_tools", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("team_version", sa.String(64)),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("first_seq", sa.Integer),
        sa.Column("last_seq", sa.Integer),
        sa.Column("claimed_seq", sa.Integer),
        *usage(sa.Integer),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("started_at", UtcTime),
        sa.Column("finished_at", UtcTime),
        sa.Column("user_id", sa.String(255), nullable=False, server_default=""),
        sa.Column("team_id", sa.String(255), nullable=False, server_default=""),
        sa.Column("traceparent", sa.String(55)),
        sa.UniqueConstraint("session_pk", "position"),
    )
    table(
        "messages",
        sa.Column("session_pk", BigKey, sa.ForeignKey(f"{SCHEMA}.sessions.pk", ondelete="CASCADE"), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("author", sa.String(255), nullable=False),
        sa.Column("delegation", sa.String(64)),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("tool_calls", sa.JSON),
        sa.Column("tool_call_id", sa.String(255)),
        sa.Column("usage", sa.JSON),
        sa.Column("created_at", UtcTime, nullable=False),
    )
    table(
        "summaries",
        sa.Column("session_pk", BigKey, sa.ForeignKey(f"{SCHEMA}.sessions.pk", ondelete="CASCADE"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("covers_through_seq", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("topics", sa.JSON, nullable=False),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("prompt_hash", sa.String(64), nullable=False),
        *usage(sa.Integer),
        sa.Column("created_at", UtcTime, nullable=False),
    )
    table(
        "summary_jobs",
        sa.Column("session_pk", BigKey, sa.ForeignKey(f"{SCHEMA}.sessions.pk", ondelete="CASCADE"), primary_key=True),
        sa.Column("through_seq", sa.Integer, nullable=False),
        sa.Column("send_at", UtcTime),
        sa.Column("lease_owner", sa.String(128)),
        sa.Column("held_until", UtcTime),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("error_code", sa.String(64)),
        sa.Column("requested_at", UtcTime, nullable=False),
        sa.Column("rebuild", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("draft", sa.JSON),
    )
    table(
        "tool_starts",
        sa.Column("idempotency_key", sa.String(128), primary_key=True),
        sa.Column("run_id", sa.String(64), sa.ForeignKey(f"{SCHEMA}.runs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("started_at", UtcTime, nullable=False),
    )
    table(
        "idempotency",
        sa.Column("user_id", sa.String(255), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("request_hash", sa.String(64), nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
    )
    table(
        "api_keys",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(255)),
        sa.Column("teams", sa.JSON, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("revoked_at", UtcTime),
        sa.Column("scopes", sa.JSON, nullable=False, server_default="[]"),
    )
    table(
        "teams",
        sa.Column("team_id", sa.String(255), primary_key=True),
        sa.Column("worker", sa.String(128), primary_key=True),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("queues", sa.JSON, nullable=False),
        sa.Column("seen_at", UtcTime, nullable=False),
        sa.Column("retention", sa.JSON),
    )
    table(
        "batches",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("paused_by", sa.String(16)),
        sa.Column("wanted", sa.JSON, nullable=False),
        sa.Column("user_id", sa.String(255)),
        sa.Column("teams", sa.Text, nullable=False),
        sa.Column("request_key", sa.String(64), unique=True),
        sa.Column("request_hash", sa.String(64), nullable=False),
        sa.Column("open", sa.Boolean, nullable=False),
        sa.Column("planned_key", sa.String(64)),
        sa.Column("canary", sa.Integer),
        sa.Column("planned", sa.Integer, nullable=False),
        sa.Column("fed", sa.Integer, nullable=False),
        sa.Column("ended", sa.Integer, nullable=False),
        sa.Column("outcomes", sa.JSON, nullable=False),
        *usage(sa.BigInteger),
        sa.Column("cost", sa.Float, nullable=False),
        sa.Column("minute_at", UtcTime),
        sa.Column("minute", sa.JSON, nullable=False),
        sa.Column("pace", sa.Float, nullable=False),
        sa.Column("paced_at", UtcTime),
        sa.Column("error_code", sa.String(64)),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("started_at", UtcTime),
        sa.Column("finished_at", UtcTime),
    )
    table(
        "batch_items",
        sa.Column(
            "batch_id", sa.String(64), sa.ForeignKey(f"{SCHEMA}.batches.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("custom_id", sa.String(255)),
        sa.Column("session_pk", sa.BigInteger),
        sa.Column("source_run_id", sa.String(64)),
        sa.Column("request", sa.JSON),
        sa.Column("user_id", sa.String(255)),
        sa.Column("run_id", sa.String(64)),
        sa.Column("base_version", sa.Integer),
        sa.Column("version", sa.Integer),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("error_code", sa.String(64)),
        sa.Column("fed_at", UtcTime),
        sa.Column("ended_at", UtcTime),
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


def table(name: str, *columns: sa.Column[Any] | sa.UniqueConstraint, **options: Any) -> None:
    """Create a table in the schema of the product."""
    op.create_table(name, *columns, schema=SCHEMA, **options)


def usage(tokens: type[sa.Integer]) -> list[sa.Column[Any]]:
    """Return the four columns of a usage; *tokens* is the type of its numbers of tokens."""
    names = ("input_tokens", "cached_input_tokens", "output_tokens")
    columns = [sa.Column(name, tokens, nullable=False) for name in names]
    return [sa.Column("model_calls", sa.Integer, nullable=False), *columns]


def index(table: str, name: str, *columns: str, where: str | None = None, unique: bool = False) -> None:
    """Create the index `ix_<table>_<name>` of the rows that meet a condition."""
    rows = None if where is None else sa.text(where)
    op.create_index(
        f"ix_{table}_{name}", table, columns, unique=unique, schema=SCHEMA, postgresql_where=rows, sqlite_where=rows
    )
